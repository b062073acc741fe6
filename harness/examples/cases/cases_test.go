// Package cases has what went wrong when the first version was tried by programs
// that it had not been made for, each as such a program: it imports what any
// module can. The numbers are those of the cases.
package cases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
)

// found fails the test unless a failure is found, which says want, again in each of
// three replays.
func found(t *testing.T, r *harness.Result, want string) *harness.Report {
	t.Helper()
	if r.Failure == nil {
		t.Fatalf("nothing was found: %s", r)
	}
	text := r.Report.String()
	if !strings.Contains(text, want) || r.Report.Again != 3 || len(r.Report.Steps) == 0 {
		t.Errorf("got, want %q and 3 of 3:\n%s", want, text)
	}
	return r.Report
}

// allOrders fails the test unless all orders were tried, and none failed.
func allOrders(t *testing.T, r *harness.Result) {
	t.Helper()
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if text := r.String(); !strings.Contains(text, "all orders, 0 failing") || len(r.Unseen) > 0 {
		t.Errorf("got %s, unseen %q, want all orders", text, r.Unseen)
	}
}

const counter = `create table counter (n integer not null); insert into counter values (0)`

func read(ctx context.Context, db *sql.DB) (n int, err error) {
	err = db.QueryRowContext(ctx, `select n from counter`).Scan(&n)
	return n, err
}

// lookThenWrite is a lost update.
func lookThenWrite(ctx context.Context, db *sql.DB) error {
	n, err := read(ctx, db)
	if err == nil {
		_, err = db.ExecContext(ctx, `update counter set n = ?`, n+1)
	}
	return err
}

func increment(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `update counter set n = n + 1`)
	return err
}

func counts(db *sql.DB, want int) func() error {
	return func() error {
		n, err := read(context.Background(), db)
		if err == nil && n != want {
			err = fmt.Errorf("%d, and not %d", n, want)
		}
		return err
	}
}

// two has ann and bob do the same at once, and the counter be 2 afterwards.
func two(do func(ctx context.Context, db *sql.DB) error) func(s *harness.Sim) {
	return func(s *harness.Sim) {
		db := sqlite.Open(s, counter)
		for _, name := range []string{"ann", "bob"} {
			s.Go(name, func(ctx context.Context) error { return do(ctx, db) })
		}
		s.Eventually("both are counted", counts(db, 2))
	}
}

func TestH1AFailureWithTheClockInItIsReproduced(t *testing.T) {
	report := found(t, harness.Explore(t, func(s *harness.Sim) {
		db := sqlite.Open(s, counter)
		s.Go("worker", func(ctx context.Context) error {
			if err := increment(ctx, db); err != nil {
				return err
			}
			return increment(ctx, db) // the lease has run out by then, or not
		})
		s.Go("reaper", func(ctx context.Context) error {
			if err := s.Sleep(time.Minute); err != nil {
				return err
			}
			_, err := db.ExecContext(ctx, `update counter set n = 0 where n = 1`)
			return err
		})
		s.Eventually("the worker's work is there", counts(db, 2))
	}), "the clock moves to 1m0s")
	if !strings.Contains(report.Schedule.String(), "c1") {
		t.Errorf("the clock has no step in %s", report.Schedule)
	}
}

func TestH2EachStatementOfATextIsAStep(t *testing.T) {
	found(t, harness.Explore(t, func(s *harness.Sim) {
		db := sqlite.Open(s, counter, `create table seen (who text, n integer)`)
		for _, name := range []string{"ann", "bob"} {
			s.Go(name, func(ctx context.Context) error {
				_, err := db.ExecContext(ctx, `insert into seen select ?1, n from counter; update counter set n = 1 + (select n from seen where who = ?1)`, name)
				return err
			})
		}
		s.Eventually("both are counted", counts(db, 2))
	}), "1, and not 2")
}

func TestH5VirtualTablesAreSeenAndReset(t *testing.T) {
	notes := func(write string) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			db := sqlite.Open(s, `create virtual table notes using fts5(body)`)
			for _, name := range []string{"ann", "bob"} {
				s.Go(name, func(ctx context.Context) error {
					_, err := db.ExecContext(ctx, write)
					return err
				})
			}
			s.Eventually("there is one note", func() error {
				var n int
				err := db.QueryRow(`select count(*) from notes where notes match 'milk'`).Scan(&n)
				if err == nil && n != 1 {
					err = fmt.Errorf("%d notes", n)
				}
				return err
			})
		}
	}
	found(t, harness.Explore(t, notes(`insert into notes values ('milk')`)), "2 notes")
	allOrders(t, harness.Explore(t, notes(`insert into notes select 'milk' where not exists (select 1 from notes where notes match 'milk')`)))
}

// TestH6WhoUsesOneEngineLinksNoOther, so that gorm's driver of the same name is no
// trouble: its own test is beside this one.
func TestH6WhoUsesOneEngineLinksNoOther(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-test", "../gorm").Output()
	if err != nil {
		t.Fatal(err)
	}
	if engines := regexp.MustCompile(`(?m)^modernc\.org/sqlite$|^github\.com/jackc/pgx.*$`).FindAllString(string(out), -1); len(engines) > 0 {
		t.Errorf("the code over gorm links %q", engines)
	}
}

func TestH7ALostConnectionWakesWhoWaits(t *testing.T) {
	for _, strategy := range []harness.Strategy{harness.Exhaustive(0), harness.Random(500), harness.PCT(3, 500)} {
		r := harness.Explore(t, func(s *harness.Sim) {
			db := sqlite.New(s, sqlite.Config{Faults: []harness.Fault{harness.LostBefore, harness.LostAfter}, Setup: func(_ string, db *sql.DB) error {
				_, err := db.Exec(counter)
				return err
			}}).Open()
			for _, name := range []string{"ann", "bob"} {
				s.Go(name, func(ctx context.Context) error {
					tx, err := db.BeginTx(ctx, nil)
					if err != nil {
						return err
					}
					if _, err = tx.ExecContext(ctx, `update counter set n = n + 1`); err != nil {
						return errors.Join(err, tx.Rollback())
					}
					if err := tx.Commit(); err != nil && !errors.Is(err, harness.ErrLost) {
						return err
					}
					return nil
				})
			}
			s.Always("not more than two", func() error {
				n, err := read(context.Background(), db)
				if err == nil && n > 2 {
					err = fmt.Errorf("%d", n)
				}
				return err
			})
		}, harness.WithStrategies(strategy))
		if r.Failure != nil {
			t.Error(r.Report)
		}
	}
}

func TestH8AnOracleWaitsForNoWriter(t *testing.T) {
	allOrders(t, harness.Explore(t, func(s *harness.Sim) {
		db := sqlite.Open(s, counter)
		s.Go("ann", func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			for _, text := range []string{`savepoint inner`, `update counter set n = n + 1`, `release inner`} {
				if _, err := tx.ExecContext(ctx, text); err != nil {
					return errors.Join(err, tx.Rollback())
				}
			}
			if err := s.Step("thinks"); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		})
		s.Go("bob", func(ctx context.Context) error { return increment(ctx, db) })
		s.Always("it is from 0 to 2", func() error {
			n, err := read(context.Background(), db)
			if err == nil && (n < 0 || n > 2) {
				err = fmt.Errorf("%d", n)
			}
			return err
		})
	}))
}

func TestH9ShowReadsWhatIsCommitted(t *testing.T) {
	report := found(t, harness.Explore(t, func(s *harness.Sim) {
		db := sqlite.Open(s, `create table accounts (balance integer not null)`, `insert into accounts values (100)`)
		balance := func() (n int, err error) {
			err = db.QueryRow(`select balance from accounts`).Scan(&n)
			return n, err
		}
		s.Go("ann", func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `update accounts set balance = balance - 60`); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		})
		s.Show("balance", func() string {
			n, err := balance()
			if err != nil {
				return err.Error()
			}
			return fmt.Sprint(n)
		})
		s.Eventually("nothing is taken", func() error {
			n, err := balance()
			if err == nil && n != 100 {
				err = fmt.Errorf("%d", n)
			}
			return err
		})
	}), "balance 100→40")
	if text := report.String(); strings.Contains(text, "→0") {
		t.Errorf("what is not committed is shown:\n%s", text)
	}
}

func TestH10AMutexAChannelAndAPoolOfOneAreWaitedFor(t *testing.T) {
	var mu sync.Mutex
	allOrders(t, harness.Explore(t, two(func(ctx context.Context, db *sql.DB) error {
		mu.Lock()
		defer mu.Unlock()
		return lookThenWrite(ctx, db)
	})))
	token := make(chan bool, 1)
	allOrders(t, harness.Explore(t, two(func(ctx context.Context, db *sql.DB) error {
		token <- true
		defer func() { <-token }()
		return lookThenWrite(ctx, db)
	})))
	one := func(ctx context.Context, db *sql.DB) error {
		db.SetMaxOpenConns(1)
		return lookThenWrite(ctx, db)
	}
	found(t, harness.Explore(t, two(one)), "lost update")
}

func TestH10AWorkerOnATickerEndsWhenTheOthersHave(t *testing.T) {
	worker := func(each time.Duration, seen *[]int) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			db := sqlite.Open(s, counter)
			*seen = nil
			s.Go("worker", func(ctx context.Context) error {
				for tick := time.NewTicker(each); ; {
					select {
					case <-ctx.Done():
						tick.Stop()
						return nil
					case <-tick.C:
						n, err := read(ctx, db)
						if err != nil {
							return err
						}
						*seen = append(*seen, n)
					}
				}
			}, harness.Background(3))
			s.Go("ann", func(ctx context.Context) error { return increment(ctx, db) })
			for n := range 2 {
				s.Sometimes(fmt.Sprintf("it sees %d at first", n), func() bool { return len(*seen) > 0 && (*seen)[0] == n })
			}
		}
	}
	var seen []int
	r := harness.Explore(t, worker(200*time.Millisecond, &seen))
	if r.Failure != nil || len(r.Unseen) > 0 || !strings.Contains(r.String(), "but for what happens inside waiting for the machine's clock (select at cases_test.go:") {
		t.Errorf("got %s, unseen %q, want all, and the clock named; %v", r, r.Unseen, r.Report)
	}
	r = harness.Explore(t, worker(time.Hour, &seen))
	if r.Failure != nil || !strings.Contains(r.String(), "what follows select at cases_test.go:") {
		t.Errorf("got %s, want what was not explored; %v", r, r.Report)
	}
}

func TestH11AGoroutineThatUsesTheDatabaseIsNamed(t *testing.T) {
	r := harness.Explore(t, two(func(ctx context.Context, db *sql.DB) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return increment(ctx, db) })
		return group.Wait()
	}))
	if r.Failure == nil || !strings.Contains(r.Failure.Message, "errgroup.(*Group).Go has started for the actor ") {
		t.Errorf("got %v, want the sentence that says which goroutine", r.Failure)
	}
}

func TestH13WhatNeedsOneFaultIsToldWithOne(t *testing.T) {
	report := found(t, harness.Explore(t, func(s *harness.Sim) {
		s.Faults(2)
		db := sqlite.Open(s, counter)
		for _, name := range []string{"ann", "bob"} {
			s.Go(name, func(ctx context.Context) error {
				if err := increment(ctx, db); err != nil {
					return err
				}
				return increment(ctx, db)
			}, harness.MayCrash())
		}
		s.Eventually("all is counted", counts(db, 4))
	}, harness.WithStrategies(harness.Random(2000))), "all is counted")
	if report.Faults != 1 {
		t.Errorf("told with %d faults, want 1:\n%s", report.Faults, report)
	}
}

func TestH14TablesApartAreOneSchedule(t *testing.T) {
	apart := func(tables ...string) *harness.Result {
		return harness.Explore(t, func(s *harness.Sim) {
			db := sqlite.Open(s, `create table a (n)`, `create table b (n)`, `create table c (n)`)
			for _, table := range tables {
				s.Go("of "+table, func(ctx context.Context) error {
					for range 4 {
						if _, err := db.ExecContext(ctx, `insert into `+table+` values (1)`); err != nil {
							return err
						}
					}
					return nil
				})
			}
		}, harness.WithStrategies(harness.Exhaustive(0)))
	}
	r := apart("a", "b", "c")
	allOrders(t, r)
	if r.Schedules() != 1 {
		t.Errorf("three tables: %d schedules, want 1", r.Schedules())
	}
	if r := apart("a", "a"); r.Schedules() < 2 {
		t.Errorf("one table: %d schedules, want several", r.Schedules())
	}
}

// TestH15ASavedScheduleKeepsItsActors when one comes whose name begins earlier, and
// what does not fit any more fails. It runs the test that fails apart.
func TestH15ASavedScheduleKeepsItsActors(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(with string) string {
		cmd := exec.CommandContext(t.Context(), self, "-test.run", "^TestIsSaved$")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CASES_ACTORS="+with)
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Fatalf("with %s it passes:\n%s", with, out)
		}
		return string(out)
	}
	if text := run("bob,cy"); !strings.Contains(text, "saved testdata") {
		t.Fatalf("nothing is saved:\n%s", text)
	}
	if text := run("ann,bob,cy"); !strings.Contains(text, "lost update") || strings.Contains(text, "does not fit") {
		t.Errorf("with one more:\n%s", text)
	}
	if text := run("bob"); !strings.Contains(text, "does not fit the code any more") {
		t.Errorf("with one less:\n%s", text)
	}
}

func TestIsSaved(t *testing.T) {
	actors := os.Getenv("CASES_ACTORS")
	if actors == "" {
		return // it is run by TestH15ASavedScheduleKeepsItsActors
	}
	harness.Test(t, func(s *harness.Sim) {
		db := sqlite.Open(s, counter)
		for name := range strings.SplitSeq(actors, ",") {
			s.Go(name, func(ctx context.Context) error {
				if name == "ann" {
					_, err := read(ctx, db)
					return err
				}
				return lookThenWrite(ctx, db)
			})
		}
		s.Eventually("bob and cy are counted", counts(db, strings.Count(strings.ReplaceAll(actors, "ann,", ""), ",")+1))
	})
}

func TestH16TheDatabasesClockAndDrawnNamesAreTheSameEachTime(t *testing.T) {
	tell := func() string {
		drawn := 0
		r := harness.Explore(t, func(s *harness.Sim) {
			db := sqlite.Open(s, `create table log (at text default current_timestamp)`)
			s.Go("ann", func(ctx context.Context) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				drawn++
				point := fmt.Sprintf("sp0x%x", time.Now().UnixNano())
				for _, text := range []string{`savepoint ` + point, `insert into log default values`, `release ` + point} {
					if _, err := tx.ExecContext(ctx, text); err != nil {
						return errors.Join(err, tx.Rollback())
					}
				}
				return tx.Commit()
			})
			s.Eventually("nothing is logged", func() error {
				var at string
				err := db.QueryRow(`select at from log`).Scan(&at)
				if err == nil {
					err = errors.New(at)
				}
				return err
			})
		})
		return found(t, r, "2026-01-01 00:00:00").String()
	}
	if one, other := tell(), tell(); one != other {
		t.Errorf("two runs differ:\n%s\n%s", one, other)
	}
}

func TestH18AnActorThatLeavesIsToldWithItsSchedule(t *testing.T) {
	found(t, harness.Explore(t, two(func(ctx context.Context, db *sql.DB) error {
		if n, err := read(ctx, db); err != nil || n == 1 {
			runtime.Goexit() // as t.Fatal does
		}
		return increment(ctx, db)
	})), "t.Fatal")
}

func TestH18ATransactionWhoseContextEndsIsSurvived(t *testing.T) {
	allOrders(t, harness.Explore(t, func(s *harness.Sim) {
		db := sqlite.Open(s, counter)
		s.Go("ann", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			tx, err := db.BeginTx(ctx, nil)
			if err == nil {
				_, err = tx.ExecContext(ctx, `update counter set n = n + 10`)
			}
			return err // and never ends it
		})
		s.Go("bob", func(ctx context.Context) error { return increment(ctx, db) })
		s.Eventually("bob alone is counted", counts(db, 1))
	}))
}
