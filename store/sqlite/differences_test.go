package sqlite

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// countedStates are all that the counts tell apart of a run: whose it is, and how
// it ended.
func countedStates() (states []store.State) {
	ada, bob := storetest.MustID('a', 1), storetest.MustID('b', 1)
	one, other := storetest.MustID('c', 1), storetest.MustID('c', 2)
	for _, v := range []store.View{{User: ada, Workflow: one}, {User: ada, Workflow: other, Draft: one}, {User: ada, Workflow: other}, {User: bob, Workflow: one}, {Workflow: one}} {
		add := func(status store.Status, evidence store.Evidence) {
			v.Status = status
			state := store.State{Last: store.Register{Heads: []store.View{v}}}
			if evidence > store.NoEvidence {
				state.Outcome = store.Claim{Evidence: evidence, Outcome: store.Outcome{Status: status, CompletedAt: now}}
			}
			states = append(states, state)
		}
		add(store.Running, store.NoEvidence)
		for _, status := range store.Terminals {
			add(status, store.Presumed)
			add(status, store.Confirmed)
		}
	}
	return states
}

// TestCaseTheCountsTellAllStatesApart takes a run from each state to each other,
// and then away.
func TestCaseTheCountsTellAllStatesApart(t *testing.T) {
	t.Parallel()
	transitions(t, mustOpen(t))
}

func transitions(t testing.TB, s *Store) {
	t.Helper()
	save := func(id store.ID, was, is store.State, exists bool) {
		t.Helper()
		was.ID, is.ID = id, id
		if err := s.write(t.Context(), func(t *tx) error { return t.save(was, is, exists) }); err != nil {
			t.Fatal(err)
		}
	}
	states := countedStates()
	for n, state := range states { // others, so that there is what numbers are added to
		save(storetest.MustID('2', n), store.State{}, state, false)
	}
	n := 0
	for _, from := range states {
		for _, to := range states {
			n++
			id := storetest.MustID('1', n)
			save(id, store.State{}, from, false)
			save(id, from, to, true)
			gone := to
			gone.DeletedAt = now
			if n%2 == 0 { // and every other one stays
				save(id, to, gone, true)
			}
		}
		if exact(t, s); t.Failed() {
			t.Fatalf("that was of %+v, which became another", from)
		}
	}
}

// differenceEdits are small wrong versions of what is added.
func differenceEdits() map[string]func(testing.TB, *Store) {
	edits := map[string]func(testing.TB, *Store){}
	change := func(what string, add func(at *counter, n *int64)) {
		edits[what] = func(_ testing.TB, s *Store) {
			s.hooks.difference = func(was, is store.State, post func(at counter, n int64)) {
				difference(was, is, func(at counter, n int64) { add(&at, &n); post(at, n) })
			}
		}
	}
	for _, status := range store.Terminals {
		for _, sign := range []int64{-1, 1} {
			change(fmt.Sprintf("%+d %s is none", sign, status), func(at *counter, n *int64) {
				if at.status == status && *n == sign {
					*n = 0
				}
			})
			change(fmt.Sprintf("%+d presumed %s is a real one", sign, status), func(at *counter, n *int64) {
				if at.status == status && *n == sign {
					at.presumed = false
				}
			})
			change(fmt.Sprintf("%+d real %s is a presumed one", sign, status), func(at *counter, n *int64) {
				if at.status == status && *n == sign {
					at.presumed = true
				}
			})
		}
	}
	change("a draft is a workflow", func(at *counter, _ *int64) { at.key.Kind = store.KindWorkflow })
	for what, misses := range map[string]func(testing.TB, *Store){
		"of the key the user alone is compared": misses(func(was, is *counter) bool {
			return was != nil && is != nil && was.key.User == is.key.User && was.status == is.status && was.presumed == is.presumed
		}),
		"of the key the kind is not compared": misses(func(was, is *counter) bool {
			return was != nil && is != nil && was.key.User == is.key.User && was.key.Ref == is.key.Ref && was.status == is.status && was.presumed == is.presumed
		}),
		"the user is not compared": misses(func(was, is *counter) bool {
			return was != nil && is != nil && was.key.Kind == is.key.Kind && was.key.Ref == is.key.Ref && was.status == is.status && was.presumed == is.presumed
		}),
		"the status is not compared": misses(func(was, is *counter) bool {
			return was != nil && is != nil && was.key == is.key && was.presumed == is.presumed
		}),
		"presumed is not compared": misses(func(was, is *counter) bool {
			return was != nil && is != nil && was.key == is.key && was.status == is.status
		}),
		"what comes to a key is missed": misses(func(was, is *counter) bool { return was == nil }),
		"what goes from it is missed":   misses(func(was, is *counter) bool { return is == nil }),
	} {
		edits[what] = misses
	}
	for i, text := range [][2]string{
		{"n = n + excluded.n", "n = excluded.n"}, {"n = n + excluded.n", "n = n"}, {"substr(k.value, 13, 1)", "substr(k.value, 13, 0)"},
	} {
		edits[fmt.Sprintf("%d: %s in place of %s", i, text[1], text[0])] = func(t testing.TB, s *Store) {
			replace(t, s, &s.stmts.add, strings.Replace(addSQL, text[0], text[1], 1))
		}
	}
	return edits
}

// TestCaseEachWordOfTheDifferencesIsMissed is the control of the test above.
func TestCaseEachWordOfTheDifferencesIsMissed(t *testing.T) {
	need.NoRaceDetector(t)
	t.Parallel()
	for what, off := range differenceEdits() {
		said := storetest.Watch(t, func(t testing.TB) {
			s := mustOpen(t)
			off(t, s)
			transitions(t, s)
		})
		if len(said) == 0 {
			t.Errorf("nothing is red where %s", what)
		}
	}
}
