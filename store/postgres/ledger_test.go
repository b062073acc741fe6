package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// A run for each pair of states that the ledger triggers tell apart, in which it
// is first and then, and for each of these one whose outcome is presumed while it
// can be. Each has users of its own, so that no mistake makes up for another; the
// end of their ids says which it is: from state, to state, presumed.
//
// The control takes only those in which a run keeps its key, or how it ended.
const transitionsSQL = `
create table transitions as
with keys (k, u, w, d) as (values
    (1, 'a', 'c1', null), (2, 'a', 'c2', 'c1'), (3, 'a', 'c2', null), (4, 'b', 'c1', null), (5, null, 'c1', null), (6, 'a', null, null), (7, 'a', null, 'c1')
), ends (e, status, at) as (values
    (1, 'running', null), (2, 'running', 1), (3, 'completed', 1), (4, 'failed', 1), (5, 'cancelled', 1), (6, 'timeout', 1), (7, 'completed', 2), (8, 'timeout', null), (9, 'completed', 3)
), states as (
    select k * 10 + e as n, u, w, d, status, case when at = 3 then 'infinity' else timestamptz '2026-01-01' + at * interval '1 second' end as at from keys, ends
), named as (
    select f as was, t as will, presumed, lpad(f.n::text, 3, '0') || lpad(t.n::text, 3, '0') || presumed::integer as name
      from states as f, states as t, (values (false), (true)) as p (presumed)
     where (not presumed or isfinite(f.at) and f.status <> 'running')
), made as (
    select ('d0000000-0000-4000-8000-' || lpad(name, 12, '0'))::uuid as id, presumed, was, will, (lpad(name, 12, '0')) as name from named
)
select id, presumed, (was).n = (will).n as renamed,
       ((was).u || '0000000-0000-4000-8000-' || name)::uuid as was_user, ('00000000-0000-4000-8000-0000000000' || (was).w)::uuid as was_workflow,
       ('00000000-0000-4000-8000-0000000000' || (was).d)::uuid as was_draft, (was).status as was_status, (was).at as was_at,
       ((will).u || '0000000-0000-4000-8000-' || name)::uuid as will_user, ('00000000-0000-4000-8000-0000000000' || (will).w)::uuid as will_workflow,
       ('00000000-0000-4000-8000-0000000000' || (will).d)::uuid as will_draft, (will).status as will_status, (will).at as will_at
  from made
 where (was).n / 10 = (will).n / 10 or (was).n % 10 = (will).n % 10 or `

// Where a state stays what it is, the run gets another id.
var transitionSteps = []struct{ name, sql string }{
	{"insert", `
insert into workflow_runs (id, user_id, workflow_id, draft_id, status, completed_at) select id, was_user, was_workflow, was_draft, was_status, was_at from transitions`},
	{"presume", `
insert into run_counter.presumed (run_id, ended_at, user_id, kind, ref_id, status)
select id, was_at, was_user, case when ref is not null then case when was_draft is null then 'workflow' else 'draft' end end, ref, was_status
  from transitions, lateral (select case when was_user is not null then coalesce(was_draft, was_workflow) end as ref) as n
 where presumed`},
	{"update", `
update workflow_runs as r
   set id = case when t.renamed then overlay(t.id::text placing 'e' from 1 for 1)::uuid else t.id end,
       user_id = will_user, workflow_id = will_workflow, draft_id = will_draft, status = will_status, completed_at = will_at
  from transitions as t where t.id = r.id`},
	{"delete", `delete from workflow_runs`},
	{"insert again", ``},
	{"presume again", ``},
	{"truncate", `
insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n)
select gen_random_uuid(), 'draft', gen_random_uuid(), s, p, 1 from unnest(array['completed', 'failed', 'cancelled', 'timeout']) as s, unnest(array[false, true]) as p; -- wrong, by hand: that goes as well
truncate workflow_runs`},
}

// TestCaseTheLedgerTriggersTellAllStatesApart takes a run from each state to each
// other.
func TestCaseTheLedgerTriggersTellAllStatesApart(t *testing.T) {
	t.Parallel()
	newFixture(t).inTransaction(func(tx pgx.Tx) { transitions(t, tx, "true") })
}

// TestTheLedgerIsWrittenByDifference: an UPDATE that changes nothing for the counts
// writes nothing, and what changes writes no more than that.
func TestTheLedgerIsWrittenByDifference(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, flow := storetest.MustID('2', 1).String(), f.key.Ref.String()
	f.inTransaction(func(tx pgx.Tx) {
		execute(t, tx, `update run_counter.settings set guard = 'off'`)
		for _, step := range []struct{ sql, want string }{
			{f.insert(1), "a completed false 1"},
			{`update workflow_runs set completed_at = completed_at - interval '1 second', duration_ms = 7`, ""},
			{`update workflow_runs set draft_id = null, user_id = user_id, updated_at = now()`, ""},
			{`update workflow_runs set user_id = '` + storetest.MustID('b', 1).String() + `'`, "a completed false -1, b completed false 1"},
			{`update workflow_runs set status = 'failed'`, "b completed false -1, b failed false 1"},
			{`insert into run_counter.presumed select id, completed_at, user_id, 'workflow', '` + flow + `', status from workflow_runs`, "b failed true 1, b failed false -1"},
			{`update run_counter.presumed set ended_at = ended_at where run_id = '` + id + `'`, ""},
			{`delete from workflow_runs`, "b failed true -1, b failed false 1, b failed false -1"},
		} {
			execute(t, tx, `delete from run_counter.ledger`)
			execute(t, tx, step.sql)
			var got string
			if err := tx.QueryRow(t.Context(), `select coalesce(string_agg(concat_ws(' ', chr(get_byte(uuid_send(user_id), 0)), status, presumed::text, n), ', ' order by seq), '') from run_counter.ledger`).Scan(&got); err != nil || got != step.want {
				t.Errorf("%s: the ledger got %q, %v; want %q", step.sql, got, err, step.want)
			}
		}
	})
}

// inTransaction gives a test one that is rolled back.
func (f *fixture) inTransaction(test func(tx pgx.Tx)) {
	f.Helper()
	tx, err := f.store.pool.Begin(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(context.WithoutCancel(f.Context())); err != nil {
			f.Error(err)
		}
	}()
	test(tx)
}

// execute runs statements in a transaction.
func execute(t testing.TB, tx pgx.Tx, text string) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

func transitions(t testing.TB, tx pgx.Tx, which string) {
	t.Helper()
	execute(t, tx, `update run_counter.settings set guard = 'off'; alter table workflow_runs alter user_id drop not null, alter workflow_id drop not null;`+
		transitionsSQL+which)
	for i, step := range transitionSteps {
		if step.sql == "" {
			step.sql = transitionSteps[i-4].sql
		}
		execute(t, tx, step.sql)
		if sourcetest.Exact(t, tx); t.Failed() {
			t.Fatalf("that was after the %s", step.name)
		}
	}
	var marks int
	if err := tx.QueryRow(t.Context(), `select count(*) from run_counter.presumed`).Scan(&marks); err != nil || marks != 0 {
		t.Errorf("after a TRUNCATE %d marks are left, %v; want none", marks, err)
	}
}

// terminalSQL are the statuses of an end, as our functions have them.
const terminalSQL = `'{"completed","failed","cancelled","timeout"}'::text[]`

// ledgerEdits are small wrong versions of the ledger triggers, each as a function
// or trigger, what stands there, and what could.
func ledgerEdits() (edits [][3]string) {
	edit := func(of, old, text string) { edits = append(edits, [3]string{of, old, text}) }
	for _, one := range store.Terminals {
		other := func(status string) string {
			return "case " + status + " when '" + string(one) + "' then 'none' else " + status + " end"
		}
		edit("ledger_insert()", "new.status, false, 1", other("new.status")+", false, 1")
		edit("ledger_delete()", "old.status, false, -1", other("old.status")+", false, -1")
		edit("ledger_update()", "old.status, false, -1", other("old.status")+", false, -1")
		edit("ledger_update()", "new.status, false, 1", other("new.status")+", false, 1")
		edit("ledger_truncate()", "having sum(k.n) <> 0", "having sum(k.n) <> 0 and (k.presumed or k.status <> '"+string(one)+"')")
		for _, n := range []string{"old.status, true, -1", "old.status, false, 1", "new.status, true, 1", "new.status, false, -1"} {
			edit("ledger_presumed()", n, n+" * ("+n[:3]+".status <> '"+string(one)+"')::integer")
		}
		for _, row := range []string{"new", "old"} {
			listed := row + ".status = any (" + terminalSQL + ")"
			for _, function := range []string{"ledger_update()", map[string]string{"new": "ledger_insert()", "old": "ledger_delete()"}[row]} {
				edit(function, listed, strings.Replace(listed, string(one), "none", 1))
			}
		}
	}
	columns := []string{"id", "user_id", "workflow_id", "draft_id", "status", "completed_at"}
	for _, column := range columns {
		others := slices.DeleteFunc(slices.Clone(columns), func(other string) bool { return other == column })
		edit("ledger_update()", "new is not distinct from old", "(new."+strings.Join(others, ", new.")+") is not distinct from (old."+strings.Join(others, ", old.")+")")
	}
	for _, column := range []string{"id", "status", "completed_at"} {
		edit("ledger_update()", "(old.id, old.status, old.completed_at)", strings.Replace("(old.id, old.status, old.completed_at)", "old."+column, "new."+column, 1))
	}
	for _, row := range []string{"new", "old"} {
		edit("zzzz_run_counter_ledger_update", "("+row+".completed_at IS NOT NULL)", "false")
	}
	edit("ledger_insert()", "new.user_id is not null and ", "")
	edit("ledger_insert()", " and coalesce(new.draft_id, new.workflow_id) is not null", "")
	edit("ledger_insert()", " and coalesce(new.draft_id, new.workflow_id) is not null", " and new.workflow_id is not null")
	const dated = ".completed_at between '0002-01-01 00:00:00+00' and '9998-12-31 23:59:59.999999+00'"
	edit("ledger_insert()", "if new"+dated, "if new.completed_at is not null")
	edit("ledger_delete()", "if (old"+dated, "if (old.completed_at is not null")
	edit("ledger_delete()", "is not true then", "is null then")
	edit("ledger_delete()", "old.user_id is not null and ", "")
	edit("ledger_delete()", " and coalesce(old.draft_id, old.workflow_id) is not null", "")
	for _, row := range []string{"old", "new"} {
		edit("ledger_update()", row+dated+" and ", "")
		edit("ledger_update()", row+dated+" and ", row+".completed_at is not null and ")
	}
	for _, row := range []string{"new", "old"} {
		kind, ref := "case when "+row+".draft_id is null then 'workflow' else 'draft' end", "coalesce("+row+".draft_id, "+row+".workflow_id)"
		other := "coalesce(" + row + ".workflow_id, " + row + ".draft_id)"
		whole := map[string]string{"new": "ledger_insert()", "old": "ledger_delete()"}[row]
		edit(whole, kind, "'workflow'")
		edit(whole, ref+",", other+",")
		for _, behind := range []string{".status) ", ".status, false"} { // as it is compared, and as it is written
			edit("ledger_update()", kind+", v_"+row+", "+row+behind, "'workflow', v_"+row+", "+row+behind)
		}
		if row == "new" { // that of the mark
			edit("ledger_update()", kind+" end", "'workflow' end")
		}
		edit("ledger_update()", ref+" end", other+" end")
		edit("ledger_update()", "case when "+row+".user_id is not null then "+ref+" end", ref)
	}
	edit("ledger_update()", "if (old.user_id,", "if (new.user_id,")
	edit("ledger_update()", "v_old, old.status) =", "v_new, old.status) =")
	edit("ledger_update()", "v_old, old.status) =", "v_old, new.status) =")
	for _, column := range []string{"user_id", "kind", "ref_id"} {
		edit("ledger_presumed()", "old."+column, "new."+column)
	}
	edit("ledger_truncate()", "from run_counter.ledger", "from run_counter.ledger where false")
	edit("ledger_update()", "set user_id = new.user_id,", "set user_id = old.user_id,")
	edit("ledger_update()", "ref_id = v_new,", "ref_id = v_old,")
	edit("ledger_presumed()", "tg_op in ('UPDATE', 'DELETE')", "tg_op = 'UPDATE'")
	edit("ledger_presumed()", "tg_op in ('UPDATE', 'DELETE')", "tg_op = 'DELETE'")
	edit("ledger_presumed()", "tg_op in ('INSERT', 'UPDATE')", "tg_op = 'INSERT'")
	edit("ledger_presumed()", "tg_op in ('INSERT', 'UPDATE')", "tg_op = 'UPDATE'")
	edit("ledger_truncate()", "delete from run_counter.presumed;", "")
	return edits
}

// TestCaseEachWordOfTheLedgerTriggersIsMissed is the control of the test above.
func TestCaseEachWordOfTheLedgerTriggersIsMissed(t *testing.T) {
	need.NoRaceDetector(t)
	t.Parallel()
	f := newFixture(t)
	for _, edit := range ledgerEdits() {
		t.Run(fmt.Sprintf("%s, %s in place of %s", edit[0], edit[2], edit[1]), func(t *testing.T) {
			said := storetest.Watch(t, func(t testing.TB) {
				f.inTransaction(func(tx pgx.Tx) {
					rewrite(t, tx, edit[0], edit[1], edit[2])
					transitions(t, tx, "false")
				})
			})
			if len(said) == 0 {
				t.Error("nothing is red with it")
			} else {
				t.Logf("red: %.300s", said[0])
			}
		})
	}
}

// rewrite changes a function of ours, or a trigger of the table, by its text,
// which must be there.
func rewrite(t testing.TB, tx pgx.Tx, name, old, text string) {
	t.Helper()
	ask := `select pg_get_functiondef(('run_counter.' || $1::text)::regprocedure)`
	if !strings.HasSuffix(name, "()") {
		ask = `select 'drop trigger ' || tgname || ' on workflow_runs;' || pg_get_triggerdef(oid) from pg_trigger where tgname = $1 and tgrelid = 'workflow_runs'::regclass`
	}
	var definition string
	if err := tx.QueryRow(t.Context(), ask, name).Scan(&definition); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(definition, old) {
		panic(name + " does not say any more: " + old) // not a complaint that may be taken for red
	}
	execute(t, tx, strings.Replace(definition, old, text, 1))
}
