package scenarios

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/internal/need"
)

// longer are how many scenarios of five or six deeds are drawn, and how many
// schedules of each are sampled by each strategy; with -harness.time=1m each
// of them goes on for so long.
type longer struct{ scenarios, schedules int }

// faults are how many may happen in one schedule.
const faults = 2

func (l longer) sampled() longer {
	if need.Raced {
		return longer{2, 15}
	}
	return l
}

// draw draws deeds, by a seed that makes them the same every time.
func (l longer) draw(t *testing.T, names []string, explore func(t *testing.T, drawn []int, options ...harness.Option) *harness.Result) {
	t.Parallel()
	l = l.sampled()
	r := rand.New(rand.NewPCG(4, 6))
	for i := range l.scenarios {
		drawn := make([]int, 5+r.IntN(2))
		for j := range drawn {
			drawn[j] = r.IntN(len(names))
		}
		slices.Sort(drawn)
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			t.Parallel()
			for _, how := range [][]harness.Option{
				{harness.WithStrategies(harness.Random(l.schedules), harness.PCT(3, l.schedules))},
				// By whole calls: where writers take turns, that is what orders
				// are made of.
				{harness.WithStrategies(harness.PCT(3, l.schedules)), harness.WithGrain(harness.Transactions)},
			} {
				got := explore(t, drawn, append(how, harness.Seed(uint64(i)+1))...)
				if got.Failure != nil {
					t.Fatalf("%s", got.Report)
				}
				if got.Schedules() < l.schedules {
					t.Errorf("%s, want %d schedules or more", got, l.schedules)
				}
			}
		})
	}
}

// TestLongerScenarios runs five or six deeds at once.
func TestLongerScenarios(t *testing.T) {
	longer{12, 300}.draw(t, deedNames(), func(t *testing.T, drawn []int, options ...harness.Option) *harness.Result {
		var list []deed
		for _, d := range drawn {
			list = append(list, deeds[d])
		}
		scenario := together(ours(), list...)
		return harness.Explore(t, func(s *harness.Sim) { s.Faults(faults); scenario(s) }, options...)
	})
}

// TestLongerScenariosOnSQLite runs five or six acts at once on the product's
// SQLite store.
func TestLongerScenariosOnSQLite(t *testing.T) {
	longer{8, 60}.draw(t, actNames(), func(t *testing.T, drawn []int, options ...harness.Option) *harness.Result {
		var list []act
		for _, d := range drawn {
			list = append(list, acts[d])
		}
		scenario := atOnce(list...)
		return harness.Explore(t, func(s *harness.Sim) { s.Faults(faults); scenario(s) }, options...)
	})
}
