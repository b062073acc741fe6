package storetest

import (
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

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
