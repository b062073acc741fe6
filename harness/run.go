package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// maxSteps is where a schedule is taken for one that never ends.
const maxSteps = 5_000

// A Failure is what a schedule ended with.
type Failure struct {
	Kind    string // always, eventually, error, deadlock, panic, livelock, linearizable, diverged, unscheduled
	Oracle  string // its name, or the actor's
	Message string
	Step    int // after which it showed, from 1; 0 at the end
}

// same reports whether two failures are of the same oracle.
func (f *Failure) same(g *Failure) bool {
	return f != nil && g != nil && f.Kind == g.Kind && f.Oracle == g.Oracle
}

// An event is one step as it happened.
type event struct {
	actor   int // -1 is the clock
	op      int // which of its operations, from 1, or 0; see [event.place]
	text    string
	result  string
	fault   Fault
	foot    engine.Footprint
	reads   []access
	writes  []access
	ends    bool     // its transaction, or it was none
	show    []string // what the scenario shows after it
	choices []int
}

// place returns the operation that the step is of, if it is one of any.
func (ev *event) place() (op opPlace, within bool) {
	return opPlace{ev.actor, ev.op - 1}, ev.op > 0
}

// An access is what a step read or wrote, in words.
type access struct{ what string }

// execution is one run of the scenario under a chooser.
type execution struct {
	x         *explorer
	sim       *Sim
	chooser   chooser
	without   omissions
	detail    bool // keep what a report needs
	events    []event
	going     []*actor // kept for [execution.ready]
	setup     []int    // choices before any actor ran
	habits    int      // of a sender, that count as faults
	timers    []time.Time
	progress  bool              // the last step let others go on
	publish   bool              // the last step can have changed what is committed
	asked     *engine.Resources // what the oracle has read that is being asked
	identify  bool              // which goroutine calls is looked up each time, see [explorer.caller]
	contexts  contexts
	ending    bool // those in the background are alone
	restart   bool // an actor was away for the first time, see [worker]
	last      *actor
	unwatched bool // something may have come to an engine beside the steps, see [engine.Watcher]
	failure   *Failure
	aborted   bool // nothing new could come of it
	diverged  string
	choice    bool // a statement that a lock had held went on before its turn, as the engine chose
	seen      []bool
}

// omissions are parts of a scenario that the minimiser leaves out.
type omissions struct {
	actors actorSet
	ops    map[opPlace]bool
}

// A chooser decides what a schedule leaves open.
type chooser interface {
	// pick returns one of the actors that can go on, or nil to give up.
	pick(run *execution, ready []*actor) *actor
	// blocked takes the last pick back: it turned out that it has to wait.
	blocked(run *execution, a *actor)
	// choose returns a number below n.
	choose(run *execution, n int, fault bool) int
}

// execute runs the scenario once.
func (x *explorer) execute(c chooser, without omissions, detail bool) *execution {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sim{ctx: ctx, x: x, now: epoch, budget: 1}
	run := &execution{x: x, sim: s, chooser: c, without: without, detail: detail, events: make([]event, 0, x.length)}
	run.identify = x.identifies()
	s.run = run
	x.running(run)
	defer func() {
		if x.abandoned {
			return
		}
		s.current.Store(nil)
		run.takeDown(cancel)
		for _, a := range s.actors {
			if a.endless {
				run.fail(&Failure{Kind: "error", Oracle: a.name, Message: "its statements fail, and it tries again for ever: an actor must return when its context or process has ended"})
			}
		}
		x.length = len(run.events)
		for i := range s.closers {
			s.closers[len(s.closers)-1-i]()
		}
		run.strayed()
		x.running(nil)
		if x.observeEnd != nil {
			x.observeEnd(run)
		}
	}()
	x.scenario(s)
	s.unambiguous()
	letters(s.actors)
	if p, ok := c.(*replay); ok {
		if p.begin(run); run.diverged != "" {
			return run
		}
	}
	run.actorsRun()
	for _, a := range s.actors {
		if run.without.actors.has(a.id) {
			a.done = true
			continue
		}
		a.start()
		if run.restart = run.restart || a.away != nil && !x.attentive.Load(); run.restart {
			return run
		}
	}
	if run.ended() {
		return run
	}
	run.loop()
	run.actorsEnd()
	if run.failure == nil && !run.aborted && run.diverged == "" && !run.restart {
		run.finish()
	}
	return run
}

// moreLetters are enough for as many actors as there can be.
const moreLetters = "abdefghijklmnopqrstuvwxyzαβγδεζηθικλμνξοπρστυφχψωбвгджзийклмнптфцчшщыэюя"

// letters names each actor for schedules: the first letter of its name that is
// still free, or any that is.
func letters(actors []*actor) {
	taken := "c" // the clock
	for _, a := range actors {
		for _, r := range strings.ToLower(a.name) + moreLetters {
			if unicode.IsLetter(r) && !strings.ContainsRune(taken, r) {
				a.letter = string(r)
				taken += a.letter
				break
			}
		}
	}
}

func (r *execution) loop() {
	for {
		ready, waiting := r.ready()
		if r.endBackground() {
			continue
		}
		if r.restart {
			return
		}
		if len(ready) == 0 {
			if waiting && !r.letTimePass() {
				r.deadlock()
			}
			return
		}
		if len(r.events) == maxSteps {
			r.fail(&Failure{Kind: "livelock", Message: fmt.Sprintf("no end after %d steps", maxSteps)})
			return
		}
		a := r.chooser.pick(r, ready)
		if a == nil {
			r.aborted = r.diverged == ""
			return
		}
		if !r.step(a) {
			continue
		}
		if r.restart {
			return
		}
		r.last = a
		r.show()
		if r.strayed() || r.ended() || !r.check() {
			return
		}
	}
}

// endBackground tells those in the background that the others have returned.
func (r *execution) endBackground() bool {
	if r.ending {
		return false
	}
	some := false
	for _, a := range r.sim.actors {
		if a.background == 0 && !a.done && a.parent == nil {
			return false
		}
		some = some || !a.done
	}
	if !some {
		return false
	}
	if r.askClock() {
		return false
	}
	r.ending = true
	for _, a := range r.sim.actors {
		if !a.done && a.cancel != nil {
			a.cancel()
		}
	}
	r.settle()
	return true
}

// ready returns the actors that can go on, and whether others can't.
func (r *execution) ready() (ready []*actor, waiting bool) {
	ready = r.going[:0]
	for _, a := range r.sim.actors {
		switch {
		case a.done:
		case a.background > 0 && a.steps >= a.background && !r.ending:
			waiting = true
		case a.away != nil && !a.ticks(), a.parked, !a.ticks() && a.op.Ready != nil && !a.op.Ready():
			waiting = true
		default:
			ready = append(ready, a)
		}
	}
	if t := r.dueNext(); !t.IsZero() {
		ready = append(ready, r.x.clock)
	}
	r.going = ready
	return ready, waiting
}

// step lets an actor go on until its next gate. It reports false where the
// actor has to wait instead; nothing has happened then.
func (r *execution) step(a *actor) bool {
	if a == r.x.clock {
		r.sim.now = r.dueNext()
		r.events = append(r.events, event{actor: -1, text: "the clock moves to " + r.sim.now.Sub(epoch).String(), foot: engine.Footprint{Everything: true}})
		r.publish = false
		r.unpark()
		return true
	}
	if a.ticks() {
		return r.tick(a)
	}
	r.events = append(r.events, event{actor: a.id, op: a.inOp, text: a.op.Text, foot: a.op.Foot})
	ev := &r.events[len(r.events)-1]
	a.event = ev
	r.progress, r.publish = false, ev.foot.Everything
	a.resume()
	if r.restart = a.away != nil && !r.x.attentive.Load(); r.restart {
		return true
	}
	a.steps++
	a.hold()
	if a.away == nil {
		a.event = nil
	} else {
		ev.text += "; then it waits: " + a.away.String()
	}
	r.settle()
	if a.parked {
		r.events = r.events[:len(r.events)-1]
		r.chooser.blocked(r, a)
		return false
	}
	if r.progress {
		r.unpark()
	}
	if errors.Is(a.dead.get(), errCrashed) && !a.buried {
		r.finishCrash(a)
		if a.buried = !a.restarts; a.restarts {
			a.start()
		}
	}
	return true
}

// finishCrash lets a crashed actor unwind.
func (r *execution) finishCrash(a *actor) {
	r.sim.crashed(a)
	a.kill(a.dead.get())
	for _, b := range r.sim.actors {
		if b.parent == a {
			b.kill(a.dead.get())
		}
	}
	r.unpark()
}

// unpark lets those who had to wait try again.
func (r *execution) unpark() {
	for _, a := range r.sim.actors {
		a.parked = false
	}
}

// ended looks at actors that have returned, and reports whether one failed.
func (r *execution) ended() bool {
	for _, a := range r.sim.actors {
		if !a.done || a.err == nil || a.dead.get() != nil || r.ending && a.background > 0 && errors.Is(a.err, context.Canceled) {
			continue
		}
		kind := "error"
		var p *panicked
		if errors.As(a.err, &p) {
			kind = "panic"
		}
		r.fail(&Failure{Kind: kind, Oracle: a.name, Message: a.err.Error(), Step: len(r.events)})
		return true
	}
	return false
}

// show keeps what the scenario wants to see after each step.
func (r *execution) show() {
	if !r.detail {
		return
	}
	ev := &r.events[len(r.events)-1]
	r.aside(func() {
		for _, show := range r.sim.shows {
			ev.show = append(ev.show, show.value())
		}
	})
}

// check asks the oracles that hold at every moment.
func (r *execution) check() (holds bool) {
	holds = true
	if !r.publish || len(r.sim.always) == 0 {
		return holds
	}
	r.aside(func() {
		for _, o := range r.sim.always {
			if err := r.ask(o); err != nil {
				r.fail(&Failure{Kind: "always", Oracle: o.name, Message: err.Error(), Step: len(r.events)})
				holds = false
				return
			}
		}
	})
	return holds
}

// ask asks an oracle that holds at every moment, and notes which tables it
// reads.
func (r *execution) ask(o oracle) error {
	var read engine.Resources
	r.asked = &read
	defer func() { r.asked = nil }()
	err := o.check()
	r.x.watched.looked(read)
	return err
}

// finish asks the oracles of the end.
func (r *execution) finish() {
	for _, list := range []struct {
		kind    string
		oracles []oracle
	}{{"always", r.sim.always}, {"eventually", r.sim.eventually}} {
		for _, o := range list.oracles {
			ask := o.check
			if list.kind == "always" {
				ask = func() error { return r.ask(o) }
			}
			if err := ask(); err != nil {
				r.fail(&Failure{Kind: list.kind, Oracle: o.name, Message: err.Error()})
				return
			}
		}
	}
	for _, h := range r.sim.histories {
		if err := h.check(); err != nil {
			r.fail(&Failure{Kind: "linearizable", Oracle: h.name, Message: err.Error()})
			return
		}
	}
	for _, s := range r.sim.sometimes {
		r.seen = append(r.seen, s.seen())
	}
}

func (r *execution) fail(f *Failure) {
	if r.failure == nil {
		r.failure = f
	}
}

// deadlock is the failure of actors that all wait.
func (r *execution) deadlock() {
	var who []string
	for _, a := range r.sim.actors {
		if a.done {
			continue
		}
		what := a.name + " waits in " + engine.Clip(a.next().Text, 60)
		if a.away != nil {
			what = a.name + " waits in " + a.away.String()
		} else if a.op.Blames != nil {
			what += ", for " + a.op.Blames()
		}
		who = append(who, what)
	}
	r.fail(&Failure{Kind: "deadlock", Message: strings.Join(who, "; "), Step: len(r.events)})
}

func (r *execution) timer(due time.Time) {
	at, _ := slices.BinarySearchFunc(r.timers, due, time.Time.Compare)
	r.timers = slices.Insert(r.timers, at, due)
}

// dueNext returns when the next sleeper wakes.
func (r *execution) dueNext() time.Time {
	for _, t := range r.timers {
		if t.After(r.sim.now) {
			return t
		}
	}
	return time.Time{}
}

func (r *execution) choose(n int, fault bool) int {
	v := r.chooser.choose(r, n, fault)
	if a := r.sim.current.Load(); a == nil || a.event == nil {
		r.setup = append(r.setup, v)
	} else {
		a.event.choices = append(a.event.choices, v)
	}
	return v
}
