package store_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

var received = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

// choices feeds a rand.Rand from bytes that rapid or the fuzzer draws, so that
// both can shrink a history. One byte fills the whole word: rand takes high
// bits here and low bits there. Zero would make it draw for ever. Rapid prefers
// small bytes, and the multiplication spreads them over all choices.
type choices func() byte

func (c choices) Uint64() uint64 { return uint64(max(c()*167+1, 1)) * 0x0101010101010101 }

func drawn(t *rapid.T) *rand.Rand {
	return rand.New(choices(func() byte { return rapid.Byte().Draw(t, "choice") }))
}

// anySource is any application, well-behaved or not.
func anySource(r *rand.Rand) *storetest.Source {
	s := &storetest.Source{
		Rand: r, Guarded: r.IntN(3) == 0, KeepsTime: r.IntN(2) == 0, Versions: r.IntN(3) == 0,
		UpdatedAt: []storetest.Stamps{
			storetest.Moves, storetest.PerTransaction, storetest.Frozen, storetest.Backwards,
		}[r.IntN(4)],
	}
	s.Marked = s.Guarded && r.IntN(2) == 0
	return s
}

// mangle makes some changes poorer, as other senders do: without old_record,
// without a version, with another created_at or none. Some get a mark, whether
// it fits or not.
func mangle(r *rand.Rand, changes []store.Change) []store.Change {
	for i := range changes {
		c := &changes[i]
		if c.Op == store.Update && r.IntN(6) == 0 {
			c.Old, c.HasOld = store.Row{}, false
		}
		if r.IntN(6) == 0 {
			c.Version = 0
		}
		switch r.IntN(12) {
		case 0:
			c.Record.CreatedAt = time.Time{}
		case 1:
			c.Record.CreatedAt = c.Record.CreatedAt.Add(-time.Second)
		}
		if r.IntN(4) == 0 {
			c.Mark = anyMark(r)
		}
	}
	return changes
}

func anyMark(r *rand.Rand) store.Mark {
	return []store.Mark{store.MarkPresumed, store.MarkSuperseding, store.MarkAmended, "disputed"}[r.IntN(4)]
}

// anyHistory is what any source sends of one run, now and then by two webhooks.
func anyHistory(r *rand.Rand) []store.Change {
	history := mangle(r, anySource(r).Steps(1+r.IntN(7)))
	if r.IntN(4) == 0 {
		history = append(history, storetest.Plain(history)...)
	}
	return history
}

// observe joins what the changes of one run say, one by one.
func observe(changes []store.Change) store.State {
	return fold(store.State{ID: changes[0].ID()}, changes)
}

// fold joins changes to what is known already, as a mirror does.
func fold(s store.State, changes []store.Change) store.State {
	for _, c := range changes {
		s = s.Learn(c, received)
	}
	return s
}

func permuted[T any](r *rand.Rand, s []T) []T {
	s = slices.Clone(s)
	r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

func mustEqual(t testing.TB, law string, got, want store.State) {
	t.Helper()
	if !got.Equal(want) {
		t.Fatalf("%s (-want +got):\n%s", law, cmp.Diff(want, got))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s: Equal calls two states the same that are not (-want +got):\n%s", law, diff)
	}
}

func TestJoinIsASemilattice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { joinLaws(t, drawn(rt)) })
}

// joinLaws holds three states of one run to the laws of a semilattice. Parts
// of one history share times and outcomes, where the ties are.
func joinLaws(t testing.TB, r *rand.Rand) {
	history := anyHistory(r)
	draw := func() store.State {
		s := observe(somePart(r, history))
		if !s.DeletedAt.IsZero() {
			return s
		}
		return decide(r, s)
	}
	a, b, c := draw(), draw(), draw()
	mustEqual(t, "idempotent", a.Join(a), a)
	mustEqual(t, "commutative", a.Join(b), b.Join(a))
	mustEqual(t, "associative", a.Join(b).Join(c), a.Join(b.Join(c)))
	mustEqual(t, "absorbs what it has", a.Join(b).Join(a), a.Join(b))
	for _, s := range []store.State{a, b, c, a.Join(b)} {
		if s.DeletedAt.IsZero() {
			mustBeConsistent(t, s)
		}
	}
}

// somePart draws a part of a history that isn't empty, in any order.
func somePart(r *rand.Rand, history []store.Change) []store.Change {
	return permuted(r, history)[:1+r.IntN(len(history))]
}

// Two claims that differ in anything are never a tie: it would be settled by
// the order of arrival.
func TestNoTwoClaimsTie(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := drawn(rt)
		draw := func() store.State {
			at := [...]time.Time{epoch, epoch.Add(time.Microsecond)}
			content := [...]store.JSON{"", "1", "2"}
			c := store.Claim{
				Evidence: store.Evidence(1 + r.IntN(6)),
				Outcome: store.Outcome{
					Status: store.Terminals[r.IntN(4)], CompletedAt: at[r.IntN(2)],
					DurationMS:   [...]store.Millis{{}, {Valid: true}, {MS: 1, Valid: true}}[r.IntN(3)],
					ErrorDetails: content[r.IntN(3)], Snapshot: content[r.IntN(3)],
				},
			}
			if c.Evidence == store.Amended {
				c.AmendedAt = at[r.IntN(2)]
			}
			return store.State{ID: store.UUID([16]byte{15: 1}), Outcome: c}
		}
		a, b := draw(), draw()
		b = [...]store.State{b, nearly(r, a, b)}[r.IntN(2)]
		ab, ba := a.Join(b), b.Join(a)
		mustEqual(t, "commutative", ab, ba)
		if a.Outcome != b.Outcome && a.Equal(b) {
			t.Fatalf("Equal calls these the same: %+v and %+v", a.Outcome, b.Outcome)
		}
	})
}

// nearly returns a with one part of its outcome from b.
func nearly(r *rand.Rand, a, b store.State) store.State {
	to, from := &a.Outcome.Outcome, b.Outcome.Outcome
	switch r.IntN(5) {
	case 0:
		to.Status = from.Status
	case 1:
		to.CompletedAt = from.CompletedAt
	case 2:
		to.DurationMS = from.DurationMS
	case 3:
		to.ErrorDetails = from.ErrorDetails
	case 4:
		to.Snapshot = from.Snapshot
	}
	return a
}

// decide adds what a mirror's own calls make of a run: a sweep, a Complete or
// an administrator.
func decide(r *rand.Rand, s store.State) store.State {
	evidence := []store.Evidence{
		store.NoEvidence, store.NoEvidence, store.NoEvidence, store.Presumed, store.Confirmed, store.Amended,
	}[r.IntN(6)]
	if evidence == store.NoEvidence {
		return s
	}
	at := s.UpdatedAt.Add(time.Duration(r.IntN(5)-2) * time.Second)
	claim := store.Claim{Evidence: evidence, Outcome: store.Outcome{
		Status: store.Terminals[r.IntN(4)], CompletedAt: at, DurationMS: store.MillisOf(int64(r.IntN(3))),
	}}
	if evidence == store.Amended {
		claim.AmendedAt = at
	}
	return s.Join(store.State{ID: s.ID, Outcome: claim})
}

func mustBeConsistent(t testing.TB, s store.State) {
	t.Helper()
	row := s.Row()
	if again, reason := store.Repair(row); again != row {
		t.Fatalf("Row is not consistent, %s (-repaired +row):\n%s", reason, cmp.Diff(again, row))
	}
	if row.Status.Terminal() != !row.CompletedAt.IsZero() {
		t.Fatalf("status %q with completed_at %v", row.Status, row.CompletedAt)
	}
	if s.Ended() != row.Ended() {
		t.Fatalf("Ended() = %v, and the row says %v: %+v", s.Ended(), row.Ended(), row)
	}
}

func TestOrderBatchesAndDuplicatesDoNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { deliveryLaws(t, drawn(rt)) })
}

// deliveryLaws delivers the same changes twice, by different ways, and
// compares with the reference model too. Changes are lost before, so whatever
// the subset that arrives, the state depends on it alone.
func deliveryLaws(t testing.TB, r *rand.Rand) {
	arrived := somePart(r, anyHistory(r))
	want := observe(arrived)

	again := permuted(r, append(slices.Clone(arrived), somePart(r, arrived)...))
	batches := storetest.Adversary{Rand: r, InOrder: true, MaxBatch: 4}.Deliver(again)
	var got store.State
	for i, batch := range batches {
		if i == 0 {
			got = observe(batch)
			continue
		}
		got = got.Join(observe(batch))
	}
	mustEqual(t, "any order, duplicates, batches", got, want)
	mustEqual(t, "nothing new is a no-op", fold(got, arrived), got)

	model := storetest.Mirror(arrived)[want.ID]
	held := storetest.Mirrored{Row: want.Row(), Deleted: !want.DeletedAt.IsZero(), Presumed: want.Presumed()}
	if diff := cmp.Diff(model, held); diff != "" {
		t.Fatalf("the reference model disagrees (-model +join) after %+v:\n%s", arrived, diff)
	}
}

func TestLateRedeliveryOfADeleteMovesNothingButItsTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := drawn(rt)
		history := anyHistory(r)
		gone := store.Change{Op: store.Delete, Old: history[0].Record, HasOld: true}
		early, late := store.Observe(gone, received)[0], store.Observe(gone, received.Add(time.Hour))[0]
		s := observe(somePart(r, history)).Join(early)
		mustEqual(t, "a tombstone stands alone", s, early)
		mustEqual(t, "and stays when it is delivered again", s.Join(late), early)
		mustEqual(t, "the earlier one wins in any order", late.Join(s), early)
	})
}

func TestADeleteWithoutATimeIsATombstoneToo(t *testing.T) {
	gone := store.Change{Op: store.Delete, Old: store.Row{ID: storetest.MustID('r', 1)}, HasOld: true}
	if s := (store.State{}).Learn(gone, time.Time{}); s.DeletedAt.IsZero() {
		t.Errorf("got %+v, want a tombstone", s)
	}
}

// A run that ended at 1 and was re-opened at 3 ends at 5, although the change
// that says so still shows the end at 1.
func TestAnEndAfterAReopeningIsNotHiddenByTheOneBefore(t *testing.T) {
	at := func(s int) time.Time { return received.Add(time.Duration(s) * time.Second) }
	first := store.Row{ID: storetest.MustID('r', 1), Status: store.Completed, UpdatedAt: at(1), CompletedAt: at(1)}
	second := first
	second.Status, second.UpdatedAt, second.CompletedAt = store.Failed, at(5), at(5)
	s := observe([]store.Change{{Op: store.Insert, Record: first}})
	s = s.Join(store.State{ID: s.ID, Last: s.Last, ReopenedAt: at(3)})
	s = s.Learn(store.Change{Op: store.Update, Record: second, Old: first, HasOld: true}, received)
	if row := s.Row(); row.Status != store.Failed || !row.CompletedAt.Equal(at(5)) {
		t.Errorf("got %s at %v, want failed at %v", row.Status, row.CompletedAt, at(5))
	}
}

// A re-opening voids the outcomes up to it, so it is no part of the
// semilattice: joined first, an older outcome hides a later one and then falls.
// It is a mirror's own act, though, and stands in the state that changes are
// folded into. From there on, order and duplicates do not matter again.
func TestChangesFoldedIntoAReopenedRunCommute(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := drawn(rt)
		history := slices.DeleteFunc(anyHistory(r), func(c store.Change) bool { return c.Op == store.Delete })
		if len(history) == 0 {
			return
		}
		before := decide(r, observe(somePart(r, history)))
		reopened := before.Join(store.State{ID: before.ID, ReopenedAt: latestOf(history).Add(-time.Duration(r.IntN(3)) * time.Second)})
		mustEqual(t, "idempotent", reopened.Join(reopened), reopened)
		mustEqual(t, "commutative", before.Join(reopened), reopened.Join(before))
		mustBeConsistent(t, reopened)

		arrived := somePart(r, history)
		want := fold(reopened, arrived)
		mustBeConsistent(t, want)
		mustEqual(t, "any order, duplicates", fold(reopened, permuted(r, append(slices.Clone(arrived), somePart(r, arrived)...))), want)
		if o := want.Outcome; o.Evidence == store.SawEnd && !o.Outcome.CompletedAt.After(want.ReopenedAt) {
			t.Fatalf("an outcome at %v stands over a re-opening at %v", o.Outcome.CompletedAt, want.ReopenedAt)
		}
	})
}

// Among states that know the same re-opening, the semilattice is whole.
func TestJoinIsASemilatticeAmongStatesThatKnowTheReopening(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := drawn(rt)
		history := slices.DeleteFunc(anyHistory(r), func(c store.Change) bool { return c.Op == store.Delete })
		if len(history) == 0 {
			return
		}
		reopening := store.State{ID: history[0].ID(), ReopenedAt: latestOf(history).Add(-time.Duration(r.IntN(3)) * time.Second)}
		draw := func() store.State { return reopening.Join(decide(r, observe(somePart(r, history)))) }
		a, b, c := draw(), draw(), draw()
		mustEqual(t, "idempotent", a.Join(a), a)
		mustEqual(t, "commutative", a.Join(b), b.Join(a))
		mustEqual(t, "associative", a.Join(b).Join(c), a.Join(b.Join(c)))
	})
}

// latestOf returns the latest time at which anything in a history happened.
func latestOf(history []store.Change) time.Time {
	var last time.Time
	for _, c := range history {
		for _, at := range [...]time.Time{c.Record.StartedAt, c.Record.UpdatedAt, c.Record.CompletedAt} {
			if at.After(last) {
				last = at
			}
		}
	}
	return last
}

// A change by itself says this much of an outcome, and this much of its time.
func TestTheEvidenceOfAChange(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	row := func(status store.Status, updated int, completed time.Time) store.Row {
		return store.Row{ID: store.UUID([16]byte{15: 1}), Status: status, CreatedAt: epoch, UpdatedAt: at(updated), CompletedAt: completed}
	}
	active, ended := row(store.Running, 1, time.Time{}), row(store.Completed, 2, at(2))
	undated := row(store.Completed, 2, time.Time{})
	for name, c := range map[string]struct {
		change    store.Change
		evidence  store.Evidence
		status    store.Status
		completed time.Time
	}{
		"an end is witnessed": {
			store.Change{Op: store.Update, Old: active, Record: ended, HasOld: true}, store.SawEnd, store.Completed, at(2),
		},
		"an INSERT that has ended is witnessed": {
			store.Change{Op: store.Insert, Record: ended}, store.SawEnd, store.Completed, at(2),
		},
		"an end without a time is witnessed, at updated_at": {
			store.Change{Op: store.Update, Old: active, Record: undated, HasOld: true}, store.SawEnd, store.Completed, at(2),
		},
		"an end that is dated afterwards keeps the time at which it was first seen": {
			store.Change{Op: store.Update, Old: undated, Record: row(store.Completed, 9, at(8)), HasOld: true},
			store.SeenEnded, store.Completed, at(2),
		},
		"a touch of an end without a time was seen": {
			store.Change{Op: store.Update, Old: undated, Record: undated, HasOld: true}, store.SeenEnded, store.Completed, at(2),
		},
		"a record that stays ended was seen": {
			store.Change{Op: store.Update, Old: ended, Record: row(store.Completed, 9, at(2)), HasOld: true},
			store.SeenEnded, store.Completed, at(2),
		},
		"a record without its old_record was seen": {
			store.Change{Op: store.Update, Record: ended}, store.SeenEnded, store.Completed, at(2),
		},
		"another status does not take the place of the one in old_record": {
			store.Change{Op: store.Update, Old: row(store.Cancelled, 2, at(2)), Record: ended, HasOld: true},
			store.SeenEnded, store.Cancelled, at(2),
		},
		"nor does an earlier time": {
			store.Change{Op: store.Update, Old: ended, Record: row(store.Completed, 9, at(1)), HasOld: true},
			store.SeenEnded, store.Completed, at(2),
		},
		"a late running shows the outcome that it overwrote": {
			store.Change{Op: store.Update, Old: ended, Record: row(store.Running, 9, time.Time{}), HasOld: true},
			store.SeenEnded, store.Completed, at(2),
		},
		"a new end over an outcome that was only inferred is rewritten": {
			store.Change{Op: store.Update, Old: row(store.Running, 2, at(2)), Record: row(store.Failed, 3, at(2)), HasOld: true},
			store.Rewritten, store.Failed, at(2),
		},
		"an active record with completed_at is inferred to have ended": {
			store.Change{Op: store.Insert, Record: row(store.Running, 9, at(2))}, store.Presumed, store.Completed, at(2),
		},
		"an unknown status says nothing": {
			store.Change{Op: store.Insert, Record: row("success", 9, at(2))}, store.NoEvidence, "", time.Time{},
		},
		"an active record says nothing": {
			store.Change{Op: store.Insert, Record: active}, store.NoEvidence, "", time.Time{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := observe([]store.Change{c.change}).Outcome
			if got.Evidence != c.evidence || got.Outcome.Status != c.status || !got.Outcome.CompletedAt.Equal(c.completed) {
				t.Errorf("evidence %d for %q at %v, want %d for %q at %v", got.Evidence,
					got.Outcome.Status, got.Outcome.CompletedAt, c.evidence, c.status, c.completed)
			}
		})
	}
}

// FuzzJoin lets the fuzzer write the history: each byte is one choice of the
// source, the sender and the network.
func FuzzJoin(f *testing.F) {
	for seed := range uint64(8) {
		var b [96]byte
		rand.NewChaCha8([32]byte{byte(seed)}).Read(b[:])
		f.Add(b[:])
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		next := func() byte {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return b
		}
		joinLaws(t, rand.New(choices(next)))
		deliveryLaws(t, rand.New(choices(next)))
	})
}
