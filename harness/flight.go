package harness

import (
	"fmt"
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

// Fly says that a statement of the actor is sent to where it may have to wait.
func (a *actor) Fly(f engine.Flight) {
	a.passage = f
	a.flight.Store(sent) // from here on the scheduler looks
}

// Land is where its answer has arrived. What had to wait for another's waits
// here until the actor is chosen again.
func (a *actor) Land() error {
	if a.flight.CompareAndSwap(sent, grounded) {
		return nil
	}
	a.yield()
	a.arrived = false
	a.flight.Store(grounded)
	return a.dead.get() // it was aborted, perhaps after its answer
}

// heldUp looks whether a statement that was sent waits for another actor's. Then
// going on with its answer is the actor's next step.
func (a *actor) heldUp(start time.Time) bool {
	blames, held := a.passage.Held(start)
	if !held || !a.flight.CompareAndSwap(sent, blocked) {
		if time.Since(start) > outsidePatience && a.flight.Load() == sent {
			panic(fmt.Sprintf("harness: the server has neither answered nor blocked %s for %s: %s", a.name, outsidePatience, a.op.Text))
		}
		return false
	}
	a.Tell("waits for " + blames)
	a.op = engine.Op{
		Text: "… goes on", Foot: engine.Footprint{Everything: true},
		Ready: func() bool {
			a.arrived = a.arrived || a.arrives()
			return a.arrived
		},
		Blames: func() string { blames, _ := a.passage.Held(time.Time{}); return blames },
	}
	return true
}

// arrives waits until a statement that was blocked has its answer, or is found
// to be blocked still.
func (a *actor) arrives() bool {
	deadline := time.Now().Add(outsidePatience)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		if a.answered() {
			return true
		}
		if _, held := a.passage.Held(time.Time{}); held {
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
	if a.flight.CompareAndSwap(sent, blocked) || a.flight.Load() == blocked && !a.arrived {
		a.passage.Abort()
		<-a.worker.out
	}
}

func (h host) Underway(asks engine.Actor) (list []engine.Flight) {
	for _, a := range h.s.actors {
		state := a.flight.Load()
		if state == blocked && !a.arrived && engine.Actor(a) != asks { // who stands in front of it may have its answer, and be idle
			a.arrived = a.answered()
		}
		if state == blocked && !a.arrived || state == sent {
			list = append(list, a.passage)
		}
	}
	return list
}
