package api

import (
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/live"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// streamCounts answers GET /v1/counts/stream.
func (a *API) streamCounts(c *fiber.Ctx) error {
	if a.cfg.Streams == nil {
		return problem.New(fiber.StatusNotFound, "This server streams no counts.")
	}
	keys, err := a.streamKeys(c)
	if err != nil {
		return err
	}
	return a.cfg.Streams.Counts(c, callerOf(c).user, keys)
}

// streamKeys reads the keys to be watched.
func (a *API) streamKeys(c *fiber.Ctx) ([]store.Key, error) {
	var keys []store.Key
	user := callerOf(c).user.Counts
	given := store.ID{}
	var refs []store.Key // without their user
	for name, value := range c.Context().QueryArgs().All() {
		id, err := store.ParseID(string(value))
		if err != nil {
			return nil, problem.New(fiber.StatusBadRequest, request.Clip(string(name))+" is "+err.Error()+". "+idAdvice)
		}
		switch string(name) {
		case "user_id":
			if !given.IsZero() {
				return nil, problem.New(fiber.StatusBadRequest, "user_id is given twice. Give it once.")
			}
			given = id
		case "workflow_id":
			refs = append(refs, store.Key{Kind: store.KindWorkflow, Ref: id})
		case "draft_id":
			refs = append(refs, store.Key{Kind: store.KindDraft, Ref: id})
		default:
			return nil, problem.New(fiber.StatusBadRequest, strconv.Quote(request.Clip(string(name)))+" is not known here. Known are user_id, workflow_id, draft_id.")
		}
	}
	ref := store.ID{}
	if len(refs) > 0 {
		ref = refs[0].Ref
	}
	whose, what, err := a.cfg.Decoder.Complete(given, ref, store.ID{})
	if err != nil {
		return nil, err
	}
	if what == store.Absent {
		refs = []store.Key{{Kind: store.KindAll, Ref: store.Absent}}
	}
	given = whose
	switch {
	case user.IsZero() && given.IsZero():
		return nil, problem.New(fiber.StatusBadRequest, "Say whose counts: add user_id to the query.")
	case user.IsZero():
		user = given
	case !given.IsZero():
		if err := callerOf(c).mayRead(given); err != nil {
			return nil, err
		}
	}
	seen := map[store.Key]bool{}
	for _, key := range refs {
		key.User = user
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	switch {
	case len(keys) == 0:
		return nil, problem.New(fiber.StatusBadRequest, "Say which counts: add workflow_id or draft_id to the query, each as often as needed.")
	case len(keys) > live.MaxKeys:
		return nil, problem.New(fiber.StatusBadRequest, "One stream tells of at most "+strconv.Itoa(live.MaxKeys)+" counts. Open another one for the rest.")
	}
	return keys, nil
}
