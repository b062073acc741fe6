package main

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestCasesR9R14_OurWebhookIntoAMirrorOfATableWithoutWorkflowsOrUsers, and the
// commands that ask for a count of it, of the source and of the mirror.
func TestCasesR9R14_OurWebhookIntoAMirrorOfATableWithoutWorkflowsOrUsers(t *testing.T) {
	t.Parallel()
	const flow = "cccccccc-0000-4000-8000-000000000001"
	for name, tt := range map[string]struct{ column, said, flag, wrong string }{
		"without workflows": {"user_id text not null default 'ada'", "workflow=", "--user ada", "--user ada --workflow w"},
		"without users":     {"workflow_id uuid not null default '" + flow + "'", "user=", "--workflow " + flow, "--user ada --workflow w"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, `create table workflow_runs (id bigint generated always as identity primary key, status text, completed_at timestamptz, `+tt.column+`)`)
			pgtest.InstallVault(t, address)
			net := pgtest.StartNet(t, address)
			f := newFront(t)
			column, _, _ := strings.Cut(tt.column, " ")
			f.table.Columns = map[string]string{"id": "id", "status": "status", "completed_at": "completed_at", column: column}
			_, dir := must(t, t.TempDir(), "", "migrate", "up", "--database-url", address, "--column", tt.said), t.TempDir()
			secret, flags := installs(t, "--database-url", address, "--url", f.url)
			mirror := listens(t, dir, []string{"RUNCOUNTER_WEBHOOK_SECRET=" + secret}, append(flags, "--stuck-after", "0")...).url
			f.behind.Store(&[]string{mirror})
			pgtest.Exec(t, address, `insert into workflow_runs (status) select 'running' from generate_series(1, 4)`,
				`update workflow_runs set status = 'completed' where id <= 3`, `delete from workflow_runs where id = 1`)
			net.Idle(t)
			f.settle()
			imported := t.TempDir()
			must(t, imported, "", append([]string{"import", "--from", address}, flags...)...)
			for what, where := range map[string][]string{"the source": {dir, "--database-url", address}, "the mirror": {dir}, "an import": {imported}} {
				for _, asks := range []string{"count", "explain", "recount"} {
					got := must(t, where[0], "", append(strings.Fields(asks+" "+tt.flag+" --json"), where[1:]...)...)
					if want := map[string]string{"count": `"completed": 2,`, "explain": `"count": 2,`, "recount": `"changed": false`}[asks]; !strings.Contains(got, want) {
						t.Errorf("%s of %s: got %s, want %s", asks, what, got, want)
					}
				}
				if got := exec1(t, command(t, where[0], nil, append(strings.Fields("count "+tt.wrong), where[1:]...)...), ""); got.code != exitUsage || !strings.Contains(got.errs, "the table has no column that says") {
					t.Errorf("count %s of %s: got %+v, want why not", tt.wrong, what, got)
				}
			}
			made := must(t, dir, "", append(strings.Fields("send --id 9 "+tt.flag+" --url "+mirror+hookPath+" --secret "+secret), "--column", tt.said)...)
			if !strings.Contains(made, "changed 1,") || !strings.Contains(made, " 3\n") {
				t.Errorf("send of one more: got %s, want it counted", made)
			}
		})
	}
}
