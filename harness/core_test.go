package harness_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
	"github.com/edgaze-ai/runcounter/internal/need"
)

// counter is a table with one row, which every actor increments.
func counter(s *harness.Sim, wal bool, faults ...harness.Fault) *sqlite.Database {
	return sqlite.New(s, sqlite.Config{WAL: wal, Faults: faults, Setup: func(_ string, db *sql.DB) error {
		_, err := db.Exec(harnesstest.Counter)
		return err
	}})
}

func TestWhatTheHarnessReports(t *testing.T) {
	t.Run("an actor's error", func(t *testing.T) {
		harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
			s.Go("worker", func(context.Context) error { return errors.New("no luck") })
		}), "error", "no luck")
	})
	t.Run("an actor's panic, with its stack", func(t *testing.T) {
		r := harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
			s.Go("worker", func(context.Context) error { panic("out of luck") })
		}), "panic", "out of luck")
		if !strings.Contains(r.String(), "core_test.go") {
			t.Errorf("no stack in\n%s", r)
		}
	})
	t.Run("a schedule that never ends", func(t *testing.T) {
		harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
			s.Go("worker", func(context.Context) error {
				for {
					if err := s.Step("again"); err != nil {
						return err
					}
				}
			})
		}), "livelock", "no end")
	})
	t.Run("an actor that never gives up", func(t *testing.T) {
		harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
			db := counter(s, true).Open()
			s.Go("worker", func(ctx context.Context) error {
				for harnesstest.Increment(ctx, db) != nil {
				}
				return nil
			}, harness.MayCrash())
		}), "error", "for ever")
	})
	t.Run("what must hold in the end", func(t *testing.T) {
		harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
			s.Eventually("the sky is blue", func() error { return errors.New("it is grey") })
		}), "eventually", "grey")
	})
	t.Run("a scenario that does not do the same twice", func(t *testing.T) {
		n := 0
		r := harness.Explore(t, func(s *harness.Sim) {
			n++
			for i := range 2 {
				s.Go(fmt.Sprint("actor", i), func(context.Context) error {
					for range 1 + n%2 {
						if err := s.Step("step"); err != nil {
							return err
						}
					}
					return nil
				})
			}
		})
		if r.Failure == nil || r.Failure.Kind != "diverged" || !strings.Contains(r.Failure.Message, "the same twice") {
			t.Errorf("got %+v, want diverged", r.Failure)
		}
	})
	t.Run("actors that wait for each other, and for what", func(t *testing.T) {
		r := harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
			one, two := counter(s, true), counter(s, true)
			both := func(name string, from, to *sqlite.Database) {
				a, b := sql.OpenDB(from.Connector("?_txlock=immediate")), to.Open()
				s.OnEnd(func() { _ = a.Close() })
				s.Go(name, func(ctx context.Context) error {
					tx, err := a.BeginTx(ctx, nil)
					if err != nil {
						return err
					}
					_, err = b.ExecContext(ctx, `update counter set n = n + 1`)
					return errors.Join(err, tx.Commit())
				})
			}
			both("first", one, two)
			both("second", two, one)
		}), "deadlock", "first waits in update counter set n = n + 1, for second, in an open transaction")
		if !strings.Contains(r.String(), "second waits in update counter set n = n + 1, for first, in an open transaction") {
			t.Errorf("half of the circle is missing in\n%s", r)
		}
	})
}

func TestSometimesMustBeSeen(t *testing.T) {
	scenario := func(s *harness.Sim) {
		db := counter(s, true).Open()
		s.Go("worker", func(ctx context.Context) error { return harnesstest.Increment(ctx, db) })
		s.Sometimes("the counter is 1", func() bool { n, err := harnesstest.Read(db); return err == nil && n == 1 })
		s.Sometimes("the counter is 2", func() bool { n, err := harnesstest.Read(db); return err == nil && n == 2 })
	}
	if r := harness.Explore(t, scenario); len(r.Unseen) != 1 || r.Unseen[0] != "the counter is 2" {
		t.Errorf("unseen: %q", r.Unseen)
	}
}

// TestFaults counts what each fault leaves: nothing was half done.
func TestFaults(t *testing.T) {
	seen := map[string]int{}
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true, harness.Refused, harness.LostBefore, harness.LostAfter).Open()
		var told error
		s.Go("worker", func(ctx context.Context) error {
			told = harnesstest.Increment(ctx, db)
			return nil
		}, harness.MayCrash())
		s.Eventually("all or nothing", func() error {
			n, err := harnesstest.Read(db)
			if err != nil {
				return err
			}
			switch {
			case told == nil && n != 1, n > 1:
				return fmt.Errorf("told %v, and the counter is %d", told, n) //nolint:errorlint // a text
			}
			why := "done"
			switch {
			case told != nil && strings.Contains(told.Error(), "SQLITE_BUSY"):
				why = "refused"
			case errors.Is(told, harness.ErrLost):
				why = "lost"
			case told != nil && strings.Contains(told.Error(), "the process crashed"):
				why = "crashed"
			}
			seen[fmt.Sprintf("%s, counter %d", why, n)]++
			return nil
		})
	})
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	for _, want := range []string{"done, counter 1", "refused, counter 0", "lost, counter 0", "lost, counter 1", "crashed, counter 0", "crashed, counter 1"} {
		if seen[want] == 0 {
			t.Errorf("never %s: %v", want, seen)
		}
	}
}

// TestTheDeadHoldNoLocks lets a process die that is not started again, with a
// transaction that it doesn't roll back.
func TestTheDeadHoldNoLocks(t *testing.T) {
	for _, wal := range []bool{true, false} {
		r := harness.Explore(t, func(s *harness.Sim) {
			db := counter(s, wal).Open()
			s.Go("dies", func(ctx context.Context) error {
				conn, err := db.Conn(ctx)
				if err != nil {
					return err
				}
				defer func() { _ = conn.Close() }()
				for _, text := range []string{`begin immediate`, `update counter set n = 100`, `commit`} {
					if _, err := conn.ExecContext(ctx, text); err != nil {
						return err
					}
				}
				return nil
			}, harness.MayCrash())
			s.Go("lives", func(ctx context.Context) error { return harnesstest.Increment(ctx, db) })
			s.Always("all or nothing", func() error {
				n, err := harnesstest.Read(db)
				if err == nil && n != 0 && n != 1 && n != 100 && n != 101 {
					err = fmt.Errorf("n is %d", n)
				}
				return err
			})
		})
		if r.Failure != nil {
			t.Errorf("wal %v:\n%s", wal, r.Report)
		}
	}
}

// TestWhoWaitsIsNotAskedAgain until another actor has made progress, or a sampled
// schedule would pick the same actor for ever.
func TestWhoWaitsIsNotAskedAgain(t *testing.T) {
	r := harness.Explore(t, func(s *harness.Sim) {
		s.Faults(2)
		db := counter(s, true).Open()
		for i := range 3 {
			s.Go(fmt.Sprint("worker ", i), func(ctx context.Context) error {
				for range 2 {
					if err := harnesstest.Increment(ctx, db); err != nil {
						return err
					}
				}
				return nil
			}, harness.Restarts())
		}
		s.Eventually("all are counted", func() error {
			if n, err := harnesstest.Read(db); err != nil || n < 6 {
				return errors.Join(err, fmt.Errorf("n is %d", n))
			}
			return nil
		})
	}, harness.WithStrategies(harness.PCT(3, 300), harness.Random(300)))
	if r.Failure != nil || r.Schedules() != 600 {
		t.Errorf("%s\n%v", r, r.Report)
	}
}

// TestACrashIsFollowedByARestart on what the dead process left.
func TestACrashIsFollowedByARestart(t *testing.T) {
	crashes := 0
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		starts := 0
		s.Go("worker", func(ctx context.Context) error {
			if starts++; starts > 1 {
				crashes++
			}
			return harnesstest.Increment(ctx, db)
		}, harness.Restarts())
		s.Eventually("it was done once, or twice where the answer was lost", func() error {
			n, err := harnesstest.Read(db)
			if err == nil && (n < 1 || n > starts) {
				err = fmt.Errorf("%d starts, counter %d", starts, n)
			}
			return err
		})
	})
	if r.Failure != nil || crashes < 3 {
		t.Errorf("%d crashes; %v", crashes, r.Report)
	}
}

// TestTheClockIsAStep has a lease that runs out: before, and after, its holder
// is done.
func TestTheClockIsAStep(t *testing.T) {
	seen := map[string]bool{}
	start := time.Now()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		order, began := "", s.Now()
		s.Go("holder", func(ctx context.Context) error {
			err := harnesstest.Increment(ctx, db)
			order += "h"
			return err
		})
		s.Go("reaper", func(context.Context) error {
			if err := s.Sleep(5 * time.Minute); err != nil {
				return err
			}
			if got := s.Now().Sub(began); got != 5*time.Minute {
				return fmt.Errorf("it woke after %s", got)
			}
			n, err := harnesstest.Read(db)
			order += fmt.Sprintf("r%d", n)
			return err
		})
		s.Eventually("both are done", func() error { seen[order] = true; return nil })
	})
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	for _, want := range []string{"r0h", "hr1"} {
		if !seen[want] {
			t.Errorf("never %s: %v", want, seen)
		}
	}
	if time.Since(start) > time.Minute {
		t.Error("it slept for real")
	}
}

// TestDeliveries has an adversary between a sender and a receiver that counts.
func TestDeliveries(t *testing.T) {
	need.NoRaceDetector(t)
	seen := map[string]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		s.Faults(2)
		got := ""
		requests := make([]harness.Request, 3)
		for i := range requests {
			requests[i] = harness.Request{fmt.Sprint("request ", i), func(context.Context) error {
				if err := s.Step("is received"); err != nil {
					return err
				}
				got += fmt.Sprint(i)
				return nil
			}}
		}
		s.Deliver(requests, harness.PgNet...)
		s.Eventually("whatever", func() error { seen[got] = true; return nil })
	}, harness.WithStrategies(harness.Exhaustive(0)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	// In order, out of order, twice, lost, all of it again, two habits at once.
	for _, want := range []string{"012", "210", "0012", "0120", "12", "2", "", "012012", "210012", "00112"} {
		if !seen[want] {
			t.Errorf("never %q", want)
		}
	}
	for got := range seen {
		if len(got) > 7 {
			t.Errorf("%q takes more than two faults", got)
		}
	}
}

// TestErrorsOfPostgreSQLAreInjected has the errors after which an application
// tries again, and one that doesn't.
func TestErrorsOfPostgreSQLAreInjected(t *testing.T) {
	seen := map[string]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		db := postgres.NewReadCommitted(s, []postgres.Table{{Name: "t", Columns: []string{"n"}}}, harness.Refused, harness.Deadlock, harness.LostBefore, harness.LostAfter)
		session := db.Session()
		told := "nothing"
		s.Go("worker", func(ctx context.Context) error {
			insert := &postgres.Statement{SQL: "insert into t values (1)", Writes: []string{"t"}, Do: func(q *postgres.Query) error {
				_, err := q.Insert("t", postgres.Row{int64(1)}, postgres.Conflict{})
				return err
			}}
			err := session.Begin(ctx)
			if err == nil {
				_, err = session.Exec(ctx, insert)
			}
			err = errors.Join(err, session.Commit(ctx))
			if err != nil {
				told = err.Error()
			}
			return nil
		})
		s.Eventually("all or nothing", func() error {
			seen[fmt.Sprintf("%s: %d", strings.ReplaceAll(told, "\n", ", "), len(db.Rows("t")))] = true
			return nil
		})
	})
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	for _, want := range []string{"nothing: 1", "(SQLSTATE 40001)", "(SQLSTATE 40P01)", ": 0", ": 1"} {
		found := false
		for got := range seen {
			found = found || strings.Contains(got, want)
		}
		if !found {
			t.Errorf("never %q: %v", want, seen)
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d ends, want 5: %v", len(seen), seen)
	}
}

// setFlag sets a flag until the test is over.
func setFlag(t *testing.T, name, value string) {
	t.Helper()
	f := flag.Lookup(name)
	before := f.Value.String()
	t.Cleanup(func() {
		if err := flag.Set(name, before); err != nil {
			t.Error(err)
		}
	})
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
}
