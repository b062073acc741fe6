package storetest

import (
	"errors"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

var allResize, allSketch = store.TotalOf(resize, store.ID{}), store.TotalOf(store.ID{}, sketch)

func (s *script) wantTotal(of store.Key, want int64) {
	s.Helper()
	got, err := s.Store.Count(s.ctx, store.Scope{Kind: of.Kind, Ref: of.Ref}, store.AllTime)
	if err != nil || got.Count != want || got.Key != store.TotalOf(of.Workflow(), of.Draft()) {
		s.Fatalf("total of %s: got %d (%+v), %v, want %d", of, got.Count, got, err, want)
	}
}

func (s *script) auditTotals(repair bool) []store.Drift {
	s.Helper()
	wrong, err := s.Store.AuditTotals(s.ctx, repair)
	if err != nil {
		s.Fatalf("AuditTotals: %v", err)
	}
	return wrong
}

// totalCases are counts over all users.
var totalCases = []contractCase{
	{"a total is what the users of a workflow or draft have together", func(s *script) {
		s.wantTotal(allResize, 0)
		if _, err := s.Store.Count(s.ctx, store.Scope{}, store.AllTime); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("Count of no scope: got %v, want ErrInvalid", err)
		}
		for i, status := range store.Terminals {
			s.complete(s.mustBegin(adaResize), status, time.Duration(i+1)*time.Second)
		}
		s.complete(s.mustBegin(bobResize), store.Completed, time.Second)
		s.complete(s.mustBegin(adaSketch), store.Completed, time.Second)
		s.mustBegin(bobResize)
		s.wantTotal(allResize, 3)
		s.wantTotal(allSketch, 1)
		s.fold()
		s.wantTotal(allResize, 3)
		s.failStuck(time.Hour)
		for policy, n := range map[string]int64{
			"outcomes": 4, "terminal": 6, "outcomes-except-presumed": 3, "terminal-except-presumed": 5,
		} {
			p, err := store.ParsePolicy(policy)
			if err != nil {
				s.Fatal(err)
			}
			s.setPolicy(p)
			s.wantTotal(allResize, n)
		}
	}},
	{"a total follows runs that change hands, and those that are deleted", func(s *script) {
		run := row(MustID('2', 1), adaResize, store.Completed, time.Second, time.Second)
		bobs, sketched := run, run
		bobs.User, bobs.UpdatedAt = bob, at(2*time.Second)
		sketched.User, sketched.Workflow, sketched.Draft, sketched.UpdatedAt = bob, store.ID{}, sketch, at(3*time.Second)
		for i, step := range []struct {
			change         store.Change
			resize, sketch int64
		}{
			{inserted(run), 1, 0},
			{updated(run, bobs), 1, 0},
			{updated(bobs, sketched), 0, 1},
			{deleted(sketched), 0, 0},
		} {
			s.Deliver(s, at(time.Duration(i)*time.Minute), step.change)
			for range 2 {
				s.wantTotal(allResize, step.resize)
				s.wantTotal(allSketch, step.sketch)
				s.fold()
			}
		}
	}},
	{"a recount changes the total by as much as the count", func(s *script) {
		for _, key := range []store.Key{adaResize, bobResize} {
			s.complete(s.mustBegin(key), store.Completed, time.Second)
		}
		s.fold()
		s.complete(s.mustBegin(adaResize), store.Failed, time.Second)
		s.Corrupt(s, adaResize, 7)
		s.wantTotal(allResize, 10)
		if r, err := s.Store.Recount(s.ctx, adaResize, at(time.Hour)); err != nil || !r.Changed() {
			s.Errorf("Recount: got %+v, %v", r, err)
		}
		s.wantTotal(allResize, 3)
		want(s, "wrong totals", s.auditTotals(false), nil)
	}},
	{"an audit finds a total that was made wrong by hand, and adds the difference", func(s *script) {
		s.complete(s.mustBegin(adaResize), store.Completed, time.Second)
		s.complete(s.mustBegin(bobResize), store.Completed, time.Second)
		s.complete(s.mustBegin(bobResize), store.Failed, time.Second)
		s.complete(s.mustBegin(adaSketch), store.Completed, time.Second)
		s.fold()
		s.quietly("an audit of right totals", func() { want(s, "wrong totals", s.auditTotals(true), nil) })
		s.CorruptTotal(s, allResize, 5)
		spoiled, right := ended(7), ended(2)
		spoiled.Ended.Failed, right.Ended.Failed = 1, 1
		wrong := []store.Drift{{Key: allResize, Stored: spoiled, Actual: right}}
		s.quietly("an audit that repairs nothing", func() { want(s, "wrong totals", s.auditTotals(false), wrong) })
		dry, err := (&store.Sweeper{Store: s.Store, Source: s.Source, Now: func() time.Time { return at(time.Hour) }}).Sweep(s.ctx, store.SweepOptions{Full: true, DryRun: true})
		want(s, "a dry run", dry.Totals, wrong)
		swept, again := (&store.Sweeper{Store: s.Store, Source: s.Source, Now: func() time.Time { return at(time.Hour) }}).Sweep(s.ctx, store.SweepOptions{Full: true})
		want(s, "a sweep", swept.Totals, wrong)
		if err := errors.Join(err, again); err != nil {
			s.Error(err)
		}
		s.quietly("an audit after it", func() { want(s, "wrong totals", s.auditTotals(true), nil) })
		s.wantTotal(allResize, 3)
		s.wantTotal(allSketch, 1)
	}},
}
