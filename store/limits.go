package store

import (
	"fmt"
	"math"
	"time"
)

// LimitScope says whose runs a limit bounds.
type LimitScope string

// The scopes of a limit: the key of the run that is to begin, or all keys of its user.
const (
	KeyLimit  LimitScope = "key"
	UserLimit LimitScope = "user"
)

// Limit bounds the runs of a scope: those that count and those that are active
// together. It binds among the calls that name that scope. Active runs take a slot in
// each window, since they will end in it.
type Limit struct {
	Scope LimitScope
	Max   int64
	From  time.Time // runs that ended before it, and grants from before it, are left out; none where zero
}

// UpTo returns the limits that are one of a key, for all time.
func UpTo(runs int64) []Limit { return []Limit{{Scope: KeyLimit, Max: runs}} }

// Of returns the scope whose runs the limit bounds, of a run with a key. Of the key, a
// limit of the user needs the user alone.
func (l Limit) Of(key Key) Scope {
	if l.Scope == UserLimit {
		return Scope{User: key.User}
	}
	return key.Scope()
}

// ValidateLimits refuses limits that can't be kept, with [ErrInvalid].
func ValidateLimits(limits []Limit, now time.Time) error {
	seen := map[LimitScope]bool{}
	for _, l := range limits {
		switch {
		case l.Scope != KeyLimit && l.Scope != UserLimit:
			return fmt.Errorf("%w: a limit is of a key or of a user, and not of %q", ErrInvalid, l.Scope)
		case seen[l.Scope]:
			return fmt.Errorf("%w: two limits of one %s: send the one that binds", ErrInvalid, l.Scope)
		case l.Max < 0:
			return fmt.Errorf("%w: a limit can't be negative", ErrInvalid)
		case l.From.After(now):
			return fmt.Errorf("%w: the limit of a %s counts from %s, which is still to come: send the beginning of the present period", ErrInvalid, l.Scope, l.From.Format(time.RFC3339))
		}
		seen[l.Scope] = true
	}
	return nil
}

// Usage is how far a limit is used, in one snapshot.
type Usage struct {
	Limit   Limit
	Granted int64 // runs on top of Limit.Max, by grants that raise it
	Counted int64 // ended runs that count, under the policy in force
	Active  int64 // runs that hold a slot without having ended, one that was just begun included
}

// Ceiling returns the number of runs that fill the limit, those granted included.
func (u Usage) Ceiling() int64 { return u.Limit.Max + min(u.Granted, math.MaxInt64-u.Limit.Max) }

// Remaining returns how many more runs may begin, never less than 0.
func (u Usage) Remaining() int64 { return max(0, u.Ceiling()-u.Counted-u.Active) }

// Full reports whether no slot is left.
func (u Usage) Full() bool { return u.Remaining() == 0 }

// The share of a limit from which on it is near, in percent, and how many marks a store
// looks at for each limit that is asked for.
const (
	NearShare = 80
	NearLook  = 4
)

// Used returns the number of runs that take a slot.
func (u Usage) Used() int64 { return u.Counted + u.Active }

// Near reports whether [NearShare] percent or more of a limit is used.
func (u Usage) Near() bool { return u.Used() >= u.Ceiling()-u.Ceiling()/5 }

// NearLimit is a limit that is nearly used up, or used up.
type NearLimit struct {
	Of    Scope // a key, or a user alone
	Usage Usage
	Since time.Time // when a run first began under this limit and left it so
}

// AllowanceRequest asks how far limits are used.
type AllowanceRequest struct {
	User     ID
	Workflow ID
	Draft    ID
	Limits   []Limit
	Now      time.Time
}

// Key returns the key that the limits are asked for, which has a user alone where no
// workflow or draft is named.
func (a AllowanceRequest) Key() Key {
	if key := KeyOf(a.User, a.Workflow, a.Draft); !key.IsZero() {
		return key
	}
	return Key{User: a.User}
}

// Validate refuses a request that no store can serve, with [ErrInvalid]. A limit of a
// user needs no workflow.
func (a AllowanceRequest) Validate() error {
	if len(a.Limits) == 0 {
		return fmt.Errorf("%w: an allowance needs a limit, of the key or of the user", ErrInvalid)
	}
	for _, l := range a.Limits {
		if a.User.IsZero() || l.Scope == KeyLimit && a.Key().Ref.IsZero() {
			return fmt.Errorf("%w: an allowance needs a user, and for the limit of a key a workflow or draft", ErrInvalid)
		}
	}
	return ValidateLimits(a.Limits, a.Now)
}
