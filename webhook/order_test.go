package webhook

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func madeAt(n uint32, version int64, updated time.Time) store.Change {
	var id [16]byte
	binary.BigEndian.PutUint32(id[12:], n+1)
	return store.Change{Op: store.Update, Version: version, Record: store.Row{ID: store.UUID(id), UpdatedAt: updated}}
}

func TestWhatComesOutOfOrderIsCounted(t *testing.T) {
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	gone := madeAt(1, 0, time.Time{})
	gone.Op, gone.Old = store.Delete, gone.Record
	for _, c := range []struct {
		name    string
		changes []store.Change
		want    int
	}{
		{"in order", []store.Change{madeAt(1, 0, at(1)), madeAt(1, 0, at(2)), madeAt(1, 0, at(3))}, 0},
		{"the same again is a duplicate", []store.Change{madeAt(1, 7, at(1)), madeAt(1, 7, at(1))}, 0},
		{"each that is behind the newest", []store.Change{madeAt(1, 0, at(3)), madeAt(1, 0, at(1)), madeAt(1, 0, at(2))}, 2},
		{"runs by themselves", []store.Change{madeAt(1, 0, at(3)), madeAt(2, 0, at(1)), madeAt(1, 0, at(4))}, 0},
		{"a version says more than a clock", []store.Change{madeAt(1, 1, at(3)), madeAt(1, 2, at(1))}, 0},
		{"and is older by itself", []store.Change{madeAt(1, 2, at(1)), madeAt(1, 1, at(3))}, 1},
		{"the clock decides where one has no version", []store.Change{madeAt(1, 2, at(3)), madeAt(1, 0, at(1)), madeAt(1, 0, at(4)), madeAt(1, 1, at(9))}, 2},
		{"what has neither is not known to be late", []store.Change{madeAt(1, 0, at(3)), madeAt(1, 0, time.Time{})}, 0},
		{"a deletion has no time", []store.Change{madeAt(1, 0, at(3)), gone}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var together, alone orderTracker
			if got := together.late(c.changes); got != c.want {
				t.Errorf("in one delivery: got %d, want %d", got, c.want)
			}
			n := 0
			for i := range c.changes {
				n += alone.late(c.changes[i : i+1])
			}
			if n != c.want {
				t.Errorf("in deliveries of one: got %d, want %d", n, c.want)
			}
		})
	}
}

func TestWhatIsRememberedLatelyIsBounded(t *testing.T) {
	var l orderTracker
	for n := range uint32(3*trackedRuns + 5) {
		l.late([]store.Change{madeAt(n, 0, noon)})
	}
	if len(l.seen) != trackedRuns || len(l.ring) != trackedRuns {
		t.Errorf("%d runs are remembered, in a ring of %d; want %d", len(l.seen), len(l.ring), trackedRuns)
	}
	older := noon.Add(-time.Second)
	if got := l.late([]store.Change{madeAt(2*trackedRuns+5, 0, older), madeAt(3*trackedRuns+4, 0, older), madeAt(0, 0, older)}); got != 2 {
		t.Errorf("got %d late, want the oldest and the newest that are remembered, and not the first of all", got)
	}
}

func TestTheDelayOfADelivery(t *testing.T) {
	gone := madeAt(1, 0, noon)
	gone.Op = store.Delete
	for _, c := range []struct {
		name    string
		changes []store.Change
		want    time.Duration
		known   bool
	}{
		{"since the newest change", []store.Change{madeAt(1, 0, noon.Add(-time.Hour)), madeAt(2, 0, noon.Add(-3*time.Second))}, 3 * time.Second, true},
		{"a clock a little ahead is no delay", []store.Change{madeAt(1, 0, noon.Add(time.Second))}, 0, true},
		{"a clock far ahead says nothing", []store.Change{madeAt(1, 0, noon.Add(time.Second+1))}, 0, false},
		{"nobody wrote when", []store.Change{madeAt(1, 0, time.Time{})}, 0, false},
		{"a deletion", []store.Change{gone}, 0, false},
		{"nothing", nil, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, known := lag(c.changes, noon); got != c.want || known != c.known {
				t.Errorf("got %v, %v; want %v, %v", got, known, c.want, c.known)
			}
		})
	}
}
