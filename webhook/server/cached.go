package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// healthFor is the time for which a reading of the database's state is used, by the
	// metrics and all pages of the console together.
	healthFor = 5 * time.Second
	// healthWithin bounds the time to read it.
	healthWithin = 5 * time.Second
	// healthShare is the part of the time that may be spent on it: on a large
	// source it is a scan, and is then good for longer.
	healthShare = 10
)

// cached keeps an answer, an error too, for a time, so that those who ask often
// are no load. Calls that come meanwhile wait for the same answer. The
// zero value is ready.
type cached[T any] struct {
	mu    sync.Mutex
	asked time.Time
	until time.Time
	v     T
	err   error
}

// get returns the answer, asked for anew where the last one is older than that
// and than share times as long as it took.
func (c *cached[T]) get(now func() time.Time, most time.Duration, share int64, ask func() (T, error)) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := now()
	if !c.asked.IsZero() && !began.Before(c.asked) && began.Before(c.until) {
		return c.v, c.err
	}
	c.v, c.err = ask()
	c.asked = now()
	c.until = c.asked.Add(max(most, time.Duration(share*c.asked.Sub(began).Nanoseconds())))
	return c.v, c.err
}

// errNoReader means that the backend lists nothing.
var errNoReader = errors.New("the server was configured without this")

// Health returns what the database holds that deserves a look. It asks at most
// every five seconds, for all callers together.
func (s *Server) Health() (store.Health, error) {
	if s.cfg.Reader == nil {
		return store.Health{}, errNoReader
	}
	return s.health.get(s.cfg.Now, healthFor, healthShare, func() (store.Health, error) {
		ctx, cancel := context.WithTimeout(context.Background(), healthWithin)
		defer cancel()
		return timed(s.tries.of("health"), func() (store.Health, error) { return s.cfg.Reader.Health(ctx) })
	})
}
