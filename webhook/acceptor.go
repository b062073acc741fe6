package webhook

import (
	"cmp"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// mostConns is how many connections are open at most, however many
	// descriptors there are: 2,000 streams, 768 deliveries, and the API. One
	// costs about 30 KB.
	mostConns = 4096
	// leastKept is how many descriptors are left for the database, the log and
	// the project's keys; a quarter of them where that is more.
	leastKept = 64
	// acceptSoonest and acceptLatest bound the pause after a connection could
	// not be accepted for want of something.
	acceptSoonest = 5 * time.Millisecond
	acceptLatest  = time.Second
)

// connsFor returns how many connections may be open where the process may have
// so many file descriptors.
func connsFor(descriptors uint64) int {
	kept := max(leastKept, descriptors/4)
	if descriptors <= kept {
		return 1
	}
	return int(min(mostConns, descriptors-kept))
}

// standing orders connections by what they have shown: the lowest is closed
// first where there are too many.
type standing int

const (
	ofStranger standing = iota
	ofUser              // a signed-in user's token
	trusted             // a secret, an API key, or a session of the console
)

// acceptor is a listener with a bounded number of open connections. When there are
// too many, or no descriptor is left, it closes one that has shown nothing, the
// oldest first; never one on which a user's or a sender's request is under way.
// So strangers that open connections and say nothing cost each other theirs.
//
// A lack of descriptors or of memory ends no process: Accept waits, and goes on.
type acceptor struct {
	net.Listener
	most int
	told func(event connEvent, err error)

	mu     sync.Mutex
	guests map[*guest]bool
	turn   uint64
	change chan struct{} // holds something when a place may have become free
	shut   chan struct{}
	once   sync.Once
}

// connEvent is something that an acceptor counts.
type connEvent string

const (
	turnedOut connEvent = "turned_out" // closed for another connection's sake
	notLetIn  connEvent = "not_accepted"
)

func newAcceptor(ln net.Listener, most int, told func(connEvent, error)) *acceptor {
	return &acceptor{
		Listener: ln, most: max(most, 1), told: told, guests: map[*guest]bool{},
		change: make(chan struct{}, 1), shut: make(chan struct{}),
	}
}

// Close implements net.Listener. Connections stay open.
func (a *acceptor) Close() error {
	a.once.Do(func() { close(a.shut) })
	return a.Listener.Close()
}

// Accept implements net.Listener.
func (a *acceptor) Accept() (net.Conn, error) {
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
		a.told(notLetIn, err)
		if !errors.Is(err, syscall.ECONNABORTED) {
			a.mu.Lock()
			g := a.take(ofStranger)
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
func (a *acceptor) wait(most time.Duration) {
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
func (a *acceptor) mayEnter() bool {
	select {
	case <-a.shut:
		return true
	default:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.guests) < a.most || a.least() != nil
}

func (a *acceptor) enter(conn net.Conn) *guest {
	a.mu.Lock()
	a.turn++
	g := &guest{Conn: conn, of: a, since: a.turn}
	var out *guest
	if len(a.guests) >= a.most {
		out = a.take(trusted)
	}
	a.guests[g] = true
	a.mu.Unlock()
	a.turnOut(out)
	return g
}

// take takes the place of the connection that is worth least, if there is one
// that has shown no more than that: what it shows from here on is too late.
func (a *acceptor) take(most standing) *guest {
	g := a.least()
	if g == nil || g.shown > most {
		return nil
	}
	delete(a.guests, g)
	return g
}

// turnOut closes a connection whose place was taken.
func (a *acceptor) turnOut(g *guest) {
	if g == nil {
		return
	}
	a.told(turnedOut, nil)
	_ = g.Close() // it is gone either way
}

// least returns the connection to close first: strangers that ask for nothing,
// strangers whose request is under way, then those that have shown something
// and ask for nothing now; of each the one that has done so for longest. It
// returns nil where there are none of these.
func (a *acceptor) least() (least *guest) {
	rank := func(g *guest) int { return 2*int(g.shown) + min(g.busy, 1) }
	for g := range a.guests {
		if g.shown > ofStranger && g.busy > 0 {
			continue
		}
		if least == nil || cmp.Or(cmp.Compare(rank(g), rank(least)), cmp.Compare(g.since, least.since)) < 0 {
			least = g
		}
	}
	return least
}

// changed says that a connection was closed, or has become one that can be.
func (a *acceptor) changed() {
	select {
	case a.change <- struct{}{}:
	default:
	}
}

// open returns the number of open connections.
func (a *acceptor) open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.guests)
}

// guest is a connection of an acceptor, which guards its fields.
type guest struct {
	net.Conn
	of    *acceptor
	since uint64 // when it last had a request, else when it came
	shown standing
	busy  int // requests under way
}

// Close implements net.Conn.
func (g *guest) Close() error {
	err := g.Conn.Close()
	g.of.mu.Lock()
	delete(g.of.guests, g)
	g.of.mu.Unlock()
	g.of.changed()
	return err
}

// begin notes that a request is under way, until end.
func (g *guest) begin() {
	if g == nil {
		return
	}
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	g.busy++
}

func (g *guest) end() {
	if g == nil {
		return
	}
	g.of.mu.Lock()
	g.busy--
	g.of.turn++
	g.since = g.of.turn
	full := len(g.of.guests) >= g.of.most
	g.of.mu.Unlock()
	if full {
		g.of.changed()
	}
}

// has notes what was shown on the connection; less than before changes nothing.
func (g *guest) has(shown standing) {
	if g == nil {
		return
	}
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	g.shown = max(g.shown, shown)
}
