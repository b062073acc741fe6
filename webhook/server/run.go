package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Run serves and sweeps until the context ends or the listener fails. Then /readyz
// answers 503 for a time of drain while requests are served still, so that a proxy sends
// them elsewhere; what was accepted is finished within another time, and the sweep that
// is under way is ended. Operators are notified as long. Stopping is called when that begins.
func (s *Server) Run(ctx context.Context, ln net.Listener, drain, finish time.Duration, stopping func()) error {
	var sweeping sync.WaitGroup
	sweepCtx, stopSweeping := context.WithCancel(ctx)
	defer sweeping.Wait()
	defer stopSweeping()
	if s.cfg.Sweeper != nil {
		sweeping.Go(func() { s.cfg.Sweeper.Run(sweepCtx, s.cfg.SweepEvery) })
	}
	if s.notifier != nil {
		sweeping.Go(func() { s.notifier.Run(sweepCtx) })
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	var ended error
	select {
	case <-ctx.Done():
		stopping()
		s.Leave()
	case ended = <-served:
	}
	end, cancel := context.WithTimeout(context.Background(), finish)
	defer cancel()
	if ended == nil {
		select {
		case <-time.After(drain):
		case ended = <-served:
		}
	}
	err := errors.Join(ended, s.Shutdown(end))
	if ended == nil {
		err = errors.Join(err, <-served)
	}
	return err
}
