package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/cached"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

func TestCaseD10_FailuresToSignInAreChargedToWhomTheyComeFrom(t *testing.T) {
	t.Parallel()
	v, err := users.New(users.Config{Secret: legacy})
	if err != nil {
		t.Fatal(err)
	}
	r := withConsole(t, func(c *Config) {
		c.Users, c.Console.Role, c.ClientHeader, c.Now = v, "operator", "X-Forwarded-For", stopped()
	})
	try := func(from, field, value string) int {
		t.Helper()
		form := url.Values{"name": {"Ada"}, field: {value}}.Encode()
		got := r.do("POST", "/sign-in", form, "Content-Type: application/x-www-form-urlencoded", "X-Forwarded-For: "+from)
		return got.status
	}
	fails := func(from, field string) (n int) {
		for try(from, field, "wrong") == http.StatusUnauthorized {
			if n++; n > 100 {
				t.Fatalf("%s failed %d times, and was never told to wait", from, n)
			}
		}
		return n
	}
	operator := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", map[string]any{"app_metadata": map[string]any{"role": "operator"}}), nil)
	if n := fails("203.0.113.7", "key"); n != failuresToSignIn {
		t.Errorf("an address is told to wait after %d wrong keys, want %d", n, failuresToSignIn)
	}
	for name, got := range map[string]int{
		"the right key from that address":   try("203.0.113.7", "key", apiKey),
		"the right token from that address": try("203.0.113.7", "token", operator),
		"the right key from another one":    try("203.0.113.8", "key", apiKey),
	} {
		if got != http.StatusSeeOther {
			t.Errorf("%s: got %d, want to be let in", name, got)
		}
	}
	if got := try("203.0.113.8", "key", "wrong"); got != http.StatusUnauthorized {
		t.Errorf("a first wrong key from another address: got %d, want 401", got)
	}
	if got := try("203.0.113.9, 203.0.113.7", "key", "wrong"); got != http.StatusTooManyRequests {
		t.Errorf("who writes another address before the proxy's: got %d, want 429", got)
	}
	if n := fails("203.0.113.10", "token"); n != failuresToSignIn {
		t.Errorf("an address is told to wait after %d wrong tokens, want %d", n, failuresToSignIn)
	}
	fails("2001:db8:1:2::1", "key")
	if got := try("2001:db8:1:2:ffff::2", "key", "wrong"); got != http.StatusTooManyRequests {
		t.Errorf("another address of the same /64: got %d, want 429", got)
	}
	if got := try("2001:db8:1:3::1", "key", "wrong"); got != http.StatusUnauthorized {
		t.Errorf("an address of another /64: got %d, want 401", got)
	}
	t.Run("case D10: without a proxy its header counts for nothing", func(t *testing.T) {
		r = r.second(func(c *Config) { c.ClientHeader = "" })
		fails("203.0.113.1", "key")
		if got := try("203.0.113.2", "key", "wrong"); got != http.StatusTooManyRequests {
			t.Errorf("got %d, want 429: it is the same connection's end", got)
		}
		if got := try("203.0.113.2", "key", apiKey); got != http.StatusSeeOther {
			t.Errorf("the right key: got %d, want to be let in", got)
		}
	})
}

// stopped is a clock that stands still, however busy the machine is.
func stopped() func() time.Time {
	at := time.Now()
	return func() time.Time { return at }
}

func TestCaseD14_TheDatabaseIsAskedForItsHealthOnceForAll(t *testing.T) {
	t.Parallel()
	asked := &countingReader{}
	degraded := 0
	r := withConsole(t, func(c *Config) {
		c.Now, asked.Reader, c.Reader = stopped(), c.Reader, asked
		c.Degraded = func() []string { degraded++; return nil }
	})
	b := newBrowser(t, r).signIn()
	for range 20 {
		b.get("/")
		if _, err := r.server.Health(); err != nil { // as the metrics do
			t.Fatal(err)
		}
		b.get("/doctor")
		r.api("GET", "/readyz", "")
	}
	if n := asked.count(); n != 1 {
		t.Errorf("80 questions asked the database %d times, want once", n)
	}
	if degraded != 1 {
		t.Errorf("what is degraded was asked for %d times, want once", degraded)
	}
	t.Run("case D14: a slow answer is good for longer", func(t *testing.T) {
		now, took, calls := time.Unix(1000, 0), 3*time.Second, 0
		var c cached.Answer[int]
		ask := func() (int, error) { calls++; now = now.Add(took); return calls, nil }
		get := func() int { v, _ := c.Get(func() time.Time { return now }, 5*time.Second, healthShare, ask); return v }
		get()
		now = now.Add(29 * time.Second)
		if got := get(); got != 1 {
			t.Errorf("29 s after an answer that took 3 s it was asked for again")
		}
		now = now.Add(2 * time.Second)
		if got := get(); got != 2 {
			t.Errorf("31 s after an answer that took 3 s it is kept still")
		}
		now = now.Add(-time.Hour)
		if got := get(); got != 3 {
			t.Errorf("after the clock was set back the answer is kept for an hour")
		}
	})
}

// countingReader counts the looks at the health.
type countingReader struct {
	store.Reader
	mu sync.Mutex
	n  int
}

func (l *countingReader) Health(ctx context.Context) (store.Health, error) {
	l.mu.Lock()
	l.n++
	l.mu.Unlock()
	return l.Reader.Health(ctx)
}

func (l *countingReader) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func TestCaseD15_ReadinessEndsBeforeTheListener(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	r.server.Leave()
	if got := r.do("GET", "/readyz", ""); got.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: got %d %s, want 503", got.status, got.body)
	}
	if got := r.do("GET", "/livez", ""); got.status != http.StatusOK {
		t.Errorf("/livez: got %d, want 200: a platform would kill it", got.status)
	}
	a := r.deliver(completed(1))
	if a.answer(t).Changed != 1 || r.counted() != 1 {
		t.Errorf("a delivery: got %s, want it applied", a.body)
	}
	c := r.dial() // which gives up after a minute
	defer c.Close()
	if _, err := io.WriteString(c, rawRequest{body: completed(2)}.String()); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200") {
		t.Errorf("got %q, %v; want the answer and the connection's end, so that the next request goes elsewhere", text, err)
	}
}

func TestCaseD16_FiguresAreForThoseWithAKey(t *testing.T) {
	t.Parallel()
	const sentence = "Something is as it should not be."
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) { cfg.Degraded = func() []string { return []string{sentence} } })
	apart, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.server.Monitor(apart) }()
	inside := &rig{t: t, addr: apart.Addr().String(), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	for _, tt := range []struct {
		name   string
		got    reply
		status int
		tells  bool
	}{
		{"metrics without a key", r.do("GET", "/metrics", ""), 401, false},
		{"metrics with a wrong key", r.do("GET", "/metrics", "", "Authorization: Bearer "+token), 401, false},
		{"metrics with the key", r.api("GET", "/metrics", ""), 200, true},
		{"readiness without a key", r.do("GET", "/readyz", ""), 200, false},
		{"readiness with a wrong key", r.do("GET", "/readyz", "", "Authorization: Bearer "+token), 200, false},
		{"readiness with the key", r.api("GET", "/readyz", ""), 200, true},
		{"metrics at a listener of their own", inside.do("GET", "/metrics", ""), 200, true},
		{"readiness there", inside.do("GET", "/readyz", ""), 200, true},
		{"the API there", inside.do("GET", "/v1/runs/"+runID(1), "", "Authorization: Bearer "+apiKey), 404, false},
		{"a delivery there", inside.do("POST", path, completed(1), "Authorization: Bearer "+token), 404, false},
	} {
		tells := strings.Contains(string(tt.got.body), sentence) || strings.Contains(string(tt.got.body), "runcounter_deliveries_total{")
		if tt.got.status != tt.status || tells != tt.tells {
			t.Errorf("%s: got %d %s, want %d", tt.name, tt.got.status, tt.got.body, tt.status)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if err := wait.For(t, "the end of Monitor", ended); err != nil {
		t.Errorf("Monitor: %v, want it to end with the server", err)
	}
}

func TestCaseD16_StrangersFillNoLog(t *testing.T) {
	t.Parallel()
	r := withConsole(t, func(c *Config) { c.Now = stopped() })
	const each = 60
	before := strings.Count(r.log.String(), "level=WARN")
	for range each {
		r.do("POST", path, completed(1))
		r.do("GET", "/v1/counts?user_id="+user+"&workflow_id="+workflow, "")
		r.do("GET", "/v1/counts/stream?user_id="+user+"&workflow_id="+workflow, "", "Authorization: Bearer a.b.c")
		r.do("GET", "/v1/dead-letters", "", "Authorization: Bearer wrong")
		r.do("GET", "/metrics", "")
		r.do("POST", "/sign-in", "name=x&key=wrong", "Content-Type: application/x-www-form-urlencoded")
	}
	if lines := strings.Count(r.log.String(), "level=WARN") - before; lines != 6 {
		t.Errorf("%d requests of strangers made %d lines, want one for each door:\n%s", 6*each, lines, r.log.String())
	}
	for _, door := range []string{"webhook", "api", "stream", "dead_letters", "health"} {
		if line := fmt.Sprintf(`runcounter_refused_requests_total{door="%s",status="401"} %d`, door, each); !strings.Contains(string(r.api("GET", "/metrics", "").body), line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if got := metricOf(t, r, "runcounter_refused_requests_total"); got != 6*each {
		t.Errorf("%v refusals are counted, want %d", got, 6*each)
	}
}

func TestCaseD17_ATokensRefusalNamesTheKeyAndTheIssuerThatWereExpected(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	ec, public := ecKey(t, "ec")
	p.publish(public)
	elsewhere := strings.Replace(p.issuer(), "127.0.0.1", "localhost", 1)
	kid := map[string]any{"kid": "ec"}
	for _, tt := range []struct {
		name  string
		cfg   users.Config
		token string
		want  []string
	}{
		{"HS256 where only the project is known", users.Config{Project: p.server.URL},
			signed(t, jwt.SigningMethodHS256, []byte(legacy), good(p.issuer(), nil), nil),
			[]string{"HS256", "SUPABASE_JWT_SECRET", "ES256 or RS256"}},
		{"ES256 where only the secret is known", users.Config{Secret: legacy},
			signed(t, jwt.SigningMethodES256, ec, good("", nil), kid),
			[]string{"ES256", "SUPABASE_URL", "HS256"}},
		{"HS256 by another secret", users.Config{Secret: legacy},
			signed(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 40)), good("", nil), nil),
			[]string{"HS256", "SUPABASE_JWT_SECRET"}},
		{"localhost for 127.0.0.1", users.Config{Project: p.server.URL},
			signed(t, jwt.SigningMethodES256, ec, good(elsewhere, nil), kid),
			[]string{elsewhere, p.issuer(), "SUPABASE_URL"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := users.New(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.Verify(t.Context(), tt.token)
			for _, part := range tt.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want %q in it", err, part)
				}
			}
			if err != nil && strings.Contains(err.Error(), legacy) {
				t.Errorf("it repeats the secret: %v", err)
			}
		})
	}
}
