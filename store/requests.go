package store

import (
	"fmt"
	"time"
)

// Begin is a request to reserve a slot and create a run.
type Begin struct {
	ID             ID   // the run's id; the caller draws it
	AnyID          bool // the caller has told no other of it: a table whose ids are integers draws one itself in its place
	User           ID
	Workflow       ID
	Draft          ID
	Limits         []Limit // at most one of each scope; all have to hold
	IdempotencyKey string  // none where empty; its scope is the user, and it stays with the run that it created or was sent with first
	Now            time.Time
}

// Key returns the key under which the run will count.
func (b Begin) Key() Key { return KeyOf(b.User, b.Workflow, b.Draft) }

// Validate refuses a request that no store can serve, with [ErrInvalid].
func (b Begin) Validate() error {
	switch {
	case b.Key().IsZero():
		return fmt.Errorf("%w: a run needs a user and a workflow or draft", ErrInvalid)
	case b.ID.IsZero():
		return fmt.Errorf("%w: a run needs an id", ErrInvalid)
	}
	return ValidateLimits(b.Limits, b.Now)
}

// BeginResult is the answer to a Begin.
type BeginResult struct {
	Run          Run
	Created      bool // false where an earlier call created the run
	LimitReached bool // nothing was created, and Run is unset
	// Usages are those of the limits, in their order. Where LimitReached is set, one of
	// them is full, and of one in a window no more runs were counted than fill it. Of a
	// run that an earlier call created they leave out a limit whose window needs an index
	// that is gone by now.
	Usages []Usage
}

// Reached returns the first limit that left no slot.
func (r BeginResult) Reached() Usage {
	for _, u := range r.Usages {
		if u.Full() {
			return u
		}
	}
	return Usage{}
}

// Validate refuses the zero key, under which nothing counts, with [ErrInvalid].
func (k Key) Validate() error {
	if k.IsZero() {
		return fmt.Errorf("%w: a count needs a user and a workflow or draft", ErrInvalid)
	}
	return nil
}

// Completion is a request to end a run. A zero CompletedAt is Now. Whatever
// else the outcome leaves out stays as it is, except for what a sweep wrote
// with an outcome that it presumed ([Supersede]); a DurationMS that is null
// even so is filled from the run's start. A mirror keeps the DurationMS and
// ErrorDetails of runs that have ended alone.
type Completion struct {
	ID      ID
	Outcome Outcome
	Now     time.Time
}

// Validate refuses a request that no store can serve, with [ErrInvalid].
func (c Completion) Validate() error {
	if !c.Outcome.Status.Terminal() {
		return fmt.Errorf("%w: a run can't be completed as %q; use completed, failed, cancelled or timeout", ErrInvalid, c.Outcome.Status)
	}
	return nil
}

// CompleteResult is the answer to a Completion.
type CompleteResult struct {
	Won   bool  // this call ended the run
	Run   Run   // with the outcome that stands
	Count Count // of the run's key, without LastRunAt; zero for a run without one
}

// AmendRequest is an administrator's decision about a run. A terminal Status sets
// the outcome; an active one re-opens the run.
type AmendRequest struct {
	ID     ID
	Status Status
	Who    string
	Why    string
	Now    time.Time
}

// Validate refuses a request that no store can serve, with [ErrInvalid].
func (a AmendRequest) Validate() error {
	switch {
	case !a.Status.Known():
		return fmt.Errorf("%w: a run can't be amended to the unknown status %q", ErrInvalid, a.Status)
	case a.Who == "" || a.Why == "":
		return fmt.Errorf("%w: an amendment needs who decided it and why", ErrInvalid)
	}
	return nil
}

// ApplyResult is the answer to one change.
type ApplyResult struct {
	Changed bool    // it said something that was not known
	Counts  []Count // of the keys that it names and the run's present one, sorted by key
}

// Count is the number of a scope's ended runs, which is most often a key.
type Count struct {
	Key       Key
	Count     int64 // under the policy in force
	Tallies   Tallies
	LastRunAt time.Time // the latest completed_at; zero where no run has ended
}

// Run is one run as the store has it.
type Run struct {
	Row
	Presumed bool // the outcome is provisional
	Counted  bool // the run counts under the policy in force
}

// CountsUnder reports whether the run counts under a policy.
func (r Run) CountsUnder(p Policy) bool {
	return r.Ended() && !r.Key().IsZero() && p.Counts(r.Status, r.Presumed)
}

// FailStuck says what FailStuck and Suspects shall look for.
type FailStuck struct {
	Now    time.Time
	Limits Limits
	After  ID   // for Suspects; the zero ID: from the beginning
	Max    int  // greater than 0; of no effect where Runs are named
	Runs   []ID // for FailStuck: these alone
	DryRun bool
}

// Suspect is a run that is probably stuck or inconsistent.
type Suspect struct {
	ID   ID
	User ID // zero where the row has none
}

// Repaired is one row that was repaired, or would be.
type Repaired struct {
	Reason  Reason
	Before  Row
	After   Row
	Refused string // why the database did not take After, in its words; the row stands as in Before
}

// Audit says which keys to audit.
type Audit struct {
	After Key // the zero key: from the beginning
	Max   int // greater than 0
}

// AuditResult holds the findings of an audit.
type AuditResult struct {
	Keys   int     // how many were compared
	Drifts []Drift // the keys whose count is wrong, in order
	Next   Key     // where the next audit goes on; the zero key at the end
}

// Drift is a key whose count differs from the runs behind it.
type Drift struct {
	Key    Key
	Stored Tallies // counts + ledger
	Actual Tallies // the runs
}

// Wrong reports whether the count is.
func (d Drift) Wrong() bool { return d.Stored != d.Actual }

// RecountResult holds a key's tallies before and after a Recount.
type RecountResult struct {
	Key    Key
	Before Tallies
	After  Tallies
}

// Changed reports whether the count was wrong.
func (r RecountResult) Changed() bool { return r.Before != r.After }

// DeadLetter is a change that was authenticated but can't be read, or a delivery
// of which nothing can. A store keeps a bounded number of them, so that nothing
// is lost in silence.
type DeadLetter struct {
	Seq        int64 // its id; the store draws it
	ReceivedAt time.Time
	Reason     string // the sentence that the sender was answered
	Bytes      int64  // the length of the body
	Body       []byte // the beginning of it, or all where it is as long as Bytes
	Kept       int64  // how much of it is kept, where the letter comes from a store; the body may be left out
}

// Whole reports whether all of the body was kept, so that it can be taken in
// again.
func (d DeadLetter) Whole() bool { return max(int64(len(d.Body)), d.Kept) == d.Bytes }

// Health counts what deserves an operator's attention.
type Health struct {
	Active        int64 `json:"active"`         // runs that have not ended
	NoKey         int64 `json:"without_key"`    // runs without a user, or with neither a workflow nor a draft: not counted
	UnknownStatus int64 `json:"unknown_status"` // runs with a status of none of the seven: not counted
	EndedTooSoon  int64 `json:"ended_too_soon"` // runs that ended before they started
	Ledger        int64 `json:"ledger_rows"`    // rows to fold
	DeadLetters   int64 `json:"dead_letters"`
}
