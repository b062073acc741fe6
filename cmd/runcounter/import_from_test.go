package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	if keys, drifts, err := auditAll(t.Context(), db); err != nil || len(drifts) > 0 || keys == 0 {
		t.Errorf("law 1: of %d keys these drift: %v, %v", keys, drifts, err)
	}
	// Once more, and nothing is new (law 5).
	i.Progress = func(int64) {}
	if quiet, err := i.Import(t.Context(), sqlite.ImportMark{}, postgres.Reading{}); err != nil || quiet.Changed != 0 {
		t.Errorf("imported again: %d said something new, %v", quiet.Changed, err)
	}
}

// application writes a source with our migrations, whose guard keeps law 2 there,
// and delivers the webhooks of what it wrote to a mirror.
type application struct {
	*testing.T
	address            string
	path               string
	mirror             *sqlite.Store
	written, delivered atomic.Int64

	mu  sync.Mutex
	all []store.Change
}

func newApplication(t *testing.T, rows int) *application {
	t.Helper()
	address := pgtest.Database(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	pgtest.Exec(t, address, manyRuns(rows, randomIDs), `
create table outbox (n bigint generated always as identity primary key, body jsonb not null);
create function tell() returns trigger language plpgsql as $$
begin
    insert into outbox (body) values (jsonb_build_object('type', tg_op, 'schema', tg_table_schema, 'table', tg_table_name,
        'record', case when tg_op <> 'DELETE' then to_jsonb(new) end, 'old_record', case when tg_op <> 'INSERT' then to_jsonb(old) end));
    return null;
end $$;
create trigger tell after insert or update or delete on workflow_runs for each row execute function tell();`)
	path := filepath.Join(t.TempDir(), "runcounter.db")
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &application{T: t, address: address, path: path, mirror: db}
}

// await waits for a condition, for at most a minute.
func (a *application) await(what string, holds func() bool) {
	a.Helper()
	for deadline := time.After(time.Minute); !holds(); {
		select {
		case <-deadline:
			a.Fatalf("a minute passed without this: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// steps are what an application does to a few runs somewhere in the table.
var steps = []string{
	`insert into workflow_runs (id, user_id, workflow_id, status, created_at, started_at, updated_at)
	 select gen_random_uuid(), user_id, workflow_id, 'pending', clock_timestamp(), null, clock_timestamp() from workflow_runs
	  where id >= $1 and workflow_id is not null order by id limit 3`,
	`update workflow_runs set status = 'running', started_at = clock_timestamp(), updated_at = clock_timestamp() where id in (
	 select id from workflow_runs where id >= $1 and status = 'pending' order by id limit 3)`,
	`update workflow_runs set status = 'completed', completed_at = clock_timestamp(), duration_ms = 7, updated_at = clock_timestamp() where id in (
	 select id from workflow_runs where id >= $1 and status = 'running' order by id limit 3)`,
	`update workflow_runs set status = 'failed', completed_at = clock_timestamp(), duration_ms = 8, error_details = '{"message": "no"}', updated_at = clock_timestamp() where id in (
	 select id from workflow_runs where id >= $1 and status in ('pending', 'running') order by id limit 2)`,
	// A late writer, whom the guard does not let take the outcome back.
	`update workflow_runs set status = 'running', completed_at = null, updated_at = clock_timestamp() where id in (
	 select id from workflow_runs where id >= $1 and status = 'completed' order by id limit 2)`,
	`update workflow_runs set user_id = '22222222-2222-4222-8222-222222222222', updated_at = clock_timestamp() where id in (
	 select id from workflow_runs where id >= $1 order by id limit 2)`,
	`delete from workflow_runs where id in (select id from workflow_runs where id >= $1 order by id limit 2)`,
}

func (a *application) write(ctx context.Context) {
	conn, err := pgx.Connect(a.Context(), a.address)
	if err != nil {
		a.Error(err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		var somewhere [16]byte
		for i := range somewhere {
			somewhere[i] = byte(rand.Uint32())
		}
		tag, err := conn.Exec(a.Context(), steps[rand.IntN(len(steps))], store.UUID(somewhere).String())
		if err != nil {
			a.Error(err)
			return
		}
		a.written.Add(tag.RowsAffected())
		// Enough that the webhooks are in disorder, and that none comes much later.
		for a.written.Load() > a.delivered.Load()+300 && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
	}
}

func (a *application) deliver(ctx context.Context) {
	conn, err := pgx.Connect(a.Context(), a.address)
	if err != nil {
		a.Error(err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		if _, err := a.some(conn); err != nil {
			a.Error(err)
			return
		}
	}
}

// some delivers a few of the webhooks that wait, in any order.
func (a *application) some(conn *pgx.Conn) (int, error) {
	rows, err := conn.Query(a.Context(), `delete from outbox where n in (select n from outbox order by random() limit 50) returning body::text`)
	if err != nil {
		return 0, err
	}
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	rand.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	var changes []store.Change
	for _, body := range bodies {
		d, err := webhook.Decoder{Schema: "public", Table: "workflow_runs"}.Decode(strings.NewReader(body))
		if err != nil {
			return 0, err
		}
		changes = append(changes, d.Changes...)
	}
	if len(changes) == 0 {
		return 0, nil
	}
	_, err = a.mirror.Apply(a.Context(), changes, time.Now())
	a.delivered.Add(int64(len(changes)))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, changes...)
	return len(changes), err
}

// finish delivers what waits, and a third of everything again.
func (a *application) finish() {
	a.Helper()
	conn, err := pgx.Connect(a.Context(), a.address)
	if err != nil {
		a.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(a.Context()))
	for more := 1; more > 0; {
		if more, err = a.some(conn); err != nil {
			a.Fatal(err)
		}
	}
	rand.Shuffle(len(a.all), func(i, j int) { a.all[i], a.all[j] = a.all[j], a.all[i] })
	for some := range slices.Chunk(a.all[:len(a.all)/3], 200) {
		if _, err := a.mirror.Apply(a.Context(), some, time.Now()); err != nil {
			a.Fatal(err)
		}
	}
}

func (a *application) same() {
	a.Helper()
	sameAsTable(a.T, a.address, "public.workflow_runs", a.path)
}

// sameAsTable compares a mirror with a table, row by row.
func sameAsTable(t *testing.T, address, table, path string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), `
select concat_ws('|', id, user_id, coalesce(workflow_id::text, '-'), coalesce(draft_id::text, '-'), status,
       coalesce(extract(epoch from created_at) * 1000000, 0)::bigint, coalesce(extract(epoch from started_at) * 1000000, 0)::bigint,
       coalesce(extract(epoch from completed_at) * 1000000, 0)::bigint, coalesce(extract(epoch from updated_at) * 1000000, 0)::bigint,
       coalesce(duration_ms, -1), coalesce(error_details::text, '-'))
  from `+table+` order by id`)
	if err != nil {
		t.Fatal(err)
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	got := mirrorRows(t, path, `
select id || '|' || user_id || '|' || coalesce(workflow_id, '-') || '|' || coalesce(draft_id, '-') || '|' || status
       || '|' || coalesce(created_at, 0) || '|' || coalesce(started_at, 0) || '|' || coalesce(completed_at, 0) || '|' || coalesce(updated_at, 0)
       || '|' || coalesce(duration_ms, -1) || '|' || coalesce(error_details, '-')
  from workflow_runs order by id`)
	if !slices.Equal(want, got) {
		t.Errorf("%d rows in the table, %d in the mirror (-table +mirror):\n%.4000s", len(want), len(got), cmp.Diff(want, got))
	}
}

// mirrorRows reads strings from a mirror's file.
func mirrorRows(t *testing.T, path, query string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// gated is a view whose rows from number 4,501 on are behind a gate.
const gated = `
create schema app;
create function app.gate() returns boolean language plpgsql as
$$ begin perform pg_advisory_xact_lock_shared(7); return true; end $$;
create view app.gated as select * from public.workflow_runs where id <= '00000000-0000-4000-8000-000000001194' or app.gate();`

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
