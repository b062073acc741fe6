package main

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/doctor"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

const doctorSecret = "a-secret-of-a-webhook-that-nobody-prints"

// configured is an environment with nothing to complain of.
func configured(address string) []string {
	return []string{
		"DATABASE_URL=" + address, "RUNCOUNTER_WEBHOOK_SECRET=" + doctorSecret, "RUNCOUNTER_API_KEY=" + doctorSecret, "RUNCOUNTER_STUCK_AFTER=running=30m",
	}
}

// withWebhooks is what a project has that uses Supabase's webhooks: schema net
// with its log of calls, Supabase's trigger function and what it remembers.
const withWebhooks = `
create schema net authorization owner;
create table net._http_response (
    id bigint, status_code integer, content_type text, headers jsonb, content text, timed_out boolean, error_msg text,
    created timestamptz not null default now()
);
create table net.http_request_queue (id bigint);
create schema supabase_functions authorization owner;
create table supabase_functions.hooks (id bigserial primary key, hook_table_id integer not null, hook_name text not null, created_at timestamptz not null default now(), request_id bigint);
create function supabase_functions.http_request() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$ begin return new; end $$;
grant all on all tables in schema net, supabase_functions to owner;
create trigger runs after insert or update or delete on public.workflow_runs for each row
    execute function supabase_functions.http_request('https://counter.example/webhooks/workflow-runs', 'POST', '{"Authorization": "Bearer hunter2"}', '{}', '5000');`

// called is a call of workflow_runs's webhook, the newer the higher its number.
func called(id, response string) string {
	return `insert into supabase_functions.hooks (hook_table_id, hook_name, request_id) values ('public.workflow_runs'::regclass::oid::integer, 'runs', ` + id + `);
insert into net._http_response (id, created, status_code, content, timed_out, error_msg) values (` + id + `, now() - interval '1 h' + ` + id + ` * interval '1 s', ` + response + `);`
}

// What pg_net writes of a call.
const (
	received = `200, '{"received":1}', false, null`
	unheard  = `null, '', false, 'Could not connect to server'`
	tooLate  = `null, '', true, 'Timeout was reached'`
)

// project returns the address of a Supabase project with Run Counter, two runs
// and a webhook.
func project(t *testing.T) string {
	t.Helper()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, `
create table public.workflow_runs (
    id uuid primary key default gen_random_uuid(), user_id uuid not null, workflow_id uuid, draft_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now());
alter table public.workflow_runs enable row level security;
insert into public.workflow_runs (id, user_id, workflow_id, status, completed_at)
values ('`+runID(1)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'completed', now()), ('`+runID(2)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'running', null)`)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	pgtest.Exec(t, address, `revoke trigger, truncate on public.workflow_runs from anon, authenticated`) // as doctor says
	pgtest.Exec(t, pgtest.Admin(t, address), withWebhooks, called("1", received))
	return address
}

// examination runs doctor's checks of a database in this process, on a source that the
// test may vary. The checks of what serve would be told are tests' own.
func examination(t *testing.T, address string, vary func(s *doctor.Source), args ...string) report.Report {
	t.Helper()
	var r report.Report
	cmd := doctorCommand()
	cmd.Action = func(ctx context.Context, cmd *cli.Command) error {
		s, err := openInspected(ctx, cmd)
		if err != nil {
			return err
		}
		defer s.DB.Close()
		if vary != nil {
			vary(s)
		}
		r = s.Examine(ctx)
		return nil
	}
	args = append([]string{"doctor", "--database-url", address, "--stuck-after", "30m"}, args...)
	if err := cmd.Run(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	r.Checks = slices.DeleteFunc(r.Checks, func(f report.Finding) bool { return slices.Contains([]string{"listen", "secrets", "limits"}, f.Check) })
	return r
}

func complaints(r report.Report) []report.Finding {
	return slices.DeleteFunc(slices.Clone(r.Checks), func(l report.Finding) bool { return l.Status == report.OK })
}

func TestDoctorFindsNothingAtAHealthyProject(t *testing.T) {
	t.Parallel()
	address := project(t)
	before := whole(t, address)
	r := exec1(t, command(t, t.TempDir(), configured(address), "doctor", "--strict"), "")
	if r.code != exitFine || r.errs != "" {
		t.Errorf("exit code %d\n%s%s", r.code, r.out, r.errs)
	}
	golden(t, "doctor-source", steady(r.out))
	if diff := cmp.Diff(before, whole(t, address)); diff != "" {
		t.Errorf("doctor changed the database (-before +after):\n%s", diff)
	}
	if strings.Contains(r.out, "hunter2") || strings.Contains(r.out, doctorSecret) {
		t.Errorf("a secret is printed:\n%s", r.out)
	}
}

// steady takes out what differs from machine to machine.
func steady(out string) string {
	for pattern, text := range map[string]string{
		`^postgres://\S+, a source`:    "postgres://127.0.0.1:5432/postgres, a source",
		`PostgreSQL [0-9.]+[^,]*,`:     "PostgreSQL 15.1,",
		`the newest .* ago`:            "the newest 3 seconds ago",
		`the oldest of .* ago`:         "the oldest of 3 seconds ago",
		`(ok       extensions   ).*`:   "${1}pg_net 0.20.4",
		`\d+ KiB`:                      "64 KiB",
		`written .* ago`:               "written 3 seconds ago",
		`^/.*runcounter\.db, a mirror`: "/data/runcounter.db, a mirror",
	} {
		out = regexp.MustCompile(pattern).ReplaceAllString(out, text)
	}
	return out
}

// whole is everything that doctor could have changed: how many rows were ever
// written to each table, sequences, and what the schemas hold.
func whole(t *testing.T, address string) (all []string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.Admin(t, address))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{
		`select relname::text || ' ' || oid::text || ' ' || relkind::text || ' ' || coalesce(relacl::text, '') from pg_class where relnamespace::regnamespace::text in ('public', 'run_counter', 'net') order by 1`,
		`select sequencename::text || ' ' || coalesce(last_value, 0)::text from pg_sequences order by 1`,
		`select 'run ' || xmin::text || ' ' || ctid::text || ' ' || r::text from public.workflow_runs as r order by 1`,
		`select 'count ' || xmin::text || ' ' || ctid::text || ' ' || r::text from run_counter.counts as r order by 1`,
		`select 'ledger ' || xmin::text || ' ' || ctid::text || ' ' || r::text from run_counter.ledger as r order by 1`,
		`select 'settings ' || xmin::text || ' ' || ctid::text || ' ' || r::text from run_counter.settings as r order by 1`,
		`select tgname::text || tgenabled::text from pg_trigger where tgrelid = 'public.workflow_runs'::regclass order by 1`,
		`select oid::regprocedure::text || ' ' || xmin::text || coalesce(proacl::text, '') from pg_proc where pronamespace::regnamespace::text in ('public', 'run_counter') order by 1`,
	} {
		rows, err := conn.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, lines...)
	}
	return all
}

// TestDoctorNamesWhatIsWrong breaks one thing after the other. What repairs it
// is, where that is SQL, the fix that doctor names.
func TestDoctorNamesWhatIsWrong(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	address := project(t)
	admin := pgtest.Admin(t, address)
	const (
		// For one that is not on this machine: what the catalog would say.
		withPgNet = `insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) values (99999, 'pg_net', 10, 'net'::regnamespace, false, '0.20.4')`
		// A function of one's own that sends, in place of Supabase's.
		withRuns = `create or replace function public.send() returns trigger language plpgsql as 'begin perform net.http_post(url := null); return null; end';
create trigger runs after insert or update or delete on workflow_runs for each row execute function send()`
	)
	const nothing = `create function public.nothing() returns trigger language plpgsql as 'begin return new; end'; `
	for _, tt := range []struct {
		name, breaks, check string
		status              report.Status
		finding, fix        string
		repairs             string // the fix where empty
	}{
		{"the guard is dropped", `drop trigger zzzz_run_counter_guard on workflow_runs`,
			"triggers", report.Failure, "zzzz_run_counter_guard on public.workflow_runs is missing: an outcome can be overwritten", "runcounter migrate print", "script"},
		{"a ledger trigger is dropped", `drop trigger zzzz_run_counter_ledger_delete on workflow_runs`,
			"triggers", report.Failure, "zzzz_run_counter_ledger_delete on public.workflow_runs is missing: what it should have counted", "runcounter migrate print", "script"},
		{"a trigger is disabled", `alter table workflow_runs disable trigger zzzz_run_counter_ledger_update`,
			"triggers", report.Failure, "zzzz_run_counter_ledger_update on public.workflow_runs is disabled", "runcounter recount", `alter table workflow_runs enable trigger zzzz_run_counter_ledger_update`},
		{"the trigger of presumed outcomes is disabled", `alter table run_counter.presumed disable trigger ledger_presumed`,
			"triggers", report.Failure, "ledger_presumed on run_counter.presumed is disabled", "enable trigger", `alter table run_counter.presumed enable trigger ledger_presumed`},
		{"a trigger fires always", `alter table workflow_runs enable always trigger zzzz_run_counter_ledger_insert`,
			"triggers", report.Warning, "zzzz_run_counter_ledger_insert fires always", "enable trigger", ""},
		{"a trigger fires after the guard", nothing + `create trigger zzzz_touch before update on workflow_runs for each row execute function nothing()`,
			"triggers", report.Failure, "zzzz_touch (public.nothing) fires after the guard", "sorts before zzzz_run_counter_guard", `drop trigger zzzz_touch on workflow_runs; drop function nothing()`},
		{"a trigger fires after the guard of inserts", nothing + `create trigger zzzz_touch before insert on workflow_runs for each row execute function nothing()`,
			"triggers", report.Failure, "zzzz_touch", "rename", `drop function nothing() cascade`},
		{"anon may call a function", `grant execute on function public.complete_workflow_run to anon`,
			"grants", report.Failure, "anon, which is every visitor who has not signed in, has execute on complete_workflow_run(uuid,text", "revoke execute on function", ""},
		{"everybody may call a function", `grant execute on function run_counter.amend_run to public; grant usage on schema run_counter to anon`,
			"grants", report.Failure, "anon, which is every visitor who has not signed in, has execute on run_counter.amend_run(uuid", "revoke", `revoke execute on function run_counter.amend_run from public; revoke usage on schema run_counter from anon`},
		{"anon may read the counts", `grant select on workflow_run_counts to anon`,
			"grants", report.Failure, "anon, which is every visitor who has not signed in, has a privilege on workflow_run_counts", "revoke all on workflow_run_counts", ""},
		{"users may name their limit", `grant execute on function public.begin_workflow_run to authenticated`,
			"grants", report.Failure, "authenticated, which is every signed-in user, has execute on begin_workflow_run", "revoke", ""},
		{"case T24: end users may make triggers", `grant trigger on workflow_runs to authenticated`,
			"grants", report.Warning, "trigger to authenticated", "revoke trigger, truncate on public.workflow_runs from authenticated", ""},
		{"case T24: strangers may empty the table", `grant truncate on workflow_runs to anon`,
			"grants", report.Warning, "truncate to anon", "revoke trigger, truncate on public.workflow_runs from anon", ""},
		{"case T24: everybody may do both", `grant trigger, truncate on workflow_runs to public`,
			"grants", report.Warning, "trigger to public", "revoke trigger, truncate on public.workflow_runs from public", ""},
		{"a function has no search_path", `alter function public.complete_workflow_run reset search_path`,
			"functions", report.Failure, "without a search_path of their own, so that a caller's objects can take the place of ours: complete_workflow_run(", "set search_path = pg_catalog, pg_temp", ""},
		{"a function is gone", `drop function run_counter.lock_key`,
			"functions", report.Failure, "missing: run_counter.lock_key", "runcounter migrate print", "script"},
		{"a function of the same name", `create function public.get_user_workflow_run_count(p_user_id uuid) returns bigint language sql as 'select 0::bigint'; revoke all on function get_user_workflow_run_count(uuid) from public, anon, authenticated`,
			"functions", report.Warning, "of the same name and not ours, so that calls may go astray: get_user_workflow_run_count(uuid)", "drop function get_user_workflow_run_count(uuid)", ""},
		{"a function is another's", `alter function run_counter.policy() owner to supabase_admin`,
			"functions", report.Warning, "they belong to several roles: owner, supabase_admin", "owner to", `alter function run_counter.policy() owner to owner`},
		{"a migration was interrupted", `update run_counter.schema_migrations set dirty = true`,
			"migrations", report.Failure, "was interrupted", "runcounter migrate up", `update run_counter.schema_migrations set dirty = false`},
		{"a migration is missing", `update run_counter.schema_migrations set version = version - 1`,
			"migrations", report.Failure, "20260201000000 of 2026", "runcounter migrate up", `update run_counter.schema_migrations set version = version + 1`},
		{"a newer program", `update run_counter.schema_migrations set version = version + 1`,
			"migrations", report.Failure, "made by a newer program", "run the newer runcounter", `update run_counter.schema_migrations set version = version - 1`},
		{"a table is gone", `alter table run_counter.recounts rename to recounted`,
			"migrations", report.Failure, "are gone: recounts", "migrate down", `alter table run_counter.recounted rename to recounts`},
		{"an index is gone", `drop index run_counter_odd`,
			"migrations", report.Warning, "missing or half built, and everything is slow without them: run_counter_odd", "migrate print", "script"},
		{"workflow_runs has lost draft_id", `alter table workflow_runs rename draft_id to drafted_id`,
			"migrations", report.Failure, "workflow_runs was altered since they were applied: the column draft_id is gone", "runcounter migrate up", `alter table workflow_runs rename drafted_id to draft_id`},
		{"the guard is off", `update run_counter.settings set guard = 'off'`,
			"settings", report.Warning, "the guard is off", "set guard = 'on'", ""},
		{"the guard only reports", `update run_counter.settings set guard = 'report'; insert into run_counter.repairs (run_id, first_at, kind, last_at, status, completed_at) values ('` + runID(1) + `', now(), 'would_keep', now(), 'running', now())`,
			"settings", report.Warning, "the guard only reports, for applications that retry a run in the same row: a later write overwrites an outcome, and has overwritten that of 1 run", "set guard = 'on'", ""},
		{"hardening is off", `update run_counter.settings set hardening = false`,
			"settings", report.Warning, "hardening is off: end users can", "set hardening = true", ""},
		{"a count is wrong", `update run_counter.counts set n = n + 1`,
			"counts", report.Failure, "1 of 1 count compared with the runs behind them are wrong, such as that of user " + sampleUser, "runcounter recount --all-drifting", `update run_counter.counts set n = n - 1`},
		{"a run is stuck", `update workflow_runs set updated_at = now() - interval '1 day', created_at = now() - interval '1 day' where status = 'running'`,
			"stuck runs", report.Warning, "1 run silent for longer than the limit", "runcounter sweep --dry-run", `update workflow_runs set updated_at = now()`},
		{"nobody folds", `insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n, at) values ('` + sampleUser + `', 'workflow', '` + sampleWorkflow + `', 'completed', false, 0, now() - interval '3 hours')`,
			"ledger", report.Warning, "1 row to fold, the oldest of 3 hours ago: no sweep folds", "runcounter sweep", `delete from run_counter.ledger`},
		{"a long ledger", `insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n) select '` + sampleUser + `', 'workflow', '` + sampleWorkflow + `', 'completed', false, 0 from generate_series(1, 20001)`,
			"ledger", report.Warning, "20001 rows to fold", "runcounter serve folds it", `delete from run_counter.ledger`},
		{"a delivery could not be read", `insert into run_counter.dead_letters (received_at, reason, bytes, body) values (now(), 'no JSON', 1, 'x')`,
			"dead letters", report.Warning, "1 change or delivery was authenticated and could not be read", "runcounter dead-letters list", `delete from run_counter.dead_letters`},
		{"a run without a workflow", `insert into workflow_runs (id, user_id, status) values ('` + runID(9) + `', '` + sampleUser + `', 'running')`,
			"runs", report.Warning, "1 run with neither a workflow nor a draft", "workflow_id", `delete from workflow_runs where id = '` + runID(9) + `'`},
		{"an unknown status", `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + runID(9) + `', '` + sampleUser + `', '` + sampleWorkflow + `', 'paused')`,
			"runs", report.Warning, "1 run with an unknown status", "--status THEIRS=OURS", `delete from workflow_runs where id = '` + runID(9) + `'`},
		{"a prepared transaction", `begin; select from workflow_runs; insert into public.workflow_runs (id, user_id, status) values (gen_random_uuid(), gen_random_uuid(), 'x'); prepare transaction 'forgotten'`,
			"snapshots", report.Warning, "prepared transaction forgotten of postgres has been open", "rollback prepared 'forgotten'", `rollback prepared 'forgotten'`},
		{"a webhook is disabled", `alter table workflow_runs disable trigger runs`,
			"webhook", report.Warning, "runs is disabled", `enable trigger "runs"`, ""},
		{"no webhook", `drop trigger runs on workflow_runs; ` + withPgNet,
			"webhook", report.Warning, "none on workflow_runs", "Database → Webhooks", withRuns + `; delete from pg_extension where extname = 'pg_net'`},
		{"a webhook without updates", `drop trigger runs on workflow_runs; create trigger runs after insert on workflow_runs for each row execute function supabase_functions.http_request()`,
			"webhook", report.Warning, "runs does not tell of updates", "UPDATE too", `drop trigger runs on workflow_runs; ` + withRuns},
		{"refused", called("2", unheard),
			"deliveries", report.Failure, "1 of the last 2 calls of workflow_runs were refused or led nowhere, the newest among them: Could not connect to server", "/readyz", "calls"},
		{"refused before", called("2", unheard) + called("3", received),
			"deliveries", report.Warning, "1 of the last 3 calls of workflow_runs were refused or led nowhere, but the newest arrived", "/readyz", "calls"},
		{"timed out", called("2", tooLate),
			"deliveries", report.Failure, "timed out, the newest among them: Timeout was reached", "timeout to 5000 ms", "calls"},
		{"unauthorised", called("2", `401, '{"title":"no"}', false, null`),
			"deliveries", report.Failure, "were not let in (401, 403)", "RUNCOUNTER_WEBHOOK_SECRET", "calls"},
		{"redirected", called("2", `301, '', false, null`),
			"deliveries", report.Failure, "were redirected (3xx)", "a GET that has no body", "calls"},
		{"no such page", called("2", `405, '', false, null`),
			"deliveries", report.Failure, "met no such page (404, 405)", "/webhooks/workflow-runs", "calls"},
		{"a redirect was followed to a page", called("2", `200, '<html>', false, null`) + `update net._http_response set headers = '{"location": "https://other.example/"}' where id = 2`,
			"deliveries", report.Failure, "were redirected (3xx), the newest among them: status 200", "a GET that has no body", "calls"},
		{"another page", `update net._http_response set content = '<html>'`,
			"deliveries", report.Warning, "1 of the last 1 call of workflow_runs got a 2xx that is no answer of Run Counter", "another page is there", `update net._http_response set content = '{"received":1}'`},
		{"unreadable", called("2", `400, '', false, null`),
			"deliveries", report.Failure, "could not be read (4xx)", "runcounter dead-letters list", "calls"},
		{"a server in trouble", called("2", `503, '', false, null`),
			"deliveries", report.Failure, "met a server in trouble (5xx)", "log of serve", "calls"},
		{"a queue that grows", `insert into net.http_request_queue select generate_series(1001, 2001)`,
			"deliveries", report.Warning, "1001 calls wait", "worker_restart", `delete from net.http_request_queue`},
		{"a dead worker", withPgNet,
			"deliveries", report.Failure, "pg_net's worker does not run", "worker_restart", `delete from pg_extension where extname = 'pg_net'`},
	} {
		pgtest.Exec(t, admin, tt.breaks)
		r := examination(t, address, func(s *doctor.Source) { s.Thresholds.OldSnapshot = 0 })
		named(t, tt.name, r, report.Finding{Check: tt.check, Status: tt.status, Text: tt.finding, Fix: tt.fix})
		switch tt.repairs {
		case "":
			pgtest.Exec(t, admin, fixOf(r, tt.check))
		case "script":
			pgtest.Exec(t, address, must(t, t.TempDir(), "", "migrate", "print", "--database-url", address))
		case "calls":
			pgtest.Exec(t, admin, `delete from net._http_response where id > 1`)
		default:
			pgtest.Exec(t, admin, tt.repairs)
		}
		if left := complaints(examination(t, address, nil)); len(left) > 0 {
			t.Fatalf("%s, and repaired: got %+v, want nothing", tt.name, left)
		}
	}
}

// named fails the test unless the report has such a line, and complains of
// nothing else.
func named(t *testing.T, name string, r report.Report, want report.Finding) {
	t.Helper()
	for _, l := range complaints(r) {
		if l.Check == want.Check && l.Status == want.Status && strings.Contains(l.Text, want.Text) && strings.Contains(l.Fix, want.Fix) {
			return
		}
	}
	t.Errorf("%s: want %+v\nin %+v", name, want, complaints(r))
}

func fixOf(r report.Report, check string) string {
	for _, l := range complaints(r) {
		if l.Check == check {
			return l.Fix
		}
	}
	return ""
}
