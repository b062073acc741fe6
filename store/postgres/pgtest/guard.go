package pgtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A guard outlives the test process, whichever way that ends (a panic, os.Exit,
// kill -9), by reading from a pipe that no other process holds: when that closes, it
// ends the process that was named last and removes the directory. The normal
// end takes the same way, so each run tests it.
type guard struct {
	pipe io.WriteCloser
	cmd  *exec.Cmd
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

// newGuard watches over a directory, and over one process that uses it.
// signal, such as QUIT, is what ends that process at once.
func newGuard(signal, dir string) (*guard, error) {
	// In a group of its own: Ctrl-C in a terminal must not end it first.
	cmd := exec.Command("sh", "-c", guardScript, "guard", signal, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard of the test's server: %w", err)
	}
	return &guard{pipe: pipe, cmd: cmd}, nil
}

// watch names the process to end; 0 is none.
func (g *guard) watch(pid int) {
	line := ""
	if pid != 0 {
		line = fmt.Sprint(pid)
	}
	fmt.Fprintln(g.pipe, line)
}

// launch starts a program that writes its log into a directory, where it works, and
// watches it.
func (g *guard) launch(dir string, who *syscall.Credential, program string, args ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the program has a copy
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g.watch(cmd.Process.Pid)
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end ends the process and removes the directory.
func (g *guard) end() {
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}

// process is a server's process, reaped as soon as it ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) wait() error {
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("process %d still runs after %v", p.cmd.Process.Pid, patience)
	}
}

// until tries again every few milliseconds, for as long as our patience lasts.
func until(try func() (done bool, err error)) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
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

// makeDir makes a directory that belongs to who runs the servers. Its name is
// short, since the path of a socket has to fit into 107 bytes.
func makeDir(who *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil || who == nil {
		return dir, err
	}
	return dir, os.Chown(dir, int(who.Uid), int(who.Gid))
}
