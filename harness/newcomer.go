package harness

import (
	"context"
	"sync"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A newcomer is an actor that a schedule did not begin with: the goroutine in
// which database/sql rolls back a transaction when its context has ended, at any
// moment from then on. It has one step.

// Beside is what that goroutine calls.
func (a *actor) Beside(conn any, foot engine.Footprint, rollBack func()) error {
	run := a.sim.run
	if err := a.dead.get(); err != nil {
		run.contexts.close(conn)
		return err // what it had open is rolled back with it
	}
	b := &actor{sim: a.sim, name: a.name + "'s context", needed: true, parent: a}
	b.worker = &worker{id: engine.Goroutine(), in: make(chan struct{}), out: make(chan signal, 2), gone: true}
	defer func() {
		run.contexts.close(conn)
		b.worker.out <- returned
	}()
	a.sim.x.workers.Store(b.worker.id, b)
	run.contexts.leave(conn, b)
	if _, err := b.Gate(engine.Op{Text: "has ended: rollback", Foot: foot}); err != nil {
		return err
	}
	rollBack()
	run.progress = true
	return nil
}

// contexts are those of the open transactions, and who has come because one of
// them has ended.
type contexts struct {
	mu   sync.Mutex
	of   map[any]<-chan struct{} // of a connection: when it has ended
	came []*actor
	// A goroutine closes a connection, after its rollback and in its own goroutine.
	closing bool
}

func (c *contexts) watch(ctx context.Context, conn any) {
	if ctx.Done() == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[any]<-chan struct{}{}
	}
	c.of[conn] = ctx.Done()
}

func (c *contexts) forget(conn any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.of, conn)
}

func (c *contexts) leave(conn any, newcomer *actor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.of, conn)
	c.came = append(c.came, newcomer)
}

// close forgets a connection that is about to be closed.
func (c *contexts) close(conn any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.of, conn)
	c.closing = true
}

// closed says that no goroutine is at it any more.
func (c *contexts) closed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = false
}

// expected reports whether database/sql is about to roll back a transaction
// whose context has ended, or at it.
func (c *contexts) expected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return true
	}
	for _, ended := range c.of {
		select {
		case <-ended:
			return true
		default:
		}
	}
	return false
}

// admit takes newcomers among the actors.
func (r *execution) admit() {
	r.contexts.mu.Lock()
	came := r.contexts.came
	r.contexts.came = nil
	r.contexts.mu.Unlock()
	for _, b := range came {
		b.id = len(r.sim.actors)
		r.sim.actors = append(r.sim.actors, b)
		<-b.worker.out // it stands at its gate
	}
	if len(came) > 0 {
		letters(r.sim.actors)
	}
}
