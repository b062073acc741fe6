package harness

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
)

// errStopped is what every statement of an actor returns once its schedule is
// over, so that it unwinds by its own error handling. Unwinding by a panic
// would leak the connections that database/sql has handed out.
var errStopped = errors.New("harness: the schedule is over")

// errCrashed is what every statement of an actor returns once it has crashed.
// Nothing that it does afterwards reaches the database.
var errCrashed = errors.New("harness: the process crashed")

// An op is what an actor is about to do: it stands at a gate.
type op struct {
	text   string
	foot   footprint
	ready  func() bool   // nil where it can always go on
	blames func() string // whom it waits for, where it isn't ready
	faults []Fault       // what may happen to it
	local  bool          // it is nobody else's business
	last   bool          // others see what it does at once: a COMMIT, a write outside of a transaction
}

// An actor is one of the concurrent parts of a scenario. It runs as a
// coroutine, or a goroutine on a real PostgreSQL: one at a time, and only when
// it was chosen.
type actor struct {
	sim                        *Sim
	id                         int
	name                       string
	letter                     string
	do                         func(ctx context.Context) error
	mayCrash, restarts, needed bool
	op                         op
	event                      *event // of the step that it is in
	next                       func() (struct{}, bool)
	stop                       func()
	yield                      func(struct{}) bool
	parked                     bool  // it tried, and has to wait until somebody makes progress
	done                       bool  // its function has returned
	dead                       error // what its gates return from now on
	refused                    int   // how many of them have
	endless                    bool  // it did not give up then
	buried                     bool  // what it had open was rolled back
	err                        error // what its function returned
	ops                        int   // how many operations it has begun, see [Sim.Op]
	inOp                       int   // which of them it is in, from 1

	// On a real PostgreSQL, where it waits in a statement of its own.
	flight   atomic.Int32
	pid      atomic.Uint32
	server   *PostgresDatabase
	out      chan bool    // it stands at a gate, has its answer, or (false) has returned
	arrived  bool         // the answer for which it had to wait
	looked   atomic.Bool  // for a deadlock, see [lockWord]
	patience atomic.Int64 // a duration, until it has, where it doesn't say so
}

type panicked struct {
	value any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

// stackOfPanic is where a panic came from, without what differs between two
// runs: addresses and numbers of goroutines.
func stackOfPanic() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	var lines []string
	for raised := false; ; {
		frame, more := frames.Next()
		if raised && strings.HasPrefix(frame.Function, "iter.") || !more {
			return strings.Join(lines, "\n")
		}
		if raised && !strings.HasPrefix(frame.Function, "runtime.") {
			lines = append(lines, fmt.Sprintf("  in %s, %s:%d", frame.Function, filepath.Base(frame.File), frame.Line))
		}
		raised = raised || frame.Function == "runtime.gopanic"
	}
}

// start runs an actor up to its first gate. What it does before it is its own
// business.
func (a *actor) start() {
	a.done, a.dead, a.refused, a.parked, a.err, a.ops, a.inOp = false, nil, 0, false, nil, 0, 0
	ctx := context.WithValue(a.sim.ctx, actorKey{}, a)
	body := func() {
		defer func() {
			if v := recover(); v != nil {
				a.err = &panicked{v, stackOfPanic()}
			}
		}()
		a.err = a.do(ctx)
	}
	if a.sim.goroutines {
		a.startGoroutine(body)
	} else {
		a.startCoroutine(body)
	}
	a.resume()
}

// A coroutine runs one actor after the other: its stack has grown by then to
// what a statement in SQLite needs.
type coroutine struct {
	body   func()
	yield  func(struct{}) bool
	resume func() (struct{}, bool)
	stop   func()
}

func newCoroutine() *coroutine {
	c := &coroutine{}
	c.resume, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		for again := true; again; again = yield(struct{}{}) {
			c.body()
			c.body = nil
		}
	})
	return c
}

// startCoroutine gives an actor a coroutine, until its function has returned.
func (a *actor) startCoroutine(body func()) {
	h := a.sim.x.home
	var c *coroutine
	if n := len(h.idle); n > 0 {
		c, h.idle = h.idle[n-1], h.idle[:n-1]
	} else {
		c = newCoroutine()
	}
	c.body, a.yield = body, func(struct{}) bool { return c.yield(struct{}{}) }
	a.next = func() (struct{}, bool) {
		if _, ok := c.resume(); !ok { // it has left by runtime.Goexit, as t.Fatal does
			return struct{}{}, false
		}
		if c.body == nil {
			h.idle = append(h.idle, c)
		}
		return struct{}{}, c.body != nil
	}
	a.stop = func() {
		if _, alive := a.next(); alive {
			panic("harness: an actor goes on after its end")
		}
	}
}

type actorKey struct{}

// resume lets an actor go on until its next gate or its end.
func (a *actor) resume() {
	before := a.sim.current
	a.sim.current = a
	_, alive := a.next()
	a.sim.current = before
	a.done = !alive
}

// gate hands control to the scheduler, and returns when the actor was chosen:
// the fault that its step shall meet, or the error with which it shall fail
// without having been tried.
func (a *actor) gate(o op) (Fault, error) {
	if a.dead != nil {
		return NoFault, a.refuse()
	}
	a.op = o
	if !a.yield(struct{}{}) {
		a.dead = errStopped
	}
	if a.dead != nil {
		return NoFault, a.refuse()
	}
	return a.sim.fault(a, o)
}

// wait parks an actor whose step has to wait, until somebody made progress.
// What it did so far must have had no effect that another can notice.
func (a *actor) wait(blames string) (Fault, error) {
	if a.dead != nil {
		return NoFault, a.refuse()
	}
	a.parked = true
	a.op.blames = func() string { return blames }
	if !a.yield(struct{}{}) {
		a.dead = errStopped
	}
	a.parked = false
	if a.dead != nil {
		return NoFault, a.refuse()
	}
	return a.sim.fault(a, a.op)
}

// refuse is the end of an actor that goes on: one that tries again and again
// would never end.
func (a *actor) refuse() error {
	const patience = 10_000
	if a.refused++; a.refused > patience {
		a.endless = true
		panic("harness: it goes on for ever")
	}
	return a.dead
}

// kill ends an actor: its function unwinds, and nothing that it does on its
// way reaches the database.
func (a *actor) kill(cause error) {
	if a.done || a.next == nil {
		return
	}
	a.dead = cause
	before := a.sim.current
	a.sim.current = a
	a.stop()
	a.sim.current = before
	a.done = true
}
