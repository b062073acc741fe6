package harness

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// The flight of a statement that may wait outside of the process.
const (
	grounded int32 = iota // none is under way
	sent                  // the scheduler waits for its answer
	blocked               // the scheduler has found that it waits for another actor's
)

// outsidePatience is how long a statement may neither have an answer nor be
// found to wait for another.
const outsidePatience = 20 * time.Second

// aloft is a statement under way. The scheduler looks at it while its actor may have
// its answer, and send the next.
type aloft struct {
	engine.Flight
	state atomic.Int32
}

// Fly says that a statement of the actor is sent to where it may have to wait.
func (a *actor) Fly(f engine.Flight) {
	up := &aloft{Flight: f}
	up.state.Store(sent)
	a.flight.Store(up) // from here on the scheduler looks
}

// Land is where its answer has arrived. What had to wait for another's waits
// here until the actor is chosen again.
func (a *actor) Land() error {
	up := a.flight.Load()
	if up.state.CompareAndSwap(sent, grounded) {
		return nil
	}
	a.yield()
	a.arrived = false
	up.state.Store(grounded)
	return a.dead.get() // it was aborted, perhaps after its answer
}

// underway returns the actor's statement and its state; grounded where there is none.
func (a *actor) underway() (up *aloft, state int32) {
	if up = a.flight.Load(); up != nil {
		state = up.state.Load()
	}
	return up, state
}

// flies reports whether the scheduler waits for an answer.
func (a *actor) flies() bool {
	_, state := a.underway()
	return state == sent
}

// heldUp looks whether a statement that was sent waits for another actor's. Then
// going on with its answer is the actor's next step.
func (a *actor) heldUp(start time.Time) bool {
	up, state := a.underway()
	if state != sent {
		return false
	}
	blames, held := up.Held(start)
	if !held || !up.state.CompareAndSwap(sent, blocked) {
		if time.Since(start) > outsidePatience && up.state.Load() == sent {
			panic(fmt.Sprintf("harness: the server has neither answered nor blocked %s for %s: %s", a.name, outsidePatience, a.op.Text))
		}
		return false
	}
	a.Tell("waits for " + blames)
	a.op = engine.Op{
		Text: "… goes on", Foot: engine.Footprint{Everything: true},
		Ready: func() bool {
			a.arrived = a.arrived || a.arrives(up)
			return a.arrived
		},
		Blames: func() string { blames, _ := up.Held(time.Time{}); return blames },
	}
	return true
}

// arrives waits until a statement that was blocked has its answer, or is found
// to be blocked still.
func (a *actor) arrives(up *aloft) bool {
	deadline := time.Now().Add(outsidePatience)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		if a.answered() {
			return true
		}
		if _, held := up.Held(time.Time{}); held {
			return false
		}
		select {
		case <-a.worker.out:
			return true
		case <-time.After(pause):
		}
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("harness: the server has neither answered nor blocked %s for %s", a.name, outsidePatience))
		}
	}
}

// answered takes what an actor says whose statement was blocked: that it has its
// answer.
func (a *actor) answered() bool {
	select {
	case <-a.worker.out:
		return true
	default:
		return false
	}
}

// abort ends the statement that an actor waits for.
func (a *actor) abort() {
	up, state := a.underway()
	if state == grounded {
		return
	}
	if up.state.CompareAndSwap(sent, blocked) || up.state.Load() == blocked && !a.arrived {
		up.Abort()
		<-a.worker.out
	}
}

func (h host) Underway(asks engine.Actor) (list []engine.Flight) {
	for _, a := range h.s.actors {
		up, state := a.underway()
		if state == blocked && !a.arrived && engine.Actor(a) != asks { // who stands in front of it may have its answer, and be idle
			a.arrived = a.answered()
		}
		if state == blocked && !a.arrived || state == sent {
			list = append(list, up.Flight)
		}
	}
	return list
}
