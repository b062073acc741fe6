package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/live"
	"github.com/edgaze-ai/runcounter/webhook/problem"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

func TestMain(m *testing.M) { need.Main(m) }

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

const (
	key      = "a-key-of-programs-that-is-long-enough"
	dotted   = "a.key.with.dots.that.looks.like.a.token"
	secret   = "a secret of the project that is long enough"
	ada      = "11111111-1111-4111-8111-111111111111"
	bob      = "22222222-2222-4222-8222-222222222222"
	workflow = "33333333-3333-4333-8333-333333333333"
)

// rig is an API by itself, below an app that answers errors as the server does.
type rig struct {
	*testing.T
	app   *fiber.App
	store *sqlite.Store
}

// newRig makes one with what change has changed of its configuration.
func newRig(t *testing.T, change func(*api.Config)) *rig {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "runs.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := webhook.NewAPIKeys(key, dotted)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := users.New(users.Config{Secret: secret, Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	streams := live.New(live.Config{Counts: s.CountsOf, Count: s.Count, Allowance: s.Allowance, MaxStreams: 1, MaxWatched: live.MaxKeys, Now: func() time.Time { return start }, Log: log, Metrics: prometheus.NewRegistry()})
	t.Cleanup(func() {
		streams.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := api.Config{
		Store: s, Letters: s, Grants: s, Keys: keys, Users: verifier, Streams: streams, Log: log, Now: func() time.Time { return start },
		Replay: func(context.Context, int64) (webhook.Replayed, error) { return webhook.Replayed{}, webhook.ErrNoLetter },
		Limits: api.Limits{Body: 2000, Memory: 4000, Wait: 10 * time.Millisecond, Time: request.Limits{Stall: time.Minute, Whole: time.Minute}},
	}
	if change != nil {
		change(&cfg)
	}
	app := fiber.New(fiber.Config{
		StreamRequestBody: true, BodyLimit: 1, ReadBufferSize: 16 << 10, CaseSensitive: true, DisableStartupMessage: true,
		ErrorHandler: func(c *fiber.Ctx, err error) error {
			problem.Write(c.Response(), problem.Of(err))
			return nil
		},
	})
	api.New(cfg).Routes(app)
	return &rig{t, app, s}
}

// token is a signed-in user's.
func token(t *testing.T, user string) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "role": "authenticated", "aud": "authenticated", "exp": start.Add(time.Hour).Unix(),
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ask sends a request, with headers in pairs, and returns the status, the headers and
// the body of the answer.
func (r *rig) ask(method, path, body string, headers ...string) (status int, got http.Header, text string) {
	r.Helper()
	req := httptest.NewRequestWithContext(r.Context(), method, path, strings.NewReader(body))
	req.Host = "127.0.0.1"
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := r.app.Test(req, 60_000)
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		r.Fatal(err)
	}
	return res.StatusCode, res.Header, string(all)
}

// keyed asks with the API key.
func (r *rig) keyed(method, path, body string, headers ...string) (int, string) {
	r.Helper()
	code, _, text := r.ask(method, path, body, append([]string{"Authorization", "Bearer " + key}, headers...)...)
	return code, text
}

// wantRefused fails the test unless a request with the key gets the status and a problem
// whose sentence holds some words.
func (r *rig) wantRefused(status int, words, method, path, body string, headers ...string) {
	r.Helper()
	code, text := r.keyed(method, path, body, headers...)
	var p problem.Problem
	if err := json.Unmarshal([]byte(text), &p); code != status || err != nil || !strings.Contains(p.Detail, words) {
		r.Errorf("%s %s %s: got %d %s; want %d and %q", method, path, body, code, text, status, words)
	}
}

// begin begins a run of a user, and returns its id.
func (r *rig) begin(user, workflow string) string {
	r.Helper()
	code, text := r.keyed("POST", "/v1/runs", `{"user_id":"`+user+`","workflow_id":"`+workflow+`"}`)
	var run struct {
		ID      string
		Created bool
	}
	if err := json.Unmarshal([]byte(text), &run); code != http.StatusCreated || err != nil || !run.Created {
		r.Fatalf("begin: got %d %s, %v", code, text, err)
	}
	return run.ID
}

// count is a key's, as a program reads it.
func (r *rig) count(user string) int64 {
	r.Helper()
	u, err := store.ParseID(user)
	if err != nil {
		r.Fatal(err)
	}
	w, err := store.ParseID(workflow)
	if err != nil {
		r.Fatal(err)
	}
	c, err := r.store.Count(r.Context(), store.KeyOf(u, w, store.ID{}).Scope(), store.AllTime)
	if err != nil {
		r.Fatal(err)
	}
	return c.Count
}
