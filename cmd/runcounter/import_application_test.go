package main

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
)

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
