package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// BenchmarkLimits asks for counts by scope and window of a million runs, each beside the
// plain count(*), and has runs begin under two limits. One user has 500 keys of a thousand
// runs, another one key of 400,000, and a workflow has a run of each of 100,000 users.
func BenchmarkLimits(b *testing.B) {
	address := pgtest.Database(b)
	pgtest.Exec(b, address, `
create table workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, draft_id uuid, status text, started_at timestamptz, completed_at timestamptz,
    duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now());
create index on workflow_runs (user_id, workflow_id);
create function benchmark_id(kind text, n bigint) returns uuid language sql immutable as $$ select (kind || '0000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;
insert into workflow_runs (id, user_id, workflow_id, status, completed_at)
select gen_random_uuid(), benchmark_id('a', 1), benchmark_id('c', 1 + n % 500), 'completed', timestamptz '2026-01-01' + n * interval '1 minute' from generate_series(0, 499999) as n
 union all
select gen_random_uuid(), benchmark_id('a', 2), benchmark_id('c', 1), 'completed', timestamptz '2026-01-01' + n * interval '1 minute' from generate_series(0, 399999) as n
 union all
select gen_random_uuid(), benchmark_id('b', n), benchmark_id('d', 1), 'completed', timestamptz '2026-01-01' + n * interval '1 minute' from generate_series(0, 99999) as n`)
	windows(b, address)
	pgtest.Exec(b, address, `vacuum analyze`)
	s := mustOpen(b, address, Options{})
	report := func(name string, d time.Duration) {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(d.Microseconds())/1000, "ms")
		})
	}
	many, one := storetest.MustID(0xa0, 1), storetest.MustID(0xa0, 2)
	key := store.KeyOf(one, storetest.MustID(0xc0, 1), store.ID{})
	all := store.TotalOf(storetest.MustID(0xd0, 1), store.ID{})
	from := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	window := func(runs int) store.Window {
		return store.Window{From: from, To: from.Add(time.Duration(runs) * time.Minute)}
	}
	for _, ask := range []struct {
		name  string
		of    store.Scope
		in    store.Window
		plain string
	}{
		{"key", key.Scope(), store.AllTime, `user_id = $1::uuid and workflow_id = $2::uuid and draft_id is null`},
		{"user-of-500-keys", store.Scope{User: many}, store.AllTime, `user_id = $1::uuid and ($2::uuid is null or true)`},
		{"workflow-of-100000-users", all.Scope(), store.AllTime, `workflow_id = $2::uuid and draft_id is null and ($1::uuid is null or true)`},
		{"key-in-a-window-of-1000", key.Scope(), window(1000), `user_id = $1::uuid and workflow_id = $2::uuid and draft_id is null`},
		{"key-in-a-window-of-10000", key.Scope(), window(10_000), `user_id = $1::uuid and workflow_id = $2::uuid and draft_id is null`},
		{"key-in-a-window-of-100000", key.Scope(), window(100_000), `user_id = $1::uuid and workflow_id = $2::uuid and draft_id is null`},
		{"user-in-a-window-of-10000", store.Scope{User: many}, window(10_000), `user_id = $1::uuid and ($2::uuid is null or true)`},
		{"workflow-in-a-window-of-10000", all.Scope(), window(10_000), `workflow_id = $2::uuid and draft_id is null and ($1::uuid is null or true)`},
	} {
		user, ref := textArg(ask.of.User.String()), textArg(ask.of.Ref.String())
		report(ask.name+"/store", medianOf(b, 101, func() error { _, err := s.Count(b.Context(), ask.of, ask.in); return err }))
		report(ask.name+"/sql", medianOf(b, 101, func() error {
			var n int64
			return s.pool.QueryRow(b.Context(), `select get_workflow_run_count($1::uuid, $2::uuid, null, $3::timestamptz, $4::timestamptz)`, user, ref, timeArg(ask.in.From), timeArg(ask.in.To)).Scan(&n)
		}))
		times, args := ``, []any{user, ref}
		if ask.in != store.AllTime {
			times, args = ` and completed_at >= $3::timestamptz and completed_at < $4::timestamptz`, append(args, ask.in.From, ask.in.To)
		}
		report(ask.name+"/plain", medianOf(b, 21, func() error {
			var n int64
			return s.pool.QueryRow(b.Context(), `select count(*) from workflow_runs where status in ('completed', 'failed') and completed_at is not null and `+ask.plain+times, args...).Scan(&n)
		}))
	}
	pgtest.Exec(b, address, `select grant_workflow_runs(benchmark_id('a', 1 + n % 2), 10, 'benchmark', 'many grants', p_workflow_id => benchmark_id('c', 1)) from generate_series(1, 100) as n`)
	n := 0
	for _, begin := range []struct {
		name   string
		limits []store.Limit
	}{
		{"begin-without-a-limit", nil},
		{"begin-under-one-limit", store.UpTo(1 << 30)},
		{"begin-under-two-limits", []store.Limit{{Scope: store.KeyLimit, Max: 1 << 30}, {Scope: store.UserLimit, Max: 1 << 30}}},
		{"begin-under-two-limits-of-a-window", []store.Limit{{Scope: store.KeyLimit, Max: 1000, From: time.Now().Add(-time.Hour)}, {Scope: store.UserLimit, Max: 1000, From: time.Now().Add(-time.Hour)}}},
		{"begin-refused-by-a-window-that-is-full", []store.Limit{{Scope: store.KeyLimit, Max: 10, From: from}, {Scope: store.UserLimit, Max: 1000, From: from}}},
	} {
		for _, user := range []store.ID{many, one} {
			report(fmt.Sprintf("%s/keys=%d", begin.name, map[store.ID]int{many: 500, one: 1}[user]), medianOf(b, 101, func() error {
				n++
				_, err := s.Begin(b.Context(), store.Begin{ID: storetest.MustID('1', n), User: user, Workflow: storetest.MustID(0xc0, 1), Limits: begin.limits, Now: time.Now()})
				return err
			}))
		}
	}
	report("allowance", medianOf(b, 101, func() error {
		_, err := s.Allowance(b.Context(), store.AllowanceRequest{User: many, Workflow: storetest.MustID(0xc0, 1), Limits: []store.Limit{{Scope: store.KeyLimit, Max: 10}, {Scope: store.UserLimit, Max: 10}}, Now: time.Now()})
		return err
	}))
}
