package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// Proxy returns the address, on 127.0.0.1, at which another process is the actor
// of that name: a URL for programs in any language. The scenario asks for it in
// each schedule. The actor's function starts the process, or asks a server that
// has the address for something; each statement that comes there until the
// function returns is a step of the actor:
//
//	address := db.Proxy("ada")
//	s.Go("ada", func(ctx context.Context) error {
//		cmd := exec.CommandContext(ctx, "node", "count.mjs")
//		cmd.Env = append(os.Environ(), "DATABASE_URL="+address)
//		return cmd.Run()
//	})
//
// The address is the same in all schedules of an exploration, and closed at its
// end. The function itself does not use the database. Its context ends when the
// actor crashes and when the schedule is over, and its connections with it; those
// that are idle when it returns are kept, as a server's pool does.
//
// A statement that comes while the actor does not run fails the schedule. Those
// that come on several connections at once are taken in the order in which they
// come, one after the other, which the verdict says; where the first waits for a
// lock the schedule fails. A process that neither sends a statement nor ends for
// 30 seconds fails the test, which names its actor: what processes wait for
// beside the database is not explored.
func (d *Database) Proxy(actor string) (address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.proxies[actor]
	if p == nil {
		var err error
		if p, err = d.listen(actor); err != nil {
			panic(fmt.Sprintf("harness: listen for the process of %s: %v", actor, err))
		}
		if d.proxies == nil {
			d.proxies = map[string]*proxy{}
		}
		d.proxies[actor] = p
		d.host().OnClose(p.close)
	}
	d.host().Addressed(actor, p.left)
	return p.url
}

// A proxy takes the connections of an actor's process.
type proxy struct {
	database *Database
	actor    string
	url      string
	config   *pgx.ConnConfig // of the server
	dial     pgconn.DialFunc
	listener net.Listener
	asking   atomic.Int32 // how many of its connections send

	mu     sync.Mutex
	conns  map[*proxied]bool
	closed bool
}

// proxied is one of its connections.
type proxied struct {
	proxy  *proxy
	client net.Conn
	wire   *wire
	gone   chan struct{} // closed when neither is left
}

func (d *Database) listen(actor string) (*proxy, error) {
	config, err := pgx.ParseConfig(d.config.Address)
	if err != nil {
		return nil, err
	}
	p := &proxy{database: d, actor: actor, config: config, dial: takeTLS(config), conns: map[*proxied]bool{}}
	if p.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	query := url.Values{"sslmode": {"disable"}}
	if settings := settingsOf(config.RuntimeParams); settings != "" {
		query.Set("options", settings)
	}
	u := url.URL{Scheme: "postgres", User: url.User(config.User), Host: p.listener.Addr().String(), Path: "/" + config.Database,
		RawQuery: strings.ReplaceAll(query.Encode(), "+", "%20")}
	if config.Password != "" {
		u.User = url.UserPassword(config.User, config.Password)
	}
	p.url = u.String()
	go p.accept()
	return p, nil
}

// settingsOf are those of the address, as a client's startup message has them.
func settingsOf(params map[string]string) string {
	list := []string{params["options"]}
	for name, value := range params {
		if name != "options" {
			value = strings.NewReplacer(`\`, `\\`, " ", `\ `).Replace(value)
			list = append(list, "-c "+name+"="+value)
		}
	}
	slices.Sort(list)
	return strings.TrimSpace(strings.Join(list, " "))
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // it is closed
		}
		go p.serve(client)
	}
}

// serve relays a connection until it ends on either side.
func (p *proxy) serve(client net.Conn) {
	w, err := p.begin(client)
	if w == nil {
		if err != nil {
			refuse(client, err)
		}
		_ = client.Close()
		return
	}
	c := &proxied{proxy: p, client: client, wire: w, gone: make(chan struct{})}
	defer close(c.gone)
	p.mu.Lock()
	if p.conns[c] = true; p.closed {
		_ = client.Close()
	}
	p.mu.Unlock()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_, _ = io.Copy(client, onlyReader{w}) // what ends it, ends the relay too
		_ = client.Close()
	}()
	c.relay()
	_ = client.Close()
	_ = w.Close() // the client has gone, or knows; what it had open is rolled back
	<-answers
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// onlyReader hides that a wire's connection could be copied from directly, past
// the wire.
type onlyReader struct{ io.Reader }

// begin takes what a client begins with. It returns no wire where that was a
// request to cancel a statement, which is passed on.
func (p *proxy) begin(client net.Conn) (*wire, error) {
	for {
		m, code, err := startOf(client)
		if err != nil {
			return nil, err
		}
		switch code {
		case sslCode, gssCode:
			if _, err := client.Write([]byte{'N'}); err != nil {
				return nil, err
			}
			continue
		case cancelCode:
			p.database.host().Unexplored("a request of the process of " + p.actor + " to cancel a statement")
		}
		network, address := pgconn.NetworkAddress(p.config.Host, p.config.Port)
		server, err := p.dial(context.Background(), network, address)
		if err != nil {
			return nil, err
		}
		if code == cancelCode {
			_, err = server.Write(m)
			_, _ = io.Copy(io.Discard, server) // it closes when it has looked
			return nil, errors.Join(err, server.Close())
		}
		w := newWire(server, gateOf(p.database.config.Address))
		w.proxy = p
		if _, err := w.Write(m); err != nil {
			return nil, errors.Join(err, server.Close())
		}
		return w, nil
	}
}

// startOf reads a startup message.
func startOf(client net.Conn) (m []byte, code uint32, err error) {
	const longest = 10_000 // as the server has it
	head := make([]byte, 8)
	if _, err := io.ReadFull(client, head); err != nil {
		return nil, 0, err
	}
	size := binary.BigEndian.Uint32(head)
	if size < 8 || size > longest {
		return nil, 0, fmt.Errorf("a startup message of %d bytes", size)
	}
	m = make([]byte, size)
	_, err = io.ReadFull(client, m[copy(m, head):])
	return m, binary.BigEndian.Uint32(head[4:]), err
}

// relay gives what the client writes to its actor.
func (c *proxied) relay() {
	buffer := make([]byte, 16<<10)
	for {
		n, err := c.client.Read(buffer)
		if err != nil || buffer[0] == 'X' && c.wire.between() { // it says goodbye
			return
		}
		if err := c.write(buffer[:n]); err != nil {
			refuse(c.client, err)
			return
		}
		if c.wire.isLost() {
			return
		}
	}
}

func (c *proxied) write(b []byte) (err error) {
	c.wire.mu.Lock()
	ready := c.wire.ready
	c.wire.mu.Unlock()
	if !ready { // it proves who it is
		_, err = c.wire.Write(b)
		return err
	}
	p := c.proxy
	if p.asking.Add(1) > 1 {
		p.database.host().Unexplored("the statements that the process of " + p.actor + " sends at once")
	}
	defer p.asking.Add(-1)
	asked := p.database.host().Ask(p.actor, func(engine.Actor) { _, err = c.wire.Write(b) })
	if errors.Is(asked, engine.ErrIdle) {
		_, err = c.wire.Write(b) // which lets no step through, see [wire.astray]
		return err
	}
	return errors.Join(asked, err)
}

// between reports whether all that was written were whole messages.
func (w *wire) between() bool {
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.open && len(w.in) == 0
}

// holds reports whether the session is in a transaction, or at work.
func (w *wire) holds() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready && (w.status != 'I' || w.implicit || len(w.expected) > 0)
}

// refuse tells a client why its connection ends.
func refuse(client net.Conn, why error) {
	raw, err := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", Message: why.Error()}).Encode(nil)
	if err == nil {
		_, _ = client.Write(raw) // it may be gone
	}
}

// stray fails the schedule for a statement whose actor does not run.
func (p *proxy) stray() error {
	text := fmt.Sprintf("a statement came to %s, the address of the actor %s, whose function does not run: let it wait for its process, or for the answer that it asks for", p.listener.Addr(), p.actor)
	p.database.host().Unscheduled(text)
	return errors.New("harness: " + text)
}

// held reports whether a statement that waits for a lock of those actors waits
// until one of them goes on. For its own actor it does not, where that has hung up
// on another connection: the server will know soon.
func (p *proxy) held(a engine.Actor, blames []string, since time.Time) bool {
	if p.asking.Load() > 1 {
		p.database.host().Unscheduled(fmt.Sprintf("the process of %s has sent a statement on another connection while one waits for a lock of %s: statements of one address come one after the other",
			p.actor, strings.Join(blames, " and ")))
		return true
	}
	if !slices.Contains(blames, a.Name()) {
		return true
	}
	return time.Since(since) >= restless
}

// restless is how long a process may have a transaction open that nothing ends any
// more but that the process hangs up.
const restless = 2 * time.Second

// left is where the actor's function has returned. What is idle may be the pool of
// a process that lives on; what isn't, has to end with the process. All ends with
// an actor that was killed.
func (p *proxy) left(a engine.Actor) {
	for _, c := range p.list() {
		if a.Dead() == nil {
			if !c.wire.holds() {
				continue
			}
			if !c.comesToRest() {
				p.database.host().Unscheduled(fmt.Sprintf("the function of the actor %s has returned, and its process has a transaction open at %s", p.actor, p.listener.Addr()))
			}
		}
		if a.Dead() != nil || c.wire.holds() {
			_ = c.client.Close()
			<-c.gone
		}
	}
}

// comesToRest reports whether the connection ends soon, or its transaction.
func (c *proxied) comesToRest() bool {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for start := time.Now(); time.Since(start) < restless; {
		select {
		case <-c.gone:
			return true
		case <-look.C:
			if !c.wire.holds() {
				return true
			}
		}
	}
	return false
}

func (p *proxy) list() (conns []*proxied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		conns = append(conns, c)
	}
	return conns
}

// close ends the exploration's address.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, c := range p.list() {
		_ = c.client.Close()
		<-c.gone
	}
}
