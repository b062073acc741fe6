package store

import (
	"context"
	"time"
)

// Day is the runs that ended on one day in UTC.
type Day struct {
	At      time.Time // its midnight
	Tallies Tallies
}

// Top says of what the greatest counts are asked for.
type Top string

// The lists of greatest counts.
const (
	TopUsers     Top = "users"
	TopWorkflows Top = "workflows" // and drafts, over all their users
)

// Statistics answer what a business asks of all runs together. No limit and no bill
// depends on them. What a method costs grows with the runs or keys that there are: callers
// bound it by the context, and ask seldom.
type Statistics interface {
	// Days returns the runs of all keys that ended from a moment on and before another, by
	// the day in UTC, in order. Days on which none ended are left out.
	Days(ctx context.Context, from, to time.Time) ([]Day, error)

	// Greatest returns at most limit users, or workflows and drafts, with their counts of
	// all time, the greatest first, and those that are equal in the order of their keys. A
	// count of 0 is left out. Key has the user alone, or the kind and ref_id alone.
	// Without the migrations there are none.
	Greatest(ctx context.Context, of Top, limit int) ([]Count, error)
}
