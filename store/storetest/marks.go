package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// MarkedHistory is what a source with a guard, a sweep and an administrator
// sends of one run, in its true order.
type MarkedHistory struct {
	Name    string
	Changes []store.Change
	Ends    store.Row // the row as the source has it in the end
	// Presumed says whether the outcome is presumed in the end.
	Presumed bool
}

// MarkedHistories are the ways in which an outcome that was first does not
// stand: a real one supersedes a presumed one, or an administrator decides.
func MarkedHistories() []MarkedHistory {
	var (
		id       = MustID('3', 1)
		running  = row(id, adaResize, store.Running, time.Second, 0)
		done     = row(id, adaResize, store.Completed, 2*time.Second, 2*time.Second)
		stuck    = row(id, adaResize, store.Failed, time.Second, 6*time.Second) // a sweep leaves updated_at alone
		touched  = row(id, adaResize, store.Failed, 7*time.Second, 6*time.Second)
		late     = row(id, adaResize, store.Completed, 8*time.Second, 8*time.Second)
		sooner   = row(id, adaResize, store.Completed, 8*time.Second, 5*time.Second) // it had ended before the sweep thought so
		moved    = row(id, bobResize, store.Completed, 9*time.Second, 8*time.Second)
		refunded = row(id, adaResize, store.Cancelled, 10*time.Second, 2*time.Second)
		restored = row(id, adaResize, store.Timeout, 12*time.Second, 2*time.Second)
		undone   = row(id, adaResize, store.Cancelled, 10*time.Second, 8*time.Second)
		redone   = row(id, adaResize, store.Completed, 12*time.Second, 8*time.Second)
	)
	return []MarkedHistory{
		historyOf("presumed, and nothing else", true,
			step{running, stuck, store.MarkPresumed}),
		historyOf("presumed, and touched", true,
			step{running, stuck, store.MarkPresumed}, step{stuck, touched, store.MarkPresumed}),
		historyOf("presumed, and superseded by a later end", false,
			step{running, stuck, store.MarkPresumed}, step{stuck, late, store.MarkSuperseding}),
		historyOf("presumed, and superseded by an earlier end", false,
			step{running, stuck, store.MarkPresumed}, step{stuck, sooner, store.MarkSuperseding}),
		historyOf("presumed, touched, superseded, and handed on", false,
			step{running, stuck, store.MarkPresumed}, step{stuck, touched, store.MarkPresumed},
			step{touched, late, store.MarkSuperseding}, step{late, moved, store.NoMark}),
		historyOf("amended", false,
			step{running, done, store.NoMark}, step{done, refunded, store.MarkAmended}),
		historyOf("amended twice", false,
			step{running, done, store.NoMark}, step{done, refunded, store.MarkAmended}, step{refunded, restored, store.MarkAmended}),
		historyOf("presumed, superseded, and amended twice", false,
			step{running, stuck, store.MarkPresumed}, step{stuck, late, store.MarkSuperseding},
			step{late, undone, store.MarkAmended}, step{undone, redone, store.MarkAmended}),
	}
}

type step struct {
	old, record store.Row
	mark        store.Mark
}

// historyOf numbers the steps, as our own trigger does.
func historyOf(name string, presumed bool, steps ...step) MarkedHistory {
	h := MarkedHistory{Name: name, Presumed: presumed}
	for i, s := range steps {
		c := updated(s.old, s.record)
		c.Version, c.Mark = int64(i+1), s.mark
		h.Changes = append(h.Changes, c)
		h.Ends = s.record
	}
	return h
}

// MirrorMarks holds a mirror to the outcome of a source that marks its changes:
// every order of them, by themselves, among plain copies, and in batches cut
// anywhere.
func MirrorMarks(t *testing.T, open Open) {
	for _, h := range MarkedHistories() {
		t.Run(h.Name, func(t *testing.T) {
			t.Parallel()
			b, r := open(t), rand.New(rand.NewPCG(4, uint64(len(h.Changes))))
			for i, order := range ordersOf(r, len(h.Changes)) {
				deliverMarked(t, b, r, h, order, uint32(2*i+1), false)
				deliverMarked(t, b, r, h, order, uint32(2*i+2), true)
			}
			b.Exact(t)
		})
	}
}

// deliverMarked delivers a history in an order, to a run of its own.
func deliverMarked(t *testing.T, b Backend, r *rand.Rand, h MarkedHistory, order []int, space uint32, mixed bool) {
	t.Helper()
	var sent []store.Change
	for _, n := range order {
		sent = append(sent, shiftChange(h.Changes[n], space))
	}
	if mixed {
		for _, c := range Plain(sent) {
			sent = slices.Insert(sent, r.IntN(len(sent)+1), c)
		}
	}
	how := fmt.Sprintf("order %v, mixed with plain copies: %v", order, mixed)
	for _, batch := range (Adversary{Rand: r, InOrder: true, MaxBatch: 3}).Deliver(sent) {
		b.Deliver(t, epoch, batch...)
	}
	got, err := b.Store.Run(t.Context(), shift(h.Ends.ID, space))
	if err != nil {
		t.Fatalf("%s: Run: %v", how, err)
	}
	if got.Status != h.Ends.Status || !got.CompletedAt.Equal(h.Ends.CompletedAt) || !mixed && got.Presumed != h.Presumed {
		t.Fatalf("%s: got %s at %v (presumed %v), want %s at %v (presumed %v)", how,
			got.Status, got.CompletedAt, got.Presumed, h.Ends.Status, h.Ends.CompletedAt, h.Presumed)
	}
	before := b.Written(t)
	for _, a := range b.Deliver(t, epoch, sent...) {
		if a.Changed {
			t.Fatalf("%s: law 4: what was applied before changed something", how)
		}
	}
	if after := b.Written(t); after != before {
		t.Fatalf("%s: law 5: a replay wrote %d times", how, after-before)
	}
}
