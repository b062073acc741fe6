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
				if got := s.beginAt(key, 0, ""); got.Counted != n || got.Active != active {
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
		if got := s.beginAt(key, 0, ""); got.Counted != n || got.Active != active {
			s.Errorf("%s: Begin a run of %s: got %d counted, %d active, want %d and %d", what, key, got.Counted, got.Active, n, active)
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

// leaseCases are leases: a worker that lives moves the lease alone.
var leaseCases = []contractCase{
	{"a change that moves the lease alone is stored, and saves the run", func(s *script) {
		r := row(MustID('2', 1), adaResize, store.Running, 0, 0)
		leased := r
		leased.LeaseAt = at(58 * time.Minute)
		s.Deliver(s, at(0), inserted(r))
		s.Deliver(s, at(time.Minute), updated(r, leased))
		if got := s.run(r.ID); !got.LeaseAt.Equal(leased.LeaseAt) {
			s.Errorf("the lease is %v, want %v", got.LeaseAt, leased.LeaseAt)
		}
		if got := s.failStuck(time.Hour); len(got) != 0 {
			s.Errorf("FailStuck: got %+v, want the run left alone", got)
		}
		if got := s.failStuck(2 * time.Hour); len(got) != 1 {
			s.Errorf("FailStuck, once the lease is over: got %+v, want the run", got)
		}
		s.wantRun(r.ID, store.Failed, at(63*time.Minute))
	}},
	{"runs with a sign of life do not fill the batch of the stuck", func(s *script) {
		for i, alive := range []func(*store.Row){
			func(r *store.Row) { r.LeaseAt = at(58 * time.Minute) },
			func(r *store.Row) { r.UpdatedAt = at(58 * time.Minute) },
			func(r *store.Row) { r.StartedAt = at(58 * time.Minute) },
			func(r *store.Row) {
				r.StartedAt, r.UpdatedAt, r.CreatedAt = time.Time{}, time.Time{}, at(58*time.Minute)
			},
			func(r *store.Row) { // a lease alone, newer than the creation
				r.StartedAt, r.UpdatedAt, r.LeaseAt = time.Time{}, time.Time{}, at(58*time.Minute)
			},
		} {
			for n, status := range []store.Status{store.Pending, store.Running, store.Cancelling} {
				for m := range 3 {
					r := row(MustID('2', 100*i+10*n+m+1), adaResize, status, 0, 0)
					alive(&r)
					s.Deliver(s, at(0), inserted(r))
				}
			}
		}
		for n, status := range []store.Status{store.Pending, store.Running, store.Cancelling} {
			silent := row(MustID('4', n+1), adaResize, status, 0, 0)
			s.Deliver(s, at(0), inserted(silent))
			got, err := s.Store.FailStuck(s.ctx, store.FailStuck{Now: at(time.Hour), Limits: store.DefaultLimits(), Max: 2})
			if err != nil || len(got) != 1 || got[0].Before.ID != silent.ID {
				s.Errorf("a silent run that is %s: got %+v, %v; want it alone", status, got, err)
			}
		}
	}},
	{"runs whose status has no limit do not fill the batch of the stuck", func(s *script) {
		all := []store.Status{store.Pending, store.Running, store.Cancelling}
		for n, status := range all {
			for m := range 3 {
				s.Deliver(s, at(0), inserted(row(MustID('2', 10*n+m+1), adaResize, status, 0, 0)))
			}
			s.Deliver(s, at(0), inserted(row(MustID('4', n+1), adaResize, status, 0, 0)))
		}
		for n, status := range all {
			silent := MustID('4', n+1)
			for m := range 3 { // leave but one that is silent
				id := MustID('2', 10*n+m+1)
				s.complete(id, store.Completed, time.Second)
			}
			f := store.FailStuck{Now: at(time.Hour), Limits: store.Limits{status: time.Minute}, Max: 2}
			if got, err := s.Store.FailStuck(s.ctx, f); err != nil || len(got) != 1 || got[0].Before.ID != silent {
				s.Errorf("a limit for %s alone: got %+v, %v; want that run", status, got, err)
			}
			s.wantRun(silent, []store.Status{store.Failed, store.Failed, store.Cancelled}[n], at(time.Minute))
		}
	}},
	{"a run is stuck by the limit of its own status", func(s *script) {
		limits := store.Limits{store.Pending: 30 * time.Minute, store.Running: time.Hour, store.Cancelling: time.Minute}
		for n, status := range []store.Status{store.Running, store.Pending, store.Cancelling} {
			s.Deliver(s, at(0), inserted(row(MustID('2', n+1), adaResize, status, 0, 0)))
		}
		for _, tt := range []struct {
			after time.Duration
			run   int
		}{{2 * time.Minute, 3}, {31 * time.Minute, 2}, {61 * time.Minute, 1}} {
			got, err := s.Store.FailStuck(s.ctx, store.FailStuck{Now: at(tt.after), Limits: limits, Max: 10})
			if err != nil || len(got) != 1 || got[0].Before.ID != MustID('2', tt.run) {
				s.Errorf("after %s: got %+v, %v; want run %d", tt.after, got, err, tt.run)
			}
		}
	}},
	{"a time that is still to come is no sign of life, and a silent run is found by any other", func(s *script) {
		for i, dated := range []func(*store.Row){
			func(r *store.Row) { r.LeaseAt = at(24 * time.Hour) },
			func(r *store.Row) { r.UpdatedAt = at(24 * time.Hour) },
			func(r *store.Row) { r.StartedAt = at(24 * time.Hour) },
			func(r *store.Row) { r.StartedAt, r.UpdatedAt = at(24*time.Hour), at(24*time.Hour) },
		} {
			r := row(MustID('2', i+1), adaResize, store.Running, 0, 0)
			dated(&r)
			s.Deliver(s, at(0), inserted(r))
			got := s.failStuck(time.Hour)
			if len(got) != 1 || !got[0].After.CompletedAt.Equal(at(5*time.Minute)) {
				s.Errorf("run %d: got %+v, want it ended as of five minutes", i+1, got)
			}
		}
	}},
}

// logCases are logs, and how long they are kept.
var logCases = []contractCase{
	{"decisions are kept for ever, repairs and recounts for ninety days after the last", func(s *script) {
		id := s.mustBegin(adaResize)
		s.failStuck(time.Hour)
		s.amend(id, store.Running, 2*time.Hour)
		s.failStuck(10 * 24 * time.Hour) // again: the log's last moves, its first stays
		s.Corrupt(s, adaResize, 3)
		if _, err := s.Store.Recount(s.ctx, adaResize, at(10*24*time.Hour)); err != nil {
			s.Fatal(err)
		}
		const day = 24 * time.Hour
		for _, tt := range []struct {
			after time.Duration
			kept  int
		}{{100 * day, 1}, {100*day + time.Second, 0}, {10_000 * day, 0}} {
			if _, err := s.Store.Fold(s.ctx, at(tt.after), 100); err != nil {
				s.Fatal(err)
			}
			h := s.history(id)
			want(s, fmt.Sprintf("repairs after %s", tt.after), len(h.Repairs), tt.kept)
			want(s, fmt.Sprintf("recounts after %s", tt.after), len(must(s.Store.Recounts(s.ctx, 0, 10))(s)), tt.kept)
			want(s, fmt.Sprintf("decisions after %s", tt.after), len(h.Amendments), 1)
			if tt.kept > 0 {
				want(s, "times", h.Repairs[0].Times, 2)
				want(s, "first", h.Repairs[0].First, at(time.Hour))
				want(s, "last", h.Repairs[0].Last, at(10*day))
			}
		}
	}},
	{"a history is of one run, or of one key", func(s *script) {
		keys := alike()
		var ids []store.ID
		for i, key := range keys {
			id := s.mustBegin(key)
			ids = append(ids, id)
			s.failStuck(time.Duration(i+1) * time.Hour)
			s.amend(id, store.Cancelled, time.Duration(i+1)*time.Hour+time.Minute)
		}
		s.fold()
		for i, key := range keys {
			s.Corrupt(s, key, int64(i+1))
			if _, err := s.Store.Recount(s.ctx, key, at(time.Duration(i+10)*time.Hour)); err != nil {
				s.Fatal(err)
			}
		}
		s.complete(s.mustBegin(keys[0]), store.Completed, time.Second) // the only one that is not folded
		for i, key := range keys {
			h := s.history(ids[i])
			if len(h.Repairs) != 1 || !h.Repairs[0].Last.Equal(at(time.Duration(i+1)*time.Hour)) ||
				len(h.Amendments) != 1 || !h.Amendments[0].At.Equal(at(time.Duration(i+1)*time.Hour+time.Minute)) || h.Count.Key != key {
				s.Errorf("History of the run of %s: got %+v", key, h)
			}
			k, err := s.Store.KeyHistory(s.ctx, key, 10)
			if err != nil || len(k.Recounts) != 1 || k.Recounts[0].Before.Ended.Completed != int64(i+1) || !k.Recounts[0].At.Equal(at(time.Duration(i+10)*time.Hour)) ||
				k.Recounts[0].After != (store.Tallies{Ended: store.Tally{Cancelled: 1}}) || i > 0 && k.Ledger != 0 {
				s.Errorf("KeyHistory of %s: got %+v, %v", key, k, err)
			}
		}
	}},
	{"health counts what is active, odd, or ended too soon", func(s *script) {
		n := 0
		tell := func(key store.Key, status store.Status, completed time.Duration, times int) {
			for range times {
				n++
				r := row(MustID('2', n), key, status, 0, completed)
				if completed < 0 {
					r.CompletedAt = at(completed)
				}
				if completed == time.Nanosecond {
					r.CompletedAt = epoch // as it started
				}
				s.Deliver(s, at(time.Minute), inserted(r))
			}
		}
		tell(adaResize, store.Pending, 0, 1)
		tell(adaResize, store.Running, 0, 2)
		tell(adaResize, store.Cancelling, 0, 4)
		tell(adaResize, "archived", 0, 8)
		tell(adaResize, store.Completed, -time.Second, 3)
		tell(adaResize, store.Completed, time.Nanosecond, 5)
		tell(store.Key{User: ada}, store.Completed, time.Second, 6)
		got := must(s.Store.Health(s.ctx))(s)
		got.Ledger = 0
		want(s, "health", got, store.Health{Active: 15, NoKey: 6, UnknownStatus: 8, EndedTooSoon: 3})
	}},
	{"a repair that comes again is logged as it was last", func(s *script) {
		id := s.mustBegin(adaResize)
		s.failStuck(time.Hour)
		s.amend(id, store.Cancelling, 2*time.Hour)
		s.failStuck(3 * time.Hour)
		want(s, "repairs", s.history(id).Repairs, []store.RepairLog{{Reason: store.Stuck, Times: 2, First: at(time.Hour), Last: at(3 * time.Hour),
			Was: store.Cancelling, Status: store.Cancelled, CompletedAt: at(2*time.Hour + 5*time.Minute)}})
	}},
}
