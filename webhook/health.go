package webhook

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
)

// readyFor is how long an answer of the database is good for: a load balancer
// that asks often must not become load itself.
const readyFor = time.Second

// readiness remembers the last answer to a ping.
type readiness struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// home says what this is to whoever opens the address.
func home(c *fiber.Ctx) error {
	return c.SendString(`Run Counter counts workflow runs.

Send database webhooks for workflow_runs to POST /webhooks/workflow-runs
(or, in place of an Edge Function, to POST /functions/v1/run-counter).
Ask for a count at GET /v1/counts?user_id=…&workflow_id=…
Health: /livez, /readyz, /metrics
`)
}

// livez says that the process serves.
func livez(c *fiber.Ctx) error { return c.SendString("ok\n") }

// readyz says whether deliveries can be taken, and what is not as it should be.
func (s *Server) readyz(c *fiber.Ctx) error {
	answer := struct {
		Ready    bool     `json:"ready"`
		Degraded []string `json:"degraded"`
	}{true, s.degraded()}
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing {
		answer.Ready = false
		answer.Degraded = append(answer.Degraded, "The server is shutting down.")
	}
	if err := s.ping(); err != nil {
		answer.Ready = false
		what := "The database does not answer; see the log."
		if trouble, ok := errors.AsType[*store.Trouble](err); ok {
			what = trouble.What
		}
		answer.Degraded = append(answer.Degraded, what)
	}
	status := fiber.StatusOK
	if !answer.Ready {
		status = fiber.StatusServiceUnavailable
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return writeJSON(c, status, answer)
}

// degraded lists what works, but not as it should: nothing that helps a
// stranger, who may read it.
func (s *Server) degraded() []string {
	list := []string{}
	if s.cfg.Secrets.IsZero() {
		list = append(list, "No webhook secret is set: whoever is on this machine can change the counts. Set RUNCOUNTER_WEBHOOK_SECRET.")
	}
	if len(s.keys.sums) == 0 {
		list = append(list, "No API key is set: whoever is on this machine can read and change runs. Set RUNCOUNTER_API_KEY.")
	}
	list = append(list, s.losses.degraded()...)
	if s.cfg.Degraded != nil {
		list = append(list, s.cfg.Degraded()...)
	}
	return list
}

// ping asks the database at most once a second, and for two seconds at most.
func (s *Server) ping() error {
	s.ready.mu.Lock()
	defer s.ready.mu.Unlock()
	now := s.cfg.Now()
	if age := now.Sub(s.ready.at); !s.ready.at.IsZero() && age >= 0 && age < readyFor {
		return s.ready.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	before := s.ready.err
	s.ready.err = s.cfg.Store.Ping(ctx)
	s.ready.at = s.cfg.Now()
	if s.ready.err != nil && before == nil {
		s.cfg.Log.Error("the database does not answer", "error", s.ready.err)
	}
	if s.ready.err == nil && before != nil {
		s.cfg.Log.Info("the database answers again")
	}
	return s.ready.err
}
