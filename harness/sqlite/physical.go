package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net/url"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

type connector struct {
	db    *Database
	query string
}

func (c *connector) Driver() driver.Driver { return c }

// Open is there for [driver.Driver], which database/sql does not call.
func (c *connector) Open(string) (driver.Conn, error) { return c.Connect(context.Background()) }

// Connect hands out connections in the order in which they were opened in the
// first schedule. Their prepared statements are kept.
func (c *connector) Connect(context.Context) (driver.Conn, error) {
	if a, err := c.db.host.Caller(); err != nil {
		return nil, err
	} else if a != nil && a.Dead() != nil {
		return nil, a.Refuse()
	}
	p, err := c.db.next(c.query, c.query)
	if err != nil {
		return nil, err
	}
	return &conn{physical: p, host: c.db.host, born: c.db.host.Schedule()}, nil
}

// next hands out the next connection under a key.
func (d *Database) next(key, query string) (*physical, error) {
	i := d.used[key]
	d.used[key]++
	if i < len(d.pool[key]) {
		return d.pool[key][i], nil
	}
	p, err := d.open(query)
	if err == nil {
		err = p.hook(p.conn)
	}
	if err == nil {
		d.pool[key] = append(d.pool[key], p)
	}
	return p, err
}

func (d *Database) open(query string) (*physical, error) {
	raw, err := d.driver.Open(d.dsn(query))
	if err != nil {
		return nil, err
	}
	values, _ := url.ParseQuery(query)
	p := &physical{db: d, query: query, conn: raw, stmts: map[string]driver.Stmt{}, txlock: values.Get("_txlock")}
	if err := d.watch(raw); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return p, nil
}

// physical is a connection that outlives the schedules.
type physical struct {
	db      *Database
	query   string // of its DSN
	conn    driver.Conn
	stmts   map[string]driver.Stmt
	txlock  string
	special bool             // it was given settings of its own, or temporary tables
	plans   map[string]*plan // then

	did      deeds // of the statement that ran last
	user     engine.Actor
	opener   uint64 // the goroutine that opened its transaction
	forgets  func() // the context of the transaction; nil without one
	inTx     bool
	locked   bool     // it has the write lock
	snapshot bool     // it has read
	points   []string // its savepoints, in small letters
	nameless bool     // BEGIN began its transaction, and not the first of them
	wrote    engine.Resources
	tables   []string // that it wrote, for the report
}

// clean ends what the last schedule left open.
func (p *physical) clean() {
	if p.inTx {
		p.rollBack()
	}
	p.user = nil
}

// rollBack ends a transaction as no statement has asked for: by a fault, a
// COMMIT that failed, a connection that is closed. Those go on who had to wait
// for it.
func (p *physical) rollBack() {
	_, _ = p.execRaw("rollback", nil)
	if p.locked || p.snapshot {
		p.db.host.Progress(false)
	}
	p.ended()
}

func (p *physical) ended() {
	p.inTx, p.locked, p.snapshot, p.points, p.nameless, p.wrote, p.tables = false, false, false, nil, false, 0, nil
	if p.forgets != nil {
		p.forgets()
		p.forgets = nil
	}
}

// Crashed rolls back what a dead process had open.
func (d *Database) Crashed(a engine.Actor) {
	for _, pool := range d.pool {
		for _, p := range pool {
			if p.user == a && p.inTx {
				p.rollBack()
			}
		}
	}
}

func (p *physical) prepare(text string) (driver.Stmt, error) {
	if s, ok := p.stmts[text]; ok {
		return s, nil
	}
	s, err := p.conn.Prepare(text)
	if err == nil {
		p.stmts[text] = s
	}
	return s, err
}

// forget closes a prepared statement.
func (p *physical) forget(text string) {
	if s, ok := p.stmts[text]; ok {
		_ = s.Close()
		delete(p.stmts, text)
	}
	delete(p.db.scripts, text)
}

func (p *physical) execRaw(text string, args []driver.NamedValue) (driver.Result, error) {
	s, err := p.prepare(text)
	if err != nil {
		return nil, err
	}
	return s.(driver.StmtExecContext).ExecContext(context.Background(), args)
}

// queryRaw reads all rows, so that a statement is one step.
func (p *physical) queryRaw(text string, args []driver.NamedValue) (*engine.Rows, error) {
	s, err := p.prepare(text)
	if err != nil {
		return nil, err
	}
	from, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), args)
	if err != nil {
		return nil, err
	}
	r := &engine.Rows{Names: from.Columns()}
	for {
		row := make([]driver.Value, len(r.Names))
		switch err := from.Next(row); {
		case err == nil:
			r.Values = append(r.Values, row)
		case errors.Is(err, io.EOF):
			return r, from.Close()
		default:
			return nil, errors.Join(err, from.Close())
		}
	}
}

// holders names those who hold what a waiting statement needs.
func (d *Database) holders(but *physical) string {
	var names []string
	for _, pool := range d.pool {
		for _, p := range pool {
			if p != but && p.inTx && (p.locked || p.snapshot) && p.user != nil {
				names = append(names, p.user.Name())
			}
		}
	}
	if len(names) == 0 {
		return "a lock"
	}
	return strings.Join(names, " and ") + ", in an open transaction"
}

func isBusy(err error) (busy, snapshot bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false, false
	}
	code := e.Code()
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return true, code == sqlite3.SQLITE_BUSY_SNAPSHOT
	}
	return false, false
}
