package postgres

import (
	"strings"
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

// partitionedTable has a leaf for January, one that is partitioned again for
// February, and one for the rest.
const partitionedTable = `
create table public.workflow_runs (
    id uuid not null default gen_random_uuid(), user_id uuid not null, workflow_id uuid, draft_id uuid, status text default 'pending', started_at timestamptz, completed_at timestamptz,
    duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
    primary key (id, created_at)
) partition by range (created_at);
create table public.january partition of public.workflow_runs for values from ('2026-01-01') to ('2026-02-01');
create table public.february partition of public.workflow_runs for values from ('2026-02-01') to ('2026-03-01') partition by hash (id);
create table public."february 0" partition of public.february for values with (modulus 2, remainder 0);
create table public."february 1" partition of public.february for values with (modulus 2, remainder 1);
create table public.others partition of public.workflow_runs default;`

// partitionedRuns gives each partition runs of each status, of two keys: some of
// them presumed.
const partitionedRuns = `
with runs as (
    insert into workflow_runs (user_id, workflow_id, draft_id, status, created_at, completed_at)
    select 'a1000000-0000-4000-8000-000000000001', case when n % 2 = 0 then 'c1000000-0000-4000-8000-000000000001'::uuid end,
           case when n % 2 = 1 then 'c1000000-0000-4000-8000-000000000001'::uuid end, s.status, make_date(2026, m, 1 + n), case when s.status <> 'running' then now() end
      from generate_series(1, 3) as m, generate_series(1, 8) as n, unnest(array['completed', 'failed', 'cancelled', 'timeout', 'running']) as s (status)
    returning *
)
insert into run_counter.presumed (run_id, ended_at, user_id, kind, ref_id, status)
select id, completed_at, user_id, case when draft_id is null then 'workflow' else 'draft' end, coalesce(draft_id, workflow_id), status
  from runs where status <> 'running' and extract(day from created_at) < 5`

func newPartitioned(t testing.TB) *fixture {
	t.Helper()
	return newPartitionedIn(t, pgtest.Database(t))
}

func newPartitionedIn(t testing.TB, address string) *fixture {
	t.Helper()
	f := &fixture{TB: t, address: address, key: store.KeyOf(sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow), store.ID{})}
	pgtest.Exec(t, f.address, partitionedTable)
	sourcetest.Migrate(t, f.address, (*migrations.Migrator).Up)
	f.store = mustOpen(t, f.address, Options{})
	var err error
	if f.db, err = f.store.features(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// fold folds all that is committed.
func (f *fixture) fold() {
	f.Helper()
	if _, err := f.store.Fold(f.Context(), time.Now(), 1000); err != nil {
		f.Fatal(err)
	}
}

// TestCaseT14_TruncateOfPartitionsIsCounted takes away leaves, a table between,
// the root, and several at once: in the transaction that does it and in every
// snapshot beside it, while others write.
func TestCaseT14_TruncateOfPartitionsIsCounted(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	pgtest.Exec(t, f.address, partitionedRuns)
	f.fold()
	exact(t, f.store)
	for _, tables := range []string{
		`january`, `"february 1"`, `february`, `workflow_runs`, `workflow_runs, january`, `january, workflow_runs`, `january, "february 0"`, `january, february, "february 0"`,
	} {
		t.Run(tables, func(t *testing.T) {
			f := &fixture{TB: t, address: f.address, store: f.store, db: f.db, key: f.key}
			f.inTransaction(func(tx pgx.Tx) {
				execute(t, tx, partitionedRuns) // some are folded, and some stand in the ledger
				sourcetest.Exact(t, tx)
				execute(t, tx, `truncate `+tables)
				sourcetest.Exact(t, tx)
				execute(t, tx, partitionedRuns+`; truncate `+tables+`; `+partitionedRuns)
				sourcetest.Exact(t, tx)
				var marks, left int
				err := tx.QueryRow(t.Context(), `select count(*) filter (where r.id is null), count(r.id) from run_counter.presumed as p left join workflow_runs as r on r.id = p.run_id`).Scan(&marks, &left)
				if err != nil || marks != 0 || left == 0 {
					t.Errorf("%d marks of runs that are gone are left, and %d of others, %v; want none, and some", marks, left, err)
				}
			})
		})
	}
	t.Run("beside writers", func(t *testing.T) {
		f := &fixture{TB: t, address: f.address, store: f.store, db: f.db, key: f.key}
		stop := f.watch()
		var writers sync.WaitGroup
		for range 2 {
			s := f.session()
			writers.Go(func() {
				for range 20 {
					for _, sql := range []string{partitionedRuns, `update workflow_runs set status = 'completed' where status = 'running' and created_at >= '2026-02-10'`} {
						if _, err := s.conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		truncating := f.session()
		for range 10 {
			for _, tables := range []string{`january`, `"february 0"`, `workflow_runs`, `january, february`} {
				if _, err := truncating.conn.Exec(t.Context(), `truncate `+tables); err != nil {
					t.Error(err)
				}
				f.fold()
			}
		}
		writers.Wait()
		stop()
		exact(t, f.store)
	})
}

// TestCaseT14_TruncateOfAPartitionInRepeatableReadIsRepairedByTheNextSweep: its
// snapshot is older than what it takes away.
func TestCaseT14_TruncateOfAPartitionInRepeatableReadIsRepairedByTheNextSweep(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	old := f.session()
	old.do(`begin isolation level repeatable read`, `select count(*) from workflow_runs`)
	pgtest.Exec(t, f.address, `insert into january (user_id, workflow_id, status, created_at) values ('`+ada+`', '`+adaFlow+`', 'completed', '2026-01-01')`)
	old.do(`truncate january`, `commit`)
	if got := f.drifts(); got != 1 {
		t.Fatalf("%d keys drift, want the one that the TRUNCATE could not see", got)
	}
	r, err := sourcetest.SweeperOf(f.store).Sweep(t.Context(), store.SweepOptions{})
	if err != nil || !r.Full || r.Corrected != 1 {
		t.Errorf("a sweep: %+v, %v; want it full, and the key repaired", r, err)
	}
	exact(t, f.store)
}

// TestCaseT14_WhatIsNoPartitionAnyMoreIsNotCounted empties one after it was
// detached, whose runs were taken from no count, and takes all back.
func TestCaseT14_WhatIsNoPartitionAnyMoreIsNotCounted(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	pgtest.Exec(t, f.address, partitionedRuns, `alter table workflow_runs detach partition january`)
	before, err := f.store.Count(t.Context(), f.key.Scope(), store.AllTime)
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, f.address, `truncate january`)
	if after, err := f.store.Count(t.Context(), f.key.Scope(), store.AllTime); err != nil || after.Tallies != before.Tallies {
		t.Errorf("after the TRUNCATE: got %+v, %v; want %+v as before", after.Tallies, err, before.Tallies)
	}
	sourcetest.Migrate(t, f.address, (*migrations.Migrator).Down)
	pgtest.Exec(t, f.address, `truncate january, february`)
}

// TestCaseARunThatMovesToAnotherPartitionIsTheSameRun: for PostgreSQL it is
// deleted and inserted.
func TestCaseARunThatMovesToAnotherPartitionIsTheSameRun(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status, created_at, updated_at)
values ('`+storetest.MustID('1', 1).String()+`', '`+ada+`', '`+adaFlow+`', 'running', '2026-01-01', '2026-01-01')`)
	if got := f.failStuck(); len(got) != 1 {
		t.Fatalf("FailStuck: got %+v, want the run", got)
	}
	for _, set := range []string{
		`created_at = '2026-02-01'`, `created_at = '2026-03-01', user_id = '` + bob + `'`, `created_at = '2026-01-01', workflow_id = null`,
		`created_at = '2026-02-01', workflow_id = null, draft_id = '` + bobFlow + `'`, `created_at = '2026-02-02', draft_id = null, workflow_id = '` + adaFlow + `'`,
	} {
		pgtest.Exec(t, f.address, `update workflow_runs set `+set)
		if got := f.runOne(1); !got.Presumed || got.Status != store.Failed {
			t.Errorf("%s: got %+v, want it presumed as before", set, got)
		}
		exact(t, f.store)
	}
	pgtest.Exec(t, f.address, `update workflow_runs set status = 'completed', created_at = '2026-03-01'`)
	if got := f.runOne(1); got.Presumed || got.Status != store.Completed {
		t.Errorf("a real outcome that moves it: got %+v, want it completed for real", got)
	}
	sourcetest.MustBe(t, f.address, `select count(*) from run_counter.presumed`, "0")
	exact(t, f.store)
	pgtest.Exec(t, f.address, `update workflow_runs set status = 'running', created_at = '2026-01-01'`)
	if got := f.runOne(1); got.Status != store.Completed {
		t.Errorf("a late running that moves it: got %+v, want the first outcome", got)
	}
	exact(t, f.store)
	pgtest.Exec(t, f.address, `delete from workflow_runs`)
	exact(t, f.store)
}

// TestCaseAnEndUsersRunMovesToAnotherPartition: the UPDATE is looked at, and
// neither the DELETE nor the INSERT that PostgreSQL makes of it. Those that are
// meant are refused.
func TestCaseAnEndUsersRunMovesToAnotherPartition(t *testing.T) {
	t.Parallel()
	address := mustEditedFixture(t, partitionedApp("range (created_at)", "id, created_at", `
create table recent partition of workflow_runs for values from (now() - interval '50 days') to (now() - interval '10 days'); create table others partition of workflow_runs default`))
	pgtest.Exec(t, address, `update workflow_runs set created_at = now() - interval '40 days', started_at = now() - interval '40 days'`,
		`update workflow_runs set status = 'timeout', completed_at = now() where id = '00000000-0000-4000-8000-0000000000b5'`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	c := newCaller(t, address)
	const timedOut = "00000000-0000-4000-8000-0000000000b5"
	set := func(what, id string) string {
		return `update workflow_runs set created_at = now(), ` + what + ` where id = '` + id + `' returning tableoid::regclass || ' ' || status`
	}
	for _, tt := range []struct{ sql, want string }{
		{set(`status = 'completed'`, active), "others completed"},
		{set(`status = 'cancelling'`, active), "others cancelling"},
		{set(`metadata = '{}'`, bobsRun), "others completed"},
		{set(`status = 'running'`, bobsRun), "others completed"},
		{set(`metadata = '{}'`, timedOut), "others timeout"},
	} {
		if got, _, err := c.as("bob", tt.sql); err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %s", tt.sql, got, err, tt.want)
		}
	}
	again := func(what, columns, values string) string {
		return `with gone as (` + what + ` returning 1) insert into workflow_runs (id, ` + columns + `) select '` + bobsRun + `', ` + values + ` from gone`
	}
	remove := `delete from workflow_runs where id = '` + bobsRun + `'`
	for _, sql := range []string{
		remove, `delete from recent`, remove + ` and created_at < now()`,
		set(`status = 'cancelled'`, active), set(`workflow_id = '`+adaFlow+`'`, active), set(`started_at = '2020-01-01'`, active),
		again(remove, `user_id, workflow_id, status`, `'`+bob+`', '`+bobFlow+`', 'running'`),
		again(remove, `user_id, workflow_id, status, completed_at`, `'`+bob+`', '`+adaFlow+`', 'completed', now()`),
		again(remove, `user_id, workflow_id, status, completed_at`, `'`+bob+`', '`+bobFlow+`', 'timeout', now()`),
	} {
		if _, _, err := c.as("bob", sql); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: got %v, want it refused", sql, err)
		}
	}
}

// TestCaseT14_UpSaysThatPartitionsCameAndWent: where it counts all runs anew, for
// a table that was altered.
func TestCaseT14_UpSaysThatPartitionsCameAndWent(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	pgtest.Exec(t, f.address, partitionedRuns, `alter table workflow_runs detach partition january`,
		`create table march partition of workflow_runs for values from ('2026-04-01') to ('2026-05-01')`, `alter table workflow_runs drop column state_snapshot`)
	var said []string
	sourcetest.Migrate(t, f.address, func(m *migrations.Migrator) error { defer func() { said = m.Said() }(); return m.Up() })
	if text := strings.Join(said, "; "); !strings.Contains(text, "(gone: public.january; new: public.march)") {
		t.Errorf("got %q, want both named", text)
	}
	exact(t, f.store)
	pgtest.Exec(t, f.address, `insert into march (user_id, workflow_id, status, created_at) values ('`+ada+`', '`+adaFlow+`', 'completed', '2026-04-02')`, `truncate march`)
	exact(t, f.store)
}

// TestCaseT13_ARunThatEndsMovesToThePartitionOfItsStatus, by whom it may be ended,
// and a presumed one to that of the outcome that supersedes it.
func TestCaseT13_ARunThatEndsMovesToThePartitionOfItsStatus(t *testing.T) {
	t.Parallel()
	address := mustEditedFixture(t, partitionedApp("list (status)", "id, status, user_id", `
create table ended partition of workflow_runs for values in ('completed', 'failed', 'cancelled', 'timeout') partition by hash (user_id);
create table ended_0 partition of ended for values with (modulus 2, remainder 0);
create table ended_1 partition of ended for values with (modulus 2, remainder 1);
create table others partition of workflow_runs default`))
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	c := newCaller(t, address)
	for _, tt := range []struct{ role, sql, want string }{
		{"bob", `update workflow_runs set status = 'completed' where id = '` + active + `' returning tableoid::regclass::text like 'ended%' and completed_at is not null`, "t"},
		{"bob", `update workflow_runs set status = 'cancelling' where id = '` + active + `' returning tableoid::regclass::text = 'others'`, "t"},
		{"bob", `select complete_workflow_run('` + active + `', 'failed')`, "t"},
		{"service_role", `update workflow_runs set status = 'running' where id = '` + bobsRun + `' returning status = 'completed'`, "t"},
		{"service_role", `update workflow_runs set user_id = '` + ada + `' where id = '` + bobsRun + `' returning status = 'completed'`, "t"},
	} {
		if got, _, err := c.as(tt.role, tt.sql); err != nil || got != tt.want {
			t.Errorf("%s: %s: got %q, %v; want %s", tt.role, tt.sql, got, err, tt.want)
		}
	}
	if _, _, err := c.as("bob", `delete from workflow_runs`); err == nil || !strings.Contains(err.Error(), "can't delete workflow runs") {
		t.Errorf("bob deletes: got %v, want it refused", err)
	}
	f := &fixture{TB: t, address: address, store: mustOpen(t, address, Options{})}
	pgtest.Exec(t, address, `update workflow_runs set updated_at = now() - interval '1 day', started_at = now() - interval '1 day' where id = '`+active+`'`, `alter table workflow_runs disable trigger touch`,
		`update workflow_runs set updated_at = now() - interval '1 day' where id = '`+active+`'`)
	if got := f.failStuck(); len(got) == 0 {
		t.Fatal("FailStuck: got none, want the run")
	}
	exact(t, f.store)
	sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed where run_id = '`+active+`' and status = 'failed'`, "1")
	pgtest.Exec(t, address, `update workflow_runs set user_id = '`+ada+`' where id = '`+active+`'`)
	exact(t, f.store)
	sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed where run_id = '`+active+`' and user_id = '`+ada+`'`, "1")
	pgtest.Exec(t, address, `update workflow_runs set status = 'completed' where id = '`+active+`'`)
	sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed where run_id = '`+active+`'`, "0")
	sourcetest.MustBe(t, address, `select status from workflow_runs where id = '`+active+`'`, "completed")
	exact(t, f.store)
}

// TestCaseT14_APartitionWhoseSchemaIsClosedToUs is emptied as it is without us, and
// the next sweep repairs the counts.
func TestCaseT14_APartitionWhoseSchemaIsClosedToUs(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, partitionedTable, `create schema archive; drop table others; create table archive.others partition of workflow_runs default`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, partitionedRuns)
	pgtest.Exec(t, pgtest.Admin(t, address), `alter schema archive owner to postgres`, `truncate archive.others`)
	s := mustOpen(t, address, Options{})
	if r, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{}); err != nil || r.Drifting == 0 || r.Corrected != r.Drifting {
		t.Errorf("got %+v, %v; want the counts repaired", r, err)
	}
	exact(t, s)
}

// TestCaseT10_NoAlterOfPartitionsIsTheVictimOfADeadlock: what looks at the table
// keeps no lock on a partition of it, since an ALTER locks the table first, and
// what looks twice in a transaction would wait for that.
func TestCaseT10_NoAlterOfPartitionsIsTheVictimOfADeadlock(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	var p store.Partitions
	err := pgx.BeginFunc(t.Context(), f.store.pool, func(tx pgx.Tx) (err error) {
		if _, _, err := catalogOf(t.Context(), tx, "public", "workflow_runs"); err != nil {
			return err
		}
		if p, err = f.db.partitions(t.Context(), tx); err != nil {
			return err
		}
		var held []string
		err = tx.QueryRow(t.Context(), `select coalesce(array_agg(c.relname), '{}') from pg_locks as l join pg_class as c on c.oid = l.relation where l.pid = pg_backend_pid() and c.relispartition and c.relkind in ('r', 'p')`).Scan(&held)
		if len(held) > 0 {
			t.Errorf("holds %s", held)
		}
		return err
	})
	if err != nil || len(p.IDs) != 4 {
		t.Errorf("got %v, %v; want four partitions", p.IDs, err)
	}
}
