package main

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestCaseT10_TheCommandNamesATableThatWasAltered, as a sweep of the library does.
func TestCaseT10_TheCommandNamesATableThatWasAltered(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	env := []string{"DATABASE_URL=" + address}
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	pgtest.Exec(t, address, `alter table workflow_runs drop column state_snapshot`, `insert into run_counter.audits_due default values`)
	r := exec1(t, command(t, t.TempDir(), env, "sweep"), "")
	if r.code != exitNo || !strings.Contains(r.errs, "the column state_snapshot is gone") {
		t.Errorf("sweep: got %+v, want it to name the column", r)
	}
	pgtest.Exec(t, address, `do $$ begin assert not exists (select from run_counter.audits_due), 'the audit that was due is still due'; end $$`)
}

// TestCaseT14_TheCommandAsksBeforeAPartitionChangesCounts: sweep, audit and
// doctor say that it went, and only what is asked for repairs.
func TestCaseT14_TheCommandAsksBeforeAPartitionChangesCounts(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `
create table public.workflow_runs (
    id uuid not null default gen_random_uuid(), user_id uuid not null, workflow_id uuid, status text, started_at timestamptz, completed_at timestamptz,
    duration_ms integer, error_details jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
    primary key (id, created_at)
) partition by range (created_at);
create table public.runs_2025 partition of public.workflow_runs for values from ('2025-01-01') to ('2026-01-01');
create table public.others partition of public.workflow_runs default`)
	run := func(args ...string) result {
		t.Helper()
		return exec1(t, command(t, t.TempDir(), []string{"DATABASE_URL=" + address}, args...), "")
	}
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	pgtest.Exec(t, address, `insert into workflow_runs (user_id, workflow_id, status, created_at)
select '`+sampleUser+`', '`+sampleWorkflow+`', 'completed', '2025-06-01'::timestamptz + m * interval '1 year' from generate_series(0, 1) as m, generate_series(1, 3)`)
	wantCount := func(n string) {
		t.Helper()
		pgtest.Exec(t, address, `do $$ begin assert get_user_workflow_run_count('`+sampleUser+`', '`+sampleWorkflow+`') = `+n+`, 'it is not `+n+`'; end $$`)
	}
	for _, args := range [][]string{{"sweep"}, {"audit"}} {
		if r := run(args...); r.code != exitFine {
			t.Fatalf("%s, before: %+v", args[0], r)
		}
	}
	if r := run("doctor"); !strings.Contains(r.out, "2 partitions, whose runs are in the counts") {
		t.Errorf("doctor, before: got %+v, want both counted", r)
	}
	pgtest.Exec(t, address, `alter table workflow_runs detach partition runs_2025`)
	const gone = "(gone: public.runs_2025)"
	if r := run("sweep"); r.code != exitNo || !strings.Contains(r.errs, gone+"; 1 count differs from the runs that are there, by -3 runs in all, and stays as it is until you ask: runcounter sweep --partitions") {
		t.Errorf("sweep: got %+v, want it to say what it left", r)
	}
	for _, args := range [][]string{{"audit"}, {"doctor"}, {"recount", "--all-drifting"}} {
		if r := run(args...); r.code != exitNo || !strings.Contains(r.out+r.errs, gone) || !strings.Contains(r.out+r.errs, "runcounter sweep --partitions") {
			t.Errorf("%s: got %+v, want it to say which is gone", args[0], r)
		}
	}
	wantCount("6")
	if r := run("sweep", "--partitions"); r.code != exitFine || !strings.Contains(r.out, "1 drifted, 1 corrected") {
		t.Errorf("asked for: got %+v, want the key repaired", r)
	}
	wantCount("3")
	if r := run("sweep"); r.code != exitFine {
		t.Errorf("afterwards: got %+v", r)
	}
}

// TestCaseT15_APartitionThatOurWebhookDoesNotHearIsNamed, one that came after it,
// until it is installed again.
func TestCaseT15_APartitionThatOurWebhookDoesNotHearIsNamed(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.InstallNet(t, address)
	pgtest.InstallVault(t, address)
	pgtest.Exec(t, address, `
create table public.workflow_runs (id uuid, user_id uuid, workflow_id uuid, status text, completed_at timestamptz, created_at timestamptz, updated_at timestamptz, primary key (id, created_at))
 partition by range (created_at);
create table public.others partition of public.workflow_runs default`)
	run := func(args ...string) string {
		t.Helper()
		r := exec1(t, command(t, t.TempDir(), []string{"DATABASE_URL=" + address}, append([]string{"webhook"}, args...)...), "")
		return r.out + r.errs
	}
	const said = "no statement that names one of these partitions itself is told, since they came after it: public.runs_2025"
	for _, want := range []bool{false, true, false} {
		if !want {
			run("install", "--url", "https://counter.example.com")
		} else {
			pgtest.Exec(t, address, `create table public.runs_2025 partition of public.workflow_runs for values from ('2025-01-01') to ('2026-01-01')`)
		}
		if got := run("status"); strings.Contains(got, said) != want {
			t.Errorf("got %s, want it named: %v", got, want)
		}
	}
}
