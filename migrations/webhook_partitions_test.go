package migrations

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const partedRuns = `
create table public.workflow_runs (
    id uuid not null, user_id uuid not null, workflow_id uuid, status text, completed_at timestamptz, created_at timestamptz not null default '2026-01-05',
    updated_at timestamptz not null default now(), primary key (id, created_at)
) partition by range (created_at);
create table public.january partition of public.workflow_runs for values from ('2026-01-01') to ('2026-02-01');
create table public.february partition of public.workflow_runs for values from ('2026-02-01') to ('2026-03-01') partition by hash (id);
create table public."february 0" partition of public.february for values with (modulus 1, remainder 0);`

// TestCaseT15_OurWebhookTakesWhatIsWrittenToAPartition under the table's name, once
// each, and nothing of what is a partition no longer.
func TestCaseT15_OurWebhookTakesWhatIsWrittenToAPartition(t *testing.T) {
	t.Parallel()
	s := newSending(t, partedRuns, theWebhook())
	begin := func(table, id, at string) string {
		return `insert into ` + table + ` (id, user_id, status, created_at) values ('` + id + `', '` + alice + `', 'running', '` + at + `')`
	}
	end := func(table string) string {
		return `update ` + table + ` set status = 'completed', completed_at = now()`
	}
	for _, tt := range []struct {
		name, sql string
		want      []string
	}{
		{"into a leaf", begin(`january`, run1, "2026-01-05"), []string{"INSERT running"}},
		{"of a leaf", end(`january`), []string{"UPDATE completed"}},
		{"into a table between", begin(`february`, run2, "2026-02-05"), []string{"INSERT running"}},
		{"of what is below it", end(`"february 0"`), []string{"UPDATE completed"}},
		{"of the table", `update workflow_runs set status = 'failed'`, []string{"UPDATE failed", "UPDATE failed"}},
		{"from one to another", `update workflow_runs set created_at = '2026-02-06', status = 'timeout' where id = '` + run1 + `'`, []string{"UPDATE timeout"}},
		{"from a leaf", `delete from "february 0"`, []string{"DELETE", "DELETE"}},
		{"by COPY's kind, into the table", begin(`workflow_runs`, run1, "2026-01-05"), []string{"INSERT running"}},
		{"of what was detached", `alter table workflow_runs detach partition january; delete from january`, nil},
	} {
		s.exec(tt.sql)
		var got []string
		for _, call := range s.calls() {
			for _, c := range call.changes {
				what := c.Type
				if c.Record != nil {
					what += " " + c.Record["status"].(string)
				}
				got = append(got, what)
				if c.Schema != "public" || c.Table != "workflow_runs" {
					t.Errorf("%s: it is told as of %s.%s, want public.workflow_runs", tt.name, c.Schema, c.Table)
				}
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := s.failures(); got != "" {
		t.Errorf("statements without their webhook: %s", got)
	}
}
