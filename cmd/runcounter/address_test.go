package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestCaseD20_WhatIsGivenAndEmptyIsRefusedWithASentence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		want string
	}{
		{"a change of a user without a workflow", nil, []string{"send", "--user", sampleUser}, exitUsage, "add --workflow ID or --draft ID"},
		{"an import of nothing", nil, []string{"import"}, exitNo, "nothing to import"},
		{"an import of nothing by its name", nil, []string{"import", "-"}, exitNo, "nothing to import"},
		{"a change that is nothing", nil, []string{"send", "-"}, exitUsage, "nothing to send"},
		{"a database that is empty", nil, []string{"serve", "--database-url", ""}, exitUsage, "--database-url, or DATABASE_URL, is empty"},
		{"a database that is empty in the environment", []string{"DATABASE_URL="}, []string{"audit"}, exitUsage, "--database-url, or DATABASE_URL, is empty"},
		{"a database that is blank", nil, []string{"migrate", "up", "--database-url", "  "}, exitUsage, "is empty"},
		{"a kind of database without its colon", nil, []string{"migrate", "print", "--database-url", "postgres"}, exitUsage, "postgres://USER"},
		{"a user that is empty", nil, []string{"count", "--user", ""}, exitUsage, "--user is empty"},
		{"a workflow that is empty", nil, []string{"count", "--user", sampleUser, "--workflow", ""}, exitUsage, "--workflow is empty"},
		{"a draft that is empty", nil, []string{"recount", "--user", sampleUser, "--workflow", sampleWorkflow, "--draft", ""}, exitUsage, "--draft is empty"},
		{"a reason that is empty", nil, []string{"dead-letters", "list", "--reason", ""}, exitUsage, "--reason is empty"},
		{"a run that is empty", nil, []string{"explain", "", "--user", sampleUser, "--workflow", sampleWorkflow}, exitUsage, "an argument is empty"},
		{"a file that is empty", nil, []string{"import", ""}, exitUsage, "an argument is empty"},
		{"a database to read from that is empty", nil, []string{"import", "--from", ""}, exitUsage, "--from is empty"},
	} {
		t.Run("case D20: "+tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := exec1(t, command(t, dir, tt.env, tt.args...), "")
			if r.code != tt.code || !strings.Contains(r.errs, tt.want) {
				t.Errorf("exit code %d, want %d and a message with %q\n%s%s", r.code, tt.code, tt.want, r.out, r.errs)
			}
			if made, err := os.ReadDir(dir); tt.code == exitUsage && (err != nil || len(made) != 0) {
				t.Errorf("it left files behind: %v, %v", made, err)
			}
		})
	}
	t.Run("case D20: audit and recount of a source without migrations", func(t *testing.T) {
		address := pgtest.Database(t)
		pgtest.Exec(t, address, `create table public.workflow_runs (id uuid primary key, user_id uuid, workflow_id uuid, status text,
			started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
			created_at timestamptz not null default now(), updated_at timestamptz not null default now())`)
		for _, args := range [][]string{{"audit"}, {"recount", "--all-drifting"}} {
			r := exec1(t, command(t, t.TempDir(), []string{"DATABASE_URL=" + address}, args...), "")
			if r.code != exitNo || !strings.Contains(r.errs, "no stored counts to audit") || strings.Contains(r.out, "equals") {
				t.Errorf("%v: exit code %d\n%s%s", args, r.code, r.out, r.errs)
			}
		}
	})
}

func TestCaseD20_EveryCommandNamesTheDatabaseItActedOn(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	address := pgtest.Database(t)
	for _, where := range []struct {
		env  []string
		want string
		args [][]string
	}{
		{nil, "database: sqlite:" + filepath.Join(path, "runcounter.db") + "\n", [][]string{
			{"count", "--user", sampleUser}, {"explain", runID(1)}, {"complete", runID(5), "--status", "failed"}, {"sweep"}, {"audit"}, {"recount", "--all-drifting"},
			{"dead-letters", "list"}, {"migrate", "status"}, {"import", "-"}, {"migrate", "down", "--yes"}, {"migrate", "up"},
		}},
		{[]string{"DATABASE_URL=" + pgtest.With(t, address, "pgbouncer", "true", "connection_limit", "1", "application_name", "hunter2")}, "database: postgres://", [][]string{
			{"migrate", "up"}, {"count", "--user", sampleUser}, {"sweep"}, {"audit"}, {"webhook", "status"}, {"migrate", "status"}, {"migrate", "down", "--yes"},
		}},
	} {
		for _, args := range where.args {
			r := exec1(t, command(t, dir, where.env, args...), "")
			if r.code > exitNo || strings.Count(r.errs, where.want) != 1 || strings.Contains(r.errs, "hunter2") {
				t.Errorf("%v: exit code %d, want one line that names the database as %q\n%s%s", args, r.code, where.want, r.out, r.errs)
			}
			if where.env != nil && !strings.Contains(r.errs, "left out: connection_limit, pgbouncer\n") && !strings.Contains(r.errs, "left out: pgbouncer, connection_limit\n") {
				t.Errorf("case T25: %v does not say what it left out:\n%s", args, r.errs)
			}
		}
	}
}
