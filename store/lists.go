package store

import (
	"context"
	"fmt"
	"time"
)

// CountQuery asks for a page of counts, in the order of their keys.
type CountQuery struct {
	User  ID  // of this user alone; of all where zero
	Ref   ID  // of this workflow or draft alone; of all where zero
	After Key // those behind it; the zero key is before them all
	Limit int // greater than 0
}

// UserCounts returns the counts of at most limit of a user's keys, in order,
// after one of them: the zero key for the beginning.
func UserCounts(ctx context.Context, of CountSearcher, user ID, after Key, limit int) ([]Count, error) {
	if user.IsZero() {
		return nil, nil // to a search it would mean all users (law 7)
	}
	return of.SearchCounts(ctx, CountQuery{User: user, After: after, Limit: limit})
}

// AllUserCounts returns all of a user's counts, in order.
func AllUserCounts(ctx context.Context, of CountSearcher, user ID) (all []Count, err error) {
	const page = 1000
	for after := (Key{}); ; after = all[len(all)-1].Key {
		counts, err := UserCounts(ctx, of, user, after, page)
		if all = append(all, counts...); err != nil || len(counts) < page {
			return all, err
		}
	}
}

// RunState is a reason to look at runs.
type RunState string

// The states by which runs are listed. Those that are stuck, and not yet
// failed, are what a dry run of FailStuck returns.
const (
	ActiveRuns     RunState = "active"     // not ended, latest created first
	EndedRuns      RunState = "ended"      // ended, whether presumed or not; latest ended first
	PresumedRuns   RunState = "presumed"   // ended by a sweep alone, latest ended first
	SupersededRuns RunState = "superseded" // ended by a sweep once, and really since; latest repaired first
	OddRuns        RunState = "odd"        // [Run.Odd], latest created first
)

// ParseRunState reads the name of a state.
func ParseRunState(name string) (RunState, error) {
	switch s := RunState(name); s {
	case ActiveRuns, EndedRuns, PresumedRuns, SupersededRuns, OddRuns:
		return s, nil
	}
	return "", fmt.Errorf("%w: %q is none of active, ended, presumed, superseded, odd", ErrInvalid, name)
}

// Cursor marks the end of a page of a list that is ordered by time, latest
// first. The zero cursor stands before the first entry.
type Cursor struct {
	At time.Time
	ID ID
}

// RunQuery asks for a page of the runs in a state.
type RunQuery struct {
	State  RunState
	User   ID     // of this user alone; of all where zero
	Status Status // with this status alone; with any where empty
	In     Window // whose time, by which the list is ordered, is in it
	Oldest bool   // turns the list around: the earliest first, and of one time the smallest id
	After  Cursor // those behind it, in the order of the list
	Limit  int    // greater than 0
	// Within bounds the time that the database may take; 0 does not. Of ended runs an
	// index has those of a user; other filters have none, and look through the state.
	Within time.Duration
}

// ListedRun is a run, without its snapshot, in a list.
type ListedRun struct {
	Run
	At time.Time // by which the list is ordered; in the year 1 where it is not set
}

// Since is At, and the zero time where that is not set.
func (r ListedRun) Since() time.Time {
	if r.At.Year() <= 1 {
		return time.Time{}
	}
	return r.At
}

// Cursor returns the cursor of a page that ends with this run.
func (r ListedRun) Cursor() Cursor { return Cursor{r.At, r.ID} }

// ListedRepair is one reason for which a run was repaired, with the latest repair.
type ListedRepair struct {
	ID ID
	RepairLog
}

// Cursor returns the cursor of a page that ends with this repair.
func (r ListedRepair) Cursor() Cursor { return Cursor{r.Last, r.ID} }

// Amendment is one amendment in the list of all runs' amendments.
type Amendment struct {
	Seq int64 // greater where it was made later
	ID  ID    // of the run
	AmendmentLog
}

// ListedRecount is the repair of a count in the list of all.
type ListedRecount struct {
	Seq int64 // greater where it was made later
	Key Key
	RecountLog
}

// KeepLogs is the time for which the logs of repairs and refusals are kept.
const KeepLogs = 90 * 24 * time.Hour

// What a store keeps of dead letters: the newest, up to these bounds.
const (
	KeepDeadLetters    = 30 * 24 * time.Hour
	MaxDeadLetters     = 1_000
	MaxDeadLetterBytes = 64 << 20 // of all bodies
)

// DeadLetterQuery asks for a page of dead letters, latest first, or says which
// of them to drop.
type DeadLetterQuery struct {
	Seq    int64     // this one alone; any where 0
	Reason string    // whose reason contains it, whatever the case of ASCII letters; any where empty
	Is     string    // whose reason is this and no other; any where empty
	Before int64     // whose Seq is smaller; any where 0
	Until  time.Time // received before it; any where zero
	Limit  int       // greater than 0 for a page; not used for dropping
}

// Page cuts repairs, which are more than asked for by [RepairTies], to limit of
// them, and to as many more as have the last one's cursor.
func Page(repairs []ListedRepair, limit int) []ListedRepair {
	for n := limit; n < len(repairs); n++ {
		if last := repairs[n-1]; last.Last != repairs[n].Last || last.ID != repairs[n].ID {
			return repairs[:n]
		}
	}
	return repairs
}

// RepairTies bounds the repairs of one run that share their time with the
// first: one for each other reason.
const RepairTies = 2
