package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/console"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

type letterReply struct {
	Seq        int64  `json:"seq"`
	ReceivedAt string `json:"received_at"`
	Reason     string `json:"reason"`
	Bytes      int64  `json:"bytes"`
	Kept       int64  `json:"kept"`
	Whole      bool   `json:"whole"`
	Encoding   string `json:"encoding"`
	Body       string `json:"body"`
}

type lettersReply struct {
	Letters []letterReply `json:"dead_letters"`
	Next    *int64        `json:"next"`
}

type replayReply struct {
	Replayed int                `json:"replayed"`
	Left     int                `json:"left"`
	Letters  []api.LetterResult `json:"dead_letters"`
	Next     *int64             `json:"next"`
}

func (r *rig) letters(query string) lettersReply {
	r.t.Helper()
	got := r.api("GET", "/v1/dead-letters"+query, "")
	if got.status != http.StatusOK {
		r.t.Fatalf("GET /v1/dead-letters%s: got %d %s", query, got.status, got.body)
	}
	return decodeJSON[lettersReply](r.t, got.body)
}

// die delivers something that can't be read, and returns its number.
func (r *rig) die(body string) int64 {
	r.t.Helper()
	if got := r.deliver(body); got.status != http.StatusBadRequest {
		r.t.Fatalf("got %d %s, want 400", got.status, got.body)
	}
	return r.letters("?max=1").Letters[0].Seq
}

// keep puts a delivery among the dead letters that can be read by now.
func (r *rig) keep(body string) int64 {
	r.t.Helper()
	err := r.store.KeepDeadLetter(r.t.Context(), store.DeadLetter{ReceivedAt: noon, Reason: "record.status is no text", Bytes: int64(len(body)), Body: []byte(body)})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.letters("?max=1").Letters[0].Seq
}

func letterAt(seq int64) string { return fmt.Sprintf("/v1/dead-letters/%d", seq) }

func TestDeadLettersAreListedAndShown(t *testing.T) {
	r := serve(t, atNoon)
	first := r.die(`{"type":`)
	second := r.die("[\xff\xfe]")
	third := r.die(`{"type":"INSERT","schema":"public","table":"workflow_runs","record":{"id":5}}`)
	all := r.letters("")
	if len(all.Letters) != 3 || all.Next != nil || all.Letters[0].Seq != third || all.Letters[2].Seq != first {
		t.Fatalf("got %+v, want three, latest first", all)
	}
	if got := all.Letters[2]; got.ReceivedAt != "2026-11-22T12:00:00.123456Z" || got.Bytes != 8 || !got.Whole || got.Body != "" || got.Reason == "" {
		t.Errorf("got %+v, want when, how long, whole, why, and no body", got)
	}
	page := r.letters("?max=2")
	if len(page.Letters) != 2 || page.Next == nil || *page.Next != second {
		t.Fatalf("a page of two: got %+v", page)
	}
	if rest := r.letters(fmt.Sprintf("?max=2&before=%d", *page.Next)); len(rest.Letters) != 1 || rest.Letters[0].Seq != first || rest.Next != nil {
		t.Errorf("the page behind it: got %+v", rest)
	}
	if got := r.letters("?reason=RECORD"); len(got.Letters) != 1 || got.Letters[0].Seq != third {
		t.Errorf("by reason: got %+v", got)
	}
	if got := r.letters("?reason=12345"); len(got.Letters) != 0 {
		t.Errorf("by a number in the reason: got %+v, want none", got)
	}
	if got := r.letters("?until=2026-11-22T12:00:00Z"); len(got.Letters) != 0 {
		t.Errorf("those received before noon: got %+v, want none", got)
	}
	for seq, want := range map[int64][2]string{
		first:  {"text", `{"type":`},
		second: {"base64", base64.StdEncoding.EncodeToString([]byte("[\xff\xfe]"))},
	} {
		got := decodeJSON[letterReply](t, r.api("GET", letterAt(seq), "").body)
		if got.Encoding != want[0] || got.Body != want[1] || got.Seq != seq {
			t.Errorf("letter %d: got %+v, want the body %q as %s", seq, got, want[1], want[0])
		}
	}
}

func TestAReplayedLetterIsAppliedOnceAndDropped(t *testing.T) {
	r := serve(t, nil)
	seq := r.keep(completed(1))
	if got := r.api("POST", letterAt(seq)+"/replay", ""); got.status != 200 ||
		string(got.body) != fmt.Sprintf(`{"seq":%d,"applied":true,"received":1,"changed":1,"ignored":0}`, seq) {
		t.Fatalf("replay: got %d %s", got.status, got.body)
	}
	if got := r.counted(); got != 1 {
		t.Errorf("the count: got %d, want 1", got)
	}
	if got := r.api("POST", letterAt(seq)+"/replay", ""); got.status != 404 {
		t.Errorf("replay again: got %d %s, want 404", got.status, got.body)
	}
	// The same delivery, kept twice: law 4.
	again := r.keep(completed(1))
	if got := decodeJSON[api.LetterResult](t, r.api("POST", letterAt(again)+"/replay", "").body); !got.Applied || got.Changed != 0 || r.counted() != 1 {
		t.Errorf("the same once more: got %+v, count %d; want it applied, nothing changed, count 1", got, r.counted())
	}
	if got := r.letters(""); len(got.Letters) != 0 {
		t.Errorf("%d letters are left", len(got.Letters))
	}
}

// A letter may be readable by a later version, or where the table's name was
// configured wrong; until then it stays.
func TestALetterIsReadByThePresentDecoder(t *testing.T) {
	r := serve(t, nil)
	body := strings.Replace(completed(1), `"table":"workflow_runs"`, `"table":"runs"`, 1)
	body = strings.Replace(body, `"status":"completed"`, `"status":7`, 1)
	seq := r.keep(body)
	got := decodeJSON[api.LetterResult](t, r.api("POST", letterAt(seq)+"/replay", "").body)
	if !got.Applied || got.Ignored != 1 {
		t.Fatalf("of another table: got %+v, want it read and ignored", got)
	}
	seq = r.keep(body)
	r = r.second(func(c *Config) { c.Decoder.Table = "runs" })
	got = decodeJSON[api.LetterResult](t, r.api("POST", letterAt(seq)+"/replay", "").body)
	if got.Applied || !strings.Contains(got.Reason, "record.status") || len(r.letters("").Letters) != 1 || r.store.applies.Load() != 0 {
		t.Errorf("what can't be read: got %+v, want it to stay, with the reason", got)
	}
	seq = r.keep(strings.Replace(completed(2), `"table":"workflow_runs"`, `"table":"runs"`, 1))
	if got := decodeJSON[api.LetterResult](t, r.api("POST", letterAt(seq)+"/replay", "").body); !got.Applied || got.Changed != 1 || r.counted() != 1 {
		t.Errorf("with the table's right name: got %+v, count %d; want it counted", got, r.counted())
	}
}

func TestLettersAreReplayedByFilter(t *testing.T) {
	r := serve(t, atNoon)
	for n := range 5 {
		r.keep(completed(n))
	}
	bad := r.die(`{"type":5}`)
	r.die(`[` + strings.Repeat(" ", keptBytes) + `!`)
	page := decodeJSON[replayReply](t, r.api("POST", "/v1/dead-letters/replay", `{"max":4}`).body)
	if page.Replayed != 2 || page.Left != 2 || page.Next == nil {
		t.Fatalf("the first four: got %+v, want two replayed, two that stay, and more", page)
	}
	rest := decodeJSON[replayReply](t, r.api("POST", "/v1/dead-letters/replay", fmt.Sprintf(`{"reason":"NO TEXT","before":%d}`, *page.Next)).body)
	if rest.Replayed != 3 || rest.Left != 0 || rest.Next != nil || r.counted() != 5 {
		t.Errorf("the rest: got %+v, count %d; want three, count 5", rest, r.counted())
	}
	left := r.letters("").Letters
	if len(left) != 2 || left[1].Seq != bad || left[0].Whole {
		t.Fatalf("left: got %+v, want the two that can't be taken in", left)
	}
	got := r.api("POST", letterAt(left[0].Seq)+"/replay", "")
	if p := got.problem(t); got.status != 409 || p.Code != "not_whole" || !strings.Contains(p.Detail, "1048576") {
		t.Errorf("one that is not whole: got %d %s, want 409 and a sentence", got.status, got.body)
	}
}

func TestDeadLettersAreDropped(t *testing.T) {
	r := serve(t, atNoon)
	var seqs []int64
	for n := range 4 {
		seqs = append(seqs, r.keep(completed(n)))
	}
	r.die(`{"type":`)
	for _, step := range []struct {
		method, target, body string
		status               int
		want                 string
		left                 int
	}{
		{"DELETE", letterAt(seqs[0]), "", 200, `{"dropped":1}`, 4},
		{"DELETE", letterAt(seqs[0]), "", 404, "There is no such dead letter", 4},
		{"POST", "/v1/dead-letters/drop", "", 400, "Say which", 4},
		{"POST", "/v1/dead-letters/drop", "{}", 400, "Say which", 4},
		{"POST", "/v1/dead-letters/drop", `{"reason":"","before":0,"until":null,"all":false}`, 400, "Say which", 4},
		{"POST", "/v1/dead-letters/drop", `{"all":true,"reason":"x"}`, 400, "leave it out", 4},
		{"POST", "/v1/dead-letters/drop", fmt.Sprintf(`{"reason":"no text","before":%d}`, seqs[2]), 200, `{"dropped":1}`, 3},
		{"POST", "/v1/dead-letters/drop", `{"until":"2026-11-22T12:00:00.123456Z"}`, 200, `{"dropped":0}`, 3},
		{"POST", "/v1/dead-letters/drop", `{"until":"2026-11-22T13:00:01+01:00","reason":"is no text"}`, 200, `{"dropped":2}`, 1},
		{"POST", "/v1/dead-letters/drop", `{"all":true}`, 200, `{"dropped":1}`, 0},
	} {
		got := r.api(step.method, step.target, step.body)
		if got.status != step.status || !strings.Contains(string(got.body), step.want) {
			t.Errorf("%s %s %s: got %d %s, want %d with %q", step.method, step.target, step.body, got.status, got.body, step.status, step.want)
		}
		if left := len(r.letters("").Letters); left != step.left {
			t.Errorf("%s %s %s: %d letters are left, want %d", step.method, step.target, step.body, left, step.left)
		}
	}
}

func TestHostileRequestsForDeadLettersAreRefused(t *testing.T) {
	r := serve(t, func(_ *Config, l *limits, _ *gated) { l.api = 4096 })
	seq := r.keep(completed(1))
	for _, c := range []struct {
		method, target, body string
		status               int
	}{
		{"GET", "/v1/dead-letters/x", "", 400},
		{"GET", "/v1/dead-letters/0", "", 400},
		{"GET", "/v1/dead-letters/-1", "", 400},
		{"GET", "/v1/dead-letters/1.5", "", 400},
		{"GET", "/v1/dead-letters/99999999999999999999", "", 400},
		{"GET", "/v1/dead-letters/9223372036854775807", "", 404},
		{"GET", "/v1/dead-letters/1%27%20or%201=1", "", 400},
		{"GET", "/v1/dead-letters?seq=1", "", 400},
		{"GET", "/v1/dead-letters?max=0", "", 400},
		{"GET", "/v1/dead-letters?max=1001", "", 400},
		{"GET", "/v1/dead-letters?max=9223372036854775807", "", 400},
		{"GET", "/v1/dead-letters?before=-1", "", 400},
		{"GET", "/v1/dead-letters?before=x", "", 400},
		{"GET", "/v1/dead-letters?until=yesterday", "", 400},
		{"GET", "/v1/dead-letters?until=0001-01-01T00:00:00Z", "", 400},
		{"GET", "/v1/dead-letters?reason=" + strings.Repeat("a", 1001), "", 400},
		{"GET", "/v1/dead-letters?reason=a%00b", "", 400},
		{"GET", "/v1/dead-letters?reason=a&reason=b", "", 400},
		{"DELETE", "/v1/dead-letters/x", "", 400},
		{"DELETE", "/v1/dead-letters", "", 405},
		{"POST", "/v1/dead-letters/x/replay", "", 400},
		{"POST", letterAt(seq) + "/replay", `{"force":true}`, 400},
		{"POST", "/v1/dead-letters/replay", `{"seq":1}`, 400},
		{"POST", "/v1/dead-letters/replay", `[]`, 400},
		{"POST", "/v1/dead-letters/replay", `{"max":0}`, 400},
		{"POST", "/v1/dead-letters/drop", `{"All":true}`, 400},
		{"POST", "/v1/dead-letters/drop", `{"all":"true"}`, 400},
		{"POST", "/v1/dead-letters/drop", `{"all":true,"all":true}`, 400},
		{"POST", "/v1/dead-letters/drop", `{"max":1}`, 400},
		{"POST", "/v1/dead-letters/drop", `{"reason":7}`, 400},
		{"POST", "/v1/dead-letters/drop", `{"reason":"` + strings.Repeat("a", 5000) + `"}`, 413},
	} {
		got := r.api(c.method, c.target, c.body)
		if got.status != c.status {
			t.Errorf("%s %.60s %.60s: got %d %.200s, want %d", c.method, c.target, c.body, got.status, got.body, c.status)
			continue
		}
		got.problem(t)
	}
	for _, c := range [][2]string{{"GET", "/v1/dead-letters"}, {"GET", letterAt(seq)}, {"DELETE", letterAt(seq)}, {"POST", letterAt(seq) + "/replay"}, {"POST", "/v1/dead-letters/drop"}, {"POST", "/v1/dead-letters/replay"}} {
		for _, header := range []string{"", "Authorization: Bearer " + token, "Authorization: Bearer nonsense"} {
			if got := r.do(c[0], c[1], "", header); got.status != 401 {
				t.Errorf("%s %s with %q: got %d, want 401", c[0], c[1], header, got.status)
			}
		}
	}
	if left := r.letters("").Letters; len(left) != 1 || r.store.applies.Load() != 0 {
		t.Errorf("%d letters are left, want the one; %d transactions", len(left), r.store.applies.Load())
	}
	if log := r.log.String(); strings.Contains(log, user) {
		t.Error("the log holds a body")
	}
}

// What fails for the store's sake is no dead letter, and a letter whose replay
// fails so stays one.
func TestAFailingStoreMakesNoLetterAndLosesNone(t *testing.T) {
	var mu sync.Mutex
	var failing error
	fail := func(err error) { mu.Lock(); defer mu.Unlock(); failing = err }
	r := serve(t, func(_ *Config, _ *limits, g *gated) {
		g.before = func(context.Context, []store.Change) error { mu.Lock(); defer mu.Unlock(); return failing }
	})
	seq := r.keep(completed(1))
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("%w: the disk is full", store.ErrUnavailable), 503},
		{errors.New("a constraint failed"), 500},
		{store.ErrInvalid, 400},
		{store.ErrConflict, 409},
	} {
		fail(c.err)
		if got := r.deliver(completed(2)); got.status != c.status {
			t.Errorf("a delivery, %v: got %d, want %d", c.err, got.status, c.status)
		}
		got := r.api("POST", letterAt(seq)+"/replay", "")
		if got.status != c.status || strings.Contains(string(got.body), "constraint") {
			t.Errorf("a replay, %v: got %d %s, want %d", c.err, got.status, got.body, c.status)
		}
		if got := r.api("POST", "/v1/dead-letters/replay", ""); got.status != c.status {
			t.Errorf("a replay of all, %v: got %d, want %d", c.err, got.status, c.status)
		}
		if left := r.letters("").Letters; len(left) != 1 || left[0].Seq != seq {
			t.Errorf("%v: got the letters %+v, want the first alone", c.err, left)
		}
	}
	fail(nil)
	if got := r.api("POST", "/v1/dead-letters/replay", ""); got.status != 200 || r.counted() != 1 || len(r.letters("").Letters) != 0 {
		t.Errorf("once it works again: got %d %s, count %d", got.status, got.body, r.counted())
	}
}

func TestReplaysOfOneLetterAtOnceCountItOnce(t *testing.T) {
	r := serve(t, nil)
	seq := r.keep(batchOf(1, 9))
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 8 {
		wg.Go(func() {
			got, err := r.try("POST", letterAt(seq)+"/replay", "", "Authorization: Bearer "+apiKey)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
		})
	}
	wg.Wait()
	if statuses[200] < 1 || statuses[200]+statuses[404] != 8 || r.counted() != 9 {
		t.Errorf("got the statuses %v and the count %d; want one 200 or more, else 404, and 9", statuses, r.counted())
	}
}

func TestWithoutListsThereAreNoDeadLettersToServe(t *testing.T) {
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) { cfg.Reader, cfg.Letters = nil, nil })
	if got := r.api("GET", "/v1/dead-letters", ""); got.status != 404 {
		t.Errorf("got %d %s, want 404", got.status, got.body)
	}
	if got := r.deliver("{"); got.status != 400 {
		t.Errorf("a bad delivery: got %d, want 400", got.status)
	}
}

// A body that comes back is, byte by byte, what was sent.
func TestALetterOfAMegabyteComesBackWhole(t *testing.T) {
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) { cfg.Now = func() time.Time { return noon } })
	var body bytes.Buffer
	for i := range keptBytes {
		body.WriteByte(byte(i))
	}
	seq := r.die(body.String())
	got := decodeJSON[letterReply](t, r.api("GET", letterAt(seq), "").body)
	back, err := base64.StdEncoding.DecodeString(got.Body)
	if err != nil || !bytes.Equal(back, body.Bytes()) {
		t.Errorf("got %d bytes back, %v; want the same %d", len(back), err, body.Len())
	}
	if diff := cmp.Diff([2]any{int64(keptBytes), true}, [2]any{got.Kept, got.Whole}); diff != "" {
		t.Errorf("kept and whole (-want +got):\n%s", diff)
	}
}

// slowLetters are the dead letters of a store on which a replay can be held up.
type slowLetters struct {
	webhook.Letters
	read context.Context // of the last reading of a letter
	drop error           // what dropping fails with
}

func (l *slowLetters) DeadLetters(ctx context.Context, q store.DeadLetterQuery) ([]store.DeadLetter, error) {
	l.read = ctx
	return l.Letters.DeadLetters(ctx, q)
}

func (l *slowLetters) DropDeadLetters(ctx context.Context, q store.DeadLetterQuery) (int, error) {
	if l.drop != nil {
		return 0, l.drop
	}
	return l.Letters.DropDeadLetters(ctx, q)
}

// What was applied is dropped, and said to be applied, however long the one and
// the other take.
func TestCasesD13_WhatAReplayAppliedIsNeverAnswered503(t *testing.T) {
	rig := func(t *testing.T, lists *slowLetters, before func()) *rig {
		return serve(t, func(cfg *Config, l *limits, g *gated) {
			lists.Letters, cfg.Letters, cfg.Console = cfg.Letters, lists, &console.Settings{}
			l.call = 300 * time.Millisecond
			g.before = func(context.Context, []store.Change) error { before(); return nil }
		})
	}
	t.Run("the commit ends when the time of the reading is over", func(t *testing.T) {
		lists := &slowLetters{}
		r := rig(t, lists, func() {
			select {
			case <-lists.read.Done():
			case <-time.After(15 * time.Second):
				t.Error("the time of the reading has no end")
			}
		})
		seq := r.keep(completed(1))
		got := r.api("POST", letterAt(seq)+"/replay", "")
		if got.status != 200 || !decodeJSON[api.LetterResult](t, got.body).Applied || r.counted() != 1 {
			t.Fatalf("got %d %s and the count %d; want it applied", got.status, got.body, r.counted())
		}
		if left := r.letters("").Letters; len(left) != 0 {
			t.Errorf("got the letters %+v, want it dropped", left)
		}
	})
	t.Run("the caller leaves after the commit", func(t *testing.T) {
		r := serve(t, nil)
		seq := r.keep(completed(1))
		ctx, leave := context.WithCancel(t.Context())
		got, err := webhook.Replay(ctx, r.server.cfg.Letters, r.server.cfg.Decoder, seq, func(ctx context.Context, changes []store.Change) ([]store.ApplyResult, error) {
			defer leave()
			return r.store.Apply(ctx, changes, noon)
		})
		if err != nil || !got.Applied || got.Reason != "" || len(r.letters("").Letters) != 0 {
			t.Errorf("got %+v, %v and %d letters; want it applied and dropped", got, err, len(r.letters("").Letters))
		}
	})
	t.Run("it can't be dropped", func(t *testing.T) {
		lists := &slowLetters{drop: fmt.Errorf("%w: a constraint is locked", store.ErrUnavailable)}
		r := rig(t, lists, func() {})
		seq := r.keep(completed(1))
		for _, target := range []string{letterAt(seq) + "/replay", "/v1/dead-letters/replay"} {
			got := r.api("POST", target, "")
			if got.status != 200 || !strings.Contains(string(got.body), `"applied":true,"reason":"it was applied, but`) || strings.Contains(string(got.body), "constraint") {
				t.Errorf("%s: got %d %s; want it applied, and why it is still listed", target, got.status, got.body)
			}
		}
		if log := r.log.String(); !strings.Contains(log, "a constraint is locked") {
			t.Errorf("the log does not say why:\n%s", log)
		}
		b := newBrowser(t, r)
		b.signIn()
		b.get(letterAt(seq)[len("/v1"):] + "/replay").send(letterAt(seq)[len("/v1"):] + "/replay")
		if b.has("still listed"); b.status != 200 {
			t.Errorf("the console: got %d", b.status)
		}
	})
}

// A letter of several changes, as an older version kept it, is applied as far
// as it can be read, and stays.
func TestCaseD2_AReplayTakesWhatCanBeRead(t *testing.T) {
	r := serve(t, nil)
	bad, _ := webhooktest.Unreadable()
	seq := r.keep("[" + completed(1) + "," + bad[1] + "]")
	for range 2 {
		got := decodeJSON[api.LetterResult](t, r.api("POST", letterAt(seq)+"/replay", "").body)
		if got.Applied || !strings.Contains(got.Reason, "1 of its 2 changes can't be read, change 1: record.status is") || r.counted() != 1 || len(r.letters("").Letters) != 1 {
			t.Errorf("got %+v and the count %d; want one change applied, and the letter to stay", got, r.counted())
		}
	}
}
