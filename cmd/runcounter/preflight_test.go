package main

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestCaseT7_ATableThatIsNotUnderstoodIsRefusedByEachCommand has one column
// missing, and one of another type.
func TestCaseT7_ATableThatIsNotUnderstoodIsRefusedByEachCommand(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.InstallNet(t, address)
	pgtest.InstallVault(t, address)
	pgtest.Exec(t, address, runsTable, `create domain clock as timestamptz; alter table workflow_runs drop completed_at, alter updated_at type clock`,
		`create domain word as varchar(9); create schema app; create table app."Runs" (id uuid primary key, user_id uuid, workflow_id uuid, status word, completed_at timestamptz, updated_at timestamptz)`)
	run := func(args ...string) result {
		t.Helper()
		return exec1(t, command(t, t.TempDir(), []string{"DATABASE_URL=" + address}, args...), "")
	}
	const up = "public.workflow_runs can't be watched as it is: updated_at is public.clock (a domain over timestamptz) and has to be timestamptz or timestamp; there is no column completed_at: another that plays the role is named with --column completed_at=NAME; " +
		"what helps: alter table public.workflow_runs alter column updated_at type timestamptz, add column completed_at timestamptz. Nothing was changed.\n"
	const other = `app.Runs can't be watched as it is: status is public.word (a domain over varchar) and has to be text or varchar or char or an enum; what helps: alter table app."Runs" alter column status type text. Nothing was changed.` + "\n"
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
	_, help, _ := strings.Cut(strings.TrimSuffix(up, ". Nothing was changed.\n"), "what helps: ")
	pgtest.Exec(t, address, help)
	for _, args := range [][]string{{"migrate", "print"}, {"migrate", "up"}, {"webhook", "install", "--url", "https://counter.example.com"}} {
		if r := run(args...); r.code != exitFine {
			t.Errorf("%s, after what helps: got %+v", strings.Join(args, " "), r)
		}
	}
}
