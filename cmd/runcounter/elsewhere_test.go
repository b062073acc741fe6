package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestCasesOfRealTables_OneThatIsCalledOtherwise: the name is said once, and known
// to all that works on the database; a mirror is told of it by webhook install.
func TestCasesOfRealTables_OneThatIsCalledOtherwise(t *testing.T) {
	t.Parallel()
	const flow = "cccccccc-0000-4000-8000-000000000001"
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `create schema app; create table app.job_runs (id uuid primary key default gen_random_uuid(), user_id text not null, workflow_id uuid not null,
    status text not null default 'running', completed_at timestamptz, updated_at timestamptz default now())`)
	pgtest.InstallVault(t, address)
	net := pgtest.StartNet(t, address)
	at := func(args ...string) []string { return append(args, "--database-url", address) }
	if said := must(t, t.TempDir(), "", at("table", "--table", "app.job_runs")...); !strings.Contains(said, "Table app.job_runs") {
		t.Errorf("table: got %s", said)
	}
	if script := must(t, t.TempDir(), "", at("migrate", "print", "--table", "app.job_runs")...); !strings.Contains(script, `"app"."job_runs"`) || strings.Contains(script, "public.workflow_runs (") {
		t.Errorf("print: got a script of another table:\n%.300s", script)
	}
	dir := t.TempDir()
	must(t, dir, "", at("migrate", "up", "--table", "app.job_runs")...)
	f := newFront(t)
	f.table.Schema, f.table.Table = "app", "job_runs"
	secret, flags := installs(t, at("--url", f.url)...)
	if !slices.Equal(flags, []string{"--table", "app.job_runs"}) {
		t.Fatalf("install tells a mirror %q", flags)
	}
	f.behind.Store(&[]string{listens(t, dir, []string{"RUNCOUNTER_WEBHOOK_SECRET=" + secret}, "--table", "app.job_runs", "--stuck-after", "0").url})
	pgtest.Exec(t, address, `insert into app.job_runs (user_id, workflow_id) select 'ada', '`+flow+`' from generate_series(1, 3)`,
		`update app.job_runs set status = 'completed'`, `delete from app.job_runs where id = (select min(id::text)::uuid from app.job_runs)`)
	net.Idle(t)
	f.settle()
	imported := t.TempDir()
	must(t, imported, "", "import", "--from", address, "--table", "app.job_runs")
	for what, where := range map[string][]string{"the source": {dir, "--database-url", address}, "the mirror": {dir}, "an import": {imported}} {
		got := must(t, where[0], "", append([]string{"count", "--user", "ada", "--workflow", flow, "--json"}, where[1:]...)...)
		if !strings.Contains(got, `"count": 2,`) {
			t.Errorf("%s counts %s, want 2", what, got)
		}
	}

	// Deliveries, sweeps and checks of the source itself need not be told.
	source := listens(t, t.TempDir(), []string{"RUNCOUNTER_WEBHOOK_SECRET=" + secret}, at()...)
	send := []string{"send", "--url", source.url + "/webhooks/workflow-runs", "--user", "ada", "--workflow", flow, "--json"}
	for table, want := range map[string]string{"app.job_runs": `"ignored": 0`, "public.workflow_runs": `"ignored": 1`} {
		cmd := command(t, t.TempDir(), []string{"RUNCOUNTER_WEBHOOK_SECRET=" + secret}, append(send, "--table", table)...)
		if got := exec1(t, cmd, ""); !strings.Contains(got.out, want) {
			t.Errorf("a delivery of %s: got %+v, want %s", table, got, want)
		}
	}
	must(t, dir, "", at("sweep", "--full")...)
	doctor := exec1(t, command(t, dir, nil, at("doctor")...), "")
	for _, wrong := range []string{"is missing", "there is no table", "half built", "workflow_runs was altered"} {
		if strings.Contains(doctor.out, wrong) {
			t.Errorf("doctor says that something %s:\n%s", wrong, doctor.out)
		}
	}
	pgtest.Exec(t, address, `alter table app.job_runs disable trigger zzzz_run_counter_ledger_insert`)
	if doctor := exec1(t, command(t, dir, nil, at("doctor")...), ""); !strings.Contains(doctor.out, "zzzz_run_counter_ledger_insert on app.job_runs is disabled") {
		t.Errorf("doctor does not see a trigger that is disabled:\n%s", doctor.out)
	}
	no := exec1(t, command(t, dir, nil, at("serve", "--table", "public.workflow_runs", "--listen", "127.0.0.1:0")...), "")
	if no.code != exitUsage || !strings.Contains(no.errs, "the database counts the runs of app.job_runs") {
		t.Errorf("serve of another table: got %+v, want it refused", no)
	}
}
