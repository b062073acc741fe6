package anytable

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

const plainTable = `
create table public.workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, draft_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now());`

// TestCasesOfTablesThatAreUnderstood holds to the laws what migrate up accepts
// beside a table like ours. What is not listed here is not proven, and refused.
func TestCasesOfTablesThatAreUnderstood(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	partitioned := func(by, key, bounds string) string {
		return strings.NewReplacer("id uuid primary key", "id uuid not null", "now());", "now(), primary key ("+key+")) partition by "+by+";").Replace(plainTable) +
			`create table parts partition of public.workflow_runs ` + bounds
	}
	for name, table := range map[string]string{
		"times of microseconds":            plainTable + `alter table workflow_runs alter started_at type timestamptz(6), alter completed_at type timestamptz(6)`,
		"case T13: partitions by creation": partitioned("range (created_at)", "id, created_at", "default"),
		"case T13: partitions by id":       partitioned("hash (id)", "id", "for values with (modulus 1, remainder 0)"),
		"case T13: partitions by status":   partitioned("list (status)", "id, status", "for values in ('completed', 'failed')") + `; create table rest partition of public.workflow_runs default`,
		"a snapshot that is not null":      plainTable + `alter table workflow_runs alter state_snapshot set default '{}', alter state_snapshot set not null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.SourceChaos(t, func(t testing.TB) storetest.Backend {
				address := pgtest.Database(t)
				pgtest.Exec(t, address, table)
				sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
				return backend(t, address)
			}, true, 8)
		})
	}
}
