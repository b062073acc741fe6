package migrations

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/golang-migrate/migrate/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	alice = "11111111-1111-4111-8111-111111111111"
	bob   = "22222222-2222-4222-8222-222222222222"
	flow  = "33333333-3333-4333-8333-333333333333"
	draft = "44444444-4444-4444-8444-444444444444"
)

// What applications have: with draft_id, and as it was before there were
// drafts.
const (
	tableWithoutDrafts = `
create table public.workflow_runs (
    id uuid primary key default gen_random_uuid(), user_id uuid not null, workflow_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now()
);`
	tableWithDrafts = tableWithoutDrafts + `alter table public.workflow_runs add column draft_id uuid;`

	aliceHasThree = `
insert into public.workflow_runs (user_id, workflow_id, status, completed_at)
select '` + alice + `', '` + flow + `', s, case when s <> 'running' then now() end
  from unnest(array['completed', 'failed', 'completed', 'running', 'timeout']) as s;`

	// What somebody had tried before, with other parameters and results.
	anEarlierAttempt = `
create function public.get_user_workflow_run_count(user_id_in uuid, workflow_id_in uuid) returns bigint language sql security definer
as $$ select count(*) from public.workflow_runs as r where r.user_id = user_id_in and r.workflow_id = workflow_id_in $$;
create function public.complete_workflow_run(p_run_id uuid, p_status text) returns void language plpgsql as $$ begin return; end $$;
create view public.workflow_run_counts as select user_id, workflow_id, count(*) as n from public.workflow_runs group by user_id, workflow_id;
comment on view public.workflow_run_counts is 'ours';
comment on function public.complete_workflow_run(uuid, text) is 'it does nothing';
revoke execute on function public.complete_workflow_run(uuid, text) from public;`

	askForAlice = `select public.get_user_workflow_run_count('` + alice + `', '` + flow + `')`
)

func mustPostgres(t *testing.T, address string) *Migrator {
	t.Helper()
	m, err := Postgres(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func mustUp(t *testing.T, address string) *Migrator {
	t.Helper()
	m := mustPostgres(t, address)
	if err := m.Up(); err != nil {
		t.Fatalf("Up: %v", err)
	}
	return m
}

func mustBeLatest(t *testing.T, m *Migrator) {
	t.Helper()
	if s, err := m.Status(); err != nil || s.Version != s.Latest || s.Dirty {
		t.Errorf("Status: got %+v, %v; want the latest, clean", s, err)
	}
}

// ask returns the rows of a statement's last result, as text.
func ask(t *testing.T, address, statement string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	results, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
	if err != nil {
		t.Fatalf("%v\nin: %s", err, statement)
	}
	var all []string
	for _, row := range results[len(results)-1].Rows {
		all = append(all, string(bytes.Join(row, []byte(" "))))
	}
	return all
}

func mustCount(t *testing.T, address, want string) {
	t.Helper()
	if diff := cmp.Diff([]string{want}, ask(t, address, askForAlice)); diff != "" {
		t.Errorf("alice's count (-want +got):\n%s", diff)
	}
}

// catalog is all that stands in a database but golang-migrate's table: each
// object with its definition, owner, privileges and comment.
func catalog(t *testing.T, address string) []string {
	t.Helper()
	return ask(t, address, `
with ours as (select oid, nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')
select * from (
    select format('schema %s %s %s', nspname, (select nspacl from pg_namespace as n where n.oid = ours.oid), obj_description(oid, 'pg_namespace')) from ours
     union all
    select format('relation %s.%s %s owner %s acl %s rls %s options %s comment %s %s', n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner),
                  array(select a::text from unnest(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) as a order by 1), c.relrowsecurity, c.reloptions, obj_description(c.oid, 'pg_class'), case when c.relkind = 'v' then pg_get_viewdef(c.oid) end)
      from pg_class as c join ours as n on n.oid = c.relnamespace where c.relkind <> 'i'
     union all
    select format('column %s.%s.%s %s not null %s default %s comment %s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                  (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef as d where d.adrelid = c.oid and d.adnum = a.attnum), col_description(c.oid, a.attnum))
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid join ours as n on n.oid = c.relnamespace
     where a.attnum > 0 and not a.attisdropped
     union all
    select pg_get_indexdef(c.oid) from pg_class as c join ours as n on n.oid = c.relnamespace where c.relkind = 'i'
     union all
    select format('function %s.%s owner %s acl %s comment %s %s', n.nspname, p.proname, pg_get_userbyid(p.proowner), array(select a::text from unnest(coalesce(p.proacl, acldefault('f', p.proowner))) as a order by 1), obj_description(p.oid, 'pg_proc'),
                  case when p.prokind in ('f', 'p') then regexp_replace(pg_get_functiondef(p.oid), '''\d+''::oid', '''''::oid', 'g') end)
      from pg_proc as p join ours as n on n.oid = p.pronamespace
     union all
    select format('trigger %s %s', tgenabled, pg_get_triggerdef(oid)) from pg_trigger where not tgisinternal
     union all
    select format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint where conrelid <> 0
     union all
    select format('policy %s %s %s %s', polrelid::regclass, polname, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) from pg_policy
     union all
    select format('default %s %s %s', defaclrole::regrole, defaclobjtype, defaclacl) from pg_default_acl
) as o (text) where text not like '%run_counter.schema_migrations%' and text not like 'schema run_counter %' order by text`)
}

// dump is what pg_dump says of the schema, where there is one that knows this
// server.
func dump(t *testing.T, address string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pg_dump", "--version").Output()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf(" %d.", pgtest.Version(t, address))) {
		return ""
	}
	out, err = exec.CommandContext(t.Context(), "pg_dump", "--schema-only", "--exclude-schema=run_counter", "--dbname", address).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, out)
	}
	lines := strings.Split(string(out), "\n") // newer ones write a random \restrict
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "restrict ") }), "\n")
}

// Installed as whom, and on what.
var grounds = []struct {
	name     string
	database func(testing.TB) string
	table    string
	count    string
}{
	{"a table with drafts, on Supabase", pgtest.Supabase, tableWithDrafts + aliceHasThree, "3"},
	{"a table without drafts, on Supabase", pgtest.Supabase, tableWithoutDrafts + aliceHasThree, "3"},
	{"no table, on Supabase", pgtest.Supabase, "", "0"},
	{"a table with drafts, on a plain server", pgtest.Database, tableWithDrafts + aliceHasThree, "3"},
	{"a table without drafts, on a plain server", pgtest.Database, tableWithoutDrafts + aliceHasThree, "3"},
	{"an earlier attempt, on a plain server", pgtest.Database, tableWithDrafts + aliceHasThree + anEarlierAttempt, "3"},
	{"no table, on a plain server", pgtest.Database, "", "0"},
}

func TestPostgresGoesUpAndDownAndUpAgain(t *testing.T) {
	for _, c := range grounds {
		t.Run(c.name, func(t *testing.T) {
			address := c.database(t)
			if c.table != "" {
				pgtest.Exec(t, address, c.table)
			}
			if strings.Contains(c.table, anEarlierAttempt) && ask(t, address, `select to_regrole('anon') is null`)[0] != "t" {
				need.Skip(t, "this server has Supabase's roles, and down gives back to them what PUBLIC had")
			}
			m := mustPostgres(t, address)
			untouched := catalog(t, address)
			if s, err := m.Status(); err != nil || s.Version != 0 || s.Latest == 0 {
				t.Errorf("Status: got %+v, %v; want nothing applied", s, err)
			}
			if err := m.Down(); err != nil {
				t.Errorf("Down of nothing: %v", err)
			}
			if diff := cmp.Diff(untouched, catalog(t, address)); diff != "" {
				t.Errorf("Status and Down changed something (-before +after):\n%s", diff)
			}
			before, dumped := untouched, dump(t, address)
			var up []string
			for round := range 2 {
				for range 2 {
					if err := m.Up(); err != nil {
						t.Fatalf("Up: %v", err)
					}
					mustBeLatest(t, m)
					mustCount(t, address, c.count)
				}
				if round == 0 {
					up = catalog(t, address)
				} else if diff := cmp.Diff(up, catalog(t, address)); diff != "" {
					t.Errorf("up, down and up differs from up (-up +again):\n%s", diff)
				}
				for range 2 {
					if err := m.Down(); err != nil {
						t.Fatalf("Down: %v", err)
					}
				}
				if round == 0 && c.table == "" { // the table stays that we have made
					before, dumped = catalog(t, address), dump(t, address)
					for _, object := range before {
						if strings.Contains(object, "run_counter") {
							t.Errorf("down left %s", object)
						}
					}
				}
				if diff := cmp.Diff(before, catalog(t, address)); diff != "" {
					t.Errorf("down left something behind (-before +after):\n%s", diff)
				}
				if diff := cmp.Diff(dumped, dump(t, address)); diff != "" {
					t.Errorf("dumps before and after (-before +after):\n%s", diff)
				}
			}
			if got := ask(t, address, `select count(*) from run_counter.schema_migrations`); got[0] != "0" {
				t.Errorf("got %s versions after down, want none", got[0])
			}
		})
	}
}

// The script can be pasted without a look. It looks itself, in its first
// transaction, and leaves nothing behind.
func TestCaseT9_TheScriptOfAnotherTableMakesNothing(t *testing.T) {
	t.Parallel()
	text, err := PrintPostgres(watched.Default())
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]string{
		strings.ReplaceAll(tableWithDrafts, "timestamptz", "timestamp"): "completed_at is timestamp without time zone in place of timestamp with time zone",
		tableWithoutDrafts: "draft_id is missing in place of uuid",
	} {
		address := pgtest.Database(t)
		pgtest.Exec(t, address, table, aliceHasThree)
		before := catalog(t, address)
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol)
		if err == nil || !strings.Contains(err.Error(), "this was made for another public.workflow_runs: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a refusal that says %q", err, want)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, catalog(t, address)); diff != "" {
			t.Errorf("something was made (-before +after):\n%s", diff)
		}
	}
}

func TestThePrintedScriptDoesWhatUpDoes(t *testing.T) {
	for _, c := range grounds {
		t.Run(c.name, func(t *testing.T) {
			described := watched.Default()
			if strings.HasPrefix(c.table, tableWithoutDrafts) && !strings.HasPrefix(c.table, tableWithDrafts) {
				described = described.Without(watched.Draft)
			}
			text, err := PrintPostgres(described)
			if err != nil {
				t.Fatal(err)
			}
			pasted, migrated := c.database(t), c.database(t)
			for _, address := range []string{pasted, migrated} {
				if c.table != "" {
					pgtest.Exec(t, address, c.table)
				}
			}
			mustUp(t, migrated)
			want := catalog(t, migrated)
			for range 2 {
				pgtest.Exec(t, pasted, text)
				if diff := cmp.Diff(want, catalog(t, pasted)); diff != "" {
					t.Errorf("up and the script (-up +script):\n%s", diff)
				}
				mustCount(t, pasted, c.count)
				mustBeLatest(t, mustPostgres(t, pasted))
			}
			m := mustUp(t, pasted)
			if diff := cmp.Diff(want, catalog(t, pasted)); diff != "" {
				t.Errorf("migrate up after the script changed something (-want +got):\n%s", diff)
			}
			if err := m.Down(); err != nil {
				t.Errorf("Down after the script: %v", err)
			}
		})
	}
}

func TestAScriptOfAnOlderProgramLeavesTheVersionOfANewer(t *testing.T) {
	address := pgtest.Database(t)
	mustUp(t, address)
	pgtest.Exec(t, address, `update run_counter.schema_migrations set version = 99999999999999`)
	text, err := PrintPostgres(watched.Default())
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, address, text)
	m := mustPostgres(t, address)
	for name, do := range map[string]func() error{"Up": m.Up, "Down": m.Down} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "run a newer runcounter") {
			t.Errorf("%s: got %v, want a refusal that says what to do", name, err)
		}
	}
}

// A process that is killed leaves the version dirty, before the migration's
// own transaction had committed or after.
func TestPostgresGoesOnFromAnInterruptedMigration(t *testing.T) {
	src := mustPostgres(t, pgtest.Database(t)).source
	var versions []uint
	for v, err := src.First(); err == nil; v, err = src.Next(v) {
		versions = append(versions, v)
	}
	if len(versions) < 6 {
		t.Fatalf("got %d migrations, want all of them", len(versions))
	}
	from := newMigrated(t)
	for i, v := range versions {
		before := -1
		if i > 0 {
			before = int(versions[i-1])
		}
		for _, way := range []string{"up", "down"} {
			t.Run(fmt.Sprintf("%s after %d, which had not committed", way, v), func(t *testing.T) {
				t.Parallel()
				from.goesOn(t, way, before, v)
			})
			t.Run(fmt.Sprintf("%s after %d, which had committed", way, v), func(t *testing.T) {
				t.Parallel()
				from.goesOn(t, way, int(v), v)
			})
		}
	}
}

// migrated is what the catalog says of a table before Up and after.
type migrated struct{ before, up []string }

func newMigrated(t *testing.T) (m migrated) {
	t.Helper()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts, aliceHasThree)
	m.before = catalog(t, address)
	mustUp(t, address)
	m.up = catalog(t, address)
	return m
}

// goesOn migrates a database to a version, says that another was interrupted, and
// migrates it up or down.
func (from migrated) goesOn(t *testing.T, way string, at int, interrupted uint) {
	address := pgtest.Copy(t, "up", func(address string) {
		pgtest.Exec(t, address, tableWithDrafts, aliceHasThree)
		if m, err := Postgres(t.Context(), address); err != nil {
			t.Fatal(err)
		} else if err := errors.Join(m.Up(), m.Close()); err != nil {
			t.Fatal(err)
		}
	})
	m := mustUp(t, address) // which finds nothing to do
	if at < 0 {
		if err := m.Down(); err != nil {
			t.Fatal(err)
		}
	} else if err := m.migrate.Migrate(uint(at)); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		t.Fatal(err)
	}
	pgtest.Exec(t, address, `delete from run_counter.schema_migrations`,
		fmt.Sprintf(`insert into run_counter.schema_migrations values (%d, true)`, interrupted))
	again := mustPostgres(t, address)
	if s, err := again.Status(); err != nil || !s.Dirty {
		t.Errorf("Status: got %+v, %v; want an interrupted one", s, err)
	}
	if way == "down" {
		if err := again.Down(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(from.before, catalog(t, address)); diff != "" {
			t.Errorf("-before +down:\n%s", diff)
		}
		return
	}
	if err := again.Up(); err != nil {
		t.Fatal(err)
	}
	mustBeLatest(t, again)
	mustCount(t, address, "3")
	if diff := cmp.Diff(from.up, catalog(t, address)); diff != "" {
		t.Errorf("-up +interrupted:\n%s", diff)
	}
}

func TestPostgresIsMigratedByManyAtOnce(t *testing.T) {
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, tableWithDrafts, aliceHasThree)
	var wg sync.WaitGroup
	for range 8 {
		m := mustPostgres(t, address)
		wg.Go(func() {
			if err := m.Up(); err != nil {
				t.Errorf("Up: %v", err)
			}
			mustBeLatest(t, m)
		})
	}
	wg.Wait()
	mustCount(t, address, "3")
}
