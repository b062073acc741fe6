package storetest

import (
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// statisticsCases are what a business asks of all runs together.
var statisticsCases = []contractCase{
	{"the runs of a day are told by outcome, presumed ones apart, from midnight to midnight in UTC", func(s *script) {
		midnight := epoch.Truncate(24 * time.Hour)
		end := func(id int, key store.Key, status store.Status, ended time.Time) {
			s.Deliver(s, ended, inserted(row(MustID('2', id), key, status, ended.Sub(epoch), ended.Sub(epoch))))
		}
		const day = 24 * time.Hour
		const first = 6 * time.Microsecond // of a day: Rounded moves it to midnight
		end(1, adaResize, store.Completed, midnight.Add(2*day-time.Second))
		end(2, adaSketch, store.Failed, midnight.Add(2*day-time.Second))
		end(3, bobResize, store.Completed, midnight.Add(2*day+first))
		end(4, bobResize, store.Timeout, midnight.Add(3*day-time.Second))
		end(5, bobResize, store.Cancelled, midnight.Add(5*day+first))
		s.mustBegin(adaResize)
		s.failStuck(time.Hour)
		days := func(from, to time.Time) []store.Day {
			s.Helper()
			got, err := s.Store.Days(s.ctx, from, to)
			if err != nil {
				s.Fatalf("Days: %v", err)
			}
			return got
		}
		want(s, "all days", days(midnight, midnight.Add(30*day)), []store.Day{
			{At: midnight, Tallies: store.Tallies{Ended: store.Tally{Failed: 1}, Presumed: store.Tally{Failed: 1}}},
			{At: midnight.Add(day), Tallies: store.Tallies{Ended: store.Tally{Completed: 1, Failed: 1}}},
			{At: midnight.Add(2 * day), Tallies: store.Tallies{Ended: store.Tally{Completed: 1, Timeout: 1}}},
			{At: midnight.Add(5 * day), Tallies: store.Tallies{Ended: store.Tally{Cancelled: 1}}},
		})
		want(s, "one day", days(midnight.Add(2*day), midnight.Add(3*day)), []store.Day{
			{At: midnight.Add(2 * day), Tallies: store.Tallies{Ended: store.Tally{Completed: 1, Timeout: 1}}},
		})
	}},
	{"the greatest counts are those of users, and of workflows over all users, under the policy", func(s *script) {
		for i, one := range []struct {
			key    store.Key
			status store.Status
		}{
			{adaResize, store.Completed}, {adaSketch, store.Failed}, {adaSketch, store.Completed}, {bobResize, store.Completed},
			{bobResize, store.Cancelled}, {bobResize, store.Timeout}, {bobResize, store.Cancelled},
		} {
			s.Deliver(s, at(time.Minute), inserted(row(MustID('2', i+1), one.key, one.status, time.Minute, time.Minute)))
		}
		greatest := func(of store.Top, limit int) (all []store.Count) {
			s.Helper()
			all, err := s.Store.Greatest(s.ctx, of, limit)
			if err != nil {
				s.Fatalf("Greatest: %v", err)
			}
			return all
		}
		adas := store.Count{Key: store.Key{User: ada}, Count: 3, Tallies: store.Tallies{Ended: store.Tally{Completed: 2, Failed: 1}}}
		bobs := store.Count{Key: store.Key{User: bob}, Count: 1, Tallies: store.Tallies{Ended: store.Tally{Completed: 1, Cancelled: 2, Timeout: 1}}}
		resizes := store.Count{Key: store.Key{Kind: store.KindWorkflow, Ref: resize}, Count: 2, Tallies: store.Tallies{Ended: store.Tally{Completed: 2, Cancelled: 2, Timeout: 1}}}
		sketches := store.Count{Key: store.Key{Kind: store.KindDraft, Ref: sketch}, Count: 2, Tallies: store.Tallies{Ended: store.Tally{Completed: 1, Failed: 1}}}
		for _, folded := range []bool{false, true} {
			want(s, "users", greatest(store.TopUsers, 10), []store.Count{adas, bobs})
			want(s, "the first user", greatest(store.TopUsers, 1), []store.Count{adas})
			want(s, "workflows, in the order of their keys", greatest(store.TopWorkflows, 10), []store.Count{sketches, resizes})
			if !folded {
				s.fold()
			}
		}
		s.setPolicy(store.Policy{Terminal: true})
		bobs.Count, resizes.Count = 4, 5
		want(s, "users under another policy", greatest(store.TopUsers, 10), []store.Count{bobs, adas})
		want(s, "workflows under another policy", greatest(store.TopWorkflows, 1), []store.Count{resizes})
	}},
}
