package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestContract(t *testing.T) { storetest.Run(t, open) }

func TestLetters(t *testing.T) {
	need.Serial(t)
	storetest.Letters(t, open)
}

func open(t testing.TB) storetest.Backend { return backend(t, mustInstall(t)) }

// mustInstall returns the address of a database with our migrations.
func mustInstall(t testing.TB) string {
	t.Helper()
	return pgtest.Copy(t, "installed", func(address string) { migrate(t, address, (*migrations.Migrator).Up) })
}

// mustScript returns what one migration runs on the table that the migrations
// make.
func mustScript(t testing.TB, name string) string {
	t.Helper()
	all, err := migrations.PrintPostgres(watched.Default())
	if err != nil {
		t.Fatal(err)
	}
	_, text, begins := strings.Cut(all, "\n-- "+name+".up.sql\nbegin;\n")
	text, _, ends := strings.Cut(text, "\ncreate table if not exists run_counter.schema_migrations")
	if !begins || !ends {
		t.Fatalf("the script has no migration %s", name)
	}
	return text
}

func mustOpen(t testing.TB, address string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func backend(t testing.TB, address string) storetest.Backend {
	return backendOf(t, mustOpen(t, address, Options{}))
}

func backendOf(t testing.TB, s *Store) storetest.Backend {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	exec := func(t testing.TB, text string, args ...any) {
		t.Helper()
		if _, err := s.pool.Exec(ctx, text, args...); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	watchWrites(t, s)
	var indexed bool
	// A session plans it once where it is in a function. Chaos asks more often than it writes.
	makeExact := sync.OnceFunc(func() {
		exec(t, `create function exact() returns setof text language plpgsql as $exact$ begin return query `+exactText(t, s.pool)+`; end $exact$`)
	})
	return storetest.Backend{
		Store: s, Source: s,
		Write: func(t testing.TB, c store.Change) {
			t.Helper()
			if err := enact(ctx, s, c); err != nil {
				t.Errorf("%s: %v", c.Op, err)
			}
		},
		Exact: func(t testing.TB) {
			t.Helper()
			makeExact()
			complain(t, askTexts(t, s.pool, `select exact()`))
		},
		Corrupt: func(t testing.TB, key store.Key, by int64) {
			t.Helper()
			db, err := s.features(ctx)
			if err != nil {
				t.Fatal(err)
			}
			exec(t, `insert into run_counter.counts as c (user_id, kind, ref_id, status, presumed, n) values ($1::`+db.user+`, $2::text, $3::`+db.ref+`, 'completed', false, $4::bigint)
			             on conflict (user_id, kind, ref_id, status, presumed) do update set n = c.n + $4::bigint`, append(db.keyArgs(key), by)...)
			exec(t, totalAgainSQL)
		},
		CorruptTotal: func(t testing.TB, of store.Key, by int64) {
			t.Helper()
			db, err := s.features(ctx)
			if err != nil {
				t.Fatal(err)
			}
			exec(t, `insert into run_counter.totals as t (kind, ref_id, status, presumed, shard, n) values ($1::text, $2::`+db.ref+`, 'completed', false, 7, $3::bigint)
			             on conflict (kind, ref_id, status, presumed, shard) do update set n = t.n + $3::bigint`, append(db.keyArgs(of)[1:], by)...)
		},
		Forget: func(t testing.TB, key store.Key) {
			t.Helper()
			db, err := s.features(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, table := range []string{"counts", "ledger"} {
				exec(t, `delete from run_counter.`+table+` where user_id = $1::`+db.user+` and kind = $2::text and ref_id = $3::`+db.ref, db.keyArgs(key)...)
			}
			exec(t, totalAgainSQL)
		},
		Windows: func(t testing.TB) {
			t.Helper()
			if indexed {
				return
			}
			indexed = true
			db, err := s.features(ctx)
			if err != nil {
				t.Fatal(err)
			}
			yes := true
			table := db.is
			table.Said.UserWindows, table.Said.WorkflowWindows = &yes, &yes
			text, err := migrations.PrintPostgres(table) // which a pooler takes, too
			if err != nil {
				t.Fatal(err)
			}
			exec(t, text, pgx.QueryExecModeSimpleProtocol)
		},
		Written: func(t testing.TB) int64 {
			t.Helper()
			var n int64
			if err := s.pool.QueryRow(ctx, `select last_value from written`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
}

// totalAgainSQL makes the totals what the counts say: whatever the triggers miss is
// missing in both.
const totalAgainSQL = `
with gone as (
    delete from run_counter.totals as t
     where shard > 0 or not exists (select from run_counter.counts as c where (c.kind, c.ref_id, c.status, c.presumed) = (t.kind, t.ref_id, t.status, t.presumed))
)
insert into run_counter.totals select kind, ref_id, status, presumed, 0, sum(n) from run_counter.counts group by 1, 2, 3, 4
    on conflict (kind, ref_id, status, presumed, shard) do update set n = excluded.n`

// miscountSQL counts seven failed runs too many of each key.
const miscountSQL = `
with more as (insert into run_counter.counts select user_id, kind, ref_id, 'failed', false, 7 from run_counter.keys returning *)
insert into run_counter.totals select kind, ref_id, status, presumed, 0, sum(n) from more group by 1, 2, 3, 4`

// watchWrites counts the rows that anybody writes, in a sequence: it moves at
// once, whatever becomes of the transaction.
func watchWrites(t testing.TB, s *Store) {
	t.Helper()
	db, err := s.features(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leave := ""
	if db.has(watched.User) { // guests may run, and users may leave
		leave = `alter table public.workflow_runs alter ` + db.table.Col("", watched.User) + ` drop not null;`
	}
	_, err = s.pool.Exec(t.Context(), leave+`
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

// enact makes a change to the table, as an application would that knows its
// columns.
func enact(ctx context.Context, s *Store, c store.Change) error {
	db, err := s.features(ctx)
	if err != nil {
		return err
	}
	id := db.table.Col("", watched.ID)
	of := func(role watched.Role, id store.ID) any { return db.arg(role, id) }
	if c.Op == store.Delete {
		_, err := s.pool.Exec(ctx, `delete from workflow_runs where `+id+` = $1::`+db.id, c.Old.ID.String())
		return err
	}
	var columns, values, pairs []string
	var args []any
	set := func(role watched.Role, typ string, value any) {
		if c, there := db.table.Column(role); !there || role != watched.Lease && role != watched.ID && !c.Writable {
			return
		}
		column := db.table.Col("", role)
		args = append(args, value)
		text := db.table.Written(role, fmt.Sprintf("$%d::%s", len(args), typ))
		columns, values, pairs = append(columns, column), append(values, text), append(pairs, column+" = "+text)
	}
	r := c.Record
	word := r.Status
	if theirs, there := db.table.Says(word); there {
		word = store.Status(theirs)
	}
	status, _ := db.table.Column(watched.Status)
	set(watched.ID, db.id, r.ID.String())
	set(watched.User, db.user, of(watched.User, r.User))
	set(watched.Workflow, db.ref, of(watched.Workflow, r.Workflow))
	set(watched.Draft, db.ref, of(watched.Draft, r.Draft))
	set(watched.Status, status.Type, textArg(word))
	set(watched.CreatedAt, "timestamptz", timeArg(r.CreatedAt))
	set(watched.StartedAt, "timestamptz", timeArg(r.StartedAt))
	set(watched.CompletedAt, "timestamptz", timeArg(r.CompletedAt))
	set(watched.UpdatedAt, "timestamptz", timeArg(r.UpdatedAt))
	set(watched.DurationMS, "integer", millisArg(r.DurationMS))
	set(watched.ErrorDetails, "text"+db.table.JSON(watched.ErrorDetails), textArg(r.ErrorDetails))
	set(watched.Lease, "timestamptz", timeArg(r.LeaseAt))
	text := `insert into workflow_runs (` + strings.Join(columns, ", ") + `) overriding system value values (` + strings.Join(values, ", ") + `)`
	if c.Op == store.Update {
		text = `update workflow_runs set ` + strings.Join(pairs[1:], ", ") + ` where ` + id + ` = $1::` + db.id
	}
	_, err = s.pool.Exec(ctx, text, args...)
	return err
}

// exactSQL compares both sides of law 1 for all keys in one statement, and so
// in one snapshot.
const exactSQL = `
with runs as (
    select r.user_id, case when r.draft_id is null then 'workflow' else 'draft' end as kind, coalesce(r.draft_id, r.workflow_id) as ref_id, r.status::text as status,
           exists (select from run_counter.presumed as p where p.run_id = r.id and p.ended_at = r.completed_at and p.status = r.status::text) as presumed
      from workflow_runs as r
     where extract(year from r.completed_at at time zone 'UTC') between 2 and 9998 and r.status::text in ('completed', 'failed', 'cancelled', 'timeout')
       and octet_length(r.user_id::text) between 1 and 255 and octet_length(r.id::text) between 1 and 255
       and coalesce(r.draft_id, r.workflow_id) is not null
), stored as (
    select user_id, kind, ref_id, status, presumed, n from run_counter.counts
     union all
    select user_id, kind, ref_id, status, presumed, n from run_counter.ledger
     union all
    select user_id, kind, ref_id, status, presumed, -1 from runs
), summed as (
    select user_id, kind, ref_id, status, presumed, sum(n) as n
      from stored
     group by user_id, kind, ref_id, status, presumed
)
select format('user %s, %s %s: stored minus actual: %s %s%s', user_id, kind, ref_id, n, status, case when presumed then ' presumed' else '' end)
  from summed
 where n <> 0
 union all
select format('all users, %s %s: total minus counts: %s %s%s', kind, ref_id, sum(n), status, case when presumed then ' presumed' else '' end)
  from (select kind, ref_id, status, presumed, n from run_counter.totals union all select kind, ref_id, status, presumed, -n from run_counter.counts) as t
 group by kind, ref_id, status, presumed
having sum(n) <> 0`

func exact(t testing.TB, s *Store) {
	t.Helper()
	exactIn(t, s.pool)
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, text string, args ...any) (pgx.Rows, error)
}

func exactIn(t testing.TB, in querier) {
	t.Helper()
	complain(t, askTexts(t, in, exactText(t, in)))
}

func complain(t testing.TB, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Errorf("law 1: %s", w)
	}
}

// askTexts returns the rows of a query, each a text.
func askTexts(t testing.TB, in querier, text string) []string {
	t.Helper()
	rows, err := in.Query(context.WithoutCancel(t.Context()), text)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// exactText is exactSQL for the table that is there.
func exactText(t testing.TB, in querier) string {
	t.Helper()
	text := exactSQL
	columns := askTexts(t, in, `select attname::text from pg_attribute where attrelid = 'public.workflow_runs'::regclass and attnum > 0`)
	has := func(column string) bool { return slices.Contains(columns, column) }
	switch {
	case has("org_id"):
		text = strings.ReplaceAll(text, "from workflow_runs as r", "from ("+theirsSQL+") as r")
	case !has("workflow_id"):
		text = strings.NewReplacer("case when r.draft_id is null then 'workflow' else 'draft' end", "'all'", "coalesce(r.draft_id, r.workflow_id)", "''").Replace(text)
	case !has("draft_id"):
		text = strings.ReplaceAll(text, "r.draft_id", "null")
	}
	if !has("org_id") && !has("user_id") {
		text = strings.NewReplacer("select r.user_id,", "select '' as user_id,", "octet_length(r.user_id::text) between 1 and 255 and ", "").Replace(text)
	}
	// A time that is no timestamptz is read here by other means than ours.
	if moment := askTexts(t, in, `select case when atttypid <> 'timestamp'::regtype
        then format('(case when r.completed_at / %1$s between -62104060800 and 253370764799 then to_timestamp(r.completed_at / %1$s) end)', case s.times when 'seconds' then '1.0' else '1000.0' end)
        else format('(case when extract(year from r.completed_at) between 2 and 9998 then r.completed_at at time zone %L end)', s.described ->> 'timezone') end
   from pg_attribute, (select described -> 'said' ->> 'times' as times, described from run_counter.settings) as s
 where attrelid = 'public.workflow_runs'::regclass and attname = 'completed_at' and atttypid in ('timestamp'::regtype, 'bigint'::regtype, 'integer'::regtype)`); len(moment) > 0 {
		text = strings.ReplaceAll(text, "r.completed_at", moment[0])
	}
	return text
}

func TestChaos(t *testing.T) { storetest.SourceChaos(t, open, true, seeds()) }

func TestChaosWithoutGuard(t *testing.T) {
	open := func(t testing.TB) storetest.Backend {
		address := mustInstall(t)
		pgtest.Exec(t, address, `update run_counter.settings set guard = 'off'`)
		return backend(t, address)
	}
	storetest.SourceChaos(t, open, false, seeds())
}

// seeds are fewer than a mirror's: each writes the table as well.
func seeds() uint64 { return max(storetest.Seeds()/5, 20) }
