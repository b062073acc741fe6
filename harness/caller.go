package harness

import (
	"errors"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// at is the actor that a goroutine runs, or nil.
func (x *explorer) at(id uint64) *actor {
	a, ok := x.workers.Load(id)
	if !ok {
		return nil
	}
	return a.(*actor) //nolint:forcetypeassert // the only type in it
}

// caller returns the actor whose goroutine calls, or nil for what the scenario
// and its oracles do. A goroutine that an actor has started gets an error: it
// would go on beside the actor, at moments that nothing has chosen.
func (x *explorer) caller() (*actor, error) {
	run := x.current()
	if run == nil {
		return nil, nil
	}
	if !run.identify && !run.sim.outside {
		return run.sim.current.Load(), nil
	}
	id := engine.Goroutine()
	if a := x.at(id); a != nil {
		if a.apart.Load() {
			a.door()
		}
		return a, nil
	}
	if id == x.goroutine || !x.stepping.Load() {
		return nil, nil
	}
	return nil, run.beside(x.origin(id))
}

// beside fails the schedule for a goroutine that is no actor.
func (r *execution) beside(who string) error {
	text := who + " uses the database beside the actors, at moments that no schedule chooses: start it with Sim.Go, or let the actor do its work"
	r.x.unscheduled(text)
	return errors.New("harness: " + text)
}

// origin says whose goroutine it is that is no actor's.
func (x *explorer) origin(id uint64) string {
	if m := x.remoteOf(id); m != nil {
		return "the function of the actor " + m.actor.name + ", whose statements come by its address,"
	}
	y := &explorer{} // another goroutine than the scheduler's
	all := y.stacks()
	s := all[id]
	text := "a goroutine that " + s.creator + " has started"
	for range 100 {
		if a := x.at(s.parent); a != nil {
			return text + " for the actor " + a.name
		}
		if s = all[s.parent]; s == nil {
			break
		}
	}
	return text
}
