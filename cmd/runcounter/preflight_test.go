package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestCaseT7_ATableThatIsNotUnderstoodIsRefusedByEachCommand has one column
// missing, and one of another type.
func TestCaseT7_ATableThatIsNotUnderstoodIsRefusedByEachCommand(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.InstallNet(t, address)
	pgtest.InstallVault(t, address)
	pgtest.Exec(t, address, runsTable, `create domain clock as date; alter table workflow_runs drop completed_at, alter updated_at drop default, alter updated_at type clock`,
		`create domain word as integer; create schema app; create table app."Runs" (id uuid primary key, user_id uuid, workflow_id uuid, status word, completed_at timestamptz, updated_at timestamptz)`)
	run := func(args ...string) result {
		t.Helper()
		return exec1(t, command(t, t.TempDir(), []string{"DATABASE_URL=" + address}, args...), "")
	}
	const up = "public.workflow_runs can't be watched as it is: updated_at is public.clock (a domain over date) and has to be timestamptz or timestamp, or is left alone with --column updated_at=; there is no column completed_at: another that plays the role is named with --column completed_at=NAME; " +
		"what helps with a part of it: alter table public.workflow_runs add column completed_at timestamptz. Nothing was changed.\n"
	const other = `app.Runs can't be watched as it is: status is public.word (a domain over integer) and has to be text or varchar or char or citext or an enum. Nothing was changed.` + "\n"
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"migrate", "up"}, up},
		{[]string{"migrate", "print"}, up},
		{[]string{"webhook", "install", "--url", "https://counter.example.com"}, up},
		{[]string{"webhook", "install", "--url", "https://counter.example.com", "--table", "app.Runs"}, other},
	} {
		if r := run(c.args...); r.code != exitNo || r.out != "" || !strings.HasSuffix(r.errs, c.want) {
			t.Errorf("%s: got %+v, want %d and\n%s", strings.Join(c.args, " "), r, exitNo, c.want)
		}
		pgtest.Exec(t, address, `do $$ begin assert not exists (select from pg_namespace where nspname like 'run_counter%'), 'a schema was made'; end $$`)
	}
	if r := run("migrate", "print", "--database-url", "postgres:"); r.code != exitFine || !strings.Contains(r.out, "create schema if not exists run_counter") {
		t.Errorf("print without a server: got code %d, %s; want the script", r.code, r.errs)
	}
	_, help, _ := strings.Cut(strings.TrimSuffix(up, ". Nothing was changed.\n"), "what helps with a part of it: ")
	pgtest.Exec(t, address, help, `alter table workflow_runs alter updated_at type timestamptz, alter started_at type timestamp`)
	described := filepath.Join(t.TempDir(), "table.json")
	if r := run("table", "--json"); r.code != exitFine || os.WriteFile(described, []byte(r.out), 0o600) != nil {
		t.Fatalf("table: got %+v", r)
	}
	seen, unseen := run("migrate", "print"), run("migrate", "print", "--database-url", "postgres:", "--description", described)
	if diff := cmp.Diff(strings.Replace(seen.out, `,"said":{}`, "", 1), unseen.out); diff != "" || seen.code != exitFine {
		t.Errorf("print of a described table (-with its server +without):\n%s", diff)
	}
	if r := run("webhook", "print", "--url", "https://counter.example.com", "--times", "milliseconds"); !strings.Contains(r.out, "(o.completed_at % 1000)") {
		t.Errorf("a webhook of integers: got %d %.300s", r.code, r.errs)
	}
	for _, args := range [][]string{{"migrate", "print"}, {"migrate", "up"}, {"webhook", "install", "--url", "https://counter.example.com"}} {
		if r := run(args...); r.code != exitFine {
			t.Errorf("%s, after what helps: got %+v", strings.Join(args, " "), r)
		}
	}
}
