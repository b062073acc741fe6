package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
)

// Cases is the part of the suite that holds single guards: for each, a small
// wrong edit of a backend went unnoticed before its case was here. A source is
// opened with a lease column, which its Deliver and Write set.
func Cases(t *testing.T, open Open) {
	for name, test := range each(open, nil, slices.Concat(endCases, slotCases, keyCases, leaseCases, logCases)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// hint applies changes that are not made to the table: what comes late, or is
// only claimed.
func (s *script) hint(d time.Duration, changes ...store.Change) []store.ApplyResult {
	s.Helper()
	applied, err := s.Store.Apply(s.ctx, changes, at(d))
	if err != nil {
		s.Fatalf("Apply: %v", err)
	}
	return applied
}

func (s *script) completeAt(id store.ID, status store.Status, completed, now time.Duration) store.CompleteResult {
	s.Helper()
	r, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: status, CompletedAt: at(completed)}, Now: at(now)})
	if err != nil {
		s.Fatalf("Complete: %v", err)
	}
	return r
}

// endCases are outcomes: which one stands, and what a decision does to it.
var endCases = []contractCase{
	{"a late webhook does not end a run that was re-opened", func(s *script) {
		id := MustID('2', 1)
		running := row(id, adaResize, store.Running, 0, 0)
		done := row(id, adaResize, store.Completed, time.Second, time.Second)
		again := row(id, adaResize, store.Failed, 90*time.Second, 90*time.Second)
		s.Deliver(s, at(time.Minute), inserted(running), updated(running, done))
		for i, status := range []store.Status{store.Running, store.Pending, store.Cancelling} {
			s.amend(id, status, time.Duration(i+1)*time.Minute)
			s.hint(time.Hour, updated(running, done))
			s.wantRun(id, status, time.Time{})
			s.wantCount(adaResize, 0)
			if i == 2 {
				s.hint(time.Hour, updated(running, again)) // of before the last re-opening
				s.wantRun(id, status, time.Time{})
			}
			done = row(id, adaResize, store.Completed, 2*time.Second, time.Duration(i+1)*time.Minute) // as of its very moment
			s.hint(time.Hour, updated(running, done))
			s.wantRun(id, status, time.Time{})
			if i < 2 {
				s.complete(id, store.Failed, time.Duration(i+1)*time.Minute+time.Second)
			}
		}
		after := row(id, adaResize, store.Completed, 4*time.Minute, 4*time.Minute)
		s.hint(time.Hour, updated(running, after))
		s.wantRun(id, store.Completed, at(4*time.Minute))
		s.wantCount(adaResize, 1)
	}},
	{"an inferred outcome is marked presumed, and a real one supersedes it", func(s *script) {
		for i, details := range []store.JSON{"", `{"code": "NODE_ERROR"}`} {
			id := MustID('2', i+1)
			overwritten := row(id, adaResize, store.Running, 3*time.Second, 2*time.Second)
			overwritten.ErrorDetails = details
			s.Deliver(s, at(time.Minute), inserted(overwritten))
			r := s.wantRun(id, []store.Status{store.Completed, store.Failed}[i], at(2*time.Second))
			if !r.Presumed {
				s.Errorf("a running row that had ended: got %+v, want its outcome presumed", r)
			}
			if got := s.complete(id, store.Cancelled, time.Minute); !got.Won || got.Run.Presumed {
				s.Errorf("Complete: got %+v, want it won, for real", got)
			}
		}
		s.wantCount(adaResize, 0)
	}},
	{"an inferred outcome of a sweep is marked presumed", func(s *script) {
		if s.Write == nil {
			need.Skip(s, "a mirror infers as it hears")
		}
		overwritten := row(MustID('2', 1), adaResize, store.Pending, 3*time.Second, 2*time.Second)
		s.Write(s, inserted(overwritten))
		got := s.failStuck(time.Minute)
		if len(got) != 1 || got[0].Reason != store.Overwritten {
			s.Fatalf("FailStuck: got %+v, want the one row", got)
		}
		if r := s.wantRun(overwritten.ID, store.Completed, at(2*time.Second)); !r.Presumed {
			s.Errorf("got %+v, want its outcome presumed", r)
		}
	}},
	{"an end of each terminal status is dated, counted and kept by the table itself", func(s *script) {
		if s.Write == nil {
			need.Skip(s, "a mirror watches no table")
		}
		for i, status := range store.Terminals {
			key := store.KeyOf(ada, MustID('c', 20+i), store.ID{})
			for n, dated := range []time.Duration{0, time.Second} {
				for m, updates := range []bool{false, true} {
					ended := row(MustID('2', 100*i+10*n+m+1), key, status, time.Second, dated)
					running := row(ended.ID, key, store.Running, 2*time.Second, 0)
					if updates {
						s.Write(s, inserted(running))
						s.Write(s, updated(running, ended))
					} else {
						s.Write(s, inserted(ended))
					}
					stands := s.run(ended.ID)
					if stands.Status != status || stands.CompletedAt.IsZero() || dated > 0 && !stands.CompletedAt.Equal(at(dated)) || stands.Presumed {
						s.Errorf("%s, dated %s, by an update %v: got %+v, want it ended", status, dated, updates, stands)
					}
					s.Write(s, updated(ended, running))
					s.wantRun(ended.ID, status, stands.CompletedAt)
				}
			}
			e := s.count(key).Tallies.Ended
			if got := map[store.Status]int64{store.Completed: e.Completed, store.Failed: e.Failed, store.Cancelled: e.Cancelled, store.Timeout: e.Timeout}[status]; got != 4 {
				s.Errorf("%s: got %+v, want 4", status, e)
			}
			s.Exact(s)
			for _, n := range []int{1, 2, 11, 12} {
				s.Write(s, deleted(row(MustID('2', 100*i+n), key, status, 0, 0)))
			}
			s.wantTallies("of deleted runs", key, store.Tallies{})
		}
	}},
	{"an outcome of each terminal status supersedes a presumed one, by the table itself", func(s *script) {
		if s.Write == nil {
			need.Skip(s, "a mirror watches no table")
		}
		for i, status := range store.Terminals {
			key := store.KeyOf(ada, MustID('c', 20+i), store.ID{})
			for n, active := range []store.Status{store.Running, store.Cancelling} { // which are presumed failed, and cancelled
				r := row(MustID('2', 10*i+n+1), key, active, time.Second, 0)
				s.Write(s, inserted(r))
				presumed := s.failStuck(time.Hour)
				if len(presumed) != 1 {
					s.Fatalf("FailStuck: got %+v, want the one run", presumed)
				}
				told := presumed[0].After
				told.Status, told.CompletedAt = status, at(2*time.Hour)
				s.Write(s, updated(presumed[0].After, told))
				if got := s.wantRun(r.ID, status, told.CompletedAt); got.Presumed {
					s.Errorf("%s over what was presumed of a %s run: got %+v, want it real", status, active, got)
				}
			}
			if c := s.count(key).Tallies; c.Ended.Total() != 2 || c.Presumed != (store.Tally{}) {
				s.Errorf("%s: got %+v, want two runs, for real", status, c)
			}
		}
	}},
	{"a completion at or before a re-opening that wins ends the run", func(s *script) {
		for i, ended := range []time.Duration{30 * time.Second, time.Minute} {
			id := s.mustBegin(adaResize)
			s.complete(id, store.Failed, time.Second)
			s.amend(id, store.Running, time.Minute)
			got := s.completeAt(id, store.Completed, ended, time.Hour)
			if !got.Won || got.Run.Status != store.Completed || got.Count.Count != int64(i+1) {
				s.Errorf("Complete as of %s: got %+v, want it won, completed, and a count of %d", ended, got, i+1)
			}
			if r := s.run(id); r.Status != store.Completed || r.CompletedAt.IsZero() || r.Presumed {
				s.Errorf("the run is %+v, want it completed", r)
			}
		}
	}},
	{"a re-opened run keeps nothing of what it ended with", func(s *script) {
		id := s.mustBegin(adaResize)
		if _, err := s.Store.Start(s.ctx, id, at(0)); err != nil {
			s.Fatal(err)
		}
		o := store.Outcome{Status: store.Failed, DurationMS: store.MillisOf(77), ErrorDetails: `{"code": "NODE_ERROR"}`}
		if _, err := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: o, Now: at(time.Second)}); err != nil {
			s.Fatal(err)
		}
		s.amend(id, store.Running, time.Minute)
		if r := s.run(id); r.ErrorDetails != "" || r.DurationMS.Valid || !r.CompletedAt.IsZero() || !r.UpdatedAt.Equal(at(time.Minute)) {
			s.Errorf("re-opened: got %+v, want no error_details, duration_ms nor completed_at, and updated_at moved", r)
		}
		if got := s.complete(id, store.Completed, 2*time.Minute).Run; got.ErrorDetails != "" || got.DurationMS != store.MillisOf(120_000) {
			s.Errorf("ended again: got %+v, want nothing of the first outcome", got)
		}
	}},
	{"a completion ends a run as of the time that it names, and moves updated_at to now", func(s *script) {
		id := s.mustBegin(adaResize)
		r, err := s.Store.Start(s.ctx, id, at(time.Second))
		if err != nil || !r.UpdatedAt.Equal(at(time.Second)) {
			s.Errorf("Start: got %+v, %v; want updated_at moved", r, err)
		}
		got := s.completeAt(id, store.Timeout, 4*time.Second, time.Hour).Run
		if got.Status != store.Timeout || !got.CompletedAt.Equal(at(4*time.Second)) || !got.UpdatedAt.Equal(at(time.Hour)) || got.DurationMS != store.MillisOf(3000) {
			s.Errorf("Complete: got %+v, want it ended as of 4 s, after 3 s", got)
		}
		want(s, "the run as it is read", s.run(id), got)
	}},
	{"amending a presumed run to the status that it has makes it real, and is logged", func(s *script) {
		id := s.mustBegin(adaResize)
		s.failStuck(time.Hour)
		if r := s.amend(id, store.Failed, 2*time.Hour); r.Status != store.Failed || r.Presumed || !r.CompletedAt.Equal(at(5*time.Minute)) {
			s.Errorf("Amend: got %+v, want it failed as it was, for real", r)
		}
		want(s, "tally", s.count(adaResize).Tallies, store.Tallies{Ended: store.Tally{Failed: 1}})
		if got := s.complete(id, store.Completed, 3*time.Hour); got.Won {
			s.Errorf("Complete after the decision: won, want lost")
		}
		want(s, "amendments", s.history(id).Amendments, []store.AmendmentLog{{At: at(2 * time.Hour), Who: "support", Why: "a refund",
			Was: store.Failed, WasCompletedAt: at(5 * time.Minute), Status: store.Failed}})
	}},
	{"of two decisions at one instant the second stands", func(s *script) {
		id := s.mustBegin(adaResize)
		s.complete(id, store.Completed, time.Second)
		for _, next := range []store.Status{store.Cancelled, store.Failed, store.Completed, store.Running, store.Timeout, store.Running,
			store.Cancelled, store.Completed, store.Cancelled} {
			r := s.amend(id, next, time.Minute)
			if r.Status != next || r.CompletedAt.IsZero() != next.Active() {
				s.Errorf("Amend to %s: got %s at %v", next, r.Status, r.CompletedAt)
			}
			if moved := r.UpdatedAt.Sub(at(time.Minute)); moved < 0 || moved > time.Second {
				s.Errorf("Amend to %s: updated_at is %v, want the decision's moment", next, r.UpdatedAt)
			}
			if r := s.run(id); r.Status != next {
				s.Errorf("after an amendment to %s: got %s", next, r.Status)
			}
		}
		if got := len(s.history(id).Amendments); got != 9 {
			s.Errorf("%d amendments are logged, want 9", got)
		}
	}},
	{"a run starts where its updated_at is ahead of the clock", func(s *script) {
		ahead := row(MustID('2', 1), adaResize, store.Pending, time.Hour, 0)
		ahead.StartedAt = time.Time{}
		s.Deliver(s, at(0), inserted(ahead))
		numbered := ahead
		numbered.ID = MustID('2', 2)
		s.Deliver(s, at(0), store.Change{Op: store.Insert, Record: numbered, Version: 7})
		for _, id := range []store.ID{ahead.ID, numbered.ID} {
			r, err := s.Store.Start(s.ctx, id, at(time.Minute))
			if err != nil || r.Status != store.Running || !r.StartedAt.Equal(at(time.Minute)) {
				s.Errorf("Start: got %+v, %v; want it running", r, err)
			}
			s.wantRun(id, store.Running, time.Time{})
		}
	}},
	{"a run is re-opened where its updated_at is ahead of the clock", func(s *script) {
		ahead := row(MustID('2', 1), adaResize, store.Running, time.Hour, 0)
		done := row(ahead.ID, adaResize, store.Completed, time.Hour, time.Second)
		s.Deliver(s, at(0), inserted(ahead), updated(ahead, done))
		s.amend(ahead.ID, store.Pending, time.Minute)
		s.wantRun(ahead.ID, store.Pending, time.Time{})
	}},
	{"an answer counts the key that the run has now, whatever key a change names", func(s *script) {
		id := MustID('2', 1)
		first := row(id, adaResize, store.Running, 0, 0)
		done := row(id, adaResize, store.Completed, time.Second, time.Second)
		moved := row(id, bobResize, store.Completed, 2*time.Second, time.Second)
		gone := row(MustID('2', 2), adaSketch, store.Running, 0, 0)
		s.Deliver(s, at(0), inserted(first), updated(first, done), updated(done, moved), inserted(gone), deleted(gone))
		got := s.hint(time.Minute, updated(first, done), inserted(gone), inserted(first))
		for i, keys := range [][]store.Key{{adaResize, bobResize}, {adaSketch}, {adaResize, bobResize}} {
			want(s, "keys of a late change", keysOf(got[i]), keys)
			for _, c := range got[i].Counts {
				want(s, "count of "+c.Key.String(), c.Count, s.count(c.Key).Count)
			}
		}
	}},
	{"a start moves a pending run alone", func(s *script) {
		for i, status := range []store.Status{store.Running, store.Cancelling, "archived", store.Timeout} {
			r := row(MustID('2', i+1), adaResize, status, time.Second, 0)
			if status.Terminal() {
				r.CompletedAt = at(time.Second)
			}
			s.Deliver(s, at(time.Second), inserted(r))
			s.quietly("a start of a run that is "+string(status), func() {
				got, err := s.Store.Start(s.ctx, r.ID, at(time.Minute))
				if err != nil || got.Status != status || !got.StartedAt.Equal(epoch) || !got.UpdatedAt.Equal(at(time.Second)) {
					s.Errorf("got %+v, %v; want it as it was", got, err)
				}
			})
		}
	}},
}

// slotCases are the runs that hold a slot of a limit, and those that don't.
var slotCases = []contractCase{
	{"a run that has not ended takes a slot, whatever it is called", func(s *script) {
		for i, status := range []store.Status{store.Pending, store.Running, store.Cancelling, "archived"} {
			s.Deliver(s, at(time.Minute), inserted(row(MustID('2', i+1), adaResize, status, 0, 0)))
			if b := s.beginAt(adaResize, int64(i+1), ""); !b.LimitReached || b.Usages[0].Active != int64(i+1) || b.Usages[0].Counted != 0 {
				s.Errorf("a run that is %s: got %+v, want it to hold slot %d", status, b, i+1)
			}
		}
		for i, status := range store.Terminals {
			s.Deliver(s, at(time.Minute), inserted(row(MustID('2', i+11), adaResize, status, time.Second, time.Second)))
		}
		if b := s.beginAt(adaResize, 6, ""); !b.LimitReached || b.Usages[0].Active != 4 || b.Usages[0].Counted != 2 {
			s.Errorf("beside runs that have ended: got %+v, want 4 active, 2 counted", b)
		}
	}},
	{"a deleted run is never begun again", func(s *script) {
		b := store.Begin{ID: MustID('2', 1), User: ada, Workflow: resize, IdempotencyKey: "order-7", Now: at(0)}
		s.begin(b)
		s.Deliver(s, at(time.Second), deleted(s.run(b.ID).Row))
		for _, id := range []store.ID{b.ID, MustID('2', 2)} {
			b.ID = id
			s.quietly("a begin of a deleted run", func() {
				if got, err := s.Store.Begin(s.ctx, b); !errors.Is(err, store.ErrConflict) {
					s.Errorf("Begin: got %+v, %v; want ErrConflict", got, err)
				}
			})
			if r, err := s.Store.Run(s.ctx, id); !errors.Is(err, store.ErrNotFound) {
				s.Errorf("Run: got %+v, %v; want ErrNotFound", r, err)
			}
		}
	}},
	{"many begins with one idempotency key at once, without a limit, create one run", func(s *script) {
		for round := range 5 {
			var wg sync.WaitGroup
			got := make(chan store.BeginResult, 8)
			for i := range 8 {
				wg.Go(func() {
					b := store.Begin{ID: MustID('2', 100*round+i+1), User: ada, Workflow: resize, IdempotencyKey: string(rune('a' + round)), Now: at(0)}
					begun, err := s.Store.Begin(s.ctx, b)
					if err != nil {
						s.Errorf("Begin: %v", err)
					}
					got <- begun
				})
			}
			wg.Wait()
			close(got)
			created, ids := 0, map[store.ID]bool{}
			for b := range got {
				ids[b.Run.ID] = true
				if b.Created {
					created++
				}
			}
			if created != 1 || len(ids) != 1 {
				s.Errorf("got %d created and %d different runs, want 1", created, len(ids))
			}
			if b := s.beginAt(adaResize, 0, ""); b.Usages[0].Active != int64(round+1) {
				s.Errorf("%d runs are active, want %d", b.Usages[0].Active, round+1)
			}
		}
	}},
	{"a begin counts under the policy in force", func(s *script) {
		// Each status as often as no sum of others, for real and presumed.
		n := 0
		for i, status := range store.Terminals {
			for range 1 << i {
				s.complete(s.mustBegin(adaResize), status, time.Second)
			}
		}
		for i := range 3 {
			for range 1 << (4 + i) { // presumed failed, cancelled, completed
				n++
				r := row(MustID('2', n), adaResize, []store.Status{store.Running, store.Cancelling, store.Pending}[i], 0, 0)
				if i == 2 {
					r.CompletedAt = at(time.Second)
				}
				s.Deliver(s, at(time.Minute), inserted(r))
			}
		}
		s.failStuck(time.Hour)
		for range 2 {
			for name, want := range map[string]int64{
				"outcomes": 1 + 2 + 16 + 64, "terminal": 127, "outcomes-except-presumed": 1 + 2, "terminal-except-presumed": 15,
			} {
				p, err := store.ParsePolicy(name)
				if err != nil {
					s.Fatal(err)
				}
				s.setPolicy(p)
				s.quietly("the policy that is in force", func() { s.setPolicy(p) })
				s.wantCount(adaResize, want)
				if b := s.beginAt(adaResize, want, ""); !b.LimitReached || b.Usages[0].Counted != want || b.Usages[0].Active != 0 {
					s.Errorf("%s: Begin at the limit %d: got %+v, want it refused", name, want, b)
				}
				b := s.beginAt(adaResize, want+1, "")
				if !b.Created || b.Usages[0].Counted != want {
					s.Errorf("%s: Begin at the limit %d: got %+v, want a run", name, want+1, b)
				}
				s.Deliver(s, at(0), deleted(b.Run.Row))
			}
			s.fold()
		}
	}},
	{"a begin that is refused keeps no idempotency key", func(s *script) {
		if b := s.beginAt(adaResize, 0, "order-7"); !b.LimitReached || !b.Run.ID.IsZero() {
			s.Fatalf("at the limit 0: got %+v, want it refused", b)
		}
		if b := s.beginAt(adaResize, 1, "order-7"); !b.Created {
			s.Errorf("once there is a slot: got %+v, want a run", b)
		}
	}},
}

// beginAt begins a run that no other begin of the script is about.
func (s *script) beginAt(key store.Key, limit int64, idempotency string) store.BeginResult {
	s.Helper()
	s.runs++
	return s.begin(store.Begin{ID: MustID('3', s.runs), User: key.User, Workflow: key.Workflow(), Draft: key.Draft(),
		Limits: store.UpTo(limit), IdempotencyKey: idempotency, Now: at(0)})
}

func (s *script) history(id store.ID) store.History {
	s.Helper()
	h, err := s.Store.History(s.ctx, id)
	if err != nil {
		s.Fatalf("History: %v", err)
	}
	return h
}
