package store

import (
	"context"
	"errors"
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
	// ErrTooSlow means that the database took longer than a query was given.
	ErrTooSlow = errors.New("it took too long")
	// ErrUnavailable means busy, deadlocked, or out of reach. Nothing was
	// committed, or it is not known whether it was; every method can be called
	// again safely.
	ErrUnavailable = errors.New("the database is not available")
)

// Every method of the interfaces below is one transaction, is safe for
// concurrent use by any number of goroutines and processes, and reads no
// clock: the time is an argument. Times are stored to the microsecond. Every
// method may return [ErrUnavailable], and may be called again after it.

// Store keeps runs and counts: what an application asks of a backend.
type Store interface {
	// Begin reserves a slot and creates a run, or finds the one that an
	// earlier call with the same idempotency key or id created. It creates nothing
	// while one of its limits is reached, with the grants that raise it; that is
	// a result and not an error. A slot is reserved only if all of them hold, in one
	// snapshot. A Begin that finds its run writes nothing but
	// an idempotency key that is new, which finds the run from then on, and needs no
	// index of windows.
	//
	// Errors: [ErrInvalid] where the request has no key, or an id of another
	// type than the table's; [*NoIndexError] where the window of a limit needs an index;
	// [ErrConflict] where the id or the idempotency key
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

	// Count returns the exact count of a scope in a window, in one snapshot (law 1). A
	// scope without runs has the count 0. Key holds the parts of the scope. LastRunAt is
	// of a key for all time alone. A key, a user, and a workflow or draft over all its
	// users cost the same however many runs there are; in a window, what it costs grows
	// with the runs in it.
	//
	// Errors: [ErrInvalid] as [Scope.Validate] and [Window.Validate] have it, and
	// [*NoIndexError] where the window of a user, or of a workflow over all its users,
	// needs an index that is not there.
	Count(ctx context.Context, of Scope, in Window) (Count, error)

	// Allowance returns how far limits are used, in their order and in one snapshot.
	// It reserves nothing.
	//
	// Errors: [ErrInvalid] as [AllowanceRequest.Validate] has it, and as Count has it
	// for windows.
	Allowance(ctx context.Context, a AllowanceRequest) ([]Usage, error)

	// Run returns one run.
	//
	// Errors: [ErrNotFound].
	Run(ctx context.Context, id ID) (Run, error)
}

// Maintainer keeps a store in order: it ends stuck runs, repairs inconsistent
// ones, folds the ledger, and compares counts with the runs behind them. A
// [Sweeper] calls it periodically; an operator's commands call it by hand.
type Maintainer interface {
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
	// is the total, Actual the sum of the counts. Where they are to be repaired, it
	// adds the difference.
	AuditTotals(ctx context.Context, repair bool) ([]Drift, error)

	// Recount sets the count of a key from its runs, and logs a repair where
	// that changed it. Totals change by the same.
	Recount(ctx context.Context, key Key, now time.Time) (RecountResult, error)

	// SetPolicy puts a policy in force. No count is written by it: policies are
	// applied on reading.
	SetPolicy(ctx context.Context, p Policy) error
}

// Source is the part of a backend that only a source has: its table belongs to
// an application, which may alter it, attach and detach its partitions, empty
// it, and lose webhooks. A mirror has none of it. A [Sweeper] asks it.
type Source interface {
	// Deliveries settles what is known of the calls of webhooks, and returns
	// what became of those of the last 15 minutes. Watched is false in it where
	// nothing can be known.
	Deliveries(ctx context.Context, now time.Time) (Deliveries, error)

	// Altered says in a sentence how the watched table differs from the one that
	// the migrations were made for, and what to do; "" where it does not.
	Altered(ctx context.Context) (string, error)

	// AuditDue returns the number of the last event that only a full audit can
	// put right, such as a TRUNCATE whose snapshot was older than what it
	// emptied; 0 where there was none.
	AuditDue(ctx context.Context) (int64, error)

	// AuditDone settles the events up to one.
	AuditDone(ctx context.Context, event int64) error

	// Partitions names the partitions of the watched table, and those that came
	// or went since they were settled last; the zero value where it has none.
	Partitions(ctx context.Context) (Partitions, error)

	// SettlePartitions notes that the counts hold the runs of these partitions
	// and of no others, and gives each the trigger that tells when it is emptied.
	SettlePartitions(ctx context.Context, p Partitions) error

	// RecountAmong is Recount while the partitions are these. It reports whether
	// they still are; where they are not, it has written nothing.
	RecountAmong(ctx context.Context, key Key, now time.Time, p Partitions) (r RecountResult, same bool, err error)
}

// CountSearcher is the part of a [Reader] that lists counts.
type CountSearcher interface {
	// SearchCounts returns a page of the counts, in the order of their keys. A
	// key whose runs are gone may be among them, with the count 0, until it is
	// pruned.
	SearchCounts(ctx context.Context, q CountQuery) ([]Count, error)
}

// Reader lists and explains: the console and live counts read it, and nothing
// that counts or completes needs it. Each call reads one snapshot. A source
// without our migrations has counts and runs; its logs are empty.
type Reader interface {
	// CountsOf returns the exact counts of keys, in their order and of one
	// snapshot, without LastRunAt. A key without runs has the count 0.
	//
	// Errors: [ErrInvalid] for the zero key.
	CountsOf(ctx context.Context, keys []Key) ([]Count, error)

	CountSearcher

	// SearchRuns returns a page of the runs that are in a state. Those of the
	// same time are in the order of their ids, the greatest first.
	//
	// Errors: [ErrInvalid] for an unknown state; [ErrTooSlow] as q.Within has it.
	SearchRuns(ctx context.Context, q RunQuery) ([]ListedRun, error)

	// CountRuns returns the number of runs that SearchRuns would list behind q.After,
	// and q.Limit where there are as many or more.
	//
	// Errors: as SearchRuns.
	CountRuns(ctx context.Context, q RunQuery) (int, error)

	// History returns what is known of one run. That it is not there is a
	// result and not an error.
	History(ctx context.Context, id ID) (History, error)

	// KeyHistory returns how the count of a key comes about, with at most
	// limit of its runs.
	//
	// Errors: [ErrInvalid] for the zero key.
	KeyHistory(ctx context.Context, key Key, limit int) (KeyHistory, error)

	// Repairs returns limit of the repairs behind a cursor, latest first, and as
	// many more as share the last one's cursor: those of one run and moment for
	// several reasons come together.
	Repairs(ctx context.Context, after Cursor, limit int) ([]ListedRepair, error)

	// Amendments returns at most limit of the amendments made before one, latest
	// first; before 0 stands behind the latest.
	Amendments(ctx context.Context, before int64, limit int) ([]Amendment, error)

	// Recounts returns at most limit of the repairs of counts made before one,
	// latest first; before 0 stands behind the latest.
	Recounts(ctx context.Context, before int64, limit int) ([]ListedRecount, error)

	// NearLimits returns limits of which [NearShare] percent or more is used at a
	// moment, those that came so far latest first. Each begin that creates a run marks
	// its limits or drops their marks, whether it came by SQL or by the API: a limit
	// that no begin named since is as the last one had it. The usage is exact, and of
	// one snapshot. Of the marks it looks at the latest [NearLook] for each limit that is
	// asked for, and leaves out those that a grant, a deletion or an end that does not
	// count has taken below since.
	NearLimits(ctx context.Context, now time.Time, limit int) ([]NearLimit, error)

	// Policy returns the policy in force.
	Policy(ctx context.Context) (Policy, error)

	// Health counts what deserves an operator's attention.
	Health(ctx context.Context) (Health, error)
}

// LetterBox keeps dead letters: the newest, up to [KeepDeadLetters],
// [MaxDeadLetters] and [MaxDeadLetterBytes].
type LetterBox interface {
	// KeepDeadLetter keeps what was authenticated but can't be read, all of the
	// letters or none. The bodies are valid only during the call.
	KeepDeadLetter(ctx context.Context, letters ...DeadLetter) error

	// DeadLetters returns a page of them, latest first, without their bodies
	// unless one alone is asked for.
	DeadLetters(ctx context.Context, q DeadLetterQuery) ([]DeadLetter, error)

	// DropDeadLetters drops those that a query names, and returns their number.
	// A query that names nothing drops them all.
	DropDeadLetters(ctx context.Context, q DeadLetterQuery) (int, error)
}
