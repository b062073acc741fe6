package store_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// A merge that converges may still converge to the wrong row. These tests
// compare it with the source, as far as the source can be known from what it
// sends.

// mustMirror compares a fold of everything that a source sent, in any order,
// with the source's own last row.
func mustMirror(t testing.TB, r *rand.Rand, s *storetest.Source, keyToo bool) {
	t.Helper()
	history := s.Steps(1 + r.IntN(7))
	if s.Marked && r.IntN(2) == 0 { // both webhooks at once do no harm
		history = append(history, storetest.Plain(history)...)
	}
	state := observe(permuted(r, history))
	if len(s.Rows()) == 0 {
		if state.DeletedAt.IsZero() {
			t.Fatalf("deleted at the source, alive here: %+v", history)
		}
		return
	}
	want, got := s.Rows()[0], state.Row()
	if want.Ended() || keyToo {
		if got.Status != want.Status || !got.CompletedAt.Equal(want.CompletedAt) {
			t.Fatalf("got %s at %v, want %s at %v, after %+v", got.Status, got.CompletedAt, want.Status, want.CompletedAt, history)
		}
	}
	if got.Ended() != want.Ended() {
		t.Fatalf("got %s at %v, but it goes on, %s, after %+v", got.Status, got.CompletedAt, want.Status, history)
	}
	if keyToo && got.Key() != want.Key() {
		t.Fatalf("got key %s, want %s, after %+v", got.Key(), want.Key(), history)
	}
}

func TestAGuardedSourceIsMirrored(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]storetest.Source{
		"updated_at moves": {UpdatedAt: storetest.Moves},
		"its changes are numbered, whatever updated_at does":          {UpdatedAt: storetest.Frozen, Versions: true},
		"its changes are numbered, and updated_at runs backwards":     {UpdatedAt: storetest.Backwards, Versions: true},
		"its changes are marked":                                      {UpdatedAt: storetest.Moves, Marked: true},
		"they are marked and numbered":                                {UpdatedAt: storetest.Frozen, Versions: true, Marked: true},
		"they are marked and numbered, and updated_at runs backwards": {UpdatedAt: storetest.Backwards, Versions: true, Marked: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				s := source
				s.Guarded, s.Rand = true, drawn(rt)
				mustMirror(t, s.Rand, &s, true)
			})
		})
	}
}

func TestTheOutcomeOfAGuardedSourceNeedsNoClock(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySource(drawn(rt))
		s.Guarded = true
		mustMirror(t, s.Rand, s, false)
	})
}

// An updated_at that never moves still tells the key, as long as the run does
// not come back to a view that it had before: a cycle can't be told from its
// own first half.
func TestAChainOfHandOversIsFollowedWithoutAClock(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := drawn(rt)
		s := &storetest.Source{Rand: r, UpdatedAt: storetest.Frozen}
		history := s.Steps(1 + r.IntN(7))
		if len(s.Rows()) == 0 || returns(history) {
			return
		}
		want, got := s.Rows()[0].Key(), observe(permuted(r, history)).Row().Key()
		if got != want {
			t.Fatalf("got key %s, want %s, after %+v", got, want, history)
		}
	})
}

// returns reports whether the run comes back to a view that it had left.
func returns(history []store.Change) bool {
	var seen []store.View
	for _, c := range history {
		v := store.View{User: c.Record.User, Workflow: c.Record.Workflow, Draft: c.Record.Draft, Status: c.Record.Status}
		if len(seen) > 0 && seen[len(seen)-1] == v {
			continue
		}
		if slices.Contains(seen, v) {
			return true
		}
		seen = append(seen, v)
	}
	return false
}

// This is the source for which the evidence is ranked: by completed_at alone
// its outcomes can't be told apart.
func TestTheFirstStatusWinsWhereASourceKeepsTheTimeAndOverwritesTheStatus(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := anySource(drawn(rt))
		s.Guarded, s.KeepsTime, s.Marked = false, true, false
		history := s.Steps(1 + s.Rand.IntN(7))
		first := slices.IndexFunc(history, func(c store.Change) bool { return c.Record.Status.Terminal() })
		if first < 0 || len(s.Rows()) == 0 || outOfReach(history) {
			return
		}
		got, want := observe(permuted(s.Rand, history)).Row(), history[first].Record
		if got.Status != want.Status || !got.CompletedAt.Equal(want.CompletedAt) {
			t.Fatalf("got %s at %v, want %s at %v, after %+v", got.Status, got.CompletedAt, want.Status, want.CompletedAt, history)
		}
	})
}

// outOfReach reports histories in which the first status can lose: where
// nobody wrote when the run ended, a later outcome that is dated goes before
// it.
func outOfReach(history []store.Change) bool {
	return slices.ContainsFunc(history, func(c store.Change) bool {
		return c.Record.Status.Terminal() && c.Record.CompletedAt.IsZero()
	})
}

// Law 2, without the reference model: told of everything in order, a mirror
// never takes back an outcome that was real, whatever the source overwrites.
func TestAnOutcomeStandsWhateverComesAfterIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := drawn(rt)
		source := anySource(r)
		source.UpdatedAt, source.Marked = storetest.Moves, false // nobody decides otherwise
		byRun := map[store.ID]store.State{}
		for _, c := range source.Steps(1 + r.IntN(12)) {
			before := byRun[c.ID()]
			before.ID = c.ID()
			after := before.Learn(c, received)
			byRun[c.ID()] = after
			if !before.Ended() || before.Presumed() || !after.DeletedAt.IsZero() {
				continue
			}
			was, is := before.Row(), after.Row()
			if was.Status != is.Status || !was.CompletedAt.Equal(is.CompletedAt) {
				t.Fatalf("it was %s at %v and is %s at %v after %+v", was.Status, was.CompletedAt, is.Status, is.CompletedAt, c)
			}
		}
	})
}
