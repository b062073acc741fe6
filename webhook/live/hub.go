package live

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// pollEvery is the time between two readings of the watched counts. With
	// the time that reading takes it stays below the 100 ms within which a commit
	// on any instance shall be seen.
	pollEvery = 50 * time.Millisecond
	// pollSoonest is the pause after a commit of this instance, which others may
	// follow.
	pollSoonest = 10 * time.Millisecond
	// pollAgain is the pause after the database did not answer.
	pollAgain = time.Second
	// pollKeys bounds the keys of one statement.
	pollKeys = 1000
)

// hub tells the watchers of a count that it has changed. It reads the watched
// counts again and again, each time all of them, and compares.
//
// A count that is read is exact in its snapshot, for every writer: this
// instance, another one, or the application itself by way of a trigger. It
// works through a pooler in transaction mode, and writers pay nothing for it;
// a NOTIFY takes a lock of the whole database at each commit, needs a session,
// and says nothing on SQLite. What it costs doesn't depend on how much is
// written, but on how many keys are watched.
type hub struct {
	counts func(ctx context.Context, keys []store.Key) ([]store.Count, error)
	log    *slog.Logger
	wake   chan struct{} // the program has written, or a watch has begun
	ctx    context.Context
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	started bool
	watched map[store.Key]*watch
	polls   uint64
}

// watch is a key that is watched.
type watch struct {
	last  store.Count
	known bool
	by    map[*Subscription]bool // whether it was told the last one
}

// Subscription is one watcher of some keys. What has changed of each is
// kept until it is taken, the last value alone: a slow reader costs no more
// memory than a fast one, and misses only what was overtaken.
type Subscription struct {
	keys    []store.Key
	changed chan struct{} // holds something while there is something to take

	mu      sync.Mutex
	pending map[store.Key]store.Count
}

func newHub(counts func(context.Context, []store.Key) ([]store.Count, error), log *slog.Logger) *hub {
	h := &hub{counts: counts, log: log, wake: make(chan struct{}, 1), done: make(chan struct{}), watched: map[store.Key]*watch{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// subscribe begins to watch keys. The first poll that follows tells them all.
func (h *hub) subscribe(keys []store.Key) *Subscription {
	s := &Subscription{keys: keys, changed: make(chan struct{}, 1), pending: map[store.Key]store.Count{}}
	h.mu.Lock()
	for _, key := range keys {
		w := h.watched[key]
		if w == nil {
			w = &watch{by: map[*Subscription]bool{}}
			h.watched[key] = w
		}
		w.by[s] = false
	}
	if !h.started && h.ctx.Err() == nil {
		h.started = true
		go h.run()
	}
	h.mu.Unlock()
	h.wakeup()
	return s
}

func (h *hub) unsubscribe(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range s.keys {
		if w := h.watched[key]; w != nil {
			delete(w.by, s)
			if len(w.by) == 0 {
				delete(h.watched, key)
			}
		}
	}
}

// wakeup asks for a poll before its time, and does not wait for it.
func (h *hub) wakeup() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// close ends all that watch.
func (h *hub) close() {
	h.mu.Lock()
	h.stop()
	started := h.started
	h.mu.Unlock()
	if started {
		<-h.done
	}
}

// run polls until close, and rests while no key is watched.
func (h *hub) run() {
	defer close(h.done)
	failing := false
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-pause.C:
		}
		keys := h.keys()
		if len(keys) == 0 {
			select {
			case <-h.ctx.Done():
				return
			case <-h.wake:
			}
			pause.Reset(0)
			continue
		}
		err := h.poll(keys)
		switch {
		case h.ctx.Err() != nil:
			return
		case err != nil && !failing:
			h.log.Error("the counts that are watched can't be read; trying again every second", "keys", len(keys), "error", err)
		case err == nil && failing:
			h.log.Info("the counts that are watched are read again", "keys", len(keys))
		}
		if failing = err != nil; failing {
			pause.Reset(pollAgain)
			continue
		}
		h.rest(pause)
	}
}

// rest waits for the next poll's time, or a shorter one after wakeup.
func (h *hub) rest(pause *time.Timer) {
	began := time.Now()
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	select {
	case <-h.ctx.Done():
	case <-timer.C:
		pause.Reset(0)
		return
	case <-h.wake:
	}
	pause.Reset(max(0, pollSoonest-time.Since(began)))
}

func (h *hub) keys() []store.Key {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := make([]store.Key, 0, len(h.watched))
	for key := range h.watched {
		keys = append(keys, key)
	}
	return keys
}

// poll reads keys, and tells those who watch them what is new.
func (h *hub) poll(keys []store.Key) error {
	for len(keys) > 0 {
		n := min(len(keys), pollKeys)
		ctx, cancel := context.WithTimeout(h.ctx, 10*time.Second)
		counts, err := h.counts(ctx, keys[:n])
		cancel()
		if err != nil {
			return err
		}
		h.publish(counts)
		keys = keys[n:]
	}
	return nil
}

// publish hands what is new to those who watch it.
func (h *hub) publish(counts []store.Count) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polls++
	for _, c := range counts {
		w := h.watched[c.Key]
		if w == nil {
			continue // it is not watched any more
		}
		news := !w.known || w.last != c
		w.last, w.known = c, true
		for s, told := range w.by {
			if news || !told {
				w.by[s] = true
				s.put(c)
			}
		}
	}
}

func (s *Subscription) put(c store.Count) {
	s.mu.Lock()
	s.pending[c.Key] = c
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Changed returns a channel that holds something while there is something to take.
func (s *Subscription) Changed() <-chan struct{} { return s.changed }

// Take returns what has changed since it was last called, in the order in
// which the keys were given.
func (s *Subscription) Take() (counts []store.Count) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.keys {
		if c, ok := s.pending[key]; ok {
			counts = append(counts, c)
			delete(s.pending, key)
		}
	}
	return counts
}
