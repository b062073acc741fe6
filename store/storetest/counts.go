package storetest

import (
	"errors"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// countCases are counts, folds, audits and recounts.
var countCases = []contractCase{
	{"a key without runs has the count 0, and no key is an error", func(s *script) {
		want(s, "count", s.count(adaResize), store.Count{Key: adaResize})
		if _, err := s.Store.Count(s.ctx, store.Key{}.Scope(), store.AllTime); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("Count of no key: got %v, want ErrInvalid", err)
		}
	}},
	{"a policy is applied on reading, without a recount", func(s *script) {
		for i, status := range store.Terminals {
			s.complete(s.mustBegin(adaResize), status, time.Duration(i+1)*time.Second)
		}
		s.mustBegin(adaResize)
		s.failStuck(time.Hour)
		for policy, n := range map[string]int64{
			"outcomes": 3, "terminal": 5, "outcomes-except-presumed": 2, "terminal-except-presumed": 4,
		} {
			p, err := store.ParsePolicy(policy)
			if err != nil {
				s.Fatal(err)
			}
			s.setPolicy(p)
			s.wantCount(adaResize, n)
		}
	}},
	{"the keys of a workflow and of a draft are counted apart", func(s *script) {
		s.complete(s.mustBegin(adaResize), store.Completed, time.Second)
		s.complete(s.mustBegin(adaSketch), store.Completed, time.Second)
		s.complete(s.mustBegin(adaSketch), store.Failed, time.Second)
		s.wantCount(adaResize, 1)
		s.wantCount(adaSketch, 2)
		s.wantCount(bobResize, 0)
	}},
	{"a fold changes no count, and a second one finds nothing", func(s *script) {
		for range 5 {
			s.complete(s.mustBegin(adaResize), store.Completed, time.Second)
			s.complete(s.mustBegin(bobResize), store.Cancelled, time.Second)
		}
		before := s.count(adaResize)
		if n := s.fold(); n > 10 { // fewer where a store folds as it writes
			s.Errorf("Fold: got %d ledger rows, want at most 10", n)
		}
		s.Exact(s)
		want(s, "count after a fold", s.count(adaResize), before)
		s.quietly("a fold of an empty ledger", func() {
			if n := s.fold(); n != 0 {
				s.Errorf("second Fold: got %d, want 0", n)
			}
		})
	}},
	{"law 1 holds while completions, folds, recounts and reads race", func(s *script) {
		var ids []store.ID
		for range 40 {
			ids = append(ids, s.mustBegin(adaResize))
		}
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := w; i < len(ids); i += 4 {
					if _, err := s.Store.Complete(s.ctx, store.Completion{ID: ids[i], Outcome: store.Outcome{Status: store.Completed}, Now: at(time.Second)}); err != nil {
						s.Errorf("Complete: %v", err)
					}
				}
			})
		}
		for _, do := range []func() error{
			func() error { _, err := s.Store.Fold(s.ctx, at(0), 3); return err },
			func() error { _, err := s.Store.Recount(s.ctx, adaResize, at(0)); return err },
			func() error {
				wrong, err := s.Store.AuditTotals(s.ctx, true)
				if len(wrong) > 0 {
					s.Errorf("law 1: an audit in the middle found the totals %+v", wrong)
				}
				return err
			},
			func() error {
				page, err := s.Store.Audit(s.ctx, store.Audit{Max: 10})
				if len(page.Drifts) > 0 {
					s.Errorf("law 1: an audit in the middle found %+v", page.Drifts)
				}
				return err
			},
		} {
			wg.Go(func() {
				for range 20 {
					if err := do(); err != nil {
						s.Errorf("beside completions: %v", err)
					}
				}
			})
		}
		wg.Wait()
		s.wantCount(adaResize, 40)
		s.wantTotal(allResize, 40)
	}},
	{"an audit finds every key that was spoiled, page by page, and a recount repairs it", func(s *script) {
		keys := []store.Key{adaResize, adaSketch, bobResize}
		for _, key := range keys {
			s.complete(s.mustBegin(key), store.Completed, time.Second)
		}
		if drifts, n := s.audit(100); len(drifts) != 0 || n != 3 {
			s.Fatalf("Audit: got %d keys, drifts %+v; want 3 and none", n, drifts)
		}
		s.Corrupt(s, adaSketch, 4)
		s.fold()
		s.Corrupt(s, bobResize, -1)
		for _, page := range []int{1, 2, 100} {
			drifts, n := s.audit(page)
			want(s, "drifts", drifts, []store.Drift{
				{Key: adaSketch, Stored: ended(5), Actual: ended(1)},
				{Key: bobResize, Stored: ended(0), Actual: ended(1)},
			})
			want(s, "audited keys", n, 3)
		}
		for _, key := range keys {
			r, err := s.Store.Recount(s.ctx, key, at(time.Minute))
			if err != nil || r.Changed() != (key != adaResize) || r.After != ended(1) {
				s.Errorf("Recount %s: got %+v, %v", key, r, err)
			}
		}
		if drifts, _ := s.audit(100); len(drifts) != 0 {
			s.Errorf("second audit: got %+v, want none", drifts)
		}
		s.quietly("a recount of a right count", func() {
			if r, err := s.Store.Recount(s.ctx, adaResize, at(time.Minute)); err != nil || r.Changed() {
				s.Errorf("Recount: got %+v, %v", r, err)
			}
		})
	}},
	{"a history tells what happened to a run, and how a count comes about", func(s *script) {
		id := s.mustBegin(adaResize)
		s.failStuck(time.Hour)
		s.amend(id, store.Cancelled, 2*time.Hour)
		run, err := s.Store.History(s.ctx, id)
		if err != nil || !run.Found || run.Run.Status != store.Cancelled || run.Count.Tallies.Ended.Cancelled != 1 {
			s.Fatalf("History: got %+v, %v; want the run, cancelled", run, err)
		}
		want(s, "repairs", run.Repairs, []store.RepairLog{{Reason: store.Stuck, Times: 1, First: at(time.Hour), Last: at(time.Hour),
			Was: store.Pending, Status: store.Failed, CompletedAt: at(5 * time.Minute)}})
		want(s, "amendments", run.Amendments, []store.AmendmentLog{{At: at(2 * time.Hour), Who: "support", Why: "a refund",
			Was: store.Failed, WasCompletedAt: at(5 * time.Minute), Status: store.Cancelled}})
		active := s.mustBegin(adaResize)
		s.Corrupt(s, adaResize, 3)
		key, err := s.Store.KeyHistory(s.ctx, adaResize, 10)
		if err != nil || key.Active != 1 || len(key.Runs) != 2 || key.Runs[0].ID != active || key.Cause == "" {
			s.Errorf("KeyHistory: got %+v, %v; want an active run, an ended one, and a cause", key, err)
		}
		want(s, "drift", key.Drift.Stored.Ended.Completed-key.Drift.Actual.Ended.Completed, int64(3))
		if _, err := s.Store.Recount(s.ctx, adaResize, at(3*time.Hour)); err != nil {
			s.Fatal(err)
		}
		key, err = s.Store.KeyHistory(s.ctx, adaResize, 1)
		if err != nil || len(key.Recounts) != 1 || len(key.Runs) != 1 || key.Cause != "" {
			s.Fatalf("KeyHistory: got %+v, %v; want one recount, and no cause any more", key, err)
		}
		want(s, "recount", key.Recounts[0], store.RecountLog{At: at(3 * time.Hour),
			Before: store.Tallies{Ended: store.Tally{Completed: 3, Cancelled: 1}}, After: store.Tallies{Ended: store.Tally{Cancelled: 1}}})
		if run, err := s.Store.History(s.ctx, MustID('9', 9)); err != nil || run.Found {
			s.Errorf("History of a run that isn't there: got %+v, %v", run, err)
		}
	}},
	{"an audit sees a count without runs, and runs without a count", func(s *script) {
		s.Corrupt(s, adaSketch, 2)
		s.complete(s.mustBegin(adaResize), store.Completed, time.Second)
		s.fold()
		s.Corrupt(s, adaResize, -1)
		drifts, _ := s.audit(100)
		want(s, "drifts", drifts, []store.Drift{
			{Key: adaSketch, Stored: ended(2)},
			{Key: adaResize, Actual: ended(1)},
		})
		for _, d := range drifts {
			if _, err := s.Store.Recount(s.ctx, d.Key, at(0)); err != nil {
				s.Errorf("Recount: %v", err)
			}
		}
	}},
}

func ended(n int64) store.Tallies { return store.Tallies{Ended: store.Tally{Completed: n}} }

// sweepCases are stuck runs.
var sweepCases = []contractCase{
	{"a run that is silent for longer than its limit is presumed failed, as of then", func(s *script) {
		id := s.mustBegin(adaResize)
		if got := s.failStuck(5 * time.Minute); len(got) != 0 {
			s.Fatalf("at the limit: got %+v, want nothing yet", got)
		}
		s.quietly("a dry run", func() {
			got, err := s.Store.FailStuck(s.ctx, store.FailStuck{Now: at(time.Hour), Limits: store.DefaultLimits(), Max: 10, DryRun: true})
			if err != nil || len(got) != 1 {
				s.Errorf("dry run: got %+v, %v; want the one run", got, err)
			}
		})
		got := s.failStuck(time.Hour)
		if len(got) != 1 || got[0].Reason != store.Stuck || got[0].Before.Status != store.Pending {
			s.Fatalf("FailStuck: got %+v, want the one run", got)
		}
		r := s.wantRun(id, store.Failed, at(5*time.Minute))
		if !r.Presumed || !r.Counted || r.ErrorDetails == "" {
			s.Errorf("run: got %+v, want presumed, counted, with details", r)
		}
		want(s, "tally", s.count(adaResize).Tallies, store.Tallies{Ended: store.Tally{Failed: 1}, Presumed: store.Tally{Failed: 1}})
		s.quietly("a second sweep", func() { s.failStuck(2 * time.Hour) })
	}},
	{"case D26: a run begun while the clock was ahead is silent from when it was first seen", func(s *script) {
		b := s.begin(store.Begin{ID: MustID('9', 1), User: ada, Workflow: resize, Now: at(10 * time.Hour)})
		sweep := func(d time.Duration, want int) {
			s.Helper()
			r, err := (&store.Sweeper{Store: s.Store, Source: s.Source, Now: func() time.Time { return at(d) }}).Sweep(s.ctx, store.SweepOptions{})
			if err != nil || r.Repairs() != want {
				s.Errorf("at %s: %d repairs, %v; want %d", d, r.Repairs(), err, want)
			}
		}
		sweep(time.Minute, 0) // it is noted
		s.quietly("a second sweep", func() { sweep(2*time.Minute, 0) })
		if _, err := s.Store.Start(s.ctx, b.Run.ID, at(9*time.Hour)); err != nil {
			s.Fatal(err)
		}
		sweep(5*time.Minute, 0) // it has moved
		sweep(10*time.Minute, 0)
		sweep(11*time.Minute, 1)
		if r := s.wantRun(b.Run.ID, store.Failed, at(10*time.Minute)); !r.Presumed {
			s.Errorf("the run is %+v, want it presumed", r)
		}
		sweep(11*time.Hour, 0)
	}},
	{"a real outcome supersedes a presumed one, once", func(s *script) {
		id := s.mustBegin(adaResize)
		s.failStuck(time.Hour)
		if r := s.complete(id, store.Completed, 2*time.Hour); !r.Won || r.Count.Count != 1 {
			s.Fatalf("late Complete: got %+v, want won and count 1", r)
		}
		if r := s.wantRun(id, store.Completed, at(2*time.Hour)); r.Presumed || r.ErrorDetails != "" {
			s.Errorf("run: got %+v, want nothing left of the presumed outcome", r)
		}
		want(s, "tally", s.count(adaResize).Tallies, ended(1))
		if r := s.complete(id, store.Failed, 3*time.Hour); r.Won {
			s.Errorf("second Complete: won, want lost")
		}
	}},
	{"a batch is at most as large as asked, and the next goes on", func(s *script) {
		for range 5 {
			s.mustBegin(adaResize)
		}
		for _, n := range []int{2, 2, 1, 0} {
			got, err := s.Store.FailStuck(s.ctx, store.FailStuck{Now: at(time.Hour), Limits: store.DefaultLimits(), Max: 2})
			if err != nil || len(got) != n {
				s.Fatalf("FailStuck: got %d, %v; want %d", len(got), err, n)
			}
		}
		s.wantCount(adaResize, 5)
	}},
	{"case T23: suspects come page by page in the order of their ids, and those that are named are ended alone", func(s *script) {
		ids := map[store.ID]bool{}
		for range 5 {
			ids[s.mustBegin(adaResize)] = true
		}
		s.complete(s.mustBegin(adaResize), store.Completed, time.Minute)
		f := store.FailStuck{Now: at(time.Hour), Limits: store.DefaultLimits(), Max: 2}
		var got []store.Suspect
		s.quietly("a look", func() {
			for _, n := range []int{2, 2, 1} {
				page, err := s.Store.Suspects(s.ctx, f)
				if err != nil || len(page) != n {
					s.Fatalf("Suspects behind %s: got %d, %v; want %d", f.After, len(page), err, n)
				}
				got = append(got, page...)
				f.After = page[n-1].ID
			}
		})
		for i, one := range got {
			if !ids[one.ID] || one.User != ada || i > 0 && one.ID.String() <= got[i-1].ID.String() {
				s.Errorf("suspect %d is %+v: want ada's runs in order", i, one)
			}
			delete(ids, one.ID)
		}
		f.After = store.ID{}
		f.Runs = []store.ID{got[4].ID, got[2].ID}
		if done, err := s.Store.FailStuck(s.ctx, f); err != nil || len(done) != 2 || done[0].Before.ID == done[1].Before.ID {
			s.Fatalf("FailStuck: got %+v, %v; want the two that were named", done, err)
		}
		s.wantRun(got[4].ID, store.Failed, at(5*time.Minute))
		s.wantRun(got[2].ID, store.Failed, at(5*time.Minute))
		s.wantRun(got[0].ID, store.Pending, time.Time{})
		if left, err := s.Store.Suspects(s.ctx, store.FailStuck{Now: at(time.Hour), Limits: store.DefaultLimits(), Max: 10}); err != nil || len(left) != 3 {
			s.Errorf("Suspects: got %d, %v; want 3 left", len(left), err)
		}
	}},
	{"a limit is per status, and 0 means never", func(s *script) {
		a, b := s.mustBegin(adaResize), s.mustBegin(adaResize)
		if _, err := s.Store.Start(s.ctx, b, at(0)); err != nil {
			s.Fatal(err)
		}
		limits := store.Limits{store.Pending: time.Minute, store.Running: 0}
		if got, err := s.Store.FailStuck(s.ctx, store.FailStuck{Now: at(time.Hour), Limits: limits, Max: 10}); err != nil || len(got) != 1 || got[0].Before.ID != a {
			s.Errorf("got %+v, %v; want the pending run alone", got, err)
		}
	}},
	{"sweeps and completions at once leave one outcome and one count", func(s *script) {
		for range 20 {
			id := s.mustBegin(adaResize)
			var wg sync.WaitGroup
			wg.Go(func() { s.failStuck(time.Hour) })
			wg.Go(func() { s.failStuck(time.Hour) })
			wg.Go(func() { s.complete(id, store.Completed, time.Hour) })
			wg.Wait()
			s.wantRun(id, store.Completed, at(time.Hour))
		}
		want(s, "tally", s.count(adaResize).Tallies, ended(20))
	}},
}
