package postgres

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestTheGuardGivesWayToWhatIsSaidInTheStatementAlone: what an end user has put
// into the setting by which the guard says what a statement said is not believed.
func TestTheGuardGivesWayToWhatIsSaidInTheStatementAlone(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `alter table workflow_runs add constraint c check (duration_ms >= 0)`, `grant all on workflow_runs to authenticated`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'completed', now())`)
	for _, said := range []string{`{"status": "pending", "completed_at": null, "duration_ms": 1}`, `{"user_id": "` + ada + `", "duration_ms": 1}`} {
		_, _, err := newCaller(t, address).as("bob", `set local run_counter.said = 'f`+said+`'; update workflow_runs set duration_ms = -1`)
		if err == nil || !strings.Contains(err.Error(), `"c"`) {
			t.Errorf("an end user who had said %s came to %v, want the check's own refusal", said, err)
		}
	}
	sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'completed' and user_id = '`+bob+`' and completed_at is not null`, "1")
	// Nor where a function of the application writes for them, as its owner.
	pgtest.Exec(t, address, `create unique index u on workflow_runs (lower(id::text))`,
		`create function start_run(p_id uuid) returns void language sql security definer as $$ insert into workflow_runs (id, user_id, workflow_id, status) values (p_id, auth.uid(), '`+bobFlow+`', 'running') $$`,
		`create function touch_run(p_id uuid) returns void language sql security definer as $$ update workflow_runs set duration_ms = 2 where id = p_id $$`)
	pgtest.Exec(t, address, `insert into run_counter.presumed (run_id, ended_at, user_id, kind, ref_id, status) select id, completed_at, user_id, 'workflow', workflow_id, status from workflow_runs where id = '`+runOne+`'`)
	for _, call := range []string{`start_run('` + runTwo + `')`, `touch_run('` + runOne + `')`} {
		said := `{"id": "` + ada + `", "user_id": "` + ada + `", "status": "pending", "completed_at": null}`
		pgtest.Exec(t, address, sourcetest.AsBob(`set local run_counter.said = 'f`+said+`'; select `+call))
	}
	sourcetest.MustBe(t, address, `select string_agg(status, ', ' order by id) from workflow_runs where user_id = '`+bob+`'`, "completed, running")
	sourcetest.MustBe(t, address, `select string_agg(concat_ws(' ', p.status, r.id = '`+runOne+`'), ', ' order by r.id) from workflow_runs as r left join run_counter.presumed as p on p.run_id = r.id and p.ended_at = r.completed_at where r.completed_at is not null`, "completed t")
	audited(t, address)
}

// TestTheGuardYieldsToNoRuleThatIsKept: a check is asked as the writer's session
// asks it, under its search_path.
func TestTheGuardYieldsToNoRuleThatIsKept(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `create table words (w text); insert into words values ('running'), ('completed')`,
		`create function is_word(s text) returns boolean language plpgsql as 'begin return exists (select from words where w = s); end'`,
		`alter table workflow_runs add constraint c check (is_word(status))`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'completed', now())`,
		`update workflow_runs set status = 'running', completed_at = null`)
	sourcetest.MustBe(t, address, `select status from workflow_runs`, "completed")
}

// TestCaseT8_TheGuardGivesWayToPolicies: what the guard fills in breaks no policy
// that the statement keeps, whatever the policy asks of other tables; and where no
// policy is against it, it is filled in.
func TestCaseT8_TheGuardGivesWayToPolicies(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `create table open_flows (id uuid); insert into open_flows values ('`+bobFlow+`'); grant select on open_flows to authenticated`,
		`grant all on workflow_runs to authenticated; alter table workflow_runs enable row level security`,
		`create policy p on workflow_runs for insert to authenticated with check (completed_at is null and exists (select from open_flows as o where o.id = workflow_runs.workflow_id))`,
		`create policy q on workflow_runs for update to authenticated using (auth.uid() = user_id)`,
		`create policy s on workflow_runs for select to public using (auth.uid() = user_id)`,
		`create policy r on workflow_runs as restrictive for update to authenticated using (true) with check (completed_at is null or started_at is null)`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, sourcetest.AsBob(bobsInsert+`id) values ('`+bob+`', '`+bobFlow+`', 'completed', '`+runOne+`')`))
	sourcetest.MustBe(t, address, `select completed_at is null from workflow_runs`, "t")
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, started_at) values ('`+runTwo+`', '`+bob+`', '`+bobFlow+`', 'running', now())`,
		sourcetest.AsBob(`update workflow_runs set status = 'completed' where id = '`+runTwo+`'`))
	sourcetest.MustBe(t, address, `select status = 'completed' and completed_at is null from workflow_runs where id = '`+runTwo+`'`, "t")
	pgtest.Exec(t, address, `update workflow_runs set status = 'running', started_at = null`, sourcetest.AsBob(`update workflow_runs set status = 'completed'`))
	sourcetest.MustBe(t, address, `select count(*) from workflow_runs where completed_at is not null`, "2")
	if _, _, err := newCaller(t, address).as("bob", `update workflow_runs set user_id = null, status = 'failed'`); err == nil {
		t.Error("a statement that breaks a policy works")
	}
}

// TestTheGuardFillsInWhatNoIndexHolds: an index over the status, such as that of
// a table which is partitioned by it, is no reason to leave an end out.
func TestTheGuardFillsInWhatNoIndexHolds(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `alter table workflow_runs add constraint c unique (id, status)`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'failed'), ('`+runTwo+`', '`+bob+`', '`+bobFlow+`', 'running')`,
		`update workflow_runs set status = 'timeout' where id = '`+runTwo+`'`)
	sourcetest.MustBe(t, address, `select count(*) from workflow_runs where completed_at is not null`, "2")
}
