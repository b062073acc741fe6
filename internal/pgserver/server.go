//go:build unix

package pgserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Server is a PostgreSQL server that can be stopped, killed and started again on
// the same port and the same data. [Server.Close] or the end of this process ends
// it, and removes its data.
type Server struct {
	binaries string
	settings []string
	port     int
	ran      bool // accepted connections once
	daemon   *Daemon
}

// New makes a server of the binaries in a directory, and returns when it accepts
// connections.
func New(binaries string, options Options) (s *Server, err error) {
	parent := ""
	if options.InMemory && os.Getenv("TMPDIR") == "" {
		parent = memory()
	}
	d, err := NewDaemon(parent, "QUIT")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	s = &Server{binaries: binaries, daemon: d, settings: append([]string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", "shared_buffers=128MB",
		"log_line_prefix=%m [%p] %u@%d ", "max_prepared_transactions=10", "timezone=UTC",
	}, options.Settings...)}
	if options.ThrowAway {
		s.settings = append(s.settings, "fsync=off", "full_page_writes=off")
	}
	if err := s.makeData(options.Password); err != nil {
		return nil, err
	}
	for _, f := range options.Files {
		if err := d.WriteFile(f); err != nil {
			return nil, err
		}
	}
	// Another process may take the port before the server does.
	for range 5 {
		if s.port, err = FreePort(); err != nil {
			return nil, err
		}
		if err = s.Start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func (s *Server) makeData(password string) error {
	args := []string{"-D", s.data(), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"}
	if password == "" {
		return s.daemon.Run(filepath.Join(s.binaries, "initdb"), append(args, "--auth=trust")...)
	}
	secret := filepath.Join(s.daemon.dir, "password")
	if err := s.daemon.WriteFile(File{Name: "password", Mode: 0o600, Text: []byte(password + "\n")}); err != nil {
		return err
	}
	err := s.daemon.Run(filepath.Join(s.binaries, "initdb"), append(args, "--auth=password", "--pwfile", secret)...)
	return errors.Join(err, os.Remove(secret))
}

// Port is the one on 127.0.0.1 that the server listens on.
func (s *Server) Port() int { return s.port }

// Dir is the server's directory, with the files that its options named.
func (s *Server) Dir() string { return s.daemon.dir }

// Log is what the server has logged since it was last started.
func (s *Server) Log() (string, error) { return s.daemon.Log() }

func (s *Server) data() string { return filepath.Join(s.daemon.dir, "data") }

// Start starts the server after [Server.Stop] or [Server.Kill], and returns when it
// accepts connections. One that ends by itself is tried again for a while where it
// was running before: what is left of a killed one may still hold its memory.
func (s *Server) Start() error {
	running := false
	return Until(func() (bool, error) {
		if !running {
			if err := s.launch(); err != nil {
				return true, err
			}
			running = true
		}
		switch {
		case s.daemon.Ended():
			running = false
			s.daemon.watch(0)
			log, _ := s.Log()
			return !s.ran, fmt.Errorf("start PostgreSQL: it ended at once; its log:\n%s", log)
		case s.ready(s.daemon.program.Process.Pid):
			s.ran = true
			return true, nil
		}
		return false, errors.New("the server just started accepts no connections")
	})
}

func (s *Server) launch() error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port)}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	return s.daemon.Launch(filepath.Join(s.binaries, "postgres"), args...)
}

// ready reports whether the server whose postmaster is a process accepts
// connections, or did so when it was killed. It is read where the postmaster
// writes it, as pg_ctl does: who answers on the port may be another server, and
// what a killed one has left says ready too.
func (s *Server) ready(pid int) bool {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	lines := strings.Split(string(text), "\n")
	return err == nil && len(lines) > 7 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

// Stop ends all sessions and shuts the server down.
func (s *Server) Stop() error {
	if err := s.daemon.program.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	return s.daemon.Wait()
}

// Kill ends the server as a crash of the machine would: kill -9, to the
// postmaster and each of its children. All of them are gone when it returns,
// so no session commits anything afterwards.
func (s *Server) Kill() error {
	postmaster := s.daemon.program.Process.Pid
	// Stopped first, or it would replace the children that are killed.
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		return err
	}
	family := children(postmaster)
	for _, pid := range append(family, postmaster) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := s.daemon.Wait(); err != nil {
		return err
	}
	return Until(func() (bool, error) {
		if family = slices.DeleteFunc(family, func(pid int) bool { return !alive(pid) }); len(family) == 0 {
			return true, nil
		}
		return false, fmt.Errorf("of a killed server's processes, %v still run", family)
	})
}

// Close ends the server and removes its data.
func (s *Server) Close() { s.daemon.Close() }

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

// alive reports whether a process runs. A zombie does not.
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

// FreePort returns a port that is free, outside the range from which
// systems take the ports of outgoing connections: one of those would hold it
// while a server is down.
func FreePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(15000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("find a free port: a hundred tries found none")
}
