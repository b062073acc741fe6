package server

import (
	"context"
	"errors"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/internal/version"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
)

// readyFor is the time for which an answer of the database is good, and what is
// degraded: a load balancer that asks often must not become load itself.
const readyFor = time.Second

// home says what this is to a person who opens the address.
func home(c *fiber.Ctx) error {
	return c.SendString(`Run Counter counts workflow runs.

Send database webhooks for workflow_runs to POST /webhooks/workflow-runs
(or, in place of an Edge Function, to POST /functions/v1/run-counter).
Ask for a count at GET /v1/counts?user_id=…&workflow_id=…
All requests, as OpenAPI 3.1: /openapi.json
Health: /livez, /readyz, /metrics
`)
}

// livez says that the process serves, and which build it is.
func livez(c *fiber.Ctx) error {
	return c.SendString("ok\nruncounter " + version.This().String() + "\n")
}

// readyz says whether deliveries can be taken, and to those who may know it
// also what is not as it should be.
func (s *Server) readyz(c *fiber.Ctx) error {
	state := struct {
		Ready    bool     `json:"ready"`
		Degraded []string `json:"degraded"`
	}{true, s.degraded()}
	if s.isLeaving() {
		state.Ready = false
		state.Degraded = append(state.Degraded, "The server is shutting down.")
	}
	if what := s.away(); what != "" {
		state.Ready = false
		state.Degraded = append(state.Degraded, what)
	}
	status := fiber.StatusOK
	if !state.Ready {
		status = fiber.StatusServiceUnavailable
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	if !s.mayWatch(c) {
		return answer.JSON(c, status, struct {
			Ready bool `json:"ready"`
		}{state.Ready})
	}
	return answer.JSON(c, status, state)
}

// away says why the database can't be used; nothing where it can.
func (s *Server) away() string {
	err := s.ping()
	if trouble, ok := errors.AsType[*store.StorageFault](err); ok {
		return trouble.What
	}
	if err != nil {
		return "The database does not answer; see the log."
	}
	return ""
}

// degraded lists what works, but not as it should.
func (s *Server) degraded() []string {
	list := s.unsound()
	if s.cfg.Sweeper != nil {
		list = append(list, s.cfg.Sweeper.Degraded()...)
	}
	return list
}

// unsound lists what is not as it should be in the settings and in what was sent.
func (s *Server) unsound() []string {
	list := []string{}
	if s.cfg.Secrets.IsZero() {
		list = append(list, "No webhook secret is set: any process on this machine can change the counts. Set RUNCOUNTER_WEBHOOK_SECRET.")
	}
	if s.keys.IsZero() {
		list = append(list, "No API key is set: any process on this machine can read and change runs. Set RUNCOUNTER_API_KEY.")
	}
	list = append(list, s.receiver.Degraded()...)
	if s.cfg.Degraded != nil {
		reported, _ := s.reported.Get(s.cfg.Now, readyFor, 0, func() ([]string, error) { return s.cfg.Degraded(), nil })
		list = append(list, reported...)
	}
	return list
}

// ping asks the database at most once a second, and for two seconds at most. That
// one who asks had to wait is no reason to hear later of what has changed.
func (s *Server) ping() error {
	_, err := s.ready.Get(s.cfg.Now, readyFor, 0, func() (struct{}, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		before, err := s.ready.Before(), s.cfg.Store.Ping(ctx)
		if err != nil && before == nil {
			s.cfg.Log.Error("the database does not answer", "error", err)
		}
		if err == nil && before != nil {
			s.cfg.Log.Info("the database answers again")
		}
		return struct{}{}, err
	})
	return err
}
