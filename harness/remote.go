package harness

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A remote is an actor whose statements come from another process, through an
// address of its own. Its worker serves that address: it carries out what comes
// there, one request after the other, and so is the goroutine that stands at the
// gates. The actor's function runs beside it, and starts the process, or asks it
// for something. The worker returns when the function has.
type remote struct {
	actor *actor
	asks  chan func()
	over  chan struct{} // closed when the function has returned
	broke *panicked     // what went wrong in a request
}

// serves is what a worker does for an actor that has an address.
func (a *actor) serves(do func()) (body func()) {
	m := &remote{actor: a, asks: make(chan func()), over: make(chan struct{})}
	a.remote = m
	return func() {
		x := a.sim.x
		x.remotes.Store(a.name, m)
		go m.runs(do)
		m.serve()
		for _, left := range a.sim.addressed[a.name] {
			left(a)
		}
		if m.broke != nil {
			a.err = m.broke
		}
	}
}

// runs is the goroutine of the actor's function.
func (m *remote) runs(do func()) {
	id := engine.Goroutine()
	m.actor.sim.x.functions.Store(id, m)
	defer close(m.over)
	defer m.actor.sim.x.functions.Delete(id)
	do()
}

func (m *remote) serve() {
	for {
		select {
		case <-m.over:
			return
		case do := <-m.asks:
			m.does(do)
		}
	}
}

// does carries out a request. What panics there ends the actor.
func (m *remote) does(do func()) {
	defer func() {
		if v := recover(); v != nil {
			m.broke = &panicked{v, stackOfPanic()}
			m.actor.cancel()
		}
	}()
	do()
}

// ask has the worker do something, and returns when it is done; or an error where
// the actor's function has returned, see [engine.Host.Ask].
func (m *remote) ask(do func()) error {
	done := make(chan struct{})
	request := func() {
		defer close(done)
		do()
	}
	select {
	case m.asks <- request:
		<-done
		return nil
	case <-m.over:
		return cmp.Or(m.actor.dead.get(), engine.ErrIdle)
	}
}

// remoteOf is the actor whose function, and not its worker, is that goroutine; or
// nil.
func (x *explorer) remoteOf(goroutine uint64) *remote {
	m, ok := x.functions.Load(goroutine)
	if !ok {
		return nil
	}
	return m.(*remote) //nolint:forcetypeassert // the only type in it
}

// function is the actor with an address whose function calls, or nil.
func (s *Sim) function() *remote {
	if len(s.addressed) == 0 {
		return nil
	}
	return s.x.remoteOf(engine.Goroutine())
}

// inTurn is the step of an actor that calls: of its worker, where its function
// does.
func (s *Sim) inTurn(step func(a *actor) error) (err error) {
	if m := s.function(); m != nil {
		return errors.Join(m.ask(func() { err = step(m.actor) }), err)
	}
	a, err := s.x.caller()
	if a == nil {
		return err
	}
	return step(a)
}

// quiet ends the test where an actor's process sends nothing, and its function
// does not return.
func (a *actor) quiet() {
	x := a.sim.x
	x.abandoned = true
	for _, b := range a.sim.actors {
		if b.cancel != nil {
			b.cancel() // which ends its process
		}
	}
	x.t.Fatalf("harness: for %s the actor %s has sent nothing to its address, and its function has not returned: its process computes, or waits for something that is not the database, which is not explored", x.settings.quiet, a.name)
}

// die has an actor's statements fail from now on. Where they come from another
// process, that ends too.
func (a *actor) die(why error) {
	a.dead.set(why)
	if a.remote != nil {
		a.cancel()
	}
}

func (h host) Addressed(name string, left func(a engine.Actor)) {
	s := h.current().sim
	s.x.remotes.Delete(name) // of the schedule before
	if s.addressed == nil {
		s.addressed = map[string][]func(engine.Actor){}
	}
	s.addressed[name] = append(s.addressed[name], left)
}

func (h host) Ask(name string, do func(a engine.Actor)) error {
	m, ok := h.s.x.remotes.Load(name)
	if !ok {
		return engine.ErrIdle
	}
	r := m.(*remote) //nolint:forcetypeassert // the only type in it
	return r.ask(func() { do(r.actor) })
}

// unambiguous panics where an address would be that of two actors.
func (s *Sim) unambiguous() {
	for name := range s.addressed {
		n := 0
		for _, a := range s.actors {
			if a.name == name {
				n++
			}
		}
		if n > 1 {
			panic(fmt.Sprintf("harness: %d actors are called %s, and it has an address of its own", n, name))
		}
	}
}
