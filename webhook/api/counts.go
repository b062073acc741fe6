package api

import (
	"cmp"
	"encoding/base64"
	"strconv"

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
	who := callerOf(c)
	draft := f.id("draft_id")
	user, workflow, err := a.cfg.Decoder.Complete(f.id("user_id"), f.id("workflow_id"), draft)
	if user.IsZero() {
		user = who.user.Counts
	}
	if f.err == nil && user.IsZero() {
		f.requiredID("user_id")
	}
	if err := cmp.Or(f.err, err); err != nil {
		return err
	}
	if err := who.mayRead(user); err != nil {
		return err
	}
	key := store.KeyOf(user, workflow, draft)
	if key.IsZero() {
		return problem.New(fiber.StatusBadRequest, "Say whose count: add workflow_id or draft_id to the query.")
	}
	count, err := a.cfg.Store.Count(c.UserContext(), key)
	if err != nil {
		return err
	}
	count.Key = key
	return answer.JSON(c, fiber.StatusOK, CountOf(count))
}

// getTotal answers GET /v1/totals.
func (a *API) getTotal(c *fiber.Ctx, f *fields) error {
	draft := f.id("draft_id")
	_, workflow, err := a.cfg.Decoder.Complete(store.ID{}, f.id("workflow_id"), draft)
	if err := cmp.Or(f.err, err); err != nil {
		return err
	}
	of := store.TotalOf(workflow, draft)
	if of.IsZero() {
		return problem.New(fiber.StatusBadRequest, "Say whose total: add workflow_id or draft_id to the query.")
	}
	count, err := a.cfg.Store.Total(c.UserContext(), of)
	if err != nil {
		return err
	}
	return answer.JSON(c, fiber.StatusOK, Total{of.Workflow(), of.Draft(), count.Count, count.Tallies.Ended})
}

// getUserCounts answers GET /v1/users/{user_id}/counts, a page at a time.
func (a *API) getUserCounts(c *fiber.Ctx, f *fields) error {
	user, err := request.PathID(c, "user_id", "id of the user")
	if err != nil {
		return err
	}
	if err := callerOf(c).mayRead(user); err != nil {
		return err
	}
	limit, after := f.number("max"), f.text("after")
	if f.err != nil {
		return f.err
	}
	size := int64(defaultPage)
	if limit != nil {
		size = *limit
	}
	if size < 1 || size > maxPage {
		return problem.New(fiber.StatusBadRequest, "max must be between 1 and "+strconv.Itoa(maxPage)+".")
	}
	from := store.Key{}
	if after != "" {
		if from, err = parseCursor(user, after); err != nil {
			return err
		}
	}
	counts, err := store.UserCounts(c.UserContext(), a.cfg.Store, user, from, int(size)+1)
	if err != nil {
		return err
	}
	page := UserCounts{User: user}
	if len(counts) > int(size) {
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
