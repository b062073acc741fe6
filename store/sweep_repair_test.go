package store_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
)

// refusing is a store of stuck runs, some of which it refuses to write.
type refusing struct {
	ticking
	runs    []store.Suspect
	refused map[store.ID]bool
	tried   map[store.ID]int
	fails   int // so many batches from now on
}

func (r *refusing) Suspects(_ context.Context, f store.FailStuck) (page []store.Suspect, err error) {
	slices.SortFunc(r.runs, func(a, b store.Suspect) int { return a.ID.Compare(b.ID) })
	for _, one := range r.runs {
		if one.ID.Compare(f.After) > 0 && len(page) < f.Max {
			page = append(page, one)
		}
	}
	return page, nil
}

func (r *refusing) FailStuck(_ context.Context, f store.FailStuck) (done []store.Repaired, err error) {
	if r.fails--; r.fails >= 0 {
		return nil, fmt.Errorf("%w: a lock", store.ErrUnavailable)
	}
	for _, id := range f.Runs {
		i := slices.IndexFunc(r.runs, func(s store.Suspect) bool { return s.ID == id })
		one := store.Repaired{Reason: store.Stuck, Before: store.Row{ID: id, User: r.runs[i].User}}
		r.tried[id]++
		if r.refused[id] {
			one.Refused = "it is refused"
		} else {
			r.runs = slices.Delete(r.runs, i, i+1)
		}
		done = append(done, one)
	}
	return done, nil
}

// newRefusing has n runs of one user that are refused, one of theirs behind
// them that is not, and two of another user between and behind.
func newRefusing(n int) *refusing {
	r := &refusing{refused: map[store.ID]bool{}, tried: map[store.ID]int{}}
	mallory, bob := sweepID(1<<20), sweepID(1<<21)
	for i := range n {
		r.runs = append(r.runs, store.Suspect{ID: sweepID(i + 1), User: mallory})
		r.refused[sweepID(i+1)] = true
	}
	r.runs = append(r.runs, store.Suspect{ID: sweepID(n + 1), User: mallory},
		store.Suspect{ID: sweepID(n + 2), User: bob}, store.Suspect{ID: sweepID(n + 3), User: bob})
	return r
}

func TestCaseT23_ABriefSweepGoesPastAUsersRefusedRunsAndTheNextGoesOnThere(t *testing.T) {
	const refused = 250
	r := newRefusing(refused)
	s := &store.Sweeper{Store: r, Batch: 10}
	var repairs, unwritable, postponed []int
	for range 4 {
		got := mustSweep(t, s, store.SweepOptions{Brief: true})
		repairs, unwritable, postponed = append(repairs, got.Repairs()), append(unwritable, got.Unwritable), append(postponed, got.Postponed)
	}
	// The other user's two come first, the user's own one behind the 250 in the
	// third sweep, and the fourth begins again.
	for what, pair := range map[string][2][]int{
		"repaired":   {repairs, {2, 0, 1, 0}},
		"unwritable": {unwritable, {100, 100, 50, 100}},
		"postponed":  {postponed, {151, 151, 200, 150}},
	} {
		if !slices.Equal(pair[0], pair[1]) {
			t.Errorf("%s in four sweeps: got %v, want %v", what, pair[0], pair[1])
		}
	}
	tried := slices.SortedFunc(func(yield func(int) bool) {
		for i := range refused {
			if !yield(r.tried[sweepID(i+1)]) {
				return
			}
		}
	}, cmp.Compare)
	if tried[0] != 1 || tried[refused-1] != 2 {
		t.Errorf("the runs were tried %d to %d times in four sweeps: want each once, and the first hundred again", tried[0], tried[refused-1])
	}
}

func TestCaseT23_ASweepThatIsNotBriefTriesAll(t *testing.T) {
	r := newRefusing(250)
	got := mustSweep(t, &store.Sweeper{Store: r, Batch: 10}, store.SweepOptions{})
	if got.Repairs() != 3 || got.Unwritable != 250 || got.Postponed != 0 || len(got.Refused) != 250 {
		t.Errorf("got %d repaired, %d unwritable, %d postponed, %d listed; want 3, 250, 0, 250", got.Repairs(), got.Unwritable, got.Postponed, len(got.Refused))
	}
}

func TestASweepListsTheFirstOfManyRefusedRuns(t *testing.T) {
	const refused = store.MaxReported + 5
	got := mustSweep(t, &store.Sweeper{Store: newRefusing(refused), Batch: 500}, store.SweepOptions{})
	if got.Unwritable != refused || len(got.Refused) != store.MaxReported {
		t.Errorf("got %d unwritable, %d listed; want %d, %d", got.Unwritable, len(got.Refused), refused, store.MaxReported)
	}
}

func TestCaseT23_ABatchThatFailsKeepsNoOtherFromBeingTried(t *testing.T) {
	for fails, want := range map[int]int{1: 20, 2: 10, 3: 0} {
		r := newRefusing(0)
		for n := range 27 {
			r.runs = append(r.runs, store.Suspect{ID: sweepID(100 + n), User: sweepID(1 << 21)})
		}
		r.fails = fails
		got, err := (&store.Sweeper{Store: r, Batch: 10}).Sweep(t.Context(), store.SweepOptions{})
		if err == nil || got.Repairs() != want {
			t.Errorf("%d of three batches fail: %d repaired, %v; want %d, and an error", fails, got.Repairs(), err, want)
		}
	}
}

func TestASweepGivesUpBehindThreeFailedBatchesInARow(t *testing.T) {
	r := newRefusing(0)
	for n := range 50 {
		r.runs = append(r.runs, store.Suspect{ID: sweepID(100 + n), User: sweepID(1 << 21)})
	}
	r.fails = 5
	if got, err := (&store.Sweeper{Store: r, Batch: 10}).Sweep(t.Context(), store.SweepOptions{}); err == nil || got.Repairs() != 0 || r.fails != 2 {
		t.Errorf("got %d repaired, %v, and %d of five failures left; want none, an error, and two", got.Repairs(), err, r.fails)
	}
}
