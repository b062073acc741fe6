package migrations

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Tables that are called otherwise, in a schema of their own: one that is plain,
// and one with partitions.
var elsewhere = map[string]string{
	"a plain table": strings.ReplaceAll(tableWithDrafts, "public.workflow_runs", `app."Job runs"`),
	"partitions":    strings.ReplaceAll(partitioned("range (created_at)", "id, created_at"), "public.workflow_runs", `app."Job runs"`),
}

// TestCasesOfRealTables_OneThatIsCalledOtherwise is counted, understood anew, and
// left as it was, and public.workflow_runs is never made.
func TestCasesOfRealTables_OneThatIsCalledOtherwise(t *testing.T) {
	t.Parallel()
	for name, table := range elsewhere {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, `create schema app;`+table)
			before := catalog(t, address)
			up := func(said string) error {
				t.Helper()
				m := mustPostgres(t, address)
				if said != "" {
					m.Override(watched.Overrides{Table: said})
				}
				return m.Up()
			}
			theirs := strings.NewReplacer("public.workflow_runs", `app."Job runs"`)
			pgtest.Exec(t, address, theirs.Replace(aliceHasThree))
			if err := up("app.Job runs"); err != nil {
				t.Fatal(err)
			}
			mustCount(t, address, "3")
			pgtest.Exec(t, address, theirs.Replace(aliceHasThree))
			mustCount(t, address, "6")
			mustBeLatest(t, mustUp(t, address)) // what was said is kept
			if err := up("public.other"); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), "the counts here are those of app.Job runs, and of one table alone") {
				t.Errorf("another table beside it: got %v, want a sentence", err)
			}
			pgtest.Exec(t, address, `alter table app."Job runs" rename column duration_ms to "durationMs"`)
			mustBeLatest(t, mustUp(t, address))
			pgtest.Exec(t, address, theirs.Replace(aliceHasThree))
			mustCount(t, address, "9")
			pgtest.Exec(t, address, `truncate app."Job runs"`)
			mustCount(t, address, "0")
			if there := ask(t, address, `select coalesce(to_regclass('public.workflow_runs')::text, 'none')`); !slices.Equal(there, []string{"none"}) {
				t.Errorf("public.workflow_runs: got %s, want none", there)
			}
			pgtest.Exec(t, address, `alter table app."Job runs" rename column "durationMs" to duration_ms`)
			if err := mustPostgres(t, address).Down(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, catalog(t, address)); diff != "" {
				t.Errorf("after down (-before +after):\n%s", diff)
			}
			left := ask(t, address, `select tgname::text from pg_trigger where tgname like '%run_counter%' union all select relname::text from pg_class where relname like 'run_counter%'`)
			if len(left) > 0 {
				t.Errorf("down left %s", left)
			}
		})
	}
}

// TestATableThatIsNotThereIsNotMade under another name than ours.
func TestATableThatIsNotThereIsNotMade(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	m := mustPostgres(t, address)
	m.Override(watched.Overrides{Table: "app.job_runs"})
	const want = "app.job_runs can't be watched as it is: there is no such table: --table SCHEMA.TABLE names one that is there"
	if err := m.Up(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	if made := ask(t, address, `select nspname::text from pg_namespace where nspname = 'run_counter'`); len(made) > 0 {
		t.Error("the refusal left a schema behind")
	}
}
