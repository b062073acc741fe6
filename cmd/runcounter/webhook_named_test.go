package main

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// installs makes our webhook, and returns its secret and what a mirror is told.
func installs(t *testing.T, args ...string) (secret string, flags []string) {
	t.Helper()
	args = append([]string{"webhook", "install"}, args...)
	secret = mustJSON[struct{ URL, Table, Secret string }](t, t.TempDir(), "", args...).Secret
	said := must(t, t.TempDir(), "", args...)
	_, command, _ := strings.Cut(said, "runcounter serve ")
	command, _, found := strings.Cut(command, "\n\n")
	if !found {
		t.Fatalf("install says nothing for a mirror:\n%s", said)
	}
	return secret, strings.Fields(strings.ReplaceAll(command, "\\\n", ""))
}

// Case R1, in full: from a table of other names and words through our own webhook
// into a mirror, by what webhook install prints for it.
func TestCaseR1_OurWebhookIntoAMirrorOfATableOfOtherNames(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `create type run_status as enum ('queued', 'running', 'succeeded', 'failed');
create table workflow_runs (id bigint generated always as identity primary key, org_id text not null, workflow_id uuid not null, status run_status not null default 'queued', finished_at timestamptz)`)
	pgtest.InstallVault(t, address)
	net := pgtest.StartNet(t, address)
	f := newFront(t)
	f.table.Columns = map[string]string{"id": "id", "org_id": "user_id", "workflow_id": "workflow_id", "status": "status", "finished_at": "completed_at"}
	secret, flags := installs(t, "--database-url", address, "--url", f.url, "--column", "user=org_id", "--status", "succeeded=completed", "--status", "queued=pending")
	dir := t.TempDir()
	f.behind.Store(&[]string{listens(t, dir, []string{"RUNCOUNTER_WEBHOOK_SECRET=" + secret}, append(flags, "--stuck-after", "0")...).url})
	const flow = "cccccccc-0000-4000-8000-000000000001"
	pgtest.Exec(t, address, `insert into workflow_runs (org_id, workflow_id, status) select 'acme', '`+flow+`', 'running' from generate_series(1, 5)`,
		`update workflow_runs set status = 'succeeded', finished_at = now() where id <= 3`, `update workflow_runs set status = 'failed', finished_at = now() where id = 4`, `delete from workflow_runs where id = 1`)
	net.Idle(t)
	f.settle()
	if got := must(t, dir, "", "count", "--user", "acme", "--workflow", flow, "--json"); !strings.Contains(got, `"count": 3,`) || !strings.Contains(got, `"completed": 2,`) || !strings.Contains(got, `"failed": 1,`) {
		t.Errorf("the mirror counts %s, want 2 completed and 1 failed", got)
	}
}
