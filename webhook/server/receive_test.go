package server

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
)

func TestADeliveryIsAnsweredWithTheCountsOfItsKeys(t *testing.T) {
	r := serve(t, nil)
	other := "22222222-2222-4222-8222-222222222222"
	moved := row(1, "completed", map[string]any{"user_id": other, "updated_at": "2026-11-22T20:10:39+00:00"})
	for _, step := range []struct{ name, send, want string }{
		{"a run that begins counts nothing", inserted(row(1, "pending", nil)),
			`{"received":1,"changed":1,"ignored":0,"counts":[{"user_id":"` + user + `","workflow_id":"` + workflow + `","draft_id":null,"count":0}]}`},
		{"a run that ends counts", updated(row(1, "running", nil), row(1, "completed", nil)),
			`{"received":1,"changed":1,"ignored":0,"counts":[{"user_id":"` + user + `","workflow_id":"` + workflow + `","draft_id":null,"count":1}]}`},
		{"the same again changes nothing", updated(row(1, "running", nil), row(1, "completed", nil)),
			`{"received":1,"changed":0,"ignored":0,"counts":[{"user_id":"` + user + `","workflow_id":"` + workflow + `","draft_id":null,"count":1}]}`},
		{"a run that is handed over counts for the other, and both are told", updated(row(1, "completed", nil), moved),
			`{"received":1,"changed":1,"ignored":0,"counts":[{"user_id":"` + user + `","workflow_id":"` + workflow + `","draft_id":null,"count":0},` +
				`{"user_id":"` + other + `","workflow_id":"` + workflow + `","draft_id":null,"count":1}]}`},
		{"several changes of a key give its last count once", batchOf(10, 3),
			`{"received":3,"changed":3,"ignored":0,"counts":[{"user_id":"` + user + `","workflow_id":"` + workflow + `","draft_id":null,"count":3}]}`},
	} {
		got := r.deliver(step.send)
		if got.status != http.StatusOK {
			t.Fatalf("%s: got %d %s", step.name, got.status, got.body)
		}
		if diff := cmp.Diff(step.want, string(got.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestTwoHundredConnectionsAtOnce(t *testing.T) {
	r := serve(t, nil)
	const connections, each = 200, 5
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			for i := range each {
				got, err := r.try("POST", path, completed(c*each+i), "Authorization: Bearer "+token)
				if err != nil || got.status != http.StatusOK {
					t.Errorf("connection %d: got %d %s %v", c, got.status, got.body, err)
				}
			}
		})
	}
	wg.Wait()
	if got := r.counted(); got != connections*each {
		t.Errorf("the count: got %d, want %d", got, connections*each)
	}
	if got := r.store.applies.Load(); got >= connections*each {
		t.Errorf("%d transactions for %d deliveries: they were not grouped", got, connections*each)
	}
}

func TestExpectContinueIsAnsweredBeforeTheBody(t *testing.T) {
	r := serve(t, nil)
	c := r.dial()
	defer c.Close()
	body := "[" + completed(1) + strings.Repeat(" ", 2<<20) + "]"
	head := rawRequest{length: strconv.Itoa(len(body)), headers: []string{"Expect: 100-continue"}}.String()
	if _, err := io.WriteString(c, head); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q and %v, want 100 Continue", line, err)
	}
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	go io.WriteString(c, body)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readReply(res)
	if err != nil {
		t.Fatal(err)
	}
	if a := got.answer(t); a.Changed != 1 {
		t.Errorf("got %+v, want one change", a)
	}
}

// A webhook of an UPDATE holds the row twice, and a row may hold a snapshot of
// 20 MB of which nothing is needed.
func TestALargeBodyIsStreamed(t *testing.T) {
	r := serve(t, nil)
	record := row(1, "completed", map[string]any{"state_snapshot": strings.Repeat("x", 20<<20)})
	body := inserted(record)
	r.deliver("[]")
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := r.deliver(body)
	runtime.ReadMemStats(&after)
	if a := got.answer(t); a.Changed != 1 {
		t.Errorf("got %+v, want one change", a)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("a body of %d MB allocated %d KB, want at most 4 MB", len(body)>>20, grown>>10)
	}
}

func TestAStrangerIsRefusedBeforeTheBodyIsRead(t *testing.T) {
	r := serve(t, nil)
	// One byte of the body is all that comes; waiting for more would take 30 s.
	got, err := r.raw(rawRequest{auth: "Bearer nonsense", length: "200000000", body: "["}.String())
	if err != nil {
		t.Fatal(err)
	}
	if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("got %d with the challenge %q, want 401 and Bearer", got.status, got.header.Get("WWW-Authenticate"))
	}
}

func TestABodyThatCannotBeKeptIsStillRefused(t *testing.T) {
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.refuse = errors.New("the disk is full") })
	if got := r.deliver("{"); got.status != http.StatusBadRequest {
		t.Errorf("got %d %s, want 400", got.status, got.body)
	}
	if log := r.log.String(); !strings.Contains(log, "the disk is full") {
		t.Errorf("the loss is not in the log:\n%s", log)
	}
}

func TestADeadLetterHoldsTheBodyUpToAMegabyte(t *testing.T) {
	const whole = keptBytes
	for _, c := range []struct {
		name  string
		bytes int
		room  int64 // for long bodies
		want  int
	}{
		{"a short one is whole", 900, 64 << 20, 900},
		{"one of the length that is always remembered", rememberedBytes, 0, rememberedBytes},
		{"one of a megabyte is whole", whole, 64 << 20, whole},
		{"a longer one is not", whole + 1, 64 << 20, whole},
		{"a long one is not where too many come at once", rememberedBytes + 1, whole - 1, rememberedBytes},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := serve(t, func(_ *Config, l *limits, _ *gated) { l.known.Keep = c.room })
			body := `[` + completed(1) + `,`
			body += strings.Repeat(" ", c.bytes-len(body)-1) + `!`
			for range 2 { // what is remembered of one is given back
				if got := r.deliver(body); got.status != http.StatusBadRequest {
					t.Fatalf("got %d %s, want 400", got.status, got.body)
				}
			}
			letters := r.store.kept()
			if len(letters) != 2 {
				t.Fatalf("%d dead letters, want 2", len(letters))
			}
			for _, got := range letters {
				if string(got.Body) != body[:c.want] || got.Bytes != int64(len(body)) || got.Whole() != (c.want == c.bytes) {
					t.Errorf("got %d bytes of %d, whole %v; want %d of %d", len(got.Body), got.Bytes, got.Whole(), c.want, len(body))
				}
			}
			if got := r.counted(); got != 0 {
				t.Errorf("the count: got %d; a part of an unreadable delivery was applied", got)
			}
		})
	}
}

func TestWithoutASecretOnlyLoopbackNamesAreServed(t *testing.T) {
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) {
		cfg.Secrets, cfg.APIKeys, cfg.Loopback = webhook.Secrets{}, nil, true
	})
	for _, c := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"by address", nil, 200},
		{"by another loopback address", []string{"Host: 127.1.2.3:8080"}, 200},
		{"by name", []string{"Host: localhost:8080"}, 200},
		{"by the address of IPv6", []string{"Host: [::1]:8080"}, 200},
		{"by a page of its own", []string{"Origin: http://localhost:8080"}, 200},
		{"by a name that was pointed here", []string{"Host: evil.example"}, 403},
		{"by a name that looks like an address", []string{"Host: 127.0.0.1.evil.example"}, 403},
		{"by a page of another site", []string{"Origin: https://evil.example"}, 403},
		{"by a page without an origin", []string{"Origin: null"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := r.do("POST", path, "[]", c.headers...); got.status != c.status {
				t.Errorf("a delivery: got %d %s, want %d", got.status, got.body, c.status)
			}
			if got := r.do("GET", "/v1/users/"+user+"/counts", "", c.headers...); got.status != c.status {
				t.Errorf("the API: got %d %s, want %d", got.status, got.body, c.status)
			}
		})
	}
}

func TestNewRefusesToLetStrangersIn(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "runs.db"), sqlite.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	secrets, err := webhook.ParseSecrets(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no store", Config{Loopback: true}, "Store"},
		{"no secret", Config{Store: db, APIKeys: []string{apiKey}}, "openssl rand -base64 32"},
		{"no API key", Config{Store: db, Secrets: secrets}, "openssl rand -base64 32"},
		{"an empty API key", Config{Store: db, Secrets: secrets, APIKeys: []string{""}}, "is blank"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that names %q", err, c.want)
			}
		})
	}
}

func TestReadyzSaysWhatIsDegraded(t *testing.T) {
	type ready struct {
		Ready    bool     `json:"ready"`
		Degraded []string `json:"degraded"`
	}
	now, down := time.Unix(1_000, 0), error(nil)
	var mu sync.Mutex
	var slow atomic.Bool
	set := func(later time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		now, down = now.Add(later), err
	}
	r := serve(t, func(cfg *Config, _ *limits, g *gated) {
		cfg.Degraded = func() []string { return []string{"The sweep is late."} }
		cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		g.pings = func() error {
			mu.Lock()
			defer mu.Unlock()
			if slow.Load() {
				now = now.Add(2 * time.Second)
			}
			return down
		}
	})
	got := r.api("GET", "/readyz", "")
	answer := decodeJSON[ready](t, got.body)
	if got.status != 200 || !answer.Ready || len(answer.Degraded) != 1 || answer.Degraded[0] != "The sweep is late." {
		t.Errorf("got %d %s, want ready, and what is degraded", got.status, got.body)
	}
	set(readyFor/2, store.ErrUnavailable)
	if got := r.do("GET", "/readyz", ""); got.status != 200 {
		t.Errorf("within a second: got %d, want the answer that is remembered", got.status)
	}
	set(readyFor, store.ErrUnavailable)
	got = r.do("GET", "/readyz", "")
	if answer := decodeJSON[ready](t, got.body); got.status != 503 || answer.Ready {
		t.Errorf("database down: got %d %s, want 503", got.status, got.body)
	}
	if got := r.do("GET", "/livez", ""); got.status != 200 {
		t.Errorf("/livez: got %d, want 200 as long as the process serves", got.status)
	}
	set(2*readyFor, nil)
	if got := r.do("HEAD", "/readyz", ""); got.status != 200 || len(got.body) != 0 {
		t.Errorf("database back: got %d %q, want 200 without a body", got.status, got.body)
	}
	set(2*readyFor, store.ErrUnavailable)
	slow.Store(true) // it says so after two seconds
	if got := r.do("GET", "/readyz", ""); got.status != 503 {
		t.Errorf("a database that hangs: got %d, want 503", got.status)
	}
	slow.Store(false)
	set(readyFor, nil)
	if got := r.do("GET", "/readyz", ""); got.status != 200 {
		t.Errorf("a second after it hung: got %d %s, want 200", got.status, got.body)
	}
}

func TestMetricsTellWhatHappenedAndNoIDs(t *testing.T) {
	r := serve(t, nil)
	r.deliver(completed(1))
	r.deliver(completed(1))
	r.deliver("{")
	r.do("POST", path, completed(2))
	got := r.api("GET", "/metrics", "")
	for _, line := range []string{
		`runcounter_deliveries_total{result="applied"} 2`,
		`runcounter_deliveries_total{result="bad"} 1`,
		`runcounter_deliveries_total{result="unauthenticated"} 1`,
		`runcounter_changes_total{result="changed"} 1`,
		`runcounter_changes_total{result="unchanged"} 1`,
		`runcounter_dead_letters_total{result="kept"} 1`,
		`runcounter_queue_deliveries 0`,
		`runcounter_batch_changes_count 2`,
		`go_goroutines `,
	} {
		if !strings.Contains(string(got.body), "\n"+line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	for _, id := range []string{user, workflow, runID(1)} {
		if strings.Contains(string(got.body), id) {
			t.Errorf("/metrics names %s", id)
		}
	}
}

func TestEveryAnswerCarriesItsHeaders(t *testing.T) {
	r := serve(t, nil)
	for _, target := range []string{"/", "/livez", "/nowhere", "/v1/nowhere"} {
		got := r.do("GET", target, "")
		if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: nosniff or the request id is missing in %v", target, got.header)
		}
		if got.header.Get("Server") != "" {
			t.Errorf("%s: the server says what it is: %q", target, got.header.Get("Server"))
		}
	}
	if got := r.do("GET", path, ""); got.header.Get("Allow") != "POST" {
		t.Errorf("Allow: got %q, want POST", got.header.Get("Allow"))
	}
	if got := r.do("GET", "/", ""); !strings.Contains(string(got.body), path) {
		t.Errorf("the first page does not say where webhooks go: %s", got.body)
	}
}

func TestServeAfterShutdownReturnsAtOnce(t *testing.T) {
	r := serve(t, nil)
	if err := r.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.server.Serve(ln); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener was left open")
	}
}
