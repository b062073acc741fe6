package harness

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// Sim is one run of a scenario under one schedule. A scenario sets up its
// database, starts its actors with [Sim.Go], names what must hold, and
// returns; the actors run afterwards, one step at a time.
//
// What the scenario does itself, and what its oracles do, is not scheduled: no
// other step comes between.
type Sim struct {
	ctx     context.Context
	x       *explorer
	run     *execution
	actors  []*actor
	current atomic.Pointer[actor] // who was chosen; nil outside of actors
	now     time.Time

	always, eventually []oracle
	sometimes          []sight
	shows              []show
	databases          int                             // how many it has asked for
	outside            bool                            // actors may wait outside of the process
	budget             int                             // faults that may still happen
	addressed          map[string][]func(engine.Actor) // actors whose statements come from another process, and what is done when one has returned
	histories          []*History
	closers            []func()
}

type oracle struct {
	name  string
	check func() error
}

type sight struct {
	name string
	seen func() bool
}

type show struct {
	name  string
	value func() string
}

// start of the virtual clock.
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// An ActorOption says more of an actor.
type ActorOption func(*actor)

// MayCrash lets a fault end the actor at any of its statements: before it, and
// after a COMMIT, or a write outside of a transaction, but before its answer.
// (To die after any other is to die before the next; to die between two that
// no other actor can notice is to die behind the second.) Its connections are rolled
// back, as those of a process that died are.
func MayCrash() ActorOption { return func(a *actor) { a.mayCrash = true } }

// Restarts is [MayCrash], and runs the actor's function again, from its
// beginning, on what the crash left behind.
func Restarts() ActorOption { return func(a *actor) { a.mayCrash, a.restarts = true, true } }

// Needed keeps the minimiser from leaving the actor out: what it does is what
// the oracles ask for.
func Needed() ActorOption { return func(a *actor) { a.needed = true } }

// Background makes the actor one that works for as long as there are others,
// such as a worker that asks for the next job again and again. Its context is
// cancelled when all others have returned; it has to return then, with
// [context.Canceled] if it likes. Until that moment it takes at most so many steps in a schedule: a loop would have no end
// of orders, and the verdict says how far it was followed.
func Background(steps int) ActorOption {
	return func(a *actor) { a.background = max(steps, 1) }
}

// Go starts an actor when the scenario has returned. An actor is a process or
// a goroutine of the system under test: its statements are steps, and what it
// does between two of them belongs to the first. It must return when its
// statements fail, and must not start goroutines that use the database. An
// error that it returns is a failure of the scenario.
func (s *Sim) Go(name string, do func(ctx context.Context) error, options ...ActorOption) {
	if len(s.actors) == maxActors-1 {
		panic(fmt.Sprintf("harness: more than %d actors", maxActors-1))
	}
	a := &actor{sim: s, id: len(s.actors), name: name, do: do}
	for _, o := range options {
		o(a)
	}
	s.actors = append(s.actors, a)
}

// Always names what must hold after every step that can have changed what is
// committed, and at the end. A check that returns an error is a failure.
func (s *Sim) Always(name string, check func() error) {
	s.always = append(s.always, oracle{name, check})
}

// Eventually names what must hold at the end, when all actors have returned
// and no more faults happen. It may do what a system does to get there, such
// as a last sweep.
func (s *Sim) Eventually(name string, check func() error) {
	s.eventually = append(s.eventually, oracle{name, check})
}

// Sometimes names what must be seen at the end of at least one schedule, or
// the test fails: a scenario that never gets to what it is about proves
// nothing.
func (s *Sim) Sometimes(name string, seen func() bool) {
	s.sometimes = append(s.sometimes, sight{name, seen})
}

// Show names a value that the timeline of a failure prints whenever it changes.
func (s *Sim) Show(name string, value func() string) {
	s.shows = append(s.shows, show{name, value})
}

// Now is the virtual clock. It moves only while an actor sleeps, as a step of
// its own that can come at any moment.
func (s *Sim) Now() time.Time { return s.now }

// Sleep ends when the virtual clock has moved by d. It is how an actor waits
// for a lease to run out or a sweep to fall due: all orders of that and the
// other steps are explored.
func (s *Sim) Sleep(d time.Duration) error {
	return s.inTurn(func(a *actor) error {
		if d <= 0 {
			return nil
		}
		due := s.now.Add(d)
		s.run.timer(due)
		_, err := a.Gate(engine.Op{
			Text:   "sleeps " + d.String(),
			Foot:   engine.Footprint{Reads: s.x.home.resources.of("clock")},
			Ready:  func() bool { return !s.now.Before(due) },
			Blames: func() string { return "the clock" },
		})
		return err
	})
}

// Step is a step without a statement: a moment at which the others may come
// between, that touches what no database knows of.
func (s *Sim) Step(name string) error {
	return s.inTurn(func(a *actor) error {
		_, err := a.Gate(engine.Op{Text: name, Foot: engine.Footprint{Everything: true}})
		return err
	})
}

// Choose returns a number from 0 to n-1. Every one of them is tried; 0 is what
// happens on a good day.
func (s *Sim) Choose(n int) int {
	if n < 2 {
		return 0
	}
	return s.run.choose(n, false)
}

// Op runs a part of an actor that a failing schedule may be tried without: the
// minimiser leaves out whole operations where the failure stays. One within
// another belongs to it.
func (s *Sim) Op(do func() error) error {
	if s.function() != nil {
		return do() // a process is left out as a whole
	}
	a, err := s.x.caller()
	if err != nil {
		return err
	}
	if a == nil || a.inOp > 0 {
		return do()
	}
	place := opPlace{a.id, a.ops}
	a.ops++
	if s.run.without.ops[place] {
		return nil
	}
	a.inOp = a.ops
	defer func() { a.inOp = 0 }()
	return do()
}

type opPlace struct{ actor, op int }

// OnEnd runs do when the schedule is over, whatever its end.
func (s *Sim) OnEnd(do func()) { s.closers = append(s.closers, do) }

// Faults lets as many faults happen in one schedule as n says; without it
// there is at most one. They happen only where an actor may crash or a
// database was told to fail.
func (s *Sim) Faults(n int) { s.budget = n }
