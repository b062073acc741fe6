package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// execAll runs texts on one connection, and gives it back as the last one left
// it.
func execAll(ctx context.Context, db *sql.DB, texts ...string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, text := range texts {
		if _, err := conn.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// committedOnly fails where another connection than the writer's sees what it hasn't committed,
// or nothing.
func committedOnly(db *sql.DB) func() error {
	return func() error {
		n, err := harnesstest.Read(db)
		if err == nil && n != 0 && n != 100 {
			err = fmt.Errorf("n is %d", n)
		}
		return err
	}
}

// TestCaseH8_OraclesReadWhatIsCommitted has a writer that holds the lock while
// they are asked.
func TestCaseH8_OraclesReadWhatIsCommitted(t *testing.T) {
	for name, texts := range map[string][]string{
		"a step in a transaction":      {`begin immediate`, `update counter set n = 50`, `STEP`, `update counter set n = 100`, `commit`},
		"a savepoint in a transaction": {`begin`, `update counter set n = 50`, `savepoint a`, `update counter set n = 60`, `rollback to a`, `update counter set n = 100`, `release a`, `commit`},
		"a savepoint is a transaction": {`savepoint a`, `update counter set n = 50`, `savepoint b`, `update counter set n = 100`, `release b`, `release a`},
		"names in other letters":       {`savepoint "a B"`, `savepoint [A b]`, `update counter set n = 100`, `release 'a b'`, "release savepoint `A B`"},
		"a comment":                    {`/* one; */ savepoint /* a */ a -- b`, `update counter set n = 100`, `rollback transaction to savepoint a`, `update counter set n = 100`, `release a`},
		"an exclusive lock":            {`begin exclusive`, `update counter set n = 50`, `STEP`, `update counter set n = 100`, `commit`},
	} {
		for _, wal := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, wal %v", name, wal), func(t *testing.T) {
				r := harness.Explore(t, func(s *harness.Sim) {
					db := counter(s, wal).Open()
					s.Go("writer", func(ctx context.Context) error {
						conn, err := db.Conn(ctx)
						if err != nil {
							return err
						}
						defer func() { _ = conn.Close() }()
						for _, text := range texts {
							if text == "STEP" {
								err = s.Step("thinks")
							} else {
								_, err = conn.ExecContext(ctx, text)
							}
							if err != nil {
								return fmt.Errorf("%s: %w", text, err)
							}
						}
						return nil
					})
					s.Go("other", func(context.Context) error { return s.Step("is there") })
					s.Always("all or nothing", committedOnly(db))
					s.Eventually("all", func() error {
						n, err := harnesstest.Read(db)
						if err == nil && n != 100 {
							err = fmt.Errorf("n is %d", n)
						}
						return err
					})
				})
				if r.Failure != nil {
					t.Error(r.Report)
				}
				if most := 1 + len(texts)*2; r.Schedules() > most { // no other connection can notice a savepoint
					t.Errorf("%d schedules, at most %d wanted", r.Schedules(), most)
				}
			})
		}
	}
}

// TestCaseH8_ASavepointIsPlanned has the races of transactions that savepoints
// begin and end.
func TestCaseH8_ASavepointIsPlanned(t *testing.T) {
	scenario := func(texts ...string) func(*harness.Sim) {
		return func(s *harness.Sim) {
			db := Open(s, `create table counter (n integer not null)`, `insert into counter values (0)`, `create table seen (who text, n int)`)
			for _, who := range []string{"one", "two"} {
				s.Go(who, func(ctx context.Context) error {
					list := make([]string, len(texts))
					for i, text := range texts {
						list[i] = strings.ReplaceAll(text, "WHO", who)
					}
					return execAll(ctx, db, list...)
				})
			}
			s.Eventually("both are counted", func() error {
				n, err := harnesstest.Read(db)
				if err == nil && n != 2 {
					err = fmt.Errorf("n is %d", n)
				}
				return err
			})
		}
	}
	look := `insert into seen select 'WHO', n from counter`
	act := `update counter set n = 1 + (select n from seen where who = 'WHO')`
	harnesstest.MustFail(t, harness.Explore(t, scenario(`select 1`, look, act)), "eventually", "n is 1")
	if r := harness.Explore(t, scenario(`savepoint a`, look, act, `release a`)); r.Failure != nil {
		t.Error(r.Report)
	}
}

// TestWhatHasNotReadHasNoSnapshot lets a transaction begin with what reads no
// table: it sees what was committed afterwards.
func TestWhatHasNotReadHasNoSnapshot(t *testing.T) {
	for _, first := range []string{`select 1`, `pragma foreign_keys`, `savepoint a`} {
		seen := map[int]bool{}
		r := harness.Explore(t, func(s *harness.Sim) {
			db := counter(s, true).Open()
			s.Go("reader", func(ctx context.Context) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				_, err = tx.ExecContext(ctx, first)
				var n int
				err = errors.Join(err, tx.QueryRowContext(ctx, `select n from counter`).Scan(&n))
				seen[n] = true
				return errors.Join(err, tx.Rollback())
			})
			s.Go("writer", func(ctx context.Context) error { return harnesstest.Increment(ctx, db) })
		})
		if r.Failure != nil || !seen[0] || !seen[1] {
			t.Errorf("after %s: %v; %v", first, seen, r.Report)
		}
	}
}

// TestAConnectionBesideAWriter is opened when the database is locked, and
// plans a statement that no other has.
func TestAConnectionBesideAWriter(t *testing.T) {
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, false).Open()
		s.Go("writer", func(ctx context.Context) error { return harnesstest.Increment(ctx, db) })
		s.Go("reader", func(ctx context.Context) error {
			if err := s.Step("thinks"); err != nil {
				return err
			}
			var n int
			return db.QueryRowContext(ctx, `select n + 1 - 1 from counter where n < 9`).Scan(&n)
		})
	}, harness.WithStrategies(harness.Preemptions(2, 0)))
	if r.Failure != nil {
		t.Error(r.Report)
	}
}

// TestASettingIsOfItsConnection: foreign keys are looked at where they were
// asked for, which is planned for that connection alone.
func TestASettingIsOfItsConnection(t *testing.T) {
	for _, on := range []bool{true, false} {
		lost := 0
		r := harness.Explore(t, func(s *harness.Sim) {
			db := Open(s, `create table p (id integer primary key)`, `create table c (p references p)`, `insert into p values (1)`)
			s.Go("plain", func(ctx context.Context) error { return execAll(ctx, db, `insert into c values (1)`) })
			s.Go("keys", func(ctx context.Context) error {
				return execAll(ctx, db, fmt.Sprintf(`pragma foreign_keys = %v`, on), `delete from p where id = 1 and not exists (select * from c)`)
			})
			s.Eventually("whatever", func() error {
				var n int
				err := db.QueryRow(`select count(*) from c where p not in (select id from p)`).Scan(&n)
				lost += n
				return err
			})
		})
		if r.Failure != nil || lost == 0 {
			t.Errorf("keys %v: %d, %s %v", on, lost, r, r.Report)
		}
	}
}

// TestAnOracleMayWrite, in a transaction, which others of its own see.
func TestAnOracleMayWrite(t *testing.T) {
	for _, wal := range []bool{false, true} {
		r := harness.Explore(t, func(s *harness.Sim) {
			db := counter(s, wal).Open()
			s.Go("worker", func(ctx context.Context) error { return harnesstest.Increment(ctx, db) })
			s.Eventually("a sweep", func() error {
				tx, err := db.Begin()
				if err != nil {
					return err
				}
				var n, outside int
				err = tx.QueryRow(`select n from counter`).Scan(&n)
				if _, err2 := tx.Exec(`update counter set n = n + 10`); err2 != nil {
					err = errors.Join(err, err2)
				}
				err = errors.Join(err, tx.QueryRow(`select n from counter`).Scan(&n), db.QueryRow(`select n from counter`).Scan(&outside), tx.Commit())
				if err == nil && (n != 11 || outside != 1) {
					err = fmt.Errorf("%d within, %d outside", n, outside)
				}
				if err != nil {
					return err
				}
				if n, err = harnesstest.Read(db); err == nil && n != 11 {
					err = fmt.Errorf("%d in the end", n)
				}
				return err
			})
		})
		if r.Failure != nil {
			t.Errorf("wal %v: %v", wal, r.Report)
		}
	}
}
