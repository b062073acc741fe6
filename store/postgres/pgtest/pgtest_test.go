package pgtest

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/internal/need"
)

func TestMain(m *testing.M) { Main(m) }

// ask returns the one value that a statement answers with, as text.
func ask(t *testing.T, address string, sql ...string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var got string
	for _, statement := range sql {
		results, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		if last := results[len(results)-1]; len(last.Rows) == 1 {
			got = string(last.Rows[0][0])
		}
	}
	return got
}

func refused(t *testing.T, address, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_, err = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		t.Fatalf("%s: got %v, want the server to refuse it", sql, err)
	}
	return pg.Code
}

func TestADatabaseIsEmptyAndItsOwn(t *testing.T) {
	a, b := Database(t), Database(t)
	Exec(t, a, `create table mine (n integer)`)
	const count = `select count(*) from pg_class where relnamespace = 'public'::regnamespace`
	if got := ask(t, b, count); got != "0" {
		t.Errorf("got %s tables in a new database, want none", got)
	}
	if got := ask(t, a, count); got != "1" {
		t.Errorf("got %s tables in the other, want the one that was made", got)
	}
	if got := Version(t, a); got < 15 {
		t.Errorf("got PostgreSQL %d, want 15 or later", got)
	}
	if got := ask(t, With(t, a, "application_name", "me"), `show application_name`); got != "me" {
		t.Errorf("got application name %q, want me", got)
	}
}

func TestADatabaseIsDroppedWithItsTest(t *testing.T) {
	Database(t) // which is where this test is skipped, if there is no server
	var address string
	var open *pgx.Conn
	t.Run("it is used", func(t *testing.T) {
		address = Database(t)
		var err error
		if open, err = pgx.Connect(t.Context(), address); err != nil {
			t.Fatal(err)
		}
	})
	defer open.Close(context.Background())
	conn, err := connect(address)
	if err == nil {
		closeConn(conn)
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "3D000" {
		t.Errorf("got %v, want the database to be gone, though a session was open", err)
	}
}

func TestSupabaseIsNoSuperusersAndKnowsWhoAsks(t *testing.T) {
	address := Supabase(t)
	const alice = "11111111-1111-4111-8111-111111111111"
	if got := ask(t, address, `select current_user || ' ' || rolsuper from pg_roles where rolname = current_user`); got != "owner false" {
		t.Errorf("got %s, want an owner that is no superuser", got)
	}
	Exec(t, address,
		`create table public.notes (id integer primary key, user_id uuid references auth.users)`,
		`alter table public.notes enable row level security`,
		`create policy own on public.notes for select to authenticated using ((select auth.uid()) = user_id)`,
		`insert into auth.users (id) values ('`+alice+`')`,
		`insert into public.notes values (1, '`+alice+`'), (2, null)`,
	)
	api := As(t, address, "authenticator")
	for _, c := range []struct {
		name string
		sql  []string
		want string
	}{
		{"the whole token", []string{`set role authenticated; set request.jwt.claims = '{"sub": "` + alice + `", "role": "authenticated"}'`, `select auth.uid()`}, alice},
		{"its role", []string{`set role authenticated; set request.jwt.claims = '{"role": "authenticated"}'`, `select auth.role()`}, "authenticated"},
		{"all of it", []string{`set role anon; set request.jwt.claims = '{"a": 1}'`, `select auth.jwt()`}, `{"a": 1}`},
		{"the older setting", []string{`set role authenticated`, `select set_config('request.jwt.claim.sub', '` + alice + `', false)`, `select auth.uid()`}, alice},
		{"no token", []string{`set role anon`, `select coalesce(auth.uid()::text, 'nobody')`}, "nobody"},
		{"a user sees their own rows", []string{`set role authenticated; set request.jwt.claims = '{"sub": "` + alice + `"}'`, `select count(*) from public.notes`}, "1"},
		{"a stranger sees none, though default privileges grant all", []string{`set role anon`, `select count(*) from public.notes`}, "0"},
		{"service_role sees all", []string{`set role service_role`, `select count(*) from public.notes`}, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, ask(t, api, c.sql...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if got := refused(t, api, `select * from public.notes`); got != "42501" {
		t.Errorf("authenticator without a role: got %s, want 42501", got)
	}
	if got := refused(t, address, `create table auth.mine ()`); got != "42501" {
		t.Errorf("a table in schema auth: got %s, want 42501", got)
	}
	if got := ask(t, Admin(t, address), `select current_database() || rolsuper from pg_roles where rolname = current_user`); got != ask(t, address, `select current_database() || true`) {
		t.Errorf("Admin: got %s, want a superuser on the same database", got)
	}
}

func TestAPlainDatabaseKnowsNothingOfSupabase(t *testing.T) {
	if os.Getenv(databaseVariable) != "" {
		need.Skip(t, "a server from outside is both")
	}
	Supabase(t)
	if got := ask(t, Database(t), `select count(*) from pg_roles where rolname in ('anon', 'authenticated', 'service_role')`); got != "0" {
		t.Errorf("got %s of Supabase's roles, want none", got)
	}
}

func TestWhatIsCommittedSurvivesKill(t *testing.T) {
	s := NewServer(t)
	address := s.Database(t)
	Exec(t, address, `create table kept (n integer)`)
	for _, c := range []struct {
		name string
		end  func(testing.TB)
	}{{"stopped", s.Stop}, {"killed", s.Kill}, {"killed again", s.Kill}} {
		t.Run(c.name, func(t *testing.T) {
			Exec(t, address, `insert into kept values (1)`)
			before := ask(t, address, `select count(*) from kept`)
			open, err := pgx.Connect(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close(context.Background())
			c.end(t)
			if conn, err := connect(address); err == nil {
				closeConn(conn)
				t.Error("it still answers")
			}
			s.Start(t)
			if got := ask(t, address, `select count(*) from kept`); got != before {
				t.Errorf("got %s rows, want the %s that were committed", got, before)
			}
		})
	}
	if got := ask(t, address, `select current_setting('fsync') || '/' || current_setting('full_page_writes')`); got != "on/on" {
		t.Errorf("got fsync and full_page_writes %s, want both on", got)
	}
}

func TestThePoolerIsInTransactionMode(t *testing.T) {
	through := Pooler(t, Supabase(t))
	if got := ask(t, through, `select current_user`); got != "owner" {
		t.Errorf("got %s, want the same role through the pooler", got)
	}
	if got := ask(t, As(t, through, "authenticator"), `set role anon; select current_user`); got != "anon" {
		t.Errorf("got %s, want anon", got)
	}
	// The second to come gets the connection that the first has given back.
	first, err := pgx.Connect(t.Context(), through)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close(context.Background())
	results, err := first.PgConn().Exec(t.Context(), `select pg_backend_pid()`).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ask(t, through, `select pg_backend_pid()`), string(results[0].Rows[0][0]); got != want {
		t.Errorf("got backend %s, want %s, since no transaction holds it", got, want)
	}
}

func TestTLSIsAskedForAndVerified(t *testing.T) {
	s, ca := NewTLSServer(t)
	address := s.Database(t)
	if got := ask(t, address, `select ssl from pg_stat_ssl where pid = pg_backend_pid()`); got != "t" {
		t.Errorf("got ssl %s, want t", got)
	}
	if _, err := os.Stat(ca); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ name, mode, root string }{
		{"without TLS", "disable", ca},
		{"without the authority", "verify-full", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if conn, err := connect(With(t, address, "sslmode", c.mode, "sslrootcert", c.root)); err == nil {
				closeConn(conn)
				t.Error("it was let in")
			}
		})
	}
}
