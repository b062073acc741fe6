package migrations

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// The application's own, of our names and signatures, made after ours: create
// or replace leaves our comment on them.
const (
	theirFunction = `create or replace function public.complete_workflow_run(p_run_id uuid, p_status text, p_duration_ms integer default null, p_state_snapshot jsonb default null, p_error_details jsonb default null)
returns boolean language sql as 'select false'`
	theirOverload = `create function public.begin_workflow_run(who text) returns text language sql as 'select who'`
	theirView     = `drop view public.workflow_run_counts; create view public.workflow_run_counts as select 1 as one`
	theirs        = `select 'function ' || (select prosrc = 'select false' from pg_proc where oid = to_regprocedure('public.complete_workflow_run(uuid, text, integer, jsonb, jsonb)'))::text
		|| ', overload ' || (to_regprocedure('public.begin_workflow_run(text)') is not null)::text
		|| ', view ' || (select count(*) = 1 from pg_attribute where attrelid = to_regclass('public.workflow_run_counts') and attnum > 0 and attname = 'one')::text`
)

func mustHaveTheirs(t *testing.T, address string) {
	t.Helper()
	if diff := cmp.Diff([]string{"function true, overload true, view true"}, ask(t, address, theirs)); diff != "" {
		t.Errorf("after down, of the application's (-want +got):\n%s", diff)
	}
}

func mustSay(t *testing.T, m *Migrator, want ...string) {
	t.Helper()
	all := strings.Join(m.Said(), "\n")
	for _, w := range want {
		if !strings.Contains(all, w) {
			t.Errorf("it does not say %q:\n%s", w, all)
		}
	}
}

func TestCaseT16_WhoseAFunctionIsIsKnownByMoreThanItsName(t *testing.T) {
	t.Run("case T16: up puts ours back, and down the application's", func(t *testing.T) {
		address := pgtest.Database(t)
		pgtest.Exec(t, address, tableWithDrafts+aliceHasThree)
		mustUp(t, address)
		pgtest.Exec(t, address, theirFunction, theirOverload, theirView)
		m := mustUp(t, address)
		mustBeLatest(t, m)
		mustSay(t, m, "replaces the function public.complete_workflow_run(uuid,text,integer,jsonb,jsonb)", "replaces the function public.begin_workflow_run(text)", "replaces the view")
		if got := ask(t, address, `select count(*) from pg_proc where pronamespace = 'public'::regnamespace and proname = 'complete_workflow_run' and prosrc like '%run_counter%'`); got[0] != "1" {
			t.Errorf("%s functions are ours: want complete_workflow_run", got[0])
		}
		mustCount(t, address, "3")
		if again := mustUp(t, address); len(again.Said()) > 0 {
			t.Errorf("a third up says %q: want nothing, since ours are known", again.Said())
		}
		if err := m.Down(); err != nil {
			t.Fatal(err)
		}
		mustHaveTheirs(t, address)
	})
	t.Run("case T16: down leaves what is not ours, and names it", func(t *testing.T) {
		address := pgtest.Database(t)
		pgtest.Exec(t, address, tableWithDrafts+anEarlierAttempt)
		mustUp(t, address)
		pgtest.Exec(t, address, theirFunction, theirOverload, theirView)
		m := mustPostgres(t, address)
		if err := m.Down(); err != nil {
			t.Fatal(err)
		}
		mustHaveTheirs(t, address)
		mustSay(t, m, "leaves the function public.complete_workflow_run(uuid,text,integer,jsonb,jsonb)", "leaves the view public.workflow_run_counts",
			"does not put back the view public.workflow_run_counts")
		if left := ask(t, address, `select count(*) from pg_proc where pronamespace = 'run_counter'::regnamespace`); left[0] != "0" {
			t.Errorf("down left %s of our functions", left[0])
		}
	})
	t.Run("case T16: up makes again what the application has dropped", func(t *testing.T) {
		address := pgtest.Database(t)
		pgtest.Exec(t, address, tableWithDrafts+aliceHasThree)
		mustUp(t, address)
		pgtest.Exec(t, address, `drop function public.get_user_workflow_run_count(uuid, uuid, uuid)`)
		mustUp(t, address)
		mustCount(t, address, "3")
	})
}

func TestCaseT17_WhoCouldCallWhatIsReplacedIsNamed(t *testing.T) {
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, tableWithDrafts+anEarlierAttempt,
		`grant execute on function public.complete_workflow_run(uuid, text) to pg_monitor with grant option`)
	before := ask(t, address, `select proname, proacl from pg_proc where pronamespace = 'public'::regnamespace and proname = 'complete_workflow_run'`)
	m := mustUp(t, address)
	mustSay(t, m, "takes EXECUTE on public.complete_workflow_run(uuid,text) from pg_monitor", "takes EXECUTE on public.get_user_workflow_run_count(uuid,uuid) from PUBLIC")
	if err := m.Down(); err != nil {
		t.Fatal(err)
	}
	mustSay(t, m, "gives EXECUTE on public.get_user_workflow_run_count(uuid,uuid), which PUBLIC had and anon with it, back to authenticated and service_role alone")
	after := ask(t, address, `select proname, proacl from pg_proc where pronamespace = 'public'::regnamespace and proname = 'complete_workflow_run'`)
	if !strings.Contains(after[0], "pg_monitor=X*/") {
		t.Errorf("after up and down the grants are %s, before they were %s: want pg_monitor's back", after, before)
	}
}
