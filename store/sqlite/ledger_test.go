package sqlite

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// ledgerStates are all that the ledger triggers tell apart of a row: whose it
// is, and how it ended, as values of
// user_id, workflow_id, draft_id, status, completed_at, evidence.
func ledgerStates() (states [][]any) {
	ada, bob := storetest.MustID('a', 1).String(), storetest.MustID('b', 1).String()
	one, other := storetest.MustID('c', 1).String(), storetest.MustID('c', 2).String()
	for _, key := range [][]any{{ada, one, nil}, {ada, other, one}, {ada, other, nil}, {bob, one, nil}, {nil, one, nil}} {
		states = append(states, append(key[:3:3], "running", nil, 0))
		for _, status := range store.Terminals {
			for _, evidence := range []store.Evidence{store.Presumed, store.Told} {
				states = append(states, append(key[:3:3], string(status), 1, int(evidence)))
			}
		}
	}
	return states
}

// TestCaseTheLedgerTriggersTellAllStatesApart takes a row from each state to each
// other, and then away.
func TestCaseTheLedgerTriggersTellAllStatesApart(t *testing.T) {
	t.Parallel()
	ledgerTriggers(t, mustOpen(t))
}

func ledgerTriggers(t testing.TB, s *Store) {
	t.Helper()
	id := storetest.MustID('1', 1).String()
	write := func(what, text string, args ...any) {
		t.Helper()
		if _, err := s.writer.ExecContext(t.Context(), text, args...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	const insert = `
insert into workflow_runs (id, user_id, workflow_id, draft_id, status, completed_at, evidence) values (?, ?, ?, ?, ?, ?, ?)`
	states := ledgerStates()
	for n, state := range states { // others, so that there is what numbers are added to
		write("an insert", insert, append([]any{storetest.MustID('2', n).String()}, state...)...)
	}
	for _, from := range states {
		for _, to := range states {
			what := fmt.Sprintf("%v, which became %v", from, to)
			write("an insert of "+what, insert, append([]any{id}, from...)...)
			write("an update of "+what, `
update workflow_runs set (user_id, workflow_id, draft_id, status, completed_at, evidence) = (?2, ?3, ?4, ?5, ?6, ?7) where id = ?1`, append([]any{id}, to...)...)
			exact(t, s)
			write("a delete of "+what, `delete from workflow_runs where id = ?`, id)
			if exact(t, s); t.Failed() {
				t.Fatalf("that was %s", what)
			}
		}
	}
}

// ledgerEdits are small wrong versions of the ledger triggers, as what stands
// there and what could.
func ledgerEdits() (edits [][3]string) {
	edit := func(trigger, old, text string) { edits = append(edits, [3]string{trigger, old, text}) }
	for _, rows := range []struct{ trigger, row, sign string }{
		{"ledger_insert", "new", ""}, {"ledger_delete", "old", "-"}, {"ledger_update", "old", "-"}, {"ledger_update", "new", ""},
	} {
		edit(rows.trigger, rows.row+".completed_at is not null and "+rows.row+".kind is not null", rows.row+".completed_at is not null")
		edit(rows.trigger, rows.row+".completed_at is not null and "+rows.row+".kind is not null", "false")
		for _, status := range store.Terminals {
			ended := rows.row + ".status = '" + string(status) + "'"
			one, presumed := ended+",", ended+" and "+rows.row+".evidence = 1"
			if rows.sign != "" {
				one, presumed = "-("+ended+")", "-("+presumed+")"
			}
			edit(rows.trigger, presumed, "0")
			edit(rows.trigger, presumed, strings.Replace(presumed, "evidence = 1", "evidence > 0", 1))
			edit(rows.trigger, one, strings.Replace(one, ended, "0", 1))
		}
	}
	for _, status := range store.Terminals {
		for _, column := range []string{string(status), "presumed_" + string(status)} {
			for _, trigger := range []string{"ledger_insert", "ledger_delete", "ledger_update"} {
				edit(trigger, " "+column+" = "+column+" + excluded."+column, " "+column+" = excluded."+column)
			}
		}
	}
	edit("ledger_update", "(old.completed_at is not null or new.completed_at is not null)", "(old.completed_at is not null)")
	edit("ledger_update", "(old.completed_at is not null or new.completed_at is not null)", "(new.completed_at is not null)")
	compared := []string{"user_id", "kind", "ref_id", "status", "evidence = 1"}
	condition := func(of []string) string {
		return "(old." + strings.Join(of, ", old.") + ")\n     is not (new." + strings.Join(of, ", new.") + ")"
	}
	for i := range compared {
		edit("ledger_update", condition(compared), condition(slices.Delete(slices.Clone(compared), i, i+1)))
	}
	return edits
}

// TestCaseEachWordOfTheLedgerTriggersIsMissed is the control of the test above.
func TestCaseEachWordOfTheLedgerTriggersIsMissed(t *testing.T) {
	need.NoRaceDetector(t)
	t.Parallel()
	for _, edit := range ledgerEdits() {
		said := storetest.Watch(t, func(t testing.TB) {
			s := mustOpen(t)
			rewriteTrigger(t, s, edit[0], edit[1], edit[2])
			ledgerTriggers(t, s)
		})
		if len(said) == 0 || strings.Contains(said[0], "doesn't hold") {
			t.Errorf("%s: nothing is red with %q in place of %q: %v", edit[0], edit[2], edit[1], said)
		}
	}
}
