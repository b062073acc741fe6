package sqlmodel_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/harness/postgres/sqlmodel"
)

const accounts = `create table accounts (id int primary key, balance int not null check (balance >= 0));
	create table log (id serial primary key, account int references accounts);
	insert into accounts values (1, 10), (2, 10)`

// code is the SQLSTATE of an error.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// within runs a transaction, whose error is that of the first statement that fails.
func within(ctx context.Context, db *sql.DB, statements ...string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, text := range statements {
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func number(db *sql.DB, query string) (n int) {
	if err := db.QueryRow(query).Scan(&n); err != nil {
		return -1
	}
	return n
}

func TestTwoLocksInTwoOrdersAreADeadlock(t *testing.T) {
	t.Parallel()
	transfer := func(from, to int) []string {
		return []string{fmt.Sprintf(`update accounts set balance = balance - 1 where id = %d`, from), fmt.Sprintf(`update accounts set balance = balance + 1 where id = %d`, to)}
	}
	r := harness.Explore(t, func(s *harness.Sim) {
		db := sqlmodel.Open(s, accounts)
		s.Go("there", func(ctx context.Context) error { return within(ctx, db, transfer(1, 2)...) })
		s.Go("back", func(ctx context.Context) error { return within(ctx, db, transfer(2, 1)...) })
	})
	report := harnesstest.MustFail(t, r, "error", "40P01")
	if text := report.String(); !strings.Contains(text, "waits for") {
		t.Errorf("no wait in\n%s", text)
	}
}

// TestAWaitIsExplored has an insert that waits for another's end: it fails, or
// inserts, by what that was.
func TestAWaitForAUniqueIndexIsExplored(t *testing.T) {
	t.Parallel()
	outcomes := map[string]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		db := sqlmodel.Open(s, `create table names (name text primary key)`)
		var one, two error
		s.Go("gives up", func(ctx context.Context) error {
			one = within(ctx, db, `insert into names values ('ada')`, `insert into names values (null)`)
			return nil
		})
		s.Go("inserts", func(ctx context.Context) error {
			_, two = db.ExecContext(ctx, `insert into names values ($1)`, "ada")
			return nil
		})
		s.Eventually("one row", func() error {
			outcomes[code(one)+" "+code(two)] = true
			if n := number(db, `select count(*) from names`); n != 1 {
				return fmt.Errorf("%d rows", n)
			}
			return nil
		})
	})
	harnesstest.MustPass(t, r)
	if !outcomes["23502 "] || !outcomes["23505 "] || len(outcomes) != 2 {
		t.Errorf("outcomes %v", outcomes)
	}
}

// TestARefusalFailsTheScheduleWhateverTheCodeMakesOfIt has code that takes every
// error for an empty table.
func TestARefusalFailsTheScheduleWhateverTheCodeMakesOfIt(t *testing.T) {
	t.Parallel()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := sqlmodel.Open(s, accounts)
		s.Go("a", func(ctx context.Context) error {
			_, _ = db.ExecContext(ctx, `select rank() over (order by id) from accounts`)
			return nil
		})
	})
	if r.Failure == nil || r.Failure.Kind != "unscheduled" || r.Failure.Message != "the model does not know window functions: explore this on a server, postgres.Start" {
		t.Errorf("%+v", r.Failure)
	}
}

// TestForeignKeysLockTheParent has a parent deleted beside an insert of a child.
func TestForeignKeysLockTheParent(t *testing.T) {
	t.Parallel()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := sqlmodel.Open(s, accounts)
		for name, text := range map[string]string{"writes": `insert into log (account) values (1)`, "closes": `delete from accounts where id = 1`} {
			s.Go(name, func(ctx context.Context) error {
				if err := within(ctx, db, text); err != nil && code(err) != "23503" {
					return err
				}
				return nil
			})
		}
		s.Always("no line of an account that is gone", func() error {
			if n := number(db, `select count(*) from log l where not exists (select 1 from accounts a where a.id = l.account)`); n != 0 {
				return fmt.Errorf("%d of them", n)
			}
			return nil
		})
		s.Eventually("one did it", func() error {
			if number(db, `select count(*) from log`)+2-number(db, `select count(*) from accounts`) != 1 {
				return errors.New("both, or none")
			}
			return nil
		})
	})
	harnesstest.MustPass(t, r)
}

// TestRepeatableReadFailsWhereTheRowHasChanged loses no update, by 40001.
func TestRepeatableReadFailsWhereTheRowHasChanged(t *testing.T) {
	t.Parallel()
	refused := false
	r := harness.Explore(t, func(s *harness.Sim) {
		db, done := sqlmodel.Open(s, accounts), 0
		for _, name := range []string{"a", "b"} {
			s.Go(name, func(ctx context.Context) error {
				tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
				if err != nil {
					return err
				}
				var n int
				if err := tx.QueryRowContext(ctx, `select balance from accounts where id = 1`).Scan(&n); err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, `update accounts set balance = $1 where id = 1`, n+1); err != nil {
					if refused = true; code(err) != "40001" {
						return err
					}
					return tx.Rollback()
				}
				done++
				return tx.Commit()
			})
		}
		s.Eventually("each that came through counts", func() error {
			if n := number(db, `select balance from accounts where id = 1`); n != 10+done {
				return fmt.Errorf("%d after %d", n, done)
			}
			return nil
		})
	})
	harnesstest.MustPass(t, r)
	if !refused {
		t.Error("no schedule had a conflict")
	}
}

// TestACrashGivesLocksBack has an actor die within a transaction.
func TestACrashGivesLocksBack(t *testing.T) {
	t.Parallel()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := sqlmodel.Open(s, accounts)
		s.Go("dies", func(ctx context.Context) error {
			return within(ctx, db, `update accounts set balance = 5 where id = 1`, `select pg_advisory_lock(1)`)
		}, harness.MayCrash())
		s.Go("waits", func(ctx context.Context) error {
			return within(ctx, db, `select pg_advisory_xact_lock(1)`, `update accounts set balance = balance + 1 where id = 1`)
		})
		s.Eventually("it came through", func() error {
			if n := number(db, `select balance from accounts where id = 1`); n != 5 && n != 6 && n != 11 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	})
	if r.Failure != nil && r.Failure.Kind != "deadlock" {
		t.Errorf("%s", r.Report)
	}
}

// TestAContextThatEndsRollsBack has database/sql roll a transaction back in a
// goroutine of its own.
func TestAContextThatEndsRollsBack(t *testing.T) {
	t.Parallel()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := sqlmodel.Open(s, accounts)
		s.Go("gives up", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `update accounts set balance = 0 where id = 1`); err != nil {
				return err
			}
			cancel()
			return nil
		})
		s.Go("adds", func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, `update accounts set balance = balance + 1 where id = 1`)
			return err
		})
		s.Eventually("11", func() error {
			if n := number(db, `select balance from accounts where id = 1`); n != 11 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	})
	harnesstest.MustPass(t, r)
}

// TestAnswersAreThoseOfPgx has the types that database/sql gets, and an oracle
// that would have to wait.
func TestAnswersAreThoseOfPgx(t *testing.T) {
	t.Parallel()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := sqlmodel.Open(s, accounts+`; create table e (b bool, n numeric(5,2), t timestamptz, d interval, j jsonb)`)
		s.Go("a", func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			row := tx.QueryRowContext(ctx, `insert into e values ($1, $2, $3, '1 day 2 hours', $4) returning *`, true, "1.5", s.Now(), `{"b":1,"a":[]}`)
			var got [5]any
			if err := row.Scan(&got[0], &got[1], &got[2], &got[3], &got[4]); err != nil {
				return err
			}
			if text, want := fmt.Sprint(got), fmt.Sprint([5]any{true, "1.50", s.Now().UTC(), "1 day 02:00:00", `{"a": [], "b": 1}`}); text != want {
				t.Errorf("got %s, want %s", text, want)
			}
			_, err = tx.ExecContext(ctx, `insert into e (b) values ($1)`, 7)
			if err == nil || code(err) != "" {
				t.Errorf("a number for a bool: %v", err)
			}
			return tx.Rollback()
		})
		s.Always("an oracle does not wait", func() error {
			tx, err := db.Begin()
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			_, err = tx.Exec(`select * from accounts for update`)
			return err
		})
	})
	harnesstest.MustPass(t, r)
}

// BenchmarkSchedules explores two transfers of three statements each.
func BenchmarkSchedules(b *testing.B) {
	schedules := 0
	for b.Loop() {
		r := harness.Explore(b, func(s *harness.Sim) {
			db := sqlmodel.Open(s, accounts)
			for _, name := range []string{"a", "b"} {
				s.Go(name, func(ctx context.Context) error {
					return within(ctx, db, `select balance from accounts where id = 1 for update`,
						`update accounts set balance = balance - 1 where id = 1`, `insert into log (account) values (1)`)
				})
			}
		}, harness.WithStrategies(harness.Random(2000)))
		if r.Failure != nil {
			b.Fatal(r.Report)
		}
		schedules += r.Schedules()
	}
	b.ReportMetric(float64(schedules)/b.Elapsed().Seconds(), "schedules/s")
}
