//go:build unix

package pgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A Daemon is a directory, and a program that runs there, one at a time. Both are
// gone after [Daemon.Close], once nothing refers to it, and after the end of this
// process, whichever way that comes (a panic, os.Exit, kill -9): a shell that outlives it reads from a pipe
// that no other process holds; when that closes, it ends the program that was
// named last and removes the directory. Close takes the same way, so that each
// run tests it.
type Daemon struct {
	dir     string
	who     *syscall.Credential
	guard   *exec.Cmd
	pipe    io.WriteCloser
	program *exec.Cmd     // nil before the first
	ended   chan struct{} // closed when it has been reaped
}

const guardScript = `
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
	kill -s "$1" "$pid" 2>/dev/null
	n=0
	while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done
	kill -s KILL "$pid" 2>/dev/null
fi
rm -rf -- "$2"
`

// NewDaemon makes a new directory in parent; "" is the system's for temporary
// files. The signal, such as QUIT, is what ends the program at once; where it
// doesn't within five seconds, KILL does.
func NewDaemon(parent, signal string) (*Daemon, error) {
	// Its name is short, since the path of a socket has to fit into 107 bytes.
	dir, err := os.MkdirTemp(parent, "pgserver")
	if err != nil {
		return nil, err
	}
	d := &Daemon{dir: dir, who: runAs()}
	if err = d.owns(dir); err == nil {
		err = d.startGuard(signal)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return d, nil
}

func (d *Daemon) startGuard(signal string) (err error) {
	d.guard = exec.Command("/bin/sh", "-c", guardScript, "guard", signal, d.dir)
	d.guard.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/bin:/bin"} // for sleep and rm, whatever a test makes of it
	// In a group of its own: Ctrl-C in a terminal must not end it first.
	d.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if d.pipe, err = d.guard.StdinPipe(); err == nil {
		err = d.guard.Start()
	}
	if err != nil {
		return fmt.Errorf("start the guard of a test's server: %w", err)
	}
	return nil
}

// Dir is the directory. It belongs to the user whom programs run as.
func (d *Daemon) Dir() string { return d.dir }

// WriteFile writes a file into the directory.
func (d *Daemon) WriteFile(f File) error {
	path := filepath.Join(d.dir, f.Name)
	if err := os.WriteFile(path, f.Text, f.Mode); err != nil {
		return err
	}
	return d.owns(path)
}

func (d *Daemon) owns(path string) error {
	if d.who == nil {
		return nil
	}
	return os.Chown(path, int(d.who.Uid), int(d.who.Gid))
}

// Run runs a program in the directory to its end. The error has what it said.
func (d *Daemon) Run(program string, args ...string) error {
	cmd := d.command(program, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w%s\n%s", filepath.Base(program), err, d.hint(program, err), out)
	}
	return nil
}

// Launch starts the program, which works in the directory and writes its log
// there. The one before must have ended.
func (d *Daemon) Launch(program string, args ...string) error {
	log, err := os.OpenFile(d.log(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the program has a copy
	cmd := d.command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w%s", filepath.Base(program), err, d.hint(program, err))
	}
	d.watch(cmd.Process.Pid)
	ended := make(chan struct{})
	d.program, d.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	return nil
}

// command is one that runs in the directory, which the other user may enter, and
// in a group of its own.
func (d *Daemon) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = d.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.who, Setpgid: true}
	return cmd
}

// hint says why root was refused.
func (d *Daemon) hint(program string, err error) string {
	if d.who == nil || !errors.Is(err, os.ErrPermission) {
		return ""
	}
	return fmt.Sprintf(": servers refuse root, so that they run as user %d, who must be let into %s and %s", d.who.Uid, filepath.Dir(program), d.dir)
}

// Log is what the program has written since it was last started.
func (d *Daemon) Log() (string, error) {
	text, err := os.ReadFile(d.log())
	return string(text), err
}

func (d *Daemon) log() string { return filepath.Join(d.dir, "log") }

// watch names the process to end; 0 is none.
func (d *Daemon) watch(pid int) {
	line := ""
	if pid != 0 {
		line = strconv.Itoa(pid)
	}
	fmt.Fprintln(d.pipe, line)
}

// Ended reports whether the program has ended.
func (d *Daemon) Ended() bool {
	select {
	case <-d.ended:
		return true
	default:
		return false
	}
}

// Wait waits until the program has ended, which is for it to do within a minute.
func (d *Daemon) Wait() error {
	select {
	case <-d.ended:
		d.watch(0)
		return nil
	case <-time.After(patience):
		return fmt.Errorf("process %d still runs after %v", d.program.Process.Pid, patience)
	}
}

// Close ends the program and removes the directory.
func (d *Daemon) Close() {
	_ = d.pipe.Close()
	_ = d.guard.Wait()
}

// patience is how long anything here may take before it counts as broken; long,
// since the machines that run tests are busy.
const patience = time.Minute

// Until tries again every few milliseconds, for a minute.
func Until(try func() (done bool, err error)) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := try()
		switch {
		case done:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("not within %v: %w", patience, err)
		}
		<-tick.C
	}
}

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
