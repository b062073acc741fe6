package harness

import (
	"context"
	"database/sql/driver"
	"sync"
)

// A newcomer is an actor that a schedule did not begin with: the goroutine in
// which database/sql rolls back a transaction when its context has ended, at any
// moment from then on. It has one step.

// rollBackBeside is what that goroutine calls.
func (c *conn) rollBackBeside() error {
	run, a := c.born, c.user
	if c.over() || a == nil {
		return driver.ErrBadConn
	}
	if err := a.dead.get(); err != nil {
		run.contexts.close(c.physical)
		return err // what it had open is rolled back with it
	}
	b := &actor{sim: a.sim, name: a.name + "'s context", needed: true, parent: a}
	b.worker = &worker{id: goroutineID(), in: make(chan struct{}), out: make(chan signal, 2), gone: true}
	defer func() { b.worker.out <- returned }()
	foot := c.ending(true)
	a.sim.x.workers.Store(b.worker.id, b)
	run.contexts.leave(c.physical, b)
	if _, err := b.gate(op{text: "has ended: rollback", foot: foot}); err != nil {
		return err
	}
	c.rollBack()
	run.progress = true
	return nil
}

// contexts are those of the open transactions, and who has come because one of
// them has ended.
type contexts struct {
	mu   sync.Mutex
	of   map[*physical]<-chan struct{} // when it has ended
	came []*actor
}

func (c *contexts) open(ctx context.Context, p *physical) {
	if ctx.Done() == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[*physical]<-chan struct{}{}
	}
	c.of[p] = ctx.Done()
}

func (c *contexts) close(p *physical) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.of, p)
}

func (c *contexts) leave(p *physical, newcomer *actor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.of, p)
	c.came = append(c.came, newcomer)
}

// expected reports whether database/sql is about to roll back a transaction
// whose context has ended.
func (c *contexts) expected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
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
