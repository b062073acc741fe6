package harness

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
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
	scripts   map[string]script
	sides     map[string]*side       // by DSN
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
	db := &Database{x: s.x, config: config, pool: map[string][]*physical{}, used: map[string]int{}, scripts: map[string]script{}, sides: map[string]*side{}, dirty: map[string]bool{}}
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
		q.Add("_pragma", "synchronous(off)") // in memory it says nothing, and asks for a lock
	} else {
		q.Add("_pragma", "cache_spill(0)") // see [Database.committed]
	}
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
	for key, pool := range d.pool {
		for i, p := range pool {
			p.clean()
			if !p.special {
				continue
			}
			_ = p.conn.Close() // it has settings that the next schedule would find
			fresh, err := d.open(p.query)
			if err != nil {
				panic(fmt.Sprintf("harness: open a connection anew: %v", err))
			}
			d.pool[key][i] = fresh
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
		var err error
		if d.resetter, err = d.open(""); err != nil {
			return err
		}
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
	for _, side := range d.sides {
		if side.committed != nil {
			_ = side.committed.conn.Close()
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
// whose statements are no steps. What an oracle or [Sim.Show] reads outside of
// a transaction in which it has written is what is committed, whatever actors
// have open.
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
