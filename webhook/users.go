package webhook

import (
	"errors"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// caller is an authenticated program or user: an API key may do everything,
// a signed-in user may read their own counts (law 7).
type caller struct {
	user users.User // zero for a key
}

// mayRead refuses to tell one user of another. Whoever asks is told so: a
// count of 0 would look like an answer.
func (a caller) mayRead(user store.ID) error {
	if !a.user.ID.IsZero() && a.user.Counts != user {
		return newProblem(fiber.StatusForbidden, "These are the counts of another user. Leave out user_id, or sign in as that user.")
	}
	return nil
}

type callerKey struct{}

func callerOf(c *fiber.Ctx) caller {
	a, _ := c.Locals(callerKey{}).(caller)
	return a
}

// admitUser lets in a signed-in user by their token.
func (s *Server) admitUser(c *fiber.Ctx, token string) error {
	u, err := s.cfg.Users.Verify(c.UserContext(), token)
	if err != nil {
		return userProblem(err)
	}
	switch claim := s.cfg.Users.Claim(); {
	case !u.Counts.IsZero():
	case claim == "":
		return newProblem(fiber.StatusForbidden, "What is counted here may be organisations, and no claim of a token is said to name one: the counts need an API key. The operator of this server can say the claim, such as runcounter migrate up --claim org_id.")
	default:
		return newProblem(fiber.StatusForbidden, "The token has no claim "+claim+", which says whose counts its user may read.")
	}
	guestOf(c).has(ofUser)
	c.Locals(callerKey{}, caller{u})
	return c.Next()
}

// userProblem says what is wrong with a token.
func userProblem(err error) error {
	if refused, ok := errors.AsType[*users.Refused](err); ok {
		return newProblem(fiber.StatusUnauthorized, strings.ToUpper(refused.Reason[:1])+refused.Reason[1:]+".").because(err)
	}
	return newProblem(fiber.StatusServiceUnavailable, "The keys of the Supabase project can't be read just now, so the token can't be checked. "+
		"Send the request again after the time in Retry-After.").because(err)
}

// looksSigned tells a token from what is none.
func looksSigned(token string) bool { return strings.Count(token, ".") >= 2 }

// keyOnly refuses signed-in users what is not theirs to do.
func keyOnly(c *fiber.Ctx) error {
	if !callerOf(c).user.ID.IsZero() {
		return newProblem(fiber.StatusForbidden, "A signed-in user may read their own counts alone. This address needs an API key, which belongs on a server and never in a browser.")
	}
	return c.Next()
}
