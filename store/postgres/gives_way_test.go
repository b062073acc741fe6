package postgres

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestCaseT8_TheGuardGivesWay: where keeping an outcome would break a rule of the
// table, a statement that works without us works, and the run is listed. End users
// can't break a rule to take an outcome back.
func TestCaseT8_TheGuardGivesWay(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `grant all on workflow_runs to authenticated`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	const retry = `update workflow_runs set status = 'running', started_at = now(), completed_at = null`
	began := func(rule string) {
		t.Helper()
		pgtest.Exec(t, address, `delete from workflow_runs; delete from run_counter.repairs`, rule)
		sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
		pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, started_at, completed_at) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'completed', now() - interval '2 minutes', now() - interval '1 minute')`)
	}
	const listed = `select count(*) from run_counter.repairs where run_id = '` + runOne + `' and kind = 'gave_way' and was = 'completed' and status = 'running' and times = 2`
	for name, rule := range map[string][2]string{
		"a check":                      {`add constraint c check (completed_at >= started_at)`, `drop constraint c`},
		"a check that is not valid":    {`add constraint c check (completed_at >= started_at) not valid`, `drop constraint c`},
		"a check that raises":          {`add constraint c check (1 / (extract(epoch from completed_at - started_at)::integer - extract(epoch from completed_at - started_at)::integer + case when completed_at < started_at then 0 else 1 end) > 0)`, `drop constraint c`},
		"a generated range":            {`add span tstzrange generated always as (tstzrange(started_at, completed_at)) stored`, `drop column span`},
		"a check of what is generated": {`add late boolean generated always as (completed_at < started_at) stored, add constraint c check (not late)`, `drop column late`},
		"what may be unique":           {`add constraint c unique (started_at, completed_at)`, `drop constraint c`},
	} {
		began(`alter table workflow_runs ` + rule[0])
		pgtest.Exec(t, address, retry)
		sourcetest.MustBe(t, address, `select status from workflow_runs where completed_at is null`, "running")
		pgtest.Exec(t, address, `update workflow_runs set status = 'completed', completed_at = now()`, `update workflow_runs set status = 'running', completed_at = null, started_at = now()`)
		sourcetest.MustBe(t, address, listed, "1")
		audited(t, address)
		began(``)
		if name == "a check" {
			_, _, err := newCaller(t, address).as("bob", retry)
			if err == nil || !strings.Contains(err.Error(), `"c"`) {
				t.Errorf("%s: an end user's statement that breaks it came to %v, want the check's own refusal", name, err)
			}
			pgtest.Exec(t, address, `update run_counter.settings set hardening = false`, sourcetest.AsBob(retry), `update run_counter.settings set hardening = true`)
			sourcetest.MustBe(t, address, `select status from workflow_runs`, "running")
		}
		pgtest.Exec(t, address, `alter table workflow_runs `+rule[1])
	}
	// What a sweep has written comes back with the rest.
	pgtest.Exec(t, address, `delete from workflow_runs`, `insert into workflow_runs (id, user_id, workflow_id, status, created_at) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'running', now() - interval '1 day')`)
	s := mustOpen(t, address, Options{})
	if _, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{}); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, address, `alter table workflow_runs add constraint c check (status <> 'completed' or error_details is not null)`, `update workflow_runs set status = 'completed'`)
	sourcetest.MustBe(t, address, `select status || ' ' || (error_details ->> 'code') from workflow_runs`, "completed stuck")
	audited(t, address)
	began(`alter table workflow_runs drop constraint c`)
	// What leaves the row out of an index does not hold the guard off, and an
	// outcome that no rule is against is kept.
	began(`create unique index one_running on workflow_runs (workflow_id) where status in ('pending', 'running')`)
	pgtest.Exec(t, address, retry)
	sourcetest.MustBe(t, address, `select status from workflow_runs`, "completed")
	sourcetest.MustBe(t, address, `select count(*) from run_counter.repairs`, "0")
	// An administrator's decision, and a real outcome after a presumed one, are no such thing.
	sourcetest.MustBe(t, address, `select run_counter.amend_run('`+runOne+`', 'running', 'support', 'again')`, "t")
	sourcetest.MustBe(t, address, `select count(*) from run_counter.repairs`, "0")
}

// TestTheGuardGivesWayToARuleOfTheSameMessage: a script that is sent as one message
// has one statement_timestamp(), and a rule that comes in the midst of it holds.
func TestTheGuardGivesWayToARuleOfTheSameMessage(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	for _, rule := range []string{`alter table workflow_runs add constraint c check (completed_at is null) not valid`, `create unique index u on workflow_runs (user_id, (completed_at is null))`} {
		pgtest.Exec(t, address, sourcetest.Begun(runOne), sourcetest.Begun(runTwo), `update workflow_runs set status = 'completed' where id = '`+runOne+`'; `+rule+`; update workflow_runs set status = 'completed' where id = '`+runTwo+`'`)
		sourcetest.MustBe(t, address, `select string_agg((completed_at is null)::text, ' ' order by id) from workflow_runs where status = 'completed'`, "false true")
		pgtest.Exec(t, address, `alter table workflow_runs drop constraint if exists c`, `delete from workflow_runs`)
	}
}

// TestTheGuardGivesWayToAForeignKey: a status that a table of words renames, or lets
// go of, is what that says; and an outcome whose word is still there is kept.
func TestTheGuardGivesWayToAForeignKey(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `create table words (w text primary key) partition by list (w); create table a_word partition of words for values in ('completed'); create table other_words partition of words default`,
		`insert into words values ('running'), ('completed'), ('failed')`, `alter table workflow_runs add constraint w foreign key (status) references words on update cascade on delete set null`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, sourcetest.Begun(runOne), sourcetest.Begun(runTwo), `update workflow_runs set status = case id when '`+runOne+`' then 'completed' else 'failed' end`, `update workflow_runs set status = 'running'`)
	sourcetest.MustBe(t, address, `select string_agg(status, ', ' order by id) from workflow_runs`, "completed, failed")
	pgtest.Exec(t, address, `update words set w = 'done' where w = 'completed'`, `delete from words where w = 'failed'`)
	sourcetest.MustBe(t, address, `select string_agg(coalesce(status, 'none'), ', ' order by id) from workflow_runs`, "done, none")
	sourcetest.MustBe(t, address, `select count(*) from run_counter.repairs where kind = 'gave_way'`, "2")
	exact(t, mustOpen(t, address, Options{}))
}
