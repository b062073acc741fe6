package harness

import (
	"context"
	"fmt"
	"testing"
)

// turns lets another actor go at each step.
type turns struct{ at int }

func (c *turns) pick(_ *execution, ready []*actor) *actor { c.at++; return ready[c.at%len(ready)] }
func (c *turns) blocked(*execution, *actor)               {}
func (c *turns) choose(*execution, int, bool) int         { return 0 }

// BenchmarkSwitches is the scheduler alone: two actors that take turns.
func BenchmarkSwitches(b *testing.B) {
	const steps = 4000
	x := newExplorer(b, func(s *Sim) {
		for i := range 2 {
			s.Go(fmt.Sprint("actor ", i+1), func(context.Context) error {
				for range steps / 2 {
					if err := s.Step("goes"); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}, nil)
	defer x.close()
	for b.Loop() {
		if run := x.execute(&turns{}, omissions{}, false); len(run.events) != steps || run.failure != nil {
			b.Fatalf("%d steps, %v", len(run.events), run.failure)
		}
	}
	switches := float64(steps) * float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.Elapsed())/switches, "ns/switch")
	b.ReportMetric(switches/b.Elapsed().Seconds(), "switches/s")
}
