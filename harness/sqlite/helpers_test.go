package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
)

// counter is a table with one row, which every actor increments.
func counter(s *harness.Sim, wal bool, faults ...harness.Fault) *Database {
	return New(s, Config{WAL: wal, Faults: faults, Setup: func(_ string, db *sql.DB) error {
		_, err := db.Exec(`create table counter (n integer not null); insert into counter values (0)`)
		return err
	}})
}

func increment(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `update counter set n = n + 1`); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func read(db *sql.DB) (n int, err error) {
	err = db.QueryRow(`select n from counter`).Scan(&n)
	return n, err
}

// TestFixesAreInWordsOfSQLite, which locks no rows.
func TestFixesAreInWordsOfSQLite(t *testing.T) {
	traits := (&Database{}).Traits()
	for _, words := range []string{traits.KeepRow, traits.ComeFirst, traits.ReadAfresh} {
		if words == "" || strings.Contains(words, "for update") {
			t.Errorf("it says %q", words)
		}
	}
}
