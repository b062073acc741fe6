package server

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/webhook/users"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	later := time.Duration(0)
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(later) }
	v, err := users.New(users.Config{Secret: legacy, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	r := withConsole(t, func(c *Config) { c.Users, c.Now, c.Console.Role = v, now, "operator" })
	b := newBrowser(t, r)
	for _, tt := range []struct {
		name, key, want string
	}{
		{"Ada", "wrong", "none of those configured"},
		{"", apiKey, "Say who you are"},
		{"  ", apiKey, "Say who you are"},
		{"Ada", "", "none of those configured"},
	} {
		b.get("/sign-in").send("/sign-in", "name", tt.name, "key", tt.key)
		if b.has(tt.want); b.status != 401 {
			t.Errorf("%q, %q: got %d, want 401", tt.name, tt.key, b.status)
		}
	}
	res := b.do("POST", "/sign-in", url.Values{"name": {"Ada"}, "key": {apiKey}}, "X-Forwarded-Proto", "https")
	_ = res
	token := func(claims map[string]any) string {
		return signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", claims), nil)
	}
	b = newBrowser(t, r)
	b.get("/sign-in").send("/sign-in", "token", token(nil))
	if b.has("not the role"); b.status != 403 {
		t.Errorf("a user without the role: %d", b.status)
	}
	b.get("/sign-in").send("/sign-in", "token", token(map[string]any{"user_metadata": map[string]string{"role": "operator"}}))
	if b.status != 403 {
		t.Errorf("a user who gave themselves the role: %d", b.status)
	}
	b.get("/sign-in").send("/sign-in", "token", "x.y.z")
	if b.status != 401 {
		t.Errorf("no token: %d", b.status)
	}
	b.get("/sign-in").send("/sign-in", "token", token(map[string]any{"app_metadata": map[string]any{"roles": []string{"x", "operator"}}}))
	if b.has("user " + user); b.at != "/" {
		t.Errorf("a user with the role got to %s", b.at)
	}
	mu.Lock()
	later = 2 * time.Hour // the token lives for one
	mu.Unlock()
	if b.get("/counts"); b.at != "/sign-in" {
		t.Errorf("after the token's end, got to %s", b.at)
	}
	for range 12 {
		b.get("/sign-in").send("/sign-in", "name", "Ada", "key", "wrong")
	}
	if b.status != 429 {
		t.Errorf("the twelfth try in a row: %d", b.status)
	}
}

func TestCookiesOfTheConsole(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	form := url.Values{"name": {"Ada"}, "key": {apiKey}}
	plain := b.do("POST", "/sign-in", form).header.Get("Set-Cookie")
	tls := b.do("POST", "/sign-in", form, "X-Forwarded-Proto", "https").header.Get("Set-Cookie")
	for _, part := range []string{"HttpOnly", "SameSite=Strict", "path=/"} {
		if !strings.Contains(plain, part) || !strings.Contains(tls, part) {
			t.Errorf("a cookie lacks %s: %s; %s", part, plain, tls)
		}
	}
	if !strings.HasPrefix(tls, "__Host-runcounter=") || !strings.Contains(tls, "secure") {
		t.Errorf("over TLS: %s", tls)
	}
}

// A second instance with the same keys knows the session.
func TestASessionIsGoodAtEveryInstance(t *testing.T) {
	t.Parallel()
	one, two := withConsole(t, nil), withConsole(t, nil)
	b := newBrowser(t, one).signIn()
	from, err := url.Parse(b.base)
	if err != nil {
		t.Fatal(err)
	}
	b.base = "http://" + two.addr
	to, err := url.Parse(b.base)
	if err != nil {
		t.Fatal(err)
	}
	b.client.Jar.SetCookies(to, b.client.Jar.Cookies(from))
	if b.get("/counts"); b.at != "/counts" {
		t.Errorf("got to %s", b.at)
	}
	other := withConsole(t, func(c *Config) { c.APIKeys = []string{"another-key-of-another-installation"} })
	b.base = "http://" + other.addr
	if b.get("/counts"); b.at != "/sign-in" {
		t.Errorf("an installation with other keys let it in to %s", b.at)
	}
}
