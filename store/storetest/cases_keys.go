package storetest

import (
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// alike are keys of which each differs from the first in one part alone.
func alike() []store.Key {
	other := MustID('c', 2)
	return []store.Key{
		store.KeyOf(ada, resize, store.ID{}), store.KeyOf(ada, store.ID{}, resize), store.KeyOf(bob, resize, store.ID{}),
		store.KeyOf(ada, other, store.ID{}), store.KeyOf(ada, store.ID{}, other),
	}
}

// keyCases hold the keys apart, and pages of them together.
var keyCases = []contractCase{
	{"a workflow and a draft of the same id are counted apart, folded or not", func(s *script) {
		keys := alike()
		for i, key := range keys {
			for n := range i + 1 {
				id := s.mustBegin(key)
				got := s.complete(id, store.Terminals[n%2], time.Duration(i+1)*time.Second)
				if want := int64(n + 1); !got.Won || got.Count.Key != key || got.Count.Count != want {
					s.Errorf("Complete a run of %s: got %+v, want it won, and a count of %d", key, got, want)
				}
			}
			for range 2 * i {
				s.mustBegin(key)
			}
		}
		s.wantApart("unfolded", keys)
		for _, what := range []string{"recounted, unfolded", "recounted, folded"} {
			s.Corrupt(s, keys[1], 5)
			for i, key := range keys {
				r, err := s.Store.Recount(s.ctx, key, at(time.Hour))
				if err != nil || r.Changed() != (i == 1) {
					s.Errorf("Recount %s: got %+v, %v; want it changed where it was spoiled alone", key, r, err)
				}
			}
			s.wantApart(what, keys)
			s.fold()
			s.wantApart("folded", keys)
		}
	}},
	{"a fold of a few rows at a time moves each once", func(s *script) {
		keys := alike()
		for i, key := range keys {
			for n := range i + 1 {
				s.complete(s.mustBegin(key), store.Terminals[n%2], time.Second)
			}
		}
		for folds := 0; ; folds++ {
			n, err := s.Store.Fold(s.ctx, at(0), 1)
			if err != nil || folds > 20 {
				s.Fatalf("Fold: got %d, %v, after %d folds", n, err, folds)
			}
			s.Exact(s)
			for i, key := range keys {
				s.wantCount(key, int64(i+1))
			}
			if n == 0 {
				return
			}
		}
	}},
	{"a run with a workflow and a draft is the draft's, by every way of counting", func(s *script) {
		both := func(n int, status store.Status, completed time.Duration) store.Row {
			r := row(MustID('2', n), adaSketch, status, completed, completed)
			r.Workflow = resize
			return r
		}
		s.complete(s.mustBegin(adaResize), store.Completed, time.Second)
		s.Deliver(s, at(time.Minute), inserted(both(1, store.Completed, 2*time.Second)), inserted(both(2, store.Failed, 3*time.Second)),
			inserted(both(3, store.Running, 0)), inserted(both(4, store.Pending, 0)), inserted(both(5, store.Cancelling, 0)))
		for range 2 {
			for key, n := range map[store.Key]int64{adaResize: 1, adaSketch: 2} {
				active := 3 * (n - 1)
				last := at(time.Duration(2*n-1) * time.Second)
				if got := s.count(key); got.Count != n || !got.LastRunAt.Equal(last) {
					s.Errorf("count of %s: got %+v, want %d, the last at %v", key, got, n, last)
				}
				if got := s.beginAt(key, 0, ""); got.Usages[0].Counted != n || got.Usages[0].Active != active {
					s.Errorf("Begin a run of %s: got %+v, want %d counted, %d active", key, got, n, active)
				}
				h, err := s.Store.KeyHistory(s.ctx, key, 100)
				if err != nil || h.Count.Count != n || h.Active != active || int64(len(h.Runs)) != n+active || h.Drift.Actual != h.Drift.Stored {
					s.Errorf("KeyHistory of %s: got %+v, %v; want %d runs that ended, %d that did not", key, h, err, n, active)
				}
				list := must(s.Store.SearchCounts(s.ctx, store.CountQuery{Ref: key.Ref, Limit: 10}))(s)
				want(s, "listed", list, []store.Count{s.count(key)})
				s.Corrupt(s, key, 4)
				if r, err := s.Store.Recount(s.ctx, key, at(time.Hour)); err != nil || r.After.Ended.Completed+r.After.Ended.Failed != n {
					s.Errorf("Recount %s: got %+v, %v; want %d", key, r, err, n)
				}
			}
			if drifts, n := s.audit(10); len(drifts) != 0 || n != 2 {
				s.Errorf("Audit: got %d keys, %+v; want 2, and no drift", n, drifts)
			}
			s.fold()
		}
	}},
	{"a count by status is that status's, folded or not", func(s *script) {
		var tallies store.Tallies
		for i, status := range store.Terminals {
			for n := range i + 1 {
				s.complete(s.mustBegin(adaResize), status, time.Duration(10*i+n+1)*time.Second)
			}
		}
		tallies.Ended = store.Tally{Completed: 1, Failed: 2, Timeout: 3, Cancelled: 4}
		s.wantTallies("unfolded", adaResize, tallies)
		s.fold()
		s.wantTallies("folded", adaResize, tallies)
		for n := range 5 { // a cancelling run that is silent is presumed cancelled, an overwritten one completed or failed
			r := row(MustID('2', n+1), adaResize, store.Cancelling, 0, 0)
			if n > 1 {
				r.CompletedAt = at(time.Second)
			}
			if n > 2 {
				r.ErrorDetails = `{}`
			}
			s.Deliver(s, at(time.Minute), inserted(r))
		}
		s.failStuck(time.Hour)
		tallies = tallies.Add(store.Tallies{
			Ended:    store.Tally{Completed: 1, Failed: 2, Cancelled: 2},
			Presumed: store.Tally{Completed: 1, Failed: 2, Cancelled: 2},
		})
		s.wantTallies("presumed, unfolded", adaResize, tallies)
		s.Corrupt(s, adaResize, 1)
		if r, err := s.Store.Recount(s.ctx, adaResize, at(time.Hour)); err != nil || r.After != tallies {
			s.Errorf("Recount: got %+v, %v; want %+v", r, err, tallies)
		}
		s.wantTallies("presumed, recounted", adaResize, tallies)
		s.fold()
		s.wantTallies("presumed, folded", adaResize, tallies)
		id := s.mustBegin(adaResize)
		s.amend(id, store.Timeout, time.Hour)
		tallies.Ended.Timeout++
		s.wantTallies("amended", adaResize, tallies)
	}},
	{"a run that has ended, and says not when, counts under each status, inserted or updated", func(s *script) {
		for n, status := range store.Terminals {
			key := store.KeyOf(ada, MustID('c', 20+n), store.ID{}) // one status alone, so that a fold that forgets it leaves nothing
			for m := range 2 {
				ended := row(MustID('2', 10*n+m+1), key, status, time.Second, 0)
				if m == 0 {
					s.Deliver(s, at(time.Minute), inserted(ended))
				} else {
					running := row(ended.ID, key, store.Running, 0, 0)
					s.Deliver(s, at(time.Minute), inserted(running), updated(running, ended))
				}
				if r := s.run(ended.ID); r.Status != status || r.CompletedAt.IsZero() || r.Presumed {
					s.Errorf("%s: got %+v, want it ended, for real", status, r)
				}
			}
			for range 2 {
				c := s.count(key)
				if e := c.Tallies.Ended; e.Completed+e.Failed+e.Cancelled+e.Timeout != 2 {
					s.Errorf("%s: got %+v, want 2", status, c)
				}
				s.fold()
				s.Exact(s)
			}
		}
	}},
	{"a count keeps what was folded before when more is folded", func(s *script) {
		for round := range 3 {
			for i, status := range store.Terminals {
				s.complete(s.mustBegin(adaResize), status, time.Duration(4*round+i+1)*time.Second)
			}
			s.mustBegin(adaResize)
			if got := s.failStuck(time.Hour); len(got) != 1 {
				s.Fatalf("FailStuck: got %+v, want the one run", got)
			}
			s.fold()
			n := int64(round + 1)
			s.wantTallies(fmt.Sprintf("after fold %d", round+1), adaResize, store.Tallies{
				Ended: store.Tally{Completed: n, Failed: 2 * n, Cancelled: n, Timeout: n}, Presumed: store.Tally{Failed: n}})
		}
	}},
	{"a page of an audit whose lists end at different keys reports no drift", func(s *script) {
		// Of three keys one is folded, one is not, and one has both; and of
		// some the runs are gone, so that only numbers are left that cancel out.
		keys := make([]store.Key, 12)
		for i := range keys {
			keys[i] = store.KeyOf(MustID('a', 1+i/4), MustID('c', 1+i%4), store.ID{})
			if i%4 == 3 {
				keys[i] = store.KeyOf(MustID('a', 1+i/4), store.ID{}, MustID('c', 1))
			}
		}
		for _, folded := range []bool{true, false} {
			for i, key := range keys {
				if i%3 == 2 || folded == (i%3 == 0) {
					id := s.mustBegin(key)
					s.complete(id, store.Completed, time.Second)
					if i%5 == 4 && !folded {
						s.Deliver(s, at(time.Minute), deleted(s.run(id).Row))
					}
				}
			}
			if folded {
				s.fold()
			}
		}
		for page := 1; page <= len(keys)+1; page++ {
			drifts, n := s.audit(page)
			if len(drifts) != 0 || n < len(keys)-2 || n > len(keys) {
				s.Errorf("in pages of %d: %d keys, drifts %+v; want about %d, and none", page, n, drifts, len(keys))
			}
		}
		s.Corrupt(s, keys[7], 2)
		for page := 1; page <= len(keys)+1; page++ {
			if drifts, _ := s.audit(page); len(drifts) != 1 || drifts[0].Key != keys[7] {
				s.Errorf("in pages of %d: drifts %+v; want that of %s", page, drifts, keys[7])
			}
		}
		if _, err := s.Store.Recount(s.ctx, keys[7], at(time.Hour)); err != nil {
			s.Error(err)
		}
	}},
	{"an audit finds runs of which nothing is stored, a workflow's and a draft's", func(s *script) {
		other := MustID('c', 2) // of which there is no run that is not a draft's
		keys := []store.Key{adaSketch, adaResize, store.KeyOf(bob, store.ID{}, MustID('d', 2))}
		for i, key := range keys {
			ended := row(MustID('2', i+1), key, store.Terminals[i], time.Second, time.Second)
			if i == 2 {
				ended.Workflow = other
			}
			s.Deliver(s, at(time.Minute), inserted(ended))
			s.Forget(s, key)
		}
		for page := 1; page <= len(keys)+1; page++ {
			drifts, n := s.audit(page)
			if len(drifts) != len(keys) || n != len(keys) {
				s.Errorf("in pages of %d: %d keys, drifts %+v; want those of %v", page, n, drifts, keys)
				continue
			}
			for i, d := range drifts {
				if d.Key != keys[i] || d.Stored != (store.Tallies{}) || d.Actual.Ended.Total() != 1 {
					s.Errorf("in pages of %d: got %+v, want one run of %s, and none stored", page, d, keys[i])
				}
			}
		}
		for _, key := range keys {
			if r, err := s.Store.Recount(s.ctx, key, at(time.Hour)); err != nil || !r.Changed() {
				s.Errorf("Recount %s: got %+v, %v; want it changed", key, r, err)
			}
		}
	}},
	{"an audit compares each status, presumed or not", func(s *script) {
		s.complete(s.mustBegin(bobResize), store.Completed, time.Second)
		r := row(MustID('2', 1), adaResize, store.Cancelling, 0, 0)
		r.CompletedAt = at(time.Second)
		s.Deliver(s, at(time.Minute), inserted(r)) // presumed completed
		s.failStuck(time.Minute)
		s.mustBegin(adaSketch)
		s.failStuck(time.Hour)
		s.complete(s.mustBegin(adaSketch), store.Cancelled, time.Second)
		s.complete(s.mustBegin(adaSketch), store.Timeout, time.Second)
		for range 2 {
			if drifts, n := s.audit(100); len(drifts) != 0 || n != 3 {
				s.Errorf("got %d keys, drifts %+v; want 3, and none", n, drifts)
			}
			s.fold()
		}
		s.Corrupt(s, adaResize, 1)
		drifts, _ := s.audit(100)
		want(s, "drifts", drifts, []store.Drift{{Key: adaResize,
			Stored: store.Tallies{Ended: store.Tally{Completed: 2}, Presumed: store.Tally{Completed: 1}},
			Actual: store.Tallies{Ended: store.Tally{Completed: 1}, Presumed: store.Tally{Completed: 1}}}})
		if _, err := s.Store.Recount(s.ctx, adaResize, at(time.Hour)); err != nil {
			s.Error(err)
		}
	}},
}

func (s *script) wantTallies(what string, key store.Key, tallies store.Tallies) {
	s.Helper()
	want(s, what, s.count(key).Tallies, tallies)
	s.Exact(s)
}

// wantApart looks, by every way there is, for keys of which the first has one
// run, the second two and two active ones, the third three and four, and so on.
func (s *script) wantApart(what string, keys []store.Key) {
	s.Helper()
	counts := must(s.Store.CountsOf(s.ctx, keys))(s)
	for i, key := range keys {
		n, active := int64(i+1), int64(2*i)
		if got := s.count(key); got.Count != n || !got.LastRunAt.Equal(at(time.Duration(n)*time.Second)) {
			s.Errorf("%s: count of %s: got %+v, want %d, the last after %d s", what, key, got, n, n)
		}
		if counts[i].Count != n {
			s.Errorf("%s: CountsOf %s: got %d, want %d", what, key, counts[i].Count, n)
		}
		if got := s.beginAt(key, 0, ""); got.Usages[0].Counted != n || got.Usages[0].Active != active {
			s.Errorf("%s: Begin a run of %s: got %d counted, %d active, want %d and %d", what, key, got.Usages[0].Counted, got.Usages[0].Active, n, active)
		}
		// A run that has ended is known, so a hint of it changes nothing.
		h, err := s.Store.KeyHistory(s.ctx, key, 100)
		if err != nil || h.Count.Count != n || h.Active != active || int64(len(h.Runs)) != n+active || h.Cause != "" {
			s.Errorf("%s: KeyHistory of %s: got %+v, %v; want %d counted, %d active, and no cause", what, key, h, err, n, active)
			continue
		}
		last := h.Runs[len(h.Runs)-1].Row
		if got := s.hint(time.Minute, updated(last, last)); len(got[0].Counts) != 1 || got[0].Counts[0].Count != n {
			s.Errorf("%s: Apply to a run of %s: got %+v, want a count of %d", what, key, got, n)
		}
	}
	if drifts, got := s.audit(2); len(drifts) != 0 || got != len(keys) {
		s.Errorf("%s: an audit of %d keys found %+v; want %d, and none", what, got, drifts, len(keys))
	}
	s.Exact(s)
}
