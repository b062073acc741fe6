package store

import (
	"reflect"
	"testing"
	"time"
)

// TestCaseStatesThatDifferInOneThingAloneAreNotEqual holds [State.Equal], by
// which a mirror knows whether there is anything to write: a field that it
// forgets is never stored by itself.
func TestCaseStatesThatDifferInOneThingAloneAreNotEqual(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	differ := func(field string, change func(s *State)) {
		t.Helper()
		seen[field] = true
		var a, b State
		change(&b)
		if a.Equal(b) || b.Equal(a) {
			t.Errorf("two states that differ in %s alone are equal", field)
		}
		if !b.Equal(b) {
			t.Errorf("a state with %s is not equal to itself", field)
		}
	}
	now := time.UnixMicro(1).UTC()
	view := View{Status: Running}
	differ("ID", func(s *State) { s.ID = UUID([16]byte{1}) })
	differ("DeletedAt", func(s *State) { s.DeletedAt = now })
	differ("ReopenedAt", func(s *State) { s.ReopenedAt = now })
	differ("CreatedAt", func(s *State) { s.CreatedAt = now })
	differ("StartedAt", func(s *State) { s.StartedAt = now })
	differ("UpdatedAt", func(s *State) { s.UpdatedAt = now })
	differ("LeaseAt", func(s *State) { s.LeaseAt = now })
	differ("Outcome", func(s *State) { s.Outcome.Evidence = Presumed })
	differ("Outcome", func(s *State) { s.Outcome.AmendedAt = now })
	differ("Outcome", func(s *State) { s.Outcome.Outcome.CompletedAt = now })
	differ("Outcome", func(s *State) { s.Outcome.Outcome.Status = Failed })
	differ("Outcome", func(s *State) { s.Outcome.Outcome.DurationMS = MillisOf(0) })
	differ("Outcome", func(s *State) { s.Outcome.Outcome.DurationMS.MS = 1 })
	differ("Outcome", func(s *State) { s.Outcome.Outcome.ErrorDetails = "{}" })
	differ("Outcome", func(s *State) { s.Outcome.Outcome.Snapshot = "{}" })
	differ("Last", func(s *State) { s.Last.Version = 1 })
	differ("Last", func(s *State) { s.Last.At = now })
	differ("Last", func(s *State) { s.Last.Heads = []View{view} })
	differ("Last", func(s *State) { s.Last.Past = []View{view} })
	for i := range reflect.TypeFor[State]().NumField() {
		if name := reflect.TypeFor[State]().Field(i).Name; !seen[name] {
			t.Errorf("State has a field %s, which this test does not know", name)
		}
	}
}
