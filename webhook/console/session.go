package console

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

const (
	// sessionFor is the time for which an operator stays signed in.
	sessionFor = 12 * time.Hour
	// maxForm is the length of a form in bytes: a token is the longest.
	maxForm = 64 << 10
	// maxWho is the length of the name that an operator gives.
	maxWho = 100
)

// session is an operator who is signed in. It stands in a signed cookie, so that
// every instance with the same API keys knows it, and none keeps it.
type session struct {
	Name    string    `json:"name"` // for the log, and for what is kept of decisions
	Expires time.Time `json:"expires"`
	Nonce   string    `json:"nonce"`
}

// localOperator is everyone on this machine, where no key is configured.
var localOperator = session{Name: "a person on this machine"}

func (s session) in() bool { return s.Name != "" }

// sessions makes and reads them.
type sessions struct {
	secret []byte
	now    func() time.Time
}

// newSessions derives the secret from the API keys: who signed in with one
// that is gone is signed out.
func newSessions(keys webhook.APIKeys, now func() time.Time) sessions {
	material := strings.Join(keys.Sorted(), "\n")
	if keys.IsZero() {
		material = rand.Text() // for this process alone
	}
	secret, err := hkdf.Key(sha256.New, []byte(material), nil, "runcounter console session v1", sha256.Size)
	if err != nil {
		panic(err) // only for keys of an absurd length
	}
	return sessions{secret: secret, now: now}
}

func (s sessions) sum(what, text string) string {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(what + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// cookie is its name: with the prefix a browser takes it over https alone, and
// from no other host.
func cookie(f *fiber.Ctx) string {
	if overTLS(f) {
		return "__Host-runcounter"
	}
	return "runcounter"
}

// overTLS believes the proxy before us: who lies about it harms themselves.
func overTLS(f *fiber.Ctx) bool {
	return f.Protocol() == "https" || f.Get(fiber.HeaderXForwardedProto) == "https"
}

func (s sessions) read(f *fiber.Ctx) (who session) {
	text, sum, _ := strings.Cut(f.Cookies(cookie(f)), ".")
	if text == "" || !hmac.Equal([]byte(sum), []byte(s.sum("session", text))) {
		return session{}
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(b, &who) != nil || !s.now().Before(who.Expires) {
		return session{}
	}
	return who
}

func (s sessions) begin(f *fiber.Ctx, name string, until time.Time) {
	who := session{Name: name, Expires: s.now().Add(sessionFor).UTC().Round(time.Second), Nonce: rand.Text()}
	if !until.IsZero() && until.Before(who.Expires) {
		who.Expires = until
	}
	text := base64.RawURLEncoding.EncodeToString(answer.Encode(who))
	s.set(f, text+"."+s.sum("session", text), who.Expires)
}

func (s sessions) end(f *fiber.Ctx) { s.set(f, "", time.Unix(1, 0)) }

func (s sessions) set(f *fiber.Ctx, value string, expires time.Time) {
	f.Cookie(&fiber.Cookie{
		Name: cookie(f), Value: value, Path: "/", Expires: expires,
		HTTPOnly: true, Secure: overTLS(f), SameSite: fiber.CookieSameSiteStrictMode,
	})
}

// token returns the text that the forms of an operator's pages carry: another site
// can't read it (CSRF).
func (s sessions) token(who session) string { return s.sum("csrf", who.Nonce+"\x00"+who.Name) }

func (s sessions) knows(who session, token string) bool {
	return hmac.Equal([]byte(token), []byte(s.token(who)))
}

// sameSite refuses what a browser says was asked by another site's page.
func sameSite(f *fiber.Ctx) bool {
	if site := f.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := f.Get(fiber.HeaderOrigin)
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == string(f.Request().Header.Host())
}

// form is a form as it was filled in.
type form struct{ url.Values }

// line returns a field without line breaks around or in it.
func (v form) line(name string, limit int) string {
	text := strings.Join(strings.Fields(v.Get(name)), " ")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return text
}

func (c *Console) form(f *fiber.Ctx) (form, error) {
	kind, _, _ := strings.Cut(f.Get(fiber.HeaderContentType), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), fiber.MIMEApplicationForm) {
		return form{}, problem.New(fiber.StatusUnsupportedMediaType, "This address takes the forms of the console's pages. Programs use the API below /v1.")
	}
	b, err := request.NewBody(f, maxForm, c.cfg.Time)
	if err != nil {
		return form{}, err
	}
	text, err := io.ReadAll(b) // of maxForm at most
	if err != nil {
		return form{}, err
	}
	values, err := url.ParseQuery(string(text))
	if err != nil {
		return form{}, problem.New(fiber.StatusBadRequest, "The form can't be read. Go back and send it again.")
	}
	return form{values}, nil
}

type signInData struct {
	Wrong string
	Token bool // Supabase users may sign in
	Plain bool // the connection is not encrypted, and not of this machine
}

func (c *Console) signInPage(f *fiber.Ctx, who session) error {
	if who.in() {
		return f.Redirect("/", fiber.StatusSeeOther)
	}
	return c.showSignIn(f, "")
}

func (c *Console) showSignIn(f *fiber.Ctx, wrong string) error {
	return c.show(f, session{}, "sign-in", "Sign in", signInData{
		Wrong: wrong, Token: c.tokens(), Plain: !overTLS(f) && !request.Loopback(string(f.Request().Header.Host())),
	})
}

// tokens reports whether Supabase users may sign in.
func (c *Console) tokens() bool { return c.cfg.Users != nil && c.cfg.Role != "" }

// signIn accepts an API key, or the token of a user with the role.
func (c *Console) signIn(f *fiber.Ctx, _ session) error {
	form, err := c.form(f)
	switch {
	case err != nil:
		return err
	case !sameSite(f):
		return problem.New(fiber.StatusForbidden, "This was not asked by a page of this console. Open it, and sign in there.")
	}
	name, key, token := form.line("name", maxWho), form.Get("key"), strings.TrimSpace(form.Get("token"))
	switch {
	case token != "" && c.tokens():
		u, err := c.cfg.Users.Verify(f.UserContext(), token)
		if _, refused := errors.AsType[*users.Refused](err); refused {
			if err := c.failedAttempt(f); err != nil {
				return err
			}
		}
		if err != nil {
			return users.Problem(err)
		}
		return c.signInUser(f, u)
	case !c.cfg.Keys.Has(key):
		if err := c.failedAttempt(f); err != nil {
			return err
		}
		return c.wrong(f, "The key is none of those configured here: compare it with RUNCOUNTER_API_KEY.")
	case name == "":
		return c.wrong(f, "Say who you are: what you do here is logged with your name.")
	}
	c.sessions.begin(f, name+" (API key)", time.Time{})
	c.cfg.Log.Info("signed in to the console", "request", answer.RequestID(f), "who", name)
	return f.Redirect("/", fiber.StatusSeeOther)
}

// failedAttempt charges a wrong key or token to the client.
func (c *Console) failedAttempt(f *fiber.Ctx) error {
	if c.attempts.failed(c.clientOf(f), c.cfg.Now()) {
		return problem.New(fiber.StatusTooManyRequests, "The key or token is wrong, and there were too many wrong ones from this address. Wait a minute before the next try; the right one gets in at once.")
	}
	return nil
}

func (c *Console) signInUser(f *fiber.Ctx, u users.User) error {
	if !u.HasRole(c.cfg.Role) {
		return problem.New(fiber.StatusForbidden, "This user has not the role that the console asks for. An administrator of the project gives it in the user's app_metadata.")
	}
	c.sessions.begin(f, "user "+u.ID.String(), u.Expires)
	c.cfg.Log.Info("signed in to the console", "request", answer.RequestID(f), "user_id", u.ID.String())
	return f.Redirect("/", fiber.StatusSeeOther)
}

func (c *Console) wrong(f *fiber.Ctx, text string) error {
	c.cfg.Refusals.SignInRefused(f, c.clientOf(f).String())
	f.Status(fiber.StatusUnauthorized)
	return c.showSignIn(f, text)
}

func (c *Console) signOut(f *fiber.Ctx, _ session, _ form) error {
	c.sessions.end(f)
	return f.Redirect("/sign-in?done=signed-out", fiber.StatusSeeOther)
}
