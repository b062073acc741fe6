package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestCaseT26_CommandsReadASourceWithoutOurObjects by a description in a file, as
// serve does: no database keeps what its table is like.
func TestCaseT26_CommandsReadASourceWithoutOurObjects(t *testing.T) {
	t.Parallel()
	address, description := pgtest.Database(t), filepath.Join(t.TempDir(), "table.json")
	const user, flow, run = "11111111-1111-4111-8111-111111111111", "33333333-3333-4333-8333-333333333333", "00000000-0000-4000-8000-00000000000"
	pgtest.Exec(t, address, `create table workflow_runs (id uuid primary key, org_id uuid, workflow_id uuid, state text, finished_at timestamptz, created_at timestamptz default now())`,
		`insert into workflow_runs values ('`+run+`1', '`+user+`', '`+flow+`', 'succeeded', now()), ('`+run+`2', '`+user+`', '`+flow+`', 'running', null)`)
	writeJSON(t, description, watched.Overrides{
		Columns:  map[watched.Role]string{watched.User: "org_id", watched.Status: "state"},
		Statuses: map[string]store.Status{"succeeded": store.Completed},
	})
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"count", "--user", user, "--workflow", flow}, "1"},
		{[]string{"explain", run + "1"}, "ended completed"},
		{[]string{"sweep"}, ""},
		{[]string{"complete", run + "2", "--status", "completed"}, "2"},
		{[]string{"count", "--user", user, "--workflow", flow}, "2"},
	} {
		args := append(c.args, "--database-url", address)
		if code, said := inProcess(t, args...); code == exitFine && c.args[0] != "sweep" {
			t.Errorf("%s without a description: got %s; want a refusal: the columns have other names", strings.Join(c.args, " "), said)
		}
		if code, said := inProcess(t, append(args, "--description", description)...); code != exitFine || !strings.Contains(said, c.want) {
			t.Errorf("%s: got %d %s; want %q in it", strings.Join(c.args, " "), code, said, c.want)
		}
	}
}
