package api

import (
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// ListedRun is a run in a list.
type ListedRun struct {
	ID store.ID `json:"run_id"`
	Key
	Status      store.Status   `json:"status"`
	CreatedAt   Instant        `json:"created_at"`
	StartedAt   Instant        `json:"started_at"`
	CompletedAt Instant        `json:"completed_at"`
	Presumed    bool           `json:"presumed"`
	Counted     bool           `json:"counted"`
	At          Instant        `json:"at"`    // by which the list is ordered; null where the run has no such time
	Odd         []store.Oddity `json:"odd"`   // of a list of odd runs alone
	Needs       []string       `json:"needs"` // what to do about each of these
}

// ListedRunsOf returns the runs of a state as runs --json and audit --json print them, of
// a source or a mirror.
func ListedRunsOf(state store.RunState, runs []store.ListedRun, source bool) []ListedRun {
	return each(runs, func(r store.ListedRun) ListedRun {
		l := ListedRun{
			ID: r.ID, Key: Key{r.User, r.Workflow, r.Draft}, Status: r.Status,
			CreatedAt: Instant(r.CreatedAt), StartedAt: Instant(r.StartedAt), CompletedAt: Instant(r.CompletedAt),
			Presumed: r.Presumed, Counted: r.Counted, At: Instant(r.Since()), Odd: []store.Oddity{}, Needs: []string{},
		}
		if state == store.OddRuns {
			l.Odd, l.Needs = r.Oddities(), r.Needs(source)
		}
		return l
	})
}

// RunPage is a page of the runs in a state.
type RunPage struct {
	State store.RunState `json:"state"`
	Runs  []ListedRun    `json:"runs"`
	Next  *string        `json:"next"` // for --after; null on the last page
}

// StuckRun is a run that a sweep would end or repair, and how.
type StuckRun struct {
	ID store.ID `json:"run_id"`
	Key
	Was         store.Status `json:"was"`
	Becomes     store.Status `json:"becomes"`
	CompletedAt Instant      `json:"completed_at"`
	Reason      store.Reason `json:"reason"`
}

// StuckRunsOf returns what a sweep would do as runs --json prints it.
func StuckRunsOf(stuck []store.Repaired) []StuckRun {
	return each(stuck, func(r store.Repaired) StuckRun {
		return StuckRun{r.Before.ID, Key{r.Before.User, r.Before.Workflow, r.Before.Draft}, r.Before.Status, r.After.Status, Instant(r.After.CompletedAt), r.Reason}
	})
}

// CursorText writes a place in a list of runs as one word, which [ParseCursor] reads. An id
// may hold a comma; a time holds none.
func CursorText(c store.Cursor) string {
	return c.At.UTC().Format(time.RFC3339Nano) + "," + c.ID.String()
}

// ParseCursor reads such a word; false where it is none.
func ParseCursor(text string) (c store.Cursor, ok bool) {
	at, id, found := strings.Cut(text, ",")
	moment, err := time.Parse(time.RFC3339Nano, at)
	if !found || err != nil {
		return c, false
	}
	if c.ID, err = store.ParseID(id); err != nil {
		return c, false
	}
	c.At = moment.UTC()
	return c, true
}
