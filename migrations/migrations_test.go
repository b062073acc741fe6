package migrations

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func mustSQLite(t *testing.T, path string) (*sql.DB, *Migrator) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	m, err := SQLite(db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, m
}

// SQLite makes sqlite_sequence for itself with the first autoincrement, and
// refuses to drop it: its rows are ours, see [numbered].
func schema(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `select type || ' ' || name || ': ' || coalesce(sql, '') from sqlite_master where name <> 'sqlite_sequence' order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// numbered counts the tables of which SQLite remembers the last number.
func numbered(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `select count(*) from sqlite_sequence`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSQLiteGoesUpAndDownAndUpAgain(t *testing.T) {
	db, m := mustSQLite(t, filepath.Join(t.TempDir(), "a.db"))
	before := schema(t, db)
	if s, err := m.Status(); err != nil || s.Version != 0 || s.Latest != 5 {
		t.Errorf("Status: got %+v, %v; want version 0 of 5", s, err)
	}
	for range 2 {
		if err := m.Up(); err != nil {
			t.Fatal(err)
		}
	}
	up := schema(t, db)
	if s, err := m.Status(); err != nil || s.Version != s.Latest || s.Dirty {
		t.Errorf("Status: got %+v, %v; want the latest", s, err)
	}
	for range 2 {
		if err := m.Down(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, schema(t, db)); diff != "" {
		t.Errorf("down left something behind (-before +after):\n%s", diff)
	}
	if n := numbered(t, db); n != 0 {
		t.Errorf("down left the numbering of %d tables behind", n)
	}
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(up, schema(t, db)); diff != "" {
		t.Errorf("up, down and up differs from up (-up +again):\n%s", diff)
	}
}

// A process that is killed between two of golang-migrate's steps leaves the
// version dirty, with the migration's own transaction committed or not.
func TestSQLiteRunsAnInterruptedMigrationAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		apply string // what had committed
		dirty int
	}{
		{"the first, before its commit", "", 1},
		{"the first, after its commit", "000001_runs_and_counts", 1},
		{"the second, before its commit", "000001_runs_and_counts", 2},
		{"the second, after its commit", "000001_runs_and_counts 000002_logs", 2},
		{"the last, after its commit", "000001_runs_and_counts 000002_logs 000003_imports 000004_lists", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, m := mustSQLite(t, filepath.Join(t.TempDir(), "a.db"))
			for name := range strings.FieldsSeq(c.apply) {
				text, err := files.ReadFile("sqlite/" + name + ".up.sql")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := db.ExecContext(t.Context(), string(text)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := db.ExecContext(t.Context(), `insert into schema_migrations values (?, true)`, c.dirty); err != nil {
				t.Fatal(err)
			}
			if err := m.Up(); err != nil {
				t.Fatal(err)
			}
			if s, err := m.Status(); err != nil || s.Version != s.Latest || s.Dirty {
				t.Errorf("Status: got %+v, %v; want the latest, clean", s, err)
			}
		})
	}
}

// dirtied is a file with a run in it, whose version says that something was
// interrupted there.
func dirtied(t *testing.T, version int) (*sql.DB, *Migrator) {
	t.Helper()
	db, m := mustSQLite(t, filepath.Join(t.TempDir(), "a.db"))
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`insert into idempotency_keys (user_id, idempotency_key, run_id) values ('a', 'kept', 'r')`,
		`delete from schema_migrations`,
		`insert into schema_migrations values (` + strconv.Itoa(version) + `, true)`,
	} {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	return db, m
}

func TestCasesD22AndD25_AnInterruptedSQLiteFileGoesUpAndDown(t *testing.T) {
	for version := -1; version <= 4; version++ {
		t.Run(fmt.Sprintf("case D22: version %d is named, and up heals it", version), func(t *testing.T) {
			db, m := dirtied(t, version)
			if s, err := m.Status(); err != nil || !s.Dirty || s.GoingDown != (version < 0) {
				t.Errorf("Status: got %+v, %v; want it dirty, and on its way down at -1 alone", s, err)
			}
			if err := m.Up(); err != nil {
				t.Fatal(err)
			}
			if s, err := m.Status(); err != nil || s.Version != s.Latest || s.Dirty || s.GoingDown {
				t.Errorf("Status: got %+v, %v; want the latest, clean", s, err)
			}
			var kept int
			if err := db.QueryRowContext(t.Context(), `select count(*) from idempotency_keys`).Scan(&kept); err != nil || kept != 1 {
				t.Errorf("%d rows, %v are left of 1", kept, err)
			}
		})
		t.Run(fmt.Sprintf("case D25: down goes on from version %d", version), func(t *testing.T) {
			db, m := dirtied(t, version)
			if err := m.Down(); err != nil {
				t.Fatal(err)
			}
			if s, err := m.Status(); err != nil || s.Version != 0 || s.Dirty {
				t.Errorf("Status: got %+v, %v; want nothing applied", s, err)
			}
			if left := schema(t, db); len(left) != 2 { // golang-migrate's table and its index
				t.Errorf("down left %q", left)
			}
		})
	}
	t.Run("case D22: a newer file is not taken back", func(t *testing.T) {
		_, m := dirtied(t, 99)
		if err := m.Down(); err == nil || !strings.Contains(err.Error(), "run a newer runcounter") {
			t.Errorf("Down: got %v, want a refusal that says what to do", err)
		}
	})
}

func TestSQLiteIsMigratedByManyAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	var wg sync.WaitGroup
	var migrators []*Migrator
	for range 4 {
		_, m := mustSQLite(t, path)
		migrators = append(migrators, m)
	}
	for _, m := range migrators {
		wg.Go(func() {
			if err := m.Up(); err != nil {
				t.Errorf("Up: %v", err)
			}
		})
	}
	wg.Wait()
	if s, err := migrators[0].Status(); err != nil || s.Version != s.Latest || s.Dirty {
		t.Errorf("Status: got %+v, %v; want the latest, clean", s, err)
	}
}

func TestSQLiteOfANewerProgramIsRefused(t *testing.T) {
	db, m := mustSQLite(t, filepath.Join(t.TempDir(), "a.db"))
	if _, err := db.ExecContext(t.Context(), `insert into schema_migrations values (99, false)`); err != nil {
		t.Fatal(err)
	}
	if err := m.Up(); err == nil || !strings.Contains(err.Error(), "run a newer runcounter") {
		t.Errorf("Up: got %v, want a refusal that says what to do", err)
	}
}

func TestPrintSQLiteIsTheWholeSchema(t *testing.T) {
	text := PrintSQLite()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for range 2 {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	var bare string
	err = db.QueryRowContext(t.Context(), `select coalesce(group_concat(name), '') from sqlite_master where type = 'table' and name not like 'sqlite_%' and sql not like '%( -- %'`).Scan(&bare)
	if err != nil || bare != "" {
		t.Errorf("tables without a comment, which .schema would show: %s, %v; want none", bare, err)
	}
}

// TestAFifthTerminalStatusWouldBeAValue: no table of ours lists the four.
func TestAFifthTerminalStatusWouldBeAValue(t *testing.T) {
	t.Parallel()
	db, m := mustSQLite(t, filepath.Join(t.TempDir(), "runs.db"))
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	for _, object := range schema(t, db) {
		if strings.Contains(object, string(store.Timeout)) {
			t.Errorf("SQLite: %s", object)
		}
	}
	address := pgtest.Database(t)
	mustUp(t, address)
	for _, check := range ask(t, address, `select conrelid::regclass || ': ' || pg_get_constraintdef(oid) from pg_constraint where connamespace = 'run_counter'::regnamespace and pg_get_constraintdef(oid) like '%timeout%'`) {
		t.Errorf("PostgreSQL: %s", check)
	}
}
