package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
)

// TestAQueueForOneRow has three that want a row, of whom the last to ask is the
// first that the search asks about: in front of it is one who has its answer
// already.
func TestAQueueForOneRow(t *testing.T) {
	open := accounts(t)
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		for i := range 3 {
			s.Go(fmt.Sprint("actor ", i+1), func(ctx context.Context) error { return add(ctx, pools[i], 1) })
		}
		s.Eventually("all are counted", func() error {
			if n := valueOf(pools[3], 1); n != 3 {
				return fmt.Errorf("n is %d", n)
			}
			return nil
		})
	}, harness.WithStrategies(harness.Random(40)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if r.Schedules() < 30 {
		t.Errorf("only %s", r)
	}
}
