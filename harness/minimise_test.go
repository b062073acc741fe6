package harness_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// twoCrashes has a worker that may crash at any of its steps and begins anew,
// and fails by its second crash, whenever that is; or by one crash, or by none,
// at a moment that the other has to choose.
func twoCrashes(faults int, long bool) func(*harness.Sim) {
	return func(s *harness.Sim) {
		s.Faults(2)
		starts, watched := 0, false
		s.Go("worker", func(context.Context) error {
			starts++
			for range 3 {
				if err := s.Step("works"); err != nil {
					return err
				}
			}
			if watched && starts > faults {
				return errors.New("no luck")
			}
			return nil
		}, harness.Restarts())
		s.Go("watcher", func(context.Context) error {
			for range 2 {
				if err := s.Step("watches"); err != nil {
					return err
				}
			}
			watched = true
			if err := s.Step("shuts its eyes"); err != nil {
				return err
			}
			watched = starts > 2
			return nil
		}, harness.Needed())
		if long {
			for _, name := range []string{"x", "y", "z"} {
				s.Go(name, func(context.Context) error {
					return errors.Join(s.Step("goes"), s.Step("goes on"), s.Step("and on"))
				}, harness.Needed())
			}
		}
	}
}

// afterTwo is a schedule of twoCrashes in which the worker has crashed twice
// when the watcher is done: no order of these steps fails with fewer faults.
const afterTwo = "w~1w~1a3w3"

func TestFewerFaultsAreSearchedForInOtherOrders(t *testing.T) {
	for faults := range 3 {
		r := harnesstest.MustFail(t, harness.Explore(t, twoCrashes(faults, false), harness.WithStrategies(harness.Replay(afterTwo))), "error", "no luck")
		if r.Faults != faults || r.Open {
			t.Errorf("%d faults, want %d; not exhausted: %v\n%s", r.Faults, faults, r.Open, r)
		}
		if strings.Contains(r.String(), "was tried)") {
			t.Errorf("exhausted, it says\n%s", r)
		}
	}
}

// TestWhereFewerFaultsWereNotExhaustedTheReportSaysSo.
func TestWhereFewerFaultsWereNotExhaustedTheReportSaysSo(t *testing.T) {
	r := harnesstest.MustFail(t, harness.Explore(t, twoCrashes(2, true), harness.WithStrategies(harness.Replay(afterTwo))), "error", "no luck")
	const want = "2 faults (not every schedule with fewer was tried)"
	if r.Faults != 2 || !r.Open || !strings.Contains(r.String(), want) || !strings.Contains(r.HTML(), want) {
		t.Errorf("%d faults, not exhausted: %v\n%s", r.Faults, r.Open, r)
	}
	t.Logf("%d replays", r.Replays)
}
