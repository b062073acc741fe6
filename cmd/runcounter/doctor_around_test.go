package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store/doctor"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestDoctorNamesWhoHoldsAnOldSnapshot(t *testing.T) {
	t.Parallel()
	address := project(t)
	holder, err := pgx.Connect(t.Context(), pgtest.With(t, address, "application_name", "a forgotten psql"))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	if _, err := holder.Exec(t.Context(), `begin isolation level repeatable read; select 1`); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(int(holder.PgConn().PID()))
	r := examination(t, address, func(s *doctor.Source) { s.Thresholds.OldSnapshot = 0 })
	named(t, "a session", r, report.Finding{Check: "snapshots", Status: report.Warning, Text: "session " + pid + " (a forgotten psql owner) has been idle in transaction", Fix: "pg_terminate_backend(" + pid + ")"})
}

// A slot is the server's, so this one is the test's own.
func TestDoctorNamesASlotThatNobodyReads(t *testing.T) {
	t.Parallel()
	address := pgtest.NewServer(t).Database(t)
	pgtest.Exec(t, address, `select pg_create_physical_replication_slot('left_behind', true)`)
	named(t, "a slot", examination(t, address, nil), report.Finding{Check: "snapshots", Status: report.Warning, Text: "replication slot left_behind (physical) is inactive", Fix: "pg_drop_replication_slot('left_behind')"})
}

// One lock that is not had, on one table, keeps one check from its answer.
func TestDoctorGoesOnWhereItCannotLook(t *testing.T) {
	t.Parallel()
	address := project(t)
	holder, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	if _, err := holder.Exec(t.Context(), `begin; lock table net._http_response in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	r := examination(t, address, nil)
	if diff := cmp.Diff([]report.Finding{{Check: "deliveries", Status: report.Warning, Text: "not checked: no answer within 5 seconds", Fix: "try again when the database is less busy"}}, complaints(r)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(r.Checks) != 19 {
		t.Errorf("got %d lines, want the other 18 checks too: %+v", len(r.Checks), r.Checks)
	}
}

func TestDoctorSaysWhatARoleMayNotSee(t *testing.T) {
	t.Parallel()
	address := project(t)
	name := "runcounter_stranger_" + strconv.Itoa(os.Getpid())
	admin := pgtest.Admin(t, address)
	pgtest.Exec(t, admin, `create role `+name+` login password '`+pgtest.Password+`'; grant select on workflow_runs to `+name)
	t.Cleanup(func() { pgtest.Exec(t, admin, `drop owned by `+name, `drop role `+name) })
	stranger := pgtest.As(t, address, name)
	r := examination(t, stranger, nil)
	for _, want := range []report.Finding{
		{Check: "role", Status: report.Failure, Text: name + " has no right to insert, update on workflow_runs", Fix: "connect as owner"},
		{Check: "role", Status: report.Failure, Text: "row level security hides runs from " + name, Fix: "connect as owner"},
		{Check: "role", Status: report.Failure, Text: "lacks usage of schema run_counter", Fix: "service_role"},
		{Check: "migrations", Status: report.Warning, Text: "not checked: not with this role: permission denied for", Fix: "connect as the owner of workflow_runs"},
		{Check: "counts", Status: report.Warning, Text: "not checked: not with this role: permission denied for", Fix: "connect as the owner"},
		{Check: "deliveries", Status: report.Warning, Text: "not checked: not with this role: permission denied for", Fix: "connect as the owner"},
		{Check: "snapshots", Status: report.Warning, Text: "may not see what other roles' sessions do", Fix: "grant pg_read_all_stats"},
	} {
		named(t, "a stranger", r, want)
	}
}

func TestDoctorWithoutMigrationsAndWithoutATable(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	r := examination(t, address, nil)
	named(t, "no table", r, report.Finding{Check: "role", Status: report.Failure, Text: "there is no table public.workflow_runs", Fix: "runcounter migrate up makes the table"})
	named(t, "no table", r, report.Finding{Check: "migrations", Status: report.Failure, Text: "none is applied", Fix: "runcounter migrate up"})
	if r.Failures = len(complaints(r)); r.Failures != 2 {
		t.Errorf("no table: got %+v, want two lines", complaints(r))
	}
	pgtest.Exec(t, address, `create table public.workflow_runs (id uuid primary key, user_id uuid not null, workflow_id uuid, status text, started_at timestamptz,
    completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz, updated_at timestamptz)`,
		`insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values ('`+runID(1)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'running', now() - interval '1 day')`)
	r = examination(t, address, nil)
	named(t, "no migrations", r, report.Finding{Check: "migrations", Status: report.Failure, Text: "nothing keeps the first outcome but our own calls", Fix: "runcounter migrate up"})
	named(t, "no migrations", r, report.Finding{Check: "stuck runs", Status: report.Warning, Text: "1 run silent", Fix: "runcounter serve"})
	// Where the machine's PostgreSQL could have pg_net (case O7), doctor also says
	// that no webhook uses it.
	want := 2
	if pgtest.Offers(t, address, "pg_net") {
		named(t, "no migrations", r, report.Finding{Check: "webhook", Status: report.Warning, Text: "none on workflow_runs", Fix: "runcounter webhook install"})
		want++
	}
	if n := len(complaints(r)); n != want {
		t.Errorf("no migrations: got %+v, want %d lines", complaints(r), want)
	}
	out := exec1(t, command(t, t.TempDir(), configured(address), "doctor"), "")
	if out.code != exitNo || !strings.Contains(out.out, "FAILURE  migrations") || out.errs != "" {
		t.Errorf("exit code %d, want %d\n%s%s", out.code, exitNo, out.out, out.errs)
	}
}

func TestDoctorThroughAPooler(t *testing.T) {
	t.Parallel()
	address := pgtest.Pooler(t, project(t))
	r := examination(t, address, nil)
	if left := complaints(r); len(left) > 0 {
		t.Errorf("got %+v, want nothing", left)
	}
	if got := r.Checks[0].Text; !strings.Contains(got, "through a pooler: right for serve; migrate up needs a session") {
		t.Errorf("got %q, want the pooler named", got)
	}
}

func TestDoctorKnowsHowTheConnectionIsProtected(t *testing.T) {
	t.Parallel()
	server, _ := pgtest.NewTLSServer(t)
	address := server.Database(t)
	for mode, want := range map[string]string{"require": "require", "verify-ca": "verify-ca", "verify-full": "verify-full"} {
		with := pgtest.With(t, address, "sslmode", mode)
		if mode == "require" { // with an authority it would be as verify-ca
			with = strings.Split(address, "?")[0] + "?sslmode=require"
		}
		r := examination(t, with, nil)
		if got := r.Checks[1].Text; got != "sslmode "+want+", and the connection stays on this machine" {
			t.Errorf("sslmode %s: got %q", mode, got)
		}
	}
}

func TestDoctorSaysWhyTheDatabaseCannotBeReached(t *testing.T) {
	t.Parallel()
	r := exec1(t, command(t, t.TempDir(), configured("postgres://owner:hunter2@127.0.0.1:1/db"), "doctor"), "")
	for _, want := range []string{"FAILURE  connection", "fix: check the host, port and name", "ok       listen"} {
		if r.code != exitNo || !strings.Contains(r.out, want) {
			t.Errorf("exit code %d, want %d and %q\n%s%s", r.code, exitNo, want, r.out, r.errs)
		}
	}
	bad := exec1(t, command(t, t.TempDir(), configured("postgres://owner:hunter2@127.0.0.1:port/db"), "doctor"), "")
	if bad.code != exitUsage || !strings.Contains(bad.errs, "postgres://USER:PASSWORD@HOST") {
		t.Errorf("exit code %d, want %d\n%s%s", bad.code, exitUsage, bad.out, bad.errs)
	}
	if all := r.out + r.errs + bad.out + bad.errs; strings.Contains(all, "hunter2") || strings.Contains(all, doctorSecret) {
		t.Errorf("a password is repeated:\n%s", all)
	}
}

func TestDoctorComparesClocksAndServers(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	for offset, want := range map[time.Duration]string{
		-10 * time.Minute: "ahead of this machine's", 10 * time.Minute: "behind this machine's",
	} {
		r := examination(t, address, func(s *doctor.Source) { s.DB.Now = func() time.Time { return time.Now().Add(offset) } })
		named(t, "clocks", r, report.Finding{Check: "clock", Status: report.Warning, Text: want, Fix: "NTP"})
	}
	pgtest.Exec(t, address, `do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$`)
	named(t, "read-only", examination(t, address, nil), report.Finding{Check: "connection", Status: report.Failure, Text: "new transactions are read-only", Fix: "disk is nearly full"})
}

func TestDoctorOfAMirror(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	env := configured("sqlite:runcounter.db")
	doctor := func(args ...string) result {
		t.Helper()
		return exec1(t, command(t, dir, env, append([]string{"doctor"}, args...)...), "")
	}
	path := filepath.Join(dir, "runcounter.db")
	must(t, dir, "", "sweep", "--stuck-after", "30m")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	healthy := doctor("--strict")
	if healthy.code != exitFine {
		t.Errorf("exit code %d\n%s%s", healthy.code, healthy.out, healthy.errs)
	}
	golden(t, "doctor-mirror", steady(healthy.out))
	after, err := os.ReadFile(path)
	if err != nil || string(before) != string(after) {
		t.Errorf("doctor changed the file, %v", err)
	}
	spoil(t, dir)
	must(t, dir, row(7, otherWorkflow, "running", "null"), "import")
	wrong := doctor()
	for _, want := range []string{"FAILURE  counts", "WARNING  stuck runs", "fix: runcounter audit", "1 failure, 1 warning."} {
		if wrong.code != exitNo || !strings.Contains(wrong.out, want) {
			t.Errorf("exit code %d, want %d and %q\n%s", wrong.code, exitNo, want, wrong.out)
		}
	}
	none := exec1(t, command(t, t.TempDir(), env, "doctor"), "")
	if none.code != exitNo || !strings.Contains(none.out, "there is no such file") {
		t.Errorf("no file: exit code %d\n%s%s", none.code, none.out, none.errs)
	}
	if err := os.WriteFile(path, []byte("this is no database, and it is long enough to be seen as none at all: more than a hundred bytes of it, that is"), 0o600); err != nil {
		t.Fatal(err)
	}
	if spoiled := doctor(); spoiled.code != exitNo || !strings.Contains(spoiled.out, "FAILURE  file") {
		t.Errorf("no database: exit code %d\n%s%s", spoiled.code, spoiled.out, spoiled.errs)
	}
}

func TestDoctorLooksAtTheConfiguration(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	for _, tt := range []struct {
		name string
		env  []string
		code int
		want []string
	}{
		{"nothing is set", nil, exitFine, []string{"WARNING  secrets      RUNCOUNTER_WEBHOOK_SECRET is not set here: any process on this machine", "RUNCOUNTER_API_KEY is not set here"}},
		{"for other machines", []string{"PORT=8080"}, exitNo, []string{"FAILURE  secrets", "serve refuses to listen for other machines", "listen on :8080, for other machines"}},
		{"an address that is none", []string{"RUNCOUNTER_LISTEN=nowhere:none"}, exitNo, []string{"FAILURE  listen"}},
		{"limits that are none", []string{"RUNCOUNTER_STUCK_AFTER=soon"}, exitNo, []string{"FAILURE  limits", `"soon" is not a length of time`}},
		{"a policy that is none", []string{"RUNCOUNTER_COUNT_POLICY=all"}, exitNo, []string{"FAILURE  policy"}},
		{"another policy", []string{"RUNCOUNTER_COUNT_POLICY=terminal"}, exitFine, []string{"outcomes is in force, and RUNCOUNTER_COUNT_POLICY says terminal"}},
		{"a short secret", []string{"RUNCOUNTER_WEBHOOK_SECRET=abc"}, exitNo, []string{"FAILURE  secrets", "secret 1 of the list has 3 characters, which could be guessed"}},
		{"a short key", []string{"RUNCOUNTER_API_KEY=abc"}, exitNo, []string{"RUNCOUNTER_API_KEY: key 1 of the list has 3 characters"}},
	} {
		r := exec1(t, command(t, dir, tt.env, "doctor"), "")
		for _, want := range tt.want {
			if r.code != tt.code || !strings.Contains(r.out, want) {
				t.Errorf("%s: exit code %d, want %d and %q\n%s%s", tt.name, r.code, tt.code, want, r.out, r.errs)
			}
		}
		if strict := exec1(t, command(t, dir, tt.env, "doctor", "--strict"), ""); strict.code != exitNo {
			t.Errorf("%s, strictly: exit code %d, want %d", tt.name, strict.code, exitNo)
		}
	}
}

func TestDoctorForAProgram(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	spoil(t, dir)
	r := exec1(t, command(t, dir, configured("sqlite:runcounter.db"), "doctor", "--json"), "")
	var got struct {
		Database, Kind     string
		Healthy            bool
		Failures, Warnings int
		Checks             []struct{ Check, Status, Finding, Fix string }
	}
	decoder := json.NewDecoder(strings.NewReader(r.out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil || r.code != exitNo {
		t.Fatalf("exit code %d, %v\n%s%s", r.code, err, r.out, r.errs)
	}
	if got.Kind != "mirror" || got.Healthy || got.Failures != 1 || len(got.Checks) < 10 || !strings.HasSuffix(got.Database, "runcounter.db") {
		t.Errorf("got %+v", got)
	}
	seen := map[string]bool{}
	for _, c := range got.Checks {
		if seen[c.Status] = true; c.Check == "" || c.Finding == "" || (c.Status == "ok") != (c.Fix == "") {
			t.Errorf("got %+v, want a fix where something is wrong", c)
		}
	}
	if !seen["ok"] || !seen["failure"] {
		t.Errorf("got the statuses %v", seen)
	}
}
