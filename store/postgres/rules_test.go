package postgres

import (
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestRulesOfTheTable: which rules could be against what the guard patches. A
// session that has asked before learns of each as it comes and as it goes.
func TestRulesOfTheTable(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	pgtest.Exec(t, address, `create table words (w text primary key); create function f(text) returns boolean language sql immutable as 'select true'; create function g(workflow_runs) returns boolean language sql stable as 'select true';
		create type mood as enum ('a'); alter table workflow_runs add mood mood, add price numeric; create operator ~~~ (leftarg = text, rightarg = text, function = texteq)`)
	pooled := sourcetest.MustConnect(t, address)
	const ask = `select run_counter.rules('workflow_runs'::regclass)`
	asked := func() (rules int) {
		t.Helper()
		if err := pooled.QueryRow(t.Context(), ask, pgx.QueryExecModeCacheStatement).Scan(&rules); err != nil {
			t.Fatal(err)
		}
		return rules
	}
	if got := asked(); got != 0 {
		t.Fatalf("got %d for the table as it is, want 0", got)
	}
	for _, tt := range []struct {
		name, rule, undo string
		want             int
	}{
		{"words of a status", `alter table workflow_runs add constraint c check (status in ('pending', 'running', 'completed') and status is not null)`, `alter table workflow_runs drop constraint c`, 0},
		{"words that no run was asked for", `alter table workflow_runs add constraint c check (status <> 'x') not valid`, `alter table workflow_runs drop constraint c`, 2},
		{"a function of the status", `alter table workflow_runs add constraint c check (f(status))`, `alter table workflow_runs drop constraint c`, 2},
		{"an operator of the application's", `alter table workflow_runs add constraint c check (status ~~~ status)`, `alter table workflow_runs drop constraint c`, 2},
		{"a status at a time", `alter table workflow_runs add constraint c check (status <> 'x' or current_date > '2000-01-01')`, `alter table workflow_runs drop constraint c`, 2},
		{"a function of PostgreSQL's", `alter table workflow_runs add constraint c check (length(status) > 1)`, `alter table workflow_runs drop constraint c`, 2},
		{"status and end", `alter table workflow_runs add constraint c check ((completed_at is null) or (status <> 'running'))`, `alter table workflow_runs drop constraint c`, 3},
		{"an end", `alter table workflow_runs add constraint c check (completed_at >= started_at)`, `alter table workflow_runs drop constraint c`, 1},
		{"a duration", `alter table workflow_runs add constraint c check (duration_ms >= 0)`, `alter table workflow_runs drop constraint c`, 1},
		{"the details", `alter table workflow_runs add constraint c check (error_details is null)`, `alter table workflow_runs drop constraint c`, 4},
		{"what is none of ours", `alter table workflow_runs add constraint c check (price > 0)`, `alter table workflow_runs drop constraint c`, 0},
		{"the whole row", `alter table workflow_runs add constraint c check (num_nulls(workflow_runs.*) >= 0)`, `alter table workflow_runs drop constraint c`, 7},
		{"what is generated", `alter table workflow_runs add late boolean generated always as (completed_at < started_at) stored`, `alter table workflow_runs drop column late`, 7},
		{"details that have to be there", `alter table workflow_runs alter error_details set default '{}', alter error_details set not null`, `alter table workflow_runs alter error_details drop not null`, 4},
		{"a duration that has to be there", `alter table workflow_runs alter duration_ms set not null`, `alter table workflow_runs alter duration_ms drop not null`, 5},
		{"an end of one run alone", `create unique index i on workflow_runs (user_id, completed_at)`, `drop index i`, 1},
		{"one that is running", `create unique index i on workflow_runs (user_id) where status = 'running'`, `drop index i`, 2},
		{"one that has no end", `create unique index i on workflow_runs (user_id, (completed_at is null))`, `drop index i`, 1},
		{"one that is named", `create unique index i on workflow_runs (user_id, price)`, `drop index i`, 0},
		{"an index that is not unique", `create index i on workflow_runs (status, completed_at)`, `drop index i`, 0},
		{"an exclusion", `alter table workflow_runs add constraint c exclude using gist (tstzrange(started_at, completed_at) with &&)`, `alter table workflow_runs drop constraint c`, 1},
		{"a table of words", `alter table workflow_runs add constraint c foreign key (status) references words`, `alter table workflow_runs drop constraint c`, 2},
		{"another table", `alter table workflow_runs add constraint c foreign key (mood, price) references workflow_runs (mood, price)`, `alter table workflow_runs drop constraint c`, 0},
		{"a policy of a user's runs", `alter table workflow_runs enable row level security; create policy p on workflow_runs using (user_id is not null)`, `drop policy p on workflow_runs`, 0},
		{"a policy of a status", `create policy p on workflow_runs with check (status <> 'completed')`, `drop policy p on workflow_runs`, 2},
		{"a policy of rows", `create policy p on workflow_runs using (g(workflow_runs))`, `drop policy p on workflow_runs`, 7},
		{"a policy that is altered", `create policy p on workflow_runs using (true); alter policy p on workflow_runs using (completed_at is null)`, `drop policy p on workflow_runs`, 1},
		{"a policy that is not asked", `alter table workflow_runs disable row level security; create policy p on workflow_runs using (status <> 'completed')`, `drop policy p on workflow_runs`, 0},
		{"what names the end otherwise", `alter table workflow_runs rename completed_at to ended; alter table workflow_runs add constraint c check (ended is null)`, `alter table workflow_runs drop constraint c; alter table workflow_runs rename ended to completed_at`, 1},
	} {
		if tt.name == "another table" {
			pgtest.Exec(t, address, `alter table workflow_runs add unique (mood, price)`)
		}
		pgtest.Exec(t, address, tt.rule)
		if got := asked(); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
		pgtest.Exec(t, address, tt.undo)
		if got := asked(); got != 0 {
			t.Errorf("%s: got %d when it has gone, want 0", tt.name, got)
		}
	}
	// What is rolled back was none.
	tx, err := pooled.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `alter table workflow_runs add constraint c check (completed_at is null)`); err != nil {
		t.Fatal(err)
	}
	if got := asked(); got != 1 {
		t.Errorf("got %d in the transaction that makes it, want 1", got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := asked(); got != 0 {
		t.Errorf("got %d when it was rolled back, want 0", got)
	}
}

// TestARuleThatCameSince migrate up: the guard gives way to it whole, but not for an
// end user, until a sweep lets it be asked. What asks it goes when it does.
func TestARuleThatCameSince(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `grant all on workflow_runs to authenticated`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, sourcetest.Begun(runOne), `update workflow_runs set status = 'completed', completed_at = now(), started_at = now() - interval '1 minute'`)
	const asking = `select count(*) from pg_trigger where tgrelid = 'workflow_runs'::regclass and tgname = 'zzzz_run_counter_guard_yields'`
	sourcetest.MustBe(t, address, asking, "0")
	pgtest.Exec(t, address, `alter table workflow_runs add constraint c check (completed_at >= started_at)`)
	_, _, err := newCaller(t, address).as("bob", `update workflow_runs set status = 'running', completed_at = null, started_at = now() + interval '1 minute'`)
	if broken := new(pgconn.PgError); !errors.As(err, &broken) || broken.ConstraintName != "c" {
		t.Errorf("an end user's statement that breaks it came to %v, want the check's own refusal", err)
	}
	pgtest.Exec(t, address, sourcetest.AsBob(`update workflow_runs set status = 'running', completed_at = null`))
	sourcetest.MustBe(t, address, `select status from workflow_runs where completed_at is not null`, "completed")
	pgtest.Exec(t, address, `update workflow_runs set status = 'running', completed_at = null`)
	sourcetest.MustBe(t, address, `select status from workflow_runs where completed_at is null`, "running")
	sourcetest.MustBe(t, address, `select count(*) from run_counter.repairs where kind = 'gave_way'`, "1")
	audited(t, address)

	if _, err := sourcetest.SweeperOf(mustOpen(t, address, Options{})).Sweep(t.Context(), store.SweepOptions{}); err != nil {
		t.Fatal(err)
	}
	sourcetest.MustBe(t, address, asking, "1")
	pgtest.Exec(t, address, `update workflow_runs set status = 'completed', completed_at = now()`, `update workflow_runs set status = 'running', completed_at = null`)
	sourcetest.MustBe(t, address, `select status from workflow_runs where completed_at is not null`, "completed")
	pgtest.Exec(t, address, `update workflow_runs set status = 'running', completed_at = null, started_at = now() + interval '1 hour'`)
	sourcetest.MustBe(t, address, `select status from workflow_runs where completed_at is null`, "running")

	pgtest.Exec(t, address, `alter table workflow_runs drop constraint c`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	sourcetest.MustBe(t, address, asking, "0")
}

// TestRulesInAnOlderSnapshot: what a transaction of another isolation has read is
// not kept for those behind it.
func TestRulesInAnOlderSnapshot(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	pooled := sourcetest.MustConnect(t, address)
	run := func(sql ...string) {
		t.Helper()
		for _, one := range sql {
			if _, err := pooled.Exec(t.Context(), one, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatalf("%s: %v", one, err)
			}
		}
	}
	run(`begin isolation level repeatable read`, `select 1`)
	pgtest.Exec(t, address, `alter table workflow_runs add constraint c check (completed_at >= started_at)`, `select run_counter.settle_yields()`)
	run(`insert into workflow_runs (id, user_id, workflow_id, status, started_at) values ('`+runOne+`', '`+ada+`', '`+adaFlow+`', 'completed', now() - interval '1 minute')`, `commit`,
		`update workflow_runs set status = 'running', completed_at = null where id = '`+runOne+`'`)
	sourcetest.MustBe(t, address, `select status from workflow_runs where completed_at is not null`, "completed")
	run(`update workflow_runs set status = 'running', completed_at = null, started_at = now() + interval '1 minute' where id = '` + runOne + `'`)
	sourcetest.MustBe(t, address, `select status from workflow_runs`, "running")
}

// TestRulesAreSettled by who may, where they have to be.
func TestRulesAreSettled(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `grant all on workflow_runs to authenticated`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	sweep := func(address string) {
		t.Helper()
		if _, err := sourcetest.SweeperOf(mustOpen(t, address, Options{})).Sweep(t.Context(), store.SweepOptions{}); err != nil {
			t.Errorf("a sweep: %v", err)
		}
	}
	sweep(pgtest.As(t, address, newRole(t, address, `bypassrls inherit in role service_role`)))

	// In between an end user takes nothing back, dated or not.
	pgtest.Exec(t, address, sourcetest.Begun(runOne), `alter table workflow_runs add constraint c check (completed_at >= created_at)`,
		sourcetest.AsBob(`update workflow_runs set status = 'completed'`), sourcetest.AsBob(`update workflow_runs set status = 'running'`))
	sourcetest.MustBe(t, address, `select status from workflow_runs where completed_at is not null`, "completed")

	const asking = `select string_agg(tgname || ' ' || tgenabled::text, ', ' order by tgname) from pg_trigger where tgrelid = 'workflow_runs'::regclass and tgname ~ 'yields|forget'`
	const both = "zzzz_run_counter_forget O, zzzz_run_counter_guard_yields O"
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	sourcetest.MustBe(t, address, asking, both)
	for _, off := range []string{`disable trigger user`, `enable replica trigger zzzz_run_counter_guard_yields`} { // a bulk load
		pgtest.Exec(t, address, `alter table workflow_runs `+off)
		sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
		sourcetest.MustBe(t, address, asking, both)
		pgtest.Exec(t, address, `alter table workflow_runs enable trigger user`)
	}

	// A dump that was restored has other oids, and what was dropped has left no number.
	pgtest.Exec(t, address, `alter table workflow_runs drop constraint c; select run_counter.settle_yields(); alter table workflow_runs drop duration_ms, add duration_ms integer check (duration_ms >= 0)`)
	sourcetest.MustBe(t, address, `select run_counter.rules('workflow_runs'::regclass)`, "1")
	pgtest.Exec(t, address, `create or replace function run_counter.rules(p_table oid) returns integer language plpgsql stable set search_path = pg_catalog, pg_temp as 'begin return case p_table when ''1''::oid then 0 else run_counter.read_rules(p_table) end; end'`)
	sourcetest.MustBe(t, address, `select run_counter.rules('workflow_runs'::regclass)`, "1")
	sweep(address)
	sourcetest.MustBe(t, address, `select prosrc like '%''' || 'workflow_runs'::regclass::oid || '''::oid%' from pg_proc where oid = 'run_counter.rules(oid)'::regprocedure`, "t")
	sourcetest.MustBe(t, address, asking, both)

	pgtest.Exec(t, address, `select run_counter.detach()`)
	sweep(address)
	sourcetest.MustBe(t, address, `select count(*) from pg_trigger where tgrelid = 'workflow_runs'::regclass and not tgisinternal`, "0")
}

// TestAPolicyOfAPartitionedTableComes between two writes of a session, and the guard
// gives way to it in each partition.
func TestAPolicyOfAPartitionedTableComes(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, sourcetest.Partitioned, `alter table workflow_runs enable row level security; create policy a on workflow_runs using (true)`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	app := newRole(t, address, ``)
	pgtest.Exec(t, address, sourcetest.Begun(runOne), sourcetest.Begun(runTwo), `grant all on workflow_runs to `+app)
	pooled := sourcetest.MustConnect(t, pgtest.As(t, address, app))
	for _, one := range []string{runOne, runTwo} {
		if _, err := pooled.Exec(t.Context(), `update workflow_runs set status = 'completed' where id = '`+one+`'`); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Exec(t, address, `create policy p on workflow_runs as restrictive for update using (true) with check (status <> 'completed')`)
	if _, err := pooled.Exec(t.Context(), `update workflow_runs set status = 'running', completed_at = null where id = '`+runOne+`'`); err != nil {
		t.Error(err)
	}
	sourcetest.MustBe(t, address, `select status from workflow_runs where id = '`+runOne+`'`, "running")
	audited(t, address)
}

// newRole makes a role that may sign in, and drops it with the test.
func newRole(t *testing.T, address, options string) string {
	t.Helper()
	name := "runcounter_app_" + strconv.Itoa(os.Getpid()) + "_" + strconv.FormatUint(roles.Add(1), 10)
	admin := pgtest.Admin(t, address)
	pgtest.Exec(t, admin, `create role `+name+` login `+options+` password '`+pgtest.Password+`'`)
	t.Cleanup(func() { pgtest.Exec(t, admin, `drop owned by `+name, `drop role `+name) })
	return name
}

var roles atomic.Uint64
