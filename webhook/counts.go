package webhook

import (
	"cmp"
	"context"
	"encoding/base64"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
)

// maxPage is how many counts one page may hold; defaultPage is how many it
// holds unless asked.
const (
	maxPage     = 1000
	defaultPage = 100
)

// fullCount is a key's count with what it is made of: the ended runs of each
// status, presumed ones included, whatever the policy counts.
type fullCount struct {
	keyCount
	store.Tally
	LastRunAt instant `json:"last_run_at"`
}

func fullCountOf(c store.Count) fullCount {
	return fullCount{
		keyCount{c.Key.User, c.Key.Workflow(), c.Key.Draft(), c.Count}, c.Tallies.Ended, instant(c.LastRunAt),
	}
}

// getCount answers GET /v1/counts.
func (s *Server) getCount(c *fiber.Ctx) error {
	f := queryOf(c, "user_id", "workflow_id", "draft_id")
	who := callerOf(c)
	draft := f.id("draft_id")
	user, workflow, err := s.cfg.Decoder.complete(f.id("user_id"), f.id("workflow_id"), draft)
	if user.IsZero() {
		user = who.user.Counts
	}
	if f.err == nil && user.IsZero() {
		f.lacksID("user_id")
	}
	if err := cmp.Or(f.err, err); err != nil {
		return err
	}
	if err := who.mayRead(user); err != nil {
		return err
	}
	key := store.KeyOf(user, workflow, draft)
	if key.IsZero() {
		return newProblem(fiber.StatusBadRequest, "Say whose count: add workflow_id or draft_id to the query.")
	}
	var count store.Count
	err = s.tries(c.UserContext(), func(ctx context.Context) (err error) {
		count, err = s.cfg.Store.Count(ctx, key)
		return err
	})
	if err != nil {
		return err
	}
	count.Key = key
	return writeJSON(c, fiber.StatusOK, fullCountOf(count))
}

// total is what a workflow or draft has over all its users.
type total struct {
	Workflow store.ID `json:"workflow_id"`
	Draft    store.ID `json:"draft_id"`
	Count    int64    `json:"count"`
	store.Tally
}

// getTotal answers GET /v1/totals.
func (s *Server) getTotal(c *fiber.Ctx) error {
	f := queryOf(c, "workflow_id", "draft_id")
	draft := f.id("draft_id")
	_, workflow, err := s.cfg.Decoder.complete(store.ID{}, f.id("workflow_id"), draft)
	if err := cmp.Or(f.err, err); err != nil {
		return err
	}
	of := store.TotalOf(workflow, draft)
	if of.IsZero() {
		return newProblem(fiber.StatusBadRequest, "Say whose total: add workflow_id or draft_id to the query.")
	}
	var count store.Count
	err = s.tries(c.UserContext(), func(ctx context.Context) (err error) {
		count, err = s.cfg.Store.Total(ctx, of)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(c, fiber.StatusOK, total{of.Workflow(), of.Draft(), count.Count, count.Tallies.Ended})
}

// getUserCounts answers GET /v1/users/{user_id}/counts, a page at a time.
func (s *Server) getUserCounts(c *fiber.Ctx) error {
	user, err := pathID(c, "user", "id of the user")
	if err != nil {
		return err
	}
	if err := callerOf(c).mayRead(user); err != nil {
		return err
	}
	f := queryOf(c, "after", "max")
	limit, after := f.number("max"), f.text("after")
	if f.err != nil {
		return f.err
	}
	page := int64(defaultPage)
	if limit != nil {
		page = *limit
	}
	if page < 1 || page > maxPage {
		return newProblem(fiber.StatusBadRequest, "max must be between 1 and "+strconv.Itoa(maxPage)+".")
	}
	from := store.Key{}
	if after != "" {
		if from, err = parseCursor(user, after); err != nil {
			return err
		}
	}
	var counts []store.Count
	err = s.tries(c.UserContext(), func(ctx context.Context) (err error) {
		// One more than asked says whether there is a next page.
		counts, err = store.UserCounts(ctx, s.cfg.Store, user, from, int(page)+1)
		return err
	})
	if err != nil {
		return err
	}
	answer := struct {
		User   store.ID    `json:"user_id"`
		Counts []fullCount `json:"counts"`
		Next   *string     `json:"next"`
	}{User: user, Counts: []fullCount{}}
	if len(counts) > int(page) {
		counts = counts[:page]
		next := cursor(counts[page-1].Key)
		answer.Next = &next
	}
	for _, count := range counts {
		answer.Counts = append(answer.Counts, fullCountOf(count))
	}
	return writeJSON(c, fiber.StatusOK, answer)
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
	return store.Key{}, newProblem(fiber.StatusBadRequest, "after is not a cursor: pass the value of next from the page before, or leave it out to start at the beginning.")
}
