package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// Server is a server of a test's own, which can be stopped, killed and started
// again on the same port and the same data.
type Server struct {
	binaries string
	dir      string
	port     int
	settings []string
	query    string // of every address: how to connect
	guard    *guard
	process  *process
}

type serverOptions struct {
	throwAway bool // nothing has to survive a crash
	certify   func(dir string, who *syscall.Credential) error
}

// NewServer starts a server of the test's own. What it has acknowledged
// survives Kill.
func NewServer(t testing.TB) *Server {
	t.Helper()
	return newServer(t, serverOptions{})
}

func newServer(t testing.TB, options serverOptions) *Server {
	t.Helper()
	need.UsesPostgres(t)
	binaries, err := findBinaries()
	if err != nil {
		giveUp(t, err)
	}
	s, err := startServer(binaries, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.destroy)
	return s
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
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop ends all sessions and shuts the server down.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.process.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	s.gone(t)
}

// Kill ends the server as a crash of the machine would: kill -9, to the
// postmaster and each of its children. All of them are gone when it returns,
// so no session commits anything afterwards.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	postmaster := s.process.cmd.Process.Pid
	// Stopped first, or it would replace the children that are killed.
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	family := children(postmaster)
	for _, pid := range append(family, postmaster) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	s.gone(t)
	err := until(func() (bool, error) {
		if family = slices.DeleteFunc(family, func(pid int) bool { return !alive(pid) }); len(family) == 0 {
			return true, nil
		}
		return false, fmt.Errorf("of a killed server's processes, %v still run", family)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *Server) gone(t testing.TB) {
	t.Helper()
	if err := s.process.wait(); err != nil {
		t.Fatal(err)
	}
	s.guard.watch(0)
}

// children lists a process's children from /proc. Where there is none, they
// notice their parent's death themselves, and Start waits for that.
func children(parent int) []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if _, ppid, ok := stat(pid); ok && ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive reports whether a process runs. One that nobody reaps does not.
func alive(pid int) bool {
	state, _, ok := stat(pid)
	return ok && state != "Z" && state != "X"
}

func stat(pid int) (state string, ppid int, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, false
	}
	// The name in the second field may hold anything but ends at the last ")".
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return "", 0, false
	}
	ppid, err = strconv.Atoi(fields[1])
	return fields[0], ppid, err == nil
}

func startServer(binaries string, options serverOptions) (s *Server, err error) {
	who := runAs()
	dir, err := makeDir(who)
	if err != nil {
		return nil, err
	}
	g, err := newGuard("QUIT", dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s = &Server{binaries: binaries, dir: dir, guard: g, query: "sslmode=disable"}
	defer func() {
		if err != nil {
			s.destroy()
		}
	}()
	initdb := exec.Command(filepath.Join(binaries, "initdb"), "-D", s.data(), "-U", "postgres",
		"--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	initdb.Dir = dir // a directory that the other user may enter
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	s.settings = []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", "shared_buffers=128MB",
		"log_line_prefix=%m [%p] %u@%d ", "max_prepared_transactions=10", "timezone=UTC",
	}
	if options.throwAway {
		s.settings = append(s.settings, "fsync=off", "full_page_writes=off")
	}
	if options.certify != nil {
		if err := options.certify(dir, who); err != nil {
			return nil, fmt.Errorf("make certificates: %w", err)
		}
		s.settings = append(s.settings, "ssl=on", "ssl_cert_file="+filepath.Join(dir, "server.crt"), "ssl_key_file="+filepath.Join(dir, "server.key"))
		s.query = "sslmode=verify-full&sslrootcert=" + filepath.Join(dir, "ca.crt")
	}
	// Somebody may take the port before the server does.
	for range 5 {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = s.start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// Log returns what the server has logged since it was last started.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) admin() string {
	return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?%s", Password, s.port, s.query)
}

// start starts the server and waits until it accepts connections. One that
// ends by itself is tried again for a while where it was running before: what
// is left of a killed one may still hold its memory.
func (s *Server) start() error {
	again := s.process != nil
	return until(func() (bool, error) {
		if s.process == nil || s.process.ended() {
			if err := s.launch(); err != nil {
				return true, err
			}
		}
		conn, err := connect(s.admin())
		switch {
		case err == nil:
			closeConn(conn)
			return true, nil
		case s.process.ended():
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.guard.watch(0)
			return !again, fmt.Errorf("start PostgreSQL: it ended at once; its log:\n%s", log)
		}
		return false, fmt.Errorf("connect to the server just started: %w", err)
	})
}

func (s *Server) launch() (err error) {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port)}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	if s.process, err = s.guard.launch(s.dir, runAs(), filepath.Join(s.binaries, "postgres"), args...); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	return nil
}

func (s *Server) destroy() { s.guard.end() }

// runAs returns whom servers run as: PostgreSQL and PgBouncer refuse root.
func runAs() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}

// freePort returns a port that nobody listens on, outside the range from which
// systems take the ports of outgoing connections: one of those would hold it
// while a server is down.
func freePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(15000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("find a free port: a hundred tries found none")
}

// findBinaries returns the directory that holds postgres and initdb.
func findBinaries() (string, error) {
	switch dir := os.Getenv(binariesVariable); dir {
	case "":
	case "none":
		return "", fmt.Errorf("PostgreSQL is taken as %w: %s is none", errMissing, binariesVariable)
	default:
		if !holdsServer(dir) {
			return "", fmt.Errorf("%s: there is no postgres and initdb in %s", binariesVariable, dir)
		}
		return dir, nil
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && holdsServer(filepath.Dir(path)) {
			return filepath.Dir(path), nil
		}
	}
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !holdsServer(dir) })
	if len(dirs) == 0 {
		return "", fmt.Errorf("PostgreSQL is %w: install it, or name the directory of its binaries in %s, or a superuser's address in %s", errMissing, binariesVariable, databaseVariable)
	}
	return slices.MaxFunc(dirs, func(a, b string) int { return cmp.Compare(major(a), major(b)) }), nil
}

// major is 15 for /usr/lib/postgresql/15/bin.
func major(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

func holdsServer(dir string) bool {
	for _, name := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}
