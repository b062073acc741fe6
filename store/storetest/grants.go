package storetest

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// grantTo is a request to give runs to a key, or to a user alone.
func grantTo(key store.Key, runs int64, now time.Duration) store.GrantRequest {
	return store.GrantRequest{User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Runs: runs, Who: "support", Why: "a bad week", Now: at(now)}
}

func (s *script) grant(g store.GrantRequest) store.Grant {
	s.Helper()
	got, err := s.Store.Grant(s.ctx, g)
	if err != nil || !got.Created {
		s.Fatalf("Grant %+v: got %+v, %v; want it made", g, got, err)
	}
	wanted := store.Grant{Seq: got.Grant.Seq, Of: g.Of(), Runs: g.Runs, Who: g.Who, Why: g.Why, GrantedAt: store.Instant(g.Now), ExpiresAt: store.Instant(g.ExpiresAt), IdempotencyKey: g.IdempotencyKey}
	want(s, "the grant", got.Grant, wanted)
	return got.Grant
}

func (s *script) revoke(seq int64, now time.Duration) store.Grant {
	s.Helper()
	g, err := s.Store.RevokeGrant(s.ctx, store.RevokeRequest{Seq: seq, Who: "billing", Why: "a mistake", Now: at(now)})
	if err != nil {
		s.Fatalf("RevokeGrant: %v", err)
	}
	return g
}

func (s *script) grants(q store.GrantQuery) []store.Grant {
	s.Helper()
	got, err := s.Store.Grants(s.ctx, q)
	if err != nil {
		s.Fatalf("Grants: %v", err)
	}
	return got
}

// wantLeft compares what is left of a limit.
func (s *script) wantLeft(key store.Key, now time.Duration, l store.Limit, granted, left int64) {
	s.Helper()
	if u := s.allowance(key, now, l)[0]; u.Granted != granted || u.Remaining() != left {
		s.Errorf("allowance of %s, %s: got %+v with %d left, want %d granted and %d left", key, describe(l), u, u.Remaining(), granted, left)
	}
}

// grantCases are runs on top of limits.
var grantCases = []contractCase{
	{"a grant raises the limit of its key, and that of its user, and of no other", func(s *script) {
		both := []store.Limit{ofKey(1), ofUser(1)}
		s.wantBegun(adaResize, 0, both...)
		s.wantRefused(store.KeyLimit, adaResize, 0, both...)
		s.grant(grantTo(adaResize, 2, 0)) // a refill of one workflow is not stopped by the user's cap
		s.wantBegun(adaResize, 0, both...)
		s.wantLeft(adaResize, 0, ofKey(1), 2, 1)
		s.wantLeft(adaResize, 0, ofUser(1), 2, 1)
		s.wantLeft(adaCrop, 0, ofKey(1), 0, 1)
		s.wantLeft(adaSketch, 0, ofKey(1), 0, 1)
		s.wantLeft(store.Key{User: ada}, 0, ofUser(1), 2, 1)
		s.wantLeft(bobResize, 0, ofKey(1), 0, 1)
		s.wantLeft(bobResize, 0, ofUser(1), 0, 1)
		s.grant(grantTo(store.Key{User: ada}, 4, 0)) // of the user alone
		s.grant(grantTo(adaSketch, 8, 0))
		s.wantLeft(adaResize, 0, ofKey(1), 2, 1)
		s.wantLeft(adaSketch, 0, ofKey(1), 8, 9)
		s.wantLeft(adaResize, 0, ofUser(1), 14, 13)
		s.wantLeft(adaResize, 0, ofUser(math.MaxInt64), 14, math.MaxInt64-2)
	}},
	{"no run uses a grant up, and what has begun under one stays begun", func(s *script) {
		limit := ofKey(1)
		s.complete(s.wantBegun(adaResize, 0, limit), store.Completed, time.Second)
		g := s.grant(grantTo(adaResize, 2, 0))
		second, third := s.wantBegun(adaResize, 0, limit), s.wantBegun(adaResize, 0, limit)
		s.wantRefused(store.KeyLimit, adaResize, 0, limit)
		s.complete(second, store.Cancelled, time.Second) // which does not count
		s.wantLeft(adaResize, 0, limit, 2, 1)
		s.complete(s.wantBegun(adaResize, 0, limit), store.Completed, 2*time.Second)
		s.wantRefused(store.KeyLimit, adaResize, 0, limit)
		s.revoke(g.Seq, time.Minute)
		s.wantLeft(adaResize, time.Minute, limit, 0, 0) // never below
		s.wantRefused(store.KeyLimit, adaResize, time.Minute, limit)
		s.wantRun(third, store.Pending, time.Time{})
		if got := s.complete(third, store.Completed, 2*time.Minute); !got.Won || got.Count.Count != 3 {
			s.Errorf("Complete: got %+v, want it won, the third that counts", got)
		}
	}},
	{"a grant stands until the moment at which it expires", func(s *script) {
		g := grantTo(adaResize, 3, 0)
		g.ExpiresAt = at(time.Hour)
		s.grant(g)
		for _, l := range []store.Limit{ofKey(1), ofUser(1)} {
			s.wantLeft(adaResize, 0, l, 3, 4)
			s.wantLeft(adaResize, time.Hour-time.Second, l, 3, 4)
			s.wantLeft(adaResize, time.Hour, l, 0, 1)
			s.wantLeft(adaResize, 2*time.Hour, l, 0, 1)
		}
		s.wantBegun(adaResize, 2*time.Hour, ofKey(1))
		s.wantRefused(store.KeyLimit, adaResize, 2*time.Hour, ofKey(1))
		s.wantBegun(adaResize, time.Hour-time.Second, ofKey(1))
	}},
	{"in a window a grant counts where it was given, so that none is used in two", func(s *script) {
		s.windows()
		s.grant(grantTo(adaResize, 2, time.Hour))
		s.grant(grantTo(adaResize, 4, month-time.Second))
		s.grant(grantTo(adaResize, 8, month))
		for _, l := range []store.Limit{ofKey(1), ofUser(1)} {
			s.wantLeft(adaResize, month, l, 14, 15)
			s.wantLeft(adaResize, month-time.Second, from(l, 0), 14, 15) // what was given since
			s.wantLeft(adaResize, month, from(l, time.Hour), 14, 15)
			s.wantLeft(adaResize, month, from(l, time.Hour+time.Second), 12, 13)
			s.wantLeft(adaResize, month, from(l, month), 8, 9)
			s.wantLeft(adaResize, month+time.Second, from(l, month+time.Second), 0, 1)
		}
		s.deliverEnded(1, adaResize, month, month+1, month+2, month+3, month+4, month+5, month+6, month+7)
		s.wantBegun(adaResize, month+time.Minute, from(ofKey(1), month), from(ofUser(1), month))
		s.wantRefused(store.KeyLimit, adaResize, month+time.Minute, from(ofKey(1), month), from(ofUser(1), month))
	}},
	{"the same idempotency key gives the same grant, and another request under it is a conflict", func(s *script) {
		g := grantTo(adaResize, 5, 0)
		g.IdempotencyKey, g.ExpiresAt = "refill-7", at(month)
		first := s.grant(g)
		again := g
		again.Now = at(time.Hour)
		s.quietly("a repeated grant", func() {
			got, err := s.Store.Grant(s.ctx, again)
			want(s, "the grant", got, store.GrantResult{Grant: first})
			if err != nil {
				s.Errorf("Grant: %v", err)
			}
		})
		for what, change := range map[string]func(g *store.GrantRequest){
			"another number":   func(g *store.GrantRequest) { g.Runs = 6 },
			"another workflow": func(g *store.GrantRequest) { g.Workflow = MustID('c', 2) },
			"the user alone":   func(g *store.GrantRequest) { g.Workflow = store.ID{} },
			"another who":      func(g *store.GrantRequest) { g.Who = "billing" },
			"another why":      func(g *store.GrantRequest) { g.Why = "a refund" },
			"another end":      func(g *store.GrantRequest) { g.ExpiresAt = at(month + time.Second) },
			"no end":           func(g *store.GrantRequest) { g.ExpiresAt = time.Time{} },
		} {
			other := again
			change(&other)
			s.quietly("a grant that conflicts", func() {
				if got, err := s.Store.Grant(s.ctx, other); !errors.Is(err, store.ErrConflict) {
					s.Errorf("Grant with %s: got %+v, %v; want ErrConflict", what, got, err)
				}
			})
		}
		bobs := again
		bobs.User = bob
		s.grant(bobs)
		s.wantLeft(adaResize, time.Hour, ofKey(0), 5, 5)
		revoked := s.revoke(first.Seq, time.Hour)
		got, err := s.Store.Grant(s.ctx, again)
		want(s, "the grant, revoked", got, store.GrantResult{Grant: revoked})
		if err != nil {
			s.Errorf("Grant: %v", err)
		}
		s.wantLeft(adaResize, time.Hour, ofKey(0), 0, 0)
	}},
	{"a request that is repeated after its grant expired gets that grant, and no new one is made", func(s *script) {
		g := grantTo(adaResize, 5, 0)
		g.IdempotencyKey, g.ExpiresAt = "refill-7", at(time.Hour)
		first := s.grant(g)
		g.Now = at(month)
		for _, key := range []string{g.IdempotencyKey, "", "refill-8"} {
			g.IdempotencyKey = key
			s.quietly("a grant that has expired", func() {
				got, err := s.Store.Grant(s.ctx, g)
				switch {
				case key != first.IdempotencyKey && !errors.Is(err, store.ErrInvalid):
					s.Errorf("Grant with the key %q: got %+v, %v; want ErrInvalid", key, got, err)
				case key == first.IdempotencyKey:
					want(s, "the grant", got, store.GrantResult{Grant: first})
					if err != nil {
						s.Errorf("Grant: %v", err)
					}
				}
			})
		}
		g.IdempotencyKey, g.Runs = first.IdempotencyKey, 6
		if got, err := s.Store.Grant(s.ctx, g); !errors.Is(err, store.ErrConflict) {
			s.Errorf("Grant of other contents: got %+v, %v; want ErrConflict", got, err)
		}
	}},
	{"many grants with one idempotency key at once are one, and those without as many as they are", func(s *script) {
		var wg sync.WaitGroup
		created := make(chan bool, 16)
		for i := range 16 {
			wg.Go(func() {
				g := grantTo(adaResize, 1, 0)
				if i%2 == 0 {
					g.IdempotencyKey = "refill-7"
				}
				got, err := s.Store.Grant(s.ctx, g)
				if err != nil {
					s.Errorf("Grant: %v", err)
				}
				created <- got.Created
			})
		}
		wg.Wait()
		n := 0
		for range 16 {
			if <-created {
				n++
			}
		}
		want(s, "grants that were made", n, 9)
		s.wantLeft(adaResize, 0, ofKey(0), 9, 9)
	}},
	{"a grant is revoked once, by the first who does", func(s *script) {
		g := s.grant(grantTo(adaResize, 5, 0))
		for _, r := range []store.RevokeRequest{{Seq: g.Seq, Who: "x"}, {Seq: g.Seq, Why: "x"}} {
			r.Now = at(0)
			if got, err := s.Store.RevokeGrant(s.ctx, r); !errors.Is(err, store.ErrInvalid) {
				s.Errorf("RevokeGrant %+v: got %+v, %v; want ErrInvalid", r, got, err)
			}
		}
		if got, err := s.Store.RevokeGrant(s.ctx, store.RevokeRequest{Seq: g.Seq + 1, Who: "x", Why: "y", Now: at(0)}); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("RevokeGrant of none: got %+v, %v; want ErrNotFound", got, err)
		}
		s.wantLeft(adaResize, 0, ofKey(1), 5, 6)
		revoked := s.revoke(g.Seq, time.Hour)
		g.RevokedAt, g.RevokedBy, g.RevokedWhy = at(time.Hour), "billing", "a mistake"
		want(s, "the grant", revoked, g)
		s.quietly("a second revocation", func() {
			again, err := s.Store.RevokeGrant(s.ctx, store.RevokeRequest{Seq: g.Seq, Who: "another", Why: "a second look", Now: at(2 * time.Hour)})
			want(s, "the grant", again, g)
			if err != nil {
				s.Errorf("RevokeGrant: %v", err)
			}
		})
		want(s, "the list", s.grants(store.GrantQuery{Limit: 9}), []store.Grant{g})
		s.wantLeft(adaResize, time.Minute, ofKey(1), 0, 1) // it is gone, whatever clock asks
	}},
	{"a grant names a user, a number, who and why, and an end to come", func(s *script) {
		for what, change := range map[string]func(g *store.GrantRequest){
			"no user":        func(g *store.GrantRequest) { g.User = store.ID{} },
			"no runs":        func(g *store.GrantRequest) { g.Runs = 0 },
			"less than none": func(g *store.GrantRequest) { g.Runs = -1 },
			"too many":       func(g *store.GrantRequest) { g.Runs = store.MaxGrant + 1 },
			"nobody":         func(g *store.GrantRequest) { g.Who = "" },
			"no reason":      func(g *store.GrantRequest) { g.Why = "" },
			"an end now":     func(g *store.GrantRequest) { g.ExpiresAt = g.Now },
			"an end before":  func(g *store.GrantRequest) { g.ExpiresAt = g.Now.Add(-time.Second) },
		} {
			g := grantTo(adaResize, 1, 0)
			change(&g)
			if got, err := s.Store.Grant(s.ctx, g); !errors.Is(err, store.ErrInvalid) {
				s.Errorf("Grant with %s: got %+v, %v; want ErrInvalid", what, got, err)
			}
		}
		want(s, "the list", len(s.grants(store.GrantQuery{Limit: 9})), 0)
		s.grant(grantTo(adaResize, store.MaxGrant, 0))
		s.grant(grantTo(adaResize, store.MaxGrant, 0))
		s.wantLeft(adaResize, 0, ofUser(1), 2*store.MaxGrant, 2*store.MaxGrant+1)
	}},
	{"grants are listed latest first, in pages, revoked and expired ones among them", func(s *script) {
		var all []store.Grant
		for i, key := range []store.Key{adaResize, adaSketch, bobResize, {User: ada}, adaResize, adaCrop, adaResize} {
			g := grantTo(key, int64(i+1), time.Duration(i)*time.Minute)
			if i%3 == 0 {
				g.ExpiresAt, g.IdempotencyKey = at(time.Hour), "refill-"+strconv.Itoa(i)
			}
			all = append(all, s.grant(g))
		}
		all[4] = s.revoke(all[4].Seq, 2*time.Hour)
		slices.Reverse(all)
		for of, is := range map[store.Scope]func(g store.Grant) bool{
			{}:                     func(store.Grant) bool { return true },
			adas:                   func(g store.Grant) bool { return g.Of.User == ada },
			adaResize.Scope():      func(g store.Grant) bool { return g.Of == adaResize.Scope() },
			bobs:                   func(g store.Grant) bool { return g.Of.User == bob },
			{User: MustID('a', 9)}: func(store.Grant) bool { return false },
		} {
			var wanted []store.Grant
			for _, g := range all {
				if is(g) {
					wanted = append(wanted, g)
				}
			}
			for _, limit := range []int{1, 2, 100} {
				var got []store.Grant
				for q := (store.GrantQuery{Of: of, Limit: limit}); ; q.Before = got[len(got)-1].Seq {
					page := s.grants(q)
					if len(page) > limit {
						s.Fatalf("Grants: %d in a page of %d", len(page), limit)
					}
					if got = append(got, page...); len(page) < limit {
						break
					}
				}
				want(s, "grants of "+of.String()+" in pages of "+strconv.Itoa(limit), got, wanted)
			}
		}
	}},
	{"a limit is raised by the grants that the rule says, whenever it is asked", func(s *script) {
		s.windows()
		r := rand.New(rand.NewPCG(16, 1))
		keys := []store.Key{adaResize, adaSketch, adaCrop, bobResize, {User: ada}, {User: bob}}
		some := func() time.Duration { return time.Duration(r.IntN(5)) * time.Hour }
		for range 30 {
			g := grantTo(keys[r.IntN(len(keys))], 1<<r.IntN(20), some())
			if r.IntN(2) == 0 {
				g.ExpiresAt = g.Now.Add(time.Duration(1+r.IntN(4)) * time.Hour)
			}
			if made := s.grant(g); r.IntN(4) == 0 {
				s.revoke(made.Seq, some())
			}
		}
		given := s.grants(store.GrantQuery{Limit: 100})
		for range 100 {
			key, now := keys[r.IntN(4)], some()
			limits := []store.Limit{ofUser(1), ofKey(1)}
			for i := range limits {
				if r.IntN(2) == 0 {
					limits[i] = from(limits[i], min(some(), now))
				}
			}
			for i, u := range s.allowance(key, now, limits...) {
				var granted int64
				for _, g := range given {
					if g.Raises(limits[i], key, at(now)) {
						granted += g.Runs
					}
				}
				want(s, "granted to "+key.String()+", "+describe(limits[i]), u.Granted, granted)
			}
		}
	}},
}
