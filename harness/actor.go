package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// errStopped is what every statement of an actor returns once its schedule is
// over, so that it unwinds by its own error handling. Unwinding by a panic
// would leak the connections that database/sql has handed out.
var errStopped = errors.New("harness: the schedule is over")

// errCrashed is what every statement of an actor returns once it has crashed.
// Nothing that it does afterwards reaches the database.
var errCrashed = errors.New("harness: the process crashed")

// An actor is one of the concurrent parts of a scenario. It is a goroutine that
// goes on only when it was chosen.
type actor struct {
	sim                        *Sim
	parent                     *actor // of a newcomer
	id                         int
	name                       string
	letter                     string
	do                         func(ctx context.Context) error
	mayCrash, restarts, needed bool
	op                         engine.Op // at its gate
	event                      *event    // of the step that it is in
	background                 int       // how many steps it takes before the others have returned; 0: it is one of them
	steps                      int
	cancel                     context.CancelFunc
	remote                     *remote     // where its statements come from another process
	worker                     *worker     // its goroutine, until its function has returned
	away                       *stack      // it is at no gate: it waits for something that is not the database
	waiting                    atomic.Bool // it is at a gate
	apart                      atomic.Bool // it is away
	behindDoor                 bool        // it is not, and stands at the door
	held                       bool        // it is at a gate, and is let go on to it by its clock first
	parked                     bool        // it tried, and has to wait until another actor makes progress
	done                       bool        // its function has returned
	dead                       cause       // what its gates return from now on
	refused                    int         // how many of them have
	endless                    bool        // it did not give up then
	buried                     bool        // what it had open was rolled back
	err                        error       // what its function returned
	ops                        int         // how many operations it has begun, see [Sim.Op]
	inOp                       int         // which of them it is in, from 1

	// Where a statement of its own may wait outside of the process.
	flight  atomic.Pointer[aloft] // the last statement that was sent to where it may wait
	arrived bool                  // the answer for which it had to wait
}

// A cause is why an actor's statements fail.
type cause struct{ err atomic.Pointer[error] }

func (c *cause) set(err error) { c.err.Store(&err) }

func (c *cause) get() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
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
		if !more || raised && strings.HasSuffix(frame.Function, ".(*actor).run") {
			return strings.Join(lines, "\n")
		}
		if raised && !strings.HasPrefix(frame.Function, "runtime.") {
			lines = append(lines, fmt.Sprintf("  in %s, %s:%d", frame.Function, filepath.Base(frame.File), frame.Line))
		}
		raised = raised || frame.Function == "runtime.gopanic"
	}
}

// errLeft is what becomes of an actor whose goroutine ends before its function
// has returned.
var errLeft = errors.New("it ended by runtime.Goexit, as t.Fatal and t.Skip do: an actor returns an error instead")

// start runs an actor up to its first gate. What it does before it is its own
// business, unless the exploration is attentive: then its start is a step.
func (a *actor) start() {
	a.done, a.refused, a.behindDoor, a.held, a.parked, a.err, a.ops, a.inOp = false, 0, false, false, false, nil, 0, 0
	a.dead.err.Store(nil)
	ctx, cancel := context.WithCancel(context.WithValue(a.sim.ctx, actorKey{}, a))
	a.cancel, a.remote = cancel, nil
	body := func() { a.run(ctx) }
	if _, ok := a.sim.addressed[a.name]; ok {
		body = a.serves(body)
	}
	a.startWorker(body)
	a.resume()
}

func (a *actor) run(ctx context.Context) {
	a.err = errLeft
	defer func() {
		if v := recover(); v != nil {
			a.err = &panicked{v, stackOfPanic()}
		}
	}()
	if a.sim.x.attentive.Load() && a.remote == nil {
		if _, err := a.Gate(engine.Op{Text: "starts", Foot: a.sim.memory()}); err != nil {
			a.err = err
			return
		}
	}
	a.err = a.do(ctx)
}

type actorKey struct{}

// resume lets an actor go on until its next gate, its end, or until it is away.
func (a *actor) resume() {
	before := a.sim.current.Swap(a)
	a.sim.x.steps.Add(1)
	a.sim.x.stepping.Store(true)
	a.behindDoor = false
	a.worker.in <- struct{}{}
	a.land()
	a.sim.x.stepping.Store(false)
	a.sim.current.Store(before)
}

// Gate hands control to the scheduler, and returns when the actor was chosen:
// the fault that its step shall meet, or the error with which it shall fail
// without having been tried.
func (a *actor) Gate(o engine.Op) (Fault, error) {
	if a.dead.get() != nil {
		return NoFault, a.Refuse()
	}
	if !a.waiting.CompareAndSwap(false, true) {
		return NoFault, a.sim.run.beside("a goroutine that the actor " + a.name + " has started")
	}
	a.op = o
	a.yield()
	a.waiting.Store(false)
	if a.dead.get() != nil {
		return NoFault, a.Refuse()
	}
	return a.sim.fault(a, o)
}

// memory is the footprint of what an actor does between its statements: others
// can notice it where they share a mutex or a channel.
func (s *Sim) memory() engine.Footprint {
	return engine.Footprint{Writes: s.x.home.resources.of("memory")}
}

// GoOn is where an actor has its answer, and is to go on with it. That is a step
// of its own where it matters when: see [worker].
func (a *actor) GoOn(inTx bool) {
	if inTx && a.sim.x.settings.grain == Transactions {
		return // what follows belongs to the step
	}
	if a.sim.x.attentive.Load() && a.dead.get() == nil {
		_, _ = a.Gate(engine.Op{Text: goesOn, Foot: a.sim.memory()})
	}
}

const goesOn = "goes on"

// Wait parks an actor whose step has to wait, until another has made progress.
// What it did so far must have had no effect that another can notice.
func (a *actor) Wait(blames string) (Fault, error) {
	if a.dead.get() != nil {
		return NoFault, a.Refuse()
	}
	a.parked = true
	a.op.Blames = func() string { return blames }
	a.yield()
	a.parked = false
	if a.dead.get() != nil {
		return NoFault, a.Refuse()
	}
	return a.sim.fault(a, a.op)
}

// Refuse is the end of an actor that goes on: one that tries again and again
// would never end.
func (a *actor) Refuse() error {
	const patience = 10_000
	if a.refused++; a.refused > patience {
		a.endless = true
		panic("harness: it goes on for ever")
	}
	return a.dead.get()
}

// kill ends an actor: its function unwinds, and nothing that it does on its
// way reaches the database.
func (a *actor) kill(why error) {
	if a.worker == nil || a.away != nil {
		return
	}
	a.die(why)
	a.abort()
	a.resume()
	if !a.done && a.away == nil {
		panic("harness: an actor goes on after its end")
	}
}
