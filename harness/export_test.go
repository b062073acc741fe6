package harness

import (
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// What tests of whole explorations look at, which stand outside of the package
// since the engines import it.

// Seen is a schedule that was run.
type Seen struct{ *execution }

// A SeenStep is one of its steps.
type SeenStep struct {
	Actor        int
	Text, Result string
	Fault        Fault
	Show         []string
	Foot         engine.Footprint
}

func (s Seen) Schedule() fmt.Stringer { return s.schedule() }
func (s Seen) Trace() string          { return s.trace() }
func (s Seen) Failed() *Failure       { return s.failure }
func (s Seen) Aborted() bool          { return s.aborted }
func (s Seen) Unsteady() bool         { return s.x.home.unsteady }
func (s Seen) Actors() int            { return len(s.sim.actors) }

func (s Seen) Steps() (list []SeenStep) {
	for _, ev := range s.events {
		list = append(list, SeenStep{ev.actor, ev.text, ev.result, ev.fault, ev.show, ev.foot})
	}
	return list
}

// Eyes are what see an exploration: every schedule that ran to its end, and
// every schedule, when it has been taken down. Dependent stands in place of the
// real one.
type Eyes struct {
	Schedule, End func(Seen)
	Dependent     func(a, b engine.Footprint) bool
}

// Dependent and Hash are those of the search and of the files' names.
var (
	Dependent = dependent
	Hash      = hash
)

// WithQuiet says how long another process may send nothing.
func WithQuiet(d time.Duration) Option { return func(s *settings) { s.quiet = d } }

// ExploreBefore is [Explore], before eyes.
func ExploreBefore(t testing.TB, eyes Eyes, scenario func(*Sim), options ...Option) *Result {
	x := newExplorer(t, scenario, options)
	defer x.close()
	x.dependent = eyes.Dependent
	if eyes.Schedule != nil {
		x.observe = func(r *execution) { eyes.Schedule(Seen{r}) }
	}
	if eyes.End != nil {
		x.observeEnd = func(r *execution) { eyes.End(Seen{r}) }
	}
	r := &Result{}
	x.explore(r)
	return r
}

// WithPatience is a gate that waits less for an oracle's statement.
func WithPatience(c driver.Connector, d time.Duration) driver.Connector {
	c.(*gateConnector).gate.patience = d
	return c
}

// Follow draws schedules of a scenario, and follows each where another option
// says, a number of times at most until it is the same there.
func Follow(t testing.TB, scenario func(*Sim), there Option, seed, schedules uint64, times int, see func(Seen, Verdict)) {
	x := newExplorer(t, scenario, nil)
	defer x.close()
	y := x.elsewhere(there)
	defer y.close()
	for i := range schedules {
		run := x.execute(&random{rand: rand.New(rand.NewPCG(seed, i))}, omissions{}, true)
		_, v := y.follow(run, omissions{}, times)
		see(Seen{run}, v)
	}
}

// Word is the schedule as a replay has it, with what it leaves out.
func (r *Report) Word() string { return r.Schedule.String() + r.without }

// Limit is how many schedules the strategy may try, or 0.
func (s Strategy) Limit() int { return s.schedules }
