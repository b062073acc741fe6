package anytable

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestCaseT10_ATableThatWasAlteredIsNamedByTheNextSweep: what is named is gone
// once migrate up has seen it, or the table is as it was.
func TestCaseT10_ATableThatWasAlteredIsNamedByTheNextSweep(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, alter, back, want string }{
		{"a column is gone", `alter table workflow_runs drop column state_snapshot`, `alter table workflow_runs add column state_snapshot jsonb`, "the column state_snapshot is gone"},
		{"a column has another name", `alter table workflow_runs rename state_snapshot to snapshot`, `alter table workflow_runs rename snapshot to state_snapshot`, "the column state_snapshot is gone"},
		{"a column has another type", `alter table workflow_runs alter duration_ms type bigint`, "", "the column duration_ms is bigint, and was integer"},
		{"a heartbeat has come", `alter table workflow_runs add heartbeat_at timestamptz`, "", "heartbeats are heartbeat_at"},
		{"a check has come", `alter table workflow_runs add constraint c check (status <> '')`, `alter table workflow_runs drop constraint c`, "a check"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := sourcetest.Installed(t)
			s := mustOpen(t, address, postgres.Options{})
			sweeper := sourcetest.SweeperOf(s)
			swept := func() store.SweepReport {
				t.Helper()
				r, err := sweeper.Sweep(t.Context(), store.SweepOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			if r := swept(); r.Altered != "" || len(sweeper.Degraded()) > 0 {
				t.Fatalf("before: got %q, %q; want nothing said", r.Altered, sweeper.Degraded())
			}
			pgtest.Exec(t, address, tt.alter)
			if r, err := sweeper.Sweep(t.Context(), store.SweepOptions{}); !strings.Contains(r.Altered, tt.want) || !strings.Contains(r.Altered, "runcounter migrate up") {
				t.Errorf("after: got %q, %v; want it to say %q and the command", r.Altered, err, tt.want)
			}
			if said := strings.Join(sweeper.Degraded(), " "); !strings.Contains(said, "runcounter doctor") || strings.Contains(said, "_") {
				t.Errorf("strangers read %q, want that it was altered, and no column", said)
			}
			if tt.back == "" {
				sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
			} else {
				pgtest.Exec(t, address, tt.back)
			}
			if r := swept(); r.Altered != "" || len(sweeper.Degraded()) > 0 {
				t.Errorf("in the end: got %q, %q; want nothing said", r.Altered, sweeper.Degraded())
			}
		})
	}
}
