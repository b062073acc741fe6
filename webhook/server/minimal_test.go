package server

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
)

func TestCaseD11_AnAnswerWithoutCountsForWhoAsksForIt(t *testing.T) {
	r := serve(t, nil)
	send := func(n int, prefer string) reply {
		t.Helper()
		return r.do("POST", path, completed(n), "Authorization: Bearer "+token, prefer)
	}
	for n, prefer := range []string{"Prefer: return=minimal", `Prefer: respond-async, Return="minimal"; x=1`} {
		got := send(n, prefer)
		if text := string(got.body); text != `{"received":1,"changed":1,"ignored":0}` || got.header.Get("Preference-Applied") != "return=minimal" {
			t.Errorf("%s: got %s, applied %q", prefer, text, got.header.Get("Preference-Applied"))
		}
	}
	for n, prefer := range []string{"", "Prefer: return=representation", "Prefer: minimal"} {
		got := send(10+n, prefer)
		if len(got.answer(t).Counts) != 1 || got.header.Get("Preference-Applied") != "" {
			t.Errorf("%q: got %s, applied %q; want the count", prefer, got.body, got.header.Get("Preference-Applied"))
		}
	}
	if got := r.counted(); got != 5 {
		t.Errorf("counted %d, want 5", got)
	}
}

func TestCaseD11_WhatIsInOrderNeverReachesTheStore(t *testing.T) {
	var odd atomic.Bool
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) {
		cfg.Idle = func(c store.Change) bool { return !odd.Load() || c.ID() != mustID(t, runID(2)) }
	})
	batch := "[" + completed(1) + "," + completed(2) + "," + completed(3) + "]"
	minimal := []string{"Authorization: Bearer " + token, "Prefer: return=minimal"}
	applied := func(when string, want int, wantApplies int64) {
		t.Helper()
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		sum := 0
		for _, n := range r.store.batches {
			sum += n
		}
		if sum != want || r.store.applies.Load() != wantApplies {
			t.Errorf("%s: %d changes in %d transactions, want %d in %d", when, sum, r.store.applies.Load(), want, wantApplies)
		}
	}
	if got := string(r.do("POST", path, batch, minimal...).body); got != `{"received":3,"changed":0,"ignored":0}` {
		t.Errorf("got %s", got)
	}
	applied("all in order", 0, 0)
	odd.Store(true)
	if got := string(r.do("POST", path, batch, minimal...).body); got != `{"received":3,"changed":1,"ignored":0}` {
		t.Errorf("got %s", got)
	}
	applied("one is not", 1, 1)
	if got := len(r.deliver(batch).answer(t).Counts); got != 1 {
		t.Errorf("a sender that wants counts gets %d, want 1", got)
	}
	applied("with counts", 4, 2)
}

// statements counts what goes to the database.
type statements struct{ n atomic.Int64 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.n.Add(1)
	return ctx
}
func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.n.Add(1)
	return ctx
}
func (s *statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func TestCaseD11_ACallOfRowsInOrderCostsTheDatabaseNothing(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	m, err := migrations.Postgres(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	var sent statements
	db, err := postgres.Open(t.Context(), address, postgres.Options{Connect: func(c *pgx.ConnConfig) { c.Tracer = &sent }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) { cfg.Store, cfg.Reader, cfg.Idle = db, db, db.Idle })
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, created_at, started_at, updated_at, completed_at) select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '`+user+`', '`+workflow+`', 'completed', now(),now(),now(),now() from generate_series(1, 3) as n`)
	post := func(body string) (reply, int64) {
		t.Helper()
		before := sent.n.Load()
		got := r.do("POST", path, body, oursHeaders(t, body, time.Now(), 0)...)
		if got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		return got, sent.n.Load() - before
	}
	ours := func(body string) (reply, int64) {
		t.Helper()
		before := sent.n.Load()
		got := r.do("POST", path, body, append(oursHeaders(t, body, time.Now(), 0), "Prefer: return=minimal")...)
		if got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		return got, sent.n.Load() - before
	}
	if got, cost := ours(batchOf(1, 3)); cost != 0 || string(got.body) != `{"received":3,"changed":0,"ignored":0}` {
		t.Errorf("rows in order cost %d statements, and were answered %s; want none", cost, got.body)
	}
	if _, cost := post(batchOf(1, 3)); cost == 0 {
		t.Error("with counts wanted it costs nothing, either: nothing is shown")
	}
	pgtest.Exec(t, address, `update run_counter.settings set guard = 'off'`, `update workflow_runs set status = 'running', completed_at = null where id = '`+runID(2)+`'`)
	late := string(answer.Encode(map[string]any{"type": "UPDATE", "schema": "public", "table": "workflow_runs", "record": row(2, "running", nil), "old_record": row(2, "completed", nil)}))
	if got, cost := ours(late); cost == 0 || !strings.Contains(string(got.body), `"changed":1`) {
		t.Errorf("an outcome that was overwritten cost %d statements, and was answered %s; want it repaired, though the guard was on a moment ago", cost, got.body)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, cost := ours(batchOf(1, 3)); cost == 0 {
		t.Error("with the guard off nobody looks at the rows")
	}
}
