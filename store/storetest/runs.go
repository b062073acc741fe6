package storetest

import (
	"errors"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// runCases are the life of a run through our own calls.
var runCases = []contractCase{
	{"a run begins pending, starts, ends, and counts once it has ended", func(s *script) {
		id := s.mustBegin(adaResize)
		s.wantRun(id, store.Pending, time.Time{})
		s.wantCount(adaResize, 0)
		r, err := s.Store.Start(s.ctx, id, at(time.Second))
		if err != nil || r.Status != store.Running || !r.StartedAt.Equal(at(time.Second)) {
			s.Fatalf("Start: got %s from %v, %v; want running", r.Status, r.StartedAt, err)
		}
		won := s.complete(id, store.Completed, 3*time.Second)
		if !won.Won || won.Count.Count != 1 || !won.Run.Counted {
			s.Fatalf("Complete: got %+v, want it won and counted 1", won)
		}
		got := s.wantRun(id, store.Completed, at(3*time.Second))
		want(s, "duration_ms", got.DurationMS, store.MillisOf(2000))
		c := s.count(adaResize)
		want(s, "tally", c.Tallies, store.Tallies{Ended: store.Tally{Completed: 1}})
		want(s, "last_run_at", c.LastRunAt, at(3*time.Second))
	}},
	{"law 2: the first outcome wins, and losing tells which stands", func(s *script) {
		id := s.mustBegin(adaResize)
		s.complete(id, store.Failed, time.Second)
		s.quietly("a completion that lost", func() {
			lost := s.complete(id, store.Completed, 2*time.Second)
			if lost.Won || lost.Run.Status != store.Failed || !lost.Run.CompletedAt.Equal(at(time.Second)) || lost.Count.Count != 1 {
				s.Errorf("second Complete: got %+v, want lost to failed at +1s, count 1", lost)
			}
		})
		s.quietly("a late start", func() {
			if r, err := s.Store.Start(s.ctx, id, at(3*time.Second)); err != nil || r.Status != store.Failed {
				s.Errorf("late Start: got %s, %v; want failed", r.Status, err)
			}
		})
	}},
	{"law 2: of many completions at once exactly one wins", func(s *script) {
		id := s.mustBegin(adaResize)
		var wg sync.WaitGroup
		won := make(chan store.Status, 8)
		for i := range 8 {
			wg.Go(func() {
				status := store.Terminals[i%len(store.Terminals)]
				r, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: status}, Now: at(time.Second)})
				if err != nil {
					s.Errorf("Complete: %v", err)
				}
				if r.Won {
					won <- status
				}
			})
		}
		wg.Wait()
		close(won)
		first := <-won
		if more, ok := <-won; ok {
			s.Errorf("two completions won: %s and %s", first, more)
		}
		s.wantRun(id, first, at(time.Second))
	}},
	{"an outcome keeps what came with it", func(s *script) {
		id := s.mustBegin(adaResize)
		o := store.Outcome{Status: store.Failed, DurationMS: store.MillisOf(77),
			ErrorDetails: `{"n": 123456789012345678901234567890, "code": "NODE_ERROR"}`, Snapshot: `{"nodes": [1, 2.50]}`}
		if _, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: o, Now: at(time.Second)}); err != nil {
			s.Fatalf("Complete: %v", err)
		}
		o.CompletedAt = at(time.Second)
		want(s, "outcome", s.run(id).Outcome(), o)
	}},
	{"only a terminal status completes a run", func(s *script) {
		id := s.mustBegin(adaResize)
		for _, status := range []store.Status{store.Running, "archived", ""} {
			_, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: status}, Now: at(0)})
			if !errors.Is(err, store.ErrInvalid) {
				s.Errorf("Complete as %q: got %v, want ErrInvalid", status, err)
			}
		}
	}},
	{"a run that isn't there is not found", func(s *script) {
		id := MustID('9', 9)
		_, errRun := s.Store.Run(s.ctx, id)
		_, errStart := s.Store.Start(s.ctx, id, at(0))
		_, errComplete := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: store.Failed}, Now: at(0)})
		_, errAmend := s.Store.Amend(s.ctx, store.AmendRequest{ID: id, Status: store.Failed, Who: "a", Why: "b", Now: at(0)})
		for _, err := range []error{errRun, errStart, errComplete, errAmend} {
			if !errors.Is(err, store.ErrNotFound) {
				s.Errorf("got %v, want ErrNotFound", err)
			}
		}
	}},
	{"begin again with the same id or idempotency key finds the run and writes nothing", func(s *script) {
		b := store.Begin{ID: MustID('1', 1), User: ada, Workflow: resize, IdempotencyKey: "order-7", Now: at(0)}
		first := s.begin(b)
		s.quietly("a repeated begin", func() {
			again := s.begin(b)
			b.ID = MustID('1', 2)
			other := s.begin(b)
			for _, got := range []store.BeginResult{again, other} {
				if got.Created || got.Run.ID != first.Run.ID {
					s.Errorf("got created=%v %s, want the first run", got.Created, got.Run.ID)
				}
			}
		})
		b.IdempotencyKey, b.User = "order-7", bob
		if got := s.begin(b); !got.Created {
			s.Errorf("the same idempotency key of another user: got the first user's run")
		}
	}},
	{"case D23: an idempotency key is kept when its run is found by the id", func(s *script) {
		b := store.Begin{ID: MustID('1', 1), User: ada, Workflow: resize, Now: at(0)}
		first := s.begin(b)
		b.IdempotencyKey = "order-7"
		if got := s.begin(b); got.Created || got.Run.ID != first.Run.ID {
			s.Errorf("by the id: got created=%v %s, want the first run", got.Created, got.Run.ID)
		}
		b.ID = MustID('1', 2)
		s.quietly("a begin that knows its idempotency key", func() {
			if got := s.begin(b); got.Created || got.Run.ID != first.Run.ID {
				s.Errorf("by the key: got created=%v %s, want the first run", got.Created, got.Run.ID)
			}
		})
	}},
	{"an id or idempotency key of another key's run is a conflict", func(s *script) {
		s.begin(store.Begin{ID: MustID('1', 1), User: ada, Workflow: resize, IdempotencyKey: "order-7", Now: at(0)})
		for _, b := range []store.Begin{
			{ID: MustID('1', 1), User: bob, Workflow: resize},
			{ID: MustID('1', 2), User: ada, Draft: sketch, IdempotencyKey: "order-7"},
		} {
			b.Now = at(0)
			if _, err := s.Store.Begin(s.ctx, b); !errors.Is(err, store.ErrConflict) {
				s.Errorf("Begin %+v: got %v, want ErrConflict", b, err)
			}
		}
	}},
	{"a begin without a key or an id is invalid", func(s *script) {
		for _, b := range []store.Begin{{ID: MustID('1', 1), User: ada}, {ID: MustID('1', 1), Workflow: resize}, {User: ada, Workflow: resize}} {
			b.Now = at(0)
			if _, err := s.Store.Begin(s.ctx, b); !errors.Is(err, store.ErrInvalid) {
				s.Errorf("Begin %+v: got %v, want ErrInvalid", b, err)
			}
		}
	}},
	{"a limit holds for counted and active runs together, and a failed start frees nothing", func(s *script) {
		limit := int64(2)
		try := func(n int) store.BeginResult {
			return s.begin(store.Begin{ID: MustID('1', n), User: ada, Workflow: resize, Limits: store.UpTo(limit), Now: at(0)})
		}
		try(1)
		s.complete(MustID('1', 1), store.Completed, time.Second)
		if got := try(2); !got.Created || got.Usages[0].Counted != 1 || got.Usages[0].Active != 1 {
			s.Errorf("second of two: got %+v", got)
		}
		s.quietly("a begin beyond the limit", func() {
			if got := try(3); !got.LimitReached || got.Created || got.Usages[0].Counted != 1 || got.Usages[0].Active != 1 {
				s.Errorf("third of two: got %+v, want LimitReached at counted 1, active 1", got)
			}
		})
		if got := try(2); got.LimitReached || got.Created {
			s.Errorf("repeated second: got %+v, want the run that has its slot", got)
		}
		s.complete(MustID('1', 2), store.Cancelled, time.Second)
		if got := try(4); !got.Created {
			s.Errorf("after a cancelled run, which does not count: got %+v, want a slot", got)
		}
	}},
	{"a hundred begins at once at limit ten give exactly ten", func(s *script) {
		limit := int64(10)
		var wg sync.WaitGroup
		created := make(chan bool, 100)
		for i := range 100 {
			wg.Go(func() {
				b, err := s.Store.Begin(s.ctx, store.Begin{ID: MustID('1', i+1), User: ada, Workflow: resize, Limits: store.UpTo(limit), Now: at(0)})
				if err != nil {
					s.Errorf("Begin: %v", err)
				}
				created <- b.Created
			})
		}
		wg.Wait()
		n := 0
		for range 100 {
			if <-created {
				n++
			}
		}
		want(s, "created runs", n, 10)
	}},
	{"an amendment overrides a real outcome and is not overridden", func(s *script) {
		id := s.mustBegin(adaResize)
		s.complete(id, store.Completed, time.Second)
		s.wantCount(adaResize, 1)
		if r := s.amend(id, store.Cancelled, time.Minute); r.Status != store.Cancelled || !r.CompletedAt.Equal(at(time.Second)) {
			s.Errorf("Amend: got %s at %v, want cancelled at the time it ended", r.Status, r.CompletedAt)
		}
		s.wantCount(adaResize, 0)
		s.quietly("an amendment to what stands", func() { s.amend(id, store.Cancelled, 2*time.Minute) })
		if r := s.complete(id, store.Completed, 3*time.Minute); r.Won {
			s.Errorf("Complete after an amendment: won, want lost")
		}
		s.amend(id, store.Failed, 4*time.Minute)
		s.wantCount(adaResize, 1)
	}},
	{"a re-opened run goes on, and its next outcome counts", func(s *script) {
		id := s.mustBegin(adaResize)
		s.complete(id, store.Failed, time.Second)
		if r := s.amend(id, store.Running, time.Minute); r.Status != store.Running || !r.CompletedAt.IsZero() {
			s.Fatalf("re-open: got %s at %v, want running", r.Status, r.CompletedAt)
		}
		s.wantCount(adaResize, 0)
		if got := s.failStuck(2 * time.Minute); len(got) != 0 {
			s.Errorf("a run re-opened a minute ago is stuck: %+v", got)
		}
		if r := s.complete(id, store.Completed, 2*time.Minute); !r.Won {
			s.Errorf("Complete after re-opening: lost")
		}
		s.wantRun(id, store.Completed, at(2*time.Minute))
		s.wantCount(adaResize, 1)
	}},
	{"case T33: an end that is not dated is never before what it ends", func(s *script) {
		b := s.begin(store.Begin{ID: MustID('9', 1), User: ada, Workflow: resize, Now: at(time.Minute)})
		s.complete(b.Run.ID, store.Completed, time.Second) // by a clock that lags
		s.wantRun(b.Run.ID, store.Completed, at(time.Minute))
		id := s.mustBegin(adaResize)
		if _, err := s.Store.Start(s.ctx, id, at(2*time.Minute)); err != nil {
			s.Fatal(err)
		}
		s.complete(id, store.Completed, time.Second)
		want(s, "duration_ms", s.wantRun(id, store.Completed, at(2*time.Minute)).DurationMS, store.MillisOf(0))
		id = s.mustBegin(adaResize)
		if _, err := s.Store.Start(s.ctx, id, at(3*time.Minute)); err != nil {
			s.Fatal(err)
		}
		s.amend(id, store.Failed, time.Second)
		s.wantRun(id, store.Failed, at(3*time.Minute))
	}},
	{"case T33: an end is after the re-opening, and what was dated up to it is not", func(s *script) {
		for n, dated := range []time.Time{{}, at(time.Minute), at(time.Hour)} {
			id := s.mustBegin(adaResize)
			s.complete(id, store.Failed, time.Second)
			s.amend(id, store.Running, time.Hour)
			o := store.Outcome{Status: store.Completed, CompletedAt: dated}
			if _, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: o, Now: at(time.Minute)}); err != nil {
				s.Fatal(err)
			}
			s.wantRun(id, store.Completed, at(time.Hour+time.Microsecond))
			s.wantCount(adaResize, int64(n+1))
		}
	}},
	{"case T34: of two amendments the later call has the last word, whatever its clock", func(s *script) {
		id := s.mustBegin(adaResize)
		s.complete(id, store.Completed, time.Second)
		s.amend(id, store.Failed, time.Hour)
		s.amend(id, store.Cancelled, time.Minute)
		s.wantRun(id, store.Cancelled, at(time.Second))
		s.wantCount(adaResize, 0)
	}},
	{"a run that ends in the future is not re-opened, but can be amended", func(s *script) {
		id := s.mustBegin(adaResize)
		o := store.Outcome{Status: store.Completed, CompletedAt: at(24 * time.Hour)}
		if _, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: o, Now: at(0)}); err != nil {
			s.Fatal(err)
		}
		a := store.AmendRequest{ID: id, Status: store.Running, Who: "support", Why: "a bad clock", Now: at(time.Hour)}
		if _, err := s.Store.Amend(s.ctx, a); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("re-open: got %v, want ErrInvalid", err)
		}
		s.amend(id, store.Cancelled, time.Hour)
		s.wantCount(adaResize, 0)
	}},
	{"an amendment says who and why, and a known status", func(s *script) {
		id := s.mustBegin(adaResize)
		for _, a := range []store.AmendRequest{
			{Status: store.Failed, Why: "x"}, {Status: store.Failed, Who: "x"}, {Status: "archived", Who: "x", Why: "x"},
		} {
			a.ID, a.Now = id, at(0)
			if _, err := s.Store.Amend(s.ctx, a); !errors.Is(err, store.ErrInvalid) {
				s.Errorf("Amend %+v: got %v, want ErrInvalid", a, err)
			}
		}
	}},
}
