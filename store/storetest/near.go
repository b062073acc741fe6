package storetest

import (
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

func (s *script) near(now time.Duration, limit int) []store.NearLimit {
	s.Helper()
	got, err := s.Store.NearLimits(s.ctx, at(now), limit)
	if err != nil {
		s.Fatalf("NearLimits: %v", err)
	}
	return got
}

// nearLimit is a limit as the list shows it, of active runs alone.
func nearLimit(of store.Key, l store.Limit, active int64, since time.Duration) store.NearLimit {
	return store.NearLimit{Of: l.Of(of), Usage: store.Usage{Limit: l, Active: active}, Since: at(since)}
}

// nearCases are limits that are nearly used up.
var nearCases = []contractCase{
	{"a limit is near from 80 percent on, and what is left of it is exact when it is listed", func(s *script) {
		limit, user := ofKey(10), ofUser(12)
		var ids []store.ID
		for i := range 7 {
			ids = append(ids, s.wantBegun(adaResize, time.Duration(i)*time.Second, limit, user))
		}
		want(s, "at 70 percent", s.near(time.Minute, 10), nil)
		ids = append(ids, s.wantBegun(adaResize, 10*time.Second, limit, user))
		want(s, "at 80 percent of the key's", s.near(time.Minute, 10), []store.NearLimit{nearLimit(adaResize, limit, 8, 10*time.Second)})
		for i := range 2 {
			ids = append(ids, s.wantBegun(adaResize, time.Duration(20+i)*time.Second, limit, user))
		}
		both := []store.NearLimit{nearLimit(adaResize, user, 10, 21*time.Second), nearLimit(adaResize, limit, 10, 10*time.Second)}
		want(s, "of both", s.near(time.Minute, 10), both)
		want(s, "the latest", s.near(time.Minute, 1), both[:1])
		s.wantRefused(store.KeyLimit, adaResize, time.Minute, limit, user)
		for i := range both {
			both[i].Usage.Counted, both[i].Usage.Active = 1, 9
		}
		s.complete(ids[0], store.Completed, time.Minute)
		want(s, "with one that has ended", s.near(time.Minute, 10), both)
		for _, id := range ids[1:4] {
			s.complete(id, store.Cancelled, time.Minute) // which does not count
		}
		want(s, "where runs gave their slots back", s.near(time.Minute, 10), nil)
	}},
	{"a limit that is not named any more gives way to the one that is", func(s *script) {
		s.wantBegun(adaResize, 0, ofKey(1))
		s.wantBegun(bobResize, time.Second, ofKey(1))
		want(s, "of two", len(s.near(time.Minute, 10)), 2)
		s.wantBegun(adaResize, time.Minute, ofKey(2)) // as much of a greater one
		want(s, "the same share of another", s.near(time.Minute, 10), []store.NearLimit{nearLimit(adaResize, ofKey(2), 2, time.Minute), nearLimit(bobResize, ofKey(1), 1, time.Second)})
		s.wantBegun(adaResize, 2*time.Minute, ofKey(100))
		s.wantBegun(adaResize, 3*time.Minute) // it names none
		want(s, "after an upgrade", s.near(time.Minute, 10), []store.NearLimit{nearLimit(bobResize, ofKey(1), 1, time.Second)})
	}},
	{"a grant takes a limit out of those that are near, and its end brings it back", func(s *script) {
		s.wantBegun(adaResize, 0, ofKey(1))
		g := s.grant(grantTo(adaResize, 1, 0))
		want(s, "granted", s.near(time.Minute, 10), nil)
		s.revoke(g.Seq, time.Minute)
		want(s, "revoked", s.near(time.Minute, 10), []store.NearLimit{nearLimit(adaResize, ofKey(1), 1, 0)})
	}},
	{"a limit with grants is near by 80 percent of both", func(s *script) {
		g := s.grant(grantTo(adaResize, 9, 0))
		for i := range 7 {
			s.wantBegun(adaResize, time.Duration(i)*time.Second, ofKey(1))
		}
		s.revoke(g.Seq, time.Minute)
		want(s, "marks of begins far below", s.near(time.Minute, 10), nil)
	}},
	{"a limit in a window is near by what is in the window", func(s *script) {
		s.windows()
		s.deliverEnded(1, adaResize, time.Hour, 2*time.Hour, month, month+time.Hour)
		this := from(ofKey(4), month)
		s.wantBegun(adaResize, month+2*time.Hour, this, from(ofUser(5), 0))
		want(s, "of the user alone", s.near(month+3*time.Hour, 10), []store.NearLimit{
			{Of: store.Scope{User: ada}, Usage: store.Usage{Limit: from(ofUser(5), 0), Counted: 4, Active: 1}, Since: at(month + 2*time.Hour)},
		})
		s.wantBegun(adaResize, month+3*time.Hour, this)
		want(s, "of both", len(s.near(month+3*time.Hour, 10)), 2)
	}},
	{"a begin that creates nothing marks nothing", func(s *script) {
		b := store.Begin{ID: MustID('1', 1), User: ada, Workflow: resize, Limits: []store.Limit{ofKey(1)}, Now: at(0)}
		s.begin(b)
		b.Limits, b.Now = []store.Limit{ofKey(1), ofUser(1)}, at(time.Minute)
		s.begin(b) // which finds the run
		s.wantRefused(store.KeyLimit, adaResize, time.Hour, ofKey(1), ofUser(1))
		mark := []store.NearLimit{nearLimit(adaResize, ofKey(1), 1, 0)}
		want(s, "the mark of the first", s.near(time.Hour, 10), mark)
	}},
	{"the mark of a limit in a window is dropped as logs are, and one of all time is kept", func(s *script) {
		s.windows()
		window := from(ofUser(1), 0)
		s.wantBegun(adaResize, 0, ofKey(1), window)
		allTime, inWindow := nearLimit(adaResize, ofKey(1), 1, 0), store.NearLimit{Of: store.Scope{User: ada}, Usage: store.Usage{Limit: window, Active: 1}, Since: at(0)}
		s.foldAt(store.KeepLogs)
		want(s, "marks that are kept", s.near(store.KeepLogs, 10), []store.NearLimit{inWindow, allTime})
		s.foldAt(store.KeepLogs + time.Second)
		s.wantRefused(store.KeyLimit, adaResize, store.KeepLogs, ofKey(1), window)
		want(s, "a limit that is used up, of which no begin writes a mark again", s.near(store.KeepLogs, 10), []store.NearLimit{allTime})
	}},
}

func (s *script) foldAt(d time.Duration) {
	s.Helper()
	if _, err := s.Store.Fold(s.ctx, at(d), 1000); err != nil {
		s.Fatalf("Fold: %v", err)
	}
}
