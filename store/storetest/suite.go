package storetest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/google/go-cmp/cmp"
)

// Store is all that the suite asks of a backend.
type Store interface {
	store.Store
	store.Maintainer
	store.Reader
	store.LetterBox
	store.Granter
	store.NoticeBox
	store.ActivityLog
	store.Statistics
}

// Backend is one freshly opened store, with what the suite needs to look at it
// and to hurt it from outside.
type Backend struct {
	Store  Store
	Source store.Source // the same store; nil where it is a mirror
	Absent Absent       // of its table

	// Fit makes a row that a [Source] draws one that the table can have; nil where it
	// can have any.
	Fit func(store.Row) store.Row

	// Write makes a change to the watched table, as an application would, and
	// delivers nothing. It is nil for a mirror, which watches none.
	Write func(t testing.TB, c store.Change)

	// Exact fails the test if in one snapshot counts + ledger of any key differ
	// from its ended runs per status, or a total from the counts of its users (law 1). It asks the database with a
	// statement of its own, not through Audit.
	Exact func(t testing.TB)

	// ExactIn fails the test if in one snapshot the count that the store gives of a scope
	// in a window differs from its ended runs, which are counted without an index; nil
	// where a store can't be asked within a snapshot of the test's.
	ExactIn func(t testing.TB, of store.Scope, in store.Window)

	// Corrupt makes the stored count of a key wrong, and the total with it, as runs
	// do that our triggers missed.
	Corrupt func(t testing.TB, key store.Key, by int64)

	// CorruptTotal makes the stored total of a key's workflow or draft wrong, by hand.
	CorruptTotal func(t testing.TB, of store.Key, by int64)

	// Forget drops all that is stored of the count of a key, and its part of the total.
	Forget func(t testing.TB, key store.Key)

	// Windows makes the indexes by which the windows of a user, and of a workflow or
	// draft over all users, are counted, the first time that it is called; nil where there
	// can be none.
	Windows func(t testing.TB)

	// NoWindows drops these indexes again; nil where Windows is.
	NoWindows func(t testing.TB)

	// Written returns a number that grows whenever anything is written.
	Written func(t testing.TB) int64
}

// Deliver applies changes, and returns the results. Where the store watches a
// table, the changes are made to it first.
func (b Backend) Deliver(t testing.TB, received time.Time, changes ...store.Change) []store.ApplyResult {
	t.Helper()
	if b.Write != nil {
		for _, c := range changes {
			b.Write(t, c)
		}
	}
	applied, err := b.Store.Apply(context.WithoutCancel(t.Context()), changes, received)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return applied
}

// Open opens an empty store that the test's cleanup closes.
type Open func(t testing.TB) Backend

// epoch is the time at which the suite's stories begin.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func at(d time.Duration) time.Time { return epoch.Add(d) }

// MustID returns the UUID that a short number stands for.
func MustID(kind byte, n int) store.ID {
	id, err := store.ParseID(fmt.Sprintf("%02x000000-0000-4000-8000-%012x", kind, n))
	if err != nil {
		panic(err) // the format is a UUID's
	}
	return id
}

var (
	ada, bob       = MustID('a', 1), MustID('b', 2)
	resize, sketch = MustID('c', 1), MustID('d', 1)
	adaResize      = store.KeyOf(ada, resize, store.ID{})
	adaSketch      = store.KeyOf(ada, store.ID{}, sketch)
	bobResize      = store.KeyOf(bob, resize, store.ID{})
)

// script is one test's store, with helpers that make it read as a transcript.
type script struct {
	testing.TB
	Backend
	ctx  context.Context
	runs int
}

// setPolicy puts a policy in force.
func (s *script) setPolicy(p store.Policy) {
	s.Helper()
	if err := s.Store.SetPolicy(s.ctx, p); err != nil {
		s.Fatal(err)
	}
}

// Run runs the whole suite.
func Run(t *testing.T, open Open) {
	for name, test := range Contract(open) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// Contract yields the cases of the suite by name, but for those that need what a table
// lacks.
func Contract(open Open, missing ...string) iter.Seq2[string, func(testing.TB)] {
	return each(open, missing, slices.Concat(runCases, changeCases, countCases, totalCases, scopeCases, limitCases, grantCases, nearCases, sweepCases, listCases, tableCases, idCases, activityCases, statisticsCases, noticeCases))
}

func each(open Open, missing []string, cases []contractCase) iter.Seq2[string, func(testing.TB)] {
	return func(yield func(string, func(testing.TB)) bool) {
		for _, c := range cases {
			if slices.ContainsFunc(needs[c.name], func(need string) bool { return slices.Contains(missing, need) }) {
				continue
			}
			test := func(t testing.TB) {
				s := &script{TB: t, Backend: open(t), ctx: t.Context()}
				c.test(s)
				s.Exact(t)
			}
			if !yield(c.name, test) {
				return
			}
		}
	}
}

type contractCase struct {
	name string
	test func(s *script)
}

func (s *script) mustBegin(key store.Key) store.ID {
	s.Helper()
	s.runs++
	b := s.begin(store.Begin{ID: MustID('1', s.runs), User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Now: epoch})
	if !b.Created || b.LimitReached {
		s.Fatalf("Begin: got %+v, want a created run", b)
	}
	return b.Run.ID
}

func (s *script) begin(b store.Begin) store.BeginResult {
	s.Helper()
	begun, err := s.Store.Begin(s.ctx, b)
	if err != nil {
		s.Fatalf("Begin: %v", err)
	}
	return begun
}

func (s *script) complete(id store.ID, status store.Status, d time.Duration) store.CompleteResult {
	s.Helper()
	r, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: status}, Now: at(d)})
	if err != nil {
		s.Fatalf("Complete: %v", err)
	}
	return r
}

func (s *script) amend(id store.ID, status store.Status, d time.Duration) store.Run {
	s.Helper()
	r, err := s.Store.Amend(s.ctx, store.AmendRequest{ID: id, Status: status, Who: "support", Why: "a refund", Now: at(d)})
	if err != nil {
		s.Fatalf("Amend: %v", err)
	}
	return r
}

func (s *script) run(id store.ID) store.Run {
	s.Helper()
	r, err := s.Store.Run(s.ctx, id)
	if err != nil {
		s.Fatalf("Run: %v", err)
	}
	return r
}

func (s *script) wantRun(id store.ID, status store.Status, completed time.Time) store.Run {
	s.Helper()
	r := s.run(id)
	if r.Status != status || !r.CompletedAt.Equal(completed) {
		s.Fatalf("run: got %s at %v, want %s at %v", r.Status, r.CompletedAt, status, completed)
	}
	return r
}

func (s *script) count(key store.Key) store.Count {
	s.Helper()
	c, err := s.Store.Count(s.ctx, key.Scope(), store.AllTime)
	if err != nil {
		s.Fatalf("Count: %v", err)
	}
	return c
}

func (s *script) wantCount(key store.Key, want int64) {
	s.Helper()
	if got := s.count(key); got.Count != want {
		s.Fatalf("count of %s: got %d (%+v), want %d", key, got.Count, got.Tallies, want)
	}
}

func (s *script) failStuck(d time.Duration) []store.Repaired {
	s.Helper()
	r, err := s.Store.FailStuck(s.ctx, store.FailStuck{Now: at(d), Limits: store.DefaultLimits(), Max: 100})
	if err != nil {
		s.Fatalf("FailStuck: %v", err)
	}
	return r
}

func (s *script) fold() int {
	s.Helper()
	total := 0
	for {
		n, err := s.Store.Fold(s.ctx, at(time.Hour), 1000)
		if err != nil {
			s.Fatalf("Fold: %v", err)
		}
		if total += n; n < 1000 {
			return total
		}
	}
}

func (s *script) audit(pageSize int) (drifts []store.Drift, keys int) {
	s.Helper()
	a := store.Audit{Max: pageSize}
	for {
		page, err := s.Store.Audit(s.ctx, a)
		if err != nil {
			s.Fatalf("Audit: %v", err)
		}
		drifts, keys = append(drifts, page.Drifts...), keys+page.Keys
		if page.Next.IsZero() {
			return drifts, keys
		}
		if page.Next.Compare(a.After) <= 0 {
			s.Fatalf("Audit: Next is %s, not after %s", page.Next, a.After)
		}
		a.After = page.Next
	}
}

// quietly fails the test if do writes anything (law 5).
func (s *script) quietly(what string, do func()) {
	s.Helper()
	before := s.Written(s)
	do()
	if after := s.Written(s); after != before {
		s.Errorf("law 5: %s wrote %d times, want 0", what, after-before)
	}
}

func want[T any](s *script, what string, got, want T) {
	s.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// row is a row of ada's or bob's as the watched table would show it.
func row(id store.ID, key store.Key, status store.Status, updated, completed time.Duration) store.Row {
	r := store.Row{
		ID: id, User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Status: status,
		CreatedAt: epoch, StartedAt: epoch, UpdatedAt: at(updated),
	}
	if completed > 0 {
		r.CompletedAt = at(completed)
	}
	return r
}

func inserted(r store.Row) store.Change { return store.Change{Op: store.Insert, Record: r} }

func updated(old, record store.Row) store.Change {
	return store.Change{Op: store.Update, Record: record, Old: old, HasOld: true}
}

func deleted(old store.Row) store.Change {
	return store.Change{Op: store.Delete, Old: old, HasOld: true}
}

func keysOf(a store.ApplyResult) []store.Key {
	var keys []store.Key
	for _, c := range a.Counts {
		keys = append(keys, c.Key)
	}
	return slices.Clip(keys)
}
