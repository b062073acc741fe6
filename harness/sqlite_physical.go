package harness

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
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
	if a := c.db.x.actor(); a != nil && a.dead != nil {
		return nil, a.refuse()
	}
	i := c.db.used[c.query]
	c.db.used[c.query]++
	if i < len(c.db.pool[c.query]) {
		return &conn{physical: c.db.pool[c.query][i]}, nil
	}
	raw, err := new(sqlite.Driver).Open(c.db.dsn(c.query))
	if err != nil {
		return nil, err
	}
	values, _ := url.ParseQuery(c.query)
	p := &physical{db: c.db, conn: raw, stmts: map[string]driver.Stmt{}, txlock: values.Get("_txlock")}
	c.db.pool[c.query] = append(c.db.pool[c.query], p)
	return &conn{physical: p}, nil
}

// physical is a connection that outlives the schedules.
type physical struct {
	db     *Database
	conn   driver.Conn
	stmts  map[string]driver.Stmt
	txlock string

	user     *actor
	opener   string // the goroutine that opened its transaction
	inTx     bool
	locked   bool // it has the write lock
	snapshot bool // it has read
	wrote    resources
	tables   []string // that it wrote, for the report
}

// clean ends what the last schedule left open.
func (p *physical) clean() {
	if p.inTx {
		p.rollBack()
	}
	p.user = nil
}

func (p *physical) rollBack() {
	_, _ = p.execRaw("rollback", nil)
	p.ended()
}

func (p *physical) ended() {
	p.inTx, p.locked, p.snapshot, p.wrote, p.tables = false, false, false, 0, nil
}

// crashed rolls back what a dead process had open.
func (d *Database) crashed(a *actor) {
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

func (p *physical) execRaw(text string, args []driver.NamedValue) (driver.Result, error) {
	s, err := p.prepare(text)
	if err != nil {
		return nil, err
	}
	return s.(driver.StmtExecContext).ExecContext(context.Background(), args)
}

// queryRaw reads all rows, so that a statement is one step.
func (p *physical) queryRaw(text string, args []driver.NamedValue) (*rows, error) {
	s, err := p.prepare(text)
	if err != nil {
		return nil, err
	}
	from, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), args)
	if err != nil {
		return nil, err
	}
	r := &rows{columns: from.Columns()}
	for {
		row := make([]driver.Value, len(r.columns))
		switch err := from.Next(row); {
		case err == nil:
			r.rows = append(r.rows, row)
		case errors.Is(err, io.EOF):
			return r, from.Close()
		default:
			return nil, errors.Join(err, from.Close())
		}
	}
}

// planOf asks SQLite what a statement touches, once for each text.
func (p *physical) planOf(text string, args []driver.NamedValue) (*plan, error) {
	if plan, ok := p.db.plans[text]; ok {
		return plan, nil
	}
	switch first := firstWord(text); {
	case first == "explain", // it tells what a statement would do, and doesn't
		first == "pragma" && !strings.ContainsAny(text, "=("): // it asks for a setting of its connection
		p.db.plans[text] = &plan{}
		return p.db.plans[text], nil
	}
	explained, err := p.queryRaw("explain "+text, args)
	delete(p.stmts, "explain "+text)
	if err != nil {
		return nil, err
	}
	plan := &plan{}
	for _, row := range explained.rows {
		opcode, p1, p2, p3 := row[1].(string), row[2].(int64), row[3].(int64), row[4].(int64)
		switch opcode {
		case "OpenRead", "ReopenIdx":
			if p3 > 1 {
				plan.other = true
			} else if p3 == 0 {
				plan.reads |= p.db.resource(p2, plan, &plan.read)
			}
		case "OpenWrite":
			if p3 == 0 {
				plan.writes |= p.db.resource(p2, plan, &plan.written)
			}
		case "Clear":
			plan.writes |= p.db.resource(p1, plan, &plan.written)
		case "Transaction":
			plan.write = plan.write || p1 == 0 && p2 > 0
		case "AutoCommit":
			plan.begin, plan.end, plan.rollback = p1 == 0, p1 == 1, p2 == 1
		case "Savepoint", "CreateBtree", "ParseSchema", "Destroy", "DropTable", "Vacuum", "JournalMode", "IncrVacuum", "Checkpoint":
			plan.other = true
		}
	}
	p.db.plans[text] = plan
	return plan, nil
}

func (d *Database) resource(root int64, plan *plan, names *[]string) resources {
	table, ok := d.roots[root]
	if !ok {
		plan.other = true
		return 0
	}
	if !slices.Contains(*names, table) {
		*names = append(*names, table)
	}
	return d.x.home.resources.of(d.name + table)
}

// footprint says what a statement touches, given what its connection holds.
func (p *physical) footprint(plan *plan) footprint {
	d := p.db
	switch {
	case plan.other:
		return footprint{everything: true}
	case plan.begin:
		if plan.write {
			return p.taking()
		}
		return footprint{}
	case plan.end:
		return p.ending(plan.rollback)
	case p.locked:
		return footprint{} // no other connection sees it before the commit
	case p.inTx && plan.write:
		return p.taking()
	case p.inTx && p.snapshot:
		return footprint{}
	case p.inTx:
		f := footprint{reads: d.published}
		if !d.config.WAL {
			f.reads |= d.lock
		}
		return f
	case plan.write:
		f := footprint{reads: plan.reads, writes: d.lock | d.published | plan.writes}
		if !d.config.WAL {
			f.reads |= d.readers
		}
		return f
	}
	f := footprint{reads: plan.reads}
	if !d.config.WAL {
		f.reads |= d.lock
	}
	return f
}

func (p *physical) taking() footprint { return footprint{reads: p.db.published, writes: p.db.lock} }

func (p *physical) ending(rollback bool) footprint {
	var f footprint
	if p.locked {
		f.writes = p.db.lock
		if !rollback {
			f.writes |= p.db.published | p.wrote
			if !p.db.config.WAL {
				f.reads |= p.db.readers
			}
		}
	}
	if p.snapshot && !p.db.config.WAL {
		f.writes |= p.db.readers
	}
	return f
}

// holders names those who hold what a waiting statement needs.
func (d *Database) holders(but *physical) string {
	var names []string
	for _, pool := range d.pool {
		for _, p := range pool {
			if p != but && p.inTx && (p.locked || p.snapshot) && p.user != nil {
				names = append(names, p.user.name)
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
