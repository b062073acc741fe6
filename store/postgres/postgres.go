package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/internal/pgroots"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

var (
	_ store.Store      = (*Store)(nil)
	_ store.Maintainer = (*Store)(nil)
	_ store.Source     = (*Store)(nil)
	_ store.Reader     = (*Store)(nil)
	_ store.LetterBox  = (*Store)(nil)
	_ store.Granter    = (*Store)(nil)
	_ store.NoticeBox  = (*Store)(nil)
)

// Options vary how a database is used.
type Options struct {
	// LeaseColumn is a timestamp column of workflow_runs that a live worker
	// moves; none where empty.
	LeaseColumn string
	// Policy says which runs count while the migrations are not applied, and
	// the database can't say.
	Policy store.Policy
	// Said holds the operator's words about the watched table while the migrations are
	// not applied, which keep it.
	Said watched.Overrides
	// Connect changes how connections are made, such as to trace them; nothing
	// where nil.
	Connect func(*pgx.ConnConfig)
}

// Store is a PostgreSQL database. It implements [store.Store],
// [store.Maintainer], [store.Source], [store.Reader], [store.LetterBox] and
// [store.Granter].
type Store struct {
	pool    *pgxpool.Pool
	options Options
	hooks   hooks

	guard guard

	mu     sync.Mutex
	known  *features // what the database has; nil until it was asked, and after it turned out to be otherwise
	looked time.Time
}

// hooks are the parts that tests replace one at a time, to show that something
// goes red without them.
type hooks struct {
	repair  func(store.Row) (store.Row, store.Reason)
	presume func(store.Row, store.Limits, time.Time) (store.Row, bool)
}

// ErrAddress is returned by Open for an address that it can't read. It doesn't
// repeat it.
var ErrAddress = errors.New("not an address of PostgreSQL: write postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE, " +
	"with the special characters of the password escaped, and a file that is there")

// Open connects to the database at an address such as postgres://... and
// changes nothing in it. The caller closes the Store. Errors never repeat the
// address, which may hold a password.
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	pool, err := connect(ctx, address, o.Connect, poolSize)
	if err != nil {
		return nil, err
	}
	s := &Store{pool: pool, options: o, hooks: hooks{repair: store.Repair, presume: store.Presume}}
	db, err := s.features(ctx)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s.readGuard(ctx, db, time.Now())
	return s, nil
}

// poolSize bounds the connections that a store opens.
const poolSize = 10

// connect prepares a pool of so many connections at most, unless the address says
// how many, and opens none yet.
func connect(ctx context.Context, address string, change func(*pgx.ConnConfig), most int32) (*pgxpool.Pool, error) {
	config, err := configure(address, change, most)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return pool, nil
}

// configure reads an address. Every connection is made with it.
func configure(address string, change func(*pgx.ConnConfig), most int32) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, ErrAddress
	}
	pgroots.Trust(config.ConnConfig)
	if !strings.Contains(address, "default_query_exec_mode") {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	if !strings.Contains(address, "pool_max_conns") {
		config.MaxConns = most
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "runcounter"
	}
	if change != nil {
		change(config.ConnConfig)
	}
	return config, nil
}

// Where says which database this is, for people: host, port and name.
func (s *Store) Where() string { return where(s.pool) }

func where(pool *pgxpool.Pool) string {
	return place(pool.Config().ConnConfig)
}

// Close waits for what is under way and closes all connections.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// Ping reports whether the database answers, and looks again at what it has.
func (s *Store) Ping(ctx context.Context) error {
	s.forget()
	db, err := s.features(ctx)
	if err == nil {
		s.readGuard(ctx, db, time.Now())
	}
	return err
}

// Table returns the watched table as it is described: found, and with what its
// operator has said.
func (s *Store) Table(ctx context.Context) (watched.Table, error) {
	db, err := s.features(ctx)
	return db.table, err
}

// Absent reports whether the table has no column for the user of a run, and none
// for the workflow.
func (s *Store) Absent(ctx context.Context) (user, workflow bool, err error) {
	t, err := s.Table(ctx)
	return t.Absent(watched.User), t.Absent(watched.Workflow), err
}

// Installed reports whether the migrations are applied.
func (s *Store) Installed(ctx context.Context) (bool, error) {
	db, err := s.features(ctx)
	if err != nil {
		return false, err
	}
	return db.installed, nil
}

// features are those of a database on which our SQL depends: whether the
// migrations are applied, and the description of the watched table.
type features struct {
	installed bool          // our migrations
	there     bool          // the table is
	table     watched.Table // of which the lease is that of the options
	said      string        // what its operator had said of it
	is        watched.Table // as the catalog and its operator describe it
	was       watched.Table // as the migrations have noted it
	noted     bool          // was is known
	// What the ids of runs, of users, and of workflows and drafts are in SQL.
	id, user, ref string
}

// relookAfter is the time after which a database without the migrations is asked
// for them again.
const relookAfter = 2 * time.Second

// installedSQL asks for our migrations.
const installedSQL = `select to_regproc('public.begin_workflow_run') is not null and to_regclass('run_counter.replaced') is not null`

// readFeatures reads what the database has. Where there is no table it is described as
// the migrations would make it.
func readFeatures(ctx context.Context, tx pgx.Tx, o Options) (db features, err error) {
	if err := tx.QueryRow(ctx, installedSQL).Scan(&db.installed); err != nil {
		return db, err
	}
	said, lease := o.Said, o.LeaseColumn
	if db.installed {
		if db.was, db.noted, err = described(ctx, tx); err != nil {
			return db, err
		}
		said, db.said = db.was.Said, strings.Join(db.was.Said.Args(), " ")
	}
	schema, name := said.SchemaAndName()
	catalog, there, err := catalogOf(ctx, tx, schema, name)
	if err != nil || !there {
		missing := watched.Default()
		missing.Schema, missing.Name = schema, name
		return db.withTable(missing), err
	}
	db.there = true
	db.is = watched.Describe(catalog, said).Table
	db = db.withTable(db.is)
	if column, leases := catalog.Column(lease); leases {
		kind := watched.TimeOf(column, said)
		if kind == "" {
			return db, fmt.Errorf("%w: the column %s is %s, and a lease has to be timestamptz: set RUNCOUNTER_LEASE_COLUMN to one that is, or to nothing", store.ErrInvalid, lease, column.Declared)
		}
		db.table = db.table.Without(watched.Lease)
		db.table.Columns = append(db.table.Columns, watched.Column{Role: watched.Lease, Name: lease, Kind: kind, Type: column.Stored()})
	}
	return db, nil
}

// withTable is the schema with a table.
func (h features) withTable(t watched.Table) features {
	h.table = t
	h.id, h.user, h.ref = t.Type(watched.ID), t.Type(watched.User), t.Type(watched.Workflow)
	return h
}

func (s *Store) features(ctx context.Context) (features, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known != nil && (s.known.installed || time.Since(s.looked) < relookAfter) {
		return *s.known, nil
	}
	var db features
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		db, err = readFeatures(ctx, tx, s.options)
		return err
	})
	switch {
	case err != nil:
		return db, translate(err)
	case !db.there:
		return db, fmt.Errorf("the database has no table %s: is it the right one? runcounter migrate up makes public.workflow_runs where there is none", db.table)
	case !db.installed && (db.table.Absent(watched.User) || db.table.Absent(watched.Workflow)):
		return db, fmt.Errorf("%w: %s has no column for the user or the workflow of a run by a name that is known: runcounter table shows what there is, and runcounter migrate up takes it where that is said", store.ErrInvalid, db.table)
	case !db.has(watched.CompletedAt):
		return db, fmt.Errorf("%w: no column of %s says when a run ended: runcounter table says what it has, and runcounter migrate up which columns can't be read",
			store.ErrInvalid, db.table)
	case s.options.LeaseColumn != "" && !db.has(watched.Lease):
		return db, fmt.Errorf("%w: %s has no column %q; set RUNCOUNTER_LEASE_COLUMN to the one that workers move, or to nothing",
			store.ErrInvalid, db.table, s.options.LeaseColumn)
	}
	s.known, s.looked = &db, time.Now()
	return db, nil
}

func (s *Store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = nil
}

// errTableChanged is that an operator has said something else of the table since it was
// looked at.
var errTableChanged = errors.New("another meaning was given to the table's columns or statuses meanwhile: try again")

// requireSameTable stops what is about to write by what was said of the table, where
// that is no longer said: it would repair counts that are right. It is asked for
// once the key is locked, so that what migrate up counts comes behind.
func (h features) requireSameTable(ctx context.Context, tx pgx.Tx) error {
	if !h.installed {
		return nil
	}
	now, _, err := described(ctx, tx)
	if err == nil && strings.Join(now.Said.Args(), " ") != h.said {
		return errTableChanged
	}
	return err
}

// attempt runs do, which works with what the database is known to have. Where
// that turns out to be wrong, since migrations came or went meanwhile, or an
// operator has said something else of the table, it asks again and does it once
// more: nothing was committed. So it does up to three times where another has moved
// the row to another partition meanwhile, which READ COMMITTED does not follow.
func (s *Store) attempt(ctx context.Context, do func(db features) error) error {
	again, moves := false, 0
	for {
		db, err := s.features(ctx)
		if err != nil {
			return err
		}
		if err = do(db); err == nil {
			return nil
		}
		switch {
		case rowMoved(err) && moves < 3:
			moves++
		case !again && (objectMissing(err) || errors.Is(err, errTableChanged) || noIndex(err)):
			again = true
			s.forget()
		default:
			return translate(err)
		}
	}
}

// installed is [Store.attempt] of what reads or writes tables of installed. Without the
// migrations there are none, and so there is nothing.
func installed[T any](ctx context.Context, s *Store, do func(db features, out *T) error) (out T, err error) {
	err = s.attempt(ctx, func(db features) error {
		out = *new(T)
		if !db.installed {
			return nil
		}
		return do(db, &out)
	})
	return out, err
}

// codeOf is the SQLSTATE of what the server said, "" where it said nothing.
func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// rowMoved reports a row that was locked and has gone to another partition: no other
// conflict of this code is met in READ COMMITTED.
func rowMoved(err error) bool { return codeOf(err) == "40001" }

// noIndex reports a window without its index, which may have been made since the table
// was looked at.
func noIndex(err error) bool {
	var e *store.NoIndexError
	return errors.As(err, &e)
}

// objectMissing reports an undefined table, column, function or schema.
func objectMissing(err error) bool {
	return slices.Contains([]string{"42P01", "42703", "42883", "3F000"}, codeOf(err))
}

// query is one statement of a [Store.send].
type query struct {
	text string
	args []any
	read func(rows pgx.Rows) error // called for each row; nil where there is nothing to read
}

// all reads each row by scan, and appends it.
func all[T any](into *[]T, scan func(rows pgx.Rows, one *T) error) func(rows pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var one T
		err := scan(rows, &one)
		*into = append(*into, one)
		return err
	}
}

// sender sends a batch: a pool, or a transaction.
type sender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// send sends statements in one round trip. To a pool it sends one at a time,
// which is one snapshot whatever isolation the role has: several are for
// [Store.commit] and [Store.snapshot], which name theirs.
func send(ctx context.Context, to sender, queries ...query) error {
	var b pgx.Batch
	for _, q := range queries {
		queued := b.Queue(q.text, q.args...)
		if q.read == nil {
			continue
		}
		queued.Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := q.read(rows); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	}
	return to.SendBatch(ctx, &b).Close()
}

// commit sends statements as one transaction, in one round trip. Each sees what
// was committed before it began.
func (s *Store) commit(ctx context.Context, queries ...query) error {
	return s.transact(ctx, `begin isolation level read committed read write`, queries)
}

// snapshot sends statements that read the database as of one moment, in one
// round trip.
func (s *Store) snapshot(ctx context.Context, queries ...query) error {
	return s.transact(ctx, `begin isolation level repeatable read, read only`, queries)
}

func (s *Store) transact(ctx context.Context, begin string, queries []query) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = send(ctx, conn, slices.Concat([]query{{text: begin}}, queries, []query{{text: `commit`}})...)
	if err != nil && !conn.Conn().IsClosed() && conn.Conn().PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, `rollback`) // where that fails too, the pool drops the connection
	}
	return err
}

// write runs do in a transaction. In READ COMMITTED each statement sees what
// was committed before it began: after a lock, the look is in the next one.
func (s *Store) write(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, do)
}

// translate turns the driver's errors into the contract's, by their code.
func translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, known := range []error{store.ErrNotFound, store.ErrConflict, store.ErrInvalid, store.ErrTooSlow, store.ErrUnavailable} {
		if errors.Is(err, known) {
			return err
		}
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return translateCode(e, err)
	}
	var scan pgx.ScanArgError
	if errors.As(err, &scan) || errors.Is(err, errScan) {
		return err
	}
	// What doesn't come from the server is about the way to it.
	return fmt.Errorf("%w: %w", store.ErrUnavailable, pgroots.Explain(err))
}

// errScan marks what was read and makes no sense.
var errScan = errors.New("unexpected value")

func translateCode(e *pgconn.PgError, err error) error {
	switch e.Code[:2] {
	case "08", "53", "57", "58": // connection, resources, an operator's hand, the system
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case "22", "P0": // a value; a trigger of the application
		return refused(store.ErrInvalid, e, err)
	case "23":
		return constrained(e, err)
	}
	switch e.Code {
	case "40001", "40P01", "55P03", "25006": // serialization, deadlock, lock timeout, read-only after a failover
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case "42501":
		return fmt.Errorf("the database role of DATABASE_URL may not do this; connect as the owner of workflow_runs or as a role that is granted what service_role is: %w", err)
	}
	return err
}

// refusal is a request's error in the database's words, without the driver's.
type refusal struct {
	kind    error
	message string
	cause   error
}

func (r *refusal) Error() string   { return r.kind.Error() + ": " + r.message }
func (r *refusal) Unwrap() []error { return []error{r.kind, r.cause} }

func refused(kind error, e *pgconn.PgError, cause error) error {
	message := e.Message
	if e.Detail != "" {
		message += " (" + strings.TrimSuffix(e.Detail, ".") + ")"
	}
	return &refusal{kind, message, cause}
}
