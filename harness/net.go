package harness

import (
	"context"
	"fmt"
	"time"
)

// Habit is something that a sender of webhooks does beside delivering each of
// them once.
type Habit int

// The habits of pg_net, as they were measured. All of them deliver in any
// order, up to 200 at once, and the answer is not read.
const (
	// Twice sends a request again, overlapping its own first attempt: what a
	// connection that is closed without an answer leads to.
	Twice Habit = iota
	// Late delivers a request after every deadline.
	Late
	// Never loses one request, which is not tried again.
	Never
	// WholeBatchAgain sends everything again: the worker was cancelled.
	WholeBatchAgain
	// Killed loses whatever hasn't arrived yet: a backend was killed.
	Killed
)

// PgNet are the habits of pg_net.
var PgNet = []Habit{Twice, Late, Never, WholeBatchAgain, Killed}

// A Request is one webhook: what the receiver does with it.
type Request struct {
	Name    string
	Receive func(ctx context.Context) error
}

// lateness is longer than any deadline of a scenario.
const lateness = 1000 * time.Hour

// Deliver is a sender of webhooks as an adversary. Each delivery is an actor
// of its own, so that when it arrives, and what comes between, is explored;
// each habit is a choice that counts as a fault (see [Sim.Faults]), since on a
// good day every request arrives once. An error of the receiver is an answer
// that is not read.
func (s *Sim) Deliver(requests []Request, habits ...Habit) {
	lost, mayBeLost := false, false
	deliver := func(r Request, label string, late bool) {
		s.Go(label, func(ctx context.Context) error {
			if late {
				if err := s.Sleep(lateness); err != nil {
					return nil //nolint:nilerr // the schedule is over
				}
			}
			if mayBeLost {
				if err := s.Step("arrives"); err != nil || lost {
					return nil //nolint:nilerr // the schedule is over
				}
			}
			_ = r.Receive(ctx)
			return nil
		})
	}
	switch s.habit(habits, WholeBatchAgain, Killed) {
	case WholeBatchAgain:
		for _, r := range requests {
			deliver(r, r.Name+" resent", false)
		}
	case Killed:
		mayBeLost = true
		s.Go("the sender", func(context.Context) error {
			err := s.Step("is killed")
			lost = err == nil
			return nil
		})
	}
	for i, r := range requests {
		if r.Name == "" {
			r.Name = fmt.Sprintf("delivery %d", i+1)
		}
		switch s.habit(habits, Twice, Late, Never) {
		case Twice:
			deliver(r, r.Name, false)
			deliver(r, r.Name+" again", false)
		case Late:
			deliver(r, r.Name+" late", true)
		case Never:
		default:
			deliver(r, r.Name, false)
		}
	}
}

const onceAndInTime Habit = -1

// habit chooses one of those that a sender has.
func (s *Sim) habit(has []Habit, among ...Habit) Habit {
	var list []Habit
	for _, h := range among {
		for _, own := range has {
			if own == h {
				list = append(list, h)
			}
		}
	}
	if s.budget == 0 || len(list) == 0 {
		return onceAndInTime
	}
	c := s.run.choose(len(list)+1, true)
	if c == 0 {
		return onceAndInTime
	}
	s.budget--
	s.run.habits++
	return list[c-1]
}
