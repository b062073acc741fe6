package api

import (
	"context"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/semaphore"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/live"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// Store is the part of a backend that the API needs. It is handed over as one that tries again
// what failed for a moment: the API calls each method once.
type Store interface {
	store.Store
	store.CountSearcher
}

// Limits bound what requests may cost.
type Limits struct {
	Body   int64          // bytes of a request
	Memory int64          // bytes that all requests may hold at once
	Wait   time.Duration  // for that memory
	Time   request.Limits // for a body
}

// Config configures an [API].
type Config struct {
	Store Store
	// Letters are the dead letters, and Replay takes one in again. Where Letters is
	// nil, there are no addresses for them.
	Letters webhook.Letters
	Replay  func(ctx context.Context, seq int64) (webhook.Replayed, error)
	// Grants give runs on top of limits; nil where there are no addresses for them.
	Grants store.Granter
	// Keys let in programs, which may do everything.
	Keys webhook.APIKeys
	// Users verifies signed-in users, who may read their own counts; nil where
	// only API keys are accepted.
	Users *users.Verifier
	// Origins are the web origins, such as https://app.example.com, whose pages
	// may ask for a signed-in user's counts; "*" is all of them.
	Origins []string
	// Totals says who may read the count of a workflow over all its users.
	Totals Audience
	// Decoder says which of a run's ids the table has.
	Decoder webhook.Decoder
	// Streams are told of counts as they change; nil where nothing is streamed.
	Streams *live.Streams
	Limits  Limits
	// Now is the clock.
	Now func() time.Time
	Log *slog.Logger
}

// API answers the requests below /v1. Make one with [New].
type API struct {
	cfg    Config
	memory *semaphore.Weighted
}

// New returns an API.
func New(cfg Config) *API { return &API{cfg, semaphore.NewWeighted(cfg.Limits.Memory)} }

// Routes adds its addresses to an app.
func (a *API) Routes(app *fiber.App) {
	a.allowOrigins(app)
	v1 := app.Group("/v1", a.admit)
	v1.Get("/counts", query(a.getCount, countQuery[:]...))
	v1.Get("/counts/stream", a.streamCounts)
	v1.Get("/users/:user/counts", a.getUserCounts)
	v1.Get("/allowance", query(a.getAllowance, allowanceQuery[:]...))
	v1.Get("/allowance/stream", query(a.streamAllowance, allowanceQuery[:]...))
	v1.Use(keyOnly) // what follows is for API keys alone
	v1.Post("/runs", a.object(a.beginRun, "id", "user_id", "workflow_id", "draft_id", "limit", "limits", "idempotency_key"))
	v1.Get("/runs/:id", a.getRun)
	v1.Post("/runs/:id/start", a.object(a.startRun))
	v1.Post("/runs/:id/complete", a.object(a.completeRun, "status", "duration_ms", "error_details", "state_snapshot"))
	v1.Post("/runs/:id/amend", a.object(a.amendRun, "status", "reason", "who"))
	if a.cfg.Grants != nil {
		a.routeGrants(v1)
	}
	if a.cfg.Letters != nil {
		a.routeLetters(v1)
	}
}
