package scenarios

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// BenchmarkSystem samples this system's own statements: a completion that may
// crash and starts again, a fold and a recount of its key, with all laws asked
// after every commit, and a sweep at the end.
func BenchmarkSystem(b *testing.B) {
	restarts := completes(1, completed, 92, harness.Restarts())
	for _, engine := range []string{"model", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			options := []harness.Option{harness.Share(b)}
			n := 1000
			if engine == "postgres" {
				options, n = append(options, pg.On(pgtest.Database(b))), 100
			}
			schedules := 0
			for seed := uint64(1); b.Loop(); seed++ {
				r := harness.Explore(b, together(ours(), restarts, folds, recounts), append(options, harness.WithStrategies(harness.Random(n)), harness.Seed(seed))...)
				if r.Failure != nil {
					b.Fatal(r.Report)
				}
				schedules += r.Schedules()
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(schedules)/b.Elapsed().Seconds(), "schedules/s")
		})
	}
}

// hard are bugs that are found in some few of many schedules, and one that
// everything finds.
var hard = []string{
	"an upsert with (select count(*))",
	"a retry of what is not idempotent, after a COMMIT whose outcome is unknown",
	"two locks in two orders",
	"a recount without the key's lock",
	"a prune by an earlier look",
	"a webhook that is marked as seen before it is counted",
	"a cursor on updated_at, that misses a late commit",
}

// standsStill is a bug for which one actor has to stand still between two steps
// while the other goes most of its long way.
func standsStill(s *harness.Sim) {
	place, caught := 0, false
	s.Go("runner", func(context.Context) error {
		for range 40 {
			if err := s.Step("runs"); err != nil {
				return err
			}
			place++
		}
		return nil
	})
	s.Go("watcher", func(context.Context) error {
		if err := s.Step("looks"); err != nil {
			return err
		}
		before := place
		if err := s.Step("looks again"); err != nil {
			return err
		}
		caught = before >= 4 && before <= 14 && place-before >= 25
		return nil
	})
	s.Eventually("never caught", func() error {
		if caught {
			return errors.New("caught")
		}
		return nil
	})
}

// BenchmarkStrategies is how many schedules each strategy needs until a planted
// bug shows: the median of 21 seeds where schedules are sampled, and in how many
// of them it showed within 5,000.
func BenchmarkStrategies(b *testing.B) {
	const seeds, budget = 21, 5000
	scenes := map[string]func(*harness.Sim){"one that stands still for long, in 42 steps": standsStill}
	for _, name := range hard {
		i := slices.IndexFunc(bugs, func(b bug) bool { return b.name == name })
		if i < 0 {
			b.Fatalf("no planted bug is called %q", name)
		}
		y := ours()
		bugs[i].plant(&y)
		scenes[name] = bugs[i].scene(y)
	}
	for _, name := range slices.Sorted(maps.Keys(scenes)) {
		after := func(b *testing.B, strategy harness.Strategy, seed uint64) (int, bool) {
			r := harness.Explore(b, scenes[name], harness.WithStrategies(strategy), harness.Seed(seed))
			if r.Failure == nil {
				return r.Schedules() + r.Covered[0].Redundant, false
			}
			return r.After, true
		}
		for _, strategy := range []harness.Strategy{harness.Exhaustive(0), harness.Preemptions(1, 0), harness.Preemptions(2, 0), harness.Random(budget), harness.PCT(2, budget), harness.PCT(3, budget)} {
			sampled := slices.Contains([]string{"random", "PCT(2)", "PCT(3)"}, strategy.String())
			b.Run(fmt.Sprintf("%s/%s", name, strategy), func(b *testing.B) {
				var list []int
				found := 0
				for b.Loop() {
					list, found = nil, 0
					for seed := uint64(1); seed <= seeds; seed++ {
						n, ok := after(b, strategy, seed)
						list = append(list, n)
						if ok {
							found++
						}
						if !sampled {
							break
						}
					}
				}
				slices.Sort(list)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(list[len(list)/2]), "schedules/find")
				b.ReportMetric(100*float64(found)/float64(len(list)), "%found")
			})
		}
	}
}
