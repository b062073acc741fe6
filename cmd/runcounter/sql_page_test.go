package main

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// sqlObject is a function or a view, as docs/sql.md or the catalog has it.
type sqlObject struct {
	Signature string   // of a function, with its result
	Names     []string // of its arguments, or of a view's columns with their types
	Callers   []string
	States    []string // SQLSTATEs
}

var (
	pageSection   = regexp.MustCompile("(?ms)^## `([\\w.]+)`\n(.*?)(?:^## |\\z)")
	pageSignature = regexp.MustCompile("(?s)```sql\n(.*?)\n```")
	pageRow       = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (?:`([^`]+)` \\| )?")
	pageState     = regexp.MustCompile(`^[0-9A-Z]{5}$`)
	pageCallers   = regexp.MustCompile(`(?m)^\*\*Callers:\*\* (.*)$`)
	supabaseRole  = regexp.MustCompile("`(anon|authenticated|service_role)`")
)

// sqlPage reads the page.
func sqlPage(t *testing.T) map[string]sqlObject {
	t.Helper()
	objects := map[string]sqlObject{}
	text := mustReadFile(t, top+"/docs/sql.md")
	for text != "" {
		at := pageSection.FindStringSubmatchIndex(text)
		if at == nil {
			break
		}
		name, body := text[at[2]:at[3]], text[at[4]:at[5]]
		text = text[at[5]:]
		var o sqlObject
		if found := pageSignature.FindStringSubmatch(body); found != nil {
			o.Signature = found[1]
		}
		for _, row := range pageRow.FindAllStringSubmatch(body, -1) {
			if pageState.MatchString(row[1]) {
				o.States = append(o.States, row[1])
			} else {
				o.Names = append(o.Names, strings.TrimSpace(row[1]+" "+row[2]))
			}
		}
		callers := pageCallers.FindStringSubmatch(body)
		if callers == nil {
			t.Fatalf("docs/sql.md does not say who may call %s", name)
		}
		for _, role := range supabaseRole.FindAllStringSubmatch(callers[1], -1) {
			o.Callers = append(o.Callers, role[1])
		}
		objects[name] = o
	}
	return objects
}

// sqlCatalog reads the functions that are for the application: those of schema public, and
// those of ours that the page names.
const sqlCatalog = `
select case when n.nspname = 'public' then p.proname else n.nspname || '.' || p.proname end,
       n.nspname || '.' || p.proname || '(' || pg_get_function_arguments(p.oid) || ') RETURNS ' || pg_get_function_result(p.oid),
       coalesce(p.proargnames, '{}'),
       array(select r.rolname::text from pg_roles as r where r.rolname in ('anon', 'authenticated', 'service_role')
                and has_function_privilege(r.oid, p.oid, 'execute') order by 1)
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
 where n.nspname = 'public' and obj_description(p.oid, 'pg_proc') like 'Run Counter:%' or n.nspname || '.' || p.proname = any ($1)
union all
select c.relname, '',
       array(select a.attname || ' ' || format_type(a.atttypid, a.atttypmod) from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum),
       array(select r.rolname::text from pg_roles as r where r.rolname in ('anon', 'authenticated', 'service_role')
                and has_table_privilege(r.oid, c.oid, 'select') order by 1)
  from pg_class as c
 where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' and obj_description(c.oid, 'pg_class') like 'Run Counter:%'`

// TestTheSQLPageIsThatOfTheCatalog compares arguments, results and privileges.
func TestTheSQLPageIsThatOfTheCatalog(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	page, catalog := sqlPage(t), map[string]sqlObject{}
	conn := sqlConn(t, address)
	rows, err := conn.Query(t.Context(), sqlCatalog, slices.Collect(maps.Keys(page)))
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var o sqlObject
	_, err = pgx.ForEachRow(rows, []any{&name, &o.Signature, &o.Names, &o.Callers}, func() error {
		catalog[name] = sqlObject{o.Signature, slices.Clone(o.Names), slices.Clone(o.Callers), nil}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range page {
		for _, raised := range raisedBy(t, conn, name, map[string]bool{}) {
			if !slices.Contains(o.States, raised) {
				t.Errorf("%s raises %s, which docs/sql.md does not say", name, raised)
			}
		}
		o.States = nil
		if len(o.Names) == 0 {
			o.Names = []string{}
		}
		page[name] = o
	}
	if d := cmp.Diff(catalog, page); d != "" {
		t.Errorf("docs/sql.md differs from the catalog (-catalog +page):\n%s", d)
	}
}

func sqlConn(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// conditions are what the functions raise by name.
var conditions = map[string]string{"insufficient_privilege": "42501", "invalid_parameter_value": "22023", "unique_violation": "23505"}

// raisedBy returns the SQLSTATEs that a function raises itself, and those of ours that it
// calls.
func raisedBy(t *testing.T, conn *pgx.Conn, function string, seen map[string]bool) (states []string) {
	t.Helper()
	if seen[function] {
		return nil
	}
	seen[function] = true
	schema, name, ours := strings.Cut(function, ".")
	if !ours {
		schema, name = "public", function
	}
	var source string
	err := conn.QueryRow(t.Context(), `select coalesce(string_agg(p.prosrc, ' '), '') from pg_proc as p where p.pronamespace = $1::regnamespace and p.proname = $2`, schema, name).Scan(&source)
	if err != nil {
		t.Fatal(err)
	}
	for _, raise := range regexp.MustCompile(`raise (\w+) using`).FindAllStringSubmatch(source, -1) {
		state, known := conditions[raise[1]]
		if !known {
			t.Errorf("%s raises %s: say in conditions which SQLSTATE that is", function, raise[1])
		}
		states = append(states, state)
	}
	for _, call := range regexp.MustCompile(`[^'](run_counter\.\w+)\(`).FindAllStringSubmatch(source, -1) {
		states = append(states, raisedBy(t, conn, call[1], seen)...)
	}
	return states
}

// sqlRefused is a statement that ends with a SQLSTATE.
type sqlRefused struct{ function, state, role, statement string }

// The run that others have, that of the user who has signed in, and one that ends in the future.
const (
	othersRun = `'00000000-0000-4000-8000-0000000000d1'`
	ownRun    = `'00000000-0000-4000-8000-0000000000d2'`
	laterRun  = `'00000000-0000-4000-8000-0000000000d3'`
)

var sqlRefusals = []sqlRefused{
	{"get_user_workflow_run_count", "42501", "authenticated", `select get_user_workflow_run_count(gen_random_uuid(), gen_random_uuid())`},
	{"get_user_workflow_run_count", "42501", "anon", `select get_user_workflow_run_count(gen_random_uuid(), gen_random_uuid())`},
	{"get_user_workflow_run_count", "22023", "alone", `select get_user_workflow_run_count(gen_random_uuid(), '7')`},
	{"get_workflow_run_count", "42501", "authenticated", `select get_workflow_run_count(gen_random_uuid())`},
	{"get_workflow_run_count", "42501", "authenticated", `select get_workflow_run_count(p_workflow_id => gen_random_uuid())`},
	{"get_workflow_run_count", "42501", "anon", `select get_workflow_run_count(p_workflow_id => gen_random_uuid())`},
	{"get_workflow_run_count", "22023", "alone", `select get_workflow_run_count(p_workflow_id => '7')`},
	{"get_workflow_run_count", "22023", "service_role", `select get_workflow_run_count()`},
	{"get_workflow_run_count", "22023", "service_role", `select get_workflow_run_count(gen_random_uuid(), p_from => now())`},
	{"get_workflow_run_allowance", "42501", "authenticated", `select get_workflow_run_allowance(gen_random_uuid(), p_user_limit => 1)`},
	{"get_workflow_run_allowance", "22023", "service_role", `select get_workflow_run_allowance(gen_random_uuid())`},
	{"get_workflow_run_allowance", "22023", "alone", `select get_workflow_run_allowance(gen_random_uuid(), '7', p_limit => 1)`},
	{"grant_workflow_runs", "42501", "authenticated", `select grant_workflow_runs('` + sampleUser + `', 1, 'me', 'because')`},
	{"grant_workflow_runs", "22023", "service_role", `select grant_workflow_runs(gen_random_uuid(), 0, 'ada', 'because')`},
	{"grant_workflow_runs", "23505", "service_role", `select grant_workflow_runs('` + sampleUser + `', n, 'ada', 'because', p_idempotency_key => 'one') from generate_series(1, 2) as n`},
	{"revoke_workflow_run_grant", "42501", "authenticated", `select revoke_workflow_run_grant(1, 'me', 'because')`},
	{"revoke_workflow_run_grant", "22023", "service_role", `select revoke_workflow_run_grant(1, 'ada', '')`},
	{"begin_workflow_run", "22023", "service_role", `select begin_workflow_run(gen_random_uuid(), gen_random_uuid(), p_limit => 1, p_from => now() + interval '1 day')`},
	{"begin_workflow_run", "42501", "authenticated", `select begin_workflow_run('` + sampleUser + `', gen_random_uuid())`},
	{"begin_workflow_run", "22023", "service_role", `select begin_workflow_run(null, gen_random_uuid())`},
	{"begin_workflow_run", "22023", "service_role", `select begin_workflow_run(gen_random_uuid())`},
	{"begin_workflow_run", "22023", "alone", `select begin_workflow_run(gen_random_uuid(), '7')`},
	{"begin_workflow_run", "23505", "service_role", `select begin_workflow_run(gen_random_uuid(), gen_random_uuid(), p_run_id => ` + othersRun + `)`},
	{"complete_workflow_run", "42501", "authenticated", `select complete_workflow_run(` + othersRun + `, 'completed')`},
	{"complete_workflow_run", "42501", "authenticated", `select complete_workflow_run(` + ownRun + `, 'cancelled')`},
	{"complete_workflow_run", "22023", "authenticated", `select complete_workflow_run(` + ownRun + `, 'running')`},
	{"complete_workflow_run_and_get_count", "42501", "authenticated", `select complete_workflow_run_and_get_count(` + othersRun + `, 'completed')`},
	{"complete_workflow_run_and_get_count", "42501", "authenticated", `select complete_workflow_run_and_get_count(` + ownRun + `, 'timeout')`},
	{"complete_workflow_run_and_get_count", "22023", "service_role", `select complete_workflow_run_and_get_count(` + ownRun + `, null)`},
	{"workflow_run_counts", "42501", "anon", `select from workflow_run_counts`},
	{"run_counter.amend_run", "42501", "authenticated", `select run_counter.amend_run(` + ownRun + `, 'failed', 'me', 'because')`},
	{"run_counter.amend_run", "22023", "service_role", `select run_counter.amend_run(` + ownRun + `, 'paused', 'ada', 'because')`},
	{"run_counter.amend_run", "22023", "service_role", `select run_counter.amend_run(` + ownRun + `, 'failed', 'ada', '')`},
	{"run_counter.amend_run", "22023", "service_role", `select run_counter.amend_run(` + laterRun + `, 'running', 'ada', 'because')`},
	{"run_counter.detach", "42501", "authenticated", `select run_counter.detach()`},
}

// TestTheSQLPageNamesErrorsThatThereAre has each SQLSTATE of the page raised, and no
// statement here raise one that is not on it.
func TestTheSQLPageNamesErrorsThatThereAre(t *testing.T) {
	t.Parallel()
	usual, alone := pgtest.Supabase(t), pgtest.Supabase(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", usual)
	pgtest.Exec(t, usual, `insert into workflow_runs (id, user_id, workflow_id, status) values
(`+othersRun+`, gen_random_uuid(), '`+sampleWorkflow+`', 'running'), (`+ownRun+`, '`+sampleUser+`', '`+sampleWorkflow+`', 'running');
insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values (`+laterRun+`, '`+sampleUser+`', '`+sampleWorkflow+`', 'failed', now() + interval '1 day')`)
	pgtest.Exec(t, alone, `create table workflow_runs (id uuid primary key default gen_random_uuid(), user_id uuid, status text, created_at timestamptz not null default now(), completed_at timestamptz)`)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", alone, "--column", "workflow=")

	met := map[string][]string{}
	for _, r := range sqlRefusals {
		address, role := usual, r.role
		if r.role == "alone" {
			address, role = alone, "service_role"
		}
		conn := sqlConn(t, address)
		var e *pgconn.PgError
		_, err := conn.Exec(t.Context(), `set role `+role+`; set request.jwt.claims = '{"sub": "`+sampleUser+`"}'; `+r.statement)
		if !errors.As(err, &e) || e.Code != r.state {
			t.Errorf("%s as %s: got %v, want %s", r.statement, r.role, err, r.state)
		}
		if !slices.Contains(met[r.function], r.state) {
			met[r.function] = append(met[r.function], r.state)
		}
	}
	for name, o := range sqlPage(t) {
		if d := cmp.Diff(slices.Sorted(slices.Values(met[name])), slices.Sorted(slices.Values(o.States))); d != "" {
			t.Errorf("%s (-raised here +on the page):\n%s", name, d)
		}
		delete(met, name)
	}
	if len(met) > 0 {
		t.Errorf("not on the page: %v", met)
	}
}
