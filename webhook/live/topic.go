package live

import (
	"context"
	"errors"

	"github.com/edgaze-ai/runcounter/store"
)

// Topic is what is watched: the count of a scope in a window, or, where it has limits,
// how far the scope's key has used these.
type Topic struct {
	Of     store.Scope
	In     store.Window
	Limits [2]store.Limit // those with a scope
}

// CountOf returns the topic of a key's count for all time.
func CountOf(key store.Key) Topic { return Topic{Of: key.Scope()} }

// AllowanceOf returns the topic of an allowance. The request has one limit or two.
func AllowanceOf(a store.AllowanceRequest) Topic {
	t := Topic{Of: a.Key().Scope()}
	copy(t.Limits[:], a.Limits)
	return t
}

// State is a topic as it is in one snapshot.
type State struct {
	Topic  Topic
	Count  store.Count
	Usages [2]store.Usage // of the limits
}

// Used returns how far the topic's limits are used.
func (s State) Used() []store.Usage { return s.Usages[:len(s.Topic.limits())] }

func (t Topic) limits() []store.Limit {
	n := 0
	for n < len(t.Limits) && t.Limits[n].Scope != "" {
		n++
	}
	return t.Limits[:n]
}

// ofKey reports whether this is the count of a key for all time: thousands of these
// are read by one statement, all others one by one.
func (t Topic) ofKey() bool {
	_, one := t.Of.Key()
	return one && t.In == store.AllTime && t.Limits[0].Scope == ""
}

// weight is what a topic takes of the counts that may be watched at once, by the time
// that it takes to read: a count by itself takes as long as [weightAlone] together.
func (t Topic) weight() int {
	if t.ofKey() {
		return 1
	}
	return weightAlone
}

const weightAlone = 20

// readKeys reads the counts of keys, by one statement.
func (c Config) readKeys(ctx context.Context, topics []Topic) ([]State, error) {
	keys := make([]store.Key, len(topics))
	for i, t := range topics {
		keys[i] = store.Key(t.Of)
	}
	counts, err := c.Counts(ctx, keys)
	states := make([]State, 0, len(counts))
	for _, count := range counts {
		states = append(states, State{Topic: CountOf(count.Key), Count: count})
	}
	return states, err
}

// readEach reads topics one by one, until the first error. One that can't be read any
// more, since its index was dropped, stays as it was, and is no error. The hub asks for
// one topic at a time, so that an error or a timeout is of this one alone.
func (c Config) readEach(ctx context.Context, topics []Topic) (states []State, err error) {
	for _, t := range topics {
		s, err := c.read(ctx, t)
		switch {
		case errors.Is(err, store.ErrInvalid):
		case err != nil:
			return nil, err
		default:
			states = append(states, s)
		}
	}
	return states, nil
}

// read reads one topic.
func (c Config) read(ctx context.Context, t Topic) (State, error) {
	s := State{Topic: t}
	limits := t.limits()
	if len(limits) == 0 {
		count, err := c.Count(ctx, t.Of, t.In)
		s.Count = count
		return s, err
	}
	usages, err := c.Allowance(ctx, store.AllowanceRequest{
		User: t.Of.User, Workflow: store.Key(t.Of).Workflow(), Draft: store.Key(t.Of).Draft(), Limits: limits, Now: store.Instant(c.Now()),
	})
	copy(s.Usages[:], usages)
	return s, err
}
