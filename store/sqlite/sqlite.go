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
	"runtime"
	"sync/atomic"
	"time"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
)

var (
	_ store.Store      = (*Store)(nil)
	_ store.Maintainer = (*Store)(nil)
	_ store.Reader     = (*Store)(nil)
	_ store.LetterBox  = (*Store)(nil)
	_ store.Granter    = (*Store)(nil)
	_ store.NoticeBox  = (*Store)(nil)
)

// Options vary how a database is opened. The zero value is what serves best.
type Options struct {
	// KeepSchema opens the database without migrating it.
	KeepSchema bool
	// ReadOnly, with KeepSchema, leaves the file as it is, down to its last
	// byte: whatever writes fails.
	ReadOnly bool
	// BusyTimeout is the time for which a writer waits for another process; 5 s if zero.
	BusyTimeout time.Duration
	// Volatile gives up law 6 for speed: a commit is not waited for. For tests.
	Volatile bool
	// Connector opens the connections for an address, in place of the driver:
	// it is how the race explorer gets below the store.
	Connector func(dsn string) driver.Connector
}

// Store is a SQLite database. It implements [store.Store], [store.Maintainer],
// [store.Reader], [store.LetterBox] and [store.Granter].
type Store struct {
	writer *sql.DB // one connection: writers of this process queue for it in order
	reader *sql.DB
	stmts  statements
	counts *sql.Stmt // countSQL on the reader's connections
	hooks  hooks

	path     string
	readOnly bool
	readers  int                                // connections of the reader
	files    atomic.Pointer[openFiles]          // which files are open; nil where that is of no interest
	fault    atomic.Pointer[store.StorageFault] // that a write met, until Ping has seen the end of it
	writable atomic.Bool                        // something was written, since the file was opened
}

// hooks are the parts of the merge that tests replace one at a time, to show
// that something goes red without them.
type hooks struct {
	observe  func(store.Change, time.Time) []store.State
	join     func(a, b store.State) store.State
	equal    func(a, b store.State) bool
	open     func(store.State) bool // a Complete may end it
	full     func(u store.Usage) bool
	scope    func(l store.Limit, key store.Key) store.Scope
	standing string // standingSQL
	raises   func(g store.Grant, l store.Limit, key store.Key, now time.Time) bool
	window   func(in store.Window) store.Window // that a count reads
	recount  func(t *tx, r store.RecountResult, now time.Time) error
	presume  func(store.Row, store.Limits, time.Time) (store.Row, bool)
	// what a run changes in the counts
	difference func(was, is store.State, add func(at counter, n int64))
}

// Open opens the database at path, creates it where it is missing, and
// migrates it. The caller closes the Store.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", path, err)
	}
	if _, err := os.Stat(filepath.Dir(abs)); err != nil {
		return nil, fmt.Errorf("the folder of %s can't be used: %w; create it, or choose another file with DATABASE_URL=sqlite:<path>", abs, err)
	}
	if !o.KeepSchema {
		if err := migrate(abs, o); err != nil {
			return nil, fmt.Errorf("open %s: %w", abs, atStart(err))
		}
	}
	s := &Store{path: abs, readOnly: o.ReadOnly, hooks: hooks{
		difference: difference,
		observe:    store.Observe,
		join:       store.State.Join,
		equal:      store.State.Equal,
		open:       func(s store.State) bool { return !s.Ended() || s.Presumed() },
		full:       store.Usage.Full,
		scope:      store.Limit.Of,
		standing:   standingSQL,
		raises:     store.Grant.Raises,
		window:     func(in store.Window) store.Window { return in },
		recount:    (*tx).recount,
		presume:    store.Presume,
	}}
	s.fault.Store(unwritten)
	if s.writer, err = connect(abs, o, false); err != nil {
		return nil, fmt.Errorf("open %s: %w", abs, err)
	}
	s.writer.SetMaxOpenConns(1)
	if s.reader, err = connect(abs, o, true); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", abs, err), s.writer.Close())
	}
	s.readers = min(max(2, runtime.GOMAXPROCS(0)), 8)
	s.reader.SetMaxOpenConns(s.readers)
	s.reader.SetMaxIdleConns(s.readers)
	if err := errors.Join(s.prepare(ctx, o), s.rememberFiles(o)); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", abs, atStart(err)), s.Close())
	}
	return s, nil
}

func connect(abs string, o Options, readOnly bool) (*sql.DB, error) {
	if o.Connector != nil {
		return sql.OpenDB(o.Connector(dsn(abs, o, readOnly))), nil
	}
	return sql.Open("sqlite", dsn(abs, o, readOnly))
}

// dsn returns the address of the file with its pragmas. The driver silently
// ignores parameters that it doesn't know; checkPragmas looks.
func dsn(abs string, o Options, readOnly bool) string {
	busy := o.BusyTimeout
	if busy == 0 {
		busy = 5 * time.Second
	}
	q := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()),
		"journal_mode(wal)",
		"synchronous(" + synchronous(o) + ")",
		"foreign_keys(on)",
		"recursive_triggers(on)",
		"journal_size_limit(67108864)",
	}}
	if readOnly {
		q.Add("_pragma", "query_only(on)")
	} else {
		// Rarer checkpoints and a larger cache, in KiB, are worth a tenth more
		// webhooks a second; beyond 8 MB memory grows faster than they do.
		q.Add("_pragma", "wal_autocheckpoint(8000)")
		q.Add("_pragma", "cache_size(-8000)")
		// A transaction that reads first and upgrades later meets
		// SQLITE_BUSY_SNAPSHOT, which no waiting heals.
		q.Set("_txlock", "immediate")
	}
	if o.ReadOnly {
		q.Set("mode", "ro")
	}
	return (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String()
}

func synchronous(o Options) string {
	if o.Volatile {
		return "off"
	}
	return "full"
}

func migrate(abs string, o Options) error {
	m, err := openMigrator(dsn(abs, o, false))
	if err != nil {
		return err
	}
	return errors.Join(m.Up(), m.Close())
}

// OpenMigrator opens the file at an absolute path as it is: nothing is migrated by it.
// The caller closes the migrator.
func OpenMigrator(abs string) (*migrations.Migrator, error) {
	address := url.URL{Scheme: "file", Path: abs, RawQuery: "_pragma=busy_timeout(5000)&_pragma=foreign_keys(on)"}
	return openMigrator(address.String())
}

func openMigrator(dsn string) (*migrations.Migrator, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	m, err := migrations.SQLite(db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return m, nil
}

func (s *Store) prepare(ctx context.Context, o Options) error {
	want := map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "recursive_triggers": "1"}
	if o.Volatile || o.Connector != nil {
		want["synchronous"] = "0"
	}
	for name, value := range want {
		var got string
		if err := s.writer.QueryRowContext(ctx, "pragma "+name).Scan(&got); err != nil {
			return err
		}
		if got != value {
			return fmt.Errorf("SQLite has %s = %s instead of %s: is the file on a file system that can't do WAL, such as a network share?", name, got, value)
		}
	}
	if err := s.stmts.prepare(ctx, s.writer); err != nil {
		return err
	}
	var err error
	s.counts, err = s.reader.PrepareContext(ctx, countSQL)
	return err
}

// Close waits for what is under way and closes the database.
func (s *Store) Close() error {
	var counts error
	if s.counts != nil {
		counts = s.counts.Close()
	}
	return errors.Join(s.stmts.close(), counts, s.writer.Close(), s.reader.Close())
}

// write runs do in one transaction that holds the write lock from its start.
// Nothing is committed where do returns an error.
//
// The context is looked at once, before the transaction: its statements take
// microseconds, and the driver would start a goroutine for each to watch it.
func (s *Store) write(ctx context.Context, do func(tx *tx) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer func() { s.failed(err) }()
	if err := s.checkFiles(); err != nil {
		return err
	}
	if err := s.transact(ctx, do); err != nil {
		return err
	}
	return s.checkFiles() // law 6: what went to a file without a name is not acked
}

func (s *Store) transact(ctx context.Context, do func(tx *tx) error) (err error) {
	conn, err := s.writer.Conn(ctx) // the wait for other writers of this process
	if err != nil {
		return translate(err)
	}
	defer func() { s.release(conn, err) }()
	ctx = context.WithoutCancel(ctx)
	sqlTx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return translate(err)
	}
	ended := false
	defer func() {
		if !ended { // a panic, which must not keep the lock
			_ = sqlTx.Rollback()
		}
	}()
	t := &tx{ctx: ctx, tx: sqlTx, stmts: &s.stmts, rules: &s.hooks}
	if err = do(t); err == nil {
		err = t.writeDifferences()
	}
	ended = true
	if err != nil {
		return translate(errors.Join(err, sqlTx.Rollback()))
	}
	if err = translate(sqlTx.Commit()); err != nil {
		return err
	}
	if !s.writable.Load() {
		s.wrote(ctx, conn)
	}
	return nil
}

// read runs do in one snapshot.
func (s *Store) read(ctx context.Context, do func(q querier) error) (err error) {
	conn, err := s.reader.Conn(ctx)
	if err != nil {
		return translate(err)
	}
	defer func() { s.release(conn, err) }()
	sqlTx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return translate(err)
	}
	defer func() {
		if end := sqlTx.Rollback(); !errors.Is(end, sql.ErrTxDone) { // done: the context ended it
			err = errors.Join(err, end)
		}
		err = translate(err)
	}()
	return do(sqlTx)
}

// querier is a transaction or a connection that reads.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}
