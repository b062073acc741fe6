package harness

import (
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// An actor may wait for the machine's clock: in a loop over a ticker, or for a
// channel or a timer. No stack tells who waits for a timer. So where nothing else
// lets actors go on, the clock is given a chance, and whom it lets go on is
// remembered. From then on it takes a step of its own, at any moment, before such an
// actor comes to its next statement: whether the clock was there before it is not
// told apart.

// realTime is how long the machine's clock is given, and looks how often it is
// looked at least what has become of it: a machine that is busy lets us look less
// often.
const (
	realTime = 500 * time.Millisecond
	looks    = 300
)

// byClock waits for what the machine's clock may do.
func byClock(done func() bool) bool {
	soon := time.NewTicker(time.Millisecond)
	defer soon.Stop()
	start := time.Now()
	for i := 0; i < looks || time.Since(start) < realTime; i++ {
		if done() {
			return true
		}
		<-soon.C
	}
	return done()
}

// ticks reports whether the machine's clock lets the actor go on: it waits for that,
// or has it behind it and is held at its gate as if it did.
func (a *actor) ticks() bool {
	return a.held || a.away != nil && a.away.timed() && a.sim.x.ticking[a.name]
}

// next is what an actor does when it is chosen. What it is about to do behind what
// it waits for is not looked at: it may come there at this moment.
func (a *actor) next() engine.Op {
	if a.held || a.away != nil {
		return engine.Op{Foot: a.sim.memory()}
	}
	return a.op
}

// hold holds an actor that has come to a statement by itself.
func (a *actor) hold() {
	a.held = a.sim.x.ticking[a.name] && !a.done && a.away == nil && !a.parked && a.op.Text != goesOn
}

// tick is the step of an actor that the machine's clock lets go on. It reports
// false where that did not come.
func (r *execution) tick(a *actor) bool {
	r.events = append(r.events, event{actor: a.id, op: a.inOp, text: "the machine's clock lets it go on", foot: r.sim.memory()})
	r.progress, r.publish = false, false
	if !a.held {
		place := a.away.String()
		if !byClock(a.hear) {
			r.events = r.events[:len(r.events)-1]
			a.parked = true
			r.chooser.blocked(r, a)
			return false
		}
		r.x.unexplored("waiting for the machine's clock (" + place + "), but for when it ends")
	}
	a.enter()
	a.held = false
	r.settle()
	return true
}

// letTimePass looks whether the machine's clock lets an actor go on, where none
// can without it. If so the exploration begins anew. A place that has waited in vain is not
// waited for again.
func (r *execution) letTimePass() bool {
	all, _ := r.x.still()
	var places []string
	timed := false
	for _, a := range r.sim.actors {
		if a.away != nil {
			places = append(places, a.away.String())
		}
	}
	for id, s := range all {
		timed = timed || id != r.x.goroutine && (s.timed() || !s.parked()) && r.x.descends(all, s)
	}
	key := strings.Join(places, "\n")
	if !timed || r.x.vain[key] {
		return false
	}
	r.restart = byClock(func() (some bool) {
		for _, a := range r.sim.actors {
			if s := a.away; s != nil && a.hear() {
				some, r.x.ticking[a.name] = true, true
			}
		}
		return some
	})
	r.x.vain[key] = !r.restart
	return r.restart
}

// askClock looks whether the machine's clock lets those in the background go on who
// are away when the others have returned.
func (r *execution) askClock() (anew bool) {
	some := false
	for _, a := range r.sim.actors {
		if a.away != nil && a.away.timed() && !a.ticks() {
			some = true
			r.x.wasAt(a.away.String(), false)
		}
	}
	return some && r.letTimePass()
}

// wasAt notes a place where an actor in the background was away, and whether it came
// beyond it.
func (x *explorer) wasAt(place string, passed bool) {
	x.passed[place] = x.passed[place] || passed
}

// neverPassed names the places beyond which an actor in the background never came:
// perhaps a clock would have let it go on, later than it was given.
func (x *explorer) neverPassed() {
	for place, passed := range x.passed {
		if !passed {
			x.unexplored("what follows " + place + ", where an actor in the background was when the others ended")
		}
	}
}
