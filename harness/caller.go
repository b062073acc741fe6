package harness

import (
	"bytes"
	"errors"
	"runtime"
	"strconv"
)

// goroutineID is the number by which the runtime's stacks call the caller. It
// costs some 5 µs, and more on a deep stack.
func goroutineID() uint64 {
	var text [40]byte
	fields := bytes.Fields(text[:runtime.Stack(text[:], false)])
	id, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		panic("harness: the runtime's stacks have changed: " + string(text[:]))
	}
	return id
}

// at is the actor that a goroutine runs, or nil.
func (x *explorer) at(id uint64) *actor {
	a, ok := x.workers.Load(id)
	if !ok {
		return nil
	}
	return a.(*actor) //nolint:forcetypeassert // the only type in it
}

// caller returns the actor whose goroutine calls, or nil for what the scenario
// and its oracles do. A goroutine that is no actor's fails the schedule while one
// runs: it would go on at moments that nothing has chosen.
func (x *explorer) caller() (*actor, error) {
	if a := x.at(goroutineID()); a != nil || !x.stepping.Load() {
		return a, nil
	}
	text := "a goroutine that is no actor's uses the database beside the actors, at moments that no schedule chooses: start it with Sim.Go, or let the actor do its work"
	(&execution{x: x}).unscheduled(text)
	return nil, errors.New("harness: " + text)
}
