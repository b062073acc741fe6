package api

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/conns"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// admit lets in requests with an API key, and where no key is configured, those of
// this machine. With a [users.Verifier] it lets in signed-in users, too.
func (a *API) admit(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "no-store")
	key, ok := request.Bearer(c.Get(fiber.HeaderAuthorization))
	if a.cfg.Users != nil && ok && looksSigned(key) && !a.cfg.Keys.Has(key) {
		return a.admitUser(c, key)
	}
	if a.cfg.Totals == ForEveryone && !a.cfg.Keys.IsZero() && c.Get(fiber.HeaderAuthorization) == "" && asksForCount(c) {
		c.Locals(callerKey{}, caller{anonymous: true})
		return c.Next()
	}
	if a.cfg.Keys.IsZero() {
		if err := request.RequireLoopback(c); err != nil {
			return err
		}
		conns.Of(c).Show(conns.Trusted)
		return c.Next()
	}
	switch {
	case key == "" || !ok:
		return errNoKey()
	case !a.cfg.Keys.Has(key):
		return problem.New(fiber.StatusUnauthorized, "The key is none of those configured here: compare it with RUNCOUNTER_API_KEY.")
	}
	conns.Of(c).Show(conns.Trusted)
	return c.Next()
}

func errNoKey() error {
	return problem.New(fiber.StatusUnauthorized, `The API needs a key: send the header "Authorization: Bearer <key>" with one of RUNCOUNTER_API_KEY.`)
}

// asksForCount reports whether a request is GET /v1/counts.
func asksForCount(c *fiber.Ctx) bool {
	return (c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead) && c.Path() == "/v1/counts"
}

// caller is a program, a user or anonymous: an API key may do everything, a signed-in user
// may read their own counts (law 7), and who shows neither the totals that are for
// everyone.
type caller struct {
	user      users.User // zero for the others
	anonymous bool       // it has shown neither a key nor a token
}

// program reports whether the caller has shown an API key, or needs none.
func (who caller) program() bool { return who.user.ID.IsZero() && !who.anonymous }

// mayReadUser refuses to tell one user of another. The error says so: a count of 0
// would look like an answer.
func (who caller) mayReadUser(user store.ID) error {
	switch {
	case who.program():
		return nil
	case who.anonymous:
		return errNoKey()
	case who.user.Counts != user:
		return problem.New(fiber.StatusForbidden, "These are the counts of another user. Leave out user_id, or sign in as that user.")
	}
	return nil
}

// mayRead refuses a count that the caller may not read. Those of a workflow or draft
// over all its users are for an audience, which is law 7's one exception. Those of a
// draft, and in a window, are for programs alone: a draft is most often one user's, and
// a window costs time for each run that is in it, and tells when runs of others ended.
func (who caller) mayRead(of store.Scope, in store.Window, totals Audience) error {
	switch {
	case !of.OfAllUsers():
		return who.mayReadUser(of.User)
	case who.program():
		return nil
	case (in != store.AllTime || of.Kind == store.KindDraft) && who.anonymous:
		return errNoKey()
	case in != store.AllTime:
		return problem.New(fiber.StatusForbidden, "The count of a workflow over all its users in a window is for API keys. Leave out from and to.")
	case of.Kind == store.KindDraft:
		return problem.New(fiber.StatusForbidden, "The count of a draft over all its users is for API keys: a draft is most often one user's.")
	}
	if totals == ForEveryone || totals == ForUsers && !who.anonymous {
		return nil
	}
	return problem.New(fiber.StatusForbidden, "The count of a workflow over all its users is for API keys here. The operator of this server can open it, by --totals-for users or everyone.")
}

// Audience says who may read totals, the counts of a workflow or draft over all its
// users, beside programs with an API key.
type Audience string

// The audiences. The zero Audience is ForKeys.
const (
	ForKeys     Audience = "keys"     // programs alone
	ForUsers    Audience = "users"    // signed-in users, too
	ForEveryone Audience = "everyone" // and who shows neither a key nor a token
)

type callerKey struct{}

func callerOf(c *fiber.Ctx) caller {
	who, _ := c.Locals(callerKey{}).(caller)
	return who
}

// admitUser lets in a signed-in user by their token.
func (a *API) admitUser(c *fiber.Ctx, token string) error {
	u, err := a.cfg.Users.Verify(c.UserContext(), token)
	if err != nil {
		return users.Problem(err)
	}
	switch claim := a.cfg.Users.Claim(); {
	case !u.Counts.IsZero():
	case claim == "":
		return problem.New(fiber.StatusForbidden, "What is counted here may be organisations, and no claim of a token is said to name one: the counts need an API key. The operator of this server can say the claim, such as runcounter migrate up --claim org_id.")
	default:
		return problem.New(fiber.StatusForbidden, "The token has no claim "+claim+", which says whose counts its user may read.")
	}
	conns.Of(c).Show(conns.OfUser)
	c.Locals(callerKey{}, caller{user: u})
	return c.Next()
}

// looksSigned tells a token from what is none.
func looksSigned(token string) bool { return strings.Count(token, ".") >= 2 }

// keyOnly refuses signed-in users what is not theirs to do.
func keyOnly(c *fiber.Ctx) error {
	if !callerOf(c).program() {
		return problem.New(fiber.StatusForbidden, "A signed-in user may read their own counts alone. This address needs an API key, which belongs on a server and never in a browser.")
	}
	return c.Next()
}
