package webhook

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// batchChanges bounds the changes that are committed together, unless a single
// delivery brings more.
const batchChanges = 256

// applyFunc applies changes in one transaction, retrying while the store is
// unavailable.
type applyFunc func(context.Context, []store.Change) ([]store.ApplyResult, error)

// batcher commits the changes of many deliveries in few transactions. It does
// not wait for a batch to fill: while one commits, the next piles up, so a
// batch is as large as the load makes it and a lone delivery waits for no other.
type batcher struct {
	apply   applyFunc
	sizes   prometheus.Observer // changes in one transaction
	queue   chan *entry
	ctx     context.Context // of the workers, and of no request: a sender that left cancels nothing
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu     sync.RWMutex
	closed bool
}

// entry is one delivery in the queue.
type entry struct {
	changes []store.Change
	applied []store.ApplyResult
	err     error
	done    chan struct{}
}

func newBatcher(apply applyFunc, workers, queue int, sizes prometheus.Observer) *batcher {
	ctx, cancel := context.WithCancel(context.Background())
	b := &batcher{apply: apply, sizes: sizes, queue: make(chan *entry, queue), ctx: ctx, cancel: cancel}
	for range workers {
		b.workers.Go(b.work)
	}
	return b
}

// submit returns when the changes are committed, or can't be. The queue has
// as many places as there are slots of deliveries, so that it never blocks.
func (b *batcher) submit(changes []store.Change) ([]store.ApplyResult, error) {
	e := &entry{changes: changes, done: make(chan struct{})}
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return nil, problem.ErrClosing
	}
	b.queue <- e
	b.mu.RUnlock()
	<-e.done
	return e.applied, e.err
}

// waiting returns the length of the queue.
func (b *batcher) waiting() int { return len(b.queue) }

// close lets the workers finish the queue. When the context ends before they
// have, they give up.
func (b *batcher) close(ctx context.Context) error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.queue)
	}
	b.mu.Unlock()
	drained := make(chan struct{})
	go func() {
		b.workers.Wait()
		close(drained)
	}()
	defer b.cancel()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	b.cancel()
	<-drained
	return ctx.Err()
}

func (b *batcher) work() {
	var next *entry // taken from the queue, but too large for the last batch
	for {
		e := next
		if e == nil {
			var ok bool
			if e, ok = <-b.queue; !ok {
				return
			}
		}
		var batch []*entry
		batch, next = b.gather(e)
		b.commit(batch)
		for _, e := range batch {
			close(e.done)
		}
	}
}

// gather returns what has piled up behind a first delivery, and the one that
// did not fit any more.
func (b *batcher) gather(first *entry) (batch []*entry, next *entry) {
	batch = []*entry{first}
	for n := len(first.changes); n < batchChanges; {
		select {
		case e, ok := <-b.queue:
			if !ok {
				return batch, nil
			}
			if n += len(e.changes); n > batchChanges {
				return batch, e
			}
			batch = append(batch, e)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// commit applies a batch in one transaction. One that fails for another reason
// than an unavailable database is split into its deliveries, so that a
// poisonous one fails alone.
func (b *batcher) commit(batch []*entry) {
	var changes []store.Change
	if len(batch) == 1 {
		changes = batch[0].changes
	} else {
		for _, e := range batch {
			changes = append(changes, e.changes...)
		}
	}
	applied, err := b.applySafely(changes)
	if err != nil {
		if len(batch) > 1 && !errors.Is(err, store.ErrUnavailable) && b.ctx.Err() == nil {
			for i := range batch {
				b.commit(batch[i : i+1])
			}
			return
		}
		if b.ctx.Err() != nil {
			err = problem.ErrClosing
		}
		for _, e := range batch {
			e.err = err
		}
		return
	}
	b.sizes.Observe(float64(len(changes)))
	for _, e := range batch {
		e.applied, applied = applied[:len(e.changes)], applied[len(e.changes):]
	}
}

// applySafely turns a panic into an error: a worker that died would take every
// waiting delivery with it.
func (b *batcher) applySafely(changes []store.Change) (applied []store.ApplyResult, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	applied, err = b.apply(b.ctx, changes)
	if err == nil && len(applied) != len(changes) {
		err = fmt.Errorf("the store returned %d results for %d changes", len(applied), len(changes))
	}
	return applied, err
}
