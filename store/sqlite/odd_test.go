package sqlite

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

// A guest's run, and one whose user was deleted (on delete set null), have no
// key: they are kept, not counted, and reported.
func TestCaseT1_AMirrorKeepsARunWithoutAUserAndCountsItForNobody(t *testing.T) {
	s := mustOpen(t)
	guest, orphan := endedRun(1), endedRun(2)
	guest.Record.User = store.ID{}
	key := orphan.Record.Key()
	apply := func(changes ...store.Change) []store.ApplyResult {
		t.Helper()
		applied, err := s.Apply(t.Context(), changes, now)
		if err != nil {
			t.Fatal(err)
		}
		return applied
	}
	counted := func(want int64) {
		t.Helper()
		if got, err := s.Count(t.Context(), key.Scope(), store.AllTime); err != nil || got.Count != want {
			t.Errorf("Count: got %+v, %v; want %d", got, err, want)
		}
	}
	if got := apply(guest, orphan); !got[0].Changed || len(got[0].Counts) != 0 || len(got[1].Counts) != 1 {
		t.Errorf("Apply: got %+v, want both taken, and counts of the second alone", got)
	}
	counted(1)

	left := orphan
	left.Op, left.Old, left.HasOld = store.Update, orphan.Record, true
	left.Record.User, left.Record.UpdatedAt = store.ID{}, now.Add(time.Second)
	if got := apply(left); !got[0].Changed || len(got[0].Counts) != 1 || got[0].Counts[0].Count != 0 {
		t.Errorf("Apply: got %+v, want the count of the user who left", got)
	}
	counted(0)
	if got := apply(guest, left); got[0].Changed || got[1].Changed {
		t.Errorf("Apply once more: got %+v, want nothing changed", got)
	}
	for _, c := range []store.Change{guest, left} {
		run, err := s.Run(t.Context(), c.ID())
		if diff := cmp.Diff(c.Record, run.Row); err != nil || diff != "" {
			t.Errorf("Run: %v (-want +got)\n%s", err, diff)
		}
		if h, err := s.History(t.Context(), c.ID()); err != nil || !cmp.Equal(h.Run.Row, c.Record) {
			t.Errorf("History: got %+v, %v", h, err)
		}
	}
	if got, err := s.Health(t.Context()); err != nil || got.NoKey != 2 {
		t.Errorf("Health: got %+v, %v; want two without a key", got, err)
	}
	if got, err := s.Audit(t.Context(), store.Audit{Max: 10}); err != nil || len(got.Drifts) != 0 {
		t.Errorf("Audit: got %+v, %v; want no drift", got, err)
	}
}
