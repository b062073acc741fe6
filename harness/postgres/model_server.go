package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// server is a [ReadCommitted] database on PostgreSQL.
type server struct {
	db       *ReadCommitted
	address  string
	schema   string
	observer *pgx.Conn
	backends []*backend
	arrived  chan struct{}     // an answer has
	behind   map[int32][]int32 // whom each waits for, at the last look
	settled  bool              // nothing has happened since that look
	released bool              // a connection gave its locks back since then
	fill     string
}

// backend is one connection, and what it has under way.
type backend struct {
	server *server
	conn   *pgx.Conn
	pid    uint32
	done   chan answer
	busy   bool
	looked atomic.Bool // for a deadlock where it waits now, see [lockWord]
	got    *answer
}

type answer struct {
	rows []Row
	err  error
}

const postgresPatience = 20 * time.Second

// schemas number those of the process.
var schemas atomic.Int64

func newServer(host engine.Host, d *ReadCommitted, address string, number int) *server {
	s := &server{db: d, arrived: make(chan struct{}, 1), address: address, schema: fmt.Sprintf("harness_%d_%d", schemas.Add(1), number)}
	var err error
	if s.observer, err = s.connect(nil); err != nil {
		panic(fmt.Sprintf("harness: connect to PostgreSQL: %v", err))
	}
	host.OnClose(s.close)
	ddl := []string{"drop schema if exists " + s.schema + " cascade", "create schema " + s.schema}
	var empty []string
	for _, t := range d.tables {
		columns := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			columns[i] = c + " bigint"
			if t.Types != nil {
				columns[i] = c + " " + t.Types[i]
			}
		}
		key := ""
		if t.Key > 0 {
			key = ", primary key (" + strings.Join(t.Columns[:t.Key], ", ") + ")"
		}
		ddl = append(ddl, fmt.Sprintf("create table %s (%s%s)", t.Name, strings.Join(columns, ", "), key))
		empty = append(empty, "delete from "+t.Name)
		for _, row := range t.Rows {
			values := make([]string, len(row))
			for i, v := range row {
				values[i] = literal(v)
			}
			empty = append(empty, fmt.Sprintf("insert into %s values (%s)", t.Name, strings.Join(values, ", ")))
		}
	}
	s.fill = strings.Join(empty, "; ")
	for _, text := range ddl {
		if _, err := s.observer.Exec(context.Background(), text); err != nil {
			panic(fmt.Sprintf("harness: %s: %v", text, err))
		}
	}
	return s
}

func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	}
	return fmt.Sprint(v)
}

// connect opens a connection, of a backend unless that is nil.
func (s *server) connect(b *backend) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.address)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.RuntimeParams["search_path"] = s.schema
	config.RuntimeParams["application_name"] = "harness"
	config.RuntimeParams["default_transaction_isolation"] = "read committed"
	if b != nil {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			if waits, said := lockWord(n); said {
				b.looked.Store(waits)
			}
		}
	}
	said := sayWhenLooked(config)
	conn, err := pgx.ConnectConfig(context.Background(), config)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" { // these are a superuser's
		for _, name := range said {
			delete(config.RuntimeParams, name)
		}
		conn, err = pgx.ConnectConfig(context.Background(), config)
	}
	return conn, err
}

func (s *server) close() {
	ctx := context.Background()
	for _, b := range s.backends {
		_ = b.conn.Close(ctx)
	}
	_, _ = s.observer.Exec(ctx, "drop schema if exists "+s.schema+" cascade")
	_ = s.observer.Close(ctx)
}

// reset empties the tables and fills them again.
func (s *server) reset() {
	for _, b := range s.backends {
		b.abandon()
	}
	s.behind = nil
	if _, err := s.observer.Exec(context.Background(), s.fill); err != nil {
		panic(fmt.Sprintf("harness: fill the tables: %v", err))
	}
}

func (s *server) backend(i int) *backend {
	if i < len(s.backends) {
		return s.backends[i]
	}
	b := &backend{server: s, done: make(chan answer, 1)}
	b.open()
	s.backends = append(s.backends, b)
	return b
}

func (b *backend) open() {
	conn, err := b.server.connect(b)
	if err != nil {
		panic(fmt.Sprintf("harness: connect to PostgreSQL: %v", err))
	}
	b.conn, b.pid, b.busy, b.got = conn, conn.PgConn().PID(), false, nil
}

// abandon ends what is under way, as a lost connection does.
func (b *backend) abandon() {
	ctx := context.Background()
	if !b.busy {
		if b.conn.PgConn().TxStatus() == 'I' {
			return
		}
		b.server.settled, b.server.released = false, true
		if _, err := b.conn.Exec(ctx, "rollback"); err == nil {
			return
		}
	} else {
		b.server.settled, b.server.released = false, true
		_, _ = b.server.observer.Exec(ctx, fmt.Sprintf("select pg_terminate_backend(%d)", b.pid))
		b.collect()
	}
	_ = b.conn.Close(ctx)
	b.open()
}

// collect waits for the answer.
func (b *backend) collect() {
	if b.got == nil {
		a := <-b.done
		b.got = &a
	}
	b.busy = false
}

// run sends a statement that locks rows of these tables, and comes back with
// its answer: at once, or when others have let it go on.
func (b *backend) run(s *Session, sql string, locks ...string) ([]Row, error) {
	for _, other := range b.server.backends {
		if other != b && other.busy && other.got != nil { // it went on as soon as it could
			s.db.host.Chose()
		}
	}
	b.server.letThemLook(b, sql == "commit" || sql == "rollback")
	delete(b.server.behind, int32(b.pid)) // that was another wait
	b.busy, b.got, b.server.settled = true, nil, false
	b.looked.Store(false)
	go func() {
		b.done <- b.exec(sql)
		select {
		case b.server.arrived <- struct{}{}:
		default:
		}
	}()
	a := s.user
	if !s.contends(locks) {
		b.server.await(b, 300*time.Microsecond) // most answers come at once
	}
	if b.server.settle(b); b.got == nil {
		if a == nil {
			panic("harness: a statement outside of an actor has to wait for one")
		}
		a.Tell("waits for " + b.blames())
		_, err := a.Gate(engine.Op{
			Text: "… goes on", Foot: engine.Footprint{Everything: true},
			Ready:  func() bool { b.server.settle(b); return b.got != nil },
			Blames: b.blames,
		})
		if err != nil {
			return nil, err
		}
	}
	b.busy = false
	if a != nil {
		s.db.host.Progress(false)
	}
	return b.got.rows, b.got.err
}

// blames names those whom it waits for.
func (b *backend) blames() string {
	var names []string
	for _, pid := range b.server.behind[int32(b.pid)] {
		if name := b.server.userOf(pid); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " and ")
}

func (b *backend) exec(sql string) answer {
	return answerOf(b.conn.Query(context.Background(), sql))
}

func answerOf(rows pgx.Rows, err error) (a answer) {
	if err != nil {
		return answer{err: stateOf(err)}
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			rows.Close()
			return answer{err: err}
		}
		for i, v := range values {
			switch v := v.(type) {
			case int32:
				values[i] = int64(v)
			case int16:
				values[i] = int64(v)
			}
		}
		a.rows = append(a.rows, values)
	}
	a.err = stateOf(rows.Err())
	return a
}

func stateOf(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return &SQLState{e.Code, e.Message}
	}
	return err
}

// settle waits until every statement under way has its answer or stands behind
// a lock whose holder is idle, or behind one that does. Where locks were given
// back one look is not enough: a COMMIT lets statements go on that stand in each
// other's way for a moment.
func (s *server) settle(asked *backend) {
	if s.settled {
		return
	}
	before := s.waiting()
	defer func() {
		s.noteChoice(before)
		s.settled, s.released = true, false
	}()
	deadline := time.Now().Add(postgresPatience)
	last := ""
	for looks := 1; ; looks++ {
		var pending []int32
		for _, b := range s.backends {
			if b.waits() && !b.answered() {
				pending = append(pending, int32(b.pid))
			}
		}
		if len(pending) == 0 {
			return
		}
		now, stable := s.standing(pending)
		if stable && (now == last || !s.moved(asked, before)) {
			return
		}
		last = now
		if !stable {
			last = ""
		}
		if looks > 5 { // Go's timers are a millisecond late, a look takes a fifth of that
			s.await(nil, time.Millisecond)
		}
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("harness: PostgreSQL has neither answered nor blocked for %s: %s", postgresPatience, now))
		}
	}
}

// await waits for an answer of b, or of any where it is nil.
func (s *server) await(b *backend, patience time.Duration) {
	timeout := time.After(patience)
	for b == nil || b.waits() && !b.answered() {
		select {
		case <-s.arrived:
			if b == nil {
				return
			}
		case <-timeout:
			return
		}
	}
}

// contends reports whether one of the tables has rows that another transaction
// may have locked.
func (s *Session) contends(tables []string) bool {
	return slices.ContainsFunc(s.db.opened, func(other *Session) bool {
		return other != s && other.inTx && slices.ContainsFunc(tables, func(t string) bool { return slices.Contains(other.wrote, t) })
	})
}

func (b *backend) waits() bool { return b.busy && b.got == nil }

// answered reports whether its answer is there.
func (b *backend) answered() bool {
	select {
	case a := <-b.done:
		b.got = &a
		return true
	default:
		return false
	}
}

// moved reports whether locks were given back, so that those who waited before
// may do so elsewhere now, or for the same ones anew.
func (s *server) moved(asked *backend, before map[*backend]string) bool {
	if s.released || asked.got != nil && asked.conn.PgConn().TxStatus() != 'T' {
		return true
	}
	for b, behind := range before {
		if b.got != nil || fmt.Sprint(s.behind[int32(b.pid)]) != behind {
			return true
		}
	}
	return false
}

// waiting returns whom each blocked statement was last seen to wait for.
func (s *server) waiting() map[*backend]string {
	list := map[*backend]string{}
	for _, b := range s.backends {
		if behind := s.behind[int32(b.pid)]; b.busy && b.got == nil && behind != nil {
			list[b] = fmt.Sprint(behind)
		}
	}
	return list
}

// letThemLook waits until those have looked for a deadlock who wait for one
// that may begin to wait now: asked, unless it ends its transaction, and those
// whom it lets go on. PostgreSQL says when they have; see [lockWord].
func (s *server) letThemLook(asked *backend, ends bool) {
	for _, b := range s.backends {
		if !b.waits() || !s.isBehind(b.pid, asked.pid) {
			continue
		}
		among := !ends
		for _, other := range s.backends {
			among = among || other != b && other.waits() && s.isBehind(b.pid, other.pid) && s.isBehind(other.pid, asked.pid)
		}
		for began := time.Now(); among && !b.looked.Load() && time.Since(began) < lookPatience; {
			<-time.After(100 * time.Microsecond)
		}
	}
}

// isBehind reports whether one waits for the other, or for one who does.
func (s *server) isBehind(one, other uint32) bool {
	seen := []int32{int32(one)}
	for i := 0; i < len(seen); i++ {
		for _, pid := range s.behind[seen[i]] {
			if pid == int32(other) {
				return true
			}
			if !slices.Contains(seen, pid) {
				seen = append(seen, pid)
			}
		}
	}
	return false
}

// noteChoice notes that one step has let several statements go on: in which
// order they do is PostgreSQL's choice. So is when one goes on to its next lock.
func (s *server) noteChoice(before map[*backend]string) {
	moved, waitsAgain := 0, false
	for b, behind := range before {
		again := b.got == nil && fmt.Sprint(s.behind[int32(b.pid)]) != behind
		if b.got != nil || again {
			moved++
		}
		waitsAgain = waitsAgain || again
	}
	if moved > 1 || waitsAgain {
		s.db.host.Chose()
	}
}

// standing says who waits for whom; see [observer.standing].
func (s *server) standing(pids []int32) (text string, stable bool) {
	text, s.behind, stable = (&observer{conn: s.observer}).standing(pids, s.userOf)
	return text, stable
}

// userOf names the actor of a backend.
func (s *server) userOf(pid int32) string {
	for i, b := range s.backends {
		if int32(b.pid) == pid && i < len(s.db.opened) {
			return s.db.opened[i].who()
		}
	}
	return ""
}

// contents reads all tables in one go.
func (s *server) contents() map[string][]Row {
	all := map[string][]Row{}
	var batch pgx.Batch
	for _, t := range s.db.tables {
		batch.Queue("select * from " + t.Name)
	}
	results := s.observer.SendBatch(context.Background(), &batch)
	for _, t := range s.db.tables {
		a := answerOf(results.Query())
		if a.err != nil {
			panic(fmt.Sprintf("harness: read %s: %v", t.Name, a.err))
		}
		rows := a.rows
		if rows == nil {
			rows = []Row{}
		}
		slices.SortFunc(rows, compareRows)
		all[t.Name] = rows
	}
	if err := results.Close(); err != nil {
		panic(fmt.Sprintf("harness: read the tables: %v", err))
	}
	return all
}
