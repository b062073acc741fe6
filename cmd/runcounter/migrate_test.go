package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestMigratePostgres(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `
create table public.workflow_runs (
    id uuid primary key default gen_random_uuid(), user_id uuid not null, workflow_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now()
);
insert into public.workflow_runs (user_id, workflow_id, status, completed_at)
values ('`+sampleUser+`', '`+sampleWorkflow+`', 'completed', now()), ('`+sampleUser+`', '`+sampleWorkflow+`', 'running', null);
create function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns bigint
language sql as $$ select count(*) from public.workflow_runs as r where r.user_id = p_user_id and r.workflow_id = p_workflow_id $$;`)
	env := []string{"DATABASE_URL=" + address}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"before", []string{"status"}, exitFine, []string{"version 0 of 2", "runcounter migrate up applies it"}},
		{"down by accident", []string{"down"}, exitUsage, []string{"the runs stay", "--yes"}},
		{"up", []string{"up"}, exitFine, []string{
			"up to date", "An earlier get_user_workflow_run_count(uuid,uuid) was there", "differently for 1 of 1 key", sampleUser, "2    1",
		}},
		{"up again", []string{"up", "--json"}, exitFine, []string{`"dirty": false`}},
		{"after", []string{"status"}, exitFine, []string{"up to date"}},
		{"down", []string{"down", "--yes"}, exitFine, []string{"version 0 of 2"}},
		{"up, for a program", []string{"up", "--json"}, exitFine, []string{`"earlier_function"`, `"old": 2`, `"new": 1`}},
	} {
		r := exec1(t, command(t, t.TempDir(), env, append([]string{"migrate"}, tt.args...)...), "")
		for _, want := range tt.want {
			if r.code != tt.code || !strings.Contains(r.out+r.errs, want) {
				t.Errorf("%s: exit code %d, want %d and %q\n%s%s", tt.name, r.code, tt.code, want, r.out, r.errs)
			}
		}
	}
}

// The server goes on waiting for a lock when the process is gone that asked for
// it; an index stays half built, or the version says that a migration was
// interrupted.
func TestMigrateUpGoesOnWhereAKilledOneStood(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ before, waits string }{
		"while it built an index": {`drop index public.run_counter_open`, `query like 'create index concurrently%'`},
		"while it made a trigger": {`select 1`, `query like 'set local lock_timeout%'`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			env := []string{"DATABASE_URL=" + address}
			if r := exec1(t, command(t, t.TempDir(), env, "migrate", "up"), ""); r.code != exitFine {
				t.Fatalf("up: %s", r.errs)
			}
			pgtest.Exec(t, address, tt.before, `update run_counter.schema_migrations set version = 20250128000001`)
			holder, err := pgx.Connect(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			defer holder.Close(context.Background())
			if _, err := holder.Exec(t.Context(), `begin; lock table public.workflow_runs in row exclusive mode`); err != nil {
				t.Fatal(err)
			}
			killed := command(t, t.TempDir(), env, "migrate", "up")
			if err := killed.Start(); err != nil {
				t.Fatal(err)
			}
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			watch, err := pgx.Connect(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Close(context.Background())
			var waits bool
			for deadline := time.Now().Add(time.Minute); !waits; <-tick.C {
				err := watch.QueryRow(t.Context(), `select exists (select from pg_stat_activity
					where datname = current_database() and pid <> pg_backend_pid() and wait_event_type = 'Lock' and `+tt.waits+`)`).Scan(&waits)
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("migrate up does not come to wait: %v", err)
				}
			}
			if err := killed.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = killed.Wait()
			if _, err := holder.Exec(t.Context(), `rollback`); err != nil {
				t.Fatal(err)
			}
			r := exec1(t, command(t, t.TempDir(), env, "migrate", "up"), "")
			if r.code != exitFine || !strings.Contains(r.out, "up to date") {
				t.Errorf("after the kill: exit code %d\n%s%s", r.code, r.out, r.errs)
			}
			var invalid int
			if err := watch.QueryRow(t.Context(), `select count(*) from pg_index where not indisvalid`).Scan(&invalid); err != nil || invalid != 0 {
				t.Errorf("got %d indexes that are not valid, %v; want none", invalid, err)
			}
		})
	}
}

func TestMigrateRefusesAnAddressWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		address string
		code    int
		want    string
	}{
		"a pooler in transaction mode": {"postgres://owner:hunter2@127.0.0.1:6543/db", exitUsage, "port 5432 of the same host"},
		"no address":                   {"postgres://owner:hunter2@127.0.0.1:port/db", exitUsage, "postgres://USER:PASSWORD@HOST"},
		"nobody listens":               {"postgres://owner:hunter2@127.0.0.1:1/db", exitUnreachable, "connect"},
	} {
		for _, do := range []string{"up", "status"} {
			r := exec1(t, command(t, t.TempDir(), []string{"DATABASE_URL=" + tt.address}, "migrate", do), "")
			if r.code != tt.code || !strings.Contains(r.errs, tt.want) || strings.Contains(r.out+r.errs, "hunter2") {
				t.Errorf("%s, %s: exit code %d, want %d and %q\n%s%s", name, do, r.code, tt.code, tt.want, r.out, r.errs)
			}
		}
	}
}

func TestMigratePrintNeedsNoDatabase(t *testing.T) {
	t.Parallel()
	printed := must(t, t.TempDir(), "", "migrate", "print", "--database-url", "postgres:")
	for _, want := range []string{"create or replace function public.get_user_workflow_run_count", "run the script again", "commit;"} {
		if !strings.Contains(printed, want) {
			t.Errorf("print does not say %q", want)
		}
	}
}
