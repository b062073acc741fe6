package console

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// namesMost bounds the names that a search shows.
const namesMost = 20

// maxAsked bounds what is searched for, in bytes: no id is longer.
const maxAsked = 255

// hit is something that was found.
type hit struct {
	What string // run, user, workflow or draft
	ID   shownID
	Name string
	In   string // where the name is from
}

type searchData struct {
	Asked  string
	Hits   []hit
	Partly bool
	Most   int
}

// search finds runs, users, workflows and drafts by their ids, and in a source by the
// names that the application's tables have for them: for operators alone (law 7).
func (c *Console) search(f *fiber.Ctx, who session) error {
	d := searchData{Asked: strings.TrimSpace(strings.Clone(f.Query("q"))), Most: namesMost}
	if len(d.Asked) > maxAsked {
		return problem.New(fiber.StatusBadRequest, "This is too long to be an id, an e-mail or a title: write its beginning.")
	}
	if d.Asked == "" {
		return c.show(f, who, "search", "Search", d)
	}
	var err error
	if id, invalid := store.ParseID(d.Asked); invalid == nil {
		if d.Hits, err = c.known(f.UserContext(), id); err != nil {
			return err
		}
	}
	if c.cfg.Names != nil {
		names, err := c.cfg.Names.FindNamed(f.UserContext(), d.Asked, namesMost)
		if err != nil {
			return err
		}
		d.Partly = names.Partly
		for _, n := range names.Found {
			d.Hits = append(d.Hits, hit{n.What, shownAs(n.ID, foundPath(n.What, n.ID)), n.Name, n.In})
		}
	}
	if len(d.Hits) == 1 && !d.Partly && d.Hits[0].Name == "" {
		return f.Redirect(d.Hits[0].ID.Href, fiber.StatusSeeOther)
	}
	return c.show(f, who, "search", "Search", d)
}

// foundPath is the page of what was found.
func foundPath(what string, id store.ID) string {
	switch what {
	case "run":
		return runPath(id)
	case "user":
		return userPath(id)
	}
	return "/counts?ref=" + url.QueryEscape(id.String())
}

// known returns what has an id. A user is known by counts or active runs, a workflow or a
// draft by the counts of its users; each is looked up, and no list is read.
func (c *Console) known(ctx context.Context, id store.ID) (hits []hit, err error) {
	add := func(what string) {
		hits = append(hits, hit{What: what, ID: shownAs(id, foundPath(what, id)), In: "runs"})
	}
	h, err := c.cfg.Reader.History(ctx, id)
	if err != nil {
		return nil, err
	}
	if h.Found || !h.DeletedAt.IsZero() {
		add("run")
	}
	for _, one := range []struct {
		what string
		of   store.Scope
	}{
		{"user", store.Scope{User: id}},
		{"workflow", store.Scope{Kind: store.KindWorkflow, Ref: id}},
		{"draft", store.Scope{Kind: store.KindDraft, Ref: id}},
	} {
		n, err := c.cfg.Store.Count(ctx, one.of, store.AllTime)
		if errors.Is(err, store.ErrInvalid) {
			continue // the table has none of these
		}
		if err != nil {
			return nil, err
		}
		there := n.Tallies != (store.Tallies{})
		if !there && one.what == "user" {
			active, err := c.cfg.Reader.CountRuns(ctx, store.RunQuery{State: store.ActiveRuns, User: id, Limit: 1, Within: tabWithin})
			if err != nil && !errors.Is(err, store.ErrTooSlow) {
				return nil, err
			}
			there = active > 0
		}
		if there {
			add(one.what)
		}
	}
	return hits, nil
}
