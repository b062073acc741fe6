package api

import (
	"cmp"
	"errors"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// makeGrant answers POST /v1/grants.
func (a *API) makeGrant(c *fiber.Ctx, f *fields) error {
	g := store.GrantRequest{
		User: f.id("user_id"), Workflow: f.id("workflow_id"), Draft: f.id("draft_id"),
		Who: f.line("who", request.MaxReason), Why: f.line("why", request.MaxReason),
		ExpiresAt: store.Instant(f.time("expires_at")), IdempotencyKey: f.idempotencyKey(c), Now: store.Instant(a.cfg.Now()),
	}
	if runs := f.number("runs"); runs != nil {
		g.Runs = *runs
	}
	var err error
	g.User, g.Workflow, err = a.cfg.Decoder.Complete(g.User, g.Workflow, g.Draft)
	f.err = cmp.Or(f.err, err)
	if g.User.IsZero() {
		f.requiredID("user_id")
	}
	f.refuse(g.Validate())
	if f.err != nil {
		return f.err
	}
	made, err := a.cfg.Grants.Grant(c.UserContext(), g)
	if errors.Is(err, store.ErrConflict) {
		return problem.OtherGrant()
	}
	if expired := g.ValidateExpiry(); expired != nil && errors.Is(err, store.ErrInvalid) {
		return problem.Refused(expired)
	}
	if g.IdempotencyKey == "" && errors.Is(err, store.ErrUnavailable) {
		return problem.UnknownGrant().Because(err)
	}
	if err != nil {
		return err
	}
	if made.Created {
		a.cfg.Log.Info("runs were granted", "request", answer.RequestID(c), "grant", made.Grant.Seq, "of", made.Grant.Of.String(), "runs", made.Grant.Runs, "who", g.Who, "why", g.Why)
	}
	return answer.JSON(c, fiber.StatusCreated, MadeGrant{GrantOf(made.Grant, g.Now), made.Created})
}

// getGrants answers GET /v1/grants, a page at a time, latest first.
func (a *API) getGrants(c *fiber.Ctx, f *fields) error {
	q := store.GrantQuery{Limit: f.pageSize() + 1} // one more than asked says whether there is a next page
	if before := f.number("before"); before != nil {
		q.Before = *before
	}
	draft := f.id("draft_id")
	user, workflow := f.id("user_id"), f.id("workflow_id")
	if f.has("user_id") || f.has("workflow_id") || f.has("draft_id") {
		var err error
		user, workflow, err = a.cfg.Decoder.Complete(user, workflow, draft)
		f.err = cmp.Or(f.err, err)
		if q.Of = store.ScopeOf(user, workflow, draft); user.IsZero() {
			f.fail("A grant is a user's: add user_id to the query.")
		}
	}
	if f.err != nil {
		return f.err
	}
	grants, err := a.cfg.Grants.Grants(c.UserContext(), q)
	if err != nil {
		return err
	}
	grants, next := PageOf(grants, q.Limit-1, func(g store.Grant) int64 { return g.Seq })
	return answer.JSON(c, fiber.StatusOK, GrantPage{GrantsOf(grants, a.cfg.Now()), next})
}

// revokeGrant answers POST /v1/grants/{id}/revoke. That it was revoked before is a
// result: the answer has who did so.
func (a *API) revokeGrant(c *fiber.Ctx, f *fields) error {
	seq, err := request.PathSeq(c, "grant", "/v1/grants")
	if err != nil {
		return err
	}
	r := store.RevokeRequest{Seq: seq, Who: f.line("who", request.MaxReason), Why: f.line("why", request.MaxReason), Now: store.Instant(a.cfg.Now())}
	f.refuse(r.Validate())
	if f.err != nil {
		return f.err
	}
	g, err := a.cfg.Grants.RevokeGrant(c.UserContext(), r)
	if errors.Is(err, store.ErrNotFound) {
		return problem.NoGrant()
	}
	if err != nil {
		return err
	}
	a.cfg.Log.Info("a grant was revoked", "request", answer.RequestID(c), "grant", g.Seq, "who", g.RevokedBy, "why", g.RevokedWhy)
	return answer.JSON(c, fiber.StatusOK, GrantOf(g, r.Now))
}
