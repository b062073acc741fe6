package migrations

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

const windowIndexesSQL = `select c.relname::text from pg_class as c where c.relname like 'run\_counter\_%\_windows' and not c.relispartition order by 1`

var (
	userWindows     = []string{"run_counter_user_draft_windows", "run_counter_user_windows"}
	workflowWindows = []string{"run_counter_draft_windows", "run_counter_workflow_windows"}
	allWindows      = slices.Sorted(slices.Values(slices.Concat(userWindows, workflowWindows)))
)

// TestPostgresMakesTheIndexesOfWindowsThatAreAskedForAndKeepsThem through ups without the
// flags, detach and what is altered.
func TestPostgresMakesTheIndexesOfWindowsThatAreAskedForAndKeepsThem(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for name, table := range map[string]string{
		"a table": tableWithDrafts, "a table that is not there yet": `select 1`,
		"a partitioned table": strings.NewReplacer("id uuid primary key default gen_random_uuid()", "id uuid not null default gen_random_uuid(), primary key (id)",
			"updated_at timestamptz not null default now()\n);", "updated_at timestamptz not null default now()\n) partition by hash (id); create table part partition of workflow_runs for values with (modulus 1, remainder 0);").Replace(tableWithDrafts),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, table)
			for _, step := range []struct {
				name, before string
				asked        Windows
				want         []string
			}{
				{"nothing", ``, Windows{}, nil},
				{"a user's", ``, Windows{User: &yes}, userWindows},
				{"nothing more", ``, Windows{}, userWindows},
				{"a workflow's", ``, Windows{Workflow: &yes}, allWindows},
				{"after detach", `select run_counter.detach()`, Windows{}, allWindows},
				{"for a table that was altered", `alter table workflow_runs alter duration_ms type bigint`, Windows{}, allWindows},
				{"a user's no more", ``, Windows{User: &no}, workflowWindows},
				{"and none", ``, Windows{Workflow: &no}, nil},
				{"nothing at last", ``, Windows{}, nil},
			} {
				if step.before != "" {
					pgtest.Exec(t, address, step.before)
				}
				if strings.Contains(step.before, "detach") {
					if got := ask(t, address, windowIndexesSQL); len(got) > 0 {
						t.Errorf("detach has left %s", got)
					}
				}
				m := mustPostgres(t, address)
				m.SetWindows(step.asked)
				if err := m.Up(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(step.want, ask(t, address, windowIndexesSQL)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", step.name, diff)
				}
			}
			both := mustPostgres(t, address)
			both.SetWindows(Windows{User: &yes, Workflow: &yes})
			if err := both.Up(); err != nil {
				t.Fatal(err)
			}
			if err := both.Down(); err != nil {
				t.Fatal(err)
			}
			if got := ask(t, address, windowIndexesSQL); len(got) > 0 {
				t.Errorf("down has left %s", got)
			}
		})
	}
}

// TestTheScriptMakesTheIndexesOfWindows that the description asks for, and the next
// program knows it.
func TestTheScriptMakesTheIndexesOfWindows(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	yes := true
	table := watched.Default()
	table.Said.UserWindows = &yes
	script, err := PrintPostgres(table)
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, address, script, script)
	up := mustPostgres(t, address)
	if err := up.Up(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(userWindows, ask(t, address, windowIndexesSQL)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	objects, err := PostgresObjects(table)
	if err != nil || !slices.Contains(objects.Indexes, userWindows[0]) {
		t.Errorf("the objects are %+v, %v; want the index among them", objects, err)
	}
	if got := strings.Join(table.Said.Args(), " "); got != "--user-windows" {
		t.Errorf("the flags are %q", got)
	}
}

// TestWhoMayAskForTotalsIsSetAndKept, with anon's privileges, which follow.
func TestWhoMayAskForTotalsIsSetAndKept(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, tableWithDrafts)
	const is = `select totals_for || ' ' || (has_schema_privilege('anon', 'run_counter', 'usage')::int
       + has_function_privilege('anon', (select oid from pg_proc where proname = 'get_workflow_run_count'), 'execute')::int
       + has_function_privilege('anon', (select oid from pg_proc where proname = 'count_in'), 'execute')::int) from run_counter.settings`
	for _, step := range []struct{ name, before, set, want string }{
		{"nothing", ``, "", "keys 0"},
		{"users", ``, "users", "users 0"},
		{"everyone", ``, "everyone", "everyone 3"},
		{"nothing more", ``, "", "everyone 3"},
		{"a table that was altered", `alter table workflow_runs alter duration_ms type bigint`, "", "everyone 3"},
		{"a function that was lost", `drop function public.complete_workflow_run`, "", "everyone 3"},
		{"keys", ``, "keys", "keys 0"},
	} {
		if step.before != "" {
			pgtest.Exec(t, address, step.before)
		}
		m := mustPostgres(t, address)
		m.SetTotalsFor(step.set)
		if err := m.Up(); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, address, is); !slices.Equal(got, []string{step.want}) {
			t.Errorf("%s: got %s, want %s", step.name, got, step.want)
		}
	}
	last := mustPostgres(t, address)
	last.SetTotalsFor("everyone")
	if err := last.Up(); err != nil {
		t.Fatal(err)
	}
	if err := last.Down(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, address, `select count(*)::text from pg_namespace where nspname = 'run_counter' and has_schema_privilege('anon', oid, 'usage')`); !slices.Equal(got, []string{"0"}) {
		t.Errorf("down has left anon %s schema of ours", got)
	}
	odd := mustPostgres(t, address)
	odd.SetTotalsFor("nobody")
	if err := odd.Up(); err == nil || !strings.Contains(err.Error(), "keys, users or everyone") {
		t.Errorf("got %v, want the three words", err)
	}
}
