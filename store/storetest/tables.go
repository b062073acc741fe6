package storetest

import (
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// tableCases are rows as they are found: cases/tables.md has them by number.
var tableCases = []contractCase{
	{"case T20: a completion leaves what it does not say itself", func(s *script) {
		// Overwritten: it had ended, with details and a duration of its own.
		r := row(MustID('2', 1), adaResize, store.Running, time.Second, time.Second)
		r.DurationMS, r.ErrorDetails = store.MillisOf(777), `{"warnings": ["slow"]}`
		s.Tell(s, epoch, inserted(r))
		s.failStuck(2 * time.Second)
		if got := s.run(r.ID); got.Status != store.Failed || !got.Presumed {
			s.Fatalf("the run is %s (presumed %v), want presumed failed", got.Status, got.Presumed)
		}
		if got := s.complete(r.ID, store.Completed, 3*time.Second); !got.Won {
			s.Fatalf("Complete lost")
		}
		want(s, "outcome", s.run(r.ID).Outcome(), store.Outcome{
			Status: store.Completed, CompletedAt: at(3 * time.Second), DurationMS: r.DurationMS, ErrorDetails: r.ErrorDetails,
		})
	}},
	{"case T20: what a sweep wrote goes with the outcome that it presumed", func(s *script) {
		id := s.mustBegin(adaResize)
		if _, err := s.Store.Start(s.ctx, id, at(time.Second)); err != nil {
			s.Fatal(err)
		}
		s.failStuck(time.Hour)
		if got := s.run(id); got.ErrorDetails == "" || !got.DurationMS.Valid {
			s.Fatalf("a presumed run says %q and %v, want why and how long", got.ErrorDetails, got.DurationMS)
		}
		s.complete(id, store.Completed, 2*time.Hour)
		want(s, "outcome", s.run(id).Outcome(), store.Outcome{
			Status: store.Completed, CompletedAt: at(2 * time.Hour), DurationMS: store.MillisOf(7_199_000),
		})
	}},
	{"case T20: a completion without a snapshot leaves the one that is there", func(s *script) {
		id := s.mustBegin(adaResize)
		o := store.Outcome{Status: store.Failed, Snapshot: `{"nodes": [1]}`}
		if _, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: o, Now: at(time.Second)}); err != nil {
			s.Fatal(err)
		}
		s.complete(id, store.Completed, 2*time.Second)
		want(s, "snapshot", s.run(id).Snapshot, o.Snapshot)
	}},
}
