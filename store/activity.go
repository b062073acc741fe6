package store

import (
	"context"
	"fmt"
	"time"
)

// Activity sums up the deliveries of a minute, or of a step of several, over all
// instances of the program.
type Activity struct {
	At time.Time // its beginning
	// Since is from when on an instance has watched without a gap: from At, or from before
	// where it recorded nothing in the minutes between, since nothing happened in them. A
	// time that no Since reaches is one that no instance has seen.
	Since time.Time

	Deliveries int64
	Refused    int64 // of the deliveries, those that the sender has to mend
	Failed     int64 // of the deliveries, those that the database or the program could not take
	Changes    int64 // that said something new
	Duplicates int64 // changes that were known already
	OutOfOrder int64 // changes
	// Lost are calls and statements that were found lost on their way here. Each instance
	// finds the same, so the greatest number of any instance stands for a minute.
	Lost int64
	Lag  time.Duration // the greatest between a change and its arrival
}

// Quiet reports whether nothing happened.
func (a Activity) Quiet() bool {
	return a.Deliveries == 0 && a.Refused == 0 && a.Failed == 0 && a.Changes == 0 && a.Duplicates == 0 && a.OutOfOrder == 0 && a.Lost == 0 && a.Lag == 0
}

// Plus returns both together, of the same minute or step.
func (a Activity) Plus(b Activity) Activity {
	if a.Since.IsZero() || !b.Since.IsZero() && b.Since.Before(a.Since) {
		a.Since = b.Since
	}
	a.Deliveries += b.Deliveries
	a.Refused += b.Refused
	a.Failed += b.Failed
	a.Changes += b.Changes
	a.Duplicates += b.Duplicates
	a.OutOfOrder += b.OutOfOrder
	a.Lost = max(a.Lost, b.Lost)
	a.Lag = max(a.Lag, b.Lag)
	return a
}

// ActivityStep is the shortest step of an [ActivityLog].
const ActivityStep = time.Minute

// KeepActivity is the time for which activity is kept.
const KeepActivity = 8 * 24 * time.Hour

// ActivityLog keeps what happened for the charts of the console, so that a restart and
// a second instance forget nothing. No count depends on it.
type ActivityLog interface {
	// RecordActivity adds what one instance has seen to the minutes in which it happened,
	// all of it or nothing. At is cut to the minute. Quiet minutes are not written (law 5).
	// Repeated after a commit that was not known, it adds twice: charts bear that.
	RecordActivity(ctx context.Context, minutes ...Activity) error

	// Activity returns what was recorded from a time on, before another, in steps that
	// begin at multiples of their length since 1970 in UTC. Steps in which nothing was
	// recorded are left out. Lost is summed over the minutes of a step.
	//
	// Errors: [ErrInvalid] for a step that is no multiple of a minute.
	Activity(ctx context.Context, from, to time.Time, step time.Duration) ([]Activity, error)
}

// ValidateActivityStep refuses a step that is no multiple of a minute.
func ValidateActivityStep(step time.Duration) error {
	if step < ActivityStep || step%ActivityStep != 0 {
		return fmt.Errorf("%w: activity is kept by the minute, and a step of %s is no multiple of that", ErrInvalid, step)
	}
	return nil
}
