package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"modernc.org/sqlite"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// Config says which database [New] makes. The zero value is an empty one in
// memory, which has rollback-journal semantics: a reader in a
// transaction holds off the commit of a writer, and a writer holds off readers.
type Config struct {
	// WAL makes it a file in write-ahead-log mode, where readers keep their
	// snapshot beside a writer, as nearly every application has it. It costs
	// about four times as much a schedule.
	WAL bool
	// Setup fills the database, once for a test: every schedule finds the
	// tables and rows that it left. It is given the path or URI of the
	// database, for code that opens and migrates by itself, and a connection.
	Setup func(path string, db *sql.DB) error
	// Faults are what the database may do beside what it was asked to:
	// [harness.Refused] answers a statement that takes the write lock with
	// SQLITE_BUSY; [harness.LostBefore] and [harness.LostAfter] fail a COMMIT with an error
	// that doesn't tell whether it took effect. See [harness.Sim.Faults].
	Faults []harness.Fault
}

// Database is a SQLite database whose every statement is a step.
//
// A statement that finds the database locked waits until another actor made
// progress, as it does with a busy_timeout that is long enough. Where SQLite
// itself doesn't wait, when a transaction that has read wants to write, the
// error SQLITE_BUSY is returned, as always.
type Database struct {
	host      engine.Host
	config    Config
	path      string
	name      string
	tables    []string
	schema    []string          // its statements
	fill      map[string]string // the statement that puts back its rows
	roots     map[int64]string
	virtual   map[string]*virtual // by their names in small letters
	owner     map[string]string   // of shadow tables
	relations map[string]bool     // tables and views, in small letters
	watcher   *watcher            // of the statement that is being planned
	scripts   map[string]script
	sides     map[string]*side       // by DSN
	pool      map[string][]*physical // by DSN, in the order of their opening
	used      map[string]int         // in this schedule
	driver    *sqlite.Driver
	keeper    *sql.DB // ungated: setup, reset
	busy      error
	dirty     map[string]bool   // tables that were written since the last reset
	unknown   bool              // or any
	points    map[string]string // drawn names of savepoints in this schedule
	resetter  *physical

	lock, published, readers engine.Resources
}

// sequences is where SQLite keeps the greatest id of AUTOINCREMENT tables.
const sequences = "sqlite_sequence"

var databaseNumber atomic.Int64

// New returns the database of this schedule. The scenario calls it in the same
// order each time.
func New(s *harness.Sim, config Config) *Database {
	host, fresh := s.Engine(), false
	db := engine.Next(host, func(number int) *Database {
		d := &Database{host: host, config: config, pool: map[string][]*physical{}, used: map[string]int{}, scripts: map[string]script{}, sides: map[string]*side{}, dirty: map[string]bool{}, points: map[string]string{}}
		if err := d.make(number); err != nil {
			panic(fmt.Sprintf("harness: set up a SQLite database: %v", err))
		}
		fresh = true
		return d
	})
	db.host = host
	clear(db.points)
	if !fresh {
		db.reset()
	}
	return db
}

// Open returns a handle on an in-memory database, made by these statements. Every
// statement through it is a step; see [New] for more.
func Open(s *harness.Sim, setup ...string) *sql.DB {
	return New(s, Config{Setup: func(_ string, db *sql.DB) error {
		for _, text := range setup {
			if _, err := db.ExecContext(context.Background(), text); err != nil {
				return fmt.Errorf("%s: %w", engine.Clip(text, 60), err)
			}
		}
		return nil
	}}).Open()
}

// Traits is what reports need to know of SQLite.
func (d *Database) Traits() engine.Traits {
	const first = "begin immediate before the read"
	return engine.Traits{
		KeepRow: first, ComeFirst: first, ReadAfresh: first + ", or put the condition into the statement that writes",
		Packages: []string{"modernc.org/", "github.com/edgaze-ai/runcounter/harness/sqlite."},
	}
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
		d.host.OnClose(func() { _ = os.RemoveAll(dir) })
		d.path = filepath.Join(dir, "db")
	} else {
		d.path = fmt.Sprintf("file:/harness-%d-%d?vfs=memdb", os.Getpid(), n)
	}
	if err := d.makeDriver(); err != nil {
		return err
	}
	d.keeper = d.openKeeper()
	d.keeper.SetMaxOpenConns(1)
	d.host.OnClose(d.close)
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
	d.lock, d.published, d.readers = d.host.Resource(d.name+"lock"), d.host.Resource(d.name+"published"), d.host.Resource(d.name+"readers")
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

// busyError is SQLite's own, since only its driver can make one.
func busyError() (busy, err error) {
	ctx := context.Background()
	uri := fmt.Sprintf("file:/harness-busy-%d?vfs=memdb&_pragma=busy_timeout(0)", databaseNumber.Add(1))
	var dbs [2]*sql.DB
	for i := range dbs {
		dbs[i] = sql.OpenDB(opener{&sqlite.Driver{}, uri})
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

// Path returns the path or URI of the database, for code that wants one. What
// an oracle reads by it is not seen: it is taken to read everything.
func (d *Database) Path() string {
	d.host.Unseen()
	return d.path
}

// Open returns a handle on the database: give it to actors, and to oracles,
// whose statements are no steps. What an oracle or [harness.Sim.Show] reads outside of
// a transaction in which it has written is what is committed, whatever actors
// have open.
func (d *Database) Open() *sql.DB {
	db := sql.OpenDB(d.Connector(""))
	d.host.OnEnd(func() { _ = db.Close() })
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
