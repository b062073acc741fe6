package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// TestThroughAPooler runs the suite and some chaos through PgBouncer in
// transaction mode.
func TestThroughAPooler(t *testing.T) {
	need.Serial(t) // to the store a pooler is a server like any other
	t.Parallel()
	pooler := pgtest.Pooler(t, pgtest.Database(t))
	open := func(t testing.TB) storetest.Backend {
		return backend(t, pgtest.Through(t, sourcetest.Installed(t), pooler))
	}
	t.Run("contract", func(t *testing.T) { storetest.Run(t, open) })
	t.Run("chaos", func(t *testing.T) { storetest.SourceChaos(t, open, true, 8) })
}

func TestTheServersCertificateIsChecked(t *testing.T) {
	t.Parallel()
	server, ca := pgtest.NewTLSServer(t)
	address := pgtest.With(t, server.Database(t), "sslmode", "verify-full", "sslrootcert", ca)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	s := mustOpen(t, address, Options{})
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	_, other := pgtest.NewTLSServer(t)
	stranger, err := Open(t.Context(), pgtest.With(t, address, "sslrootcert", other), Options{})
	if err == nil || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with another authority: got %v, %v; want it refused for its certificate", stranger, err)
	}
}

// TestItComesBackAfterPostgreSQLDoes kills the server twice under writers, and
// stops it once. What was acknowledged is there, and no count is wrong.
func TestItComesBackAfterPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	address := server.Database(t)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	s := mustOpen(t, address, Options{})
	var (
		acked   sync.Map // of the runs that a caller was told had ended
		number  atomic.Int64
		writers sync.WaitGroup
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				id := storetest.MustID('1', int(number.Add(1)))
				b := store.Begin{ID: id, User: storetest.MustID('a', 1), Workflow: storetest.MustID('c', 1), Now: time.Now()}
				if _, err := s.Begin(ctx, b); err != nil {
					mustBeAbsence(t, ctx, err)
					continue
				}
				r, err := s.Complete(ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
				if err != nil {
					mustBeAbsence(t, ctx, err)
				} else if r.Won {
					acked.Store(id, true)
				}
			}
		})
	}
	writers.Go(func() {
		sweeper := sourcetest.SweeperOf(s)
		for ctx.Err() == nil {
			if r, err := sweeper.Sweep(ctx, store.SweepOptions{Full: true}); err == nil && r.Drifting > 0 {
				t.Errorf("law 1: a sweep found %+v", r.Drifts)
			} else if err != nil {
				mustBeAbsence(t, ctx, err)
			}
		}
	})
	progress := func() {
		t.Helper()
		from := number.Load()
		done := 0
		until(t, func() bool {
			done = 0
			acked.Range(func(any, any) bool { done++; return true })
			return number.Load() > from+50 && done > 20
		})
	}
	for _, end := range []func(testing.TB){server.Kill, server.Stop, server.Kill} {
		progress()
		end(t)
		server.Start(t)
	}
	progress()
	cancel()
	writers.Wait()
	exact(t, s)
	n := int64(0)
	acked.Range(func(id, _ any) bool {
		n++
		if r, err := s.Run(t.Context(), id.(store.ID)); err != nil || r.Status != store.Completed {
			t.Errorf("law 6: run %s was acknowledged, and is %s, %v", id, r.Status, err)
		}
		return true
	})
	c, err := s.Count(t.Context(), store.KeyOf(storetest.MustID('a', 1), storetest.MustID('c', 1), store.ID{}).Scope(), store.AllTime)
	if err != nil || c.Count < n {
		t.Errorf("the count is %d, %v; want at least the %d that were acknowledged", c.Count, err, n)
	}
}

// mustBeAbsence fails the test for an error that is not about a server that is
// gone.
func mustBeAbsence(t *testing.T, ctx context.Context, err error) {
	if ctx.Err() == nil && !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while the server comes and goes: %v", err)
	}
}

// TestWithoutMigrations works by direct queries, and notices when the
// migrations come.
func TestWithoutMigrations(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `
create table public.workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, draft_id uuid, status text, started_at timestamptz, completed_at timestamptz,
    duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now())`)
	s := mustOpen(t, address, Options{})
	ctx := t.Context()
	user, flow := storetest.MustID('a', 1), storetest.MustID('c', 1)
	key := store.KeyOf(user, flow, store.ID{})
	limit := int64(10)
	var begun atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			b, err := s.Begin(ctx, store.Begin{ID: storetest.MustID('1', i), User: user, Workflow: flow, Limits: store.UpTo(limit), Now: time.Now()})
			if err != nil {
				t.Errorf("Begin: %v", err)
			}
			if b.Created {
				begun.Add(1)
			}
		})
	}
	wg.Wait()
	if begun.Load() != limit {
		t.Errorf("%d runs begun at limit %d", begun.Load(), limit)
	}
	var lowest string
	if err := s.pool.QueryRow(ctx, `select min(id::text) from workflow_runs`).Scan(&lowest); err != nil {
		t.Fatal(err)
	}
	first := sourcetest.MustParse(t, lowest)
	for i, want := range []bool{true, false} {
		r, err := s.Complete(ctx, store.Completion{ID: first, Outcome: store.Outcome{Status: store.Terminals[i]}, Now: time.Now()})
		if err != nil || r.Won != want || r.Run.Status != store.Completed || r.Count.Count != 1 {
			t.Errorf("completion %d: got %+v, %v; want won %v, completed, and a count of 1", i, r, err, want)
		}
	}
	if r, err := s.FailStuck(ctx, store.FailStuck{Now: time.Now().Add(time.Hour), Limits: store.DefaultLimits(), Max: 3}); err != nil || len(r) != 3 {
		t.Errorf("FailStuck: got %d, %v; want 3", len(r), err)
	}
	if c, err := s.Count(ctx, key.Scope(), store.AllTime); err != nil || c.Count != 4 || c.LastRunAt.IsZero() {
		t.Errorf("Count: got %+v, %v; want 4", c, err)
	}
	done := store.Row{ID: first, User: user, Workflow: flow, Status: store.Completed, CompletedAt: store.Instant(time.Now()), UpdatedAt: store.Instant(time.Now())}
	if a, err := s.Apply(ctx, []store.Change{{Op: store.Insert, Record: done}}, time.Now()); err != nil || a[0].Changed || a[0].Counts[0].Count != 4 {
		t.Errorf("Apply: got %+v, %v; want nothing changed, and 4", a, err)
	}
	if counts, err := store.UserCounts(ctx, s, user, store.Key{}, 10); err != nil || len(counts) != 1 || counts[0].Count != 4 {
		t.Errorf("UserCounts: got %+v, %v; want one of 4", counts, err)
	}
	if n, err := s.Fold(ctx, time.Now(), 10); err != nil || n != 0 {
		t.Errorf("Fold: got %d, %v; want nothing", n, err)
	}
	if a, err := s.Audit(ctx, store.Audit{Max: 10}); err != nil || a.Keys != 0 {
		t.Errorf("Audit: got %+v, %v; want nothing", a, err)
	}
	if h, err := s.KeyHistory(ctx, key, 20); err != nil || len(h.Runs) != 10 || h.Active != 6 {
		t.Errorf("KeyHistory: got %+v, %v; want 10 runs, 6 active", h, err)
	}
	for what, err := range map[string]error{
		"Amend": func() error {
			_, err := s.Amend(ctx, store.AmendRequest{ID: first, Status: store.Failed, Who: "a", Why: "b"})
			return err
		}(),
		"SetPolicy":     s.SetPolicy(ctx, store.Policy{Terminal: true}),
		"a dead letter": s.KeepDeadLetter(ctx, store.DeadLetter{ReceivedAt: time.Now(), Reason: "x"}),
	} {
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "runcounter migrate up") {
			t.Errorf("%s: got %v, want what to do", what, err)
		}
	}
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	until(t, func() bool { installed, err := s.Installed(ctx); return err == nil && installed })
	var active string // whichever runs the sweep left
	if err := s.pool.QueryRow(ctx, `select id::text from workflow_runs where status = 'pending' limit 1`).Scan(&active); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Complete(ctx, store.Completion{ID: sourcetest.MustParse(t, active), Outcome: store.Outcome{Status: store.Failed}, Now: time.Now()}); err != nil || !r.Won || r.Count.Count != 5 {
		t.Errorf("after the migrations: got %+v, %v; want won, and 5", r, err)
	}
	exact(t, s)
}

// TestAPartitionedTable counts what is written to a partition directly.
func TestAPartitionedTable(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `
create table public.workflow_runs (
    id uuid not null, user_id uuid not null, workflow_id uuid, draft_id uuid, status text, started_at timestamptz, completed_at timestamptz,
    duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now()
) partition by hash (id);
create table public.runs_0 partition of public.workflow_runs for values with (modulus 2, remainder 0);
create table public.runs_1 partition of public.workflow_runs for values with (modulus 2, remainder 1);
create unique index on public.workflow_runs (id)`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	s := mustOpen(t, address, Options{})
	for _, table := range []string{"workflow_runs", "runs_0", "runs_1"} {
		pgtest.Exec(t, address, `insert into `+table+` (id, user_id, workflow_id, status)
select id, '`+ada+`', '`+adaFlow+`', 'running' from (select gen_random_uuid() as id from generate_series(1, 200)) as n
 where '`+table+`' = 'workflow_runs' or satisfies_hash_partition('workflow_runs'::regclass, 2, case '`+table+`' when 'runs_0' then 0 else 1 end, id)`,
			`update `+table+` set status = 'completed'`, `update `+table+` set status = 'running', completed_at = null`)
		exact(t, s)
	}
	pgtest.Exec(t, address, `delete from runs_0 where id < '80000000-0000-0000-0000-000000000000'`)
	exact(t, s)
	if a, err := s.Audit(t.Context(), store.Audit{Max: 10}); err != nil || a.Keys != 1 || len(a.Drifts) > 0 {
		t.Errorf("Audit: got %+v, %v; want one key, and no drift", a, err)
	}
}

// TestWhatTriggersDidNotSeeIsFoundAndRepaired restores rows as a dump does.
func TestWhatTriggersDidNotSeeIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1)
	pgtest.Exec(t, f.address, `set session_replication_role = replica; `+f.insert(2)+`; delete from workflow_runs where id = '`+storetest.MustID('2', 1).String()+`'; `+
		strings.Replace(f.insert(3), f.key.User.String(), bob, 1))
	sweeper := sourcetest.SweeperOf(f.store)
	r, err := sweeper.Sweep(t.Context(), store.SweepOptions{Full: true})
	if err != nil || r.Drifting != 1 || r.Corrected != 1 { // one for one at the first key, which is right again
		t.Errorf("the sweep: %+v, %v; want one key repaired", r, err)
	}
	exact(t, f.store)
	if r, err := sweeper.Sweep(t.Context(), store.SweepOptions{Full: true}); err != nil || r.Drifting != 0 {
		t.Errorf("a second sweep: %+v, %v; want nothing", r, err)
	}
}

// TestASampleGoesRoundOnce looks from before, between and behind three keys, of
// which one is wrong: each is compared once, wherever the look begins.
func TestASampleGoesRoundOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1)
	for _, user := range []string{"10000000-0000-4000-8000-000000000000", "f0000000-0000-4000-8000-000000000000"} {
		pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status) values (gen_random_uuid(), '`+user+`', '`+adaFlow+`', 'completed')`)
	}
	pgtest.Exec(t, f.address, `insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n) values ('f0000000-0000-4000-8000-000000000000', 'workflow', '`+adaFlow+`', 'failed', false, 1)`)
	i, err := Inspect(t.Context(), f.address, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for _, first := range []byte{0x01, 0x20, 0xe0, 0xff} {
		from := store.UUID([16]byte{first})
		for _, limit := range []int{3, 10} {
			a, err := i.Drift(t.Context(), store.KeyOf(from, from, store.ID{}), limit)
			if err != nil || a.Keys != 3 || len(a.Drifts) != 1 {
				t.Errorf("from %x, at most %d: got %d keys and %d drifts, %v; want 3 and 1", first, limit, a.Keys, len(a.Drifts), err)
			}
		}
	}
}

// TestErrorsDoNotRepeatTheAddress tries addresses that lead nowhere.
func TestErrorsDoNotRepeatTheAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"postgres://user:hunter2@127.0.0.1:1/db", "postgres://user:hunter2@127.0.0.1:port/db",
		"postgres://user:hunter2@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=/nowhere/ca.crt", "postgres://user:hunter2%zz@127.0.0.1/db",
	} {
		s, err := Open(t.Context(), address, Options{})
		if err == nil {
			s.Close()
			t.Errorf("%s: opened", address)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
}
