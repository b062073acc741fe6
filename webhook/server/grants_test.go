package server

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
)

// grantLost loses the first answer of Grant, after its commit.
type grantLost struct {
	store.Granter
	calls atomic.Int64
}

func (l *grantLost) Grant(ctx context.Context, g store.GrantRequest) (store.GrantResult, error) {
	made, err := l.Granter.Grant(ctx, g)
	if err == nil && l.calls.Add(1) == 1 {
		return store.GrantResult{}, store.ErrUnavailable
	}
	return made, err
}

func losingGrants(cfg *Config, _ *limits, _ *gated) { cfg.Grants = &grantLost{Granter: cfg.Grants} }

const fiveRuns = `{"user_id":"` + user + `","runs":5,"who":"ada","why":"a refund"`

// TestAGrantWhoseAnswerWasLostIsNotSafeToRepeat where it has no idempotency key: the
// first request granted the runs, and the same one again grants as many more.
func TestAGrantWhoseAnswerWasLostIsNotSafeToRepeat(t *testing.T) {
	r := serve(t, losingGrants)
	got := r.api("POST", "/v1/grants", fiveRuns+"}")
	detail := got.problem(t).Detail
	if got.status != http.StatusServiceUnavailable || strings.Contains(detail, "safe") || !strings.Contains(detail, "idempotency_key") || !strings.Contains(detail, "GET /v1/grants") {
		t.Errorf("got %d %s, want 503 and what to look at", got.status, got.body)
	}
	if list := r.api("GET", "/v1/grants", ""); strings.Count(string(list.body), `"runs":5`) != 1 {
		t.Errorf("the grants: got %s, want one", list.body)
	}
}

func TestAGrantWithAKeyWhoseAnswerWasLostIsStillCreated(t *testing.T) {
	r := serve(t, losingGrants)
	for _, want := range []string{`"created":true`, `"created":false`} {
		if got := r.api("POST", "/v1/grants", fiveRuns+`,"idempotency_key":"4711"}`); got.status != http.StatusCreated || !strings.Contains(string(got.body), want) {
			t.Errorf("got %d %s, want 201 and %s", got.status, got.body, want)
		}
	}
	if log := r.log.String(); strings.Count(log, "runs were granted") != 1 {
		t.Errorf("the log does not tell of one grant:\n%s", log)
	}
}

// TestTheConsoleLogsAGrantOnce, though its form is sent twice.
func TestTheConsoleLogsAGrantOnce(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r).signIn()
	once := regexp.MustCompile(`name="once" value="([^"]+)"`).FindStringSubmatch(b.get(newGrant).html)[1]
	for range 2 {
		b.get(newGrant).send("/grants", "of", user+"/workflow/"+workflow, "once", once, "runs", "7", "why", "a present")
		b.has("The runs are granted")
	}
	if log := r.log.String(); strings.Count(log, "console: runs were granted") != 1 {
		t.Errorf("the log does not tell of one grant:\n%s", log)
	}
}
