package live

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

func allOf(n byte) Topic { return Topic{Of: store.Scope{User: store.UUID([16]byte{n})}} }

// wantTold waits until a watcher is told that a topic's count is n.
func wantTold(t *testing.T, s *Subscription, topic Topic, n int64) {
	t.Helper()
	for {
		wait.For(t, "a change is told", s.Changed())
		if slices.Contains(s.Take(), stateOf(topic, n)) {
			return
		}
	}
}

// One user's totals that time out or fail keep another user's from being told. Law 8.
func TestCaseLaw8_ATopicThatTimesOutOrFailsKeepsNoOtherFromBeingTold(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(context.Context) error{
		"one that times out": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"one that fails":     func(context.Context) error { return errors.New("out of memory") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var now, failed atomic.Int64
			log := &webhooktest.Log{}
			s := New(Config{
				Count: func(ctx context.Context, of store.Scope, _ store.Window) (store.Count, error) {
					if of != allOf(1).Of {
						defer failed.Add(1)
						return store.Count{}, bad(ctx)
					}
					return store.Count{Count: now.Load()}, nil
				},
				Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: prometheus.NewRegistry(),
			})
			defer s.Close()
			theirs := s.others.subscribe([]Topic{allOf(2), allOf(3)})
			mine := s.others.subscribe([]Topic{allOf(1)})
			for n := range int64(10) {
				now.Store(n)
				wantTold(t, mine, allOf(1), n)
			}
			wait.Until(t, "both are tried", func() bool { return failed.Load() > 1 })
			now.Store(10)
			wantTold(t, mine, allOf(1), 10)
			if got := theirs.Take(); len(got) > 0 {
				t.Errorf("told %+v of what can't be read", got)
			}
			s.others.unsubscribe(theirs)
			wait.Until(t, "all is well again", func() bool { return strings.Contains(log.String(), "are read again") })
			if n := strings.Count(log.String(), "can't be read"); n != 1 {
				t.Errorf("logged %d times, want once:\n%s", n, log)
			}
		})
	}
}

// pollOf returns a hub that reads one topic at a time by read, and the order in which it
// did. A reading that takes slow or fails makes a topic slow; 0 means none.
func pollOf(slow time.Duration, read func(context.Context, Topic) error) (*hub, *[]Topic) {
	var order []Topic
	h := newHub(func(ctx context.Context, topics []Topic) (states []State, err error) {
		for _, topic := range topics {
			order = append(order, topic)
			err = errors.Join(err, read(ctx, topic))
			states = append(states, stateOf(topic, 1))
		}
		return states, err
	}, pace{at: 1, within: time.Hour, slow: slow, share: aloneShare}, slog.New(slog.DiscardHandler))
	return h, &order
}

// watching makes a hub watch a topic without a poll of its own.
func watching(h *hub, topic Topic, w watch) *Subscription {
	s := &Subscription{topics: []Topic{topic}, changed: make(chan struct{}, 1), pending: map[Topic]State{}}
	w.by = map[*Subscription]bool{s: false}
	h.watched[topic] = &w
	return s
}

func TestAQuickTopicIsToldWhileASlowOneOfTheSamePollIsRead(t *testing.T) {
	t.Parallel()
	quick, fresh, slow := allOf(3), allOf(2), allOf(1)
	var told []*Subscription
	h, order := pollOf(time.Hour, func(_ context.Context, topic Topic) error {
		for _, s := range told {
			if topic == slow && len(s.Changed()) == 0 {
				t.Error("the slow topic is read before the others are told")
			}
		}
		return nil
	})
	watching(h, slow, watch{slow: true})
	told = []*Subscription{watching(h, fresh, watch{fresh: true}), watching(h, quick, watch{})}
	h.poll([]Topic{slow, fresh, quick})
	if want := []Topic{quick, fresh, slow}; !slices.Equal(*order, want) {
		t.Errorf("read %v, want %v", *order, want)
	}
}

// The slow ones take turns, and those that fail rest for a second. The others are read
// meanwhile.
func TestSlowTopicsRestBetweenTheirTurns(t *testing.T) {
	t.Parallel()
	quick, failing := allOf(1), allOf(2)
	h, order := pollOf(time.Hour, func(_ context.Context, topic Topic) error {
		if topic == failing {
			return errors.New("out of memory")
		}
		return nil
	})
	watching(h, quick, watch{})
	watching(h, failing, watch{slow: true})
	began := time.Now()
	for range 3 {
		h.poll([]Topic{failing, quick})
	}
	if want := []Topic{quick, failing, quick, quick}; !slices.Equal(*order, want) {
		t.Errorf("read %v, want %v", *order, want)
	}
	if rest := h.slowAt.Sub(began); rest < pollAgain {
		t.Errorf("a failing topic rests for %s, want %s", rest, pollAgain)
	}
	h.slowAt = time.Time{}
	h.poll([]Topic{failing})
	if n := len(*order); n != 5 {
		t.Errorf("%d readings, want the failing topic tried again after its rest", n)
	}
}

// A turn ends with the reading that exceeds it: of many slow topics, watched or new, one
// poll reads a few. The next one that is read is the one that is due.
func TestATurnOfSlowTopicsEnds(t *testing.T) {
	t.Parallel()
	late := func(ctx context.Context, _ Topic) error {
		ctx, stop := context.WithTimeout(ctx, slowTurn)
		defer stop()
		<-ctx.Done()
		return nil
	}
	topics := []Topic{allOf(1), allOf(2), allOf(3)}
	for name, fresh := range map[string]bool{"slow ones": false, "new ones": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, order := pollOf(time.Nanosecond, late)
			now := time.Now()
			for n, topic := range topics {
				watching(h, topic, watch{fresh: fresh, slow: !fresh, due: now.Add(-time.Duration(n) * time.Second)})
			}
			if took, _, _ := h.poll(topics); took != 0 {
				t.Errorf("%s of it are held against quick topics", took)
			}
			if len(*order) != 1 {
				t.Fatalf("one poll read %d of them, want 1", len(*order))
			}
			if got := (*order)[0]; !fresh && got != topics[2] {
				t.Errorf("read %v first, want the one that is due", got)
			}
			if rest := h.slowAt.Sub(now); !fresh && rest < (1+aloneShare)*slowTurn {
				t.Errorf("slow topics rest for %s after a turn of %s, want %d times as long", rest, slowTurn, aloneShare)
			}
			w := h.watched[(*order)[0]]
			if !w.slow || w.fresh || w.due.Sub(now) < slowWait*slowTurn {
				t.Errorf("noted %+v, want it slow and due after %s", w, slowWait*slowTurn)
			}
		})
	}
}

// Who begins to watch a topic that is slow is told without waiting for its turn.
func TestANewWatcherOfASlowTopicIsToldInTheNextPoll(t *testing.T) {
	t.Parallel()
	h, _ := pollOf(time.Hour, func(context.Context, Topic) error { return nil })
	h.started, h.slowAt = true, time.Now().Add(time.Hour)
	watching(h, allOf(1), watch{slow: true})
	s := h.subscribe([]Topic{allOf(1)})
	h.poll(h.topics())
	if got := s.Take(); len(got) != 1 {
		t.Errorf("told %v, want the topic", got)
	}
}

// A statement of many keys that fails keeps those of another statement neither from
// being told nor from their pace: only where all fail is there a pause.
func TestAStatementThatFailsKeepsNoOtherKeysFromBeingTold(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	h := newHub(func(_ context.Context, topics []Topic) ([]State, error) {
		if topics[0] == hubKey(1) {
			return nil, errors.New("no route")
		}
		return []State{stateOf(topics[0], now.Load())}, nil
	}, pace{at: 1, within: pollWithin, every: time.Millisecond}, slog.New(slog.DiscardHandler))
	defer h.close()
	s := h.subscribe([]Topic{hubKey(1), hubKey(2)})
	began := time.Now()
	for n := range int64(10) {
		now.Store(n)
		wantTold(t, s, hubKey(2), n)
	}
	if took := time.Since(began); took > 5*pollAgain {
		t.Errorf("10 changes took %s, as if nothing could be read", took)
	}
}

// Where nothing can be read, it is tried again after a second.
func TestAPollThatReadsNothingIsFollowedByAPause(t *testing.T) {
	t.Parallel()
	tries := make(chan time.Time, 100)
	h := newHub(func(context.Context, []Topic) ([]State, error) {
		tries <- time.Now()
		return nil, errors.New("no route")
	}, pace{at: 1, within: pollWithin, every: time.Millisecond}, slog.New(slog.DiscardHandler))
	defer h.close()
	h.subscribe([]Topic{hubKey(1)})
	first := wait.For(t, "a try", tries)
	if pause := wait.For(t, "another", tries).Sub(first); pause < pollAgain {
		t.Errorf("tried again after %s, want %s", pause, pollAgain)
	}
}
