package sourcetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Source is a source that tells how it reads the watched table.
type Source interface {
	storetest.Store
	store.Source
	Table(ctx context.Context) (watched.Table, error)
}

// Pool returns connections beside a store's, which end with the test.
func Pool(t testing.TB, address string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(t.Context()), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Backend is a source as the suite asks for it. What the suite does beside the store, to
// the watched table and to what is counted, is done through the pool.
func Backend(t testing.TB, s Source, pool *pgxpool.Pool) storetest.Backend {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	describe := func(t testing.TB) watched.Table {
		t.Helper()
		table, err := s.Table(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	exec := func(t testing.TB, statement string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(ctx, statement, args...); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	watchWrites(t, pool, describe(t))
	var indexed bool
	// A session plans it once where it is in a function. Chaos asks more often than it writes.
	makeExact := sync.OnceFunc(func() {
		exec(t, `create function exact() returns setof text language plpgsql as $exact$ begin return query `+exactText(t, pool)+`; end $exact$`)
	})
	windows := func(t testing.TB, there bool) {
		t.Helper()
		table := describe(t)
		table.Said.UserWindows, table.Said.WorkflowWindows = &there, &there
		printed, err := migrations.PrintPostgres(table) // which a pooler takes, too
		if err != nil {
			t.Fatal(err)
		}
		exec(t, printed, pgx.QueryExecModeSimpleProtocol)
	}
	makeExactIn := sync.OnceFunc(func() { exec(t, ExactInSQL(describe(t), exactText(t, pool))) })
	return storetest.Backend{
		Store: s, Source: s,
		Write: func(t testing.TB, c store.Change) {
			t.Helper()
			if err := Write(ctx, s, pool, c); err != nil {
				t.Errorf("%s: %v", c.Op, err)
			}
		},
		Exact: func(t testing.TB) {
			t.Helper()
			makeExact()
			Complain(t, Texts(t, pool, `select exact()`))
		},
		ExactIn: func(t testing.TB, of store.Scope, in store.Window) {
			t.Helper()
			makeExactIn()
			ExactIn(t, pool, of, in)
		},
		Corrupt: func(t testing.TB, key store.Key, by int64) {
			t.Helper()
			table := describe(t)
			exec(t, `insert into run_counter.counts as c (user_id, kind, ref_id, status, presumed, n) values ($1::`+table.Type(watched.User)+`, $2::text, $3::`+table.Type(watched.Workflow)+`, 'completed', false, $4::bigint)
			             on conflict (user_id, kind, ref_id, status, presumed) do update set n = c.n + $4::bigint`, append(keyArgs(key), by)...)
			exec(t, TotalsAgainSQL)
		},
		CorruptTotal: func(t testing.TB, of store.Key, by int64) {
			t.Helper()
			table := describe(t)
			exec(t, `insert into run_counter.totals as t (kind, ref_id, status, presumed, shard, n) values ($1::text, $2::`+table.Type(watched.Workflow)+`, 'completed', false, 7, $3::bigint)
			             on conflict (kind, ref_id, status, presumed, shard) do update set n = t.n + $3::bigint`, append(keyArgs(of)[1:], by)...)
		},
		Forget: func(t testing.TB, key store.Key) {
			t.Helper()
			table := describe(t)
			for _, of := range []string{"counts", "ledger"} {
				exec(t, `delete from run_counter.`+of+` where user_id = $1::`+table.Type(watched.User)+` and kind = $2::text and ref_id = $3::`+table.Type(watched.Workflow), keyArgs(key)...)
			}
			exec(t, TotalsAgainSQL)
		},
		Windows: func(t testing.TB) {
			t.Helper()
			if !indexed {
				windows(t, true)
			}
			indexed = true
		},
		NoWindows: func(t testing.TB) {
			t.Helper()
			windows(t, false)
			indexed = false
		},
		Written: func(t testing.TB) int64 {
			t.Helper()
			var n int64
			if err := pool.QueryRow(ctx, `select last_value from written`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
}

// keyArgs are a key's as the parameters of a statement.
func keyArgs(k store.Key) []any { return []any{idArg(k.User), string(k.Kind), idArg(k.Ref)} }

// idArg is an id as a parameter, null where it is zero.
func idArg(id store.ID) any {
	if id.IsZero() {
		return nil
	}
	return id.String()
}

// TotalsAgainSQL makes the totals what the counts say: whatever the triggers miss is
// missing in both.
const TotalsAgainSQL = `
with gone as (
    delete from run_counter.totals as t
     where shard > 0 or not exists (select from run_counter.counts as c where (c.kind, c.ref_id, c.status, c.presumed) = (t.kind, t.ref_id, t.status, t.presumed))
)
insert into run_counter.totals select kind, ref_id, status, presumed, 0, sum(n) from run_counter.counts group by 1, 2, 3, 4
    on conflict (kind, ref_id, status, presumed, shard) do update set n = excluded.n`

// watchWrites counts the rows that anybody writes, in a sequence: it moves at
// once, whatever becomes of the transaction.
func watchWrites(t testing.TB, pool *pgxpool.Pool, table watched.Table) {
	t.Helper()
	leave := ""
	if table.Has(watched.User) { // guests may run, and users may leave
		leave = `alter table public.workflow_runs alter ` + table.Col("", watched.User) + ` drop not null;`
	}
	_, err := pool.Exec(t.Context(), leave+`
create sequence if not exists written;
create or replace function count_write() returns trigger language plpgsql as
$$ begin perform nextval('public.written'); return null; end $$;
do $$
declare
    o regclass;
begin
    for o in select oid from pg_class
              where relkind = 'r' and (relnamespace = to_regnamespace('run_counter') or oid = 'public.workflow_runs'::regclass)
    loop
        execute format('create trigger count_write after insert or update or delete on %s for each row execute function count_write()', o);
    end loop;
end $$`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
}

// Write makes a change to the watched table, as an application would that knows its
// columns.
func Write(ctx context.Context, s Source, pool *pgxpool.Pool, c store.Change) error {
	table, err := s.Table(ctx)
	if err != nil {
		return err
	}
	id := table.Col("", watched.ID)
	if c.Op == store.Delete {
		_, err := pool.Exec(ctx, `delete from workflow_runs where `+id+` = $1::`+table.Type(watched.ID), c.Old.ID.String())
		return err
	}
	var columns, values, pairs []string
	var args []any
	set := func(role watched.Role, typ string, value any) {
		if c, there := table.Column(role); !there || role != watched.Lease && role != watched.ID && !c.Writable {
			return
		}
		column := table.Col("", role)
		args = append(args, value)
		written := table.Written(role, fmt.Sprintf("$%d::%s", len(args), typ))
		columns, values, pairs = append(columns, column), append(values, written), append(pairs, column+" = "+written)
	}
	r := c.Record
	word := r.Status
	if theirs, there := table.Says(word); there {
		word = store.Status(theirs)
	}
	status, _ := table.Column(watched.Status)
	set(watched.ID, table.Type(watched.ID), r.ID.String())
	set(watched.User, table.Type(watched.User), idArg(r.User))
	set(watched.Workflow, table.Type(watched.Workflow), idArg(r.Workflow))
	set(watched.Draft, table.Type(watched.Workflow), idArg(r.Draft))
	set(watched.Status, status.Type, text(word))
	set(watched.CreatedAt, "timestamptz", moment(r.CreatedAt))
	set(watched.StartedAt, "timestamptz", moment(r.StartedAt))
	set(watched.CompletedAt, "timestamptz", moment(r.CompletedAt))
	set(watched.UpdatedAt, "timestamptz", moment(r.UpdatedAt))
	set(watched.DurationMS, "integer", millis(r.DurationMS))
	set(watched.ErrorDetails, "text"+table.JSON(watched.ErrorDetails), text(r.ErrorDetails))
	set(watched.Lease, "timestamptz", moment(r.LeaseAt))
	statement := `insert into workflow_runs (` + strings.Join(columns, ", ") + `) overriding system value values (` + strings.Join(values, ", ") + `)`
	if c.Op == store.Update {
		statement = `update workflow_runs set ` + strings.Join(pairs[1:], ", ") + ` where ` + id + ` = $1::` + table.Type(watched.ID)
	}
	_, err = pool.Exec(ctx, statement, args...)
	return err
}

// The parameters of [Write] are null where a run has nothing to say.

func text[T ~string](s T) any {
	if s == "" {
		return nil
	}
	return string(s)
}

func moment(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at
}

func millis(m store.Millis) any {
	if !m.Valid {
		return nil
	}
	return m.MS
}
