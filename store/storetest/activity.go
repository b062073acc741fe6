package storetest

import (
	"errors"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// activityCases are what a console's charts are drawn from.
var activityCases = []contractCase{
	{"activity of two instances adds up by the minute, and the greatest lag stands", func(s *script) {
		minute := at(0).Truncate(time.Minute)
		one := store.Activity{At: minute.Add(20 * time.Second), Since: minute.Add(-5 * time.Minute), Deliveries: 3, Refused: 1, Failed: 1, Changes: 7, Duplicates: 2, OutOfOrder: 1, Lost: 4, Lag: 1500 * time.Millisecond}
		other := store.Activity{At: minute.Add(59 * time.Second), Since: minute.Add(-time.Minute), Deliveries: 10, Changes: 1, Lost: 4, Lag: time.Second}
		s.recordActivity(one)
		s.recordActivity(other, store.Activity{At: minute.Add(time.Minute), Deliveries: 1})
		want(s, "minutes", s.activity(minute, minute.Add(time.Hour), time.Minute), []store.Activity{
			{At: minute, Since: one.Since, Deliveries: 13, Refused: 1, Failed: 1, Changes: 8, Duplicates: 2, OutOfOrder: 1, Lost: 4, Lag: one.Lag},
			{At: minute.Add(time.Minute), Since: minute.Add(time.Minute), Deliveries: 1},
		})
		want(s, "the minute behind it alone", s.activity(minute.Add(time.Minute), minute.Add(2*time.Minute), time.Minute), []store.Activity{
			{At: minute.Add(time.Minute), Since: minute.Add(time.Minute), Deliveries: 1},
		})
	}},
	{"activity is read in steps from multiples of their length", func(s *script) {
		hour := at(0).Truncate(time.Hour)
		for _, after := range []time.Duration{0, 14 * time.Minute, 15 * time.Minute, 59 * time.Minute} {
			s.recordActivity(store.Activity{At: hour.Add(after), Deliveries: 1, Lost: 1, Lag: after})
		}
		want(s, "quarters", s.activity(hour, hour.Add(time.Hour), 15*time.Minute), []store.Activity{
			{At: hour, Since: hour, Deliveries: 2, Lost: 2, Lag: 14 * time.Minute},
			{At: hour.Add(15 * time.Minute), Since: hour.Add(15 * time.Minute), Deliveries: 1, Lost: 1, Lag: 15 * time.Minute},
			{At: hour.Add(45 * time.Minute), Since: hour.Add(59 * time.Minute), Deliveries: 1, Lost: 1, Lag: 59 * time.Minute},
		})
		if _, err := s.Store.Activity(s.ctx, hour, hour.Add(time.Hour), 90*time.Second); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("a step of 90 s: got %v, want ErrInvalid", err)
		}
	}},
	{"law 5: minutes in which nothing happened are not written", func(s *script) {
		s.quietly("RecordActivity of a quiet minute", func() {
			s.recordActivity(store.Activity{At: at(0), Since: at(-time.Hour)})
			s.recordActivity()
		})
	}},
	{"activity is dropped after eight days", func(s *script) {
		now := at(30 * 24 * time.Hour).Truncate(time.Minute)
		s.recordActivity(store.Activity{At: now.Add(-store.KeepActivity - time.Minute), Deliveries: 1}, store.Activity{At: now.Add(-store.KeepActivity), Deliveries: 2})
		if _, err := s.Store.Fold(s.ctx, now, 1000); err != nil {
			s.Fatal(err)
		}
		if got := s.activity(time.Unix(0, 0), now, time.Minute); len(got) != 1 || got[0].Deliveries != 2 {
			s.Errorf("got %+v, want the minute of eight days ago alone", got)
		}
	}},
}

func (s *script) recordActivity(minutes ...store.Activity) {
	s.Helper()
	if err := s.Store.RecordActivity(s.ctx, minutes...); err != nil {
		s.Fatalf("RecordActivity: %v", err)
	}
}

func (s *script) activity(from, to time.Time, step time.Duration) []store.Activity {
	s.Helper()
	got, err := s.Store.Activity(s.ctx, from, to, step)
	if err != nil {
		s.Fatalf("Activity: %v", err)
	}
	return got
}
