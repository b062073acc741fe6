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
func (a *API) streamCounts(c *fiber.Ctx, f *fields) error {
	if a.cfg.Streams == nil {
		return problem.New(fiber.StatusNotFound, "This server streams no counts.")
	}
	keys, err := a.streamKeys(c, f)
	if err != nil {
		return err
	}
	return a.cfg.Streams.Counts(c, callerOf(c).user, keys)
}

// streamKeys reads the keys to be watched, in the order in which the query names them.
func (a *API) streamKeys(c *fiber.Ctx, f *fields) ([]store.Key, error) {
	if f.err != nil {
		return nil, f.err
	}
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
			given = id
		case "workflow_id":
			refs = append(refs, store.Key{Kind: store.KindWorkflow, Ref: id})
		case "draft_id":
			refs = append(refs, store.Key{Kind: store.KindDraft, Ref: id})
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
