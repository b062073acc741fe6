// Package pgtest starts throw-away PostgreSQL servers for tests.
//
// One server is shared by all tests of a process, and one more by those that
// want a [Supabase]: started by the first that asks and stopped by [Main]. Each
// test has a database of its own there. Tests that stop, kill or restart a
// server have one to themselves, from [NewServer]. Nothing is shared between processes, and nothing is left behind
// by one that is killed.
//
// The environment decides which PostgreSQL it is:
//
//	RUNCOUNTER_TEST_POSTGRES      a directory that holds postgres and initdb, else
//	                              what [pgserver.Find] finds; none is like a
//	                              machine that has no PostgreSQL
//	RUNCOUNTER_TEST_DATABASE_URL  the address of a superuser on a server that
//	                              runs already, instead of our own; what
//	                              Supabase makes there are its roles, which stay
//	CI                            where set, no server is a failure
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/internal/pgserver"
)

const databaseVariable = "RUNCOUNTER_TEST_DATABASE_URL"

// Password is that of every role that this package makes. Our own
// servers don't ask for it.
const Password = "runcounter"

// patience bounds the time of anything here before it counts as broken; long,
// since the machines that run tests are busy.
const patience = time.Minute

// plain and supabase are the servers that the tests of this process have in
// common. Roles belong to a whole server: a plain database must not see those
// of Supabase.
var plain, supabase sharedServer

type sharedServer struct {
	once   sync.Once
	server *Server
	err    error
}

// Main runs a package's tests, stops the server that they shared, and says what
// was not run:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m *testing.M) {
	need.Main(m, func() {
		forget()
		for _, s := range []*sharedServer{&plain, &supabase} {
			if s.server != nil {
				s.server.server.Close()
			}
		}
	})
}

// Database returns the address, as a superuser, of an empty database on the
// shared server. The test's cleanup drops it. Where there is no server to be
// had the test is skipped, or fails in CI.
func Database(t testing.TB) string {
	t.Helper()
	return newDatabase(t, plain.admin(t))
}

// admin returns a superuser's address on the server, which is started where it
// is not running yet. A server from outside is both.
func (s *sharedServer) admin(t testing.TB) string {
	t.Helper()
	need.UsesPostgres(t)
	if address := os.Getenv(databaseVariable); address != "" {
		return address
	}
	s.once.Do(func() {
		s.server, s.err = startServer(pgserver.Options{ThrowAway: true})
	})
	if s.err != nil {
		giveUp(t, s.err)
	}
	return s.server.admin()
}

// giveUp skips a test that can't have what it needs, or fails it in CI. What is
// installed has to work.
func giveUp(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, pgserver.ErrMissing) {
		t.Fatal(err)
	}
	need.Missing(t, err.Error())
}

// Copy is [Database] with what prepare does to the first of that name: the others
// of this process are copies of it, which costs less than to do it again.
// No session may be connected when prepare has returned.
func Copy(t testing.TB, name string, prepare func(address string)) string {
	t.Helper()
	return copied(t, plain.admin(t), name, prepare)
}

func copied(t testing.TB, admin, name string, prepare func(address string)) string {
	t.Helper()
	entry, _ := prepared.LoadOrStore(name, &original{})
	first := entry.(*original) //nolint:forcetypeassert // the only type in it
	first.mu.Lock()
	if first.name == "" {
		database := newName()
		create(t, admin, database, "template0")
		prepare(edit(t, admin, func(u *url.URL) { u.Path = "/" + database }))
		first.name = database
	}
	first.mu.Unlock()
	return newDatabaseLike(t, admin, first.name)
}

// prepared are the originals of this process by their names.
var prepared sync.Map

type original struct {
	mu   sync.Mutex
	name string // of the database; "" until it is prepared
}

// forget drops the originals where the server goes on without us.
func forget() {
	address := os.Getenv(databaseVariable)
	if address == "" {
		return
	}
	conn, err := connect(address)
	if err != nil {
		return // the server has ended
	}
	defer closeConn(conn)
	prepared.Range(func(_, entry any) bool {
		if name := entry.(*original).name; name != "" { //nolint:forcetypeassert // the only type in it
			_ = execute(conn, `drop database if exists `+name+` with (force)`) // nothing more can be done
		}
		return true
	})
}

func newName() string {
	suffix := make([]byte, 8)
	rand.Read(suffix) // never fails
	return "runcounter_test_" + hex.EncodeToString(suffix)
}

// create copies a database file by file, which costs half of writing each page
// to the log first.
func create(t testing.TB, admin, name, template string) {
	t.Helper()
	Exec(t, admin, `create database `+name+` template `+template+` strategy file_copy`)
}

// newDatabase makes one. It is a copy of template0, since a session may be
// connected to template1.
func newDatabase(t testing.TB, admin string) string {
	t.Helper()
	return newDatabaseLike(t, admin, "template0")
}

func newDatabaseLike(t testing.TB, admin, template string) string {
	t.Helper()
	name := newName()
	create(t, admin, name, template)
	t.Cleanup(func() {
		conn, err := connect(admin)
		if err != nil {
			return // a server that its test has stopped takes its databases along
		}
		defer closeConn(conn)
		if err := execute(conn, `drop database if exists `+name+` with (force)`); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return edit(t, admin, func(u *url.URL) { u.Path = "/" + name })
}

// As returns the address of the same database for another role, which this
// package made, or which the test made with [Password].
func As(t testing.TB, address, role string) string {
	t.Helper()
	return edit(t, address, func(u *url.URL) { u.User = url.UserPassword(role, Password) })
}

// Admin returns the address of the same database for the server's superuser.
func Admin(t testing.TB, address string) string {
	t.Helper()
	if outside := os.Getenv(databaseVariable); outside != "" {
		admin := parse(t, outside)
		return edit(t, address, func(u *url.URL) { u.User = admin.User })
	}
	return As(t, address, "postgres")
}

// With returns the address with parameters set, given as name and value by
// turns.
func With(t testing.TB, address string, parameters ...string) string {
	t.Helper()
	return edit(t, address, func(u *url.URL) {
		query := u.Query()
		for i := 0; i+1 < len(parameters); i += 2 {
			query.Set(parameters[i], parameters[i+1])
		}
		u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq takes a + for a +
	})
}

// Exec runs statements, each of which may hold several, and fails the test
// where one fails. It speaks the simple protocol, which any pooler passes on.
func Exec(t testing.TB, address string, sql ...string) {
	t.Helper()
	conn, err := connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	for _, statement := range sql {
		if err := execute(conn, statement); err != nil {
			t.Fatalf("%v\nin: %s", err, statement)
		}
	}
}

// Vacuum vacuums and analyzes a table until all its pages are known to be visible, on
// which plans depend: an automatic ANALYZE that is under way keeps a page from it.
func Vacuum(t testing.TB, address, table string) {
	t.Helper()
	const most = 15 * time.Second
	for start, settled := time.Now(), false; !settled; {
		if time.Since(start) > most {
			t.Fatalf("not all of %s is visible after %s", table, most)
		}
		Exec(t, address, "vacuum analyze "+table)
		queryRow(t, address, &settled, "select relallvisible >= relpages from pg_class where oid = '"+table+"'::regclass")
	}
}

// Version returns the server's major version, such as 15.
func Version(t testing.TB, address string) int {
	t.Helper()
	var version int
	queryRow(t, address, &version, `select current_setting('server_version_num')::integer / 10000`)
	return version
}

// queryRow reads the one value of the one row of a query, as any pooler passes it on.
func queryRow(t testing.TB, address string, into any, sql string, args ...any) {
	t.Helper()
	conn, err := connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := conn.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...).Scan(into); err != nil {
		t.Fatal(err)
	}
}

// The connections here don't end with the test's context: cleanups run after
// that is done.
func connect(address string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return pgx.Connect(ctx, address)
}

func execute(conn *pgx.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

func parse(t testing.TB, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatalf("%s: write an address such as postgres://postgres@127.0.0.1:5432/postgres", databaseVariable)
	}
	return u
}

func edit(t testing.TB, address string, change func(*url.URL)) string {
	t.Helper()
	u := parse(t, address)
	change(u)
	return u.String()
}
