package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Policy says which ended runs count. It is applied on reading, so a change of
// policy needs no recount.
type Policy struct {
	// Terminal counts all four outcomes. Without it completed and failed runs
	// count, cancelled and timed-out ones do not.
	Terminal bool
	// ExceptPresumed leaves out the runs whose outcome is only presumed.
	ExceptPresumed bool
}

// ParsePolicy reads "outcomes" or "terminal", either with "-except-presumed"
// behind it.
func ParsePolicy(s string) (Policy, error) {
	name, except := strings.CutSuffix(s, "-except-presumed")
	switch name {
	case "outcomes":
		return Policy{ExceptPresumed: except}, nil
	case "terminal":
		return Policy{Terminal: true, ExceptPresumed: except}, nil
	}
	return Policy{}, fmt.Errorf(`unknown count policy %q: use "outcomes" (completed and failed runs count) `+
		`or "terminal" (cancelled and timed-out ones too); append "-except-presumed" to leave out outcomes that a sweep presumed`, s)
}

// String returns what ParsePolicy reads.
func (p Policy) String() string {
	s := "outcomes"
	if p.Terminal {
		s = "terminal"
	}
	if p.ExceptPresumed {
		s += "-except-presumed"
	}
	return s
}

// Counts reports whether a run that ended so counts.
func (p Policy) Counts(s Status, presumed bool) bool {
	if presumed && p.ExceptPresumed {
		return false
	}
	return s == Completed || s == Failed || p.Terminal && s.Terminal()
}

// Count returns the number of tallied runs that count.
func (p Policy) Count(t Tallies) int64 {
	n := p.sum(t.Ended)
	if p.ExceptPresumed {
		n -= p.sum(t.Presumed)
	}
	return n
}

func (p Policy) sum(t Tally) int64 {
	n := t.Completed + t.Failed
	if p.Terminal {
		n += t.Cancelled + t.Timeout
	}
	return n
}

// Reason says why a row is not as it should be.
type Reason string

// The rows of the consistency table.
const (
	Consistent   Reason = ""
	NoTime       Reason = "no_completed_at" // terminal, without completed_at
	Overwritten  Reason = "overwritten"     // active, but it had ended
	Stuck        Reason = "stuck"           // active, and silent for longer than its limit
	EndedTooSoon Reason = "ended_too_soon"  // ended before it started: reported, left alone

	// OutcomeLost is a source's alone: the run had ended for real, as a change shows,
	// and was overwritten.
	OutcomeLost Reason = "outcome_lost"
	// GaveWay is a source's alone, and no repair: an outcome was overwritten that
	// the guard would have kept, had a rule of the table not been against it.
	GaveWay Reason = "gave_way"
	// WouldKeep is the same where the guard only reports.
	WouldKeep Reason = "would_keep"
)

// Repair makes one row consistent with itself, without regard to the time that
// has passed. It reaches its fixed point in one step, and returns the row as
// it was where the reason is [Consistent] or [EndedTooSoon].
//
// A terminal row without completed_at ended when it was last updated, never
// now: a repair must not move with the moment at which it runs. An active row
// with completed_at ended and was overwritten; its outcome is inferred, with
// the weight of a presumed one. A row with an unknown status is left alone.
func Repair(r Row) (Row, Reason) {
	switch {
	case r.Status.Terminal() && r.CompletedAt.IsZero():
		at := r.UpdatedAt
		if at.IsZero() {
			at = r.CreatedAt
		}
		if at.IsZero() {
			return r, Consistent // nothing says when: a reader of changes refuses such a row
		}
		r.CompletedAt = at
		return fillDuration(r), NoTime
	case r.Status.Active() && !r.CompletedAt.IsZero():
		r.Status = Completed
		if r.ErrorDetails != "" {
			r.Status = Failed
		}
		return fillDuration(r), Overwritten
	case r.Ended() && !r.StartedAt.IsZero() && r.CompletedAt.Before(r.StartedAt):
		return r, EndedTooSoon
	}
	return r, Consistent
}

// InOrder reports whether a change, by itself, leaves a source whose guard keeps
// first outcomes nothing to do: the row is consistent, and it has not lost an
// outcome that old_record shows, nor has another in its place. What an outcome in
// the record may have met since, the guard prevents; and the change that it did
// not prevent shows the outcome as its own old_record.
func InOrder(c Change) bool {
	if c.Op == Delete {
		return true
	}
	if !consistent(c.Record) || c.Op == Update && !c.HasOld {
		return false
	}
	if !c.HasOld {
		return true
	}
	if !c.Old.Ended() {
		return consistent(c.Old)
	}
	return c.Record.Status == c.Old.Status && c.Record.CompletedAt.Equal(c.Old.CompletedAt)
}

// consistent reports whether [Repair] has nothing to do, at any moment: a
// terminal row without completed_at may have been given a time by now.
func consistent(r Row) bool {
	_, reason := Repair(r)
	return reason != NoTime && reason != Overwritten && (!r.Status.Terminal() || !r.CompletedAt.IsZero())
}

// fillDuration fills duration_ms where it is null and the row says how long
// the run took.
func fillDuration(r Row) Row {
	if !r.DurationMS.Valid && !r.StartedAt.IsZero() {
		r.DurationMS = MillisOf(r.CompletedAt.Sub(r.StartedAt).Milliseconds())
	}
	return r
}

// Supersede returns an outcome with what it leaves out taken from the row that
// it ends: how long the run took, and what the application wrote beside it. What
// a sweep wrote goes with the outcome that it presumed.
func Supersede(r Row, presumed bool, o Outcome) Outcome {
	if presumed {
		bare := r
		bare.DurationMS = Millis{}
		if fillDuration(bare).DurationMS == r.DurationMS {
			r.DurationMS = Millis{}
		}
		if r.ErrorDetails.stuck() {
			r.ErrorDetails = ""
		}
	}
	if !o.DurationMS.Valid {
		o.DurationMS = r.DurationMS
	}
	if o.ErrorDetails == "" {
		o.ErrorDetails = r.ErrorDetails
	}
	r.CompletedAt, r.DurationMS = o.CompletedAt, o.DurationMS
	o.DurationMS = fillDuration(r).DurationMS
	return o
}

// EndOf returns when a run ends whose end is not dated: now, but never before it
// was created or started, and after it was last re-opened. What ended up to the
// re-opening is void.
func EndOf(r Row, now, reopened time.Time) time.Time {
	return NotBefore(reopened, latest(now, latest(r.CreatedAt, r.StartedAt)))
}

// NotBefore returns at, or the microsecond that follows other where at is not later.
func NotBefore(other, at time.Time) time.Time {
	if at.After(other) {
		return at
	}
	return other.Add(time.Microsecond)
}

// Limits say how long a run may be silent in each active status before it is
// stuck. A status without a limit, or with one of 0, is never stuck.
type Limits map[Status]time.Duration

// DefaultLimits are five minutes for every active status.
func DefaultLimits() Limits {
	return Limits{Pending: 5 * time.Minute, Running: 5 * time.Minute, Cancelling: 5 * time.Minute}
}

// ParseLimits reads one duration for all statuses ("5m"), or one for each
// ("pending=5m,running=30m"); statuses that are not named keep their default.
func ParseLimits(s string) (Limits, error) {
	limits := DefaultLimits()
	for part := range strings.SplitSeq(s, ",") {
		name, value, each := strings.Cut(strings.TrimSpace(part), "=")
		if !each {
			value = name
		}
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("%q is not a length of time: write 5m, or pending=5m,running=30m,cancelling=10m; 0 means never", part)
		}
		if each && !Status(name).Active() {
			return nil, fmt.Errorf("%q is not an active status: limits are for pending, running and cancelling", name)
		}
		for status := range limits {
			if !each || status == Status(name) {
				limits[status] = d
			}
		}
	}
	return limits, nil
}

// LastSign returns the last sign of life of a run: the greatest of started_at,
// updated_at and the lease, times after now not counting, or created_at where
// there is none. The zero time means that nothing is known.
func LastSign(r Row, now time.Time) time.Time {
	var last time.Time
	for _, t := range [...]time.Time{r.StartedAt, r.UpdatedAt, r.LeaseAt} {
		if !t.After(now) {
			last = latest(last, t)
		}
	}
	if last.IsZero() && !r.CreatedAt.After(now) {
		last = r.CreatedAt
	}
	return last
}

// Seen returns the row of a run all of whose times are still to come, since a
// clock was ahead, with the moment at which these were first seen: it stands for
// a lease, and they are no sign of life beyond it. The zero moment, and a row
// with a time that has passed, change nothing.
func (r Row) Seen(at, now time.Time) Row {
	if !at.IsZero() && LastSign(r, now).IsZero() {
		r.LeaseAt = at
	}
	return r
}

// Presume returns the outcome of a run that has been silent for longer than
// its limit, and whether it has. The outcome is dated last sign of life +
// limit, so that two sweepers agree on it.
func Presume(r Row, limits Limits, now time.Time) (Row, bool) {
	limit := limits[r.Status]
	if !r.Status.Active() || !r.CompletedAt.IsZero() || limit <= 0 {
		return r, false
	}
	last := LastSign(r, now)
	if last.IsZero() || !last.Add(limit).Before(now) {
		return r, false
	}
	if r.ErrorDetails == "" {
		r.ErrorDetails = stuckDetails(r.Status, limit)
	}
	r.CompletedAt = last.Add(limit)
	if r.Status == Cancelling {
		r.Status = Cancelled
	} else {
		r.Status = Failed
	}
	return fillDuration(r), true
}

// stuckDetails is for display only, since every writer can set error_details.
func stuckDetails(was Status, limit time.Duration) JSON {
	b, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Was     Status `json:"was"`
	}{"stuck", "No sign of life for " + shortDuration(limit) + ".", was})
	if err != nil {
		panic(err) // three strings always encode
	}
	return JSON(b)
}

// stuck reports whether these are error_details that a sweep wrote.
func (j JSON) stuck() bool {
	var details struct {
		Code string `json:"code"`
	}
	return json.Unmarshal([]byte(j), &details) == nil && details.Code == "stuck"
}

// shortDuration prints 5m instead of 5m0s.
func shortDuration(d time.Duration) string {
	if d%time.Minute == 0 && d < time.Hour {
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return d.String()
}
