package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// legacy is the project's HS256 secret.
const legacy = "a legacy secret of a project, long enough for HS256"

// project is a stand-in for a Supabase project's Auth: it publishes keys.
type project struct {
	t      *testing.T
	server *httptest.Server
	asked  atomic.Int64

	mu   sync.Mutex
	keys []map[string]string
	fail bool
}

func newProject(t *testing.T) *project {
	t.Helper()
	p := &project{t: t}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.fail || r.URL.Path != "/auth/v1/.well-known/jwks.json" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": p.keys})
	}))
	t.Cleanup(p.server.Close)
	return p
}

func (p *project) issuer() string { return p.server.URL + "/auth/v1" }

func (p *project) publish(keys ...map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func (p *project) breaks(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = down
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ecKey(t *testing.T, kid string) (*ecdsa.PrivateKey, map[string]string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return k, map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])}
}

func rsaKey(t *testing.T, kid string, bits int) (*rsa.PrivateKey, map[string]string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k, map[string]string{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": b64(k.N.Bytes()), "e": "AQAB"}
}

// good are the claims of a signed-in user's token.
func good(issuer string, change map[string]any) jwt.MapClaims {
	now := time.Now()
	c := jwt.MapClaims{
		"iss": issuer, "aud": "authenticated", "sub": user, "role": "authenticated", "email": "ada@example.com",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "session_id": "5d0c3b5e-0000-4000-8000-000000000000", "is_anonymous": false,
	}
	maps.Copy(c, change)
	for name, value := range c {
		if value == nil {
			delete(c, name)
		}
	}
	return c
}

// signed makes a token; header changes its header.
func signed(t testing.TB, method jwt.SigningMethod, key any, claims jwt.Claims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// byHand signs what no library would.
func byHand(header, payload string, sign func(string) []byte) string {
	text := b64([]byte(header)) + "." + b64([]byte(payload))
	return text + "." + b64(sign(text))
}
