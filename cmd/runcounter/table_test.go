package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestCaseT26_TableShowsWhatWouldBeWatched, on tables as public repositories
// have them.
func TestCaseT26_TableShowsWhatWouldBeWatched(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, create string
		args         []string
		code         int
	}{
		{"R4", `create table workflow_runs (id uuid primary key, user_id uuid not null, workflow_id uuid not null,
  status text not null default 'queued' check (status in ('queued', 'running', 'completed', 'failed', 'cancelled')),
  started_at timestamptz, completed_at timestamptz, created_at timestamptz not null default now(), error_message text)`, nil, exitFine},
		{"R11", `create table workflow_runs (id varchar(191) primary key, workflow_id varchar(191), status varchar(32),
  "startedAt" bigint, "finishedAt" bigint, "createdAt" bigint, "updatedAt" bigint, log json, meta json)`, nil, exitNo},
		{"R11-said", `create table workflow_runs (id varchar(191) primary key, workflow_id varchar(191), status varchar(32),
  "startedAt" bigint, "finishedAt" bigint, "createdAt" bigint, "updatedAt" bigint, log json, meta json)`,
			[]string{"--times", "milliseconds", "--status", "success=completed", "--column", "user="}, exitFine},
		{"R13", `create table workflow_runs (id uuid primary key, user_id uuid, workflow_id uuid, status varchar(20) default 'running', created_at timestamptz, updated_at timestamptz)`, nil, exitNo},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := pgtest.Database(t)
			pgtest.Exec(t, address, tt.create)
			r := exec1(t, command(t, t.TempDir(), nil, append([]string{"table", "--database-url", address}, tt.args...)...), "")
			if r.code != tt.code {
				t.Errorf("exit code %d, want %d\n%s", r.code, tt.code, r.errs)
			}
			golden(t, "table-"+tt.name, r.out)
		})
	}
}

func TestTableReadsADescription(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `create schema app`, `create table app.jobs (id bigint primary key, org text, word text, ended_at timestamp)`)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "table.json"), []byte(`{"table": "app.jobs", "columns": {"user": "org", "status": "id"}, "statuses": {"ok": "completed"}, "timezone": "Asia/Tokyo"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	// A flag goes before the file.
	args := []string{"table", "--database-url", address, "--description", "table.json", "--column", "status=word", "--json"}
	r := exec1(t, command(t, dir, nil, args...), "")
	for _, want := range []string{`"name": "jobs"`, `"name": "word"`, `"name": "org"`, `"theirs": "ok"`, `"timezone": "Asia/Tokyo"`, `"kind": "timestamp"`} {
		if !strings.Contains(r.out, want) {
			t.Errorf("the report has no %s:\n%s\n%s", want, r.out, r.errs)
		}
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--table", "app.none"}, exitNo, "the database has no table app.none"},
		{[]string{"--column", "owner=x"}, exitUsage, "the roles are id, user"},
		{[]string{"--status", "x=y"}, exitUsage, "no status of ours"},
		{[]string{"--timezone", "Mars"}, exitUsage, "no time zone"},
		{[]string{"--guard", "maybe"}, exitUsage, "write on, report or off"},
		{[]string{"--times", "hours"}, exitUsage, "milliseconds or seconds"},
		{[]string{"--description", "none.json"}, exitUsage, "none.json"},
		{[]string{"--database-url", "sqlite:x.db"}, exitUsage, "a mirror has a table of its own"},
	} {
		r := exec1(t, command(t, dir, nil, append([]string{"table", "--database-url", address}, tt.args...)...), "")
		if r.code != tt.code || !strings.Contains(r.errs, tt.want) {
			t.Errorf("%v: exit code %d, %q; want %d and %q", tt.args, r.code, r.errs, tt.code, tt.want)
		}
	}
}

// The roles that the help lists are all that there are.
func TestTheHelpOfTableListsEachRole(t *testing.T) {
	t.Parallel()
	text := tableCommand().Description
	for _, role := range watched.Roles() {
		if !strings.Contains(text, string(role)) {
			t.Errorf("the help of table lists no %s", role)
		}
	}
}
