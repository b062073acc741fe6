package api

import (
	"cmp"
	"encoding/base64"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// maxPage is the largest number of rows in a page, and defaultPage the one unless
// asked.
const (
	maxPage     = 1000
	defaultPage = 100
)

// getCount answers GET /v1/counts.
func (a *API) getCount(c *fiber.Ctx, f *fields) error {
	of, in, err := a.counted(c, f)
	if err != nil {
		return err
	}
	count, err := a.cfg.Store.Count(c.UserContext(), of, in)
	if err != nil {
		return err
	}
	return answer.JSON(c, fiber.StatusOK, ScopedCountOf(count, of, in))
}

// counted reads what a count is asked for, and refuses callers who may not read it.
func (a *API) counted(c *fiber.Ctx, f *fields) (of store.Scope, in store.Window, err error) {
	of, err = a.scope(c, f)
	in = store.Window{From: store.Instant(f.time("from")), To: store.Instant(f.time("to"))}
	if err := cmp.Or(f.err, err); err != nil {
		return of, in, err
	}
	if err := in.Validate(); err != nil {
		return of, in, problem.Refused(err)
	}
	return of, in, callerOf(c).mayRead(of, in, a.cfg.Totals)
}

// noKind refuses a kind beside a workflow or draft, which has one.
const noKind = "kind is for a count of all runs of a user: leave it out, or leave out workflow_id and draft_id."

// scope reads whose runs a request asks for. A signed-in user's are their own, unless
// the request says those of all users.
func (a *API) scope(c *fiber.Ctx, f *fields) (store.Scope, error) {
	who := callerOf(c)
	all, draft := f.choice("users", "all") != "", f.id("draft_id")
	user, workflow, err := a.cfg.Decoder.Complete(f.id("user_id"), f.id("workflow_id"), draft)
	if err := cmp.Or(f.err, err); err != nil {
		return store.Scope{}, err
	}
	switch {
	case all && f.has("user_id"):
		f.fail("users=all asks for the runs of all users: leave it out, or leave out user_id.")
	case all, who.anonymous && !f.has("user_id"):
		user = store.ID{}
	case user.IsZero():
		user = who.user.Counts
	}
	of := store.ScopeOf(user, workflow, draft)
	if kind := store.Kind(f.choice("kind", string(store.KindWorkflow), string(store.KindDraft))); kind != "" {
		if !of.OfUser() {
			f.fail(noKind)
		}
		of.Kind = kind
	}
	if of.Validate() != nil {
		f.fail("Say whose count: add user_id, workflow_id or draft_id to the query.")
	}
	return of, f.err
}

// getUserCounts answers GET /v1/users/{user_id}/counts, a page at a time.
func (a *API) getUserCounts(c *fiber.Ctx, f *fields) error {
	user, err := request.PathID(c, "user_id", "id of the user")
	if err != nil {
		return err
	}
	if err := callerOf(c).mayReadUser(user); err != nil {
		return err
	}
	size, after := f.pageSize(), f.text("after")
	if f.err != nil {
		return f.err
	}
	from := store.Key{}
	if after != "" {
		if from, err = parseCursor(user, after); err != nil {
			return err
		}
	}
	counts, err := store.UserCounts(c.UserContext(), a.cfg.Store, user, from, size+1)
	if err != nil {
		return err
	}
	page := UserCounts{User: user}
	if len(counts) > size {
		counts = counts[:size]
		next := cursor(counts[size-1].Key)
		page.Next = &next
	}
	page.Counts = CountsOf(counts)
	return answer.JSON(c, fiber.StatusOK, page)
}

// cursor says where the next page begins. The user is left out: it stands in
// the path, and a cursor must not lead to another's counts.
func cursor(k store.Key) string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(k.Kind[:1]) + k.Ref.String()))
}

func parseCursor(user store.ID, text string) (store.Key, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && string(b) == string(store.KindAll[:1]) {
		return store.Key{User: user, Kind: store.KindAll, Ref: store.Absent}, nil
	}
	if err == nil && len(b) > 0 {
		ref, err := store.ParseID(string(b[1:]))
		for _, kind := range [...]store.Kind{store.KindDraft, store.KindWorkflow} {
			if err == nil && b[0] == kind[0] {
				return store.Key{User: user, Kind: kind, Ref: ref}, nil
			}
		}
	}
	return store.Key{}, problem.New(fiber.StatusBadRequest, "after is not a cursor: pass the value of next from the page before, or leave it out to start at the beginning.")
}
