package migrations

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4"
	pgxdriver "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/edgaze-ai/runcounter/internal/pgroots"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// postgres is the part of a Migrator that only PostgreSQL needs.
type postgres struct {
	// ctx is the one that Postgres was called with: golang-migrate takes none,
	// and Up and Down are the same for both kinds of databases.
	ctx         context.Context
	db          *sql.DB
	busyTimeout time.Duration // how long Up and Down try in all to get their locks
	// rendering is what golang-migrate reads, for the table as alone has found it.
	rendering *rendering
	totals    *Totals
	said      []string          // by the migrations themselves
	policy    string            // which Up sets, "" for none
	totalsFor string            // which Up sets, "" for none
	given     watched.Overrides // what the operator says of the table, over what was said before
	unmapped  []string          // the table's statuses that have no meaning
	zoneNote  string            // that its times are in another zone than the database
	guessed   watched.Overrides // what is said of the table, and what could be guessed beside it
}

const (
	// busyTimeout bounds the time for which Up and Down try to get the locks of a busy
	// table. Each try waits for 2 s at most, since all writers wait behind it.
	busyTimeout = 2 * time.Minute
	// turnTimeout bounds the time for which one process waits for another that migrates.
	turnTimeout = 30 * time.Minute
	// transactionPooler is the port at which Supabase has its pooler in
	// transaction mode.
	transactionPooler = 6543
)

// ErrAddress is wrapped where an address can't be used.
var ErrAddress = errors.New("not an address for migrations")

// Postgres returns a migrator for the PostgreSQL database at an address such as
// postgres://... The context holds for all that it does. The caller closes it.
// Errors never repeat the address, which may hold a password.
//
// Each file is one transaction, can be run twice, and gives up when it does not
// get a lock within two seconds, so that no writer waits for longer behind it. Up
// and Down try again, for two minutes in all, after a lock that was not had in
// time and after a deadlock; and they go on from where a process was killed.
// Processes that migrate at the same time take turns.
func Postgres(ctx context.Context, address string) (*Migrator, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil { // which may repeat what it could not read
		return nil, fmt.Errorf("%w: write postgres://USER:PASSWORD@HOST:5432/DATABASE, with the special characters of the password escaped", ErrAddress)
	}
	if pooled(config) {
		return nil, fmt.Errorf("%w: port %d is a pooler in transaction mode, and %s", ErrAddress, transactionPooler, needSession)
	}
	pgroots.Trust(config)
	// A role's own timeouts are for its queries. The files set theirs.
	timeouts := stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0`)
		return err
	})
	p := &postgres{ctx: ctx, busyTimeout: busyTimeout}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { p.hear(n) }
	db := stdlib.OpenDB(*config, timeouts)
	p.db = db
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", pgroots.Explain(sessionless(err))), db.Close())
	}
	src, err := iofs.New(files, "postgres")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the embedded migrations: %w", err), db.Close())
	}
	p.rendering = &rendering{Driver: src, table: watched.Default()}
	return &Migrator{source: p.rendering, postgres: p}, nil
}

func pooled(config *pgx.ConnConfig) bool {
	for _, other := range config.Fallbacks {
		if other.Port == transactionPooler {
			return true
		}
	}
	return config.Port == transactionPooler
}

func (m *Migrator) upPostgres() error {
	if err := m.postgres.requireTotalsFor(); err != nil {
		return err
	}
	m.sayWindows()
	return m.alone(m.preflight, func(conn *sql.Conn) error {
		counted, err := m.postgres.earlierTotals(conn)
		if err != nil {
			return fmt.Errorf("ask the earlier get_user_workflow_run_count: %w", err)
		}
		if err := m.retryWhileBusy(conn, func() error {
			if err := m.tryUp(conn); err != nil {
				return err
			}
			_, err := conn.ExecContext(m.postgres.ctx, `select run_counter.settle_yields()`) // for a rule that has come since
			return err
		}, m.forgetUp); err != nil {
			return err
		}
		if m.postgres.policy != "" {
			if err := setPolicy(m.postgres.ctx, conn, m.postgres.policy); err != nil {
				return fmt.Errorf("set the policy: %w", err)
			}
		}
		if err := m.postgres.setTotalsFor(conn); err != nil {
			return fmt.Errorf("set who may ask for totals: %w", err)
		}
		if err := m.postgres.setGuard(conn); err != nil {
			return fmt.Errorf("set what the guard does: %w", err)
		}
		if note := m.postgres.zoneNote; note != "" {
			m.postgres.said = append(m.postgres.said, "finds that "+note)
		}
		if words := m.postgres.unmapped; len(words) > 0 {
			m.postgres.said = append(m.postgres.said, m.postgres.unmappedSentence(words))
		}
		m.postgres.totals, err = m.postgres.laterTotals(conn, counted)
		return err
	})
}

// tryUp applies what is missing, and all again where the table was altered since.
func (m *Migrator) tryUp(conn *sql.Conn) error {
	if err := m.forgetUp(); err != nil {
		return err
	}
	at, err := m.known()
	if err != nil {
		return err
	}
	changed, err := m.postgres.altered(conn)
	if err != nil {
		return err
	}
	if at.number >= beforeFunctions && !changed {
		displaced, err := m.postgres.displaced(conn)
		if err != nil {
			return err
		}
		if displaced {
			if err := m.migrate.Force(beforeFunctions); err != nil {
				return fmt.Errorf("make the functions again: %w", err)
			}
		} else if at.number == int(m.latest()) {
			return nil
		}
	}
	if err := m.postgres.buildIndexes(conn); err != nil {
		return err
	}
	if changed {
		if err := m.migrate.Force(-1); err != nil {
			return fmt.Errorf("run all migrations again: %w", err)
		}
	}
	if err := m.migrate.Up(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return err
	}
	return m.postgres.ctx.Err()
}

// forgetUp says that the migration in whose middle an Up came to its end was
// not applied. It is run again, whether it was or not.
func (m *Migrator) forgetUp() error {
	at, err := m.postgres.version()
	if err != nil || !at.dirty {
		return err
	}
	if err := m.migrate.Force(m.before(uint(max(at.number, 0)))); err != nil {
		return fmt.Errorf("run migration %d again: %w", at.number, err)
	}
	return nil
}

func (m *Migrator) downPostgres() error {
	at, err := m.known()
	if err != nil {
		return err
	}
	installed, err := m.postgres.installed(m.postgres.ctx, m.postgres.db)
	if err != nil || at.number < 0 && !at.dirty && !installed {
		return err
	}
	return m.alone(nil, func(conn *sql.Conn) error {
		return m.retryWhileBusy(conn, m.tryDown, m.forgetDown)
	})
}

// tryDown takes all back. The version is not asked how much that is: an Up that
// makes all anew for a table that was altered begins at nothing, and what was
// there before it is there until it has come to the end. Each migration can be
// taken back that was not applied.
func (m *Migrator) tryDown() error {
	if err := m.migrate.Force(int(m.latest())); err != nil {
		return fmt.Errorf("take all back: %w", err)
	}
	if err := m.migrate.Down(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return err
	}
	return m.postgres.ctx.Err()
}

// installed reports whether there is anything that Up has made.
func (p *postgres) installed(ctx context.Context, in interface {
	QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
},
) (there bool, err error) {
	err = in.QueryRowContext(ctx, `
select exists (select from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where n.nspname = 'run_counter' and c.relname in ('settings', 'made', 'replaced'))
    or exists (select from pg_trigger where tgname like 'zzz_\_run\_counter\_%' escape '\')`).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("look for what is installed: %w", err)
	}
	return there, nil
}

// forgetDown says that the migration which Down failed to take back is still
// applied. golang-migrate names the one before it by then.
func (m *Migrator) forgetDown() error {
	at, err := m.postgres.version()
	if err != nil || !at.dirty {
		return err
	}
	after, err := m.after(at.number)
	if err != nil {
		return err
	}
	return m.migrate.Force(int(after))
}

// version reads golang-migrate's table, which need not be there.
func (p *postgres) version() (version, error) {
	at := version{number: -1}
	var there bool
	err := p.db.QueryRowContext(p.ctx, `select to_regclass('run_counter.schema_migrations') is not null`).Scan(&there)
	if err == nil && there {
		err = p.db.QueryRowContext(p.ctx, `select version, dirty from run_counter.schema_migrations`).Scan(&at.number, &at.dirty)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return version{}, fmt.Errorf("read the schema's version: %w", err)
	}
	return at, nil
}

// alone runs do while no other process migrates this database. golang-migrate's
// own lock is not enough: a second process would wait for it inside a statement,
// and an index that is built concurrently waits for all older statements, which
// would be a deadlock. So the second process tries [lockMigrating] again and again.
//
// check, if any, comes before anything is made, and its error is the end.
func (m *Migrator) alone(check, do func(conn *sql.Conn) error) (err error) {
	ctx := m.postgres.ctx
	conn, err := m.postgres.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	deadline := time.Now().Add(turnTimeout)
	for {
		var ours bool
		if err := conn.QueryRowContext(ctx, `select pg_try_advisory_lock($1)`, lockMigrating).Scan(&ours); err != nil {
			return fmt.Errorf("take turns with others who migrate: %w", err)
		}
		if ours {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("another runcounter has been migrating this database for %v: look what it does, or end it", turnTimeout)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	defer func() { // which a connection that was lost has done already
		_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), `select pg_advisory_unlock_all()`)
		if err == nil {
			err = unlockErr
		}
	}()
	if check != nil {
		if err := check(conn); err != nil {
			return err
		}
	}
	if err := m.postgres.describe(conn); err != nil {
		return err
	}
	table := m.postgres.rendering.table
	m.postgres.rendering.reads.Store(&table)
	if err := m.begin(conn); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { m.migrate.GracefulStop <- true }) // before the next file
	defer stop()
	return do(conn)
}

// describe finds out which table the migrations are rendered for: the one that is
// there, else the one that they make.
func (p *postgres) describe(conn *sql.Conn) error {
	was, _, err := p.described(conn)
	if err != nil {
		return err
	}
	said, err := p.overrides(conn)
	if err != nil {
		return err
	}
	schema, name := said.SchemaAndName()
	catalog, there, err := readCatalog(p.ctx, conn, schema, name)
	switch {
	case err != nil:
		return err
	case there:
		report := watched.Describe(catalog, said)
		if was.Name != "" {
			for _, role := range []watched.Role{watched.ID, watched.User, watched.Workflow} {
				if is := report.Table.Type(role); is != was.Type(role) {
					return fmt.Errorf("%s %w: what plays the role %s is %s, and what was counted by is %s: runcounter migrate down --yes forgets that, with all grants of runs (runcounter grant list shows them), and up begins anew",
						report.Table, ErrTable, role, is, was.Type(role))
				}
			}
		}
		p.rendering.table, p.unmapped, p.guessed = report.Table, report.Unmapped, report.Guessed
		p.zoneNote = report.Table.ZoneNote(catalog.Zone)
	default:
		p.rendering.table = watched.Made(said.Guard)
		p.rendering.table.Said.UserWindows, p.rendering.table.Said.WorkflowWindows = said.UserWindows, said.WorkflowWindows
	}
	return nil
}

// setGuard sets what the guard does to what the operator says now, and says why
// where it only reports. What the migrations decide of it is in their first file:
// it is what was said before, and what an operator has set by hand stands.
func (p *postgres) setGuard(conn *sql.Conn) error {
	t := p.rendering.table
	if p.given.Guard != "" {
		text, err := json.Marshal(t)
		if err != nil {
			return err
		}
		_, err = conn.ExecContext(p.ctx, `update run_counter.settings set guard = $1, described = $2::jsonb where (guard, described) is distinct from ($1, $2::jsonb)`, string(t.Guard), string(text))
		if err != nil {
			return err
		}
	}
	var is watched.Guard
	if err := conn.QueryRowContext(p.ctx, `select guard from run_counter.settings`).Scan(&is); err != nil || is != watched.GuardReports {
		return err
	}
	why := "as was said"
	if t.Said.Guard == "" && t.Guard == is {
		why = "since statuses have other words than Run Counter's, and some applications retry a run in the same row"
	}
	p.said = append(p.said, "keeps no first outcome, and lists those that are overwritten, "+why+": runcounter migrate up --guard on keeps them")
	return nil
}

// overrides merges the operator's description of the table over the earlier one.
func (p *postgres) overrides(conn *sql.Conn) (watched.Overrides, error) {
	was, _, err := p.described(conn)
	if err != nil || len(was.Said.Statuses) == 0 {
		return p.given.Over(was.Said), err
	}
	schema, name := was.Said.SchemaAndName()
	catalog, _, err := readCatalog(p.ctx, conn, schema, name)
	return p.given.Over(was.Said.Still(catalog)), err
}

// unmappedSentence names statuses that have no meaning, and the command that gives
// one to each for which it could be guessed.
func (p *postgres) unmappedSentence(words []string) string {
	sentence := fmt.Sprintf("finds statuses that have no meaning, %s: such runs are not counted, are never ended, and each takes a slot of a limit", strings.Join(words, ", "))
	var statuses []string
	for _, arg := range (watched.Overrides{Statuses: p.guessed.Statuses}).Args() {
		if !slices.Contains((watched.Overrides{Statuses: p.rendering.table.Said.Statuses}).Args(), arg) {
			statuses = append(statuses, arg)
		}
	}
	if len(statuses) == 0 {
		return sentence + "; runcounter migrate up --status THEIRS=OURS gives them one"
	}
	return sentence + "; if that is what they mean: runcounter migrate up " + strings.Join(statuses, " ")
}

// begin makes golang-migrate's table, outside public, where Supabase's lints
// would find it.
func (m *Migrator) begin(conn *sql.Conn) error {
	if m.migrate != nil {
		return nil
	}
	ctx := m.postgres.ctx
	var there bool
	if err := conn.QueryRowContext(ctx, `select to_regnamespace('run_counter') is not null`).Scan(&there); err != nil {
		return fmt.Errorf("look for schema run_counter: %w", err)
	}
	if !there { // the owner of a schema need not be allowed to make another
		if _, err := conn.ExecContext(ctx, `create schema run_counter`); err != nil {
			return fmt.Errorf("create schema run_counter, which takes the database's owner: %w", err)
		}
	}
	driver, err := pgxdriver.WithInstance(m.postgres.db, &pgxdriver.Config{
		SchemaName: "run_counter", MigrationsTable: `"run_counter"."schema_migrations"`, MigrationsTableQuoted: true,
	})
	if err != nil {
		return fmt.Errorf("prepare the version table: %w", plain(err))
	}
	m.migrate, err = migrate.NewWithInstance("embedded", m.source, "postgres", driver)
	if err != nil {
		return fmt.Errorf("start golang-migrate: %w", err)
	}
	return nil
}

// retryWhileBusy tries until it succeeds, fails for good, or busyTimeout is over.
// A failed file has changed nothing: tidy makes the version say so.
func (m *Migrator) retryWhileBusy(conn *sql.Conn, try, tidy func() error) error {
	ctx := m.postgres.ctx
	deadline := time.Now().Add(m.postgres.busyTimeout)
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := try()
		if err == nil || ctx.Err() != nil {
			return errors.Join(ctx.Err(), plain(err))
		}
		at, versionErr := m.postgres.version()
		if serverError(err) == nil || versionErr != nil {
			return plain(err) // and whether it was applied is not known
		}
		if tidyErr := tidy(); tidyErr != nil {
			return errors.Join(plain(err), plain(tidyErr))
		}
		if !isBusy(err) || time.Now().After(deadline) {
			return m.postgres.explain(conn, at, err)
		}
		// Others must get on in between; and with jitter, or two who deadlock
		// would meet again.
		if err := pause(ctx, wait/2+rand.N(wait)); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
