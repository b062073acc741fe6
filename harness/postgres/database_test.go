package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// accounts is a PostgreSQL database with two rows, and a pool for each actor,
// which all schedules share.
func accounts(t *testing.T, faults ...harness.Fault) func(s *harness.Sim) []*pgxpool.Pool {
	return accountsOf(t, func(*pgx.ConnConfig) {}, faults...)
}

// accountsOf are accounts with connections of their own configuration.
func accountsOf(t *testing.T, configure func(*pgx.ConnConfig), faults ...harness.Fault) func(s *harness.Sim) []*pgxpool.Pool {
	return accountsSeen(t, configure, nil, faults...)
}

// accountsSeen are accounts that say who waits for a lock.
func accountsSeen(t *testing.T, configure func(*pgx.ConnConfig), held func(engine.Actor), faults ...harness.Fault) func(s *harness.Sim) []*pgxpool.Pool {
	config := accountsConfig(t)
	config.held, config.Faults = held, faults
	var pools []*pgxpool.Pool
	return func(s *harness.Sim) []*pgxpool.Pool {
		db := New(s, config)
		for len(pools) < 4 {
			pool := gatedPool(t, db, configure)
			t.Cleanup(pool.Close)
			pools = append(pools, pool)
		}
		return pools
	}
}

// accountsConfig is the database of [accounts].
func accountsConfig(t *testing.T) Config {
	return Config{Address: pgtest.Database(t), Setup: func(address string) error {
		pgtest.Exec(t, address, `drop table if exists accounts, given, keyed`, `drop sequence if exists tickets`,
			`create table accounts (id int primary key, n int not null, seen int generated always as (n * 2) stored)`,
			`insert into accounts values (1, 0), (2, 0)`, `create table given (n int)`, `create table keyed (n int primary key)`, `create sequence tickets`)
		return nil
	}}
}

// gatedPool is a pool whose connections lead through the gate. The caller closes it.
func gatedPool(tb testing.TB, db *Database, configure ...func(*pgx.ConnConfig)) *pgxpool.Pool {
	tb.Helper()
	pool, err := db.Pool(tb.Context(), func(c *pgxpool.Config) {
		for _, do := range configure {
			do(c.ConnConfig)
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	return pool
}

func valueOf(pool *pgxpool.Pool, id int) (n int) {
	if err := pool.QueryRow(context.Background(), `select n from accounts where id = $1`, id).Scan(&n); err != nil {
		panic(err)
	}
	return n
}

func add(ctx context.Context, pool *pgxpool.Pool, ids ...int) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, id := range ids {
			if _, err := tx.Exec(ctx, `update accounts set n = n + 1 where id = $1`, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestPgxCodeIsExploredOnPostgreSQL has ordinary code over pgx: reads that
// are stale when they are written back, locks that are waited for, and two in
// two orders.
func TestPgxCodeIsExploredOnPostgreSQL(t *testing.T) {
	t.Run("a lost update", func(t *testing.T) {
		open := accounts(t)
		r := harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
			pools := open(s)
			for i, name := range []string{"first", "second"} {
				s.Go(name, func(ctx context.Context) error {
					var n int
					if err := pools[i].QueryRow(ctx, `select n from accounts where id = 1`).Scan(&n); err != nil {
						return err
					}
					_, err := pools[i].Exec(ctx, `update accounts set n = $1 where id = 1`, n+1)
					return err
				}, harness.Needed())
			}
			s.Eventually("both are counted", func() error {
				if n := valueOf(pools[2], 1); n != 2 {
					return fmt.Errorf("n is %d", n)
				}
				return nil
			})
		}), "eventually", "both are counted")
		if len(r.Steps) != 4 || r.Switches != 2 {
			t.Errorf("not minimal:\n%s", r)
		}
	})
	t.Run("a lock that is waited for", func(t *testing.T) {
		waits := false
		open := accountsSeen(t, func(*pgx.ConnConfig) {}, func(engine.Actor) { waits = true })
		r := harness.Explore(t, func(s *harness.Sim) {
			pools := open(s)
			for i, name := range []string{"first", "second"} {
				s.Go(name, func(ctx context.Context) error { return add(ctx, pools[i], 1) })
			}
			s.Eventually("both are counted", func() error {
				if n := valueOf(pools[2], 1); n != 2 {
					return fmt.Errorf("n is %d", n)
				}
				return nil
			})
		}, harness.WithStrategies(harness.Exhaustive(0)))
		if r.Failure != nil {
			t.Fatal(r.Report)
		}
		if !r.Covered[0].Complete || r.Schedules() != 4 || !waits {
			t.Errorf("%s, waits: %v", r, waits)
		}
	})
	t.Run("two locks in two orders", func(t *testing.T) {
		open := accounts(t)
		harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
			pools := open(s)
			s.Go("up", func(ctx context.Context) error { return add(ctx, pools[0], 1, 2) })
			s.Go("down", func(ctx context.Context) error { return add(ctx, pools[1], 2, 1) })
		}), "error", "40P01")
	})
}

// TestCaseO7_WhoClosesACircleIsEnded, however late a busy server looks for
// deadlocks: who waited first has looked before another statement is sent. It
// was the other one now and then, which is another failure: "reproduced 2 of 3".
func TestCaseO7_WhoClosesACircleIsEnded(t *testing.T) {
	waited := map[string]bool{}
	open := accountsSeen(t, func(c *pgx.ConnConfig) { c.RuntimeParams["deadlock_timeout"] = "40ms" },
		func(a engine.Actor) { waited[a.Name()] = true })
	ended, closed := "", false // who was ended, and whether it was at once
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		clear(waited)
		for i, name := range []string{"up", "down"} {
			s.Go(name, func(ctx context.Context) error {
				err := add(ctx, pools[i], 1+i, 2-i)
				var pg *pgconn.PgError
				if errors.As(err, &pg) && pg.Code == "40P01" {
					ended = name
					closed = !waited[name]
				}
				return err
			})
		}
	})
	harnesstest.MustFail(t, r, "error", "40P01")
	if ended == "" || !closed {
		t.Errorf("%q was ended, who had waited first", ended)
	}
}

// TestFaultsOnPostgreSQL counts what each fault leaves there: nothing was half
// done, and a restart finds no lock of the dead.
func TestFaultsOnPostgreSQL(t *testing.T) {
	open := accounts(t, harness.LostBefore, harness.LostAfter)
	seen := map[string]int{}
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		starts := 0
		var told error
		s.Go("worker", func(ctx context.Context) error {
			starts++
			told = add(ctx, pools[0], 1)
			return nil
		}, harness.Restarts())
		s.Eventually("all or nothing", func() error {
			n := valueOf(pools[2], 1)
			if told == nil && n != starts && n != 1 {
				return fmt.Errorf("told nothing, and n is %d after %d starts", n, starts)
			}
			seen[fmt.Sprintf("%d starts, ok %v, n %d", starts, told == nil, n)]++
			return nil
		})
	}, harness.WithStrategies(harness.Exhaustive(0)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	for _, want := range []string{"1 starts, ok true, n 1", "1 starts, ok false, n 0", "1 starts, ok false, n 1", "2 starts, ok true, n 1", "2 starts, ok true, n 2"} {
		if seen[want] == 0 {
			t.Errorf("never %q: %v", want, seen)
		}
	}
}

// TestARestartFindsItsPool: what a dead process has idle in its pool holds
// nothing any more, and serves the process that takes its place.
func TestARestartFindsItsPool(t *testing.T) {
	open := accounts(t)
	starts := map[int]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		started := 0
		s.Go("worker", func(ctx context.Context) error {
			started++
			return pools[0].AcquireFunc(ctx, func(c *pgxpool.Conn) error {
				if _, err := c.Exec(ctx, `select pg_advisory_lock(1)`); err != nil {
					return err
				}
				err := add(ctx, pools[0], 1)
				if err == nil {
					_, err = c.Exec(ctx, `select pg_advisory_unlock(1)`)
				}
				return err
			})
		}, harness.Restarts())
		s.Go("other", func(ctx context.Context) error {
			_, err := pools[1].Exec(ctx, `select pg_advisory_lock(1), pg_advisory_unlock(1)`)
			return err
		})
		s.OnEnd(func() { starts[started] = true })
	}, harness.WithStrategies(harness.Preemptions(1, 0)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if !starts[1] || !starts[2] {
		t.Errorf("starts %v in %s", starts, r)
	}
}

// TestAScheduleInheritsNoLock of a session that an actor of an earlier schedule
// has not given back.
func TestAScheduleInheritsNoLock(t *testing.T) {
	open := accounts(t)
	r := harness.Explore(t, func(s *harness.Sim) {
		pool := open(s)[s.Choose(3)]
		s.Go("actor", func(ctx context.Context) error {
			_, err := pool.Exec(ctx, `select pg_advisory_lock(1)`)
			return err
		})
	})
	if r.Failure != nil || r.Schedules() != 3 {
		t.Error(r, r.Report)
	}
}

func TestFixesAreInWordsOfPostgreSQL(t *testing.T) {
	for _, words := range []string{traits().KeepRow, traits().ComeFirst, traits().ReadAfresh} {
		if !strings.Contains(words, "for update") {
			t.Errorf("it says %q", words)
		}
	}
}
