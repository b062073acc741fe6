package sqlite

import (
	"errors"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestCases(t *testing.T) { storetest.Cases(t, open) }

// TestCasesOfAMirror hold what a source has no counterpart of.
func TestCasesOfAMirror(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	id := storetest.MustID('1', 1)
	begin := store.Begin{ID: id, User: storetest.MustID('a', 1), Workflow: storetest.MustID('c', 1), Now: now}

	t.Run("begin does not bring back a deleted run by its id", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		begun, err := s.Begin(t.Context(), begin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(t.Context(), []store.Change{{Op: store.Delete, Old: begun.Run.Row, HasOld: true}}, now); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Begin(t.Context(), begin); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Begin: got %+v, %v; want ErrConflict", got, err)
		}
		for name, err := range map[string]error{
			"Run":      func() error { _, err := s.Run(t.Context(), id); return err }(),
			"Start":    func() error { _, err := s.Start(t.Context(), id, now); return err }(),
			"Complete": func() error { _, err := s.Complete(t.Context(), completion(id, store.Completed, "", now)); return err }(),
		} {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: got %v, want ErrNotFound", name, err)
			}
		}
	})
	t.Run("a snapshot does not survive a re-opening", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		if _, err := s.Begin(t.Context(), begin); err != nil {
			t.Fatal(err)
		}
		for i, snapshot := range []store.JSON{`{"n":1}`, "", `{"n":3}`} {
			at := now.Add(time.Duration(i+1) * time.Hour)
			got, err := s.Complete(t.Context(), completion(id, store.Completed, snapshot, at))
			if err != nil || !got.Won || got.Run.Snapshot != snapshot {
				t.Errorf("completion %d: got %+v, %v; want it won, with the snapshot %q", i+1, got, err, snapshot)
			}
			a := store.Amendment{ID: id, Status: store.Running, Who: "support", Why: "again", Now: at.Add(time.Minute)}
			if r, err := s.Amend(t.Context(), a); err != nil || r.Snapshot != "" {
				t.Errorf("re-opened: got %+v, %v; want no snapshot", r, err)
			}
		}
	})
	t.Run("an amendment to another outcome keeps the snapshot", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		if _, err := s.Begin(t.Context(), begin); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Complete(t.Context(), completion(id, store.Completed, `{"n":1}`, now)); err != nil {
			t.Fatal(err)
		}
		a := store.Amendment{ID: id, Status: store.Cancelled, Who: "support", Why: "a refund", Now: now.Add(time.Minute)}
		if r, err := s.Amend(t.Context(), a); err != nil || r.Snapshot != `{"n":1}` {
			t.Errorf("got %+v, %v; want the snapshot kept", r, err)
		}
	})
	t.Run("an id that was buried twice keeps the first moment", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		gone := []store.Change{{Op: store.Delete, Old: store.Row{ID: id}, HasOld: true}}
		for _, received := range []time.Duration{time.Hour, 0, 2 * time.Hour} {
			if _, err := s.Apply(t.Context(), gone, now.Add(received)); err != nil {
				t.Fatal(err)
			}
		}
		if h, err := s.History(t.Context(), id); err != nil || h.Found || !h.DeletedAt.Equal(now) {
			t.Errorf("got %+v, %v; want it gone since %v", h, err, now)
		}
	})
}

func completion(id store.ID, status store.Status, snapshot store.JSON, at time.Time) store.Completion {
	return store.Completion{ID: id, Outcome: store.Outcome{Status: status, Snapshot: snapshot}, Now: at}
}
