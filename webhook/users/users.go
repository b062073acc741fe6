// Package users tells who a signed-in Supabase user is, by the access token
// that their browser has.
//
// A token is worth something only if it was signed by the project: with one of
// the keys that it publishes (ES256, RS256), or with its legacy secret
// (HS256). A key verifies its own algorithm alone, so that a public key is
// never taken for a secret (RFC 8725).
package users

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// Config says whose tokens are good. One of Project and Secret is needed.
type Config struct {
	// Project is the address of the Supabase project, such as
	// https://abc.supabase.co. Its keys are read from there, and tokens of
	// other issuers are refused.
	Project string
	// Secret is the legacy JWT secret of the project.
	Secret string
	// Audience is whom a token must be meant for; "authenticated" where empty.
	Audience string
	// Now is the clock; time.Now where nil.
	Now func() time.Time
	// Client reads the keys; one of its own where nil.
	Client *http.Client
}

// Refused is the error for a token that is not good. It is safe to be shown to
// its sender.
type Refused struct{ Reason string }

func (r *Refused) Error() string { return r.Reason }

// Problem says over HTTP what is wrong with a token, of which err is the error of
// [Verifier.Verify].
func Problem(err error) *problem.Problem {
	if refused, ok := errors.AsType[*Refused](err); ok {
		return problem.New(http.StatusUnauthorized, strings.ToUpper(refused.Reason[:1])+refused.Reason[1:]+".").Because(err)
	}
	return problem.New(http.StatusServiceUnavailable, "The keys of the Supabase project can't be read just now, so the token can't be checked. "+
		"Send the request again after the time in Retry-After.").Because(err)
}

// ErrUnavailable means that the project's keys can't be read just now, so that
// nothing can be said of a token.
var ErrUnavailable = errors.New("the keys of the Supabase project can't be read")

const (
	// maxToken is the length of a token in bytes: what fits into a request's
	// head beside the rest.
	maxToken = 8 << 10
	// leeway is by how much clocks may differ.
	leeway = 30 * time.Second
)

// subject is the claim that says who has signed in.
const subject = "sub"

// User is the user that a token names.
type User struct {
	ID      store.ID  // the sub of the token
	Counts  store.ID  // whose counts they may read: the claim of CountBy; zero for no user's
	Expires time.Time // when the token does
	roles   []string
}

// HasRole reports whether the project gave the user a role: by app_metadata's
// role or roles, or by the claim user_role of an access token hook. What users
// can write themselves (user_metadata) is not looked at.
func (u User) HasRole(role string) bool { return role != "" && slices.Contains(u.roles, role) }

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	parser  *jwt.Parser
	methods []string // the algorithms of the keys that it has
	issuer  string   // empty: any
	secret  []byte
	keys    *keySet // nil where only the secret is known
	counts  []string
}

// CountBy has the verifier take whose counts a user may read from the claim at a
// path into the token, in place of its sub; from none, where the path is empty. It
// is called before the verifier is in use.
func (v *Verifier) CountBy(path []string) { v.counts = path }

// Claim is the name of that claim, and "" for none.
func (v *Verifier) Claim() string { return strings.Join(v.counts, ".") }

// New returns a verifier. The error says what of the configuration is wrong.
func New(c Config) (*Verifier, error) {
	if c.Project == "" && c.Secret == "" {
		return nil, errors.New("neither the address of the project nor its JWT secret is given")
	}
	if c.Secret != "" && (strings.ContainsAny(c.Secret[:1]+c.Secret[len(c.Secret)-1:], "\"'`") || strings.HasPrefix(strings.ToLower(c.Secret), "bearer ")) {
		return nil, errors.New("the JWT secret has quotation marks around it, or Bearer before it: copy it from the project's settings as it is")
	}
	if c.Secret != "" && len(c.Secret) < 32 {
		return nil, errors.New("the JWT secret is shorter than 32 bytes, and could be guessed: copy it from the project's settings, or use the project's address instead")
	}
	now := c.Now
	if now == nil {
		now = time.Now
	}
	audience := c.Audience
	if audience == "" {
		audience = "authenticated"
	}
	options := []jwt.ParserOption{
		jwt.WithExpirationRequired(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(now), jwt.WithIssuedAt(),
		jwt.WithAudience(audience), jwt.WithStrictDecoding(),
	}
	v := &Verifier{counts: []string{subject}}
	if c.Secret != "" {
		v.secret = []byte(c.Secret)
		v.methods = append(v.methods, jwt.SigningMethodHS256.Alg())
	}
	if c.Project != "" {
		auth, err := authOf(c.Project)
		if err != nil {
			return nil, err
		}
		v.issuer = auth
		options = append(options, jwt.WithIssuer(auth))
		v.methods = append(v.methods, jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg())
		v.keys = newKeySet(auth+"/.well-known/jwks.json", c.Client, now)
	}
	v.parser = jwt.NewParser(append(options, jwt.WithValidMethods(v.methods))...)
	return v, nil
}

// authOf returns the address of the project's Auth.
func authOf(project string) (string, error) {
	u, err := url.Parse(strings.TrimRight(strings.TrimSpace(project), "/"))
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("%q is not the address of a project: write it as https://abc.supabase.co", project)
	}
	ip := net.ParseIP(u.Hostname())
	here := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !here) {
		return "", fmt.Errorf("%q would have the keys read unprotected: write https://", project)
	}
	return u.String() + "/auth/v1", nil
}

// claims are the claims of a token that are read.
type claims struct {
	jwt.RegisteredClaims
	Role        string `json:"role"`
	UserRole    any    `json:"user_role"`
	AppMetadata struct {
		Role  any `json:"role"`
		Roles any `json:"roles"`
	} `json:"app_metadata"`
	all map[string]any
}

func (c *claims) UnmarshalJSON(text []byte) error {
	type plain claims // without this method
	if err := json.Unmarshal(text, (*plain)(c)); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(&c.all)
}

// id returns the id at a path, a text or a whole number, as run_counter.uid() does;
// zero for what is none.
func (c claims) id(path []string) store.ID {
	var at any = c.all
	for _, name := range path {
		within, _ := at.(map[string]any)
		at = within[name]
	}
	text, isText := at.(string)
	if number, is := at.(json.Number); is && !strings.ContainsAny(number.String(), ".eE") {
		text, isText = number.String(), true
	}
	id, err := store.ParseID(text)
	if len(path) == 0 || !isText || err != nil || strings.ContainsFunc(text, unicode.IsControl) {
		return store.ID{}
	}
	return id
}

// Verify returns who a token says, at this moment. Its errors are *[Refused]
// and [ErrUnavailable].
func (v *Verifier) Verify(ctx context.Context, token string) (User, error) {
	if len(token) > maxToken {
		return User{}, &Refused{"the token is longer than 8 KiB: it is none that Supabase makes"}
	}
	var c claims
	parsed, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.keyFor(ctx, t) })
	switch {
	case errors.Is(err, ErrUnavailable):
		return User{}, err
	case errors.Is(err, jwt.ErrTokenExpired):
		return User{}, &Refused{"the token has expired: take a new one, as supabase.auth.getSession() does"}
	case err != nil:
		if known, ok := errors.AsType[*Refused](err); ok {
			return User{}, known
		}
		return User{}, &Refused{"the token is none that this project has signed for a signed-in user: " + v.reasonOf(err, parsed, c)}
	}
	// The keys anon and service_role are tokens too, and belong to no user.
	if c.Role != "authenticated" {
		return User{}, &Refused{"the token is not that of a signed-in user: its role is not \"authenticated\""}
	}
	id := c.id([]string{subject})
	if id.IsZero() {
		return User{}, &Refused{"the token names no user: its sub is not a text of 1 to 255 bytes without control characters"}
	}
	u := User{ID: id, Counts: c.id(v.counts), Expires: c.ExpiresAt.Time}
	for _, given := range []any{c.UserRole, c.AppMetadata.Role, c.AppMetadata.Roles} {
		u.roles = append(u.roles, namesIn(given)...)
	}
	return u, nil
}

// reasonOf says in our words what the parser found: its own may repeat what is
// in the token. What it found is set beside what is configured here where an
// operator can correct it: which algorithm, and which issuer. Neither is a secret;
// the issuer was vouched for by the signature before it was looked at.
func (v *Verifier) reasonOf(err error, t *jwt.Token, c claims) string {
	switch {
	case t != nil && t.Method != nil && !slices.Contains(v.methods, t.Method.Alg()):
		return v.algorithm(t.Method.Alg())
	case errors.Is(err, jwt.ErrTokenSignatureInvalid) && t != nil && t.Method == jwt.SigningMethodHS256:
		return "its signature doesn't fit (HS256): SUPABASE_JWT_SECRET is another project's, or an older one"
	case errors.Is(err, jwt.ErrTokenInvalidIssuer) && !errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return fmt.Sprintf("its issuer (iss) is %q, and SUPABASE_URL makes it %q: where both are the same project, as localhost and 127.0.0.1 are, write SUPABASE_URL as the issuer has it", clip(c.Issuer), v.issuer)
	}
	for _, known := range []struct {
		err  error
		text string
	}{
		{jwt.ErrTokenMalformed, "it is not a JWT"},
		{jwt.ErrTokenUnverifiable, "no key of the project verifies it"},
		{jwt.ErrTokenSignatureInvalid, "its signature doesn't fit"},
		{jwt.ErrTokenRequiredClaimMissing, "it has no exp, iss or aud"},
		{jwt.ErrTokenInvalidAudience, "it is meant for others (aud)"},
		{jwt.ErrTokenInvalidIssuer, "another project has issued it (iss)"},
		{jwt.ErrTokenNotValidYet, "it is not valid yet (nbf)"},
		{jwt.ErrTokenUsedBeforeIssued, "it was issued in the future (iat)"},
	} {
		if errors.Is(err, known.err) {
			return known.text
		}
	}
	return "its claims can't be read"
}

// algorithm says that there is no key for an algorithm.
func (v *Verifier) algorithm(alg string) string {
	expected := strings.Join(v.methods, " or ")
	switch {
	case alg == jwt.SigningMethodHS256.Alg():
		return "it is signed with HS256, the project's legacy secret, which is not set here (SUPABASE_JWT_SECRET); expected is " + expected + ", by a key that the project publishes"
	case v.keys == nil && (alg == jwt.SigningMethodES256.Alg() || alg == jwt.SigningMethodRS256.Alg()):
		return "it is signed with " + alg + ", by a key that the project publishes, and its address is not set here (SUPABASE_URL); expected is " + expected + ", by SUPABASE_JWT_SECRET"
	}
	return "it is signed with another algorithm than " + expected
}

// clip bounds what is repeated of a token.
func clip(text string) string {
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// namesIn returns the strings of a claim that may be one or a list of them.
func namesIn(claim any) (names []string) {
	switch c := claim.(type) {
	case string:
		return []string{c}
	case []any:
		for _, each := range c {
			if name, ok := each.(string); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// keyFor returns the one key that may have signed a token.
func (v *Verifier) keyFor(ctx context.Context, t *jwt.Token) (any, error) {
	// An extension that has to be understood isn't (RFC 7515, 4.1.11).
	if _, has := t.Header["crit"]; has {
		return nil, &Refused{"the token asks for an extension (crit) that is not known here"}
	}
	if kind, has := t.Header["typ"]; has {
		if name, ok := kind.(string); !ok || !strings.EqualFold(name, "JWT") {
			return nil, &Refused{"the token is of another type (typ) than JWT"}
		}
	}
	kid, has := t.Header["kid"].(string)
	if _, given := t.Header["kid"]; given && !has {
		return nil, &Refused{"the token's kid is not a text"}
	}
	if t.Method == jwt.SigningMethodHS256 {
		return v.secret, nil // the parser lets it through only where there is one
	}
	return v.keys.find(ctx, kid, t.Method.Alg())
}
