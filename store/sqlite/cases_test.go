package sqlite

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
			a := store.AmendRequest{ID: id, Status: store.Running, Who: "support", Why: "again", Now: at.Add(time.Minute)}
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
		a := store.AmendRequest{ID: id, Status: store.Cancelled, Who: "support", Why: "a refund", Now: now.Add(time.Minute)}
		if r, err := s.Amend(t.Context(), a); err != nil || r.Snapshot != `{"n":1}` {
			t.Errorf("got %+v, %v; want the snapshot kept", r, err)
		}
	})
	t.Run("of many changes those that said something are told apart", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		var known []store.Change
		for n := range 4 {
			known = append(known, store.Change{Op: store.Insert, Record: store.Row{ID: storetest.MustID('1', n), User: begin.User, Workflow: begin.Workflow, Status: store.Pending, UpdatedAt: now}})
		}
		for i, want := range [][]bool{{true, false, true, false}, {false, true, false, true}} {
			batch := []store.Change{known[i], known[0], known[2+i], known[0]}
			if i == 1 {
				batch = []store.Change{known[0], known[1], known[2], known[3]}
			}
			applied, err := s.Apply(t.Context(), batch, now)
			if err != nil {
				t.Fatal(err)
			}
			for j := range want {
				if applied[j].Changed != want[j] {
					t.Errorf("batch %d, change %d: changed %v, want %v", i, j, applied[j].Changed, want[j])
				}
			}
		}
	})
	t.Run("a sweep leaves a run that was re-opened at a moment still to come", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		if _, err := s.Begin(t.Context(), begin); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Complete(t.Context(), completion(id, store.Failed, "", now)); err != nil {
			t.Fatal(err)
		}
		a := store.AmendRequest{ID: id, Status: store.Running, Who: "support", Why: "by a clock that is ahead", Now: now.Add(24 * time.Hour)}
		if _, err := s.Amend(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		f := store.FailStuck{Now: now.Add(time.Hour), Limits: store.DefaultLimits(), Max: 10}
		if done, err := s.FailStuck(t.Context(), f); err != nil || len(done) != 0 {
			t.Errorf("FailStuck: got %+v, %v; want nothing done", done, err)
		}
		if h, err := s.History(t.Context(), id); err != nil || h.Run.Status != store.Running || len(h.Repairs) != 0 {
			t.Errorf("got %+v, %v; want it running, and no repair logged", h, err)
		}
	})
	t.Run("presumed outcomes of each status add up, fold by fold, and are recounted", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		key := begin.Key()
		for round := range 3 {
			var changes []store.Change
			for i, status := range store.Terminals {
				changes = append(changes, store.Change{Op: store.Insert, Mark: store.MarkPresumed, Record: store.Row{
					ID: storetest.MustID('1', 10*round+i), User: begin.User, Workflow: begin.Workflow, Status: status, UpdatedAt: now, CompletedAt: now}})
			}
			if _, err := s.Apply(t.Context(), changes, now); err != nil {
				t.Fatal(err)
			}
			n := int64(round + 1)
			all := store.Tally{Completed: n, Failed: n, Cancelled: n, Timeout: n}
			for range 2 {
				c, err := s.Count(t.Context(), key.Scope(), store.AllTime)
				if err != nil || c.Tallies != (store.Tallies{Ended: all, Presumed: all}) {
					t.Errorf("round %d: got %+v, %v; want %d of each, presumed", round, c, err, n)
				}
				if r, err := s.Recount(t.Context(), key, now); err != nil || r.Changed() {
					t.Errorf("round %d: a recount of a right count: got %+v, %v", round, r, err)
				}
				if a, err := s.Audit(t.Context(), store.Audit{Max: 10}); err != nil || len(a.Drifts) > 0 {
					t.Errorf("round %d: an audit: got %+v, %v", round, a, err)
				}
				if _, err := s.Fold(t.Context(), now, 10); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := s.Apply(t.Context(), []store.Change{{Op: store.Delete, Old: store.Row{ID: storetest.MustID('1', 3)}, HasOld: true},
			{Op: store.Delete, Old: store.Row{ID: storetest.MustID('1', 2)}, HasOld: true}}, now); err != nil {
			t.Fatal(err)
		}
		exact(t, s)
	})
	t.Run("a tombstone is of one run alone", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		for _, n := range []int{1, 9} {
			gone := store.Change{Op: store.Delete, Old: store.Row{ID: storetest.MustID('1', n)}, HasOld: true}
			if _, err := s.Apply(t.Context(), []store.Change{gone}, now); err != nil {
				t.Fatal(err)
			}
		}
		between := begin
		between.ID = storetest.MustID('1', 5)
		for _, created := range []bool{true, false} {
			if got, err := s.Begin(t.Context(), between); err != nil || got.Created != created {
				t.Errorf("Begin: got %+v, %v; want created %v", got, err, created)
			}
		}
	})
	t.Run("a state is loaded as it was saved, new or not", func(t *testing.T) {
		t.Parallel()
		s := mustOpen(t)
		random := rand.New(rand.NewPCG(1, 2))
		var was store.State
		for i := range 200 {
			exists := i%2 == 1
			if !exists {
				was = store.State{}
			}
			want := randomState(random, storetest.MustID('1', i/2))
			err := s.write(t.Context(), func(tx *tx) error {
				if err := tx.save(was, want, exists); err != nil {
					return err
				}
				was = want
				got, found, err := tx.load(want.ID)
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || !found || diff != "" {
					t.Errorf("state %d (-saved +loaded), found %v, %v:\n%s", i, found, err, diff)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		exact(t, s)
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

// randomState is one that can be: an outcome has a time, and what stands in the
// row is what its parts amount to.
func randomState(r *rand.Rand, id store.ID) store.State {
	at := func() time.Time {
		if r.IntN(4) == 0 {
			return time.Time{}
		}
		return time.UnixMicro(int64(1_700_000_000_000_000 + r.IntN(1_000_000_000))).UTC()
	}
	view := func() store.View {
		v := store.View{User: storetest.MustID('a', r.IntN(3)), Status: []store.Status{store.Pending, store.Running, store.Completed, "archived"}[r.IntN(4)]}
		if r.IntN(3) > 0 {
			v.Workflow = storetest.MustID('c', r.IntN(3))
		}
		if r.IntN(3) == 0 {
			v.Draft = storetest.MustID('d', r.IntN(3))
		}
		return v
	}
	s := store.State{ID: id, CreatedAt: at(), StartedAt: at(), UpdatedAt: at(), LeaseAt: at(), ReopenedAt: at(),
		Last: store.Register{Version: int64(r.IntN(3)), At: at(), Heads: []store.View{view()}}}
	if r.IntN(2) == 0 {
		s.Last.Past = []store.View{view()}
	}
	if evidence := store.Evidence(r.IntN(7)); evidence > store.NoEvidence {
		s.Outcome = store.Claim{Evidence: evidence, Outcome: store.Outcome{
			Status: store.Terminals[r.IntN(4)], CompletedAt: time.UnixMicro(int64(r.IntN(1_000_000_000))).UTC(),
			ErrorDetails: []store.JSON{"", "{}"}[r.IntN(2)]}}
		if r.IntN(2) == 0 {
			s.Outcome.Outcome.DurationMS = store.MillisOf(int64(r.IntN(100)))
		}
		if evidence == store.Amended {
			s.Outcome.AmendedAt = at()
		}
	}
	return s
}

func completion(id store.ID, status store.Status, snapshot store.JSON, at time.Time) store.Completion {
	return store.Completion{ID: id, Outcome: store.Outcome{Status: status, Snapshot: snapshot}, Now: at}
}
