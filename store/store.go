// Package store holds the words, the rules and the contract of Run Counter.
//
// The rules are pure functions: they read no clock, no database and no
// context. A backend carries them out: [github.com/edgaze-ai/runcounter/store/sqlite]
// is a mirror, fed by changes and by our own API, and
// store/postgres a source, which is the watched database itself. Both are held
// to the contract by store/storetest.
//
// Everything is held to eight laws:
//
//  1. Exact in every snapshot: in any committed snapshot, counts + ledger of a
//     key equals the number of its ended runs, per status.
//  2. First outcome wins: a run that has ended keeps status and completed_at,
//     except for a DELETE, a real outcome that supersedes a presumed one, and
//     an amendment.
//  3. Convergence: once faults stop, one full sweep leaves no run whose status
//     and completed_at disagree, none silent beyond its limit, and no drift.
//  4. Idempotence and commutativity: the same changes, in any order, any
//     number of times, batched in any way, lead to the same state.
//  5. Quiet: applying what is already true writes nothing.
//  6. Acked is durable: success is reported after the commit, never before.
//  7. No stranger: what is not authenticated never reaches the store, and a
//     user sees their own counts alone.
//  8. Harmless: a statement of the application that works without us works
//     with us, and leaves the same rows except for what the guard keeps. No
//     row, user or sender keeps another's from being counted, ended or heard.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The errors that a Store returns by name. Backends translate their driver's
// errors into these by error code; everything else is a fault of the database
// and worth another try only if it is ErrUnavailable.
var (
	// ErrNotFound means that there is no such run, or it was deleted.
	ErrNotFound = errors.New("no such run")
	// ErrConflict means that the id or the idempotency key belongs to a run of another
	// key, or the run was deleted.
	ErrConflict = errors.New("it belongs to another run")
	// ErrInvalid means that the request can't be carried out as it stands.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable means busy, deadlocked, or out of reach. Nothing was
	// committed, or it is not known whether it was; every method can be called
	// again safely.
	ErrUnavailable = errors.New("the database is not available")
)

// Store keeps runs and counts. Every method is one transaction, is safe for
// concurrent use by any number of goroutines and processes, and reads no
// clock: the time is an argument. Times are stored to the microsecond. Every
// method may return [ErrUnavailable], and may be called again after it.
type Store interface {
	// Begin reserves a slot and creates a run, or finds the one that an
	// earlier call with the same idempotency key or id created. With a limit it
	// creates nothing while counted + active runs of the key reach it; that is
	// a result and not an error. A Begin that finds its run writes nothing but
	// an idempotency key that is new, which finds the run from then on.
	//
	// Errors: [ErrInvalid] where the request has no key, or an id of another
	// type than the table's; [ErrConflict] where the id or the idempotency key
	// belongs to a run of another key or a deleted one.
	Begin(ctx context.Context, b Begin) (BeginResult, error)

	// Start moves a pending run to running at a moment, and returns it. It
	// writes nothing for a run in any other status: one that has ended stays
	// so.
	//
	// Errors: [ErrNotFound].
	Start(ctx context.Context, id ID, at time.Time) (Run, error)

	// Complete ends a run that is active or whose outcome is only presumed.
	// Losing is a result: Won is false, and the outcome that stands is in Run.
	// A call that lost writes nothing.
	//
	// Errors: [ErrNotFound]; [ErrInvalid] where the outcome's status is not
	// terminal.
	Complete(ctx context.Context, c Completion) (CompleteResult, error)

	// Amend overrides the outcome of a run, or re-opens it, as an
	// administrator's decision, and logs who decided and why. It is the one
	// way to change an outcome that was real. Asking for what already stands
	// writes nothing.
	//
	// Errors: [ErrNotFound]; [ErrInvalid] for an unknown status, where who or
	// why is missing, and for re-opening a run that ends in the future.
	Amend(ctx context.Context, a AmendRequest) (Run, error)

	// Apply takes changes in. A mirror merges them into what it has received
	// before; a source takes them as a hint to look at its rows. The changes
	// may come in any order and any number of times (law 4), and applying what
	// is already true writes nothing (law 5). All of them are committed, or
	// none. The results are in the order of the changes, and their counts are
	// those of the committed transaction, without LastRunAt.
	Apply(ctx context.Context, changes []Change, received time.Time) ([]ApplyResult, error)

	// Count returns the exact count of a key (law 1). A key without runs has
	// the count 0.
	//
	// Errors: [ErrInvalid] for the zero key.
	Count(ctx context.Context, key Key) (Count, error)

	// Total returns the exact count of a workflow or draft over all its users (law
	// 1), as [TotalOf] names it; the User of the key is of no effect. It costs the
	// same however many users there are. LastRunAt is left out.
	//
	// Errors: [ErrInvalid] for a key without a workflow or draft.
	Total(ctx context.Context, of Key) (Count, error)

	// Run returns one run.
	//
	// Errors: [ErrNotFound].
	Run(ctx context.Context, id ID) (Run, error)

	// Suspects lists at most f.Max runs with an id behind f.After that
	// FailStuck has to look at, in the order of their ids. It writes nothing.
	// Fewer than f.Max mean that there are no more behind them.
	Suspects(ctx context.Context, f FailStuck) ([]Suspect, error)

	// FailStuck gives an outcome to those of f.Runs that are stuck, and repairs
	// those that are inconsistent, as [Presume] and [Repair] have it; without
	// f.Runs it takes the first f.Max suspects. It returns what it did, or with
	// DryRun would do. A run that ends meanwhile is left alone. A row that the
	// database refuses to write stays as it is, is returned with the reason in
	// Refused, and keeps no other from being written.
	FailStuck(ctx context.Context, f FailStuck) ([]Repaired, error)

	// NoteAhead notes when the active runs all of whose times are still to come
	// were first seen so, and forgets what it noted of all others. From then on
	// they are silent, as [Row.Seen] has it, until one of their times moves. A
	// sweep calls it first.
	NoteAhead(ctx context.Context, now time.Time) error

	// Fold moves ledger rows into the counts, key by key until it has moved limit
	// of them or more, and drops what is out of date at that time: zero counts,
	// logs older than 90 days. No count changes by it. It returns the number of
	// ledger rows that it moved; fewer than limit mean that there is no more
	// to do now. A store without a ledger moves none.
	Fold(ctx context.Context, now time.Time, limit int) (int, error)

	// Audit compares the counts with the runs behind them, for at most
	// a.Max keys after a.After, in one snapshot. It writes nothing.
	Audit(ctx context.Context, a Audit) (AuditResult, error)

	// AuditTotals compares the totals with the counts of their users, in one
	// snapshot, and returns those that are wrong, as [TotalOf] names them: Stored
	// is the total, Actual the sum of the counts. Where they are to be mended, it
	// adds the difference.
	AuditTotals(ctx context.Context, mend bool) ([]Drift, error)

	// Recount sets the count of a key from its runs, and logs a repair where
	// that changed it. Totals change by the same.
	Recount(ctx context.Context, key Key, now time.Time) (RecountResult, error)
}

// Begin is a request to reserve a slot and create a run.
type Begin struct {
	ID             ID   // the run's id; the caller draws it
	AnyID          bool // the caller has told no other of it: a table whose ids are integers draws one itself in its place
	User           ID
	Workflow       ID
	Draft          ID
	Limit          *int64 // no limit where nil
	IdempotencyKey string // none where empty; its scope is the user, and it stays with the run that it created or was sent with first
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
	return nil
}

// Full reports whether so many counted and active runs leave no slot.
func (b Begin) Full(counted, active int64) bool {
	return b.Limit != nil && counted+active >= *b.Limit
}

// BeginResult is the answer to a Begin.
type BeginResult struct {
	Run          Run
	Created      bool // false where an earlier call created the run
	LimitReached bool // nothing was created, and Run is unset
	Counted      int64
	Active       int64 // runs that hold a slot without having ended, this one included
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

// Count is what a key's runs amount to.
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

// Health is what deserves a look.
type Health struct {
	Active        int64 // runs that have not ended
	NoKey         int64 // runs without a user, or with neither a workflow nor a draft: not counted
	UnknownStatus int64 // runs with a status of none of the seven: not counted
	EndedTooSoon  int64 // runs that ended before they started
	Ledger        int64 // rows to fold
	DeadLetters   int64
}
