package pgtest

import (
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/internal/pgserver"
)

// Server is a server of a test's own, which can be stopped, killed and started
// again on the same port and the same data.
type Server struct {
	server *pgserver.Server
	query  string // of every address: how to connect
}

// NewServer starts a server of the test's own. What it has acknowledged
// survives Kill.
func NewServer(t testing.TB) *Server {
	t.Helper()
	return newServer(t, pgserver.Options{})
}

func newServer(t testing.TB, options pgserver.Options) *Server {
	t.Helper()
	need.UsesPostgres(t)
	s, err := startServer(options)
	if err != nil {
		giveUp(t, err)
	}
	t.Cleanup(s.server.Close)
	return s
}

func startServer(options pgserver.Options) (*Server, error) {
	binaries, err := pgserver.Find()
	if err != nil {
		return nil, fmt.Errorf("%w, or a superuser's address in %s", err, databaseVariable)
	}
	s, err := pgserver.New(binaries, options)
	if err != nil {
		return nil, err
	}
	return &Server{s, "sslmode=disable"}, nil
}

// Database returns the address, as a superuser, of an empty database on the
// server.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return newDatabase(t, s.admin())
}

// Start starts the server after Stop or Kill, and waits until it accepts
// connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	must(t, s.server.Start())
}

// Stop ends all sessions and shuts the server down.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	must(t, s.server.Stop())
}

// Kill ends the server as a crash of the machine would: kill -9, to the
// postmaster and each of its children. All of them are gone when it returns,
// so no session commits anything afterwards.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	must(t, s.server.Kill())
}

// Log returns what the server has logged since it was last started.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	log, err := s.server.Log()
	must(t, err)
	return log
}

func (s *Server) admin() string {
	return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?%s", Password, s.server.Port(), s.query)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
