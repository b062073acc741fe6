package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// Config says which database [New] works on.
type Config struct {
	// Address of a database that no other program uses meanwhile. Its role owns
	// the tables, or is a superuser. Where it is neither that nor has the right to
	// set log_lock_waits and deadlock_timeout, each wait for a lock costs a second.
	Address string
	// Setup fills the database, once for a test: every schedule finds the
	// tables, rows and sequences that it left.
	Setup func(address string) error
	// Faults are what the database may do beside what it was asked to:
	// [harness.LostBefore] and [harness.LostAfter] fail a COMMIT with an error that doesn't
	// tell whether it took effect. See [harness.Sim.Faults].
	Faults []harness.Fault

	// StepInto are functions and procedures in plpgsql whose statements are steps,
	// as those of an actor are; without it a call is one step, and the verdict names
	// the function. Each is a pattern of [path.Match] for schema and name, such as
	// public.begin_run, app.* or *. The role has to own them. For as long as the
	// database is explored, their bodies have gates in them.
	StepInto []string

	unreduced bool // leaves out no order; for tests

	held func(engine.Actor) // sees who waits for a lock; for tests
}

// Database is a real PostgreSQL database whose every statement is a step.
// The gate is in the protocol: what an actor writes on a connection of
// [Database.Gate] or [Database.Dial] is read before the server
// has it, whatever driver writes it and with whatever context. Each statement of
// a batch or pipeline is a step of its own, and of a query of several, but where
// one of them is a COPY or the like: then the verdict names it. A COPY is one
// step. None are what prepares a
// statement, empty ones, settings of the session, and, outside of a transaction,
// those that read no table but the catalogs of types and names, as drivers do.
//
// Actors are goroutines there, since a
// statement that waits for a lock waits in PostgreSQL; which do, and for whom,
// is told by pg_blocking_pids.
//
// A statement that had to wait is two steps: when it was sent, and when the
// actor goes on with its answer. What one COMMIT lets go on at once is
// PostgreSQL's to order, so that not every replay comes out the same: what
// does not is tried again, and counted (see [harness.Covered]).
//
// Orders of statements that touch no table of each other's are left out as equivalent,
// at READ COMMITTED: what a statement touches is read from its text, and from the
// catalogs. While one waits for a lock, and of what a text does not tell for certain,
// none are left out. As on other engines, actors that tell each other something by
// variables need a [harness.Sim.Step] before it.
//
// A connection that leads past the gate fails the schedule in which an actor uses it.
type Database struct {
	hosted   atomic.Pointer[engine.Host] // of the schedule
	config   Config
	observer *observer
	refill   string
	came     atomic.Bool // something of an actor's through the gate
	beside   beside
	stepped  *stepping // nil where no function is stepped through

	mu      sync.Mutex
	proxies map[string]*proxy       // by their actors
	users   map[uint32]engine.Actor // of backends, in this schedule
	wires   map[uint32]*wire
	types   *pgtype.Map
	catalog *catalog // the same
	// Something has changed what statements touch: nothing is known of them any more.
	// The second says that it did in this schedule.
	opaque, opaqueNow bool
	inside            *insides // nil where the database may run what it didn't when it was looked at
}

// New returns the database of this schedule. The scenario calls it in the same
// order each time.
func New(s *harness.Sim, config Config) *Database {
	host := s.Engine()
	host.Outside()
	host.Unsteady()
	d := engine.Next(host, func(int) *Database {
		d := &Database{config: config}
		if err := d.make(host); err != nil {
			panic(fmt.Sprintf("harness: set up a PostgreSQL database: %v", err))
		}
		return d
	})
	d.hosted.Store(&host)
	s.OnEnd(d.compare)
	gateOf(config.Address).database.Store(d)
	d.forget()
	if err := d.observer.exec(d.refill); err != nil {
		panic(fmt.Sprintf("harness: put a PostgreSQL database back to its beginning: %v", err))
	}
	return d
}

func (d *Database) make(host engine.Host) (err error) {
	if d.config.Setup != nil {
		if err := d.config.Setup(d.config.Address); err != nil {
			return err
		}
	}
	if d.observer, err = observe(d.config.Address); err != nil {
		return err
	}
	host.OnClose(d.leave)
	if len(d.config.StepInto) > 0 {
		if d.stepped, err = d.observer.stepsInto(d.config.StepInto); err != nil {
			return errors.Join(err, d.stepped.undone(d.observer))
		}
	}
	d.refill, err = d.observer.keep()
	return err
}

// compare holds what was scheduled to what the scenario is about. On each
// connection the server's answers are held to the steps already, see [wire.ends];
// connections that lead past the gate are not seen there.
func (d *Database) compare() {
	if !d.came.Load() && d.host().Whole() {
		d.host().Unscheduled("no statement of an actor came through the gate of the PostgreSQL database: give each configuration that connects to it to its method Gate, or let the driver dial by its method Dial")
	}
}

// leave puts the database back to what Setup left, and keeps nothing there.
func (d *Database) leave() {
	if d.refill != "" {
		_ = d.observer.exec(d.refill) // it may be gone
	}
	_ = d.stepped.undone(d.observer)
	d.observer.close()
}

// Address is that of the database.
func (d *Database) Address() string { return d.config.Address }

// Gate makes every statement on the connections of this configuration a step of
// the actor that sends it. TLS is between the gate and the server from now on.
func (d *Database) Gate(config *pgx.ConnConfig) {
	dial := takeTLS(config)
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w := newWire(c, gateOf(d.config.Address))
		w.impatient = true
		return w, nil
	}
}

// Pool returns a pool of connections to the database whose every statement is a step
// of the actor that sends it. The caller closes it: with the test where it serves all
// schedules, with [harness.Sim.OnEnd] where it is of one. What configure changes of
// the configuration comes after [Database.Gate], and before the first connection.
func (d *Database) Pool(ctx context.Context, configure ...func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(d.Address())
	if err != nil {
		return nil, fmt.Errorf("read the address of the database: %w", err)
	}
	d.Gate(config.ConnConfig)
	for _, change := range configure {
		change(config)
	}
	return pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
}

// takeTLS takes encryption from a configuration, and returns a function that dials
// with it.
func takeTLS(config *pgx.ConnConfig) pgconn.DialFunc {
	dial, secure, optional := config.DialFunc, config.TLSConfig, config.TLSConfig == nil
	config.TLSConfig, config.SSLNegotiation = nil, ""
	for _, f := range config.Fallbacks {
		optional = optional || f.TLSConfig == nil
		f.TLSConfig = nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err == nil && secure != nil && network != "unix" {
			return encrypt(ctx, c, secure, optional)
		}
		return c, err
	}
}

// Dial is a gated connection for a driver other than pgx: most take a function
// that dials. It asks for no encryption, and refuses it.
func (d *Database) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newWire(c, gateOf(d.config.Address)), nil
}

// encrypt asks the server for TLS.
func encrypt(ctx context.Context, c net.Conn, config *tls.Config, optional bool) (net.Conn, error) {
	request, err := (&pgproto3.SSLRequest{}).Encode(nil)
	if err != nil {
		return nil, err
	}
	answer := make([]byte, 1)
	if _, err = c.Write(request); err == nil {
		_, err = io.ReadFull(c, answer)
	}
	switch {
	case err != nil:
	case answer[0] == 'S':
		secure := tls.Client(c, config)
		if err = secure.HandshakeContext(ctx); err == nil {
			return secure, nil
		}
	case optional:
		return c, nil
	default:
		err = errors.New("the server refuses TLS")
	}
	return nil, errors.Join(err, c.Close())
}

// A gate is what the connections to a database lead through. They outlive an
// exploration where a test keeps its pools, and are scheduled in the next.
type gate struct {
	database atomic.Pointer[Database]
	wires    sync.Map // those that are open
}

func (g *gate) now() *Database { return g.database.Load() }

var gates sync.Map // by address

func gateOf(address string) *gate {
	g, _ := gates.LoadOrStore(address, &gate{})
	return g.(*gate) //nolint:forcetypeassert // the only type in it
}

// host is the scheduler in the schedule that has asked for the database last.
func (d *Database) host() engine.Host { return *d.hosted.Load() }

// actor is that whose goroutine calls, or nil.
func (d *Database) actor() engine.Actor { return d.host().Here() }

// uses notes who has a backend.
func (d *Database) uses(w *wire, a engine.Actor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users[w.pid], d.wires[w.pid] = a, w
}

// forget begins a schedule, in which no actor has a backend, nor any lock that a
// session holds.
func (d *Database) forget() {
	d.mu.Lock()
	wires := slices.Collect(maps.Values(d.wires))
	d.users, d.wires = map[uint32]engine.Actor{}, map[uint32]*wire{}
	d.mu.Unlock()
	for _, w := range wires {
		w.cleans()
	}
	d.opensGates()
}

// Crashed ends what a dead process had open. A connection that was idle is the
// pool's still, and serves the process that takes the dead one's place.
func (d *Database) Crashed(a engine.Actor) {
	d.mu.Lock()
	had := map[uint32]*wire{}
	for pid, user := range d.users {
		if user == a {
			had[pid] = d.wires[pid]
			delete(d.users, pid)
		}
	}
	d.mu.Unlock()
	for _, pid := range slices.Sorted(maps.Keys(had)) {
		if !had[pid].cleans() {
			d.observer.end(pid)
		}
	}
}

func (d *Database) userOf(pid int32) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.users[uint32(pid)]; a != nil {
		return a.Name()
	}
	return ""
}

// Traits is what reports need to know of PostgreSQL.
func (d *Database) Traits() engine.Traits { return traits() }

func traits() engine.Traits {
	const before = "lock one row that both take, by a statement before the read (for update), or run both as serializable"
	return engine.Traits{KeepRow: "read it with for update", ComeFirst: before, ReadAfresh: before, Packages: []string{"github.com/edgaze-ai/runcounter/harness/postgres."}}
}

// A passage is a statement on its way to the server.
type passage struct {
	database *Database
	actor    engine.Actor
	proxy    *proxy // by which it came from another process, or nil
	pid      uint32
	looked   atomic.Bool   // for a deadlock, see [lockWord]
	patience time.Duration // until it has, where it doesn't say so
}

// Held reports whether the statement waits for a lock.
func (p *passage) Held(since time.Time) (blames string, held bool) {
	names, stable := p.database.blockers(p)
	held = stable && (p.looked.Load() || time.Since(since) >= p.patience) && (p.proxy == nil || p.proxy.held(p.actor, names, since))
	if see := p.database.config.held; held && see != nil {
		see(p.actor)
	}
	return strings.Join(names, " and "), held
}

// Abort ends the backend.
func (p *passage) Abort() { p.database.observer.end(p.pid) }

// blockers says whom a statement waits for, and whether that stays so until one
// of the actors goes on: two looks must agree that all that wait do so,
// in the end, for a backend of ours that has nothing to do.
func (d *Database) blockers(p *passage) (names []string, stable bool) {
	var pids []int32
	for _, f := range d.host().Underway(p.actor) {
		if other, ok := f.(*passage); ok && other.database == d {
			pids = append(pids, int32(other.pid))
		}
	}
	before, _, ok := d.observer.standing(pids, d.userOf)
	if !ok {
		return nil, false
	}
	after, behind, ok := d.observer.standing(pids, d.userOf)
	if !ok || before != after {
		return nil, false
	}
	for _, pid := range behind[int32(p.pid)] {
		if name := d.userOf(pid); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, len(names) > 0
}
