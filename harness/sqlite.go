package harness

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite says which database [Sim.SQLite] opens. The zero value is an empty
// one in memory, which has rollback-journal semantics: a reader in a
// transaction holds off the commit of a writer, and a writer holds off readers.
type SQLite struct {
	// WAL makes it a file in write-ahead-log mode, where readers keep their
	// snapshot beside a writer, as nearly every application has it. It costs
	// about four times as much a schedule.
	WAL bool
	// Setup fills the database, once for a test: every schedule finds the
	// tables and rows that it left. It is given the path or URI of the
	// database, for code that opens and migrates by itself, and a connection.
	Setup func(path string, db *sql.DB) error
	// Faults are what the database may do beside what it was asked to:
	// [Refused] answers a statement that takes the write lock with
	// SQLITE_BUSY; [LostBefore] and [LostAfter] fail a COMMIT with an error
	// that doesn't tell whether it took effect. See [Sim.Faults].
	Faults []Fault
}

// Database is a SQLite database whose every statement is a step.
//
// A statement that finds the database locked waits until another actor made
// progress, as it does with a busy_timeout that is long enough. Where SQLite
// itself doesn't wait, when a transaction that has read wants to write, the
// error SQLITE_BUSY is returned, as always.
type Database struct {
	x         *explorer
	config    SQLite
	path      string
	name      string
	tables    []string
	schema    []string // its statements
	contents  map[string][][]any
	triggered map[string]bool
	roots     map[int64]string
	plans     map[string]*plan
	pool      map[string][]*physical // by DSN, in the order of their opening
	used      map[string]int         // in this schedule
	keeper    *sql.DB                // ungated: setup, reset
	busy      error
	dirty     map[string]bool // tables that were written since the last reset
	unknown   bool            // or any
	resetter  *physical

	lock, published, readers resources
}

// sequences is where SQLite keeps the greatest id of AUTOINCREMENT tables.
const sequences = "sqlite_sequence"

// plan is what a statement touches, as SQLite's own EXPLAIN tells.
type plan struct {
	reads, writes resources
	write         bool // it takes the write lock
	begin         bool
	end           bool
	rollback      bool
	other         bool // schema changes, attached databases: anything
	read, written []string
}

var databaseNumber atomic.Int64

// SQLite returns the database of this schedule. The scenario calls it in the
// same order each time.
func (s *Sim) SQLite(config SQLite) *Database {
	i := s.databases
	s.databases++
	if i < len(s.x.home.databases) {
		db := s.x.home.databases[i]
		db.x = s.x
		db.reset()
		return db
	}
	db := &Database{x: s.x, config: config, pool: map[string][]*physical{}, used: map[string]int{}, plans: map[string]*plan{}, dirty: map[string]bool{}}
	if err := db.make(i); err != nil {
		panic(fmt.Sprintf("harness: set up a SQLite database: %v", err))
	}
	s.x.home.databases = append(s.x.home.databases, db)
	s.x.home.engines = append(s.x.home.engines, db)
	return db
}

// DB returns a handle on an in-memory database, made by these statements. Every
// statement through it is a step; see [Sim.SQLite] for more.
func (s *Sim) DB(setup ...string) *sql.DB {
	return s.SQLite(SQLite{Setup: func(_ string, db *sql.DB) error {
		for _, text := range setup {
			if _, err := db.ExecContext(s.ctx, text); err != nil {
				return fmt.Errorf("%s: %w", clip(text, 60), err)
			}
		}
		return nil
	}}).Open()
}

func (d *Database) make(number int) (err error) {
	n := databaseNumber.Add(1)
	if d.config.WAL {
		dir := "/dev/shm"
		if _, err := os.Stat(dir); err != nil {
			dir = ""
		}
		if dir, err = os.MkdirTemp(dir, "harness-"); err != nil {
			return err
		}
		d.x.home.onClose(func() { _ = os.RemoveAll(dir) })
		d.path = filepath.Join(dir, "db")
	} else {
		d.path = fmt.Sprintf("file:/harness-%d-%d?vfs=memdb", os.Getpid(), n)
	}
	if d.keeper, err = sql.Open("sqlite", d.dsn("")); err != nil {
		return err
	}
	d.keeper.SetMaxOpenConns(1)
	d.x.home.onClose(d.close)
	if err := d.keeper.PingContext(context.Background()); err != nil {
		return err
	}
	if d.config.Setup != nil {
		if err := d.config.Setup(d.path, d.keeper); err != nil {
			return err
		}
	}
	if err := d.remember(); err != nil {
		return err
	}
	d.name = fmt.Sprintf("db%d.", number)
	d.lock, d.published, d.readers = d.x.home.resources.of(d.name+"lock"), d.x.home.resources.of(d.name+"published"), d.x.home.resources.of(d.name+"readers")
	d.busy, err = busyError()
	return err
}

// dsn returns the address for a connection; query is what product code asked
// for beside the path.
func (d *Database) dsn(query string) string {
	u := &url.URL{Scheme: "file", Path: d.path}
	if rest, ok := strings.CutPrefix(d.path, "file:"); ok {
		u, _ = url.Parse("file://" + rest)
	}
	q := u.Query()
	asked, _ := url.ParseQuery(query)
	for name, values := range asked {
		for _, v := range values {
			if name == "_pragma" && (strings.HasPrefix(v, "busy_timeout") || strings.HasPrefix(v, "synchronous") || strings.HasPrefix(v, "journal_mode")) {
				continue
			}
			q.Add(name, v)
		}
	}
	q.Add("_pragma", "busy_timeout(0)")
	if d.config.WAL {
		q.Add("_pragma", "journal_mode(wal)")
	}
	q.Add("_pragma", "synchronous(off)")
	u.RawQuery = q.Encode()
	return u.String()
}

// busyError is SQLite's own, since nobody else can make one.
func busyError() (busy, err error) {
	ctx := context.Background()
	uri := fmt.Sprintf("file:/harness-busy-%d?vfs=memdb&_pragma=busy_timeout(0)", databaseNumber.Add(1))
	var dbs [2]*sql.DB
	for i := range dbs {
		if dbs[i], err = sql.Open("sqlite", uri); err != nil {
			return nil, err
		}
		defer func() { _ = dbs[i].Close() }()
		dbs[i].SetMaxOpenConns(1)
	}
	if _, err := dbs[0].ExecContext(ctx, "create table t (n); begin immediate"); err != nil {
		return nil, err
	}
	_, busy = dbs[1].ExecContext(ctx, "begin immediate")
	if busy == nil {
		return nil, errors.New("SQLite gave the same lock twice")
	}
	_, err = dbs[0].ExecContext(ctx, "rollback")
	return busy, err
}

// remember keeps what the setup left.
func (d *Database) remember() error {
	d.roots, d.tables, d.contents, d.triggered = map[int64]string{}, nil, map[string][][]any{}, map[string]bool{}
	fired, err := textsOf(d.keeper, `select distinct tbl_name from sqlite_master where type = 'trigger'`)
	if err != nil {
		return err
	}
	if d.schema, err = textsOf(d.keeper, `select coalesce(sql, name) from sqlite_master order by rowid`); err != nil {
		return err
	}
	for _, table := range fired {
		d.triggered[table] = true
	}
	rows, err := d.keeper.QueryContext(context.Background(), `select tbl_name, coalesce(rootpage, 0), type = 'table' from sqlite_master where type in ('table', 'index') order by rowid`)
	if err != nil {
		return err
	}
	for rows.Next() {
		var name string
		var root int64
		var table bool
		if err := rows.Scan(&name, &root, &table); err != nil {
			return errors.Join(err, rows.Close())
		}
		d.roots[root] = name
		if table {
			d.tables = append(d.tables, name)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if i := slices.Index(d.tables, sequences); i >= 0 { // the last, since filling others writes it
		d.tables = append(slices.Delete(d.tables, i, i+1), sequences)
	}
	for _, table := range d.tables {
		// Generated columns can't be written: the names that can.
		cols, err := textsOf(d.keeper, `select name from pragma_table_xinfo(?) where hidden = 0`, table)
		if err != nil {
			return err
		}
		list := `"` + strings.Join(cols, `", "`) + `"`
		contents, err := d.keeper.QueryContext(context.Background(), `select `+list+` from "`+table+`"`)
		if err != nil {
			return err
		}
		insert := [][]any{{`insert into "` + table + `" (` + list + `) values (?` + strings.Repeat(", ?", len(cols)-1) + `)`}}
		for contents.Next() {
			row := make([]any, len(cols))
			to := make([]any, len(cols))
			for i := range row {
				to[i] = &row[i]
			}
			if err := contents.Scan(to...); err != nil {
				return errors.Join(err, contents.Close())
			}
			insert = append(insert, row)
		}
		if err := errors.Join(contents.Err(), contents.Close()); err != nil {
			return err
		}
		d.contents[table] = insert
	}
	return nil
}

func textsOf(db *sql.DB, query string, args ...any) (list []string, err error) {
	rows, err := db.QueryContext(context.Background(), query, args...)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		list = append(list, s)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}

// reset puts back what the setup left: it empties the tables, which is a
// hundred times faster than making a database.
func (d *Database) reset() {
	clear(d.used)
	for _, pool := range d.pool {
		for _, p := range pool {
			p.clean()
		}
	}
	if len(d.dirty) == 0 && !d.unknown {
		return
	}
	if d.unknown {
		d.sameSchema()
	}
	if err := d.restore(); err != nil {
		panic(fmt.Sprintf("harness: put a SQLite database back to its beginning: %v", err))
	}
	clear(d.dirty)
	d.unknown = false
}

// sameSchema panics where an actor has changed it: the next schedule would find
// what this one has made.
func (d *Database) sameSchema() {
	now, err := textsOf(d.keeper, `select coalesce(sql, name) from sqlite_master order by rowid`)
	if err != nil {
		panic(fmt.Sprintf("harness: look at the schema: %v", err))
	}
	for i, text := range now {
		if i >= len(d.schema) || d.schema[i] != text {
			panic(fmt.Sprintf("harness: the scenario has changed the schema (%s), which every schedule would do anew: make tables in Setup", clip(text, 80)))
		}
	}
	if len(now) < len(d.schema) {
		panic(fmt.Sprintf("harness: the scenario has dropped a table (%s), which every schedule would do anew: leave the schema to Setup", clip(d.schema[len(now)], 80)))
	}
}

func (d *Database) restore() error {
	if d.resetter == nil {
		raw, err := new(sqlite.Driver).Open(d.dsn(""))
		if err != nil {
			return err
		}
		d.resetter = &physical{db: d, conn: raw, stmts: map[string]driver.Stmt{}}
	}
	if _, err := d.resetter.execRaw("begin immediate", nil); err != nil {
		return err
	}
	if err := d.refill(); err != nil {
		_, _ = d.resetter.execRaw("rollback", nil)
		return err
	}
	_, err := d.resetter.execRaw("commit", nil)
	return err
}

func (d *Database) refill() error {
	var dirty []string
	for _, table := range d.tables {
		if d.unknown || d.dirty[table] || table == sequences {
			dirty = append(dirty, table)
		}
	}
	empty := func(table string) (bool, error) {
		r, err := d.resetter.execRaw(`delete from "`+table+`"`, nil)
		if err != nil {
			return false, fmt.Errorf("empty %s: %w", table, err)
		}
		n, err := r.RowsAffected()
		return n > 0, err
	}
	// Triggers write while tables are emptied, so once more until all are.
	for round, again := 0, true; again; round++ {
		if round == 10 {
			return errors.New("triggers fill tables as fast as they are emptied")
		}
		again = false
		for _, table := range dirty {
			wrote, err := empty(table)
			if err != nil {
				return err
			}
			again = again || wrote && len(d.triggered) > 0
		}
	}
	// Those with triggers first, and what their triggers wrote is written anew.
	for _, triggered := range []bool{true, false} {
		for _, table := range dirty {
			if d.triggered[table] != triggered {
				continue
			}
			if table == sequences || !triggered && len(d.triggered) > 0 {
				if _, err := empty(table); err != nil {
					return err
				}
			}
			insert := d.contents[table]
			for _, row := range insert[1:] {
				if _, err := d.resetter.execRaw(insert[0][0].(string), namedAny(row)); err != nil {
					return fmt.Errorf("fill %s: %w", table, err)
				}
			}
		}
	}
	return nil
}

func namedAny(row []any) []driver.NamedValue {
	list := make([]driver.NamedValue, len(row))
	for i, v := range row {
		list[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return list
}

func (d *Database) close() {
	for _, pool := range d.pool {
		for _, p := range pool {
			_ = p.conn.Close()
		}
	}
	if d.resetter != nil {
		_ = d.resetter.conn.Close()
	}
	_ = d.keeper.Close()
}

// Path returns the path or URI of the database, for code that wants one.
func (d *Database) Path() string { return d.path }

// Open returns a handle on the database: give it to actors, and to oracles,
// whose statements are no steps.
func (d *Database) Open() *sql.DB {
	db := sql.OpenDB(d.Connector(""))
	d.x.current().sim.OnEnd(func() { _ = db.Close() })
	return db
}

// Connector returns what [sql.OpenDB] needs. Of a DSN such as the driver takes,
// the path is replaced by that of the database, and its query is kept but for
// busy_timeout, journal_mode and synchronous.
func (d *Database) Connector(dsn string) driver.Connector {
	query := ""
	if _, q, ok := strings.Cut(dsn, "?"); ok {
		query = q
	}
	return &connector{d, query}
}

type connector struct {
	db    *Database
	query string
}

func (c *connector) Driver() driver.Driver { return c }

// Open is there for [driver.Driver], which nobody calls.
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
	if pragma := strings.ToLower(strings.TrimSpace(text)); strings.HasPrefix(pragma, "pragma") && !strings.ContainsAny(pragma, "=(") {
		p.db.plans[text] = &plan{} // it asks for a setting of its connection
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
		return footprint{} // nobody sees it before the commit
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
