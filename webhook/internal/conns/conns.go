// Package conns bounds the open connections of a listener. When there are too many it
// closes those first that have shown neither key nor secret, so that handlers say
// what a connection has shown ([Conn.Show]). It imports Fiber alone. Begin reading
// at [Listener].
package conns

import (
	"cmp"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	// mostConns bounds the open connections, however many
	// descriptors there are: 2,000 streams, 768 deliveries, and the API. One
	// costs about 30 KB.
	mostConns = 4096
	// leastKept is the number of descriptors left for the database, the log and
	// the project's keys; a quarter of them where that is more.
	leastKept = 64
	// acceptSoonest and acceptLatest bound the pause after a connection could
	// not be accepted for want of something.
	acceptSoonest = 5 * time.Millisecond
	acceptLatest  = time.Second
)

// Most returns how many connections may be open where the process may have
// so many file descriptors.
func Most(descriptors uint64) int {
	kept := max(leastKept, descriptors/4)
	if descriptors <= kept {
		return 1
	}
	return int(min(mostConns, descriptors-kept))
}

// Standing orders connections by what they have shown: the lowest is closed
// first where there are too many.
type Standing int

// The standings, lowest first.
const (
	OfStranger Standing = iota
	OfUser              // a signed-in user's token
	Trusted             // a secret, an API key, or a session of the console
)

// Listener is a listener with a bounded number of open connections. When there are
// too many, or no descriptor is left, it closes one that has shown nothing, the
// oldest first; never one on which a user's or a sender's request is under way.
// So strangers that open connections and say nothing cost each other theirs.
//
// A lack of descriptors or of memory ends no process: Accept waits, and goes on.
type Listener struct {
	net.Listener
	most   int
	notify func(event Event, err error)

	mu     sync.Mutex
	conns  map[*Conn]bool
	turn   uint64
	change chan struct{} // holds something when a place may have become free
	shut   chan struct{}
	once   sync.Once
}

// Event is something that a listener tells, to be counted.
type Event string

// The events of a listener.
const (
	TurnedOut   Event = "turned_out" // closed for another connection's sake
	NotAccepted Event = "not_accepted"
)

// Listen returns a listener that accepts from ln, with at most that many connections
// open. notify is called for each event.
func Listen(ln net.Listener, most int, notify func(Event, error)) *Listener {
	return &Listener{
		Listener: ln, most: max(most, 1), notify: notify, conns: map[*Conn]bool{},
		change: make(chan struct{}, 1), shut: make(chan struct{}),
	}
}

// Close implements net.Listener. Connections stay open.
func (a *Listener) Close() error {
	a.once.Do(func() { close(a.shut) })
	return a.Listener.Close()
}

// Accept implements net.Listener.
func (a *Listener) Accept() (net.Conn, error) {
	for pause := acceptSoonest; ; {
		if !a.mayEnter() {
			a.wait(acceptLatest)
			continue
		}
		conn, err := a.Listener.Accept()
		if err == nil {
			return a.enter(conn), nil
		}
		if !passes(err) {
			return nil, err
		}
		a.notify(NotAccepted, err)
		if !errors.Is(err, syscall.ECONNABORTED) {
			a.mu.Lock()
			g := a.take(OfStranger)
			a.mu.Unlock()
			a.turnOut(g)
		}
		a.wait(pause)
		pause = min(2*pause, acceptLatest)
	}
}

// passes reports whether an error of accept is one that passes: of what is
// lacking something may be free in a moment, and a connection that was broken
// off says nothing of the next.
func passes(err error) bool {
	for _, known := range [...]error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, // lacking
		syscall.ECONNABORTED, syscall.EPERM, syscall.EPROTO, // broken off, or refused by a filter
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// wait waits for a change, as long as that at most, and not once it is closed.
func (a *Listener) wait(most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-a.shut:
	case <-a.change:
	case <-timer.C:
	}
}

// mayEnter reports whether there is a place, or one that can be taken away.
// Once it is closed it says so as well: Accept returns why.
func (a *Listener) mayEnter() bool {
	select {
	case <-a.shut:
		return true
	default:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.conns) < a.most || a.least() != nil
}

func (a *Listener) enter(conn net.Conn) *Conn {
	a.mu.Lock()
	a.turn++
	g := &Conn{Conn: conn, of: a, since: a.turn}
	var out *Conn
	if len(a.conns) >= a.most {
		out = a.take(Trusted)
	}
	a.conns[g] = true
	a.mu.Unlock()
	a.turnOut(out)
	return g
}

// take takes the place of the connection that is worth least, if there is one
// that has shown no more than that: what it shows from here on is too late. One
// whose first bytes wait to be read asks for something: in a burst of strangers
// Accept is ahead of the handlers, and none has looked at a sender's request yet.
func (a *Listener) take(most Standing) *Conn {
	for {
		g := a.least()
		if g == nil || g.shown > most {
			return nil
		}
		if g.asks() || !unread(g.Conn) {
			delete(a.conns, g)
			return g
		}
		g.heard.Store(true)
	}
}

// turnOut closes a connection whose place was taken.
func (a *Listener) turnOut(g *Conn) {
	if g == nil {
		return
	}
	a.notify(TurnedOut, nil)
	_ = g.Close() // it is gone either way
}

// least returns the connection to close first: strangers that ask for nothing,
// strangers whose request is under way, then those that have shown something
// and ask for nothing now; of each the one that has done so for longest. It
// returns nil where there are none of these.
func (a *Listener) least() (least *Conn) {
	rank := func(g *Conn) int {
		if g.asks() {
			return 2*int(g.shown) + 1
		}
		return 2 * int(g.shown)
	}
	for g := range a.conns {
		if g.shown > OfStranger && g.busy > 0 {
			continue
		}
		if least == nil || cmp.Or(cmp.Compare(rank(g), rank(least)), cmp.Compare(g.since, least.since)) < 0 {
			least = g
		}
	}
	return least
}

// changed says that a connection was closed, or has become one that can be.
func (a *Listener) changed() {
	select {
	case a.change <- struct{}{}:
	default:
	}
}

// Open returns the number of open connections.
func (a *Listener) Open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.conns)
}

// Conn is a connection of a [Listener], which guards its fields. A nil Conn does
// nothing: the request came through no listener of ours.
type Conn struct {
	net.Conn
	of    *Listener
	since uint64 // when it last had a request, else when it came
	shown Standing
	busy  int         // requests under way
	heard atomic.Bool // bytes have come since the last request ended
}

// Read implements net.Conn. A request of which a part was read is not silence,
// though its handler has not begun.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, err
}

// asks reports whether a request is under way, or has begun to come.
func (c *Conn) asks() bool { return c.busy > 0 || c.heard.Load() }

// Close implements net.Conn.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	c.of.changed()
	return err
}

// Of returns the connection of a request; nil where it came through no listener of
// ours.
func Of(c *fiber.Ctx) *Conn {
	conn, _ := c.Context().Conn().(*Conn)
	return conn
}

// Begin notes that a request is under way, until End.
func (c *Conn) Begin() {
	if c == nil {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.busy++
}

// End notes that a request has ended.
func (c *Conn) End() {
	if c == nil {
		return
	}
	c.of.mu.Lock()
	c.busy--
	c.heard.Store(false)
	c.of.turn++
	c.since = c.of.turn
	full := len(c.of.conns) >= c.of.most
	c.of.mu.Unlock()
	if full {
		c.of.changed()
	}
}

// Show notes what was shown on the connection; less than before changes nothing.
func (c *Conn) Show(shown Standing) {
	if c == nil {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.shown = max(c.shown, shown)
}
