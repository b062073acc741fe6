package store

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Kind says what a run ran: a workflow or a draft of one.
type Kind string

// The kinds. All is that of a table without workflows, whose runs are counted by
// user alone.
const (
	KindWorkflow Kind = "workflow"
	KindDraft    Kind = "draft"
	KindAll      Kind = "all"
)

// Key names whose count. The zero Key is that of a run without a user, or with
// neither a workflow nor a draft: it is not counted, but reported. In a table
// that has no column for one of them, [Absent] stands for it.
type Key struct {
	User ID
	Kind Kind
	Ref  ID
}

// KeyOf returns the key of a run. A run with both ids is the draft's, and one of a
// table without workflows the user's.
func KeyOf(user, workflow, draft ID) Key {
	switch {
	case user.IsZero():
		return Key{}
	case !draft.IsZero():
		return Key{user, KindDraft, draft}
	case workflow == Absent:
		return Key{user, KindAll, Absent}
	case !workflow.IsZero():
		return Key{user, KindWorkflow, workflow}
	}
	return Key{}
}

// TotalOf returns the key of a workflow or draft over all its users: one without a
// user.
func TotalOf(workflow, draft ID) Key {
	k := KeyOf(Absent, workflow, draft)
	return Key{Kind: k.Kind, Ref: k.Ref}
}

// IsZero reports whether this is the key of a run that can't be counted.
func (k Key) IsZero() bool { return k == Key{} }

// Workflow returns the workflow's id, which may be [Absent], or the zero ID for a
// draft's key.
func (k Key) Workflow() ID {
	if k.Kind == KindWorkflow || k.Kind == KindAll {
		return k.Ref
	}
	return ID{}
}

// Draft returns the draft's id, or the zero ID for a workflow's key.
func (k Key) Draft() ID {
	if k.Kind == KindDraft {
		return k.Ref
	}
	return ID{}
}

func (k Key) String() string {
	if k.IsZero() {
		return "no key"
	}
	of := string(k.Kind) + " " + k.Ref.Shown()
	if k.Kind == KindAll {
		of = "all runs"
	}
	switch k.User {
	case Absent:
		return of + " of no user"
	case ID{}:
		return of + " of all users"
	}
	return "user " + k.User.Shown() + ", " + of
}

// Compare orders keys as the databases do: by user, kind and ref. A
// transaction that locks several keys locks them in this order.
func (k Key) Compare(o Key) int {
	return cmp.Or(
		k.User.Compare(o.User),
		cmp.Compare(k.Kind, o.Kind),
		k.Ref.Compare(o.Ref),
	)
}

// Status is the state of a run. Any string can occur in the table; one that is
// not listed here is unknown: never counted, repaired, failed or restored
// over, but it takes a slot and is reported.
type Status string

// Lowered has small letters for A to Z, as PostgreSQL's lower() has them under the
// collation "C": what other letters are in lower case, each locale says otherwise.
func (s Status) Lowered() Status {
	return Status(strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, string(s)))
}

// The known statuses. The first three are active, the others terminal.
const (
	Pending    Status = "pending"
	Running    Status = "running"
	Cancelling Status = "cancelling"
	Completed  Status = "completed"
	Failed     Status = "failed"
	Cancelled  Status = "cancelled"
	Timeout    Status = "timeout"
)

// Terminals are the terminal statuses in the fixed order that settles a tie
// between two outcomes for which the evidence is equal.
var Terminals = [...]Status{Completed, Failed, Timeout, Cancelled}

// rank orders the statuses along a run's life; an unknown one is below pending.
func (s Status) rank() int {
	switch s {
	case Pending:
		return 1
	case Running:
		return 2
	case Cancelling:
		return 3
	case Cancelled:
		return 4
	case Timeout:
		return 5
	case Failed:
		return 6
	case Completed:
		return 7
	}
	return 0
}

// Active reports whether a run with this status still goes on.
func (s Status) Active() bool { return s == Pending || s == Running || s == Cancelling }

// Terminal reports whether this status is an outcome.
func (s Status) Terminal() bool { return s.rank() > 3 }

// Known reports whether the status is one of the seven.
func (s Status) Known() bool { return s.rank() > 0 }

// JSON is the text of one JSON value, kept as it came so that numbers of any
// precision survive. The empty string is SQL's null.
type JSON string

// MarshalJSON writes the text itself, and null for the empty one.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == "" {
		return []byte("null"), nil
	}
	return []byte(j), nil
}

// UnmarshalJSON keeps the text; JSON's null becomes SQL's.
func (j *JSON) UnmarshalJSON(b []byte) error {
	*j = JSON(b)
	if *j == "null" {
		*j = ""
	}
	return nil
}

// Millis is a length of time in milliseconds, or null where Valid is false.
type Millis struct {
	MS    int32
	Valid bool
}

// MaxMillis is the longest duration that the column can hold. A longer one is
// capped, since an overflow would stop a whole sweep.
const MaxMillis = 1<<31 - 1

// MillisOf returns ms, capped at [MaxMillis], and null where it is negative.
func MillisOf(ms int64) Millis {
	if ms < 0 {
		return Millis{}
	}
	return Millis{MS: int32(min(ms, MaxMillis)), Valid: true}
}

// MarshalJSON writes the number, and null for null.
func (m Millis) MarshalJSON() ([]byte, error) {
	if !m.Valid {
		return []byte("null"), nil
	}
	return fmt.Append(nil, m.MS), nil
}

// Instant returns t as the databases keep it: in UTC, to the microsecond,
// without a monotonic reading, so that equal instants are == equal. The zero
// time stands for null. Every time that enters a Store has this form.
func Instant(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

// earliest returns the earlier of two times, of which null is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// latest returns the later of two times, of which null is none.
func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Row is one row of workflow_runs: the columns on which anything depends.
// Times are [Instant]s.
type Row struct {
	ID           ID
	User         ID
	Workflow     ID
	Draft        ID
	Status       Status
	CreatedAt    time.Time
	StartedAt    time.Time
	CompletedAt  time.Time
	UpdatedAt    time.Time
	LeaseAt      time.Time // a configured lease or heartbeat column
	DurationMS   Millis
	ErrorDetails JSON
	Snapshot     JSON // state_snapshot; webhooks do not bring it
}

// Key returns whose count the row belongs to.
func (r Row) Key() Key { return KeyOf(r.User, r.Workflow, r.Draft) }

// Ended reports whether the run has an outcome and the time of it.
func (r Row) Ended() bool { return r.Status.Terminal() && !r.CompletedAt.IsZero() }

// Outcome returns the outcome columns of the row.
func (r Row) Outcome() Outcome {
	return Outcome{r.Status, r.CompletedAt, r.DurationMS, r.ErrorDetails, r.Snapshot}
}

// Outcome holds the columns that end a run.
type Outcome struct {
	Status       Status
	CompletedAt  time.Time
	DurationMS   Millis
	ErrorDetails JSON
	Snapshot     JSON
}

// Tally counts runs by terminal status. Differences are tallies as well, and
// may be negative.
type Tally struct {
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	Timeout   int64 `json:"timeout"`
}

// Add returns the sum of two tallies.
func (t Tally) Add(o Tally) Tally {
	return Tally{t.Completed + o.Completed, t.Failed + o.Failed, t.Cancelled + o.Cancelled, t.Timeout + o.Timeout}
}

// Total returns the number of runs in the tally.
func (t Tally) Total() int64 { return t.Completed + t.Failed + t.Cancelled + t.Timeout }

// of is the number of a status, nil where that is not terminal.
func (t *Tally) of(status Status) *int64 {
	switch status {
	case Completed:
		return &t.Completed
	case Failed:
		return &t.Failed
	case Cancelled:
		return &t.Cancelled
	case Timeout:
		return &t.Timeout
	}
	return nil
}

// Of returns the number of runs with a status.
func (t Tally) Of(status Status) int64 {
	if n := t.of(status); n != nil {
		return *n
	}
	return 0
}

// Tallies are a key's ended runs: all of them, and the presumed among them.
// Both are kept, so that a change of policy needs no recount.
type Tallies struct {
	Ended    Tally `json:"ended"`
	Presumed Tally `json:"presumed"`
}

// Add returns the sum of two pairs of tallies.
func (t Tallies) Add(o Tallies) Tallies {
	return Tallies{t.Ended.Add(o.Ended), t.Presumed.Add(o.Presumed)}
}

// Ended is a row of counts: how many runs have ended so. A store keeps presumed
// ones apart: a run is in one of these rows.
type Ended struct {
	Status   Status
	Presumed bool
	N        int64
}

// AddTo adds it up. What is no terminal status is left out.
func (e Ended) AddTo(t *Tallies) {
	total := t.Ended.of(e.Status)
	if total == nil {
		return
	}
	*total += e.N
	if e.Presumed {
		*t.Presumed.of(e.Status) += e.N
	}
}
