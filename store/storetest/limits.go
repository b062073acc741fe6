package storetest

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

var adaCrop = store.KeyOf(ada, MustID('c', 2), store.ID{})

// ofKey and ofUser are limits, for all time and in a window.
func ofKey(n int64) store.Limit  { return store.Limit{Scope: store.KeyLimit, Max: n} }
func ofUser(n int64) store.Limit { return store.Limit{Scope: store.UserLimit, Max: n} }

func from(l store.Limit, from time.Duration) store.Limit {
	l.From = at(from)
	return l
}

// tryBegin begins a run of a key at a time, numbered from 101 on.
func (s *script) tryBegin(key store.Key, now time.Duration, limits ...store.Limit) store.BeginResult {
	s.Helper()
	s.runs++
	return s.begin(store.Begin{ID: MustID('1', 100+s.runs), User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Limits: limits, Now: at(now)})
}

// wantBegun begins a run under limits that hold, and returns its id.
func (s *script) wantBegun(key store.Key, now time.Duration, limits ...store.Limit) store.ID {
	s.Helper()
	b := s.tryBegin(key, now, limits...)
	if !b.Created || b.LimitReached || len(b.Usages) != len(limits) {
		s.Fatalf("Begin of %s under %+v: got %+v, want a run", key, limits, b)
	}
	s.wantAllowance(key, now, b.Usages)
	return b.Run.ID
}

// wantRefused begins a run while the limit of a scope is reached, which creates
// nothing.
func (s *script) wantRefused(reached store.LimitScope, key store.Key, now time.Duration, limits ...store.Limit) store.BeginResult {
	s.Helper()
	var b store.BeginResult
	s.quietly("a begin beyond a limit", func() { b = s.tryBegin(key, now, limits...) })
	if b.Created || !b.LimitReached || b.Reached().Limit.Scope != reached || len(b.Usages) != len(limits) {
		s.Fatalf("Begin of %s under %+v: got %+v, want the limit of the %s reached", key, limits, b, reached)
	}
	if _, err := s.Store.Run(s.ctx, MustID('1', 100+s.runs)); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("the run that did not begin: got %v, want ErrNotFound", err)
	}
	return b
}

func (s *script) allowance(key store.Key, now time.Duration, limits ...store.Limit) []store.Usage {
	s.Helper()
	got, err := s.Store.Allowance(s.ctx, store.AllowanceRequest{User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Limits: limits, Now: at(now)})
	if err != nil {
		s.Fatalf("Allowance of %s: %v", key, err)
	}
	return got
}

// wantAllowance holds that Allowance tells the same as a Begin did.
func (s *script) wantAllowance(key store.Key, now time.Duration, usages []store.Usage) {
	s.Helper()
	var limits []store.Limit
	for _, u := range usages {
		limits = append(limits, u.Limit)
	}
	if len(limits) > 0 {
		want(s, "the allowance after a begin", s.allowance(key, now, limits...), usages)
	}
}

// limitCases are limits of a key and of a user, for all time and in windows.
var limitCases = []contractCase{
	{"a user's limit has the runs of all keys together, drafts among them", func(s *script) {
		limits := []store.Limit{ofKey(2), ofUser(3)}
		s.complete(s.wantBegun(adaResize, 0, limits...), store.Completed, time.Second)
		s.wantBegun(adaSketch, 0, limits...)
		s.wantBegun(adaCrop, 0, limits...)
		refused := s.wantRefused(store.UserLimit, adaCrop, 0, limits...)
		want(s, "usages", refused.Usages, []store.Usage{
			{Limit: limits[0], Active: 1}, {Limit: limits[1], Counted: 1, Active: 2},
		})
		s.wantBegun(bobResize, 0, limits...)
		s.wantBegun(adaCrop, 0, limits[0]) // a limit binds the calls that name it
	}},
	{"a run begins only where all limits hold, and the answer names the one that is reached", func(s *script) {
		s.wantBegun(adaResize, 0)
		s.wantRefused(store.KeyLimit, adaResize, 0, ofKey(1), ofUser(9))
		s.wantRefused(store.KeyLimit, adaResize, 0, ofUser(9), ofKey(1))
		s.wantRefused(store.UserLimit, adaResize, 0, ofKey(9), ofUser(1))
		s.wantRefused(store.UserLimit, adaCrop, 0, ofUser(1), ofKey(1))
		s.wantRefused(store.UserLimit, adaResize, 0, ofUser(1), ofKey(1)) // the first of both
		s.wantRefused(store.KeyLimit, adaResize, 0, ofKey(1), ofUser(1))
		s.wantBegun(adaCrop, 0, ofKey(1), ofUser(2))
		s.wantRefused(store.KeyLimit, bobResize, 0, ofKey(0))
		s.wantRefused(store.UserLimit, bobResize, 0, ofUser(0))
		s.wantBegun(bobResize, 0, ofKey(math.MaxInt64), ofUser(math.MaxInt64))
	}},
	{"in a window a limit has the runs that ended in it, and all that are active", func(s *script) {
		s.windows()
		this := []store.Limit{from(ofKey(3), month), from(ofUser(3), month)}
		s.deliverEnded(1, adaResize, time.Hour, month-time.Second, month)
		s.deliverEnded(11, adaCrop, month-time.Second)
		begun := s.wantBegun(adaResize, month-time.Minute) // before the turn; it will end after it
		s.wantBegun(adaResize, month+time.Hour, this...)
		for _, reached := range this {
			refused := s.wantRefused(reached.Scope, adaResize, month+time.Hour, reached)
			want(s, "usages", refused.Usages, []store.Usage{{Limit: reached, Counted: 1, Active: 2}})
		}
		last := []store.Limit{from(ofKey(9), 0), from(ofUser(9), 0)}
		want(s, "since the month before", s.allowance(adaResize, month+time.Hour, last...), []store.Usage{
			{Limit: last[0], Counted: 3, Active: 2}, {Limit: last[1], Counted: 4, Active: 2},
		})
		s.completeAt(begun, store.Completed, month-time.Second, month+2*time.Hour) // it belongs to the last month
		s.wantBegun(adaResize, month+time.Hour, this...)
		s.wantRefused(store.KeyLimit, adaResize, month+time.Hour, this...)
	}},
	{"a run that is dated ahead takes a slot of the window that it will be in", func(s *script) {
		s.windows()
		s.deliverEnded(1, adaResize, month+24*time.Hour)
		s.wantRefused(store.KeyLimit, adaResize, month, from(ofKey(1), month))
		s.wantRefused(store.UserLimit, adaCrop, month, from(ofUser(1), month))
	}},
	{"a look at a window tells that it is full, and an allowance how full it is", func(s *script) {
		s.windows()
		s.deliverEnded(1, adaResize, month, month+time.Second, month+2*time.Second, month+3*time.Second, month+4*time.Second)
		for _, l := range []store.Limit{from(ofKey(2), month), from(ofUser(2), month)} {
			if u := s.wantRefused(l.Scope, adaResize, month+time.Hour, l).Usages[0]; u.Counted < 2 || u.Counted > 5 {
				s.Errorf("Begin: got %+v, want 2 to 5 counted", u)
			}
			u := s.allowance(adaResize, month+time.Hour, l)
			want(s, "allowance", u, []store.Usage{{Limit: l, Counted: 5}})
			want(s, "remaining", u[0].Remaining(), 0)
		}
	}},
	{"what counts against a limit in a window follows the policy", func(s *script) {
		s.windows()
		for i, status := range store.Terminals {
			s.Deliver(s, at(month), inserted(endedAt(i+1, adaResize, status, at(time.Hour))))
		}
		s.begin(store.Begin{ID: MustID('1', 9), User: ada, Workflow: resize, Now: at(0)})
		s.failStuck(time.Hour)
		for policy, n := range map[store.Policy]int64{
			{}: 3, {Terminal: true}: 5, {ExceptPresumed: true}: 2, {Terminal: true, ExceptPresumed: true}: 4,
		} {
			s.setPolicy(policy)
			for _, l := range []store.Limit{ofKey(n), ofUser(n), from(ofKey(n), 0), from(ofUser(n), 0)} {
				refused := s.wantRefused(l.Scope, adaResize, month, l)
				want(s, "under "+policy.String(), refused.Usages, []store.Usage{{Limit: l, Counted: n}})
			}
		}
	}},
	{"limits that can't be kept are invalid", func(s *script) {
		s.windows()
		for what, limits := range map[string][]store.Limit{
			"negative": {ofKey(-1)}, "two of one scope": {ofUser(1), ofUser(2)}, "of nobody": {{Max: 1}}, "of a workflow": {{Scope: "workflow", Max: 1}},
			"from a time to come": {from(ofKey(1), time.Second)}, "of a user from a time to come": {ofKey(1), from(ofUser(1), time.Second)},
		} {
			b := store.Begin{ID: MustID('1', 1), User: ada, Workflow: resize, Limits: limits, Now: at(0)}
			if got, err := s.Store.Begin(s.ctx, b); !errors.Is(err, store.ErrInvalid) {
				s.Errorf("Begin under limits that are %s: got %+v, %v; want ErrInvalid", what, got, err)
			}
			a := store.AllowanceRequest{User: ada, Workflow: resize, Limits: limits, Now: at(0)}
			if got, err := s.Store.Allowance(s.ctx, a); !errors.Is(err, store.ErrInvalid) {
				s.Errorf("Allowance of limits that are %s: got %+v, %v; want ErrInvalid", what, got, err)
			}
		}
		s.wantBegun(adaResize, 0, from(ofKey(1), 0), from(ofUser(1), 0)) // from now on
	}},
	{"an allowance needs a limit and whose it is, and reserves nothing", func(s *script) {
		for what, a := range map[string]store.AllowanceRequest{
			"no limit": {User: ada, Workflow: resize}, "nobody": {Workflow: resize, Limits: []store.Limit{ofKey(1)}},
			"no workflow": {User: ada, Limits: []store.Limit{ofUser(1), ofKey(1)}}, "nobody at all": {Limits: []store.Limit{ofUser(1)}},
		} {
			a.Now = at(0)
			if got, err := s.Store.Allowance(s.ctx, a); !errors.Is(err, store.ErrInvalid) {
				s.Errorf("Allowance of %s: got %+v, %v; want ErrInvalid", what, got, err)
			}
		}
		s.complete(s.mustBegin(adaResize), store.Completed, time.Second)
		s.mustBegin(adaSketch)
		s.quietly("an allowance", func() {
			want(s, "of the user alone", s.allowance(store.Key{User: ada}, 0, ofUser(5)), []store.Usage{{Limit: ofUser(5), Counted: 1, Active: 1}})
			both := s.allowance(adaSketch, 0, ofUser(5), ofKey(1))
			want(s, "of both", both, []store.Usage{{Limit: ofUser(5), Counted: 1, Active: 1}, {Limit: ofKey(1), Active: 1}})
			want(s, "remaining", []int64{both[0].Remaining(), both[1].Remaining()}, []int64{3, 0})
			want(s, "of nobody known", s.allowance(store.Key{User: MustID('a', 9)}, 0, ofUser(5)), []store.Usage{{Limit: ofUser(5)}})
		})
	}},
	{"a begin that finds its run is no matter of limits", func(s *script) {
		limits := []store.Limit{ofKey(1), ofUser(1)}
		b := store.Begin{ID: MustID('1', 1), User: ada, Workflow: resize, IdempotencyKey: "order-7", Limits: limits, Now: at(0)}
		first := s.begin(b)
		s.quietly("a repeated begin", func() {
			b.ID = MustID('1', 2)
			again := s.begin(b)
			if again.Created || again.LimitReached || again.Run.ID != first.Run.ID {
				s.Errorf("Begin: got %+v, want the first run", again)
			}
			want(s, "its usages", again.Usages, first.Usages)
		})
		b.IdempotencyKey = "order-8"
		if got := s.begin(b); !got.LimitReached {
			s.Errorf("Begin of another order: got %+v, want the limit reached", got)
		}
		s.complete(first.Run.ID, store.Cancelled, time.Second)
		if got := s.begin(b); !got.Created {
			s.Errorf("Begin of another order, after a cancelled one: got %+v, want a run", got)
		}
	}},
	{"a hundred begins at once on ten keys of a user give as many as both limits allow", func(s *script) {
		limits := []store.Limit{ofKey(2), ofUser(15)}
		var wg sync.WaitGroup
		var mu sync.Mutex
		created := map[store.ID]int{}
		for i := range 100 {
			wg.Go(func() {
				workflow := MustID('c', 50+i%10)
				b, err := s.Store.Begin(s.ctx, store.Begin{ID: MustID('1', i+1), User: ada, Workflow: workflow, Limits: limits, Now: at(0)})
				if err != nil {
					s.Errorf("Begin: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if b.Created {
					created[workflow]++
				}
			})
		}
		wg.Wait()
		sum := 0
		for workflow, n := range created {
			if sum += n; n > 2 {
				s.Errorf("%d runs of %s, want at most 2", n, workflow)
			}
		}
		want(s, "created runs", sum, 15)
		want(s, "the user's", s.allowance(store.Key{User: ada}, 0, ofUser(15)), []store.Usage{{Limit: ofUser(15), Active: 15}})
	}},
}

// describe names a limit in a complaint.
func describe(l store.Limit) string {
	return fmt.Sprintf("%s, at most %d, from %v", l.Scope, l.Max, l.From)
}
