package live

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

// countsOf is a database with the counts of some keys.
type countsOf struct {
	mu     sync.Mutex
	counts map[store.Key]int64
	err    error
	asked  int
}

func (c *countsOf) set(key store.Key, n int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[key], c.err = n, err
}

func (c *countsOf) read(_ context.Context, keys []store.Key) (counts []store.Count, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	for _, key := range keys {
		counts = append(counts, store.Count{Key: key, Count: c.counts[key]})
	}
	return counts, c.err
}

func (c *countsOf) reads() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func hubKey(n byte) store.Key {
	return store.Key{User: store.UUID([16]byte{n}), Kind: store.KindWorkflow, Ref: store.UUID([16]byte{1})}
}

func TestASlowReaderGetsTheLastValueOnly(t *testing.T) {
	t.Parallel()
	db := &countsOf{counts: map[store.Key]int64{}}
	h := newHub(db.read, slog.New(slog.DiscardHandler))
	slow, fast := h.subscribe([]store.Key{hubKey(1), hubKey(2)}), h.subscribe([]store.Key{hubKey(1)})
	for n := range int64(20) {
		db.set(hubKey(1), n, nil)
		for seen := false; !seen; {
			wait.For(t, "the fast reader hears", fast.changed)
			for _, c := range fast.Take() {
				seen = c.Count == n
			}
		}
	}
	h.close() // the fast one may hear first: the slow one has, once the hub is done
	got := slow.Take()
	if len(got) != 2 || got[0].Key != hubKey(1) || got[0].Count != 19 || got[1].Count != 0 {
		t.Errorf("got %+v, want 19 and 0, once each", got)
	}
}

func TestNobodyWatchesNothingIsRead(t *testing.T) {
	t.Parallel()
	db := &countsOf{counts: map[store.Key]int64{}}
	h := newHub(db.read, slog.New(slog.DiscardHandler))
	h.close() // before anybody came
	h = newHub(db.read, slog.New(slog.DiscardHandler))
	s := h.subscribe([]store.Key{hubKey(1)})
	wait.For(t, "a reader hears", s.changed)
	h.unsubscribe(s)
	if keys := h.keys(); len(keys) != 0 {
		t.Errorf("%d keys are watched by nobody", len(keys))
	}
	// The hub comes to rest; a poke wakes it, and it finds nothing to read.
	wait.Until(t, "it rests", func() bool {
		before := db.reads()
		h.wakeup()
		wait.Until(t, "the poke is taken", func() bool { return len(h.wake) == 0 })
		return db.reads() == before
	})
	h.close()
	if s := h.subscribe([]store.Key{hubKey(1)}); len(s.changed) != 0 {
		t.Error("a closed hub tells something")
	}
}

func TestStreamsOutliveAnOutageOfTheDatabase(t *testing.T) {
	t.Parallel()
	db := &countsOf{counts: map[store.Key]int64{}, err: errors.New("no route")}
	log := &webhooktest.Log{}
	h := newHub(db.read, slog.New(slog.NewTextHandler(log, nil)))
	defer h.close()
	s := h.subscribe([]store.Key{hubKey(1)})
	wait.Until(t, "it is logged", func() bool { return strings.Contains(log.String(), "no route") })
	db.set(hubKey(1), 7, nil)
	wait.For(t, "a reader hears", s.changed)
	if got := s.Take(); len(got) != 1 || got[0].Count != 7 {
		t.Errorf("got %+v, want 7", got)
	}
	wait.Until(t, "its end is logged", func() bool { return strings.Contains(log.String(), "are read again") })
	if n := strings.Count(log.String(), "can't be read"); n != 1 {
		t.Errorf("the outage was logged %d times", n)
	}
}

// Whatever of a count is told is news where it alone has changed: the tallies
// under a policy that leaves them out, the count under another policy, a
// presumed run that turns real.
func TestCaseEachPartOfACountIsNews(t *testing.T) {
	t.Parallel()
	key := hubKey(1)
	first := store.Count{Key: key, Count: 1, Tallies: store.Tallies{Ended: store.Tally{Completed: 1}}}
	for name, next := range map[string]store.Count{
		"a cancelled run": {Key: key, Count: 1, Tallies: store.Tallies{Ended: store.Tally{Completed: 1, Cancelled: 1}}},
		"another policy":  {Key: key, Count: 0, Tallies: first.Tallies},
		"a presumed run":  {Key: key, Count: 1, Tallies: store.Tallies{Ended: first.Tallies.Ended, Presumed: store.Tally{Completed: 1}}},
	} {
		h := newHub(nil, slog.New(slog.DiscardHandler))
		s := &Subscription{keys: []store.Key{key}, changed: make(chan struct{}, 1), pending: map[store.Key]store.Count{}}
		h.watched[key] = &watch{by: map[*Subscription]bool{s: false}}
		h.publish([]store.Count{first})
		s.Take()
		h.publish([]store.Count{first})
		if got := s.Take(); len(got) > 0 {
			t.Errorf("%s: the same once more is told", name)
		}
		h.publish([]store.Count{next})
		if got := s.Take(); len(got) != 1 || got[0] != next {
			t.Errorf("%s: told %+v, want it", name, got)
		}
	}
}
