package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/problem"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

const (
	token   = "a-token-long-enough-not-to-be-guessed"
	apiKey  = "an-API-key-of-the-same-quality"
	signing = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

	path = "/webhooks/workflow-runs"

	user     = webhooktest.User
	workflow = webhooktest.Workflow
	draft    = webhooktest.Draft
)

// The deliveries that the tests of all rooms share.
const (
	anID, aUser, aDraft = webhooktest.AnID, webhooktest.User, webhooktest.Draft
)

var (
	columns, changeOf                        = webhooktest.Columns, webhooktest.ChangeOf
	runID, row, inserted, completed, updated = webhooktest.RunID, webhooktest.Row, webhooktest.Inserted, webhooktest.Completed, webhooktest.Updated
)

// gated is the real store with a door before Apply, and a memory of what
// passed.
type gated struct {
	Store
	before  func(context.Context, []store.Change) error // before each Apply; may be nil
	applies atomic.Int64
	pings   func() error

	mu      sync.Mutex
	batches []int // the length of each Apply
	letters []store.DeadLetter
	refuse  error // what KeepDeadLetter returns
}

func (g *gated) Apply(ctx context.Context, changes []store.Change, received time.Time) ([]store.ApplyResult, error) {
	g.applies.Add(1)
	g.mu.Lock()
	g.batches = append(g.batches, len(changes))
	g.mu.Unlock()
	if g.before != nil {
		if err := g.before(ctx, changes); err != nil {
			return nil, err
		}
	}
	return g.Store.Apply(ctx, changes, received)
}

func (g *gated) KeepDeadLetter(ctx context.Context, letters ...store.DeadLetter) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil {
		return g.refuse
	}
	for _, d := range letters {
		d.Body = bytes.Clone(d.Body)
		g.letters = append(g.letters, d)
	}
	return g.Store.KeepDeadLetter(ctx, letters...)
}

func (g *gated) Ping(ctx context.Context) error {
	if g.pings != nil {
		return g.pings()
	}
	return g.Store.Ping(ctx)
}

func (g *gated) kept() []store.DeadLetter {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]store.DeadLetter(nil), g.letters...)
}

// rig is a server on a real socket.
type rig struct {
	t      *testing.T
	file   string // of the database
	server *Server
	store  *gated
	log    *webhooktest.Log
	addr   string
	client *http.Client
	served chan error
}

// serve starts a server; with configures it, and may be nil.
func serve(t *testing.T, with func(*Config, *limits, *gated)) *rig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runs.db")
	db, err := sqlite.Open(t.Context(), file, sqlite.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := webhook.ParseSecrets(token + "," + signing)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, file: file, store: &gated{Store: db}, log: &webhooktest.Log{}}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	cfg := Config{
		Store: r.store, Reader: db, Letters: db, Grants: db, Secrets: secrets, APIKeys: []string{apiKey},
		Decoder: webhook.Decoder{Schema: "public", Table: "workflow_runs"}, AdmissionTimeout: 4 * time.Second,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	l := defaultLimits()
	if with != nil {
		with(&cfg, &l, r.store)
	}
	r.start(cfg, l)
	return r
}

// second starts another server on the same store; with changes its configuration.
func (r *rig) second(with func(*Config)) *rig {
	r.t.Helper()
	s := &rig{t: r.t, store: r.store, log: r.log}
	cfg := r.server.cfg
	with(&cfg)
	s.start(cfg, r.server.limits)
	return s
}

// start makes the server, and serves until the test ends.
func (r *rig) start(cfg Config, l limits) {
	t := r.t
	t.Helper()
	var err error
	r.served = make(chan error, 1)
	if r.server, err = newServer(cfg, l); err != nil {
		t.Fatal(err)
	}
	// Idle workers of the HTTP server would look like leaks.
	r.server.app.Server().MaxIdleWorkerDuration = 20 * time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	r.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	go func() { r.served <- r.server.Serve(ln) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := wait.For(t, "the end of Serve", r.served); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (a reply) problem(t *testing.T) problem.Problem {
	t.Helper()
	var p problem.Problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("the answer %d %q is no problem: %v", a.status, a.body, err)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type of the problem: got %q", got)
	}
	if p.Status != a.status || p.Title == "" || p.Type == "" || p.Detail == "" {
		t.Errorf("status %d came with the incomplete problem %s", a.status, a.body)
	}
	return p
}

func (a reply) answer(t *testing.T) webhook.Answer {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("got %d %s, want 200", a.status, a.body)
	}
	return decodeJSON[webhook.Answer](t, a.body)
}

func decodeJSON[T any](t *testing.T, body []byte) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", body, err)
	}
	return v
}

// do sends a request with headers given as "Name: value"; an empty one is none.
func (r *rig) do(method, target, body string, headers ...string) reply {
	r.t.Helper()
	a, err := r.try(method, target, body, headers...)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func (r *rig) try(method, target, body string, headers ...string) (reply, error) {
	req, err := http.NewRequest(method, "http://"+r.addr+target, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ": ")
		if !ok {
			continue
		}
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	a, err := readReply(res)
	if err == nil {
		r.described(method, target, body, a)
	}
	return a, err
}

func readReply(res *http.Response) (reply, error) {
	body, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, body}, errors.Join(err, res.Body.Close())
}

// deliver sends a delivery with the token.
func (r *rig) deliver(body string) reply {
	r.t.Helper()
	return r.do("POST", path, body, "Authorization: Bearer "+token)
}

// api sends a request to the API with its key.
func (r *rig) api(method, target, body string) reply {
	r.t.Helper()
	return r.do(method, target, body, "Authorization: Bearer "+apiKey)
}

// dial opens a bare connection.
func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// raw sends bytes as they are and returns the first answer. The server may
// answer and close before it has read all of them.
func (r *rig) raw(bytes string) (reply, error) {
	r.t.Helper()
	c := r.dial()
	defer c.Close()
	go io.WriteString(c, bytes)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return reply{}, err
	}
	a, err := readReply(res)
	if req, malformed := http.ReadRequest(bufio.NewReader(strings.NewReader(bytes))); err == nil && malformed == nil && a.status >= 300 {
		r.described(req.Method, req.RequestURI, "", a)
	}
	return a, err
}

// batchOf returns a delivery of many.
func batchOf(from, count int) string {
	all := make([]string, count)
	for i := range all {
		all[i] = completed(from + i)
	}
	return "[" + strings.Join(all, ",") + "]"
}

// counted returns the count of the workflow.
func (r *rig) counted() int64 {
	r.t.Helper()
	c, err := r.store.Count(context.Background(), workflowKey(r.t).Scope(), store.AllTime)
	if err != nil {
		r.t.Fatal(err)
	}
	return c.Count
}

func workflowKey(t *testing.T) store.Key {
	return store.Key{User: mustID(t, user), Kind: store.KindWorkflow, Ref: mustID(t, workflow)}
}

func mustID(t *testing.T, s string) store.ID {
	t.Helper()
	id, err := store.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// eventually waits until something is true.

// await waits for what a channel brings, which ends a test that waits in vain.

// goroutines waits for the number of goroutines to come back to a number.
func goroutines(t *testing.T, before int) {
	t.Helper()
	wait.Until(t, fmt.Sprintf("no more goroutines than the %d before", before), func() bool { return runtime.NumGoroutine() <= before })
}

// resting returns the number of goroutines of a server that has warmed up and
// has nothing to do.
func (r *rig) resting() int {
	r.t.Helper()
	r.deliver("[]")
	r.client.CloseIdleConnections()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	least := runtime.NumGoroutine()
	for range 30 {
		<-tick.C
		least = min(least, runtime.NumGoroutine())
	}
	return least
}

// The bounds as callers meet them.
const (
	keptBytes        = 1 << 20  // of a dead letter
	rememberedBytes  = 64 << 10 // of one where too many long ones come at once
	columnBytes      = 8 << 10  // of a column
	failuresToSignIn = 10       // before a client is told to wait
	namedTables      = 10       // that are not watched
	streamsOfAUser   = 20
	maxTries         = 3 // of a transaction
	proofHeader      = "webhook-proof"
)

// signedHeaders returns the headers of Standard Webhooks for a body.
func signedHeaders(t testing.TB, secret, body string, at time.Time) []string {
	t.Helper()
	const id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	sig, err := webhook.Sign(secret, id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"webhook-id", id, "webhook-timestamp", fmt.Sprint(at.Unix()), "webhook-signature", sig}
}

// reader is what a backend lists.
type reader interface {
	store.Reader
	store.LetterBox
}

func (r *rig) known() webhook.Busy      { known, _ := r.server.receiver.Busy(); return known }
func (r *rig) unverified() webhook.Busy { _, unverified := r.server.receiver.Busy(); return unverified }
