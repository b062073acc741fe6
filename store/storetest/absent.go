package storetest

import (
	"cmp"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// Absent names the column that a table lacks: its users' or its workflows'.
type Absent struct{ User, Workflow bool }

// Row is the row of such a table, which has no drafts either. A backend of another
// keeps its rows.
func (a Absent) Row(r store.Row) store.Row {
	if r.ID.IsZero() || a == (Absent{}) {
		return r
	}
	r.Workflow, r.Draft = cmp.Or(r.Workflow, r.Draft), store.ID{}
	if a.User {
		r.User = store.Absent
	}
	if a.Workflow {
		r.Workflow = store.Absent
	}
	return r
}

func (a Absent) key(user, workflow store.ID) store.Key {
	return a.Row(store.Row{ID: user, User: user, Workflow: workflow}).Key()
}

// row is a row of the suite as the backend's table can have it.
func (b Backend) row(r store.Row) store.Row {
	if r = b.Absent.Row(r); b.Fit != nil && !r.ID.IsZero() {
		r = b.Fit(r)
	}
	return r
}

// changes are those of such a table.
func (b Backend) changes(all []store.Change) []store.Change {
	for i := range all {
		all[i].Record, all[i].Old = b.row(all[i].Record), b.row(all[i].Old)
	}
	return all
}

// RunAbsent holds a store of such a table to the contract, as far as its keys are
// others.
func RunAbsent(t *testing.T, a Absent, open Open) {
	for name, test := range ContractAbsent(a, open) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// ContractAbsent yields the cases of RunAbsent by name, but for those that need what the
// table lacks besides.
func ContractAbsent(a Absent, open Open, missing ...string) iter.Seq2[string, func(testing.TB)] {
	mine, other := a.key(ada, resize), a.key(bob, resize)
	if a.User {
		other = a.key(ada, sketch)
	}
	return each(open, missing, []contractCase{
		{"runs are counted, begun under a limit, and found again", func(s *script) {
			first := s.mustBegin(mine)
			s.complete(first, store.Completed, time.Second)
			s.mustBegin(other)
			s.wantCount(mine, 1)
			s.wantCount(other, 0)
			s.wantTotal(mine, 1)
			want(s, "its key", s.run(first).Key(), mine)
			want(s, "it counts", s.run(first).Counted, true)
			two := int64(2)
			b := store.Begin{ID: MustID('1', 7), User: mine.User, Workflow: mine.Workflow(), Limits: store.UpTo(two), IdempotencyKey: "k", Now: at(2 * time.Second)}
			want(s, "a run within the limit", s.begin(b).Created, true)
			want(s, "the same again", s.begin(b).Created, false)
			b.ID, b.IdempotencyKey = MustID('1', 8), "l"
			want(s, "a run beyond the limit", s.begin(b).LimitReached, true)
			b.ID, b.User, b.Workflow = first, other.User, other.Workflow()
			if _, err := s.Store.Begin(s.ctx, b); !errors.Is(err, store.ErrConflict) {
				s.Errorf("another's run: got %v, want ErrConflict", err)
			}
		}},
		{"a count is listed, explained and recounted", func(s *script) {
			for _, key := range []store.Key{mine, other, mine} {
				s.complete(s.mustBegin(key), store.Failed, time.Second)
			}
			s.fold()
			s.complete(s.mustBegin(mine), store.Completed, 2*time.Second)
			counts, err := s.Store.SearchCounts(s.ctx, store.CountQuery{Limit: 10})
			if err != nil || len(counts) != 2 || counts[0].Key != mine || counts[0].Count != 3 || counts[1].Key != other || !counts[0].LastRunAt.Equal(at(2*time.Second)) {
				s.Errorf("SearchCounts: got %+v, %v; want 3 and 1", counts, err)
			}
			if counts, err = s.Store.SearchCounts(s.ctx, store.CountQuery{After: mine, Limit: 10}); err != nil || len(counts) != 1 || counts[0].Key != other {
				s.Errorf("SearchCounts after the first: got %+v, %v; want the second", counts, err)
			}
			if !a.User {
				if counts, err = store.UserCounts(s.ctx, s.Store, ada, store.Key{}, 10); err != nil || len(counts) != 1 || counts[0].Key != mine {
					s.Errorf("UserCounts: got %+v, %v; want one", counts, err)
				}
			}
			if counts, err = s.Store.CountsOf(s.ctx, []store.Key{other, mine}); err != nil || len(counts) != 2 || counts[0].Count != 1 || counts[1].Count != 3 {
				s.Errorf("CountsOf: got %+v, %v; want 1 and 3", counts, err)
			}
			if h, err := s.Store.KeyHistory(s.ctx, mine, 10); err != nil || len(h.Runs) != 3 || h.Drift.Stored != h.Drift.Actual || h.Count.Count != 3 {
				s.Errorf("KeyHistory: got %+v, %v; want 3 runs", h, err)
			}
			s.Corrupt(s, mine, 5)
			drifts, keys := s.audit(1)
			if len(drifts) != 1 || drifts[0].Key != mine || keys != 2 {
				s.Fatalf("audit: got %+v of %d keys, want one of two", drifts, keys)
			}
			if r, err := s.Store.Recount(s.ctx, mine, at(time.Minute)); err != nil || !r.Changed() {
				s.Errorf("Recount: got %+v, %v; want a change", r, err)
			}
			s.wantCount(mine, 3)
		}},
		{"what an application does is heard, and nothing of it is odd", func(s *script) {
			begun := a.Row(row(MustID('1', 1), adaResize, store.Running, 0, 0))
			ended := a.Row(row(MustID('1', 1), adaResize, store.Completed, time.Second, time.Second))
			s.Deliver(s, at(0), inserted(begun))
			if odd, err := s.Store.SearchRuns(s.ctx, store.RunQuery{State: store.OddRuns, Limit: 9}); err != nil || len(odd) != 0 || s.run(begun.ID).Odd() {
				s.Errorf("odd runs: got %+v, %v; want none", odd, err)
			}
			applied := s.Deliver(s, at(time.Second), updated(begun, ended))
			want(s, "the keys it names", keysOf(applied[0]), []store.Key{mine})
			want(s, "the count", applied[0].Counts[0].Count, 1)
			s.Deliver(s, at(2*time.Second), deleted(ended))
			s.wantCount(mine, 0)
		}},
		{"runs are counted by scope and window, and limits are of a key and of a user", func(s *script) {
			s.windows()
			for i, end := range []time.Duration{time.Hour, month, month + time.Hour} {
				s.Deliver(s, at(2*month), inserted(a.Row(endedAt(i+1, adaResize, store.Completed, at(end)))))
			}
			s.Deliver(s, at(2*month), inserted(a.Row(endedAt(9, other, store.Completed, at(time.Hour)))))
			ofUser, ofAll := store.Scope{User: mine.User}, store.TotalOf(mine.Workflow(), store.ID{}).Scope()
			user, all := int64(1), int64(1) // of last month
			if a.User {
				user = 2
			} else if a.Workflow {
				all = 2
			}
			s.wantMonths(mine.Scope(), 1, 2)
			s.wantMonths(ofUser, user, 2)
			s.wantMonths(ofAll, all, 2)
			s.grant(store.GrantRequest{User: mine.User, Workflow: mine.Workflow(), Runs: 1, Who: "support", Why: "a bad week", Now: at(month)})
			limits := []store.Limit{from(store.Limit{Scope: store.KeyLimit, Max: 2}, month), from(store.Limit{Scope: store.UserLimit, Max: 3}, month)}
			s.wantBegun(mine, month+2*time.Hour, limits...)
			s.wantRefused(store.KeyLimit, mine, month+2*time.Hour, limits...)
			s.wantLeft(mine, month+2*time.Hour, limits[1], 1, 1)
		}},
		{"a presumed outcome gives way to a real one", func(s *script) {
			id := s.mustBegin(mine)
			if got := s.failStuck(time.Hour); len(got) != 1 || got[0].After.Key() != mine {
				s.Fatalf("FailStuck: got %+v, want the one", got)
			}
			want(s, "presumed", s.count(mine).Tallies.Presumed, store.Tally{Failed: 1})
			s.complete(id, store.Completed, 2*time.Hour)
			want(s, "presumed, then", s.count(mine).Tallies, store.Tallies{Ended: store.Tally{Completed: 1}})
		}},
	})
}
