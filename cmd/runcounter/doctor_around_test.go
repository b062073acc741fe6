package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/sqlite"
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
	r := examination(t, address, func(p *patient) { p.oldSnapshot = 0 })
	named(t, "a session", r, line{"snapshots", warns, "session " + pid + " (a forgotten psql owner) has been idle in transaction", "pg_terminate_backend(" + pid + ")"})
}

// A slot is the server's, so this one is the test's own.
func TestDoctorNamesASlotThatNobodyReads(t *testing.T) {
	t.Parallel()
	address := pgtest.NewServer(t).Database(t)
	pgtest.Exec(t, address, `select pg_create_physical_replication_slot('left_behind', true)`)
	named(t, "a slot", examination(t, address, nil), line{"snapshots", warns, "replication slot left_behind (physical) is inactive", "pg_drop_replication_slot('left_behind')"})
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
	if diff := cmp.Diff([]line{{"deliveries", warns, "can't look: no answer within 5 seconds", "try again when the database is less busy"}}, complaints(r)); diff != "" {
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
	for _, want := range []line{
		{"role", fails, name + " has no right to insert, update on workflow_runs", "connect as owner"},
		{"role", fails, "row level security hides runs from " + name, "connect as owner"},
		{"role", fails, "lacks usage of schema run_counter", "service_role"},
		{"migrations", warns, "can't look: not with this role: permission denied for", "connect as the owner of workflow_runs"},
		{"counts", warns, "can't look: not with this role: permission denied for", "connect as the owner"},
		{"deliveries", warns, "can't look: not with this role: permission denied for", "connect as the owner"},
		{"snapshots", warns, "may not see what other roles' sessions do", "grant pg_read_all_stats"},
	} {
		named(t, "a stranger", r, want)
	}
}

func TestDoctorWithoutMigrationsAndWithoutATable(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	r := examination(t, address, nil)
	named(t, "no table", r, line{"role", fails, "there is no table public.workflow_runs", "runcounter migrate up makes the table"})
	named(t, "no table", r, line{"migrations", fails, "none is applied", "runcounter migrate up"})
	if r.Failures = len(complaints(r)); r.Failures != 2 {
		t.Errorf("no table: got %+v, want two lines", complaints(r))
	}
	pgtest.Exec(t, address, `create table public.workflow_runs (id uuid primary key, user_id uuid not null, workflow_id uuid, status text, started_at timestamptz,
    completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz, updated_at timestamptz)`,
		`insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values ('`+runID(1)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'running', now() - interval '1 day')`)
	r = examination(t, address, nil)
	named(t, "no migrations", r, line{"migrations", fails, "nothing keeps the first outcome but our own calls", "runcounter migrate up"})
	named(t, "no migrations", r, line{"stuck runs", warns, "1 run silent", "runcounter serve"})
	// Where the machine's PostgreSQL could have pg_net (case O7), doctor also says
	// that no webhook uses it.
	want := 2
	if pgtest.Offers(t, address, "pg_net") {
		named(t, "no migrations", r, line{"webhook", warns, "none on workflow_runs", "runcounter webhook install"})
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
	if got := r.Checks[0].Finding; !strings.Contains(got, "through a pooler: right for serve; migrate up needs a session") {
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
		if got := r.Checks[1].Finding; got != "sslmode "+want+", and the connection stays on this machine" {
			t.Errorf("sslmode %s: got %q", mode, got)
		}
	}
	for _, tt := range []struct {
		link   postgres.Link
		status verdict
		want   string
	}{
		{postgres.Link{TLS: postgres.Plain}, fails, "read and change everything"},
		{postgres.Link{TLS: postgres.Plain, Private: true}, warns, "on the private network can read"},
		{postgres.Link{TLS: postgres.Plain, Local: true, Private: true}, isFine, "stays on this machine"},
		{postgres.Link{TLS: postgres.Encrypted}, warns, "the certificate is not checked, so the server may not be yours"},
		{postgres.Link{TLS: postgres.Encrypted, Private: true}, isFine, "require"},
		{postgres.Link{TLS: postgres.KnownIssuer}, warns, "not whose it is"},
		{postgres.Link{TLS: postgres.FullyVerified}, isFine, "verify-full"},
	} {
		if got := tlsLine(tt.link); got.Status != tt.status || !strings.Contains(got.Finding, tt.want) || (got.Fix == "") != (got.Status == isFine) {
			t.Errorf("%+v: got %+v, want %s and %q", tt.link, got, tt.status, tt.want)
		}
	}
}

func TestDoctorSaysWhyTheDatabaseCannotBeReached(t *testing.T) {
	t.Parallel()
	r := exec1(t, command(t, t.TempDir(), configured("postgres://owner:hunter2@127.0.0.1:1/db"), "doctor"), "")
	for _, want := range []string{"FAILURE  connection", "fix: look at the host, port and name", "ok       listen"} {
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
	v4, v6 := net.IPAddr{IP: net.IPv4(192, 0, 2, 1)}, net.IPAddr{IP: net.ParseIP("2001:db8::1")}
	for name, tt := range map[string]struct {
		addresses []net.IPAddr
		want      string
	}{
		"IPv6 alone": {[]net.IPAddr{v6}, "session pooler"},
		"no address": {nil, "session pooler"},
		"IPv4 too":   {[]net.IPAddr{v6, v4}, "paused"},
	} {
		if got := directFix(tt.addresses); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	if !directHost.MatchString("db.abcdefghijklmnopqrst.supabase.co") || directHost.MatchString("aws-0-eu-central-1.pooler.supabase.com") {
		t.Error("which host is a direct one is told wrongly")
	}
	login := unreachable(t.Context(), postgres.Target{Host: "aws-0-eu.pooler.supabase.com", User: "postgres"}, postgres.ErrLogin)
	if !strings.Contains(login.Fix, "postgres.PROJECT") {
		t.Errorf("a pooler's user: got %+v", login)
	}
}

func TestDoctorComparesClocksAndServers(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	for offset, want := range map[time.Duration]string{
		-10 * time.Minute: "ahead of this machine's", 10 * time.Minute: "behind this machine's",
	} {
		r := examination(t, address, func(p *patient) { p.db.Now = func() time.Time { return time.Now().Add(offset) } })
		named(t, "clocks", r, line{"clock", warns, want, "NTP"})
	}
	for name, tt := range map[string]struct {
		link postgres.Link
		want string
	}{
		"an old server": {postgres.Link{Number: 140011, Version: "14.11"}, "needs 15 or later"},
		"a standby":     {postgres.Link{Number: 150000, Standby: true}, "can't be written"},
	} {
		if got := linkLines(tt.link)[0]; got.Status != fails || !strings.Contains(got.Finding, tt.want) {
			t.Errorf("%s: got %+v, want %q", name, got, tt.want)
		}
	}
	pooled := linkLines(postgres.Link{Target: postgres.Target{Port: 6543}, Number: 150000})
	if got := pooled[len(pooled)-1]; got.Status != isFine || !strings.Contains(got.Finding, "transaction mode") {
		t.Errorf("port 6543: got %+v", got)
	}
	pgtest.Exec(t, address, `do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$`)
	named(t, "read-only", examination(t, address, nil), line{"connection", fails, "new transactions are read-only", "disk is nearly full"})
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

// What takes too much to be made: a log of gigabytes, a newer program, a role
// that is blind where pg_net is.
func TestDoctorJudgesWhatItRarelySees(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		got    line
		status verdict
		want   string
	}{
		"a long write-ahead log":   {walLine(sqlite.File{JournalMode: "wal", WAL: 300 << 20}), warns, "has 300 MiB"},
		"another journal":          {walLine(sqlite.File{JournalMode: "delete"}), fails, "delete instead of wal"},
		"a newer mirror":           {migrationsLine(3, 2, false, "up"), fails, "made by a newer program"},
		"an interrupted migration": {migrationsLine(2, 2, true, "up"), fails, "was interrupted"},
		"nothing received":         {changesLine(time.Time{}, 0), warns, "none was ever received"},
		"a blind role":             {deliveryLines(postgres.Deliveries{Deliveries: store.Deliveries{Watched: true}, Net: true, Blind: true})[0], warns, "whether pg_net's worker runs"},
		"no pg_net":                {deliveryLines(postgres.Deliveries{})[0], isFine, "no pg_net"},
		"nothing to send one":      {webhookLines(nil, nil, postgres.WebhookState{})[0], isFine, "no pg_net to send one"},
	} {
		if tt.got.Status != tt.status || !strings.Contains(tt.got.Finding, tt.want) || (tt.got.Fix == "") != (tt.status == isFine) {
			t.Errorf("%s: got %+v, want %s and %q", name, tt.got, tt.status, tt.want)
		}
	}
}
