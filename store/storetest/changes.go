package storetest

import (
	"errors"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// changeCases are changes as webhooks bring them. What a mirror and a source
// make of a history is chaos.go's; here stands what both must do alike.
var changeCases = []contractCase{
	{"a run that is heard of counts where it ended", func(s *script) {
		id := MustID('2', 1)
		pending := row(id, adaResize, store.Pending, 0, 0)
		done := row(id, adaResize, store.Completed, time.Second, time.Second)
		got := s.Deliver(s, at(time.Minute), inserted(pending), updated(pending, done))
		if len(got) != 2 || got[1].Counts[0].Count != 1 {
			s.Fatalf("Apply: got %+v, want count 1", got)
		}
		s.wantRun(id, store.Completed, at(time.Second))
		s.wantCount(adaResize, 1)
	}},
	{"laws 4 and 5: what was applied before changes nothing and writes nothing", func(s *script) {
		id := MustID('2', 1)
		pending := row(id, adaResize, store.Pending, 0, 0)
		done := row(id, adaResize, store.Completed, time.Second, time.Second)
		changes := []store.Change{inserted(pending), updated(pending, done)}
		s.Deliver(s, at(time.Minute), changes...)
		s.quietly("a replay", func() {
			got, err := s.Store.Apply(s.ctx, append(changes, changes[0]), at(2*time.Minute))
			if err != nil {
				s.Fatal(err)
			}
			for i, a := range got {
				if a.Changed {
					s.Errorf("change %d of a replay: got changed", i)
				}
			}
		})
	}},
	{"law 5: a repair's own webhook, delivered back, ends after one round", func(s *script) {
		s.mustBegin(adaResize)
		repaired := s.failStuck(time.Hour)
		if len(repaired) != 1 {
			s.Fatalf("FailStuck: got %+v, want the one run", repaired)
		}
		back := []store.Change{updated(repaired[0].Before, repaired[0].After)}
		if _, err := s.Store.Apply(s.ctx, back, at(time.Hour)); err != nil {
			s.Fatal(err)
		}
		s.quietly("the second round", func() {
			if got, err := s.Store.Apply(s.ctx, back, at(2*time.Hour)); err != nil || got[0].Changed {
				s.Errorf("Apply: got %+v, %v; want nothing changed", got, err)
			}
			if got := s.failStuck(2 * time.Hour); len(got) != 0 {
				s.Errorf("FailStuck: got %+v, want nothing left to repair", got)
			}
		})
		s.wantRun(repaired[0].Before.ID, store.Failed, repaired[0].After.CompletedAt)
		s.wantCount(adaResize, 1)
	}},
	{"law 2: a late running does not take an outcome back", func(s *script) {
		id := MustID('2', 1)
		running := row(id, adaResize, store.Running, time.Second, 0)
		done := row(id, adaResize, store.Completed, 2*time.Second, 2*time.Second)
		late := row(id, adaResize, store.Running, 3*time.Second, 0)
		s.Deliver(s, at(time.Minute), inserted(running))
		s.Deliver(s, at(time.Minute), updated(running, done))
		s.Deliver(s, at(time.Minute), updated(done, late))
		s.wantRun(id, store.Completed, at(2*time.Second))
		s.wantCount(adaResize, 1)
	}},
	{"law 2: an outcome that a caller was told stands against a webhook that says it ended earlier", func(s *script) {
		id := s.mustBegin(adaResize)
		told := s.complete(id, store.Completed, 10*time.Second)
		earlier := told.Run.Row
		earlier.Status, earlier.CompletedAt, earlier.UpdatedAt = store.Failed, at(5*time.Second), at(20*time.Second)
		running := earlier
		running.Status, running.CompletedAt = store.Running, time.Time{}
		s.Deliver(s, at(time.Minute), updated(running, earlier))
		s.wantRun(id, store.Completed, at(10*time.Second))
	}},
	{"a run that changes hands counts for its new user alone", func(s *script) {
		id := MustID('2', 1)
		done := row(id, adaResize, store.Completed, time.Second, time.Second)
		moved := row(id, bobResize, store.Completed, 2*time.Second, time.Second)
		s.Deliver(s, at(time.Minute), inserted(done))
		got := s.Deliver(s, at(time.Minute), updated(done, moved))
		want(s, "keys of the answer", keysOf(got[0]), []store.Key{adaResize, bobResize})
		s.wantCount(adaResize, 0)
		s.wantCount(bobResize, 1)
	}},
	{"a deleted run no longer counts, and nothing brings it back", func(s *script) {
		id := MustID('2', 1)
		done := row(id, adaResize, store.Completed, time.Second, time.Second)
		s.Deliver(s, at(time.Minute), inserted(done))
		s.Deliver(s, at(time.Minute), deleted(done))
		s.wantCount(adaResize, 0)
		if _, err := s.Store.Apply(s.ctx, []store.Change{inserted(done)}, at(2*time.Minute)); err != nil {
			s.Fatal(err)
		}
		s.wantCount(adaResize, 0)
		if _, err := s.Store.Run(s.ctx, id); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("Run: got %v, want ErrNotFound", err)
		}
	}},
	{"a run with an unknown status, or without a key, is kept and not counted", func(s *script) {
		odd := row(MustID('2', 1), adaResize, "archived", time.Second, time.Second)
		s.Deliver(s, at(time.Minute), inserted(odd))
		if r := s.run(odd.ID); r.Status != "archived" || r.Counted {
			s.Errorf("run: got %+v, want archived and not counted", r)
		}
		s.wantCount(adaResize, 0)
		if got := s.failStuck(time.Hour); len(got) != 0 {
			s.Errorf("FailStuck: got %+v, want an unknown status left alone", got)
		}
		limit := int64(1)
		if b := s.begin(store.Begin{ID: MustID('1', 1), User: ada, Workflow: resize, Limits: store.UpTo(limit), Now: at(0)}); !b.LimitReached {
			s.Errorf("Begin: got a slot, want the unknown status to hold it")
		}
	}},
	{"many changes of many runs in one batch are answered each with its keys", func(s *script) {
		var changes []store.Change
		for i := range 300 {
			key := []store.Key{adaResize, bobResize, adaSketch}[i%3]
			changes = append(changes, inserted(row(MustID('2', i+1), key, store.Completed, time.Second, time.Second)))
		}
		for i, a := range s.Deliver(s, at(time.Minute), changes...) {
			if len(a.Counts) != 1 || a.Counts[0].Key != changes[i].Record.Key() || a.Counts[0].Count != 100 {
				s.Fatalf("change %d: got %+v, want its key's count 100", i, a)
			}
		}
	}},
	{"the same changes from many senders at once count once", func(s *script) {
		done := row(MustID('2', 1), adaResize, store.Completed, time.Second, time.Second)
		s.Deliver(s, at(time.Minute), inserted(done))
		errs := make(chan error, 8)
		for range 8 {
			go func() {
				_, err := s.Store.Apply(s.ctx, []store.Change{inserted(done)}, at(time.Minute))
				errs <- err
			}()
		}
		for range 8 {
			if err := <-errs; err != nil {
				s.Errorf("Apply: %v", err)
			}
		}
		s.wantCount(adaResize, 1)
	}},
}
