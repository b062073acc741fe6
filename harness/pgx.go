package harness

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres says which database [Sim.Postgres] works on.
type Postgres struct {
	// Address of a superuser on a database that nobody else uses meanwhile.
	Address string
	// Setup fills the database, once for a test: every schedule finds the
	// tables, rows and sequences that it left.
	Setup func(address string) error
	// Faults are what the database may do beside what it was asked to:
	// [LostBefore] and [LostAfter] fail a COMMIT with an error that doesn't
	// tell whether it took effect. See [Sim.Faults].
	Faults []Fault
}

// PostgresDatabase is a real PostgreSQL database whose every statement through
// pgx, or batch of them, is a step. Actors are goroutines there, since a
// statement that waits for a lock waits in PostgreSQL; which do, and for whom,
// is told by pg_blocking_pids.
//
// A statement that had to wait is two steps: when it was sent, and when the
// actor goes on with its answer. What one COMMIT lets go on at once is
// PostgreSQL's to order, so that not every replay comes out the same: what
// does not is tried again, and counted (see [Covered]). Nothing is known of
// what a statement touches, so that no orders are left out as equivalent.
type PostgresDatabase struct {
	x        *explorer
	config   Postgres
	observer observer
	refill   string

	mu    sync.Mutex
	users map[uint32]*actor // of backends, in this schedule
}

// Postgres returns the database of this schedule. The scenario calls it in the
// same order each time.
func (s *Sim) Postgres(config Postgres) *PostgresDatabase {
	s.goroutines = true
	i := s.servers
	s.servers++
	if i == len(s.x.home.servers) {
		d := &PostgresDatabase{config: config}
		if err := d.make(s.x.home); err != nil {
			panic(fmt.Sprintf("harness: set up a PostgreSQL database: %v", err))
		}
		s.x.home.servers = append(s.x.home.servers, d)
		s.x.home.engines = append(s.x.home.engines, d)
	}
	d := s.x.home.servers[i]
	d.x, d.users = s.x, map[uint32]*actor{}
	if err := d.observer.exec(d.refill); err != nil {
		panic(fmt.Sprintf("harness: put a PostgreSQL database back to its beginning: %v", err))
	}
	return d
}

func (d *PostgresDatabase) make(h *home) (err error) {
	if d.config.Setup != nil {
		if err := d.config.Setup(d.config.Address); err != nil {
			return err
		}
	}
	if d.observer, err = observe(d.config.Address); err != nil {
		return err
	}
	h.onClose(d.observer.close)
	d.refill, err = d.observer.keep()
	return err
}

// Address is that of the database.
func (d *PostgresDatabase) Address() string { return d.config.Address }

// Gate makes every statement on the connections of this configuration a step
// of the actor whose context it is given. Statements with another context,
// such as a rollback with one that can't be cancelled, are none.
func (d *PostgresDatabase) Gate(config *pgx.ConnConfig) {
	config.Tracer = tracer{d}
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &wire{Conn: c}, nil
	}
	sayWhenLooked(config)
	notice := config.OnNotice
	config.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
		if waits, said := lockWord(n); said {
			if a := wireUnder(conn.Conn()).user.Load(); a != nil {
				a.looked.Store(waits)
			}
		} else if n.SeverityUnlocalized != "LOG" && notice != nil {
			notice(conn, n)
		}
	}
}

// sayWhenLooked has connections look for deadlocks soon, and say so to us, in
// English. It returns the settings for that, which are a superuser's.
func sayWhenLooked(config *pgx.ConnConfig) []string {
	if config.RuntimeParams["deadlock_timeout"] == "" {
		config.RuntimeParams["deadlock_timeout"] = "1ms"
	}
	config.RuntimeParams["log_lock_waits"] = "on"
	config.RuntimeParams["client_min_messages"] = "log"
	config.RuntimeParams["lc_messages"] = "C"
	return []string{"deadlock_timeout", "log_lock_waits", "lc_messages"}
}

// lockWord reads what PostgreSQL says, after deadlock_timeout, of a statement
// that waits for a lock: that it waits still, or that it has the lock. It says
// the first when it has looked for a deadlock, which it does once: a circle that
// is closed afterwards is found by the one who closes it, so that it is always
// that one who is ended. Without its word, on a busy machine, it is either of
// them.
func lockWord(n *pgconn.Notice) (waits, said bool) {
	said = n.SeverityUnlocalized == "LOG" && n.Routine == "ProcSleep"
	return said && strings.Contains(n.Message, "still waiting"), said
}

// lookPatience is how long it is waited for; a statement may have switched such
// messages off, and only a superuser can switch them on.
const lookPatience = time.Second

// A wire is a connection to the server that can be lost.
type wire struct {
	net.Conn
	lost atomic.Int32 // a Fault
	user atomic.Pointer[actor]
}

// Write says that it has sent what it swallows: nobody can tell.
func (w *wire) Write(b []byte) (int, error) {
	if Fault(w.lost.Load()) == LostBefore {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Read(b []byte) (int, error) {
	switch Fault(w.lost.Load()) {
	case LostBefore:
		return 0, io.ErrUnexpectedEOF
	case LostAfter: // its answer tells us that it took effect
		for {
			n, err := w.Conn.Read(b)
			if err != nil {
				return 0, err
			}
			if answers(b[:n]) {
				return 0, io.ErrUnexpectedEOF
			}
			if a := w.user.Load(); a != nil {
				a.looked.Store(true)
			}
		}
	}
	return w.Conn.Read(b)
}

// answers reports whether messages of the server hold more than what precedes
// an answer: that a statement was parsed (1), bound (2) and described (t, T, n),
// and notices (N), such as that it waits.
func answers(messages []byte) bool {
	for len(messages) >= 5 {
		if !bytes.ContainsRune([]byte("12tTnN"), rune(messages[0])) {
			return true
		}
		messages = messages[min(len(messages), 1+int(binary.BigEndian.Uint32(messages[1:]))):]
	}
	return false
}

func wireOf(conn *pgx.Conn) *wire { return wireUnder(conn.PgConn().Conn()) }

func wireUnder(c net.Conn) *wire {
	if inner, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = inner.NetConn()
	}
	return c.(*wire)
}

// crashed ends what a dead process had open.
func (d *PostgresDatabase) crashed(a *actor) {
	d.mu.Lock()
	var pids []uint32
	for pid, user := range d.users {
		if user == a {
			pids = append(pids, pid)
			delete(d.users, pid)
		}
	}
	d.mu.Unlock()
	slices.Sort(pids)
	for _, pid := range pids {
		d.observer.end(pid)
	}
}

func (d *PostgresDatabase) userOf(pid int32) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.users[uint32(pid)]; a != nil {
		return a.name
	}
	return ""
}

// startGoroutine is [actor.start] for those who wait in PostgreSQL.
func (a *actor) startGoroutine(body func()) {
	in, out := make(chan struct{}), make(chan bool, 1)
	a.out = out
	stopped := false
	a.flight.Store(grounded)
	a.yield = func(struct{}) bool {
		out <- true
		<-in
		return !stopped
	}
	go func() {
		<-in
		body()
		out <- false
	}()
	a.next = func() (struct{}, bool) {
		in <- struct{}{}
		return struct{}{}, a.land(out)
	}
	a.stop = func() {
		stopped = true
		if a.flight.CompareAndSwap(sent, blocked) || a.flight.Load() == blocked && !a.arrived {
			a.server.observer.end(a.pid)
			<-out
		}
		in <- struct{}{}
		if <-out {
			panic("harness: an actor goes on after its end")
		}
	}
}

// land waits until the actor stands at its next gate, has returned, or waits
// for a lock.
func (a *actor) land(out chan bool) (alive bool) {
	start := time.Now()
	for pause := 300 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		select {
		case alive := <-out:
			return alive
		case <-time.After(pause):
		}
		if a.flight.Load() != sent {
			continue
		}
		blames, stable := a.server.blockers(a)
		if !stable || !a.looked.Load() && time.Since(start) < lookPatience || !a.flight.CompareAndSwap(sent, blocked) {
			if time.Since(start) > postgresPatience && a.flight.Load() == sent {
				panic(fmt.Sprintf("harness: PostgreSQL has neither answered nor blocked %s for %s: %s", a.name, postgresPatience, a.op.text))
			}
			continue
		}
		a.tell("waits for " + blames)
		a.op = op{
			text: "… goes on", foot: footprint{everything: true},
			ready: func() bool {
				if !a.arrived {
					a.arrived = a.server.arrives(a, out)
				}
				return a.arrived
			},
			blames: func() string { blames, _ := a.server.blockers(a); return blames },
		}
		return true
	}
}

// arrives waits until a statement that was blocked has its answer, or is found
// to be blocked still.
func (d *PostgresDatabase) arrives(a *actor, out chan bool) bool {
	deadline := time.Now().Add(postgresPatience)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		select {
		case <-out:
			return true
		default:
		}
		if _, stable := d.blockers(a); stable {
			return false
		}
		select {
		case <-out:
			return true
		case <-time.After(pause):
		}
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("harness: PostgreSQL has neither answered nor blocked %s for %s", a.name, postgresPatience))
		}
	}
}

// blockers says whom an actor waits for, and whether that stays so until one of
// the actors goes on: two looks must agree that everybody who waits does so, in
// the end, for a backend of ours that has nothing to do.
func (d *PostgresDatabase) blockers(a *actor) (names string, stable bool) {
	var pids []int32
	for _, other := range a.sim.actors {
		if other != a && other.flight.Load() == blocked && !other.arrived {
			select { // who stands in front of it may have its answer, and be idle
			case <-other.out:
				other.arrived = true
			default:
			}
		}
		if f := other.flight.Load(); other.server == d && (f == blocked && !other.arrived || f == sent) {
			pids = append(pids, int32(other.pid))
		}
	}
	before, _, ok := d.observer.standing(pids, d.userOf)
	if !ok {
		return "", false
	}
	after, behind, ok := d.observer.standing(pids, d.userOf)
	if !ok || before != after {
		return "", false
	}
	var list []string
	for _, pid := range behind[int32(a.pid)] {
		if name := d.userOf(pid); !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return strings.Join(list, " and "), len(list) > 0
}

// observer is a connection that looks at the others.
type observer struct{ conn *pgx.Conn }

func observe(address string) (observer, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return observer{}, err
	}
	config.RuntimeParams["application_name"] = "harness"
	conn, err := pgx.ConnectConfig(context.Background(), config)
	return observer{conn}, err
}

func (o observer) close() { _ = o.conn.Close(context.Background()) }

func (o observer) exec(text string) error {
	_, err := o.conn.Exec(context.Background(), text, pgx.QueryExecModeSimpleProtocol)
	return err
}

// end ends a backend, and returns when it is gone.
func (o observer) end(pid uint32) {
	if err := o.exec(fmt.Sprintf(`do $$ begin
perform pg_terminate_backend(%d);
while exists (select from pg_stat_activity where pid = %[1]d) loop perform pg_sleep(0.001), pg_stat_clear_snapshot(); end loop; end $$`, pid)); err != nil {
		panic(fmt.Sprintf("harness: end a backend: %v", err))
	}
}

// standing says who waits for whom, and whether all of them wait, in the end,
// for one of ours that isn't waiting: a circle is about to be broken, and what
// others hold, such as autovacuum, they give back by themselves.
func (o observer) standing(pids []int32, ours func(pid int32) string) (text string, behind map[int32][]int32, stable bool) {
	rows, err := o.conn.Query(context.Background(), "select pid, pg_blocking_pids(pid) from unnest($1::int[]) as pid order by pid",
		pgx.QueryExecModeCacheStatement, pids)
	if err != nil {
		panic(fmt.Sprintf("harness: ask who waits: %v", err))
	}
	behind = map[int32][]int32{}
	var parts []string
	for rows.Next() {
		var pid int32
		var blockers []int32
		if err := rows.Scan(&pid, &blockers); err != nil {
			panic(fmt.Sprintf("harness: ask who waits: %v", err))
		}
		behind[pid] = blockers
		parts = append(parts, fmt.Sprintf("%d behind %v", pid, blockers))
	}
	if err := rows.Err(); err != nil {
		panic(fmt.Sprintf("harness: ask who waits: %v", err))
	}
	free := map[int32]bool{}
	for range pids {
		for pid, blockers := range behind {
			for _, b := range blockers {
				if _, waits := behind[b]; !waits && ours(b) != "" || free[b] {
					free[pid] = true
				}
			}
		}
	}
	return strings.Join(parts, ", "), behind, len(free) == len(pids)
}

// keep remembers the contents of all tables and the state of all sequences,
// and returns the statements that put them back.
func (o observer) keep() (refill string, err error) {
	ctx := context.Background()
	if err := o.exec("drop schema if exists harness_kept cascade; create schema harness_kept"); err != nil {
		return "", err
	}
	rows, err := o.conn.Query(ctx, `
select format('%I.%I', n.nspname, c.relname),
       (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '')
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'harness_kept') and n.nspname !~ '^pg_' order by 1`)
	if err != nil {
		return "", err
	}
	type table struct{ Name, Columns string }
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		return "", err
	}
	var parts []string
	for i, t := range tables {
		kept := fmt.Sprintf("harness_kept.t%d", i)
		if err := o.exec(fmt.Sprintf("create table %s as select %s from %s", kept, t.Columns, t.Name)); err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("delete from %s; insert into %s (%s) overriding system value select * from %s", t.Name, t.Name, t.Columns, kept))
	}
	rows, err = o.conn.Query(ctx, `select format('%I.%I', schemaname, sequencename) from pg_sequences order by 1`)
	if err != nil {
		return "", err
	}
	sequences, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	for _, name := range sequences {
		var last int64
		var called bool
		if err := o.conn.QueryRow(ctx, "select last_value, is_called from "+name).Scan(&last, &called); err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("select setval('%s', %d, %t)", strings.ReplaceAll(name, "'", "''"), last, called))
	}
	if len(parts) == 0 {
		return "", errors.New("the database has no tables: give Setup what makes them")
	}
	return "set session_replication_role = replica; " + strings.Join(parts, "; ") + "; set session_replication_role = origin", nil
}
