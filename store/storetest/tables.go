package storetest

import (
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// wantNoKey compares how many runs are reported as having no key.
func (s *script) wantNoKey(want int64) {
	s.Helper()
	h, err := s.Store.Health(s.ctx)
	if err != nil || h.NoKey != want {
		s.Errorf("runs without a key: got %d, %v; want %d", h.NoKey, err, want)
	}
}

// tableCases are rows as they are found: cases/tables.md has them by number.
var tableCases = []contractCase{
	{"case T1: a run without a user is nobody's, and no error", func(s *script) {
		guest := row(MustID('2', 1), adaResize, store.Completed, time.Second, time.Second)
		guest.User = store.ID{}
		for _, a := range s.Deliver(s, epoch, inserted(guest)) {
			want(s, "keys of a guest's run", len(a.Counts), 0)
		}
		got := s.wantRun(guest.ID, store.Completed, at(time.Second))
		want(s, "its key", got.Key(), store.Key{})
		want(s, "counted", got.Counted, false)
		s.wantNoKey(1)

		taken := guest // the guest signs up
		taken.User, taken.UpdatedAt = ada, at(2*time.Second)
		s.Deliver(s, epoch, updated(guest, taken))
		s.wantCount(adaResize, 1)
		s.wantNoKey(0)

		left := taken // and leaves again
		left.User, left.UpdatedAt = store.ID{}, at(3*time.Second)
		s.Deliver(s, epoch, updated(taken, left))
		s.wantCount(adaResize, 0)
		s.wantNoKey(1)
		s.fold()
		s.Exact(s)
		if drifts, _ := s.audit(10); len(drifts) != 0 {
			s.Errorf("drifts: %+v", drifts)
		}
		s.Deliver(s, epoch, deleted(left))
		s.wantNoKey(0)
	}},
	{"case T1: a run without a user is ended, presumed, superseded and amended like any other", func(s *script) {
		guest := row(MustID('2', 1), adaResize, store.Running, time.Second, 0)
		guest.User = store.ID{}
		s.Deliver(s, epoch, inserted(guest))
		if got := s.failStuck(time.Hour); len(got) != 1 {
			s.Fatalf("FailStuck: got %+v, want the guest's run", got)
		}
		if got := s.run(guest.ID); got.Status != store.Failed || !got.Presumed {
			s.Fatalf("the run is %s (presumed %v), want presumed failed", got.Status, got.Presumed)
		}
		s.wantNoKey(1)
		if got := s.complete(guest.ID, store.Completed, 2*time.Hour); !got.Won || !got.Count.Key.IsZero() {
			s.Errorf("Complete: got %+v, want it won, and no count", got)
		}
		s.amend(guest.ID, store.Cancelled, 3*time.Hour)
		if got := s.amend(guest.ID, store.Running, 4*time.Hour); got.Status != store.Running {
			s.Errorf("re-open: got %s", got.Status)
		}
		s.wantNoKey(1)
	}},
	{"case T1: a presumed run that loses its user takes its mark along, and brings it back", func(s *script) {
		r := row(MustID('2', 1), adaResize, store.Running, time.Second, 0)
		s.Deliver(s, epoch, inserted(r))
		s.failStuck(time.Hour)
		want(s, "tallies", s.count(adaResize).Tallies.Presumed.Failed, int64(1))
		presumed := s.run(r.ID).Row
		presumed.Snapshot = ""
		left := presumed
		left.User, left.UpdatedAt = store.ID{}, at(2*time.Hour)
		s.Deliver(s, epoch, store.Change{Op: store.Update, Record: left, Old: presumed, HasOld: true, Mark: store.MarkPresumed})
		s.Exact(s)
		want(s, "tallies without the run", s.count(adaResize).Tallies, store.Tallies{})
		back := left
		back.User, back.UpdatedAt = bob, at(3*time.Hour)
		s.Deliver(s, epoch, store.Change{Op: store.Update, Record: back, Old: left, HasOld: true, Mark: store.MarkPresumed})
		s.Exact(s)
		want(s, "bob's tallies", s.count(bobResize).Tallies, store.Tallies{Ended: store.Tally{Failed: 1}, Presumed: store.Tally{Failed: 1}})
	}},
	{"case T20: a completion leaves what it does not say itself", func(s *script) {
		// Overwritten: it had ended, with details and a duration of its own.
		r := row(MustID('2', 1), adaResize, store.Running, time.Second, time.Second)
		r.DurationMS, r.ErrorDetails = store.MillisOf(777), `{"warnings": ["slow"]}`
		s.Deliver(s, epoch, inserted(r))
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
