package live

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

// countsOf is a database with the counts of some keys.
type countsOf struct {
	mu     sync.Mutex
	counts map[Topic]int64
	err    error
	asked  int
}

func (c *countsOf) set(key Topic, n int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[key], c.err = n, err
}

func (c *countsOf) read(_ context.Context, topics []Topic) (states []State, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	for _, topic := range topics {
		states = append(states, stateOf(topic, c.counts[topic]))
	}
	return states, c.err
}

func (c *countsOf) reads() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func hubKey(n byte) Topic {
	return CountOf(store.Key{User: store.UUID([16]byte{n}), Kind: store.KindWorkflow, Ref: store.UUID([16]byte{1})})
}

func stateOf(topic Topic, n int64) State { return State{Topic: topic, Count: store.Count{Count: n}} }

// quick is the pace of the counts of keys.
var quick = paceOfKeys()

func TestASlowReaderGetsTheLastValueOnly(t *testing.T) {
	t.Parallel()
	db := &countsOf{counts: map[Topic]int64{}}
	h := newHub(db.read, quick, slog.New(slog.DiscardHandler))
	slow, fast := h.subscribe([]Topic{hubKey(1), hubKey(2)}), h.subscribe([]Topic{hubKey(1)})
	for n := range int64(20) {
		db.set(hubKey(1), n, nil)
		for seen := false; !seen; {
			wait.For(t, "the fast reader hears", fast.changed)
			for _, c := range fast.Take() {
				seen = c.Count.Count == n
			}
		}
	}
	h.close() // the fast one may hear first: the slow one has, once the hub is done
	got := slow.Take()
	if len(got) != 2 || got[0] != stateOf(hubKey(1), 19) || got[1] != stateOf(hubKey(2), 0) {
		t.Errorf("got %+v, want 19 and 0, once each", got)
	}
}

func TestNobodyWatchesNothingIsRead(t *testing.T) {
	t.Parallel()
	db := &countsOf{counts: map[Topic]int64{}}
	h := newHub(db.read, quick, slog.New(slog.DiscardHandler))
	h.close() // before anybody came
	h = newHub(db.read, quick, slog.New(slog.DiscardHandler))
	s := h.subscribe([]Topic{hubKey(1)})
	wait.For(t, "a reader hears", s.changed)
	h.unsubscribe(s)
	if topics := h.topics(); len(topics) != 0 {
		t.Errorf("%d counts are watched by nobody", len(topics))
	}
	// The hub comes to rest; a poke wakes it, and it finds nothing to read.
	wait.Until(t, "it rests", func() bool {
		before := db.reads()
		h.wakeup()
		wait.Until(t, "the poke is taken", func() bool { return len(h.wake) == 0 })
		return db.reads() == before
	})
	h.close()
	if s := h.subscribe([]Topic{hubKey(1)}); len(s.changed) != 0 {
		t.Error("a closed hub tells something")
	}
}

func TestStreamsOutliveAnOutageOfTheDatabase(t *testing.T) {
	t.Parallel()
	db := &countsOf{counts: map[Topic]int64{}, err: errors.New("no route")}
	log := &webhooktest.Log{}
	h := newHub(db.read, quick, slog.New(slog.NewTextHandler(log, nil)))
	defer h.close()
	s := h.subscribe([]Topic{hubKey(1)})
	wait.Until(t, "it is logged", func() bool { return strings.Contains(log.String(), "no route") })
	db.set(hubKey(1), 7, nil)
	wait.For(t, "a reader hears", s.changed)
	if got := s.Take(); len(got) != 1 || got[0].Count.Count != 7 {
		t.Errorf("got %+v, want 7", got)
	}
	wait.Until(t, "its end is logged", func() bool { return strings.Contains(log.String(), "are read again") })
	if n := strings.Count(log.String(), "can't be read"); n != 1 {
		t.Errorf("the outage was logged %d times", n)
	}
}

// Whatever of a topic is told is news where it alone has changed: the tallies
// under a policy that leaves them out, the count under another policy, a
// presumed run that turns real, a grant, a run that begins.
func TestCaseEachPartOfACountIsNews(t *testing.T) {
	t.Parallel()
	limit := store.UpTo(3)[0]
	topic := hubKey(1)
	topic.Limits[0] = limit
	tallies := store.Tallies{Ended: store.Tally{Completed: 1}}
	of := func(c store.Count, u store.Usage) State {
		c.Key, u.Limit = store.Key(topic.Of), limit
		return State{Topic: topic, Count: c, Usages: [2]store.Usage{u}}
	}
	first := of(store.Count{Count: 1, Tallies: tallies}, store.Usage{})
	for name, next := range map[string]State{
		"a cancelled run": of(store.Count{Count: 1, Tallies: store.Tallies{Ended: store.Tally{Completed: 1, Cancelled: 1}}}, store.Usage{}),
		"another policy":  of(store.Count{Count: 0, Tallies: tallies}, store.Usage{}),
		"a presumed run":  of(store.Count{Count: 1, Tallies: store.Tallies{Ended: tallies.Ended, Presumed: store.Tally{Completed: 1}}}, store.Usage{}),
		"a grant":         of(first.Count, store.Usage{Granted: 1}),
		"a begin":         of(first.Count, store.Usage{Active: 1}),
	} {
		h := newHub(nil, quick, slog.New(slog.DiscardHandler))
		s := &Subscription{topics: []Topic{topic}, changed: make(chan struct{}, 1), pending: map[Topic]State{}}
		h.watched[topic] = &watch{by: map[*Subscription]bool{s: false}}
		h.publish([]State{first})
		s.Take()
		h.publish([]State{first})
		if got := s.Take(); len(got) > 0 {
			t.Errorf("%s: the same once more is told", name)
		}
		h.publish([]State{next})
		if got := s.Take(); len(got) != 1 || got[0] != next {
			t.Errorf("%s: told %+v, want it", name, got)
		}
	}
}

// A window whose index was dropped stays as it was told, and the others go on.
func TestATopicThatCantBeReadKeepsNoOtherFromIt(t *testing.T) {
	t.Parallel()
	bad := Topic{Of: store.Scope{User: store.UUID([16]byte{1})}, In: store.Window{From: time.Unix(1, 0)}}
	good := Topic{Of: store.Scope{User: store.UUID([16]byte{2})}}
	gone := errors.New("no route")
	cfg := Config{Count: func(_ context.Context, of store.Scope, _ store.Window) (store.Count, error) {
		if of == bad.Of {
			return store.Count{}, &store.NoIndexError{Of: of}
		}
		return store.Count{Count: 3}, nil
	}}
	got, err := cfg.readEach(t.Context(), []Topic{bad, good})
	if err != nil || len(got) != 1 || got[0].Topic != good || got[0].Count.Count != 3 {
		t.Errorf("got %+v, %v; want the good one alone", got, err)
	}
	cfg.Count = func(context.Context, store.Scope, store.Window) (store.Count, error) { return store.Count{}, gone }
	if _, err := cfg.readEach(t.Context(), []Topic{good}); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
}

// What is read one by one takes a fifth of the time at most, however often the
// program commits.
func TestAPollRestsAsItsPaceSays(t *testing.T) {
	t.Parallel()
	h := newHub(nil, pace{every: time.Hour, share: aloneShare}, slog.New(slog.DiscardHandler))
	h.wakeup()
	pause := time.NewTimer(time.Hour)
	h.rest(pause, time.Hour)
	select {
	case <-pause.C:
		t.Error("a wakeup ended the rest that a long reading asks for")
	default:
	}
	h.wakeup()
	h.rest(pause, 0)
	wait.For(t, "the next poll, soon after a commit", pause.C)
}
