package harness_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
)

// lookThenWrite is a lost update, unless something else keeps two of them apart.
func lookThenWrite(ctx context.Context, db *sql.DB) error {
	var n int
	if err := db.QueryRowContext(ctx, `select n from counter`).Scan(&n); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, `update counter set n = ?`, n+1)
	return err
}

func countsTo(db *sql.DB, want int) func() error {
	return func() error {
		n, err := harnesstest.Read(db)
		if err == nil && n != want {
			err = fmt.Errorf("counted %d of %d", n, want)
		}
		return err
	}
}

func TestCaseH10_AMutexIsWaitedFor(t *testing.T) {
	t.Parallel()
	harnesstest.MustPass(t, harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		var mu sync.Mutex
		for _, name := range []string{"ann", "bob", "cy"} {
			s.Go(name, func(ctx context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				return lookThenWrite(ctx, db)
			})
		}
		s.Eventually("all have counted", countsTo(db, 3))
	}))
}

// TestCaseH10_EachMayTakeAMutexFirst, whatever they have done before, and a story
// that hangs on it is found, replayed and told.
func TestCaseH10_EachMayTakeAMutexFirst(t *testing.T) {
	t.Parallel()
	scenario := func(s *harness.Sim) (order func() string) {
		db := counter(s, true).Open()
		var mu sync.Mutex
		var took []string
		for _, name := range []string{"ann", "bob"} {
			s.Go(name, func(ctx context.Context) error {
				if _, err := harnesstest.Read(db); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, name)
				_, err := db.ExecContext(ctx, `update counter set n = n + 1`)
				return err
			})
		}
		return func() string { return strings.Join(took, " ") }
	}
	harnesstest.MustPass(t, harness.Explore(t, func(s *harness.Sim) {
		order := scenario(s)
		for _, want := range []string{"ann bob", "bob ann"} {
			s.Sometimes(want, func() bool { return order() == want })
		}
	}))
	report := harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
		order := scenario(s)
		s.Eventually("ann is first", func() error {
			if got := order(); strings.HasPrefix(got, "bob") {
				return errors.New(got)
			}
			return nil
		})
	}), "eventually", "ann is first")
	again := harness.Explore(t, func(s *harness.Sim) {
		order := scenario(s)
		s.Eventually("ann is first", func() error { return errors.New(order()) })
	}, harness.WithStrategies(harness.Replay(report.Word())))
	if again.Failure == nil || again.Failure.Message != "bob ann" {
		t.Errorf("the replay of %s comes to %+v", report.Word(), again.Failure)
	}
}

func TestCaseH10_ACircleOfMutexesIsADeadlock(t *testing.T) {
	t.Parallel()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		var one, two sync.Mutex
		both := func(ctx context.Context, first, second *sync.Mutex) error {
			first.Lock()
			defer first.Unlock()
			if err := harnesstest.Increment(ctx, db); err != nil {
				return err
			}
			second.Lock()
			defer second.Unlock()
			return harnesstest.Increment(ctx, db)
		}
		s.Go("ann", func(ctx context.Context) error { return both(ctx, &one, &two) })
		s.Go("bob", func(ctx context.Context) error { return both(ctx, &two, &one) })
	})
	report := harnesstest.MustFail(t, r, "deadlock", "ann waits in sync.Mutex.Lock at waiting_test.go:")
	if text := report.String(); !strings.Contains(text, "bob waits in sync.Mutex.Lock at waiting_test.go:") {
		t.Errorf("the report names one alone:\n%s", text)
	}
}

func TestCaseH10_APoolOfOneIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, wrong := range []bool{false, true} {
		r := harness.Explore(t, func(s *harness.Sim) {
			db := counter(s, true).Open()
			db.SetMaxOpenConns(1)
			for _, name := range []string{"ann", "bob"} {
				s.Go(name, func(ctx context.Context) error {
					if wrong {
						return lookThenWrite(ctx, db)
					}
					return harnesstest.Increment(ctx, db)
				})
			}
			s.Eventually("both have counted", countsTo(db, 2))
		})
		if wrong {
			harnesstest.MustFail(t, r, "eventually", "both have counted")
			continue
		}
		harnesstest.MustPass(t, r)
	}
}

func TestCaseH10_AChannelIsWaitedFor(t *testing.T) {
	t.Parallel()
	harnesstest.MustPass(t, harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		jobs := make(chan int)
		var all sync.WaitGroup
		all.Add(2)
		s.Go("sender", func(ctx context.Context) error {
			defer close(jobs)
			for job := range 2 {
				if err := harnesstest.Increment(ctx, db); err != nil {
					return err
				}
				jobs <- job
			}
			all.Wait()
			return countsTo(db, 4)()
		})
		s.Go("worker", func(ctx context.Context) error {
			for range jobs {
				if err := harnesstest.Increment(ctx, db); err != nil {
					return err
				}
				all.Done()
			}
			return nil
		})
	}))
}

// TestCaseH10_AWorkerEndsWhenTheOthersHave although its loop has no end of its
// own, and is at work beside them.
func TestCaseH10_AWorkerEndsWhenTheOthersHave(t *testing.T) {
	t.Parallel()
	harnesstest.MustPass(t, harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		seen := map[int]bool{}
		s.Go("worker", func(ctx context.Context) error {
			for ctx.Err() == nil {
				n, err := harnesstest.Read(db)
				if err != nil {
					return err
				}
				seen[n] = true
			}
			return nil
		}, harness.Background(3))
		s.Go("ann", func(ctx context.Context) error { return harnesstest.Increment(ctx, db) })
		s.Sometimes("it looks before", func() bool { return seen[0] })
		s.Sometimes("it looks afterwards alone", func() bool { return !seen[0] && seen[1] })
	}))
	harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
		s.Go("worker", func(ctx context.Context) error { <-make(chan int); return nil }, harness.Background(3))
		s.Go("ann", func(context.Context) error { return nil })
	}), "deadlock", "worker waits in chan receive at waiting_test.go:")
}

// TestCaseH10_AStoryWithTicksIsToldAgain, and by its line alone, which says that the
// machine's clock lets actors go on.
func TestCaseH10_AStoryWithTicksIsToldAgain(t *testing.T) {
	t.Parallel()
	scenario := func(s *harness.Sim) {
		db := counter(s, true).Open()
		s.Go("worker", func(ctx context.Context) error {
			for tick := time.NewTicker(200 * time.Millisecond); ; {
				select {
				case <-ctx.Done():
					tick.Stop()
					return nil
				case <-tick.C:
					if _, err := db.ExecContext(ctx, `update counter set n = 7`); err != nil {
						return err
					}
				}
			}
		}, harness.Background(2))
		s.Go("ann", func(ctx context.Context) error { return lookThenWrite(ctx, db) })
		s.Eventually("ann has counted alone", countsTo(db, 1))
	}
	report := harnesstest.MustFail(t, harness.Explore(t, scenario), "eventually", "ann has counted alone")
	line := report.Word()
	if !strings.Contains(line, "!^") {
		t.Errorf("the line %q does not say that the clock has steps", line)
	}
	again := harness.Explore(t, scenario, harness.WithStrategies(harness.Replay(line)))
	if again.Failure == nil || again.Failure.Message != report.Failure.Message {
		t.Errorf("the replay of %s comes to %+v, want %s", line, again.Failure, report.Failure.Message)
	}
}

// TestCaseH10_WhatOnlyTheClockLetsGoOn is waited for, and stands in the verdict.
func TestCaseH10_WhatOnlyTheClockLetsGoOn(t *testing.T) {
	t.Parallel()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		s.Go("worker", func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(250 * time.Millisecond):
				return harnesstest.Increment(ctx, db)
			}
		})
		s.Eventually("it has counted", countsTo(db, 1))
	})
	harnesstest.MustPass(t, r)
	if text := r.String(); !strings.Contains(text, "all orders, but for what happens inside waiting for the machine's clock (select at waiting_test.go:") {
		t.Errorf("the verdict is %q", text)
	}
}

func TestCaseH11_AGoroutineOfAnActorIsNamed(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(ctx context.Context, do func() error) error{
		"an errgroup": func(_ context.Context, do func() error) error {
			var g errgroup.Group
			g.Go(do)
			g.Go(do)
			return g.Wait()
		},
		"one at a time": func(_ context.Context, do func() error) error {
			done := make(chan error)
			go func() { done <- do() }()
			return <-done
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := harness.Explore(t, func(s *harness.Sim) {
				db := counter(s, true).Open()
				s.Go("ann", func(ctx context.Context) error {
					return do(ctx, func() error { return harnesstest.Increment(ctx, db) })
				})
				s.Go("bob", func(ctx context.Context) error { return harnesstest.Increment(ctx, db) })
			})
			if r.Failure == nil || r.Failure.Kind != "unscheduled" || !strings.Contains(r.Failure.Message, "has started for the actor ann") {
				t.Errorf("got %+v, want the goroutine's origin", r.Failure)
			}
		})
	}
}

func TestCaseH18_AnActorThatLeavesIsAFailure(t *testing.T) {
	t.Parallel()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		for _, name := range []string{"ann", "bob"} {
			s.Go(name, func(ctx context.Context) error {
				if n, err := harnesstest.Read(db); err != nil || n == 1 {
					runtime.Goexit() // as t.Fatal does
				}
				return harnesstest.Increment(ctx, db)
			})
		}
	})
	harnesstest.MustFail(t, r, "error", "t.Fatal")
}

// TestCaseH18_ATransactionWhoseContextEnds is rolled back by database/sql in a
// goroutine of its own, at any moment from then on.
func TestCaseH18_ATransactionWhoseContextEnds(t *testing.T) {
	t.Parallel()
	harnesstest.MustPass(t, harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		over := false
		var seen []bool
		s.Go("ann", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `update counter set n = n + 10`)
			if err != nil {
				return err
			}
			cancel()
			over = true
			_, err = harnesstest.Read(db)
			return err
		})
		s.Go("bob", func(ctx context.Context) error {
			err := harnesstest.Increment(ctx, db)
			seen = append(seen, over)
			return err
		})
		s.Eventually("bob alone has counted", countsTo(db, 1))
		for _, want := range []bool{false, true} {
			s.Sometimes(fmt.Sprint("it is over: ", want), func() bool { return len(seen) == 1 && seen[0] == want })
		}
	}))
}

// TestCaseH18_TransactionsThatNobodyEnds are given up by database/sql when their
// schedule is over, before the next one has their connections.
func TestCaseH18_TransactionsThatNobodyEnds(t *testing.T) {
	t.Parallel()
	harnesstest.MustPass(t, harness.Explore(t, func(s *harness.Sim) {
		db := sqlite.Open(s, `create table counter (n)`)
		for _, name := range []string{"ann", "bob", "cy", "dora"} {
			s.Go(name, func(ctx context.Context) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				for range 2 {
					if _, err := tx.ExecContext(ctx, `insert into counter values (1)`); err != nil {
						return err // and leaves it open
					}
				}
				return tx.Commit()
			})
		}
	}, harness.WithStrategies(harness.Exhaustive(0))))
}
