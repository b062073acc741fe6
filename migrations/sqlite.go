package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// versionSQLite reads golang-migrate's table itself: golang-migrate takes a row
// that it can't read for none, and -1 for none whether it is dirty or not.
func (m *Migrator) versionSQLite() (version, error) {
	at := version{number: -1}
	err := m.sqlite.QueryRowContext(context.Background(), `select version, dirty from schema_migrations`).Scan(&at.number, &at.dirty)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return at, fmt.Errorf("read the schema's version: %w", err)
	}
	return at, nil
}

// The optional indexes of a mirror, each of which answers a window from itself alone.
const (
	SQLiteUserWindows     = "workflow_runs_user_windows"
	SQLiteWorkflowWindows = "workflow_runs_workflow_windows"
)

// SQLiteKind and SQLiteRef are what the columns kind and ref_id are generated from.
// SQLite reads the table for a generated column, and for an expression of an index it
// does not, where the query has the same.
const (
	SQLiteKind = "case when user_id is null then null when draft_id is not null then 'draft' when workflow_id = '' then 'all' when workflow_id is not null then 'workflow' end"
	SQLiteRef  = "coalesce(draft_id, workflow_id)"
)

// indexSQLite makes and drops the indexes of windows.
func (m *Migrator) indexSQLite() error {
	for _, i := range []struct {
		wanted        *bool
		name, columns string
	}{
		{m.windows.User, SQLiteUserWindows, "user_id, completed_at, status, evidence, " + SQLiteKind},
		{m.windows.Workflow, SQLiteWorkflowWindows, SQLiteKind + ", " + SQLiteRef + ", completed_at, status, evidence"},
	} {
		if i.wanted == nil {
			continue
		}
		text := "drop index if exists " + i.name
		if *i.wanted {
			text = "create index if not exists " + i.name + " on workflow_runs (" + i.columns + ") where completed_at is not null"
		}
		if _, err := m.sqlite.ExecContext(context.Background(), text); err != nil { // as golang-migrate, which takes no context
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// downSQLite takes back what was applied, in one transaction with the version:
// golang-migrate's steps, of which a big table's takes seconds, leave a version
// behind that says nothing where they are killed. What was interrupted in the
// other direction is applied first, so that it is known what there is.
func (m *Migrator) downSQLite() error {
	at, err := m.known()
	if err != nil {
		return err
	}
	if at.dirty {
		if err := m.Up(); err != nil {
			return fmt.Errorf("finish what was interrupted, before it is taken back: %w", err)
		}
	}
	if err := m.dropSQLite(); err != nil {
		return fmt.Errorf("migrate down: %w", err)
	}
	return nil
}

func (m *Migrator) dropSQLite() error {
	ctx := context.Background() // as golang-migrate, which takes none
	tx, err := m.sqlite.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	// The first statement writes, which takes the lock: what is read behind it
	// is not another process's half.
	steps := func() error {
		if _, err := tx.ExecContext(ctx, `update schema_migrations set dirty = dirty`); err != nil {
			return err
		}
		var at version
		err := tx.QueryRowContext(ctx, `select version, dirty from schema_migrations`).Scan(&at.number, &at.dirty)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil // nothing is applied
		case err != nil:
			return err
		case at.dirty:
			return errors.New("another process is migrating this file: try again")
		}
		for _, s := range slices.Backward(scripts("sqlite/*.down.sql")) { // the latest first
			if int(s.version) > at.number {
				continue
			}
			if _, err := tx.ExecContext(ctx, s.sql); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `delete from schema_migrations`)
		return err
	}
	if err := steps(); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// PrintSQLite returns the SQL of all migrations up, in order.
func PrintSQLite() string {
	var b strings.Builder
	for _, s := range scripts(sqliteUp) {
		fmt.Fprintf(&b, "-- %s\n%s\n", s.file, s.sql)
	}
	return b.String()
}
