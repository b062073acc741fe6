package server

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestCaseT15_ChangesOfPartitionsAreTakenOrNamed(t *testing.T) {
	var later atomic.Int64
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) {
		cfg.Decoder.Partitions = []string{"public.workflow_runs_2*", "archive.runs_*_old"}
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	of := func(n int, schema, table string) string {
		return strings.Replace(strings.Replace(completed(n), `"public"`, `"`+schema+`"`, 1), `"workflow_runs"`, `"`+table+`"`, 1)
	}
	degraded := func() string {
		t.Helper()
		return strings.Join(decodeJSON[struct {
			Ready    bool
			Degraded []string
		}](t, r.api("GET", "/readyz", "").body).Degraded, " ")
	}
	for n, tt := range []struct {
		schema, table string
		taken         bool
	}{
		{"public", "workflow_runs", true},
		{"public", "workflow_runs_2026_01", true},
		{"archive", "runs_2025_old", true},
		{"public", "workflow_runs_x", false},
		{"other", "workflow_runs_2026_01", false},
		{"archive", "runs_old", false},
	} {
		want := fmt.Sprintf(`"received":1,"changed":%d,"ignored":%d`, map[bool]int{true: 1}[tt.taken], map[bool]int{false: 1}[tt.taken])
		if got := r.deliver(of(n+1, tt.schema, tt.table)); got.status != http.StatusOK || !strings.Contains(string(got.body), want) {
			t.Errorf("%s.%s: got %d %s, want %s", tt.schema, tt.table, got.status, got.body, want)
		}
	}
	said := degraded()
	for _, want := range []string{"archive.runs_old, other.workflow_runs_2026_01, public.workflow_runs_x", "RUNCOUNTER_PARTITIONS="} {
		if !strings.Contains(said, want) {
			t.Errorf("/readyz says %q, want %q", said, want)
		}
	}
	r.deliver(of(9, "public", "workflow_runs_x"))
	if n := strings.Count(r.log.String(), "table=public.workflow_runs_x"); n != 1 {
		t.Errorf("the log names it %d times, want once:\n%s", n, r.log)
	}
	// What does not look like a run is another table's, and is not reported.
	r.deliver(`{"type":"INSERT","schema":"public","table":"profiles","record":{"id":"` + user + `","name":"x"},"old_record":null}`)
	for n := range 2 * namedTables {
		r.deliver(of(20+n, "public", fmt.Sprintf("other_%d", n)))
	}
	if said := degraded(); strings.Contains(said, "profiles") || strings.Count(said, "other_") > namedTables {
		t.Errorf("/readyz says %q, want ten names at most, and none of a table without runs", said)
	}
	later.Store(int64(24*time.Hour + time.Minute))
	if said := degraded(); strings.Contains(said, "RUNCOUNTER_PARTITIONS") {
		t.Errorf("a day later /readyz says %q, want nothing of it", said)
	}
}
