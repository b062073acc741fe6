package server

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
)

// sampleOf returns the value of a series of /metrics, "" where there is none.
func (r *rig) sampleOf(series string) string {
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (.*)$`).FindSubmatch(r.api("GET", "/metrics", "").body)
	if found == nil {
		return ""
	}
	return string(found[1])
}

func (r *rig) wantSample(series, want string) {
	r.t.Helper()
	if got := r.sampleOf(series); got != want {
		r.t.Errorf("%s: got %q, want %q", series, got, want)
	}
}

func TestRequestsOfTheAPIAreCountedByRouteAndStatus(t *testing.T) {
	r := serve(t, nil)
	requests := func(method, route, code string) string {
		return `runcounter_api_requests_total{code="` + code + `",method="` + method + `",route="` + route + `"}`
	}
	r.wantSample(requests("POST", "/v1/runs", "5xx"), "0")
	r.wantSample(requests("other", "other", "4xx"), "0")
	r.api("POST", "/v1/runs", `{"user_id":"11111111-1111-4111-8111-111111111111","workflow_id":"aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"}`)
	r.api("POST", "/v1/runs", `{}`)
	for _, id := range []string{"x", "y"} {
		r.api("GET", "/v1/runs/"+id, "")
	}
	r.api("HEAD", "/v1/runs/z", "")
	r.api("GET", "/v1/nothing/"+strings.Repeat("a", 100), "")
	r.do("GET", "/v1/runs/x", "") // without a key
	r.api("PATCH", "/v1/runs", "")
	r.wantSample(requests("POST", "/v1/runs", "2xx"), "1")
	r.wantSample(requests("POST", "/v1/runs", "4xx"), "1")
	r.wantSample(requests("GET", "/v1/runs/{id}", "4xx"), "3")
	r.wantSample(requests("other", "other", "4xx"), "3")
	r.wantSample(`runcounter_api_request_duration_seconds_count{method="GET",route="/v1/runs/{id}"}`, "3")
	r.wantSample(`runcounter_store_duration_seconds_count{operation="begin"}`, "1")
	r.wantSample(`runcounter_store_duration_seconds_count{operation="grants"}`, "0")
}

func TestAPanicOfTheAPIIsAServerError(t *testing.T) {
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) { cfg.Store = panics{cfg.Store} })
	r.api("GET", "/v1/runs/x", "")
	r.wantSample(`runcounter_api_requests_total{code="5xx",method="GET",route="/v1/runs/{id}"}`, "1")
}

func TestConnectionsToTheDatabaseAreShown(t *testing.T) {
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) {
		cfg.Connections = func() store.Connections {
			return store.Connections{InUse: 3, Idle: 2, Most: 10, Waits: 7, Waited: 1500 * time.Millisecond}
		}
	})
	r.wantSample(`runcounter_database_connections{state="in_use"}`, "3")
	r.wantSample(`runcounter_database_connections{state="idle"}`, "2")
	r.wantSample(`runcounter_database_connections_max`, "10")
	r.wantSample(`runcounter_database_connection_waits_total`, "7")
	r.wantSample(`runcounter_database_connection_wait_seconds_total`, "1.5")
}

func TestMetricsAreNamedAsPrometheusNamesThem(t *testing.T) {
	promtool := need.Program(t, "promtool", "prometheus")
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) {
		cfg.Connections = func() store.Connections { return store.Connections{} }
	})
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = bytes.NewReader(r.api("GET", "/metrics", "").body)
	if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// panics is a store with a bug.
type panics struct{ Store }

func (panics) Run(context.Context, store.ID) (store.Run, error) { panic("a bug") }
