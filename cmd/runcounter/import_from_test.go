package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/backfill"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
)

// runsTable is a table with the columns that every application has.
const runsTable = `
create table public.workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, draft_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now());`

// manyRuns inserts runs of 40 users, ended and active, of workflows and drafts.
// id is the expression for the id of run n.
func manyRuns(n int, id string) string {
	return fmt.Sprintf(`
insert into public.workflow_runs (id, user_id, workflow_id, draft_id, status, started_at, completed_at, duration_ms, error_details, created_at, updated_at)
select %s, ('11111111-1111-4111-8111-' || lpad((n %% 40)::text, 12, '0'))::uuid,
       case when n %% 7 <> 0 then ('aaaaaaaa-aaaa-4aaa-8aaa-' || lpad((n %% 5)::text, 12, '0'))::uuid end,
       case when n %% 7 = 0 then ('dddddddd-dddd-4ddd-8ddd-' || lpad((n %% 3)::text, 12, '0'))::uuid end,
       (array['completed', 'failed', 'running', 'pending', 'cancelled', 'timeout'])[1 + n %% 6],
       timestamptz '2026-01-31 12:00Z' + n * interval '1 ms',
       case when n %% 6 not in (2, 3) then timestamptz '2026-01-31 12:01Z' + n * interval '1 ms' end,
       case when n %% 6 not in (2, 3) then 60000 end,
       case when n %% 6 = 1 then jsonb_build_object('message', 'größer als ' || n) end,
       timestamptz '2026-01-31 11:59Z', timestamptz '2026-01-31 12:01Z' + n * interval '1 ms'
  from generate_series(1, %d) as n;`, id, n)
}

const (
	randomIDs = `gen_random_uuid()`
	orderlyID = `('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid`
)

// fromShape is what import --from --json prints.
type fromShape = backfill.TableResult

// TestImportWhileTheTableIsWritten imports 20,000 rows while an application
// inserts, advances, hands over and deletes some before and behind the page that
// is read, and the webhooks of that arrive at the mirror in disorder and twice.
// In the end the mirror has what the table has.
func TestImportWhileTheTableIsWritten(t *testing.T) {
	t.Parallel()
	rows := 20_000
	if need.Smaller(t) {
		rows = 5_000
	}
	a := newApplication(t, rows)
	db := a.mirror
	table, err := postgres.OpenTable(t.Context(), a.address, postgres.TableOptions{Schema: "public", Name: "workflow_runs"})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { a.write(ctx) })
	work.Go(func() { a.deliver(ctx) })
	i := backfill.Table{
		From: table, To: db, Rows: webhook.Decoder{Schema: "public", Table: "workflow_runs"}, Now: time.Now,
		Progress: func(int64) { // no batch without some writes and deliveries beside it
			written, delivered := a.written.Load(), a.delivered.Load()
			a.await("writes and deliveries during the import", func() bool {
				return a.written.Load() >= written+10 && a.delivered.Load() >= delivered+10
			})
		},
	}
	done, err := i.Import(ctx, sqlite.ImportMark{}, postgres.Reading{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	work.Wait()
	t.Logf("%d rows in batches of %d, %d rows written by the application, %d webhooks before the end", done.Rows, backfill.BatchSize, a.written.Load(), a.delivered.Load())
	a.finish()
	if mark, found, err := db.ImportMark(t.Context(), table.Identity()); err != nil || found {
		t.Errorf("a mark is left: %+v, %v", mark, err)
	}
	a.same()
	if audited, err := store.AuditAll(t.Context(), db, db); err != nil || audited.Wrong() || audited.Keys == 0 {
		t.Errorf("law 1: of %d keys these drift: %v, %v", audited.Keys, audited.Drifts, err)
	}
	// Once more, and nothing is new (law 5).
	i.Progress = func(int64) {}
	if quiet, err := i.Import(t.Context(), sqlite.ImportMark{}, postgres.Reading{}); err != nil || quiet.Changed != 0 {
		t.Errorf("imported again: %d said something new, %v", quiet.Changed, err)
	}
}

// TestImportGoesOnWhereItWasEnded ends imports in the middle of the third page
// of 2,000 rows, by kill -9, Ctrl-C and the loss of the connection. The next one
// reads from the third page on.
func TestImportGoesOnWhereItWasEnded(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, runsTable, manyRuns(5_000, orderlyID), gated, `analyze public.workflow_runs`)
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, p *os.Process, gate *pgx.Conn)
		code int
		says string
	}{
		{"kill -9", func(t *testing.T, p *os.Process, _ *pgx.Conn) { must0(t, p.Signal(syscall.SIGKILL)) }, -1, ""},
		{"Ctrl-C", func(t *testing.T, p *os.Process, _ *pgx.Conn) { must0(t, p.Signal(os.Interrupt)) }, exitNo, "stopped after 4000 rows: the same command goes on"},
		{"the connection is lost, and lost again", func(t *testing.T, _ *os.Process, gate *pgx.Conn) {
			// Each try meets the gate again, and is ended again. One that has been
			// told to end may still stand there for a while.
			ended := []int32{}
			for len(ended) < 3 {
				before := len(ended)
				for deadline := time.After(time.Minute); len(ended) == before; {
					err := gate.QueryRow(t.Context(), `
select $1::integer[] || coalesce(array_agg(pid) filter (where pg_terminate_backend(pid)), '{}') from pg_locks
 where locktype = 'advisory' and not granted and pid <> all ($1::integer[]) and database = (select oid from pg_database where datname = current_database())`, ended).Scan(&ended)
					must0(t, err)
					select {
					case <-deadline:
						t.Fatal("a minute passed, and no import was at the gate")
					case <-time.After(5 * time.Millisecond):
					}
				}
			}
		}, exitUnreachable, "4000 rows had been taken by then: the same command goes on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gate, err := pgx.Connect(t.Context(), address)
			must0(t, err)
			defer gate.Close(context.WithoutCancel(t.Context()))
			_, err = gate.Exec(t.Context(), `select pg_advisory_lock(7)`)
			must0(t, err)
			dir := t.TempDir()
			args := []string{"import", "--from", address, "--table", "app.gated"}
			first := command(t, dir, nil, args...)
			var said strings.Builder
			first.Stderr = &said
			must0(t, first.Start())
			defer first.Process.Kill() // an error means that it has ended
			awaitGate(t, gate)
			tt.end(t, first.Process, gate)
			_ = first.Wait() // its error is the exit code
			if code := first.ProcessState.ExitCode(); code != tt.code || !strings.Contains(said.String(), tt.says) {
				t.Errorf("exit code %d, want %d and %q\n%s", code, tt.code, tt.says, said.String())
			}
			_, err = gate.Exec(t.Context(), `select pg_advisory_unlock(7)`)
			must0(t, err)
			r := exec1(t, command(t, dir, nil, append(args, "--json")...), "")
			var got fromShape
			if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != exitFine {
				t.Fatalf("exit code %d, %v\n%s%s", r.code, err, r.out, r.errs)
			}
			if !got.Done || got.RowsBefore != 4_000 || got.Rows != 1_000 || !strings.Contains(r.errs, "Going on after 4000 rows") {
				t.Errorf("it goes on with: %+v\n%s", got, r.errs)
			}
			sameAsTable(t, address, "public.workflow_runs", filepath.Join(dir, "runcounter.db"))
			must(t, dir, "", "audit")
			if got := mustJSON[fromShape](t, dir, "", args...); got.RowsBefore != 0 || got.Rows != 5_000 || got.Changed != 0 {
				t.Errorf("once it came to its end it begins anew, and nothing is new: %+v", got)
			}
		})
	}
}

func must0(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// awaitGate waits until an import is at the gate.
func awaitGate(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	waits := false
	for deadline := time.After(time.Minute); !waits; {
		err := conn.QueryRow(t.Context(), `
select exists (select from pg_locks
 where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))`).Scan(&waits)
		must0(t, err)
		select {
		case <-deadline:
			t.Fatal("a minute passed, and no import was at the gate")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestImportRestarts(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, runsTable, manyRuns(10, orderlyID))
	dir := t.TempDir()
	args := []string{"import", "--from", address}
	must(t, dir, "", args...)
	table, err := postgres.OpenTable(t.Context(), address, postgres.TableOptions{Schema: "public", Name: "workflow_runs"})
	must0(t, err)
	defer table.Close()
	stand := func() {
		t.Helper()
		db, err := sqlite.Open(t.Context(), filepath.Join(dir, "runcounter.db"), sqlite.Options{})
		must0(t, err)
		mark := sqlite.ImportMark{BegunAt: time.Now(), After: runID(7), Taken: 7, Bad: 1}
		must0(t, errors.Join(db.KeepImportMark(t.Context(), table.Identity(), mark), db.Close()))
	}
	stand()
	if got := mustJSON[fromShape](t, dir, "", append(args, "--restart")...); got.Rows != 10 || got.RowsBefore != 0 {
		t.Errorf("--restart: %+v, want all rows", got)
	}
	// A row that could not be read before it was stopped is still told of.
	stand()
	if r := exec1(t, command(t, dir, nil, args...), ""); r.code != exitNo || !strings.Contains(r.errs, "1 row could not be read") {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, exitNo, r.out, r.errs)
	}
}

func TestImportReadsWhatTheRoleMaySee(t *testing.T) {
	t.Parallel()
	admin := pgtest.Supabase(t)
	pgtest.Exec(t, admin, `
drop table if exists public.workflow_runs;`+runsTable+`
alter table public.workflow_runs enable row level security;
create policy own on public.workflow_runs for select to public using (user_id = '11111111-1111-4111-8111-000000000001');
create schema hidden;
create table hidden.runs (id uuid primary key, user_id uuid, workflow_id uuid, status text);
create table public.private (id uuid primary key, user_id uuid, workflow_id uuid, status text);
create table public.partly (id uuid primary key, user_id uuid, workflow_id uuid, status text, draft_id uuid, secret text);
create table public.old (id uuid primary key, user_id uuid, workflow_id uuid, status text, completed_at timestamptz);
create table public.other (id uuid primary key, name text);
insert into public.old values ('`+runID(1)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'completed', '2026-01-31 12:00Z'),
                              ('`+runID(2)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'completed', null),
                              ('`+runID(3)+`', '`+sampleUser+`', '`+sampleWorkflow+`', null, null);
insert into public.partly values ('`+runID(1)+`', '`+sampleUser+`', null, 'failed', '`+sampleWorkflow+`', 'x');`,
		manyRuns(120, orderlyID))
	reader := fmt.Sprintf("reader_%x", rand.Uint64())
	pgtest.Exec(t, admin, `
create role `+reader+` login password '`+pgtest.Password+`';
grant usage on schema public to `+reader+`;
grant select on public.workflow_runs, public.old, public.other, hidden.runs to `+reader+`;
revoke all on public.private from public;
grant select (id, user_id, workflow_id, status) on public.partly to `+reader)
	t.Cleanup(func() { pgtest.Exec(t, pgtest.Admin(t, admin), `drop owned by `+reader, `drop role `+reader) })
	as := pgtest.As(t, admin, reader)
	for _, tt := range []struct {
		name, address, table string
		env                  []string
		code                 int
		rows                 string // of the mirror, -1 where none is made
		says                 string
	}{
		{"the owner sees all", admin, "public.workflow_runs", nil, exitFine, "120", "Imported 120 runs"},
		{"a policy shows some, and it says so", as, "public.workflow_runs", nil, exitFine, "3", "Row-level security holds on public.workflow_runs"},
		{"a table without draft_id and times", as, "old", nil, exitNo, "1", "row " + runID(2) + ": completed_at is missing"},
		{"a status that is null", as, "old", nil, exitNo, "1", "row " + runID(3) + ": status is missing"},
		{"a lease column that isn't there", admin, "public.workflow_runs", []string{"RUNCOUNTER_LEASE_COLUMN=lease's"}, exitFine, "120", `has no column "lease's"`},
		{"a column that may not be read", as, "public.partly", nil, exitUsage, "-1", "may not read draft_id of public.partly"},
		{"a table that may not be read", as, "public.private", nil, exitUsage, "-1", "grant select"},
		{"a schema that may not be used", as, "hidden.runs", nil, exitUsage, "-1", "grant usage"},
		{"a table that isn't there", as, "public.runs", nil, exitUsage, "-1", "has no table public.runs"},
		{"a table of something else", as, "public.other", nil, exitUsage, "-1", "has no column user_id, workflow_id, status"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := exec1(t, command(t, dir, tt.env, "import", "--from", tt.address, "--table", tt.table), "")
			if r.code != tt.code || !strings.Contains(r.out+r.errs, tt.says) {
				t.Errorf("exit code %d, want %d and %q\n%s%s", r.code, tt.code, tt.says, r.out, r.errs)
			}
			if strings.Contains(r.out+r.errs, pgtest.Password+"@") {
				t.Errorf("the password is in the output:\n%s%s", r.out, r.errs)
			}
			path, rows := filepath.Join(dir, "runcounter.db"), "-1"
			if _, err := os.Stat(path); err == nil {
				rows = mirrorRows(t, path, `select count(*) from workflow_runs`)[0]
			}
			if rows != tt.rows {
				t.Errorf("%s rows in the mirror, want %s", rows, tt.rows)
			}
		})
	}
	// No row at all, and a policy that may be why.
	pgtest.Exec(t, admin, `drop policy own on public.workflow_runs`)
	if r := exec1(t, command(t, t.TempDir(), nil, "import", "--from", as), ""); r.code != exitNo || !strings.Contains(r.errs, "no row of public.workflow_runs is visible") {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, exitNo, r.out, r.errs)
	}
}

// The password is in none of what is said about an address that doesn't work.
func TestImportFromAWrongAddress(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	u, err := url.Parse(address)
	must0(t, err)
	secret := func(change func(u *url.URL)) string {
		other := *u
		other.User = url.UserPassword(u.User.Username(), "hunter2")
		change(&other)
		return other.String()
	}
	for _, tt := range []struct {
		name, address string
		code          int
		says          string
	}{
		{"not an address", "hunter2", exitUsage, "--from is not an address of PostgreSQL"},
		{"another kind of database", "sqlite:hunter2.db", exitUsage, "--from is not an address of PostgreSQL"},
		{"a port that is none", "postgres://u:hunter2@db:port/x", exitUsage, "special characters of the password"},
		{"nobody listens", secret(func(u *url.URL) { u.Host = "127.0.0.1:1" }), exitUnreachable, "check host, port and sslmode"},
		{"no such host", secret(func(u *url.URL) { u.Host = "db.invalid:5432" }), exitUnreachable, "its pooler over IPv4"},
		{"a database that isn't there", secret(func(u *url.URL) { u.Path = "/nothing" }), exitUnreachable, "check the name at the end of the address"},
		{"TLS where there is none", secret(func(u *url.URL) { u.RawQuery = "sslmode=require" }), exitUnreachable, "sslmode"},
		{"a wrong password", secret(func(u *url.URL) { u.Host = refusing(t) }), exitUnreachable, "refuses the role or its password"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := exec1(t, command(t, dir, nil, "import", "--from", tt.address), "")
			if r.code != tt.code || !strings.Contains(r.errs, tt.says) {
				t.Errorf("exit code %d, want %d and %q\n%s", r.code, tt.code, tt.says, r.errs)
			}
			if strings.Contains(r.out+r.errs, "hunter2") {
				t.Errorf("the password is in the output:\n%s%s", r.out, r.errs)
			}
			if made, err := os.ReadDir(dir); err != nil || len(made) != 0 {
				t.Errorf("it left files behind: %v, %v", made, err)
			}
		})
	}
}

// refusing listens as a server that takes no password, and returns where.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must0(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			server := pgproto3.NewBackend(conn, conn)
			if _, err := server.ReceiveStartupMessage(); err == nil {
				server.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: `password authentication failed for user "postgres"`})
				_ = server.Flush() // the other side has gone: nothing to tell
			}
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestImportThroughAPooler(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, runsTable, manyRuns(2_500, randomIDs))
	dir := t.TempDir()
	if got := mustJSON[fromShape](t, dir, "", "import", "--from", pgtest.Pooler(t, address)); got.Rows != 2_500 || !got.Done {
		t.Errorf("got %+v, want 2,500 rows", got)
	}
	sameAsTable(t, address, "public.workflow_runs", filepath.Join(dir, "runcounter.db"))
}

func TestImportOfAPartitionedTable(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `
create table public.workflow_runs (id uuid not null, user_id uuid not null, workflow_id uuid, draft_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, created_at timestamptz not null, updated_at timestamptz,
    primary key (id, created_at)) partition by range (created_at);
create table public.runs_2026 partition of public.workflow_runs for values from ('2026-01-01') to ('2027-01-01');`, manyRuns(100, randomIDs))
	dir := t.TempDir()
	if got := mustJSON[fromShape](t, dir, "", "import", "--from", address); got.Rows != 100 || got.Changed != 100 {
		t.Errorf("got %+v, want 100 rows", got)
	}
}

func TestImportUsage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env, args []string
		want      string
	}{
		"a file as well":         {nil, []string{"--from", "postgres://u:hunter2@db/x", "runs.jsonl"}, "leave out FILE"},
		"the format of COPY":     {nil, []string{"--from", "postgres://u:hunter2@db/x", "--copy"}, "leave out FILE and --copy"},
		"a source as the mirror": {[]string{"DATABASE_URL=postgres://u:hunter2@db/x"}, []string{"--from", "postgres://u:hunter2@db/x"}, "import is for a mirror"},
		"a restart of a file":    {nil, []string{"--restart"}, "--from ADDRESS"},
		"a table that is none":   {nil, []string{"--from", "postgres://u:hunter2@db/x", "--table", "a.b.c"}, "public.workflow_runs"},
	} {
		t.Run(name, func(t *testing.T) {
			r := exec1(t, command(t, t.TempDir(), tt.env, append([]string{"import"}, tt.args...)...), "")
			if r.code != exitUsage || !strings.Contains(r.errs, tt.want) || strings.Contains(r.errs, "hunter2") {
				t.Errorf("exit code %d, want %d and %q\n%s", r.code, exitUsage, tt.want, r.errs)
			}
		})
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	var out strings.Builder
	b := newBar(&out, 20_000, false, 4_000, func() time.Time { return at })
	b.show(4_500) // too soon
	at = at.Add(10 * time.Second)
	b.show(10_000)
	b.show(11_000) // too soon again
	b.terminal = true
	at = at.Add(10 * time.Second)
	b.show(12_000)
	b.counted = true
	b.end(20_500)
	b.total = 0
	b.end(20_500)
	want := "50 %, 10000 of about 20000 rows, 600/s, 17s left\n" +
		"\r[=========       ] 60 %, 12000 of about 20000 rows, 400/s, 20s left\x1b[K" +
		"\r[================] 100 %, 20500 of 20500 rows, 825/s\x1b[K\n" +
		"\r20500 rows, 825/s\x1b[K\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("the bar (-want +got):\n%s", diff)
	}
}
