package live

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// pollAgain is the pause after the database did not answer.
const pollAgain = time.Second

// hub tells the watchers of a topic that it has changed. It reads the watched
// topics again and again and compares: so a begin, an end, a
// grant that is given, revoked or expires, and a change of policy are all noticed alike.
//
// A count that is read is exact in its snapshot, for every writer: this
// instance, another one, or the application itself by way of a trigger. It
// works through a pooler in transaction mode, and writers pay nothing for it;
// a NOTIFY takes a lock of the whole database at each commit, needs a session,
// and says nothing on SQLite. What it costs doesn't depend on how much is
// written, but on how much is watched.
type hub struct {
	read func(ctx context.Context, topics []Topic) ([]State, error)
	pace pace
	log  *slog.Logger
	wake chan struct{} // the program has written, or a watch has begun
	ctx  context.Context
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	started bool
	watched map[Topic]*watch

	slowAt time.Time // slow topics rest until then; run's own
}

// watch is a topic that is watched.
type watch struct {
	last  State
	known bool
	by    map[*Subscription]bool // whether it was told the last one

	fresh bool      // a watcher has come since it was last read
	slow  bool      // when it was last read
	due   time.Time // of a slow one: the sooner, the earlier it is read again
	err   error     // of its last reading
}

// Subscription is one watcher of some topics. What has changed of each is
// kept until it is taken, the last value alone: a slow reader costs no more
// memory than a fast one, and misses only what was overtaken.
type Subscription struct {
	topics  []Topic
	changed chan struct{} // holds something while there is something to take

	mu      sync.Mutex
	pending map[Topic]State
}

func newHub(read func(context.Context, []Topic) ([]State, error), pace pace, log *slog.Logger) *hub {
	h := &hub{read: read, pace: pace, log: log, wake: make(chan struct{}, 1), done: make(chan struct{}), watched: map[Topic]*watch{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// subscribe begins to watch topics. The first poll that follows tells them all, unless
// new ones are slow to read: the others are then told in the next polls.
func (h *hub) subscribe(topics []Topic) *Subscription {
	s := &Subscription{topics: topics, changed: make(chan struct{}, 1), pending: map[Topic]State{}}
	h.mu.Lock()
	for _, topic := range topics {
		w := h.watched[topic]
		if w == nil {
			w = &watch{by: map[*Subscription]bool{}}
			h.watched[topic] = w
		}
		w.by[s], w.fresh = false, true
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
	for _, topic := range s.topics {
		if w := h.watched[topic]; w != nil {
			delete(w.by, s)
			if len(w.by) == 0 {
				delete(h.watched, topic)
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

// run polls until close, and rests while nothing is watched.
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
		topics := h.topics()
		if len(topics) == 0 {
			select {
			case <-h.ctx.Done():
				return
			case <-h.wake:
			}
			pause.Reset(0)
			continue
		}
		took, read, failed := h.poll(topics)
		if h.ctx.Err() != nil {
			return
		}
		unread, why := h.unread()
		switch {
		case unread > 0 && !failing:
			h.log.Error("counts that are watched can't be read; trying again", "counts", unread, "error", why)
		case unread == 0 && failing:
			h.log.Info("the counts that are watched are read again", "counts", len(topics))
		}
		if failing = unread > 0; failed > 0 && read == 0 {
			pause.Reset(pollAgain)
			continue
		}
		h.rest(pause, time.Duration(h.pace.share)*took)
	}
}

// rest waits for the next poll's time, or a shorter one after wakeup.
func (h *hub) rest(pause *time.Timer, least time.Duration) {
	began := time.Now()
	timer := time.NewTimer(max(h.pace.every, least))
	defer timer.Stop()
	select {
	case <-h.ctx.Done():
	case <-timer.C:
		pause.Reset(0)
		return
	case <-h.wake:
	}
	pause.Reset(max(0, max(h.pace.soonest, least)-time.Since(began)))
}

func (h *hub) topics() []Topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	topics := make([]Topic, 0, len(h.watched))
	for topic := range h.watched {
		topics = append(topics, topic)
	}
	return topics
}

// publish hands what is new to those who watch it.
func (h *hub) publish(states []State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, state := range states {
		w := h.watched[state.Topic]
		if w == nil {
			continue // it is not watched any more
		}
		news := !w.known || w.last != state
		w.last, w.known = state, true
		for s, told := range w.by {
			if news || !told {
				w.by[s] = true
				s.put(state)
			}
		}
	}
}

func (s *Subscription) put(state State) {
	s.mu.Lock()
	s.pending[state.Topic] = state
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Changed returns a channel that holds something while there is something to take.
func (s *Subscription) Changed() <-chan struct{} { return s.changed }

// Take returns what has changed since it was last called, in the order in
// which the topics were given.
func (s *Subscription) Take() (states []State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, topic := range s.topics {
		if state, ok := s.pending[topic]; ok {
			states = append(states, state)
			delete(s.pending, topic)
		}
	}
	return states
}
