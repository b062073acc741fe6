package webhook

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// admission bounds the deliveries of one kind of senders, from before a body is
// read until its answer: all of them, the large ones, the huge ones, and the memory
// for bodies that may become dead letters.
type admission struct {
	slots, large, huge slots
	remember           *semaphore.Weighted // bytes
}

func newAdmission(l AdmissionLimits) admission {
	return admission{newSlots(l.Slots), newSlots(l.Large), newSlots(l.Huge), semaphore.NewWeighted(l.Keep)}
}

// Busy are the slots that are taken.
type Busy struct{ Slots, Large, Huge int }

// Busy returns the slots that known and unverified senders' deliveries have taken.
func (r *Receiver) Busy() (known, unverified Busy) { return r.known.busy(), r.unverified.busy() }

func (a admission) busy() Busy {
	return Busy{int(a.slots.taken.Load()), int(a.large.taken.Load()), int(a.huge.taken.Load())}
}

// slots is a bounded number of deliveries at once.
type slots struct {
	*semaphore.Weighted
	taken *atomic.Int64
}

func newSlots(n int) slots { return slots{semaphore.NewWeighted(int64(n)), new(atomic.Int64)} }

// acquire takes a slot, and waits for one as long as that. The error is
// [problem.ErrBusy].
func (s slots) acquire(wait time.Duration) error {
	if s.TryAcquire(1) {
		s.taken.Add(1)
		return nil
	}
	if wait <= 0 {
		return problem.ErrBusy
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if s.Acquire(ctx, 1) != nil {
		return problem.ErrBusy
	}
	s.taken.Add(1)
	return nil
}

func (s slots) release() {
	s.taken.Add(-1)
	s.Release(1)
}

// slot is one that is taken once it turns out to be needed.
type slot struct {
	of    slots
	taken bool
}

func (s *slot) acquire(wait time.Duration) error {
	if s.taken {
		return nil
	}
	err := s.of.acquire(wait)
	s.taken = err == nil
	return err
}

func (s *slot) release() {
	if s.taken {
		s.of.release()
	}
}
