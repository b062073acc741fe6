package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

const (
	benchRounds  = 5
	benchClients = 16
)

// medians runs the variants by turns, for benchRounds rounds, and reports the
// median of each and its part of the first's.
func medians(b *testing.B, unit string, names []string, run func(variant int) float64) {
	b.Helper()
	values := make([][]float64, len(names))
	for range benchRounds {
		for i := range names {
			values[i] = append(values[i], run(i))
		}
	}
	median := func(i int) float64 {
		slices.Sort(values[i])
		return values[i][benchRounds/2]
	}
	for i, name := range names {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(i), unit)
			b.ReportMetric(median(i)/median(0), "of-"+names[0])
			b.ReportMetric(values[i][0]/median(i), "lowest/median")
			b.ReportMetric(values[i][benchRounds-1]/median(i), "highest/median")
		})
	}
}

// BenchmarkWritePath is the life of a run in three commits by 16 clients, on
// the bare table, a second bare one as control, beside an ordinary counter
// trigger, with the ledger alone, and with guard and hardening too. Beside them stands
// the least that such an installation can cost: our indexes without a trigger, a trigger
// that adds one row to a ledger and does nothing else, and that one with a trigger
// before the write that does nothing. Users and
// workflows are foreign keys, every tenth run ends without completed_at, which
// is what the guard's body is for, and every tenth gets a late running.
func BenchmarkWritePath(b *testing.B) {
	ours := func(name, setup string) writePath { return writePath{name, setup, &migrations.Windows{}} }
	measure(b, []writePath{
		{"bare", ``, nil},
		{"bare-again", ``, nil},
		{"counter-trigger", `create table totals (user_id uuid, workflow_id uuid, n bigint not null, primary key (user_id, workflow_id));
create function count_it() returns trigger language plpgsql as $$ begin
    insert into totals as t values (new.user_id, new.workflow_id, 1) on conflict (user_id, workflow_id) do update set n = t.n + 1; return null; end $$;
create trigger count_it after update on workflow_runs for each row when (old.completed_at is null and new.completed_at is not null) execute function count_it()`, nil},
		ours("ledger", `drop trigger zzzz_run_counter_guard on workflow_runs; drop trigger zzzz_run_counter_guard_insert on workflow_runs;
drop trigger zzzy_run_counter_hardening on workflow_runs`),
		ours("guard-and-ledger", ``),
		ours("our-indexes-alone", `drop trigger zzzz_run_counter_guard on workflow_runs; drop trigger zzzz_run_counter_guard_insert on workflow_runs;
drop trigger zzzy_run_counter_hardening on workflow_runs; drop trigger zzzz_run_counter_ledger_insert on workflow_runs;
drop trigger zzzz_run_counter_ledger_update on workflow_runs; drop trigger zzzz_run_counter_ledger_delete on workflow_runs`),
		{"least-ledger", leastLedger, nil},
		{"least-guard", leastLedger + `;
create function pass() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin return new; end $$;
create trigger pass_update before update on workflow_runs for each row
    when (old.completed_at is not null or new.completed_at is null and new.status = any ('{completed,failed,cancelled,timeout}')) execute function pass();
create trigger pass_insert before insert on workflow_runs for each row
    when (new.completed_at is null and new.status = any ('{completed,failed,cancelled,timeout}')) execute function pass()`, nil},
	})
}

// BenchmarkWritePathOfWindows is the same with the optional indexes, beside the bare
// table and an installation without them.
func BenchmarkWritePathOfWindows(b *testing.B) {
	yes := true
	measure(b, []writePath{
		{"bare", ``, nil},
		{"bare-again", ``, nil},
		{"without-windows", ``, &migrations.Windows{}},
		{"user-windows", ``, &migrations.Windows{User: &yes}},
		{"workflow-windows", ``, &migrations.Windows{Workflow: &yes}},
		{"both-windows", ``, &migrations.Windows{User: &yes, Workflow: &yes}},
	})
}

// writePath is a table to which runs are written.
type writePath struct {
	name, setup string
	ours        *migrations.Windows // nil where nothing of ours is there
}

// measure measures how many runs live in a second on each table, on one key and on many.
func measure(b *testing.B, paths []writePath) {
	b.Helper()
	server := pgtest.NewServer(b) // which waits for its disk at each commit, as one in production does
	var names, addresses []string
	for _, p := range paths {
		address := server.Database(b)
		pgtest.Exec(b, address, `
create table users (id uuid primary key); create table workflows (id uuid primary key);
create table workflow_runs (
    id uuid primary key, user_id uuid not null references users (id), workflow_id uuid references workflows (id), draft_id uuid, status text, started_at timestamptz,
    completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now());
create index on workflow_runs (user_id, workflow_id);
insert into users select ('a0000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid from generate_series(0, 9999) as n;
insert into workflows values ('c0000000-0000-4000-8000-000000000001')`)
		if p.ours != nil {
			benchMigrate(b, address, *p.ours)
		}
		if p.setup != "" {
			pgtest.Exec(b, address, p.setup)
		}
		names, addresses = append(names, p.name), append(addresses, address)
	}
	pools := make([][]*pgx.Conn, len(names)) // an application's connections stay open
	for i, address := range addresses {
		pools[i] = benchConnections(b, address)
	}
	n := 0
	for _, keys := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			medians(b, "runs/s", names, func(i int) float64 {
				n += 1 << 20
				return lives(b, pools[i], keys, n, live)
			})
		})
	}
}

// leastLedger is a trigger that adds a row to a ledger as ours is made, and asks nothing.
const leastLedger = `create table ledger (
    user_id uuid not null, kind text collate "C" not null, ref_id uuid not null, seq bigint not null generated always as identity, at timestamptz not null default now(),
    n integer not null, presumed boolean not null, status text collate "C" not null, primary key (user_id, kind, ref_id, seq));
create index on ledger (kind, ref_id, user_id);
create function add_it() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin
    insert into public.ledger (user_id, kind, ref_id, status, presumed, n) values (new.user_id, 'workflow', new.workflow_id, new.status, false, 1); return null; end $$;
create trigger add_it after update on workflow_runs for each row when (old.completed_at is not null or new.completed_at is not null) execute function add_it()`

func benchMigrate(b *testing.B, address string, windows migrations.Windows) {
	b.Helper()
	m, err := migrations.Postgres(b.Context(), address)
	if err != nil {
		b.Fatal(err)
	}
	m.SetWindows(windows)
	if err := errors.Join(m.Up(), m.Close()); err != nil {
		b.Fatal(err)
	}
}

// benchConnections opens connections that have parsed and planned what a run's
// life needs.
func benchConnections(b *testing.B, address string) []*pgx.Conn {
	b.Helper()
	ctx := context.WithoutCancel(b.Context())
	conns := make([]*pgx.Conn, benchClients)
	for i := range conns {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close(ctx) })
		for n := range 20 {
			if err := live(ctx, conn, storetest.MustID(byte(0x50+i), n).String(), storetest.MustID(0xa0, i).String(), n); err != nil {
				b.Fatal(err)
			}
		}
		conns[i] = conn
	}
	return conns
}

// lives returns how many runs a second lived, in about a second.
func lives(b *testing.B, conns []*pgx.Conn, keys, first int, live func(ctx context.Context, conn *pgx.Conn, id, user string, n int) error) float64 {
	b.Helper()
	var wg sync.WaitGroup
	counts := make([]int, benchClients)
	start := time.Now()
	for w := range benchClients {
		wg.Go(func() {
			ctx := context.WithoutCancel(b.Context())
			r := rand.New(rand.NewPCG(uint64(first), uint64(w)))
			for time.Since(start) < 1200*time.Millisecond {
				id := storetest.MustID(byte(0x10+w), first+counts[w])
				if err := live(ctx, conns[w], id.String(), storetest.MustID(0xa0, r.IntN(keys)).String(), counts[w]); err != nil {
					b.Error(err)
					return
				}
				counts[w]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(start).Seconds()
}

func live(ctx context.Context, conn *pgx.Conn, id, user string, n int) error {
	steps := []string{
		`insert into workflow_runs (id, user_id, workflow_id, status) values ($1, '` + user + `', 'c0000000-0000-4000-8000-000000000001', 'pending')`,
		`update workflow_runs set status = 'running', started_at = now() where id = $1`,
		`update workflow_runs set status = 'completed', completed_at = now(), duration_ms = 1 where id = $1`,
	}
	if n%10 == 0 {
		steps[2] = `update workflow_runs set status = 'completed' where id = $1`
	}
	if n%10 == 5 {
		steps = append(steps, `update workflow_runs set status = 'running' where id = $1`)
	}
	for i, sql := range steps {
		mode := pgx.QueryExecModeCacheStatement
		if i == 0 {
			mode = pgx.QueryExecModeExec // the user is in its text
		}
		if _, err := conn.Exec(ctx, sql, mode, id); err != nil {
			return err
		}
	}
	return nil
}

// million is a database with 1,000,000 ended runs: 500,000 of one key, the
// others of 10,000 keys.
func million(b *testing.B) string {
	b.Helper()
	address := pgtest.Database(b)
	pgtest.Exec(b, address, `
create table workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, draft_id uuid, status text, started_at timestamptz,
    completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now());
insert into workflow_runs (id, user_id, workflow_id, status, completed_at)
select gen_random_uuid(), ('a0000000-0000-4000-8000-' || lpad(to_hex(case when n % 2 = 0 then 0 else n % 10000 end), 12, '0'))::uuid, 'c0000000-0000-4000-8000-000000000001',
       (array['completed', 'failed', 'cancelled', 'timeout'])[1 + n % 4], now() - n * interval '1 second'
  from generate_series(1, 1000000) as n`, `vacuum analyze workflow_runs`)
	return address
}

// BenchmarkAMillionRuns fills the counts of a million runs with writers at
// work, and then counts, audits, folds and sweeps them.
func BenchmarkAMillionRuns(b *testing.B) {
	address := million(b)
	report := func(name string, d time.Duration, more ...any) {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(d.Microseconds())/1000, "ms")
			for i := 0; i+1 < len(more); i += 2 {
				b.ReportMetric(more[i].(float64), more[i+1].(string))
			}
		})
	}
	alone := writersBeside(b, address, func() { waitFor(b.Context(), 2*time.Second) })
	var up time.Duration
	beside := writersBeside(b, address, func() { start := time.Now(); benchMigrate(b, address, migrations.Windows{}); up = time.Since(start) })
	report("migrate-up", up, alone.p99, "writer-p99-ms-alone", beside.p99, "writer-p99-ms-beside", beside.longest, "longest-writer-ms")

	s := mustOpen(b, address, Options{})
	exact(b, s)
	hot := store.KeyOf(storetest.MustID(0xa0, 0), storetest.MustID(0xc0, 1), store.ID{})
	pgtest.Exec(b, address, `vacuum analyze`)
	report("fill", once(b, func() error {
		conn, err := pgx.Connect(b.Context(), address)
		if err != nil {
			return err
		}
		defer conn.Close(b.Context())
		_, err = conn.Exec(b.Context(), mustScript(b, "20260101000002_fill_counts"), pgx.QueryExecModeSimpleProtocol)
		return err
	}))
	for _, unfolded := range []int{0, 1000, 100_000} {
		if unfolded > 0 {
			pgtest.Exec(b, address, fmt.Sprintf(`insert into workflow_runs (id, user_id, workflow_id, status, completed_at)
select gen_random_uuid(), '%s', '%s', 'completed', now() from generate_series(1, %d)`, hot.User, hot.Ref, unfolded), `vacuum analyze run_counter.ledger`)
		}
		report(fmt.Sprintf("count/unfolded=%d", unfolded), medianOf(b, 201, func() error { _, err := s.Count(b.Context(), hot.Scope(), store.AllTime); return err }))
		report(fmt.Sprintf("count-in-sql/unfolded=%d", unfolded), medianOf(b, 201, func() error {
			var n int
			return s.pool.QueryRow(b.Context(), `select get_user_workflow_run_count($1::uuid, $2::uuid)`, hot.User.String(), hot.Ref.String()).Scan(&n)
		}))
	}
	report("fold-of-101,000", once(b, func() error { _, err := s.Fold(b.Context(), time.Now(), 200_000); return err }))
	var audit time.Duration
	audited := writersBeside(b, address, func() {
		audit = once(b, func() error {
			r, err := sourcetest.SweeperOf(s).Sweep(b.Context(), store.SweepOptions{Full: true, DryRun: true})
			if err == nil && (r.Drifting > 0 || r.Audited < 5000) {
				err = fmt.Errorf("audited %d keys, %d drift", r.Audited, r.Drifting)
			}
			return err
		})
	})
	report("audit", audit, alone.p50, "writer-p50-ms-alone", audited.p50, "writer-p50-ms-beside", alone.p99, "writer-p99-ms-alone", audited.p99, "writer-p99-ms-beside")
	pgtest.Exec(b, address, `insert into workflow_runs (id, user_id, workflow_id, status, updated_at)
select gen_random_uuid(), gen_random_uuid() as user_id, 'c0000000-0000-4000-8000-000000000001', 'running', now() - interval '1 day' from generate_series(1, 10000)`)
	report("sweep-of-10,000-stuck", once(b, func() error {
		_, err := sourcetest.SweeperOf(s).Sweep(b.Context(), store.SweepOptions{})
		return err
	}))
	exact(b, s)
}

// BenchmarkInsertOfAnEndedRun is one INSERT by one client, bare and with all
// of ours.
func BenchmarkInsertOfAnEndedRun(b *testing.B) {
	with := pgtest.Database(b)
	benchMigrate(b, with, migrations.Windows{})
	bare := pgtest.Database(b)
	pgtest.Exec(b, bare, `create table workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, draft_id uuid, status text, started_at timestamptz,
    completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now())`)
	conns := make([]*pgx.Conn, 2)
	for i, address := range []string{bare, with} {
		conn, err := pgx.Connect(b.Context(), address)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close(b.Context())
		conns[i] = conn
	}
	medians(b, "inserts/s", []string{"bare", "ours"}, func(i int) float64 {
		const n = 2000
		start := time.Now()
		for range n {
			if _, err := conns[i].Exec(b.Context(), `insert into workflow_runs (id, user_id, workflow_id, status, completed_at)
values (gen_random_uuid(), 'a0000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-000000000001', 'completed', now())`); err != nil {
				b.Fatal(err)
			}
		}
		return n / time.Since(start).Seconds()
	})
}

type latencies struct{ p50, p99, longest float64 } // milliseconds

// writersBeside has four writers complete runs while something is done, and
// returns how long their transactions took.
func writersBeside(b *testing.B, address string, do func()) latencies {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	all := make([][]time.Duration, 4)
	var wg sync.WaitGroup
	for w := range all {
		wg.Go(func() {
			conn, err := pgx.Connect(ctx, address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for ctx.Err() == nil {
				start := time.Now()
				_, err := conn.Exec(ctx, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at)
values (gen_random_uuid(), gen_random_uuid(), 'c0000000-0000-4000-8000-000000000001', 'completed', now())`)
				if err != nil && ctx.Err() == nil {
					b.Error(err)
				}
				all[w] = append(all[w], time.Since(start))
				waitFor(ctx, 2*time.Millisecond)
			}
		})
	}
	do()
	cancel()
	wg.Wait()
	merged := slices.Concat(all...)
	slices.Sort(merged)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return latencies{ms(merged[len(merged)/2]), ms(merged[len(merged)*99/100]), ms(merged[len(merged)-1])}
}

func waitFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func once(b *testing.B, do func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := do(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func medianOf(b *testing.B, n int, do func() error) time.Duration {
	b.Helper()
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = once(b, do)
	}
	slices.Sort(all)
	return all[n/2]
}
