package webhook

import (
	"cmp"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// trackedRuns is the number of runs that an instance remembers, to know what comes
	// out of order: about a minute of as many changes as pg_net sends.
	trackedRuns = 16 << 10
	// clockSkew bounds how far ahead a sender's clock may be for its delay to count
	// as none. What is further in the future says nothing of a delay.
	clockSkew = time.Second
)

// orderTracker remembers the newest change of each of the last runs that it saw. It
// is for a metric alone: nothing depends on the order of arrival (law 4). The
// zero value is ready.
type orderTracker struct {
	mu   sync.Mutex
	seen map[store.ID]moment
	ring []store.ID // in the order in which they were first seen
	next int        // the oldest of the ring, once it is full
}

// moment orders the changes of a run: by version where both have one, else by
// updated_at.
type moment struct {
	version int64
	at      time.Time
}

// older reports whether one is known to be older than another.
func (m moment) older(o moment) bool {
	if m.version != 0 && o.version != 0 {
		return m.version < o.version
	}
	return !m.at.IsZero() && m.at.Before(o.at)
}

// late returns how many of the changes are older than one of the same run that
// came before them.
func (l *orderTracker) late(changes []store.Change) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = make(map[store.ID]moment)
	}
	for _, c := range changes {
		m := moment{c.Version, c.Record.UpdatedAt}
		if c.Op == store.Delete || m == (moment{}) {
			continue // it says nothing of when
		}
		id := c.ID()
		switch last, known := l.seen[id]; {
		case !known:
			l.add(id, m)
		case m.older(last):
			n++
		default:
			l.seen[id] = moment{cmp.Or(m.version, last.version), later(m.at, last.at)}
		}
	}
	return n
}

func (l *orderTracker) add(id store.ID, m moment) {
	l.seen[id] = m
	if len(l.ring) < trackedRuns {
		l.ring = append(l.ring, id)
		return
	}
	delete(l.seen, l.ring[l.next])
	l.ring[l.next] = id
	l.next = (l.next + 1) % trackedRuns
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// lag returns how long ago the newest change was made, as the rows say; false
// where they say nothing, or a moment that is still to come.
func lag(changes []store.Change, now time.Time) (time.Duration, bool) {
	var newest time.Time
	for _, c := range changes {
		if c.Op != store.Delete {
			newest = later(newest, c.Record.UpdatedAt)
		}
	}
	took := now.Sub(newest)
	if newest.IsZero() || took < -clockSkew {
		return 0, false
	}
	return max(took, 0), true
}
