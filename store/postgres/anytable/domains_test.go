package anytable

import (
	"testing"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestCaseT9_TheGuardGivesWayToADomain, whose rule PostgreSQL asks where the guard
// assigns, before give_way could look.
func TestCaseT9_TheGuardGivesWayToADomain(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `create domain early as timestamptz check (value < '2026-01-31'); alter table workflow_runs alter completed_at type early`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status) values (gen_random_uuid(), '`+ada+`', '`+adaFlow+`', 'running')`,
		`update workflow_runs set status = 'completed'`) // and no end of now can be filled in
	sourcetest.MustBe(t, address, `select status || ' ' || (completed_at is null) from workflow_runs`, "completed true")
	pgtest.Exec(t, address, `update workflow_runs set completed_at = '2026-01-30 12:00:00+00'`, `update workflow_runs set status = 'failed'`)
	sourcetest.MustBe(t, address, `select status from workflow_runs`, "completed")
	sourcetest.MustBe(t, address, `select public.get_user_workflow_run_count('`+ada+`', '`+adaFlow+`')`, "1")
}
