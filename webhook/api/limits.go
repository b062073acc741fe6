package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// limits reads the limits of a run: the number limit, which is one of its key for all
// time, or the array limits.
func (f *fields) limits(now time.Time) (limits []store.Limit) {
	limit := f.number("limit")
	switch {
	case limit != nil && f.has("limits"):
		f.fail("limit is the short form of limits: send one of them.")
	case limit != nil:
		limits = store.UpTo(*limit)
	case f.has("limits"):
		limits = f.limitList()
	}
	if f.err == nil {
		f.refuse(store.ValidateLimits(limits, now))
	}
	return limits
}

// limitList reads the array limits. An empty one is refused, like a typo: it would let
// a run begin without a limit.
func (f *fields) limitList() (limits []store.Limit) {
	var list []json.RawMessage
	if err := json.Unmarshal(f.in["limits"], &list); err != nil || len(list) == 0 {
		f.fail(`limits must be an array such as [{"scope": "key", "max": 10}, {"scope": "user", "max": 500, "from": "2026-11-01T00:00:00Z"}]. Leave it out for none.`)
		return nil
	}
	for i, raw := range list {
		one := &fields{known: limitMembers}
		if raw = bytes.TrimSpace(raw); raw[0] == '{' {
			one = objectOf(raw, limitMembers)
		} else {
			one.fail("it is not an object.")
		}
		l := store.Limit{Scope: store.LimitScope(one.choice("scope", string(store.KeyLimit), string(store.UserLimit))), From: store.Instant(one.time("from"))}
		if most := one.number("max"); most != nil {
			l.Max = *most
		} else {
			one.fail("max is missing. Send the number of runs.")
		}
		if l.Scope == "" {
			one.fail("scope is missing. Send key or user.")
		}
		if one.err != nil {
			f.fail("limits[%d]: %s", i, one.err)
			return nil
		}
		limits = append(limits, l)
	}
	return limits
}

// refuse keeps an error of a rule of the store, if there is one.
func (f *fields) refuse(err error) {
	if err != nil && f.err == nil {
		f.err = problem.Refused(err)
	}
}

// limitReached says which limit leaves no slot.
func limitReached(begun store.BeginResult) error {
	u := begun.Reached()
	var what strings.Builder
	what.WriteString("Limit")
	if u.Limit.Scope == store.UserLimit {
		what.WriteString(" of the user")
	}
	fmt.Fprintf(&what, " reached (%d", u.Limit.Max)
	if u.Granted > 0 {
		fmt.Fprintf(&what, ", and %d granted", u.Granted)
	}
	what.WriteString(")")
	if !u.Limit.From.IsZero() {
		fmt.Fprintf(&what, " since %s", answer.Instant(u.Limit.From))
	}
	p := problem.New(fiber.StatusConflict, fmt.Sprintf("%s: %d counted, %d active. "+
		"Nothing was created; try again when an active run has ended without counting, or with a higher limit.", &what, u.Counted, u.Active))
	p.Code, p.Count, p.Active, p.Limit, p.Limits = "limit_reached", &u.Counted, &u.Active, &u.Limit.Max, problem.UsagesOf(begun.Usages)
	return p
}

// getAllowance answers GET /v1/allowance.
func (a *API) getAllowance(c *fiber.Ctx, f *fields) error {
	asked, err := a.allowance(c, f)
	if err != nil {
		return err
	}
	usages, err := a.cfg.Store.Allowance(c.UserContext(), asked)
	if err != nil {
		return err
	}
	return answer.JSON(c, fiber.StatusOK, AllowanceOf(usages))
}

// allowance reads which limits are asked for, and refuses another user's.
func (a *API) allowance(c *fiber.Ctx, f *fields) (asked store.AllowanceRequest, err error) {
	asked = store.AllowanceRequest{User: f.id("user_id"), Workflow: f.id("workflow_id"), Draft: f.id("draft_id"), Now: store.Instant(a.cfg.Now())}
	from, userFrom := f.time("from"), f.time("user_from")
	if userFrom.IsZero() {
		userFrom = from
	}
	for _, l := range [...]struct {
		name  string
		scope store.LimitScope
		from  time.Time
	}{{"limit", store.KeyLimit, from}, {"user_limit", store.UserLimit, userFrom}} {
		if most := f.number(l.name); most != nil {
			asked.Limits = append(asked.Limits, store.Limit{Scope: l.scope, Max: *most, From: store.Instant(l.from)})
		}
	}
	asked.User, asked.Workflow, err = a.cfg.Decoder.Complete(asked.User, asked.Workflow, asked.Draft)
	if err := cmp.Or(f.err, err); err != nil {
		return asked, err
	}
	who := callerOf(c)
	if asked.User.IsZero() {
		asked.User = who.user.Counts
	}
	switch {
	case asked.User.IsZero():
		f.requiredID("user_id")
	case len(asked.Limits) == 0:
		f.fail("Say which limit: add limit, that of the workflow or draft, or user_limit, that of all runs of the user.")
	case f.has("limit") && asked.Key().Ref.IsZero():
		f.fail("limit is that of a workflow or draft: add workflow_id or draft_id to the query, or send user_limit.")
	}
	f.refuse(asked.Validate())
	if f.err != nil {
		return asked, f.err
	}
	return asked, who.mayReadUser(asked.User)
}
