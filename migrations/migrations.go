package migrations

import (
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4"
	sqlitedriver "github.com/golang-migrate/migrate/v4/database/sqlite"
	"github.com/golang-migrate/migrate/v4/source"
	"github.com/golang-migrate/migrate/v4/source/iofs"
)

//go:embed sqlite/*.sql postgres/*.sql postgres/*.sql.tmpl webhook/*.sql webhook/*.sql.tmpl
var files embed.FS

// Migrator moves one database between versions of the schema.
type Migrator struct {
	migrate  *migrate.Migrate // of a PostgreSQL database: nil until something is to be changed
	source   source.Driver
	sqlite   *sql.DB   // nil for PostgreSQL
	postgres *postgres // nil for SQLite
	windows  Windows
}

// SQLite returns a migrator for a SQLite database. It owns db from here on:
// Close closes it.
//
// golang-migrate's lock for SQLite holds within one process, and a process
// that is killed between two of its steps leaves its version table marked
// dirty. So every SQLite migration can be run twice, and Up runs a dirty one
// again: processes that start at the same time, or after a crash, need no
// hand. Down is one transaction, which leaves nothing half done.
func SQLite(db *sql.DB) (*Migrator, error) {
	src, err := iofs.New(files, "sqlite")
	if err != nil {
		return nil, fmt.Errorf("read the embedded migrations: %w", err)
	}
	driver, err := sqlitedriver.WithInstance(db, &sqlitedriver.Config{})
	if err != nil {
		return nil, fmt.Errorf("prepare the version table: %w", err)
	}
	m, err := migrate.NewWithInstance("embedded", src, "sqlite", driver)
	if err != nil {
		return nil, fmt.Errorf("start golang-migrate: %w", err)
	}
	return &Migrator{migrate: m, source: src, sqlite: db}, nil
}

// Close closes the database that the migrator was given, or has opened.
func (m *Migrator) Close() error {
	if m.migrate == nil {
		return errors.Join(m.source.Close(), m.postgres.db.Close())
	}
	src, db := m.migrate.Close()
	return errors.Join(src, db)
}

// maxTries bounds how often Up starts over because another process is in the
// middle of the same migrations.
const maxTries = 100

// Up applies every migration that is missing, and does nothing where none is.
func (m *Migrator) Up() error {
	if m.postgres != nil {
		return sessionless(m.upPostgres())
	}
	var dirty migrate.ErrDirty
	for range maxTries {
		err := m.up()
		switch {
		case err == nil || errors.Is(err, migrate.ErrNoChange):
			return m.indexSQLite()
		case !errors.As(err, &dirty):
			return err
		}
	}
	return fmt.Errorf("migration %d does not come to an end: another process is at it, or fails in it again and again", dirty.Version)
}

func (m *Migrator) up() error {
	at, err := m.known()
	if err != nil {
		return err
	}
	if at.dirty {
		if err := m.migrate.Force(m.before(uint(max(at.number, 0)))); err != nil {
			return fmt.Errorf("run migration %d again: %w", at.number, err)
		}
	}
	if err := m.migrate.Up(); err != nil {
		return fmt.Errorf("migrate up: %w", err)
	}
	return nil
}

// known is the database's version, which must be one that this program knows.
func (m *Migrator) known() (version, error) {
	at, err := m.version()
	if err == nil && at.number > int(m.latest()) {
		err = fmt.Errorf("the database has version %d of the schema, this program knows %d: run a newer runcounter", at.number, m.latest())
	}
	return at, err
}

type version struct {
	number int // -1: none
	dirty  bool
}

func (m *Migrator) version() (version, error) {
	if m.postgres != nil {
		return m.postgres.version()
	}
	return m.versionSQLite()
}

// Down takes every migration back. A SQLite database forgets all runs and
// counts; a PostgreSQL database keeps its runs, and what an earlier attempt had
// made comes back.
func (m *Migrator) Down() error {
	if m.postgres != nil {
		return sessionless(m.downPostgres())
	}
	return m.downSQLite()
}

// Status says where a database stands.
type Status struct {
	Version uint `json:"version"` // 0: nothing was applied
	Latest  uint `json:"latest"`
	Dirty   bool `json:"dirty"` // a migration was interrupted; Up runs it again
	// GoingDown says of a dirty one that it was the last of a Down, which may
	// have dropped everything or nothing: Up undoes it, Down finishes it.
	GoingDown bool `json:"-"`
}

// Verdict says in words where the database stands, and what to do.
func (s Status) Verdict() string {
	switch {
	case s.GoingDown:
		return "a migrate down was interrupted: runcounter migrate up undoes it, and keeps the runs that are still there; runcounter migrate down --yes finishes it"
	case s.Dirty:
		return "a migration was interrupted; runcounter migrate up runs it again"
	case s.Version == 0:
		return "empty; runcounter migrate up applies it"
	case s.Version < s.Latest:
		return "runcounter migrate up applies what is missing"
	case s.Version > s.Latest:
		return "made by a newer runcounter: run that one"
	}
	return "up to date"
}

// Status returns where the database stands, and changes nothing.
func (m *Migrator) Status() (Status, error) {
	at, err := m.version()
	if err != nil {
		return Status{}, sessionless(err)
	}
	return Status{Version: uint(max(at.number, 0)), Latest: m.latest(), Dirty: at.dirty, GoingDown: at.dirty && at.number < 0}, nil
}

func (m *Migrator) latest() uint {
	if m.postgres != nil {
		return LatestPostgres()
	}
	return LatestSQLite()
}

// before returns the version before this one, in golang-migrate's words: -1 is
// none.
func (m *Migrator) before(version uint) int {
	prev, err := m.source.Prev(version)
	if err != nil {
		return -1
	}
	return int(prev)
}

// after returns the version after this one, and the first after -1.
func (m *Migrator) after(version int) (uint, error) {
	if version < 0 {
		return m.source.First()
	}
	return m.source.Next(uint(version))
}
