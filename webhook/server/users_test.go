package server

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

const otherUser = "22222222-2222-4222-8222-222222222222"

// withUsers starts a server that knows a project's users.
func withUsers(t *testing.T, p *project, c users.Config, with func(*Config)) *rig {
	t.Helper()
	return withLimitedUsers(t, p, c, func(cfg *Config, _ *limits) {
		if with != nil {
			with(cfg)
		}
	})
}

func withLimitedUsers(t *testing.T, p *project, c users.Config, with func(*Config, *limits)) *rig {
	t.Helper()
	if c.Project == "" && p != nil {
		c.Project = p.server.URL
	}
	v, err := users.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(cfg *Config, l *limits, g *gated) {
		cfg.Users = v
		all := g.Store.(reader)
		cfg.Reader, cfg.Letters = all, all
		with(cfg, l)
	})
}

const ownCount = "/v1/counts?workflow_id=" + workflow

func (r *rig) as(token, path string) said {
	r.t.Helper()
	return r.bare("GET", path, "Authorization: Bearer "+token)
}

// said is what the server answered.
type said struct {
	status int
	header http.Header
	body   string
}

// bare sends what no client of HTTP would. A connection that ends without an
// answer has the status 0.
func (r *rig) bare(method, path string, headers ...string) said {
	r.t.Helper()
	a, err := r.raw(rawRequest{method: method, path: path, headers: headers, auth: "none", kind: "none", length: "none"}.String())
	if err != nil {
		return said{}
	}
	return said{a.status, a.header, string(a.body)}
}

func TestASignedInUserReadsTheirOwnCountsAlone(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	ec, ecPublic := ecKey(t, "ec")
	rs, rsPublic := rsaKey(t, "rsa", 2048)
	p.publish(ecPublic, rsPublic)
	r := withUsers(t, p, users.Config{Secret: legacy}, nil)
	r.deliver(completed(1))
	for name, token := range map[string]string{
		"ES256":                signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), nil), map[string]any{"kid": "ec"}),
		"RS256":                signed(t, jwt.SigningMethodRS256, rs, good(p.issuer(), nil), map[string]any{"kid": "rsa"}),
		"HS256":                signed(t, jwt.SigningMethodHS256, []byte(legacy), good(p.issuer(), nil), nil),
		"a list of audiences":  signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), map[string]any{"aud": []string{"else", "authenticated"}}), map[string]any{"kid": "ec"}),
		"the clock of another": signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), map[string]any{"iat": time.Now().Add(20 * time.Second).Unix()}), map[string]any{"kid": "ec"}),
	} {
		for path, want := range map[string]string{
			ownCount:                        `"count":1`,
			ownCount + "&user_id=" + user:   `"count":1`,
			"/v1/users/" + user + "/counts": `"count":1`,
			"/v1/counts?draft_id=" + draft:  `"count":0`,
			"/v1/counts/stream?workflow_id=" + strings.Repeat("x", 256): "longer than 255 bytes",
		} {
			if got := r.as(token, path); !strings.Contains(got.body, want) {
				t.Errorf("%s, GET %s: got %d %s, want %s", name, path, got.status, got.body, want)
			}
		}
	}
	if got := r.as(apiKey, ownCount); !strings.Contains(got.body, `"user_id":null,`) {
		t.Errorf("an API key without a user: got %d %s, want the count of all users", got.status, got.body)
	}
}

// hostileTokens are each refused with 401, unless said otherwise.
func hostileTokens(t *testing.T, p *project, ec *ecdsa.PrivateKey, rs *rsa.PrivateKey) map[string]string {
	kid := map[string]any{"kid": "ec"}
	es := func(claims map[string]any) string {
		return signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), claims), kid)
	}
	sure := es(nil)
	payload, err := json.Marshal(good(p.issuer(), nil))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&rs.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	stranger, _ := ecKey(t, "ec")
	strangers, _ := rsaKey(t, "rsa", 2048)
	nothing := func(string) []byte { return nil }
	parts := strings.Split(sure, ".")
	flipped := "A"
	if strings.HasPrefix(parts[2], flipped) {
		flipped = "B"
	}
	header := func(extra map[string]any) string {
		h := map[string]any{"kid": "ec"}
		maps.Copy(h, extra)
		return signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), nil), h)
	}
	return map[string]string{
		"alg none":                           byHand(`{"alg":"none","typ":"JWT"}`, string(payload), nothing),
		"alg NONE":                           byHand(`{"alg":"NONE","typ":"JWT"}`, string(payload), nothing),
		"alg nOnE with a signature":          byHand(`{"alg":"nOnE"}`, string(payload), func(string) []byte { return []byte("x") }),
		"no alg":                             byHand(`{"typ":"JWT","kid":"ec"}`, string(payload), nothing),
		"alg is a number":                    byHand(`{"alg":256,"kid":"ec"}`, string(payload), nothing),
		"an alg that there is, but not here": signed(t, jwt.SigningMethodHS512, []byte(legacy), good(p.issuer(), nil), nil),
		"PS256 by the project's RSA key":     signed(t, jwt.SigningMethodPS256, rs, good(p.issuer(), nil), map[string]any{"kid": "rsa"}),
		"HS256 by the RSA key's PEM":         signed(t, jwt.SigningMethodHS256, public, good(p.issuer(), nil), map[string]any{"kid": "rsa"}),
		"HS256 by the RSA key's DER":         signed(t, jwt.SigningMethodHS256, der, good(p.issuer(), nil), map[string]any{"kid": "rsa"}),
		"HS256 by an empty secret":           signed(t, jwt.SigningMethodHS256, []byte{}, good(p.issuer(), nil), nil),
		"HS256 by another secret":            signed(t, jwt.SigningMethodHS256, []byte("another secret of another project, as long"), good(p.issuer(), nil), nil),
		"ES256 by another project's key":     signed(t, jwt.SigningMethodES256, stranger, good(p.issuer(), nil), kid),
		"RS256 by another project's key":     signed(t, jwt.SigningMethodRS256, strangers, good(p.issuer(), nil), map[string]any{"kid": "rsa"}),
		"RS256 that names the EC key":        signed(t, jwt.SigningMethodRS256, rs, good(p.issuer(), nil), kid),
		"ES256 that names the RSA key":       signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), nil), map[string]any{"kid": "rsa"}),
		"a kid that is not published":        signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), nil), map[string]any{"kid": "gone"}),
		"a kid that is a path":               signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), nil), map[string]any{"kid": "../../../../dev/null"}),
		"a kid that is SQL":                  signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), nil), map[string]any{"kid": "x' union select 'y"}),
		"a kid that is a list":               signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), nil), map[string]any{"kid": []string{"ec"}}),
		"its own key in the header (jwk)":    signed(t, jwt.SigningMethodES256, stranger, good(p.issuer(), nil), map[string]any{"kid": "ec", "jwk": map[string]string{"kty": "EC"}}),
		"its own address of keys (jku)":      signed(t, jwt.SigningMethodES256, stranger, good(p.issuer(), nil), map[string]any{"kid": "ec", "jku": "http://127.0.0.1:1/"}),
		"its own certificate (x5u)":          signed(t, jwt.SigningMethodES256, stranger, good(p.issuer(), nil), map[string]any{"kid": "ec", "x5u": "http://127.0.0.1:1/"}),
		"crit":                               header(map[string]any{"crit": []string{"exp"}}),
		"b64 false":                          header(map[string]any{"crit": []string{"b64"}, "b64": false}),
		"typ of something else":              header(map[string]any{"typ": "at+jwt;dpop"}),
		"typ is a number":                    header(map[string]any{"typ": 1}),
		"expired":                            es(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"no exp":                             es(map[string]any{"exp": nil}),
		"exp is a text":                      es(map[string]any{"exp": "tomorrow"}),
		"exp is negative":                    es(map[string]any{"exp": -1}),
		"exp is 1e308":                       byES256(t, ec, `{"alg":"ES256","kid":"ec"}`, strings.Replace(string(payload), `"exp":`, `"exp":1e308,"was":`, 1)),
		"exp is null":                        byES256(t, ec, `{"alg":"ES256","kid":"ec"}`, strings.Replace(string(payload), `"exp":`, `"exp":null,"was":`, 1)),
		"not valid yet":                      es(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"issued in the future":               es(map[string]any{"iat": time.Now().Add(time.Hour).Unix()}),
		"another issuer":                     es(map[string]any{"iss": "https://evil.example.com/auth/v1"}),
		"no issuer":                          es(map[string]any{"iss": nil}),
		"an issuer that begins like ours":    es(map[string]any{"iss": p.issuer() + ".evil.example.com"}),
		"another audience":                   es(map[string]any{"aud": "admin"}),
		"no audience":                        es(map[string]any{"aud": nil}),
		"an empty list of audiences":         es(map[string]any{"aud": []string{}}),
		"the anon key":                       es(map[string]any{"role": "anon", "sub": nil}),
		"the service_role key":               es(map[string]any{"role": "service_role", "sub": nil}),
		"service_role with a user":           es(map[string]any{"role": "service_role"}),
		"no role":                            es(map[string]any{"role": nil}),
		"no sub":                             es(map[string]any{"sub": nil}),
		"sub is empty":                       es(map[string]any{"sub": ""}),
		"sub is longer than any id":          es(map[string]any{"sub": strings.Repeat("u", 256)}),
		"sub is a list":                      es(map[string]any{"sub": []string{user}}),
		"sub with a line break":              es(map[string]any{"sub": user + "\n"}),
		"a signature with a letter changed":  parts[0] + "." + parts[1] + "." + flipped + parts[2][1:],
		"a signature cut off":                parts[0] + "." + parts[1] + "." + parts[2][:40],
		"a signature of zeros":               parts[0] + "." + parts[1] + "." + b64(make([]byte, 64)),
		"no signature":                       parts[0] + "." + parts[1] + ".",
		"another's claims behind our header": parts[0] + "." + strings.Split(es(map[string]any{"sub": otherUser}), ".")[1] + "." + parts[2],
		"padded base64":                      sure + "==",
		"four parts":                         sure + ".x",
		"five parts, as a JWE has":           sure + ".x.y",
		"a token in a token":                 byHand(`{"alg":"none","cty":"JWT"}`, sure, nothing),
		"claims that are a list":             byES256(t, ec, `{"alg":"ES256","kid":"ec"}`, `[]`),
		"claims that are no JSON":            byES256(t, ec, `{"alg":"ES256","kid":"ec"}`, `{`),
		"NULs":                               "\x00.\x00.\x00",
		"dots":                               "..",
		"longer than any":                    sure + strings.Repeat("A", 9<<10),
	}
}

// byES256 signs a header and claims that no library would make.
func byES256(t *testing.T, key *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	return byHand(header, payload, func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	})
}

func TestHostileTokens(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	ec, ecPublic := ecKey(t, "ec")
	rs, rsPublic := rsaKey(t, "rsa", 2048)
	p.publish(ecPublic, rsPublic, map[string]string{"kty": "oct", "kid": "oct", "k": b64([]byte(legacy)), "alg": "HS256"})
	r := withUsers(t, p, users.Config{}, nil)
	r.deliver(completed(1))
	tokens := hostileTokens(t, p, ec, rs)
	// The published secret is none, and HS256 is not allowed without one.
	tokens["HS256 by a secret that the project publishes"] = signed(t, jwt.SigningMethodHS256, []byte(legacy), good(p.issuer(), nil), map[string]any{"kid": "oct"})
	before := r.storeCalls()
	for name, token := range tokens {
		for _, path := range []string{ownCount, "/v1/counts/stream?workflow_id=" + workflow, "/v1/users/" + user + "/counts"} {
			got := r.as(token, path)
			want := http.StatusUnauthorized
			if len(token) > 8<<10 {
				want = http.StatusRequestHeaderFieldsTooLarge
			}
			if strings.ContainsAny(token, "\x00") {
				want = http.StatusBadRequest
			}
			if got.status != want && (want != http.StatusRequestHeaderFieldsTooLarge || got.status != http.StatusUnauthorized) {
				t.Errorf("%s: GET %s: got %d %s, want %d", name, path, got.status, got.body, want)
			}
			if got.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: GET %s: the answer is %s", name, path, got.header.Get("Content-Type"))
			}
			if strings.Contains(got.body, `"count"`) || strings.Contains(got.body, "evil") && !strings.Contains(name, "issuer") { // which is named beside ours
				t.Errorf("%s: GET %s tells %s", name, path, got.body)
			}
		}
	}
	if calls := r.storeCalls() - before; calls != 0 {
		t.Errorf("%v calls reached the store", calls)
	}
	if len(tokens) < 60 {
		t.Errorf("got %d hostile tokens", len(tokens))
	}
	// An invented kid makes the server ask for the keys at most every ten
	// seconds, however many come.
	if asked := p.asked.Load(); asked > 3 {
		t.Errorf("the keys were read %d times", asked)
	}
	log := r.log.String()
	for name, token := range tokens {
		if part := strings.Split(token, "."); len(part[len(part)-1]) > 20 && strings.Contains(log, part[len(part)-1]) {
			t.Errorf("the token of %q is in the log", name)
		}
	}
	private, err := ec.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{legacy, apiKey, "ada@example.com", hex.EncodeToString(private)} {
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// storeCalls is how often the store was asked anything, by the metrics.
func (r *rig) storeCalls() (n float64) {
	r.t.Helper()
	families, err := r.server.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "runcounter_store_tries_total" {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// TestCaseT4_ATokensClaimSaysWhoseCountsItsUserMayRead, where one is said: a sub
// that equals an organisation's id opens nothing.
func TestCaseT4_ATokensClaimSaysWhoseCountsItsUserMayRead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		claim []string
		token map[string]any
		want  string
	}{
		"no claim":                 {nil, map[string]any{"org_id": user}, "need an API key"},
		"the claim":                {[]string{"org_id"}, map[string]any{"sub": otherUser, "org_id": user}, `"count":1`},
		"in another case":          {[]string{"org_id"}, map[string]any{"sub": otherUser, "org_id": strings.ToUpper(user)}, `"count":1`},
		"another organisation's":   {[]string{"org_id"}, map[string]any{"org_id": otherUser}, "another user"},
		"a token without it":       {[]string{"org_id"}, nil, "no claim org_id"},
		"within another":           {[]string{"o", "id"}, map[string]any{"sub": otherUser, "o": map[string]any{"id": user}}, `"count":1`},
		"a name with a dot in it":  {[]string{"o", "id"}, map[string]any{"o.id": user}, "no claim o.id"},
		"a list":                   {[]string{"org_id"}, map[string]any{"org_id": []string{user}}, "no claim org_id"},
		"a number of another type": {[]string{"org_id"}, map[string]any{"org_id": 1.5}, "no claim org_id"},
		"with a line break":        {[]string{"org_id"}, map[string]any{"org_id": user + "\n"}, "no claim org_id"},
	} {
		t.Run(name, func(t *testing.T) {
			r := withUsers(t, nil, users.Config{Secret: legacy}, func(c *Config) { c.Users.CountBy(tt.claim) })
			r.deliver(completed(1))
			token := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", tt.token), nil)
			for _, path := range []string{ownCount + "&user_id=" + user, "/v1/users/" + user + "/counts"} {
				if got := r.as(token, path); !strings.Contains(got.body, tt.want) {
					t.Errorf("GET %s: got %d %s, want %s", path, got.status, got.body, tt.want)
				}
			}
			if got := r.as(token, "/v1/counts/stream?user_id="+user); !strings.HasPrefix(tt.want, `"`) && got.status != http.StatusForbidden {
				t.Errorf("a stream: got %d %s, want 403", got.status, got.body)
			}
		})
	}
}

// What a good token, or none, must not get.
func TestHostileRequestsOfUsers(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	ec, public := ecKey(t, "ec")
	p.publish(public)
	r := withUsers(t, p, users.Config{Secret: legacy}, func(c *Config) { c.Origins = []string{"https://app.example.com"} })
	r.deliver(completed(1))
	ada := signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), nil), map[string]any{"kid": "ec"})
	bob := signed(t, jwt.SigningMethodES256, ec, good(p.issuer(), map[string]any{"sub": otherUser}), map[string]any{"kid": "ec"})
	bearer := "Authorization: Bearer "
	for _, tt := range []struct {
		name, method, path string
		headers            []string
		want               int
		detail             string
	}{
		{"no token", "GET", ownCount, nil, 401, "needs a key"},
		{"an empty token", "GET", ownCount, []string{bearer}, 401, ""},
		{"the token as Basic", "GET", ownCount, []string{"Authorization: Basic " + ada}, 401, ""},
		{"the token in the query", "GET", ownCount + "&access_token=" + ada, nil, 401, ""},
		{"the token in the query beside a good one", "GET", ownCount + "&access_token=x", []string{bearer + ada}, 400, "not known here"},
		{"the token in a cookie", "GET", ownCount, []string{"Cookie: sb-access-token=" + ada}, 401, ""},
		{"another user's count", "GET", ownCount + "&user_id=" + user, []string{bearer + bob}, 403, "another user"},
		{"another user's counts", "GET", "/v1/users/" + user + "/counts", []string{bearer + bob}, 403, "another user"},
		{"another user's stream", "GET", "/v1/counts/stream?workflow_id=" + workflow + "&user_id=" + user, []string{bearer + bob}, 403, "another user"},
		{"two users", "GET", ownCount + "&user_id=" + otherUser + "&user_id=" + user, []string{bearer + bob}, 400, "twice"},
		{"two users of a stream", "GET", "/v1/counts/stream?workflow_id=" + workflow + "&user_id=" + otherUser + "&user_id=" + user, []string{bearer + bob}, 400, "twice"},
		{"the user in another case", "GET", "/v1/users/" + strings.ToUpper(user) + "/counts", []string{bearer + bob}, 403, ""},
		{"up and down again", "GET", "/v1/users/" + otherUser + "/../" + user + "/counts", []string{bearer + bob}, 403, ""},
		{"up, escaped", "GET", "/v1/users/" + otherUser + "/%2e%2e/" + user + "/counts", []string{bearer + bob}, 403, ""},
		{"a slash, escaped", "GET", "/v1/users/" + user + "%2fcounts", []string{bearer + bob}, 403, ""},
		{"a user's id and a NUL", "GET", "/v1/users/" + otherUser + "%00" + user + "/counts", []string{bearer + bob}, 400, ""},
		{"a total of all users", "GET", ownCount + "&users=all", []string{bearer + ada}, 403, "API key"},
		{"a run", "GET", "/v1/runs/00000000-0000-4000-8000-000000000001", []string{bearer + ada}, 403, "API key"},
		{"to begin a run", "POST", "/v1/runs", []string{bearer + ada, "Content-Type: application/json"}, 403, "API key"},
		{"to complete a run", "POST", "/v1/runs/00000000-0000-4000-8000-000000000001/complete", []string{bearer + ada, "Content-Type: application/json"}, 403, "API key"},
		{"to amend a run", "POST", "/v1/runs/00000000-0000-4000-8000-000000000001/amend", []string{bearer + ada, "Content-Type: application/json"}, 403, "API key"},
		{"to send a webhook", "POST", path, []string{bearer + ada, "Content-Type: application/json"}, 401, ""},
		{"to write a count", "POST", ownCount, []string{bearer + ada}, 403, "API key"},
		{"to delete a count", "DELETE", ownCount, []string{bearer + ada}, 403, "API key"},
		{"fifty-one counts in a stream", "GET", "/v1/counts/stream?" + manyWorkflows(51), []string{bearer + ada}, 400, "at most 50"},
		{"a kind of several counts", "GET", "/v1/counts/stream?kind=workflow&" + manyWorkflows(2), []string{bearer + ada}, 400, "kind is for a count of all runs of a user"},
		{"an empty kind of several counts", "GET", "/v1/counts/stream?kind=&" + manyWorkflows(2), []string{bearer + ada}, 400, "kind is for a count of all runs of a user"},
		{"a window of several counts", "GET", "/v1/counts/stream?from=2026-01-01T00:00:00Z&" + manyWorkflows(2), []string{bearer + ada}, 400, "is for all time and takes no from"},
		{"an empty end of several counts", "GET", "/v1/counts/stream?to=&" + manyWorkflows(2), []string{bearer + ada}, 400, "is for all time and takes no to"},
		{"several counts of users that are none", "GET", "/v1/counts/stream?users=some&" + manyWorkflows(2), []string{bearer + ada}, 400, "users must be one of all."},
		{"several counts of an empty user", "GET", "/v1/counts/stream?user_id=&" + manyWorkflows(2), []string{bearer + ada}, 400, "user_id is empty. Send the id"},
		{"an empty one of several counts", "GET", "/v1/counts/stream?draft_id=&" + manyWorkflows(2), []string{bearer + ada}, 400, "draft_id is empty. Send the id"},
		{"several counts of all users and of one", "GET", "/v1/counts/stream?users=all&user_id=" + user + "&" + manyWorkflows(2), []string{bearer + ada}, 400, "leave out user_id"},
		{"a stream of a total", "GET", "/v1/counts/stream?users=all&workflow_id=" + workflow, []string{bearer + ada}, 403, "API keys"},
		{"a stream of totals", "GET", "/v1/counts/stream?users=all&" + manyWorkflows(2), []string{bearer + ada}, 403, "API keys"},
		{"another user's allowance", "GET", "/v1/allowance?user_limit=1&user_id=" + user, []string{bearer + bob}, 403, "another user"},
		{"another user's allowance as a stream", "GET", "/v1/allowance/stream?user_limit=1&user_id=" + user, []string{bearer + bob}, 403, "another user"},
		{"all of another user's count", "GET", "/v1/counts?user_id=" + user, []string{bearer + bob}, 403, "another user"},
		{"all of another user's count as a stream", "GET", "/v1/counts/stream?user_id=" + user, []string{bearer + bob}, 403, "another user"},
		{"a head of 20 KiB", "GET", ownCount, []string{bearer + ada, "X-Padding: " + strings.Repeat("x", 20<<10)}, 431, "16 KiB"},
		{"two Authorization headers, the second of another", "GET", ownCount + "&user_id=" + user, []string{bearer + bob, bearer + ada}, 403, ""},
		{"a line break in the token", "GET", ownCount, []string{bearer + "x.y.z\r\nX-Injected: yes"}, 401, ""},
		{"a page of another origin asks first", "OPTIONS", "/v1/counts", []string{"Origin: https://evil.example.com", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization"}, 204, ""},
		{"a page of an origin that begins like ours", "OPTIONS", "/v1/counts", []string{"Origin: https://app.example.com.evil.example.com", "Access-Control-Request-Method: GET"}, 204, ""},
		{"a page of no origin", "OPTIONS", "/v1/counts", []string{"Origin: null", "Access-Control-Request-Method: GET"}, 204, ""},
	} {
		got := r.bare(tt.method, tt.path, tt.headers...)
		if got.status != tt.want || !strings.Contains(got.body, tt.detail) {
			t.Errorf("%s: got %d %s, want %d and %q", tt.name, got.status, got.body, tt.want, tt.detail)
		}
		if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != "" {
			t.Errorf("%s: pages of %q may read the answer", tt.name, allowed)
		}
		if got.header.Get("X-Injected") != "" || got.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: got the headers %v", tt.name, got.header)
		}
	}
	got := r.bare("GET", ownCount, bearer+ada, "Origin: https://app.example.com")
	if got.status != 200 || got.header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("a page of ours: got %d %v", got.status, got.header)
	}
	if strings.Contains(r.log.String(), ada) || strings.Contains(r.log.String(), bob) {
		t.Error("a token is in the log")
	}
}

func manyWorkflows(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("workflow_id=aaaaaaaa-aaaa-4aaa-8aaa-%012d", i))
	}
	return strings.Join(list, "&")
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	first, firstPublic := ecKey(t, "first")
	second, secondPublic := ecKey(t, "second")
	p.publish(firstPublic)
	var clock atomic.Int64
	began := time.Now()
	now := func() time.Time { return began.Add(time.Duration(clock.Load())) }
	r := withUsers(t, p, users.Config{Now: now}, nil)
	old := signed(t, jwt.SigningMethodES256, first, good(p.issuer(), nil), map[string]any{"kid": "first"})
	fresh := signed(t, jwt.SigningMethodES256, second, good(p.issuer(), nil), map[string]any{"kid": "second"})
	want := func(what, token string, status int) {
		t.Helper()
		if got := r.as(token, ownCount); got.status != status {
			t.Errorf("%s: got %d %s, want %d", what, got.status, got.body, status)
		}
	}
	want("the first key", old, 200)
	want("a key that is not there yet", fresh, 401)
	p.publish(firstPublic, secondPublic)
	want("before the keys may be read again", fresh, 401)
	clock.Add(int64(11 * time.Second))
	want("a new key", fresh, 200)
	want("the old one beside it", old, 200)
	p.publish(secondPublic)
	clock.Add(int64(10 * time.Minute))
	want("a key that was revoked", old, 401)
	want("the other one", fresh, 200)
	p.breaks(true)
	clock.Add(int64(5 * time.Minute))
	want("the project is down, for a while", fresh, 200)
	clock.Add(int64(6 * time.Minute))
	want("for so long that a revoked key would not be noticed", fresh, 503)
	p.breaks(false)
	clock.Add(int64(11 * time.Second))
	want("it is there again", fresh, 200)
}

// Whose key is known doesn't wait while a slow project is asked for another.
func TestAKnownKeyDoesNotWaitForAnUnknownOne(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	known, public := ecKey(t, "known")
	unknown, _ := ecKey(t, "unknown")
	p.publish(public)
	var clock atomic.Int64
	began := time.Now()
	r := withUsers(t, p, users.Config{Now: func() time.Time { return began.Add(time.Duration(clock.Load())) }}, nil)
	ada := signed(t, jwt.SigningMethodES256, known, good(p.issuer(), nil), map[string]any{"kid": "known"})
	eve := signed(t, jwt.SigningMethodES256, unknown, good(p.issuer(), nil), map[string]any{"kid": "unknown"})
	if got := r.as(ada, ownCount); got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	clock.Add(int64(11 * time.Second))
	asked := p.asked.Load()
	p.mu.Lock() // the project doesn't answer
	refused := make(chan said, 1)
	go func() { refused <- r.as(eve, ownCount) }()
	wait.Until(t, "the project is asked", func() bool { return p.asked.Load() > asked })
	got := r.as(ada, ownCount)
	select {
	case <-refused:
		t.Error("the known key has waited for the answer about the unknown one")
	default:
	}
	p.mu.Unlock()
	if got.status != http.StatusOK {
		t.Errorf("meanwhile: got %d %s, want 200", got.status, got.body)
	}
	if got := wait.For(t, "the answer", refused); got.status != http.StatusUnauthorized {
		t.Errorf("the unknown key: got %d %s, want 401", got.status, got.body)
	}
}

func TestAnAPIKeyMayLookLikeAToken(t *testing.T) {
	t.Parallel()
	const dotted = "an.API.key.with.dots.in.it"
	r := withUsers(t, nil, users.Config{Secret: legacy}, func(c *Config) { c.APIKeys = []string{dotted} })
	if got := r.as(dotted, ownCount+"&user_id="+user); got.status != http.StatusOK {
		t.Errorf("got %d %s, want 200", got.status, got.body)
	}
}
