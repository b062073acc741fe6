package server

import (
	"context"
	"errors"
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

// errNoReader means that the backend lists nothing.
var errNoReader = errors.New("the server was configured without this")

// Health returns what the database holds that deserves a look. It asks at most
// every five seconds, for all callers together.
func (s *Server) Health() (store.Health, error) {
	if s.cfg.Reader == nil {
		return store.Health{}, errNoReader
	}
	return s.health.Get(s.cfg.Now, healthFor, healthShare, func() (store.Health, error) {
		ctx, cancel := context.WithTimeout(context.Background(), healthWithin)
		defer cancel()
		return timed(s.tries.of("health"), func() (store.Health, error) { return s.cfg.Reader.Health(ctx) })
	})
}
