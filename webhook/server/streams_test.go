package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

func TestCaseD9_PlacesOfStreams(t *testing.T) {
	t.Run("case D9: a place is free when its connection is", func(t *testing.T) {
		r := withUsers(t, nil, users.Config{Secret: legacy}, nil)
		ada := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil)
		var all []*events
		for range streamsOfAUser {
			e := r.stream(ada, "workflow_id="+workflow)
			e.next()
			all = append(all, e)
		}
		for _, e := range all {
			e.body.Close()
		}
		wait.Until(t, "all places are free", func() bool { return r.server.streams.Open() == 0 && r.server.streams.Watched() == 0 })
		if name, _ := r.stream(ada, "workflow_id="+workflow).next(); name != "count" {
			t.Errorf("the next stream: got %q, want the count", name)
		}
	})
	t.Run("case D9: who loses a place is told so, and its connection ends", func(t *testing.T) {
		r := withLimitedUsers(t, nil, users.Config{Secret: legacy}, func(_ *Config, l *limits) { l.streams = 3 })
		ada := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil)
		var last *events
		for range 3 {
			last = r.stream(ada, "workflow_id="+workflow)
			last.next()
		}
		bob := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", map[string]any{"sub": otherUser}), nil)
		if name, _ := r.stream(bob, "workflow_id="+workflow).next(); name != "count" {
			t.Errorf("another user: got %q, want the count", name)
		}
		if name, _ := last.next(); name != "displaced" {
			t.Errorf("the newest of three: got %q, want displaced", name)
		}
		if name, _ := last.next(); name != "" {
			t.Errorf("after it: got %q, want the end", name)
		}
		if got := metricOf(t, r, "runcounter_streams_displaced_total"); got != 1 {
			t.Errorf("runcounter_streams_displaced_total: got %v, want 1", got)
		}
		got := r.as(ada, "/v1/counts/stream?workflow_id="+workflow)
		if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "Connect again") {
			t.Errorf("one more of a user who has most: %s, want 503", fmt.Sprint(got.status, got.body))
		}
	})
}

// events reads a stream, and returns what it says one after the other.
type events struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Scanner
	path string // of the stream
}

func (r *rig) stream(token, query string) *events {
	r.t.Helper()
	return r.streamOf(token, "/v1/counts/stream?"+query)
}

func (r *rig) streamOf(token, target string) *events {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.addr+target, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		r.t.Fatalf("got %d %s", res.StatusCode, text)
	}
	r.described(http.MethodGet, target, "", reply{res.StatusCode, res.Header, nil})
	path, _, _ := strings.Cut(target, "?")
	return &events{r.t, res.Body, bufio.NewScanner(res.Body), path}
}

// liveReply is a count as a stream tells it.
type liveReply struct {
	webhook.KeyCount
	store.Tally
	Presumed  store.Tally `json:"presumed"`
	Remaining int64       `json:"remaining"` // of an allowance
}

// next returns the next event's name and count; "" at the end.
func (e *events) next() (name string, count int64) {
	e.t.Helper()
	name, c := e.nextWhole()
	return name, c.Count
}

// nextLeft returns the next event's name and the number of runs that are left.
func (e *events) nextLeft() (name string, left int64) {
	e.t.Helper()
	name, a := e.nextWhole()
	return name, a.Remaining
}

// nextWhole returns the next event's name and all that it says. It ends a test
// that waits for an event in vain.
func (e *events) nextWhole() (name string, c liveReply) {
	e.t.Helper()
	late := time.AfterFunc(15*time.Second, func() {
		e.t.Error("waited 15 s for the next event of a stream")
		e.body.Close()
	})
	defer late.Stop()
	for e.in.Scan() {
		line := e.in.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			data := []byte(line[len("data: "):])
			if err := json.Unmarshal(data, &c); err != nil {
				e.t.Errorf("%q: %v", line, err)
			}
			if err := readDescription().validJSON(data, true, "paths", e.path, "get", "responses", "200", "content", "text/event-stream", "x-events", name); err != nil {
				e.t.Errorf("%q differs from the OpenAPI document: %v", line, err)
			}
			return name, c
		}
	}
	return "", liveReply{}
}

// A stream tells how many runs ended in which way, so it tells of a run that
// ends as one that does not count, too.
func TestCaseAStreamUnderOutcomesHearsOfACancelledRun(t *testing.T) {
	t.Parallel()
	r := withUsers(t, nil, users.Config{Secret: legacy}, nil)
	r.deliver(completed(1))
	e := r.stream(signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil), "workflow_id="+workflow)
	want := func(count int64, ended store.Tally) {
		t.Helper()
		if name, got := e.nextWhole(); name != "count" || got.Count != count || got.Tally != ended {
			t.Fatalf("got %s %+v, want the count %d of %+v", name, got, count, ended)
		}
	}
	want(1, store.Tally{Completed: 1})
	r.deliver(inserted(row(2, "cancelled", nil)))
	want(1, store.Tally{Completed: 1, Cancelled: 1})
	r.deliver(inserted(row(3, "timeout", nil)))
	want(1, store.Tally{Completed: 1, Cancelled: 1, Timeout: 1})
	r.deliver(inserted(row(4, "failed", nil)))
	want(2, store.Tally{Completed: 1, Failed: 1, Cancelled: 1, Timeout: 1})
}

func TestAStreamTellsTheCountNowAndEachChange(t *testing.T) {
	t.Parallel()
	r := withUsers(t, nil, users.Config{Secret: legacy}, nil)
	ada := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil)
	r.deliver(completed(1))
	e := r.stream(ada, "workflow_id="+workflow)
	want := func(name string, count int64) {
		t.Helper()
		if gotName, got := e.next(); gotName != name || got != count {
			t.Fatalf("got %s %d, want %s %d", gotName, got, name, count)
		}
	}
	want("count", 1)
	for i := 2; i < 6; i++ {
		r.deliver(completed(i))
		want("count", int64(i))
	}
	e.body.Close()
	// A write to a reader that is gone fails, and frees the place.
	n := 5
	wait.Until(t, "the place of who went away is free", func() bool {
		n++
		r.deliver(completed(n))
		return r.server.streams.Open() == 0
	})
	keyed := r.stream(apiKey, "user_id="+user+"&workflow_id="+workflow)
	if name, count := keyed.next(); name != "count" || count != int64(n) {
		t.Errorf("with the key: got %s %d, want %d", name, count, n)
	}
	keyed.body.Close()
	r.deliver(completed(n + 1))
	e = r.stream(ada, "workflow_id="+workflow+"&draft_id="+draft)
	want("count", int64(n+1))
	want("count", 0)
	r.server.streams.Close()
	want("", 0)
	wait.Until(t, "all places are free", func() bool { return r.server.streams.Open() == 0 })
	if strings.Contains(r.log.String(), "panic") {
		t.Error(r.log.String())
	}
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	t.Parallel()
	r := withUsers(t, nil, users.Config{Secret: legacy}, nil)
	// It is 28 seconds past its end, of the 30 by which clocks may differ.
	short := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", map[string]any{"exp": time.Now().Add(-20 * time.Second).Unix()}), nil)
	e := r.stream(short, "workflow_id="+workflow)
	for {
		name, _ := e.next()
		if name == "expired" {
			break
		}
		if name == "" {
			t.Fatal("the stream ended without saying why")
		}
	}
	if name, _ := e.next(); name != "" {
		t.Errorf("got %s behind the end", name)
	}
	wait.Until(t, "its place is free", func() bool { return r.server.streams.Open() == 0 })
}

func TestStreamsOfAUserAreBounded(t *testing.T) {
	t.Parallel()
	r := withUsers(t, nil, users.Config{Secret: legacy}, nil)
	ada := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil)
	for range streamsOfAUser {
		if name, count := r.stream(ada, "workflow_id="+workflow).next(); name != "count" || count != 0 {
			t.Fatalf("got %s %d", name, count)
		}
	}
	if got := r.as(ada, "/v1/counts/stream?workflow_id="+workflow); got.status != http.StatusTooManyRequests {
		t.Errorf("one more: got %d %s, want 429", got.status, got.body)
	}
	bob := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", map[string]any{"sub": otherUser}), nil)
	if name, _ := r.stream(bob, "workflow_id="+workflow).next(); name != "count" {
		t.Errorf("another user: got %s", name)
	}
}
