//go:build unix

package pgserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// leakVariable makes this program start a server as a test does, and never come
// to an end.
const leakVariable = "PGSERVER_LEAK"

func TestMain(m *testing.M) {
	if os.Getenv(leakVariable) != "" {
		leak()
	}
	need.Main(m)
}

func leak() {
	binaries, err := Find()
	if err != nil {
		panic(err)
	}
	s, err := New(binaries, Options{ThrowAway: true})
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stdout, "%d\n%s\n", s.Port(), s.Dir())
	select {}
}

func TestCaseO7_WithGoAloneNothingIsRed(t *testing.T) {
	t.Parallel()
	need.Alone(t, ".")
}

// start is a server of the test's own.
func start(t *testing.T, options Options) *Server {
	t.Helper()
	need.UsesPostgres(t)
	binaries, err := Find()
	if errors.Is(err, ErrMissing) {
		need.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	options.ThrowAway = true
	s, err := New(binaries, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ask returns what a query on the server of a port answers with.
func ask(t *testing.T, port int, password, query string) (answer string, err error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?sslmode=disable", password, port))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	return answer, conn.QueryRow(ctx, query).Scan(&answer)
}

func directory(t *testing.T, port int) string {
	t.Helper()
	dir, err := ask(t, port, "", `show data_directory`)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(dir)
}

// TestWhoAnswersOnThePortMayBeAnother: between the choice of a port and the start
// of a server another test program may take the port, for a server of its own.
func TestWhoAnswersOnThePortMayBeAnother(t *testing.T) {
	t.Parallel()
	theirs, ours := start(t, Options{}), start(t, Options{})
	if err := ours.Stop(); err != nil {
		t.Fatal(err)
	}
	own := ours.port
	ours.port, ours.ran = theirs.port, false
	if err := ours.Start(); err == nil || !strings.Contains(err.Error(), "its log") {
		t.Errorf("got %v on a port that is taken, want what the log says", err)
	}
	if got := directory(t, theirs.Port()); got != theirs.Dir() {
		t.Errorf("on their port answers the server of %s", got)
	}
	ours.port = own
	if err := ours.Start(); err != nil {
		t.Fatal(err)
	}
	if got := directory(t, ours.Port()); got != ours.Dir() {
		t.Errorf("got the server of %s, want that of %s", got, ours.Dir())
	}
}

// TestWhatAKilledServerLeftIsNoSignOfLife: its directory says that it is ready.
func TestWhatAKilledServerLeftIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	for range 3 {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid")); err != nil || !strings.Contains(string(text), "ready") {
			t.Fatalf("it left %q, %v; want that it says ready", text, err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		directory(t, s.Port())
	}
}

// TestAKilledTestLeavesNothingBehind, and the server of the next is another.
func TestAKilledTestLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	if _, err := Find(); err != nil {
		need.Missing(t, err.Error())
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), leakVariable+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	text, _ := lines.ReadString('\n')
	dir, _ := lines.ReadString('\n')
	port, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatalf("the helper did not start a server: %v", err)
	}
	dir = strings.TrimSpace(dir)
	if got := directory(t, port); got != dir {
		t.Fatalf("got the server of %s, want that of %s", got, dir)
	}
	ours := start(t, Options{}) // two test programs at once
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	err = Until(func() (bool, error) {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		return false, errors.New("its directory is still there")
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := ask(t, port, "", `select 'up'`); err == nil {
		t.Error("its server still answers")
	}
	if got := directory(t, ours.Port()); got != ours.Dir() || got == dir {
		t.Errorf("got the server of %s, want that of %s", got, ours.Dir())
	}
}

func TestAPasswordIsAskedOfEveryone(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Password: "the right one"})
	for password, want := range map[string]string{"the%20right%20one": "", "another": "28P01", "": "28P01"} {
		_, err := ask(t, s.Port(), password, `select 'in'`)
		var refused *pgconn.PgError
		code := ""
		if errors.As(err, &refused) {
			code = refused.Code
		}
		if code != want || want == "" && err != nil || want != "" && err == nil {
			t.Errorf("password %q: got %v, want %q", password, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "password")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file with the password: got %v, want none", err)
	}
}

func TestDataLiesInMemoryWhereThereIsRoom(t *testing.T) {
	t.Setenv("TMPDIR", "")
	room := memory()
	if room == "" {
		room = os.TempDir()
	}
	if s := start(t, Options{InMemory: true}); filepath.Dir(s.Dir()) != room {
		t.Errorf("got it in %s, want it in %s", s.Dir(), room)
	}
	dir, err := os.MkdirTemp("", "elsewhere") //nolint:usetesting // another user may not enter the test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	if s := start(t, Options{InMemory: true}); filepath.Dir(s.Dir()) != os.TempDir() {
		t.Errorf("got it in %s, want it where $TMPDIR says: %s", s.Dir(), os.TempDir())
	}
}

// TestRootIsToldWhomItRunsAs: programs that only root may enter can't be run.
func TestRootIsToldWhomItRunsAs(t *testing.T) {
	t.Parallel()
	need.Root(t, "be refused as another")
	dir := install(t, filepath.Join(t.TempDir(), "closed"), "postgres", "initdb")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := New(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "must be let into "+dir) {
		t.Errorf("got %v, want who must be let in", err)
	}
}
