package postgres

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// lints are what Supabase's linter (splinter, by its numbers) would complain
// of, in our own words and about our own objects: the schema run_counter, and
// what we make in public. Each returns the names of what it finds.
var lints = map[string]string{
	"0001 a foreign key without an index": `
select conname::text from pg_constraint where contype = 'f' and connamespace = 'run_counter'::regnamespace`, // there are none to index
	"0003 a policy that calls a function for each row": `
select polname::text from pg_policy join pg_class as c on c.oid = polrelid
 where c.relnamespace = 'run_counter'::regnamespace and pg_get_expr(polqual, polrelid) ~ 'uid\(\)'
   and pg_get_expr(polqual, polrelid) !~* '\( select (\w+\.)?uid\(\)'`,
	"0004 a table without a primary key": `
select c.oid::regclass::text from pg_class as c
 where c.relkind = 'r' and c.relnamespace = 'run_counter'::regnamespace
   and not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)`,
	"0006 several permissive policies for one command": `
select polrelid::regclass::text from pg_policy join pg_class as c on c.oid = polrelid
 where c.relnamespace = 'run_counter'::regnamespace group by polrelid, polcmd having count(*) > 1`,
	"0008 row level security without a policy": `
select c.oid::regclass::text from pg_class as c
 where c.relrowsecurity and c.relnamespace = 'run_counter'::regnamespace and not exists (select from pg_policy where polrelid = c.oid)`,
	"0009 two indexes of the same columns": `
select string_agg(indexrelid::regclass::text, ' and ') from pg_index
 where indrelid = 'public.workflow_runs'::regclass or indrelid in (select oid from pg_class where relnamespace = 'run_counter'::regnamespace)
 group by indrelid, indkey, indclass, indoption, pg_get_expr(indpred, indrelid), pg_get_expr(indexprs, indrelid) having count(*) > 1`,
	"0010 a view with its owner's rights": `
select oid::regclass::text from pg_class
 where relkind = 'v' and relname = 'workflow_run_counts' and not coalesce('security_invoker=true' = any (reloptions), false)`,
	"0011 a function without a search_path": `
select oid::regprocedure::text from pg_proc
 where (pronamespace = 'run_counter'::regnamespace or obj_description(oid, 'pg_proc') like 'Run Counter:%')
   and not exists (select from unnest(proconfig) as c where c = 'search_path=pg_catalog, pg_temp')`,
	"0013 a table of ours in an exposed schema": `
select oid::regclass::text from pg_class where relkind in ('r', 'p', 'm') and relnamespace = 'public'::regnamespace and relname like '%run_counter%'`,
	"0026 something of ours that anon can see": `
select oid::regclass::text from pg_class
 where relkind in ('r', 'v', 'S') and (relnamespace = 'run_counter'::regnamespace or relname = 'workflow_run_counts') and has_table_privilege('anon', oid, 'select, insert, update, delete, truncate, references, trigger')`,
	"0027 a table of ours that the signed-in can change": `
select oid::regclass::text from pg_class
 where relkind in ('r', 'v') and (relnamespace = 'run_counter'::regnamespace or relname = 'workflow_run_counts') and has_table_privilege('authenticated', oid, 'insert, update, delete, truncate, references, trigger')`,
	"0028 a function of ours that anon can call": `
select oid::regprocedure::text from pg_proc
 where (pronamespace = 'run_counter'::regnamespace or obj_description(oid, 'pg_proc') like 'Run Counter:%')
   and has_function_privilege('anon', oid, 'execute')`,
	"0029 a definer function in an exposed schema": `
select oid::regprocedure::text from pg_proc
 where pronamespace = 'public'::regnamespace and prosecdef and obj_description(oid, 'pg_proc') like 'Run Counter:%'`,
	"a schema of ours without a comment": `select nspname::text from pg_namespace where nspname ~ '^run_counter' and obj_description(oid, 'pg_namespace') is null`,
	"a table or view of ours without a comment": `
select oid::regclass::text from pg_class
 where relkind in ('r', 'v') and (relnamespace::regnamespace::text ~ '^run_counter' or relname = 'workflow_run_counts') and obj_description(oid, 'pg_class') is null`,
	"a column of ours without a comment": `
select c.oid::regclass || '.' || a.attname from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relkind = 'r' and c.relnamespace::regnamespace::text ~ '^run_counter' and col_description(c.oid, a.attnum) is null`,
	"a function of ours without a comment": `select oid::regprocedure::text from pg_proc where pronamespace::regnamespace::text ~ '^run_counter' and obj_description(oid, 'pg_proc') is null`,
	"a trigger of ours without a comment": `
select t.tgname || ' on ' || t.tgrelid::regclass from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
 where p.pronamespace::regnamespace::text ~ '^run_counter' and t.tgparentid = 0 and obj_description(t.oid, 'pg_trigger') is null`, // a partition's follow their parent's
	"an index of ours without a comment": `
select i.indexrelid::regclass::text from pg_index as i join pg_class as c on c.oid = i.indexrelid
 where (c.relnamespace::regnamespace::text ~ '^run_counter' or c.relname ~ '^run_counter') and obj_description(c.oid, 'pg_class') is null
   and not c.relispartition and not exists (select from pg_constraint as k where k.conindid = c.oid)`, // a key's index is named by the key
	"a type of ours without a comment": `
select t.oid::regtype::text from pg_type as t left join pg_class as c on c.oid = t.typrelid
 where t.typnamespace::regnamespace::text ~ '^run_counter' and (t.typtype <> 'c' or c.relkind = 'c') and t.typelem = 0 and obj_description(t.oid, 'pg_type') is null`,
	"a schema of ours that anon can use": `select nspname::text from pg_namespace where nspname = 'run_counter' and has_schema_privilege('anon', oid, 'usage, create')`,
}

// lint fails for each finding of a lint whose name ends so.
func (c *caller) lint(suffix string) {
	c.Helper()
	for name, sql := range lints {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		if got := c.strings(sql); len(got) > 0 {
			c.Errorf("%s: %v", name, got)
		}
	}
}

func TestLints(t *testing.T) {
	t.Parallel()
	c := newCaller(t, mustApp(t))
	c.lint("")
	// And they find what they look for.
	tx, err := c.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	_, err = tx.Exec(t.Context(), `
create table run_counter.bad (n int references run_counter.settings (id));
create schema run_counter_bad;
create type run_counter.bad_type as (n int);
create function run_counter.bad() returns trigger language plpgsql as 'begin return null; end';
create trigger bad after insert on run_counter.bad execute function run_counter.bad();
create table run_counter.bare (n int primary key);
alter table run_counter.bare enable row level security;
create policy a on run_counter.counts for select to service_role using (user_id = run_counter.uid());
create policy b on run_counter.counts for select to service_role using (true);
create index again on run_counter.amendments (run_id);
create table public.run_counter_things (n int);
alter view public.workflow_run_counts set (security_invoker = false);
grant select on run_counter.counts to anon;
grant insert on run_counter.counts to authenticated;
grant usage on schema run_counter to anon;
create function public.definer() returns int language sql security definer as 'select 1';
comment on function public.definer() is 'Run Counter: bad';
grant execute on function public.definer() to anon`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	for name, sql := range lints {
		rows, err := tx.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(got) == 0 {
			t.Errorf("%s: %v, %v; want the bad example found", name, got, err)
		}
	}
}

func (c *caller) strings(sql string) []string {
	c.Helper()
	rows, err := c.admin.Query(c.Context(), sql)
	if err != nil {
		c.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		c.Fatal(err)
	}
	return all
}

// TestSplinter runs Supabase's own lints, where RUNCOUNTER_SPLINTER names
// their file: splinter.sql of the repository supabase/splinter. pg_graphql is
// taken as installed.
func TestSplinter(t *testing.T) {
	name := os.Getenv("RUNCOUNTER_SPLINTER")
	if name == "" {
		need.Skip(t, "RUNCOUNTER_SPLINTER names no splinter.sql of supabase/splinter; TestLints holds the families that matter without it")
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sql := strings.Replace(string(text), "set local search_path = '';", "", 1)
	const graphql = "extname = 'pg_graphql'"
	if !strings.Contains(sql, graphql) {
		t.Fatalf("%s does not ask for %s any more", name, graphql)
	}
	sql = strings.ReplaceAll(sql, graphql, "extname = 'plpgsql'")
	c := newCaller(t, mustApp(t))
	tx, err := c.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `set local search_path = ''; set local pgrst.db_schemas = 'public,graphql_public'`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		t.Fatal(err)
	}
	ours := []string{"run_counter", "workflow_run_counts", "get_user_workflow_run_count", "get_workflow_run_count", "complete_workflow_run", "begin_workflow_run"}
	others := 0
	for _, f := range found {
		lint, key := fmt.Sprint(f["name"]), fmt.Sprint(f["cache_key"])
		switch {
		case !slices.ContainsFunc(ours, func(name string) bool { return strings.Contains(key, name) }):
			others++ // the application's own, which show that the lints speak at all
		case lint == "unused_index", lint == "pg_graphql_authenticated_table_exposed" && strings.Contains(key, "workflow_run_counts"):
		default:
			t.Errorf("%s: %v", lint, f["detail"])
		}
	}
	if others < 5 {
		t.Errorf("%d findings about the application, want its bad examples found: were whole families silent?", others)
	}
}
