package postgres

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// The users of testdata/postgres/app.sql, and the victims of this file.
const (
	ada     = sourcetest.Ada
	bob     = sourcetest.Bob
	adasRun = "00000000-0000-4000-8000-0000000000a1" // completed
	bobsRun = "00000000-0000-4000-8000-0000000000b1" // completed
	active  = "00000000-0000-4000-8000-0000000000b2" // bob's, running
	adaFlow = sourcetest.AdaFlow
	bobFlow = sourcetest.BobFlow
	runOne  = sourcetest.RunOne
	runTwo  = sourcetest.RunTwo
)

// refusals are statements that must be refused with a code, or find nothing
// ("invisible"): nobody reads or changes what is not theirs, and nobody takes a
// run off their bill. Bob is who tries, as the Data API would have him.
var refusals = []struct{ name, role, sql, want string }{
	// anon
	{"anon counts a user's runs", "anon", `select get_user_workflow_run_count('` + bob + `', '` + bobFlow + `')`, "42501"},
	{"anon completes a run", "anon", `select complete_workflow_run('` + active + `', 'completed')`, "42501"},
	{"anon completes a run and counts", "anon", `select * from complete_workflow_run_and_get_count('` + active + `', 'completed')`, "42501"},
	{"anon begins a run", "anon", `select begin_workflow_run('` + bob + `', '` + bobFlow + `')`, "42501"},
	{"anon reads the view", "anon", `select * from workflow_run_counts`, "42501"},
	{"anon counts everybody's runs", "anon", `select get_workflow_run_count(p_workflow_id => '` + adaFlow + `')`, "42501"},
	{"anon reads the counts", "anon", `select * from run_counter.counts`, "42501"},
	{"anon reads the ledger", "anon", `select * from run_counter.ledger`, "42501"},
	{"anon reads the settings", "anon", `select * from run_counter.settings`, "42501"},
	{"anon calls a private function", "anon", `select run_counter.count_of('` + bob + `', 'workflow', '` + bobFlow + `')`, "42501"},
	{"anon looks at a private helper", "anon", `select run_counter.uid()`, "42501"},
	{"anon updates runs", "anon", `update workflow_runs set status = 'pending'`, "invisible"},
	{"anon truncates runs", "anon", `truncate workflow_runs`, "42501"},

	// another's
	{"bob counts ada's runs", "bob", `select get_user_workflow_run_count('` + ada + `', '` + adaFlow + `')`, "42501"},
	{"bob counts ada's drafts", "bob", `select get_user_workflow_run_count('` + ada + `', null, 'd1000000-0000-4000-8000-000000000001')`, "42501"},
	{"bob counts everybody's runs", "bob", `select get_workflow_run_count(p_workflow_id => '` + adaFlow + `')`, "42501"},
	{"bob counts them by what is below", "bob", `select run_counter.counted_of(null, 'workflow', '` + adaFlow + `', null, null)`, "42501"},
	{"bob reads the totals", "bob", `select * from run_counter.totals`, "42501"},
	{"bob counts nobody's runs", "bob", `select get_user_workflow_run_count(null, '` + adaFlow + `')`, "42501"},
	{"bob counts a user who isn't there", "bob", `select get_user_workflow_run_count('ffffffff-ffff-4fff-8fff-ffffffffffff', '` + adaFlow + `')`, "42501"},
	{"bob completes ada's run", "bob", `select complete_workflow_run('00000000-0000-4000-8000-0000000000a2', 'completed')`, "42501"},
	{"bob completes ada's run and counts", "bob", `select * from complete_workflow_run_and_get_count('00000000-0000-4000-8000-0000000000a2', 'failed')`, "42501"},
	{"bob completes ada's ended run", "bob", `select complete_workflow_run('` + adasRun + `', 'failed')`, "42501"},
	{"bob begins a run for himself without a limit", "bob", `select begin_workflow_run('` + bob + `', '` + bobFlow + `')`, "42501"},
	{"bob begins a run for ada", "bob", `select begin_workflow_run('` + ada + `', '` + adaFlow + `')`, "42501"},
	{"bob reads ada's count in the view", "bob", `select * from workflow_run_counts where user_id = '` + ada + `'`, "invisible"},
	{"bob reads ada's count by the private function", "bob", `select * from run_counter.own_counts() where user_id = '` + ada + `'`, "invisible"},
	{"bob reads the counts", "bob", `select * from run_counter.counts`, "42501"},
	{"bob reads the ledger", "bob", `select * from run_counter.ledger`, "42501"},
	{"bob asks when ada last ran", "bob", `select run_counter.last_run_at('` + ada + `', 'workflow', '` + adaFlow + `')`, "42501"},
	{"bob counts ada's runs by the private function", "bob", `select run_counter.count_own('` + ada + `', 'workflow', '` + adaFlow + `')`, "42501"},
	{"bob counts by the function without a check", "bob", `select run_counter.count_of('` + ada + `', 'workflow', '` + adaFlow + `')`, "42501"},
	{"bob completes ada's run by the private function", "bob", `select * from run_counter.complete_own_run('00000000-0000-4000-8000-0000000000a2', 'completed', 1, '{}', null)`, "42501"},
	{"bob completes by the function without a check", "bob", `select * from run_counter.complete_run('` + active + `', 'cancelled', now(), 1, '{}', null, now())`, "42501"},
	{"bob begins by the private function", "bob", `select * from run_counter.begin_run(gen_random_uuid(), '` + bob + `', '` + bobFlow + `', null, 10, null, now())`, "42501"},
	{"bob amends his own run", "bob", `select run_counter.amend_run('` + bobsRun + `', 'cancelled', 'bob', 'free runs')`, "42501"},
	{"bob locks a key", "bob", `select run_counter.lock_key('` + bob + `', 'workflow', '` + bobFlow + `')`, "42501"},
	{"bob asks whether he is trusted", "bob", `select run_counter.trusted()`, "42501"},

	// our tables
	{"bob lowers his count", "bob", `update run_counter.counts set n = 0`, "42501"},
	{"bob deletes his counts", "bob", `delete from run_counter.counts`, "42501"},
	{"bob locks his counts", "bob", `select * from run_counter.counts for update`, "42501"},
	{"bob writes the ledger", "bob", `insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n) values ('` + bob + `', 'workflow', '` + bobFlow + `', 'completed', false, -5)`, "42501"},
	{"bob empties the ledger", "bob", `delete from run_counter.ledger`, "42501"},
	{"bob truncates the ledger", "bob", `truncate run_counter.ledger`, "42501"},
	{"bob marks a run presumed", "bob", `insert into run_counter.presumed values ('` + bobsRun + `', now(), '` + bob + `', 'workflow', '` + bobFlow + `', 'failed')`, "42501"},
	{"bob forges an amendment", "bob", `insert into run_counter.amendments (run_id, at, who, why, status) values ('` + bobsRun + `', now(), 'support', 'x', 'pending')`, "42501"},
	{"bob reads amendments", "bob", `select * from run_counter.amendments`, "42501"},
	{"bob turns the hardening off", "bob", `update run_counter.settings set hardening = false`, "42501"},
	{"bob reads dead letters", "bob", `select * from run_counter.dead_letters`, "42501"},
	{"bob reads what arrived", "bob", `select * from run_counter.activity`, "42501"},
	{"bob reads repairs", "bob", `select * from run_counter.repairs`, "42501"},
	{"bob reads recounts", "bob", `select * from run_counter.recounts`, "42501"},
	{"bob reads idempotency keys", "bob", `select * from run_counter.idempotency_keys`, "42501"},
	{"bob reads what was replaced", "bob", `select * from run_counter.replaced`, "42501"},
	{"bob moves the version of the schema", "bob", `update run_counter.schema_migrations set version = 0`, "42501"},
	{"bob makes something in our schema", "bob", `create table run_counter.mine (n int)`, "42501"},
	{"bob replaces our function", "bob", `create or replace function run_counter.uid() returns uuid language sql as 'select null::uuid'`, "42501"},
	{"bob writes through the view", "bob", `delete from workflow_run_counts`, "55000"},

	// his bill
	{"bob deletes a run that counts", "bob", `delete from workflow_runs where id = '` + bobsRun + `'`, "42501"},
	{"bob deletes a run that goes on", "bob", `delete from workflow_runs where id = '` + active + `'`, "42501"},
	{"bob truncates runs", "bob", `truncate workflow_runs`, "42501"},
	{"bob hands a run to ada", "bob", `update workflow_runs set user_id = '` + ada + `' where id = '` + bobsRun + `'`, "42501"},
	{"bob hands a run that goes on to ada", "bob", `update workflow_runs set user_id = '` + ada + `' where id = '` + active + `'`, "42501"},
	{"bob moves a run to another workflow", "bob", `update workflow_runs set workflow_id = '` + adaFlow + `' where id = '` + bobsRun + `'`, "42501"},
	{"bob moves a run to a draft", "bob", `update workflow_runs set workflow_id = null, draft_id = 'd1000000-0000-4000-8000-000000000001' where id = '` + bobsRun + `'`, "42501"},
	{"bob gives a run a draft", "bob", `update workflow_runs set draft_id = 'd1000000-0000-4000-8000-000000000001' where id = '` + bobsRun + `'`, "42501"},
	{"bob gives a run another id", "bob", `update workflow_runs set id = gen_random_uuid() where id = '` + active + `'`, "42501"},
	{"bob cancels by himself", "bob", `update workflow_runs set status = 'cancelled' where id = '` + active + `'`, "42501"},
	{"bob times out by himself", "bob", `update workflow_runs set status = 'timeout', completed_at = now() where id = '` + active + `'`, "42501"},
	{"bob sets a status that nobody knows", "bob", `update workflow_runs set status = 'archived' where id = '` + active + `'`, "42501"},
	{"bob sets a status in other letters", "bob", `update workflow_runs set status = 'CANCELLED' where id = '` + active + `'`, "42501"},
	{"bob sets no status", "bob", `update workflow_runs set status = null where id = '` + active + `'`, "42501"},
	{"bob ends a run in the future", "bob", `update workflow_runs set status = 'completed', completed_at = now() + interval '1 year' where id = '` + active + `'`, "42501"},
	{"bob starts a run in the future", "bob", `update workflow_runs set started_at = 'infinity' where id = '` + active + `'`, "42501"},
	{"bob inserts a cancelled run", "bob", `insert into workflow_runs (user_id, workflow_id, status) values ('` + bob + `', '` + bobFlow + `', 'cancelled')`, "42501"},
	{"bob inserts a run without a status", "bob", `insert into workflow_runs (user_id, workflow_id, status) values ('` + bob + `', '` + bobFlow + `', null)`, "42501"},
	{"bob inserts a run that started in the future", "bob", `insert into workflow_runs (user_id, workflow_id, status, started_at) values ('` + bob + `', '` + bobFlow + `', 'running', now() + interval '1 day')`, "42501"},
	{"bob cancels by ON CONFLICT", "bob", `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + active + `', '` + bob + `', '` + bobFlow + `', 'running') on conflict (id) do update set status = 'cancelled'`, "42501"},
	{"bob cancels by MERGE", "bob", `merge into workflow_runs as r using (select '` + active + `'::uuid as id) as s on r.id = s.id when matched then update set status = 'cancelled'`, "42501"},
	{"bob deletes by MERGE", "bob", `merge into workflow_runs as r using (select '` + bobsRun + `'::uuid as id) as s on r.id = s.id when matched then delete`, "42501"},
	{"bob cancels by the public function", "bob", `select complete_workflow_run('` + active + `', 'cancelled')`, "42501"},
	{"bob times out by the public function", "bob", `select * from complete_workflow_run_and_get_count('` + active + `', 'timeout')`, "42501"},
	{"bob completes with a status that is none", "bob", `select complete_workflow_run('` + active + `', 'archived')`, "22023"},
	{"bob turns triggers off", "bob", `set session_replication_role = replica`, "42501"},
	{"bob disables a trigger", "bob", `alter table workflow_runs disable trigger zzzz_run_counter_ledger_update`, "42501"},
	{"bob drops a trigger", "bob", `drop trigger zzzz_run_counter_guard on workflow_runs`, "42501"},
	{"bob becomes the owner", "bob", `set session authorization owner`, "42501"},
}

// frozen are updates of his own ended run that go through and change nothing
// that counts: the guard keeps the first outcome.
var frozen = []struct{ name, role, sql string }{
	{"bob sets an ended run back to pending", "bob", `update workflow_runs set status = 'pending' where id = '` + bobsRun + `'`},
	{"bob sets an ended run back and clears when it ended", "bob", `update workflow_runs set status = 'running', completed_at = null where id = '` + bobsRun + `'`},
	{"bob clears when a run ended", "bob", `update workflow_runs set completed_at = null where id = '` + bobsRun + `'`},
	{"bob moves when a run ended", "bob", `update workflow_runs set completed_at = now() - interval '1 year' where id = '` + bobsRun + `'`},
	{"bob turns completed into failed", "bob", `update workflow_runs set status = 'failed' where id = '` + bobsRun + `'`},
	{"bob completes an ended run", "bob", `select complete_workflow_run('` + bobsRun + `', 'failed')`},
	{"bob pretends to be an amendment", "bob", `with s as (select set_config('run_counter.amending', '` + bobsRun + `', true)) update workflow_runs set status = 'pending' from s where id = '` + bobsRun + `'`},
	{"bob shadows our tables by his own", "bob", `create temporary table amendments (run_id uuid, xact xid8); update workflow_runs set status = 'pending' where id = '` + bobsRun + `'`},
	{"bob puts his schema first", "bob", `create temporary table settings (guard boolean); set local search_path = pg_temp, public; update workflow_runs set status = 'pending' where id = '` + bobsRun + `'`},
	{"bob pretends that the run is stuck", "bob", `update workflow_runs set error_details = '{"code": "stuck"}', status = 'running' where id = '` + bobsRun + `'`},
	{"the server's late running", "service_role", `update workflow_runs set status = 'running', completed_at = null where id = '` + bobsRun + `'`},
	{"the owner's late running", "owner", `update workflow_runs set status = 'running', completed_at = null where id = '` + bobsRun + `'`},
}

// allowed are statements that must work.
var allowed = []struct{ name, role, sql, want string }{
	{"bob counts his own runs", "bob", `select get_user_workflow_run_count('` + bob + `', '` + bobFlow + `')::text`, "1"},
	{"ada counts her own runs", "ada", `select get_user_workflow_run_count('` + ada + `', '` + adaFlow + `')::text`, "1"},
	{"bob counts his drafts", "bob", `select get_user_workflow_run_count('` + bob + `', p_draft_id => 'd1000000-0000-4000-8000-000000000001')::text`, "1"},
	{"bob's count without a workflow is 0", "bob", `select get_user_workflow_run_count('` + bob + `')::text`, "0"},
	{"bob reads his counts", "bob", `select count(*)::text from workflow_run_counts where last_run_at is not null`, "2"},
	{"ada reads hers", "ada", `select count(*)::text from workflow_run_counts`, "1"},
	{"bob completes his run", "bob", `select complete_workflow_run('` + active + `', 'completed')::text`, "true"},
	{"bob completes his run and counts", "bob", `select new_count::text from complete_workflow_run_and_get_count('` + active + `', 'failed')`, "2"},
	{"bob counts an ended run that he completes", "bob", `select new_count::text from complete_workflow_run_and_get_count('` + bobsRun + `', 'failed')`, "1"},
	{"an unknown run is nobody's", "bob", `select complete_workflow_run('ffffffff-ffff-4fff-8fff-ffffffffffff', 'failed')::text`, "false"},
	{"an unknown run has no count", "bob", `select count(*)::text from complete_workflow_run_and_get_count('ffffffff-ffff-4fff-8fff-ffffffffffff', 'failed')`, "0"},
	{"bob asks for a cancellation", "bob", `update workflow_runs set status = 'cancelling' where id = '` + active + `' returning status`, "cancelling"},
	{"bob ends his run by himself", "bob", `update workflow_runs set status = 'completed' where id = '` + active + `' returning (completed_at is not null)::text`, "true"},
	{"the owner touches an ended run", "owner", `update workflow_runs set metadata = '{}' where id = '` + bobsRun + `' returning status`, "completed"},
	{"bob inserts a run", "bob", `insert into workflow_runs (user_id, workflow_id, status) values ('` + bob + `', '` + bobFlow + `', 'pending') returning status`, "pending"},
	{"the application's function cancels for bob", "bob", `select cancel_my_run('` + active + `')::text`, "true"},
	{"the server counts everybody's runs", "service_role", `select get_workflow_run_count(p_workflow_id => '` + adaFlow + `')::text`, "1"},
	{"the server counts anybody's runs", "service_role", `select get_user_workflow_run_count('` + ada + `', '` + adaFlow + `')::text`, "1"},
	{"the server reads all counts", "service_role", `select count(*)::text from workflow_run_counts`, "3"},
	{"the server begins a run", "service_role", `select (begin_workflow_run('` + ada + `', '` + adaFlow + `', p_limit => 3) is not null)::text`, "true"},
	{"the server is refused at the limit", "service_role", `select (begin_workflow_run('` + ada + `', '` + adaFlow + `', p_limit => 2) is null)::text`, "true"},
	{"the server completes a run", "service_role", `select complete_workflow_run('` + active + `', 'timeout')::text`, "true"},
	{"the server amends a run", "service_role", `select run_counter.amend_run('` + bobsRun + `', 'cancelled', 'support', 'a refund')::text`, "true"},
	{"the server deletes a run", "service_role", `delete from workflow_runs where id = '` + bobsRun + `' returning status`, "completed"},
	{"the server reads and sets the policy", "service_role", `update run_counter.settings set policy = 'terminal' returning policy`, "terminal"},
	{"a user's account goes with its runs", "admin", `with gone as (delete from auth.users where id = '` + bob + `' returning id) select count(*)::text from gone`, "1"},
}

// mustApp returns a database with the application of testdata, and with ours
// on it.
func mustApp(t testing.TB) string {
	t.Helper()
	address := mustFixture(t)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	return address
}

func mustFixture(t testing.TB) string {
	t.Helper()
	return mustEditedFixture(t, strings.NewReplacer())
}

// mustEditedFixture changes the application's SQL before it is run.
func mustEditedFixture(t testing.TB, edit *strings.Replacer) string {
	t.Helper()
	text, err := os.ReadFile("../../testdata/postgres/app.sql")
	if err != nil {
		t.Fatal(err)
	}
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, edit.Replace(string(text)))
	return address
}

// partitionedApp has the application's table partitioned.
func partitionedApp(by, key, partitions string) *strings.Replacer {
	return strings.NewReplacer("uuid primary key default gen_random_uuid(),\n    user_id ", "uuid not null default gen_random_uuid(),\n    user_id ",
		"constraint one_of_workflow_and_draft check ((workflow_id is null) <> (draft_id is null))\n)",
		"constraint one_of_workflow_and_draft check ((workflow_id is null) <> (draft_id is null)),\n    primary key ("+key+")\n) partition by "+by+"; "+partitions)
}

// caller is a connection that takes roles as the Data API does.
type caller struct {
	testing.TB
	owner *pgx.Conn
	admin *pgx.Conn // a superuser
	api   *pgx.Conn // authenticator
}

func newCaller(t testing.TB, address string) *caller {
	t.Helper()
	c := &caller{TB: t}
	for _, one := range []struct {
		conn    **pgx.Conn
		address string
	}{{&c.owner, address}, {&c.admin, pgtest.Admin(t, address)}, {&c.api, pgtest.As(t, address, "authenticator")}} {
		conn, err := pgx.Connect(t.Context(), one.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
		*one.conn = conn
	}
	return c
}

// as runs a statement as somebody, in a transaction that is rolled back. It
// returns the first value, and how many rows were found or changed.
func (c *caller) as(role, sql string) (first string, rows int64, err error) {
	c.Helper()
	conn, setup := c.api, `set local role authenticated; set local request.jwt.claims = '{"sub": "`+map[string]string{"ada": ada, "bob": bob}[role]+`"}'`
	switch role {
	case "owner":
		conn, setup = c.owner, ""
	case "admin":
		conn, setup = c.admin, ""
	case "anon", "service_role":
		setup = `set local role ` + role
	}
	tx, err := conn.Begin(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	defer tx.Rollback(c.Context())
	if _, err := tx.Exec(c.Context(), setup, pgx.QueryExecModeSimpleProtocol); err != nil {
		c.Fatalf("%s: %v", setup, err)
	}
	all, err := conn.PgConn().Exec(c.Context(), sql).ReadAll()
	if err != nil {
		return "", 0, err
	}
	last := all[len(all)-1]
	if len(last.Rows) > 0 && len(last.Rows[0]) > 0 {
		first = string(last.Rows[0][0])
	}
	return first, max(last.CommandTag.RowsAffected(), int64(len(last.Rows))), nil
}

// bills is what everybody's count depends on.
const bills = `select coalesce(string_agg(concat_ws(' ', user_id, kind, ref_id, n), '; ' order by user_id, kind, ref_id), '')
  from (select user_id, kind, ref_id, sum(n) as n
          from (select user_id, kind, ref_id, n from run_counter.counts
                 union all
                select user_id, kind, ref_id, n from run_counter.ledger) as k
         group by 1, 2, 3) as k where n <> 0`

func TestNobodyCanCheat(t *testing.T) {
	t.Parallel()
	nobodyCheats(t, mustApp(t))
}

func TestNobodyCanCheatWithPartitions(t *testing.T) {
	t.Parallel()
	address := mustEditedFixture(t, partitionedApp("hash (id)", "id", `create table runs_0 partition of workflow_runs for values with (modulus 2, remainder 0);
create table runs_1 partition of workflow_runs for values with (modulus 2, remainder 1)`))
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, `grant all on runs_0, runs_1 to anon, authenticated`) // as Supabase's default privileges do
	nobodyCheats(t, address)
	c := newCaller(t, address)
	c.lint("without a comment")
	for _, role := range []string{"bob", "anon"} {
		if _, _, err := c.as(role, `truncate runs_1`); err == nil || !strings.Contains(err.Error(), "can't delete workflow runs") {
			t.Errorf("%s truncates a partition: got %v, want it refused", role, err)
		}
	}
}

func nobodyCheats(t *testing.T, address string) {
	t.Helper()
	c := newCaller(t, address)
	var before string
	if err := c.owner.QueryRow(t.Context(), bills).Scan(&before); err != nil || strings.Count(before, ";") != 2 {
		t.Fatalf("the bills: %q, %v; want three keys", before, err)
	}
	for _, tt := range refusals {
		first, rows, err := c.as(tt.role, tt.sql)
		var e *pgconn.PgError
		switch {
		case tt.want == "invisible":
			refused := errors.As(err, &e) && e.Code == "42501"
			if err != nil && !refused || rows != 0 {
				t.Errorf("%s: got %d rows, %v; want nothing", tt.name, rows, err)
			}
		case !errors.As(err, &e) || e.Code != tt.want:
			t.Errorf("%s: got %q, %v; want an error %s", tt.name, first, err, tt.want)
		}
	}
	for _, tt := range frozen {
		if _, _, err := c.as(tt.role, tt.sql); err != nil {
			t.Errorf("%s: got %v, want it to go through", tt.name, err)
		}
	}
	var after string
	if err := c.owner.QueryRow(t.Context(), bills).Scan(&after); err != nil || after != before {
		t.Errorf("the bills were %q and are %q, %v", before, after, err)
	}
	if got := len(refusals) + len(frozen); got < 60 {
		t.Errorf("%d statements, want at least 60", got)
	}
}

// TestTheGuardHoldsForEveryWriter commits what it is about, unlike the other.
func TestTheGuardHoldsForEveryWriter(t *testing.T) {
	t.Parallel()
	address := mustApp(t)
	c := newCaller(t, address)
	for _, tt := range frozen {
		setup := map[string]string{
			"bob":          `set role authenticated; set request.jwt.claims = '{"sub": "` + bob + `"}'; `,
			"service_role": `set role service_role; `, "owner": "",
		}[tt.role]
		pgtest.Exec(t, address, `begin; `+setup+tt.sql+`; drop table if exists pg_temp.amendments, pg_temp.settings; commit`)
		var status, count string
		err := c.owner.QueryRow(t.Context(), `select status, (select completed_count::text from workflow_run_counts where workflow_id = '`+bobFlow+`')
  from workflow_runs where id = '`+bobsRun+`' and completed_at between now() - interval '2 hours' and now() - interval '30 minutes'`).Scan(&status, &count)
		if err != nil || status != "completed" || count != "1" {
			t.Errorf("%s: the run is %q and the count %s, %v; want completed and 1", tt.name, status, count, err)
		}
	}
}

func TestWhoMayDoesSo(t *testing.T) {
	t.Parallel()
	c := newCaller(t, mustApp(t))
	for _, tt := range allowed {
		if got, _, err := c.as(tt.role, tt.sql); err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}
