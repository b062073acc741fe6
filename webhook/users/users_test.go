package users_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

const ada = "11111111-1111-4111-8111-111111111111"

// project publishes the public halves of its keys, each under a name.
type project struct {
	*httptest.Server
	keys atomic.Pointer[map[string]*ecdsa.PrivateKey]
	down atomic.Bool
	now  time.Time
}

func newProject(t *testing.T, names ...string) *project {
	t.Helper()
	p := &project{now: start}
	p.publish(t, names...)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.UserAgent(), "runcounter/") {
			t.Errorf("the keys are fetched by %q, want runcounter with its version", r.UserAgent())
		}
		if p.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		var set struct {
			Keys []map[string]string `json:"keys"`
		}
		for name, key := range *p.keys.Load() {
			point, err := key.PublicKey.Bytes()
			if err != nil {
				t.Error(err)
			}
			set.Keys = append(set.Keys, map[string]string{
				"kty": "EC", "crv": "P-256", "kid": name,
				"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
			})
		}
		if err := json.NewEncoder(w).Encode(set); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// publish replaces the keys.
func (p *project) publish(t *testing.T, names ...string) {
	t.Helper()
	keys := map[string]*ecdsa.PrivateKey{}
	for _, name := range names {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	p.keys.Store(&keys)
}

func (p *project) verifier(t *testing.T) *users.Verifier {
	t.Helper()
	v, err := users.New(users.Config{Project: p.URL, Now: func() time.Time { return p.now }})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// token is Ada's, good for an hour, with other claims in place of some.
func (p *project) token(t *testing.T, key string, other jwt.MapClaims) string {
	t.Helper()
	claims := jwt.MapClaims{
		"sub": ada, "role": "authenticated", "aud": "authenticated", "iss": p.URL + "/auth/v1", "exp": p.now.Add(time.Hour).Unix(),
	}
	maps.Copy(claims, other)
	made := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	made.Header["kid"] = key
	text, err := made.SignedString((*p.keys.Load())[key])
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAGoodTokenNamesItsUser(t *testing.T) {
	t.Parallel()
	p := newProject(t, "one")
	u, err := p.verifier(t).Verify(t.Context(), p.token(t, "one", jwt.MapClaims{"app_metadata": map[string]any{"roles": []string{"support"}}}))
	if err != nil || u.ID.String() != ada || u.Counts != u.ID || !u.Expires.Equal(start.Add(time.Hour)) || !u.HasRole("support") || u.HasRole("") {
		t.Errorf("got %+v, %v; want Ada for an hour, with her role", u, err)
	}
}

func TestATokenThatIsNotGoodIsRefusedWithItsReason(t *testing.T) {
	t.Parallel()
	p := newProject(t, "one")
	v := p.verifier(t)
	signed := func(other jwt.MapClaims) string { return p.token(t, "one", other) }
	good := signed(nil)
	head, rest, _ := strings.Cut(good, ".")
	payload, _, _ := strings.Cut(rest, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	hs, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": ada}).SignedString([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ token, want string }{
		"expired":                  {signed(jwt.MapClaims{"exp": start.Add(-time.Minute).Unix()}), "has expired"},
		"never expiring":           {signed(jwt.MapClaims{"exp": nil}), "no exp, iss or aud"},
		"for another audience":     {signed(jwt.MapClaims{"aud": "else"}), "meant for others (aud)"},
		"of another issuer":        {signed(jwt.MapClaims{"iss": "https://else.example/auth/v1"}), `its issuer (iss) is "https://else.example/auth/v1"`},
		"not valid yet":            {signed(jwt.MapClaims{"nbf": start.Add(time.Hour).Unix()}), "not valid yet"},
		"of the anonymous key":     {signed(jwt.MapClaims{"role": "anon"}), `role is not "authenticated"`},
		"of no user":               {signed(jwt.MapClaims{"sub": ""}), "names no user"},
		"signed with nothing":      {encode(`{"alg":"none","typ":"JWT"}`) + "." + payload + ".", "another algorithm than ES256 or RS256"},
		"signed with a secret":     {hs, "SUPABASE_JWT_SECRET"},
		"of another type":          {encode(`{"alg":"ES256","typ":"at+jwt","kid":"one"}`) + "." + rest, "another type (typ)"},
		"with an extension":        {encode(`{"alg":"ES256","crit":["b64"],"kid":"one"}`) + "." + rest, "an extension (crit)"},
		"with another's claims":    {head + "." + encode(`{"sub":"else"}`) + "." + strings.Split(good, ".")[2], "its signature doesn't fit"},
		"of a key that is unknown": {encode(`{"alg":"ES256","typ":"JWT","kid":"two"}`) + "." + rest, "no key of the project verifies the token"},
		"no token":                 {"ada", "not a JWT"},
		"too long":                 {strings.Repeat("a", 8<<10+1), "longer than 8 KiB"},
	} {
		u, err := v.Verify(t.Context(), tt.token)
		refused, ok := errors.AsType[*users.Refused](err)
		if !ok || !strings.Contains(refused.Reason, tt.want) || u.ID != (store.ID{}) {
			t.Errorf("%s: got %+v, %v; want it refused with %q", name, u, err, tt.want)
		}
	}
}

func TestKeysThatRotateAreReadAgain(t *testing.T) {
	t.Parallel()
	p := newProject(t, "one")
	v := p.verifier(t)
	old := p.token(t, "one", nil)
	want := func(when, token, reason string) {
		t.Helper()
		if _, err := v.Verify(t.Context(), token); reason == "" && err != nil || reason != "" && (err == nil || !strings.Contains(err.Error(), reason)) {
			t.Errorf("%s: got %v, want %q", when, err, reason)
		}
	}
	want("the first key", old, "")
	p.publish(t, "two")
	next := p.token(t, "two", nil)
	want("a new key, within ten seconds of the last reading", next, "no key of the project verifies the token")
	p.now = p.now.Add(11 * time.Second)
	want("a new key", next, "")
	want("the key that was rotated out", old, "no key of the project verifies the token")
	p.down.Store(true)
	p.now = p.now.Add(9 * time.Minute)
	want("a known key while the project is down", next, "")
	p.now = p.now.Add(2 * time.Minute)
	if _, err := v.Verify(t.Context(), next); !errors.Is(err, users.ErrUnavailable) {
		t.Errorf("keys that are older than ten minutes: got %v, want ErrUnavailable", err)
	}
}

func TestAConfigurationThatWouldLetStrangersInIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		c    users.Config
		want string
	}{
		"nothing":                     {users.Config{}, "neither"},
		"a short secret":              {users.Config{Secret: "secret"}, "shorter than 32 bytes"},
		"a secret in quotation marks": {users.Config{Secret: `"` + strings.Repeat("k", 40) + `"`}, "quotation marks"},
		"an address that is none":     {users.Config{Project: "abc"}, "not the address of a project"},
		"an address without TLS":      {users.Config{Project: "http://abc.supabase.co"}, "write https://"},
		"an address with a parameter": {users.Config{Project: "https://abc.supabase.co?x=1"}, "not the address of a project"},
	} {
		if _, err := users.New(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
