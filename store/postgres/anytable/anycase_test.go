package anytable

import (
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestCaseT26_AStatusIsTheSameInAnyCase, where the operator says so, and in citext:
// another spelling is no other outcome, and the application's own one stays.
func TestCaseT26_AStatusIsTheSameInAnyCase(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alter string
		said  watched.Overrides
	}{
		"of text":   {`alter table workflow_runs alter status set default 'Pending'`, watched.Overrides{AnyCase: true}},
		"of citext": {`create extension citext; alter table workflow_runs alter status type citext`, watched.Overrides{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			if name == "of citext" && !pgtest.Offers(t, address, "citext") {
				need.Missing(t, "PostgreSQL's extension citext")
			}
			const id = "00000000-0000-4000-8000-000000000001"
			pgtest.Exec(t, address, sourcetest.BareTable, c.alter)
			sourcetest.Migrate(t, address, sourcetest.UpWith(c.said))
			count := func(want string) {
				t.Helper()
				sourcetest.MustBe(t, address, `select public.get_user_workflow_run_count('`+ada+`', '`+adaFlow+`')`, want)
			}
			pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status) values ('`+id+`', '`+ada+`', '`+adaFlow+`', 'RUNNING')`,
				`update workflow_runs set status = 'Completed'`) // and the guard dates it
			sourcetest.MustBe(t, address, `select status::text || ' ' || (completed_at is not null) from workflow_runs`, "Completed true")
			count("1")
			pgtest.Exec(t, address, `update workflow_runs set status = 'COMPLETED'`)
			sourcetest.MustBe(t, address, `select status::text from workflow_runs`, "COMPLETED")
			pgtest.Exec(t, address, `update workflow_runs set status = 'Failed'`) // the first outcome wins
			sourcetest.MustBe(t, address, `select status::text from workflow_runs`, "COMPLETED")
			sourcetest.MustBe(t, address, `select count(*) from run_counter.ledger`, "1")
			sourcetest.MustBe(t, address, `select count(*) from run_counter.repairs`, "0")
			count("1")
			sourcetest.MustBe(t, address, `select c ->> 'kind' from run_counter.settings cross join jsonb_array_elements(described -> 'columns') as c where c ->> 'role' = 'status'`, string(watched.AnyCase))
		})
	}
}
