package console

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// keyGrants is the number of grants on a count's page.
const keyGrants = 10

// routeGrants adds the addresses of grants.
func (c *Console) routeGrants(app *fiber.App) {
	app.Get("/grants", c.page(c.grants))
	app.Get("/grants/new", c.page(c.askGrant))
	app.Post("/grants", c.action(c.give))
	app.Get("/grants/:seq/revoke", c.page(c.askRevoke))
	app.Post("/grants/:seq/revoke", c.action(c.revoke))
}

// shownGrant is a grant at a moment.
type shownGrant struct {
	store.Grant
	Stands  bool
	Expired bool
}

// shownGrants are those of a query, at most limit of them, and whether there are more.
func (c *Console) shownGrants(f *fiber.Ctx, q store.GrantQuery, limit int) (shown []shownGrant, more bool, err error) {
	q.Limit = limit + 1
	grants, err := c.cfg.Grants.Grants(f.UserContext(), q)
	if more = len(grants) > limit; more {
		grants = grants[:limit]
	}
	now := c.cfg.Now()
	for _, g := range grants {
		stands := g.Stands(now)
		shown = append(shown, shownGrant{g, stands, !stands && g.RevokedAt.IsZero()})
	}
	return shown, more, err
}

type grantsData struct {
	User   string
	New    string // the address of a form that gives some to the user
	Grants []shownGrant
	Next   string
}

// grants is the list of what was granted, to a user or to all.
func (c *Console) grants(f *fiber.Ctx, who session) error {
	user, err := optionalID(f, "user")
	if err != nil {
		return err
	}
	d := grantsData{User: user.String()}
	q := store.GrantQuery{Of: store.Scope{User: user}}
	if !user.IsZero() {
		d.New = newGrantPath(q.Of)
	}
	if text := f.Query("before"); text != "" {
		if q.Before, err = strconv.ParseInt(text, 10, 64); err != nil || q.Before < 1 {
			return problem.New(fiber.StatusBadRequest, "This address names no place in the list. Begin at its first page.")
		}
	}
	var has bool
	if d.Grants, has, err = c.shownGrants(f, q, pageRows); err != nil {
		return err
	}
	if has {
		d.Next = next(f, "before", strconv.FormatInt(d.Grants[pageRows-1].Seq, 10))
	}
	return c.show(f, who, "grants", "Grants", d)
}

// newGrantPath is the address of the form that gives runs to a scope.
func newGrantPath(of store.Scope) string { return "/grants/new?of=" + url.QueryEscape(scopePath(of)) }

// scopePath names whose a grant is in an address or a form: a user, or a key.
func scopePath(of store.Scope) string {
	if key, one := of.Key(); one {
		return keyPath(key)
	}
	return idPath(of.User)
}

func noScope() error {
	return problem.New(fiber.StatusBadRequest, "This address names no user and no count. Begin at the page of the grants.")
}

// parseScopePath reads whose a grant shall be. What the table has no column for is
// completed or refused as the API does it, so that both give the same grant.
func (c *Console) parseScopePath(text string) (of store.Scope, err error) {
	if strings.Contains(text, "/") {
		key, err := parseKeyPath(text)
		if err != nil {
			return of, err
		}
		of = key.Scope()
	} else if of.User, err = parseIDPath(text); err != nil {
		return of, noScope()
	}
	named, key := of, store.Key(of)
	user, workflow, err := c.cfg.Decoder.Complete(present(of.User), present(key.Workflow()), key.Draft())
	if of = store.ScopeOf(user, workflow, key.Draft()); err != nil {
		return of, err
	}
	if _, one := named.Key(); user.IsZero() || one && of != named {
		return of, noScope()
	}
	return of, nil
}

// present returns an id as a request names it: what the table has no column for is not named.
func present(id store.ID) store.ID {
	if id == store.Absent {
		return store.ID{}
	}
	return id
}

// grantedPath is the page that shows the grants of a scope.
func grantedPath(of store.Scope) string {
	if key, one := of.Key(); one {
		return "/counts/" + keyPath(key)
	}
	if of.User == store.Absent {
		return "/grants"
	}
	return "/grants?user=" + url.QueryEscape(of.User.String())
}

type askGrantData struct {
	Of    store.Scope
	Named string // in the form
	Once  string // the idempotency key of this form
	Back  string
}

func (c *Console) askGrant(f *fiber.Ctx, who session) error {
	of, err := c.parseScopePath(strings.Clone(f.Query("of")))
	if err != nil {
		return err
	}
	return c.show(f, who, "ask-grant", "Grant runs", askGrantData{of, scopePath(of), store.NewID().String(), grantedPath(of)})
}

// give gives what a form says, once.
func (c *Console) give(f *fiber.Ctx, who session, form form) error {
	of, err := c.parseScopePath(form.Get("of"))
	if err != nil {
		return err
	}
	key := store.Key(of)
	g := store.GrantRequest{
		User: of.User, Workflow: key.Workflow(), Draft: key.Draft(), Who: who.Name, Why: form.line("why", request.MaxReason),
		IdempotencyKey: "console " + form.line("once", 100), Now: store.Instant(c.cfg.Now()),
	}
	if g.Runs, err = strconv.ParseInt(form.line("runs", 20), 10, 64); err != nil {
		return problem.New(fiber.StatusBadRequest, "Say how many runs, as a whole number.")
	}
	if until := form.line("until", 30); until != "" {
		if g.ExpiresAt, err = time.Parse("2006-01-02T15:04", until); err != nil {
			return problem.New(fiber.StatusBadRequest, "Say until when as 2026-01-31T12:00, in UTC, or leave it empty.")
		}
	}
	if g.Why == "" {
		return problem.New(fiber.StatusBadRequest, "Say why: it is kept with your name.")
	}
	if err := g.Validate(); err != nil {
		return problem.Refused(err)
	}
	made, err := c.cfg.Grants.Grant(f.UserContext(), g)
	if errors.Is(err, store.ErrConflict) {
		return problem.New(fiber.StatusConflict, "This form was sent before, with other words. Open it again for one more grant.")
	}
	if expired := g.ValidateExpiry(); expired != nil && errors.Is(err, store.ErrInvalid) {
		return problem.Refused(expired)
	}
	if err != nil {
		return err
	}
	if made.Created {
		c.did(f, who, "runs were granted", "grant", made.Grant.Seq, "of", of.String(), "runs", g.Runs, "why", g.Why)
	}
	return done(f, grantedPath(of), "granted")
}

// askedGrant is the grant that an address names.
func (c *Console) askedGrant(f *fiber.Ctx) (g store.Grant, err error) {
	seq, err := request.PathSeq(f, "grant", "/v1/grants")
	if err != nil {
		return g, err
	}
	found, err := c.cfg.Grants.Grants(f.UserContext(), store.GrantQuery{Before: seq + 1, Limit: 1})
	if err != nil {
		return g, err
	}
	if len(found) == 0 || found[0].Seq != seq {
		return g, problem.NoGrant()
	}
	return found[0], nil
}

func (c *Console) askRevoke(f *fiber.Ctx, who session) error {
	g, err := c.askedGrant(f)
	if err != nil {
		return err
	}
	return c.show(f, who, "ask-revoke", "Revoke a grant", struct {
		store.Grant
		Back string
	}{g, grantedPath(g.Of)})
}

func (c *Console) revoke(f *fiber.Ctx, who session, form form) error {
	seq, err := request.PathSeq(f, "grant", "/v1/grants")
	if err != nil {
		return err
	}
	r := store.RevokeRequest{Seq: seq, Who: who.Name, Why: form.line("why", request.MaxReason), Now: store.Instant(c.cfg.Now())}
	if r.Why == "" {
		return problem.New(fiber.StatusBadRequest, "Say why: it is kept with your name.")
	}
	g, err := c.cfg.Grants.RevokeGrant(f.UserContext(), r)
	if errors.Is(err, store.ErrNotFound) {
		return problem.NoGrant()
	}
	if err != nil {
		return err
	}
	c.did(f, who, "a grant was revoked", "grant", seq, "why", r.Why)
	return done(f, grantedPath(g.Of), "revoked")
}
