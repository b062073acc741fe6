package sqlite

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// counter is a table with one row, which every actor increments.
func counter(s *harness.Sim, wal bool, faults ...harness.Fault) *Database {
	return New(s, Config{WAL: wal, Faults: faults, Setup: func(_ string, db *sql.DB) error {
		_, err := db.Exec(harnesstest.Counter)
		return err
	}})
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
