package api

import (
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/live"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// StreamedCount is a count as a stream tells it: when the last run ended is left
// to GET /v1/counts.
type StreamedCount struct {
	webhook.KeyCount
	store.Tally
	Presumed store.Tally `json:"presumed"`
	Kind     store.Kind  `json:"kind,omitempty"`
	From     Instant     `json:"from,omitzero" openapi:"notnull"`
	To       Instant     `json:"to,omitzero" openapi:"notnull"`
}

func tellCount(s live.State) (event string, data any) {
	c := ScopedCountOf(s.Count, s.Topic.Of, s.Topic.In)
	return "count", StreamedCount{c.KeyCount, c.Tally, c.Presumed, c.Kind, c.From, c.To}
}

func tellAllowance(s live.State) (event string, data any) { return "allowance", AllowanceOf(s.Used()) }

// streamCounts answers GET /v1/counts/stream.
func (a *API) streamCounts(c *fiber.Ctx, f *fields) error {
	if a.cfg.Streams == nil {
		return problem.New(fiber.StatusNotFound, "This server streams no counts.")
	}
	topics, err := a.countTopics(c, f)
	if err != nil {
		return err
	}
	return a.cfg.Streams.Watch(c, callerOf(c).user, topics, tellCount)
}

// countTopics reads what a stream of counts shall tell of: several workflows and drafts,
// or one count as GET /v1/counts has it.
func (a *API) countTopics(c *fiber.Ctx, f *fields) ([]live.Topic, error) {
	if f.err != nil {
		return nil, f.err
	}
	args := c.Context().QueryArgs()
	if len(args.PeekMulti("workflow_id"))+len(args.PeekMulti("draft_id")) > 1 {
		return a.severalTopics(c, f)
	}
	of, in, err := a.counted(c, f)
	return []live.Topic{{Of: of, In: in}}, err
}

// countedBy are the parameters that a stream of counts takes several of.
var countedBy = map[string]store.Kind{"workflow_id": store.KindWorkflow, "draft_id": store.KindDraft}

// severalTopics reads a query with several workflows or drafts.
func (a *API) severalTopics(c *fiber.Ctx, f *fields) (topics []live.Topic, err error) {
	who, one := callerOf(c), store.ID{}
	var refs []store.Scope
	for name, value := range c.Context().QueryArgs().All() {
		kind, counted := countedBy[string(name)]
		if !counted {
			continue
		}
		if one, err = store.ParseID(string(value)); err != nil {
			return nil, problem.New(fiber.StatusBadRequest, string(name)+" is "+err.Error()+". "+idAdvice)
		}
		refs = append(refs, store.Scope{Kind: kind, Ref: one})
	}
	all, user := f.choice("users", "all") != "", f.id("user_id")
	for _, bound := range [...]string{"from", "to"} {
		if f.has(bound) {
			f.fail("A stream of several counts is for all time and takes no %s. Open one for each window.", bound)
		}
	}
	if f.has("kind") {
		f.fail(noKind)
	}
	given := user
	user, _, err = a.cfg.Decoder.Complete(user, one, store.ID{})
	switch {
	case f.err != nil:
		return nil, f.err
	case err != nil:
		return nil, err
	case all && !given.IsZero():
		return nil, f.fail("users=all asks for the runs of all users: leave it out, or leave out user_id.").err
	case all:
		user = store.ID{}
	case user.IsZero():
		user = who.user.Counts
	}
	seen := map[store.Scope]bool{}
	for _, of := range refs {
		of.User = user
		if err := who.mayRead(of, store.AllTime, a.cfg.Totals); err != nil {
			return nil, err
		}
		if !seen[of] {
			seen[of] = true
			topics = append(topics, live.Topic{Of: of})
		}
	}
	if len(topics) > live.MaxKeys {
		return nil, problem.New(fiber.StatusBadRequest, "One stream tells of at most "+strconv.Itoa(live.MaxKeys)+" counts. Open another one for the rest.")
	}
	return topics, nil
}

// streamAllowance answers GET /v1/allowance/stream.
func (a *API) streamAllowance(c *fiber.Ctx, f *fields) error {
	if a.cfg.Streams == nil {
		return problem.New(fiber.StatusNotFound, "This server streams no allowances.")
	}
	asked, err := a.allowance(c, f)
	if err != nil {
		return err
	}
	return a.cfg.Streams.Watch(c, callerOf(c).user, []live.Topic{live.AllowanceOf(asked)}, tellAllowance)
}
