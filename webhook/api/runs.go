package api

import (
	"cmp"
	"context"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// maxIdempotencyKey bounds an idempotency key, in bytes.
const maxIdempotencyKey = 255

// getRun answers GET /v1/runs/{id}.
func (a *API) getRun(c *fiber.Ctx, _ *fields) error {
	id, err := request.PathID(c, "id", "id of the run")
	if err != nil {
		return err
	}
	return a.withRun(c, func(ctx context.Context) (store.Run, error) { return a.cfg.Store.Run(ctx, id) })
}

// withRun answers with the run that a call of the store returns.
func (a *API) withRun(c *fiber.Ctx, call func(context.Context) (store.Run, error)) error {
	r, err := call(c.UserContext())
	if err != nil {
		return err
	}
	return answer.JSON(c, fiber.StatusOK, RunOf(r))
}

// beginRun answers POST /v1/runs.
func (a *API) beginRun(c *fiber.Ctx, f *fields) error {
	b := store.Begin{
		ID: f.id("id"), User: f.id("user_id"), Workflow: f.id("workflow_id"), Draft: f.id("draft_id"),
		IdempotencyKey: f.idempotencyKey(c),
		Now:            store.Instant(a.cfg.Now()),
	}
	b.Limits = f.limits(b.Now)
	var err error
	b.User, b.Workflow, err = a.cfg.Decoder.Complete(b.User, b.Workflow, b.Draft)
	f.err = cmp.Or(f.err, err)
	if b.User.IsZero() {
		f.requiredID("user_id")
	}
	if f.err == nil && b.Key().IsZero() {
		f.fail("Say what runs: send workflow_id or draft_id.")
	}
	if f.err != nil {
		return f.err
	}
	drawn := b.ID.IsZero()
	if drawn {
		b.ID, b.AnyID = store.NewID(), true
	}
	begun, err := a.cfg.Store.Begin(c.UserContext(), b)
	if err != nil {
		return err
	}
	if begun.LimitReached {
		return limitReached(begun)
	}
	// A try whose commit got lost on its way back created it, too.
	created := begun.Created || drawn && begun.Run.ID == b.ID
	c.Location("/v1/runs/" + url.PathEscape(begun.Run.ID.String()))
	return answer.JSON(c, fiber.StatusCreated, BegunRun{RunOf(begun.Run), created, problem.UsagesOf(begun.Usages)})
}

// idempotencyKey reads the key of a request that may be sent again, a header or a
// member.
func (f *fields) idempotencyKey(c *fiber.Ctx) string {
	key := f.line("idempotency_key", maxIdempotencyKey)
	// The header is only valid inside the handler, the key may outlive it.
	header := f.short("The header Idempotency-Key", strings.Clone(c.Get("Idempotency-Key")), maxIdempotencyKey)
	if key != "" && header != "" && key != header {
		f.fail("The header Idempotency-Key and the field idempotency_key differ. Send one of them.")
	}
	return cmp.Or(header, key)
}

// startRun answers POST /v1/runs/{id}/start.
func (a *API) startRun(c *fiber.Ctx, _ *fields) error {
	id, err := request.PathID(c, "id", "id of the run")
	if err != nil {
		return err
	}
	now := store.Instant(a.cfg.Now())
	return a.withRun(c, func(ctx context.Context) (store.Run, error) { return a.cfg.Store.Start(ctx, id, now) })
}

// completeRun answers POST /v1/runs/{id}/complete, with 200 whether the call
// won or lost.
func (a *API) completeRun(c *fiber.Ctx, f *fields) error {
	id, err := request.PathID(c, "id", "id of the run")
	if err != nil {
		return err
	}
	completion := store.Completion{ID: id, Now: store.Instant(a.cfg.Now()), Outcome: store.Outcome{
		Status:       f.status("status"),
		ErrorDetails: f.json("error_details"),
		Snapshot:     f.json("state_snapshot"),
	}}
	if ms := f.number("duration_ms"); ms != nil {
		completion.Outcome.DurationMS = store.MillisOf(*ms)
	}
	if f.err != nil {
		return f.err
	}
	result, err := a.cfg.Store.Complete(c.UserContext(), completion)
	if err != nil {
		return err
	}
	return answer.JSON(c, fiber.StatusOK, CompletedRunOf(result))
}

// amendRun answers POST /v1/runs/{id}/amend.
func (a *API) amendRun(c *fiber.Ctx, f *fields) error {
	id, err := request.PathID(c, "id", "id of the run")
	if err != nil {
		return err
	}
	amend := store.AmendRequest{
		ID: id, Now: store.Instant(a.cfg.Now()),
		Status: f.status("status"),
		Who:    f.line("who", request.MaxReason),
		Why:    f.line("reason", request.MaxReason),
	}
	switch {
	case f.err != nil:
		return f.err
	case amend.Who == "" || amend.Why == "":
		return problem.New(fiber.StatusBadRequest, "An amendment is logged with who decided and why: send both who and reason.")
	}
	return a.withRun(c, func(ctx context.Context) (store.Run, error) { return a.cfg.Store.Amend(ctx, amend) })
}
