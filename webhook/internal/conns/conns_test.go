package conns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/wait"
)

// lacking is a listener that has no descriptor for some connections.
type lacking struct {
	net.Listener
	errs []error // of the next accepts
}

func (l *lacking) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	return l.Listener.Accept()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestCasesOfConnections(t *testing.T) {
	t.Run("case D1: a lack of descriptors is waited out", func(t *testing.T) {
		var seen []error
		a := Listen(&lacking{listen(t), []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED}}, 8,
			func(_ Event, err error) { seen = append(seen, err) })
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := a.Accept()
		if err != nil {
			t.Fatalf("Accept: %v, want the connection", err)
		}
		defer got.Close()
		if len(seen) != 5 {
			t.Errorf("%d errors were told, want 5", len(seen))
		}
	})
	t.Run("case D1: an error that does not pass is returned, and a closed listener's too", func(t *testing.T) {
		a := Listen(&lacking{listen(t), []error{syscall.EINVAL}}, 8, func(Event, error) {})
		if _, err := a.Accept(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("got %v, want EINVAL", err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: got %v, want net.ErrClosed", err)
		}
	})
	t.Run("case D1: an accept that waits for a place ends when the listener is closed", func(t *testing.T) {
		a := Listen(listen(t), 1, func(Event, error) {})
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		first, err := a.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		first.(*Conn).Begin()
		first.(*Conn).Show(Trusted)
		ended := make(chan error, 1)
		go func() { _, err := a.Accept(); ended <- err }()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := wait.For(t, "the end of Accept", ended); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want net.ErrClosed", err)
		}
	})
	t.Run("case D1: connections that have shown nothing are closed first", closedFirst)
	t.Run("case D1: a request whose handler has not begun is not taken for silence", unreadIsNoSilence)
	t.Run("case D1: a connection that shows what it is while it is chosen (with the race detector)", func(t *testing.T) {
		a := Listen(listen(t), 2, func(Event, error) {})
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer stop()
		for range 200 {
			c, err := net.Dial("tcp", a.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			conn, err := a.Accept()
			if err != nil {
				t.Fatal(err)
			}
			g := conn.(*Conn)
			all.Go(func() {
				for shown := OfStranger; ctx.Err() == nil && a.holds(g); shown = min(shown+1, Trusted) {
					g.Begin()
					g.Show(shown)
					g.End()
				}
				g.Close()
			})
		}
	})
}

// holds reports whether a connection still has its place.
func (a *Listener) holds(g *Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conns[g]
}

// closedFirst opens connections of each standing, and lets new ones come.
func closedFirst(t *testing.T) {
	a := Listen(listen(t), 6, func(Event, error) {})
	come := func() *Conn {
		t.Helper()
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		g, err := a.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Close() })
		return g.(*Conn)
	}
	names := map[*Conn]string{}
	named := func(name string, busy bool, shown Standing) {
		g := come()
		names[g] = name
		g.Show(shown)
		if busy {
			g.Begin()
		}
	}
	named("a sender at rest", false, Trusted)
	named("a user at rest", false, OfUser)
	named("a sender's request", true, Trusted)
	named("a stranger's request", true, OfStranger)
	named("a stranger at rest", false, OfStranger)
	named("a user's request", true, OfUser)
	var gone []string
	for range 4 {
		come().Show(Trusted)
		for g := range a.conns {
			if g.busy == 0 && names[g] == "" {
				g.Begin()
			}
		}
		for g, name := range names {
			if !a.conns[g] && !slices.Contains(gone, name) {
				gone = append(gone, name)
			}
		}
	}
	if got, want := fmt.Sprint(gone), "[a stranger at rest a stranger's request a user at rest a sender at rest]"; got != want {
		t.Errorf("closed were %s, want %s", got, want)
	}
	if a.mayEnter() {
		t.Error("with requests of users and senders alone, want the next to wait")
	}
}

// unreadIsNoSilence lets more connections come than may be open while two have sent
// a request of which no handler has heard yet: one waits to be read, one was read.
func unreadIsNoSilence(t *testing.T) {
	a := Listen(listen(t), 4, func(Event, error) {})
	come := func(says string) *Conn {
		t.Helper()
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte(says)); err != nil {
			t.Fatal(err)
		}
		g, err := a.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Close() })
		return g.(*Conn)
	}
	silence := func() {
		for range 20 {
			come("")
		}
	}
	const head = "POST / HTTP/1.1"
	read := func(c *Conn) {
		t.Helper()
		if _, err := c.Read(make([]byte, 2*len(head))); err != nil {
			t.Fatal(err)
		}
	}
	waits, parsed := come(head), come(head)
	wait.Until(t, "its bytes have arrived", func() bool { return unread(waits.Conn) })
	read(parsed)
	silence()
	if !a.holds(waits) {
		t.Error("a request that waits to be read was closed for a connection that says nothing")
	}
	if !a.holds(parsed) {
		t.Error("a request that was read was closed for a connection that says nothing")
	}
	read(waits)
	for _, c := range []*Conn{waits, parsed} {
		c.Begin()
		c.End()
	}
	silence()
	if a.holds(waits) || a.holds(parsed) {
		t.Error("answered and silent since, it is still kept before those that came later")
	}
}
