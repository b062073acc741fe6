package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/internal/pgserver"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(processVariable); what != "" {
		os.Exit(process(what))
	}
	pgtest.Main(m)
}

// NeedServer is for tests of this repository, which say what was not run.
func NeedServer(t *testing.T) {
	t.Helper()
	need.UsesPostgres(t)
	if _, err := pgserver.Find(); errors.Is(err, pgserver.ErrMissing) && *flagPostgres == "" {
		need.Missing(t, err.Error())
	}
}

// ask returns the one value that a query answers with.
func ask(t *testing.T, address, query string) (answer string) {
	t.Helper()
	err := with(address, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, query, pgx.QueryExecModeSimpleProtocol).Scan(&answer)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

const members = `create table members (name text); insert into members values ('ada')`

func TestCaseO7_WithGoAloneNothingIsRed(t *testing.T) {
	t.Parallel()
	need.Alone(t, "Started|Found|Lamp")
}

// TestStartedDatabase is also run by other tests, in processes of their own.
func TestStartedDatabase(t *testing.T) {
	t.Parallel()
	NeedServer(t)
	s := Start(t)
	one, other, third := s.Database(t, members), s.Database(t, members), s.Database(t, `create table others (n int)`, members)
	if err := run(one, []string{`insert into members values ('bob')`}); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{one: "ada bob", other: "ada", third: "ada"} {
		if got := ask(t, address, `select string_agg(name, ' ' order by name) from members`); got != want {
			t.Errorf("got members %q, want %q", got, want)
		}
	}
	t.Log("databases on " + s.admin.Host)
	for address, want := range map[string]string{one: "none", third: "others"} {
		if got := ask(t, address, `select coalesce(to_regclass('others')::text, 'none')`); got != want {
			t.Errorf("got table %s, want %s", got, want)
		}
	}
	if s.given {
		return
	}
	if got := ask(t, one, `select format('%s, superuser %s, createdb %s', rolname, rolsuper, rolcreatedb) from pg_roles, pg_database where datname = current_database() and datdba = pg_roles.oid and rolname = current_user`); got != "harness, superuser f, createdb f" {
		t.Errorf("got owner %s", got)
	}
	if got := ask(t, s.Superuser(t, one), `select current_user || ' of ' || string_agg(name, ' ' order by name) from members`); got != "postgres of ada bob" {
		t.Errorf("got %s as superuser", got)
	}
	// By these the harness sees at once that a statement waits for a lock.
	for _, set := range []string{`deadlock_timeout = '1ms'`, `log_lock_waits = on`, `lc_messages = 'C'`} {
		if err := run(one, []string{`set ` + set}); err != nil {
			t.Error(err)
		}
	}
}

// TestTheSecondDatabaseCostsACopy, however many tests ask at once.
func TestTheSecondDatabaseCostsACopy(t *testing.T) {
	t.Parallel()
	NeedServer(t)
	s := Start(t)
	var times atomic.Int32
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			address := s.Copy(t, "counted", func(address string) error {
				times.Add(1)
				return run(address, []string{members})
			})
			if got := ask(t, address, `select string_agg(name, ' ') from members`); got != "ada" {
				t.Errorf("got members %q, want ada", got)
			}
		})
	}
	wait.Wait()
	if n := times.Load(); n != 1 {
		t.Errorf("the first was prepared %d times", n)
	}
}

func databases(t *testing.T, s *Server) string {
	t.Helper()
	return ask(t, s.admin.String(), `select coalesce(string_agg(datname, ' ' order by datname), '') from pg_database`)
}

// TestWhatIsHalfFilledIsNoOriginal: its statements fail, or end the test, or its
// connections stay.
func TestWhatIsHalfFilledIsNoOriginal(t *testing.T) {
	t.Parallel()
	NeedServer(t)
	s, err := start("")
	if err != nil {
		t.Fatal(err)
	}
	before := databases(t, s)
	first := &original{}
	half := func(address string) error { return run(address, []string{members, `create tabel oops ()`}) }
	if err := s.copyTo(newName(), first, half); err == nil || !strings.Contains(err.Error(), "in: create tabel oops") {
		t.Errorf("got %v, want the statement that failed", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = s.copyTo(newName(), first, func(address string) error { panic(run(address, []string{members})) })
	}()
	var open *pgx.Conn
	stays := func(address string) (err error) {
		open, err = pgx.Connect(t.Context(), address)
		return err
	}
	if err := s.copyTo(newName(), first, stays); err == nil || !strings.Contains(err.Error(), "not closed its connections, of which there are 1") {
		t.Errorf("got %v, want that a connection is open", err)
	}
	_ = open.Close(t.Context())
	if got := databases(t, s); got != before {
		t.Errorf("it left %s, want %s", got, before)
	}
	name := newName()
	if err := s.copyTo(name, first, func(address string) error { return run(address, []string{members}) }); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s.address(name), `select string_agg(name, ' ') from members`); got != "ada" {
		t.Errorf("got members %q after three that were half filled, want ada", got)
	}
}

// another runs tests in a process of its own, with variables of its own.
func another(t *testing.T, run string, variables ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run", run)
	cmd.Env = append(os.Environ(), variables...)
	return cmd
}

// TestNothingStaysOnAServerThatWasGiven, by two test programs at once whose role
// may create databases and no more. Neither takes the other's databases for its
// own.
func TestNothingStaysOnAServerThatWasGiven(t *testing.T) {
	t.Parallel()
	NeedServer(t)
	s, err := start("")
	if err != nil {
		t.Fatal(err)
	}
	if err := run(s.admin.String(), []string{`create role maker login createdb password 'maker'`}); err != nil {
		t.Fatal(err)
	}
	before := databases(t, s)
	address := strings.Replace(s.admin.String(), s.admin.User.String(), "maker:maker", 1)
	var wait sync.WaitGroup
	for range 2 {
		cmd := another(t, "StartedDatabase|CostsACopy", "HARNESS_POSTGRES="+address)
		wait.Go(func() {
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "databases on "+s.admin.Host) || strings.Count(string(out), "--- PASS") != 2 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wait.Wait()
	if got := databases(t, s); got != before {
		t.Errorf("they left %s, want %s", got, before)
	}
}

func TestWithoutAServerATestIsSkippedAndRedInCI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ci, address, want, line string }{
		{"on a developer's machine", "", "", "--- SKIP: TestStarts", "NOT RUN: PostgreSQL is taken as not installed: RUNCOUNTER_TEST_POSTGRES is none, or give the address of a server that runs in -harness.postgres or HARNESS_POSTGRES"},
		{"in CI", "true", "", "--- FAIL: TestStarts", "PostgreSQL is taken as not installed"},
		{"at an address that is none", "", "localhost", "--- FAIL: TestStarts", "-harness.postgres: write an address such as"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, _ := another(t, "^TestStarts$", startsVariable+"=1", "CI="+c.ci, "HARNESS_POSTGRES="+c.address, pgserver.OwnVariable+"=none").CombinedOutput()
			if !strings.Contains(string(out), c.want) || !strings.Contains(string(out), c.line) {
				t.Errorf("want %s, and %q:\n%s", c.want, c.line, out)
			}
		})
	}
}

const startsVariable = "HARNESS_POSTGRES_STARTS"

// TestStarts is nothing by itself: others start it where there is no server.
func TestStarts(t *testing.T) {
	if os.Getenv(startsVariable) != "" {
		Start(t)
	}
}

// BenchmarkDatabase has what a second database costs beside its control, which
// runs all statements again.
func BenchmarkDatabase(b *testing.B) {
	s := Start(b)
	var statements []string
	for i := range 40 {
		statements = append(statements, fmt.Sprintf(`create table t%d (id bigint primary key, name text not null unique, n int not null check (n >= 0)); create index on t%[1]d (n)`, i))
	}
	drops := func(b *testing.B, name string) {
		b.StopTimer()
		if err := s.drop(name); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.Run("a copy", func(b *testing.B) {
		first := &original{}
		for b.Loop() {
			name := newName()
			if err := s.copyTo(name, first, func(address string) error { return run(address, statements) }); err != nil {
				b.Fatal(err)
			}
			drops(b, name)
		}
	})
	b.Run("each statement again", func(b *testing.B) {
		for b.Loop() {
			name := newName()
			if err := errors.Join(s.create(name, "template0"), run(s.address(name), statements)); err != nil {
				b.Fatal(err)
			}
			drops(b, name)
		}
	})
}
