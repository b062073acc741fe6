package harness

import (
	"context"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// Engine is for the engines of this module: what they know of the scheduler.
func (s *Sim) Engine() engine.Host { return host{s} }

// host is the scheduler as its engines see it.
type host struct{ s *Sim }

// current is the schedule that runs, or nil. That need not be the one in which
// an engine was given its host.
func (h host) current() *execution { return h.s.x.current() }

func (h host) Next(first func(number int) engine.Engine) engine.Engine {
	i, home := h.s.databases, h.s.x.home
	h.s.databases++
	if i == len(home.engines) {
		home.engines = append(home.engines, first(i))
	}
	return home.engines[i]
}

func (h host) OnClose(do func())                     { h.s.x.home.onClose(do) }
func (h host) OnEnd(do func())                       { h.s.x.current().sim.OnEnd(do) }
func (h host) Setting(key any) any                   { return h.s.x.settings.engine[key] }
func (h host) Resource(name string) engine.Resources { return h.s.x.home.resources.of(name) }
func (h host) Detailed() bool                        { r := h.current(); return r != nil && r.detail }
func (h host) WholeTransactions() bool               { return h.s.x.settings.grain == Transactions }
func (h host) Rename(text string) string             { return h.s.x.rename(text) }
func (h host) Unexplored(what string)                { h.s.x.unexplored(what) }
func (h host) Unscheduled(sentence string)           { h.s.x.unscheduled(sentence) }
func (h host) Unseen()                               { h.s.x.watched.looked(0) }
func (h host) Outside()                              { h.s.outside = true }
func (h host) Unsteady()                             { h.s.x.home.unsteady = true }

func (h host) Caller() (engine.Actor, error) {
	a, err := h.s.x.caller()
	if a == nil {
		return nil, err // and not an interface that holds a nil
	}
	return a, err
}

func (h host) Here() engine.Actor {
	a := h.s.x.at(engine.Goroutine())
	if a == nil {
		return nil
	}
	return a
}

func (h host) Schedule() any {
	r := h.current()
	if r == nil {
		return nil
	}
	return r
}

func (h host) Now() time.Time {
	if r := h.current(); r != nil {
		return r.sim.now
	}
	return epoch
}

func (h host) Whole() bool {
	r := h.current()
	return r != nil && r.failure == nil && !r.aborted && r.diverged == "" && r.without.actors.len() == 0
}

func (h host) Progress(publishes bool) {
	if r := h.current(); r != nil {
		r.progress, r.publish = true, r.publish || publishes
	}
}

func (h host) Asked(read engine.Resources) {
	if r := h.current(); r != nil && r.asked != nil {
		*r.asked |= read
	}
}

func (h host) Chose() {
	if r := h.current(); r != nil {
		r.choice = true
	}
}

func (h host) Watch(ctx context.Context, conn any) (forget func()) {
	r := h.current()
	if r == nil {
		return func() {}
	}
	r.contexts.watch(ctx, conn)
	return func() { r.contexts.forget(conn) }
}

func (a *actor) Name() string { return a.name }
func (a *actor) Dead() error  { return a.dead.get() }

// Crash ends an actor after what it has done: its process has died.
func (a *actor) Crash() error {
	a.die(errCrashed)
	return errCrashed
}

// Step is the gate of an engine's statement. Within a transaction that is one
// step, it belongs to what came before.
func (a *actor) Step(o engine.Op, inTx bool) (Fault, error) {
	o.Local = o.Foot.Local()
	if a.sim.x.settings.grain == Transactions {
		if inTx {
			a.op = o
			return a.sim.fault(a, o)
		}
		o.Foot = engine.Footprint{Everything: true}
	}
	return a.Gate(o)
}

// Note keeps what a report tells of the step.
func (a *actor) Note(reads, writes []string, ends bool) {
	ev := a.event
	if ev == nil || !a.sim.run.detail {
		return
	}
	for _, what := range reads {
		ev.reads = append(ev.reads, access{what})
	}
	for _, what := range writes {
		ev.writes = append(ev.writes, access{what})
	}
	ev.ends = ev.ends || ends
}

// anyTraits are those of a database of which nothing is known.
var anyTraits = engine.Traits{
	KeepRow:    "lock it before it is read",
	ComeFirst:  "take a lock that both take, before the read, or run both as serializable",
	ReadAfresh: "take a lock that both take, before the read, or put the condition into the statement that writes",
}

// traits are those of the databases of this schedule: the words of the first,
// and terse where one is.
func (s *Sim) traits() engine.Traits {
	t := anyTraits
	if s.x == nil || s.x.home == nil {
		return t
	}
	terse := false
	for i, e := range s.x.home.engines[:s.databases] {
		its := e.Traits()
		terse = terse || its.Terse
		if i == 0 {
			t = its
		}
	}
	t.Terse = terse
	return t
}
