package postgres

import (
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// retried is what an application does that retries a run in the same row: it
// failed twice, and each attempt but the last is overwritten.
var retried = []string{
	`insert into workflow_runs (id, user_id, workflow_id, status) values ('` + runOne + `', '` + bob + `', '` + bobFlow + `', 'running')`,
	`update workflow_runs set status = 'failed', completed_at = now() - interval '3 minutes'`,
	`update workflow_runs set status = 'running', completed_at = null, started_at = now()`,
	`update workflow_runs set status = 'failed', completed_at = now() - interval '1 minute'`,
	`update workflow_runs set status = 'running', completed_at = null, started_at = now()`,
	`update workflow_runs set status = 'completed'`, // it leaves out when, as it may
}

// TestTheGuardKeepsReportsOrIsOff: an application that retries a run in the same
// row is stopped where the guard is on; where it reports, nothing is stopped, and
// each run is listed once, with how often; and where it is off neither. Counts are
// exact in all three, and an end is filled in unless it is off.
func TestTheGuardKeepsReportsOrIsOff(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	const listed = `select coalesce(string_agg(concat_ws(' ', kind, was, status, times), ', '), 'nothing') from run_counter.repairs`
	for _, tt := range []struct{ guard, row, list, counted string }{
		{"on", "failed dated", "nothing", "1 failed"},
		{"report", "completed dated", "would_keep failed running 2", "1 completed"},
		{"off", "completed", "nothing", "none"},
	} {
		pgtest.Exec(t, address, `delete from workflow_runs`, `delete from run_counter.repairs`, `update run_counter.settings set guard = '`+tt.guard+`'`)
		pgtest.Exec(t, address, retried...)
		sourcetest.MustBe(t, address, `select concat_ws(' ', status, case when completed_at is not null then 'dated' end) from workflow_runs`, tt.row)
		sourcetest.MustBe(t, address, listed, tt.list)
		sourcetest.MustBe(t, address, `select coalesce((select sum(n) || ' ' || status from (select status, n from run_counter.counts union all select status, n from run_counter.ledger) as k group by status having sum(n) <> 0), 'none')`, tt.counted)
		audited(t, address)
	}
	// What was presumed is taken back by a retry, too, and a real outcome supersedes it as ever.
	pgtest.Exec(t, address, `delete from workflow_runs`, `update run_counter.settings set guard = 'report'`,
		`insert into workflow_runs (id, user_id, workflow_id, status, created_at, updated_at) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'running', now() - interval '1 day', now() - interval '1 day')`)
	s := mustOpen(t, address, Options{})
	mustSweep(t, sourcetest.SweeperOf(s), store.SweepOptions{})
	sourcetest.MustBe(t, address, `select status || ' ' || (select count(*) from run_counter.presumed) from workflow_runs`, "failed 1")
	pgtest.Exec(t, address, `update workflow_runs set status = 'running', completed_at = null`)
	sourcetest.MustBe(t, address, listed+` where kind <> 'stuck'`, "would_keep failed running 1")
	sourcetest.MustBe(t, address, `select status || ' ' || (select count(*) from run_counter.presumed) from workflow_runs`, "running 0")
	audited(t, address)
}

// TestARetryIsNotTakenBackWhereTheGuardReports, neither by a webhook that shows
// the first outcome nor by a sweep, even where the application leaves the end
// that was: only once it is silent for longer than its limit.
func TestARetryIsNotTakenBackWhereTheGuardReports(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, `update run_counter.settings set guard = 'report'`,
		`insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'failed', now() - interval '1 minute')`)
	s := mustOpen(t, address, Options{})
	id, err := store.ParseID(runOne)
	if err != nil {
		t.Fatal(err)
	}
	row := func() store.Row {
		t.Helper()
		run, err := s.Run(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return run.Row
	}
	ended := row()
	for _, retry := range []string{`, completed_at = null`, ``} {
		pgtest.Exec(t, address, `update workflow_runs set status = 'running', updated_at = now()`+retry)
		change := store.Change{Op: store.Update, Old: ended, HasOld: true, Record: row()}
		if _, err := s.Apply(t.Context(), []store.Change{change}, time.Now()); err != nil {
			t.Fatal(err)
		}
		mustSweep(t, sourcetest.SweeperOf(s), store.SweepOptions{})
		sourcetest.MustBe(t, address, `select status from workflow_runs`, "running")
		pgtest.Exec(t, address, `update workflow_runs set status = 'failed', completed_at = now() - interval '1 minute'`)
	}
	pgtest.Exec(t, address, `update workflow_runs set status = 'running', created_at = now() - interval '1 day', updated_at = now() - interval '1 day', started_at = null`)
	mustSweep(t, sourcetest.SweeperOf(s), store.SweepOptions{})
	sourcetest.MustBe(t, address, `select status || ' ' || (select count(*) from run_counter.presumed) from workflow_runs`, "completed 1")
	audited(t, address)
}
