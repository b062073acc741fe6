package postgres

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A wire is the gate: a connection to the server that reads what the client
// writes message by message, and holds what is a step until its actor is
// chosen. Write returns when the server has answered, so that the step is whole;
// Read gives the answers out.
type wire struct {
	net.Conn  // to the server, in TLS or not
	gate      *gate
	impatient bool   // its reader may be sent away, see [wire.Read]
	proxy     *proxy // whose client writes, or nil

	writing  sync.Mutex
	in       []byte    // written, and no whole message yet
	held     []message // until one comes to which the server answers
	open     bool      // the startup message was sent
	prepared map[string]preparedText
	portals  map[string]portal
	step     *wireStep // that is interrupted by data which it waits for, of COPY

	reading chan struct{} // held by who reads from the server
	news    chan struct{} // closed when something has come; of mu
	buffer  []byte

	mu sync.Mutex // what follows
	serverSide
	lost     error
	user     engine.Actor // who wrote last
	passage  *passage     // of what was written last
	closed   bool
	tx       pending       // the transaction that is open
	isolated bool          // it may have another level of isolation than READ COMMITTED
	flying   chan struct{} // closed when what an actor writes has landed; nil where it has
}

// message is one of the protocol, of the kind that its first byte tells; one of
// the startup has none.
type message struct {
	kind byte
	raw  []byte
}

func (m message) body() []byte { return m.raw[5:] }

const (
	cancelCode = 80877102
	sslCode    = 80877103
	gssCode    = 80877104
)

var (
	flushMessage = []byte{'H', 0, 0, 0, 4}
	syncMessage  = []byte{'S', 0, 0, 0, 4}
)

func newWire(c net.Conn, g *gate) *wire {
	w := &wire{
		Conn: c, gate: g, reading: make(chan struct{}, 1), news: make(chan struct{}), buffer: make([]byte, 16<<10),
		prepared: map[string]preparedText{}, portals: map[string]portal{},
		serverSide: serverSide{parameters: map[string]string{}, told: map[string][]uint32{}},
	}
	g.wires.Store(w, true)
	return w
}

// Write takes messages, and sends them when their actor is chosen.
func (w *wire) Write(b []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.in = append(w.in, b...)
	for {
		m, ok := w.written()
		if !ok {
			return len(b), nil
		}
		if err := w.take(m); err != nil {
			return 0, err
		}
	}
}

// written takes a whole message from what was written.
func (w *wire) written() (message, bool) {
	header := 1
	if !w.open {
		header = 0
	}
	if len(w.in) < header+4 {
		return message{}, false
	}
	size := header + int(binary.BigEndian.Uint32(w.in[header:]))
	if len(w.in) < size {
		return message{}, false
	}
	m := message{raw: append([]byte(nil), w.in[:size]...)}
	if header > 0 {
		m.kind = m.raw[0]
	}
	w.in = w.in[:copy(w.in, w.in[size:])]
	return m, true
}

// take forwards a message, or holds it until one comes to which the server
// answers.
func (w *wire) take(m message) error {
	switch m.kind {
	case 0:
		return w.starts(m)
	case 'P', 'B', 'D', 'C', 'E':
		w.held = append(w.held, m)
		return nil
	case 'S', 'H', 'Q', 'F':
		list := append(w.held, m)
		w.held = nil
		return w.segment(list)
	case 'd':
		if w.step != nil { // sent as one, when it is whole
			w.step.data = append(w.step.data, m)
			return nil
		}
	case 'c', 'f':
		if w.step != nil {
			return w.goOn(m)
		}
		w.mu.Lock()
		w.copying = false
		w.mu.Unlock()
	}
	return w.send(m)
}

// starts forwards what a connection begins with. What it asks of encryption is
// refused here: the wire has its own.
func (w *wire) starts(m message) error {
	switch code := binary.BigEndian.Uint32(m.raw[4:]); code {
	case sslCode, gssCode:
		w.mu.Lock()
		w.out = append(w.out, 'N')
		w.mu.Unlock()
		return nil
	case cancelCode:
		w.mu.Lock()
		w.cancels = true
		w.mu.Unlock()
	default:
		w.open = true
		var start pgproto3.StartupMessage
		if err := start.Decode(m.raw[4:]); err == nil {
			w.mu.Lock()
			w.ours = ours(start.Parameters)
			w.isolated = w.isolated || mentionsIsolation(fmt.Sprint(start.Parameters))
			w.mu.Unlock()
		}
	}
	return w.sendRaw(m.raw)
}

// send writes messages to the server, and notes what it will answer.
func (w *wire) send(list ...message) error {
	var raw []byte
	w.mu.Lock()
	for _, m := range list {
		raw = append(raw, m.raw...)
		w.expectAnswer(m)
	}
	w.mu.Unlock()
	return w.sendRaw(raw)
}

// sendRaw says that it has sent what it swallows: the client can't tell.
func (w *wire) sendRaw(raw []byte) error {
	if w.isLost() {
		return nil
	}
	_, err := w.Conn.Write(raw)
	return err
}

// Read returns what the server answers. Where it owes no answer an actor waits
// for a notification, which is a step; pgx also reads in the background, to be
// able to write, and is sent away.
func (w *wire) Read(b []byte) (int, error) {
	for {
		w.mu.Lock()
		if flying := w.flying; flying != nil { // an answer is told when its actor is chosen to go on
			w.mu.Unlock()
			<-flying
			continue
		}
		if len(w.out) > 0 {
			n := copy(b, w.out)
			w.out = w.out[n:]
			w.mu.Unlock()
			return n, nil
		}
		lost, seen, user := w.lost, w.seen, w.user
		owes := !w.ready || len(w.expected) > 0 || w.cancels || w.closed
		w.mu.Unlock()
		if lost != nil {
			return 0, lost
		}
		if !owes && user != nil {
			a := w.gate.now().actor()
			switch {
			case a != nil:
				if err := w.awaitNotification(a); err != nil {
					return 0, err
				}
				continue
			case w.impatient:
				return 0, os.ErrDeadlineExceeded
			}
		}
		if err := w.receive(seen); err != nil {
			w.mu.Lock()
			rest := len(w.out)
			w.mu.Unlock()
			if rest == 0 {
				return 0, err
			}
		}
	}
}

// receive reads from the server once, unless it has said something since.
func (w *wire) receive(seen int) error {
	w.mu.Lock()
	came, news := w.seen != seen, w.news
	w.mu.Unlock()
	if came {
		return nil
	}
	select {
	case w.reading <- struct{}{}:
	case <-news: // who has read it may wait for more already
		return nil
	}
	defer func() { <-w.reading }()
	w.mu.Lock()
	came = w.seen != seen
	w.mu.Unlock()
	if came {
		return nil
	}
	n, err := w.Conn.Read(w.buffer)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered(w.buffer[:n]); n > 0 {
		close(w.news)
		w.news = make(chan struct{})
	}
	if len(w.reply) > 0 {
		reply := w.reply
		w.reply = nil
		if _, err := w.Conn.Write(reply); err != nil {
			return err
		}
	}
	return err
}

// pump reads until the server owes nothing, or waits for data.
func (w *wire) pump() error {
	for {
		w.mu.Lock()
		done, seen := len(w.expected) == 0 || w.copying, w.seen
		w.mu.Unlock()
		if done {
			return nil
		}
		if err := w.receive(seen); err != nil {
			return err
		}
		if err := w.standsInside(); err != nil {
			return err
		}
	}
}

// hold keeps what the server answers until release is called.
func (w *wire) hold() (release func()) {
	flying := make(chan struct{})
	w.mu.Lock()
	w.flying = flying
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		w.flying = nil
		w.mu.Unlock()
		close(flying)
	}
}

func (w *wire) isLost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost != nil
}

// lose breaks the connection for the client: what it is told is the error.
func (w *wire) lose(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost, w.out = err, nil
}

const goodbye = 5 * time.Second

// Close returns when the server has given up what the connection had open, so
// that what comes next finds none of it.
func (w *wire) Close() error {
	w.known() // its backend may be there for a moment
	w.gate.wires.Delete(w)
	w.mu.Lock()
	if w.closed || w.user == nil || !w.ready {
		w.mu.Unlock()
		return w.Conn.Close()
	}
	w.closed = true
	busy := len(w.expected) > 0 && !w.copying
	w.mu.Unlock()
	if busy {
		w.gate.now().observer.end(w.pid)
	}
	_ = w.SetDeadline(time.Now().Add(goodbye))
	_, _ = w.Conn.Write([]byte{'X', 0, 0, 0, 4})
	for {
		w.mu.Lock()
		seen := w.seen
		w.mu.Unlock()
		if err := w.receive(seen); err != nil {
			return w.Conn.Close()
		}
	}
}

var errLost = io.ErrUnexpectedEOF
