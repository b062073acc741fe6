package harness_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
	"github.com/edgaze-ai/runcounter/internal/need"
)

// TestGrains has the same scenario statement by statement, and transaction by
// transaction: what goes wrong within one is found by the first alone.
func TestGrains(t *testing.T) {
	scenario := func(s *harness.Sim) {
		db := counter(s, true).Open()
		for _, name := range []string{"first", "second"} {
			s.Go(name, func(ctx context.Context) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				var n int
				if err := tx.QueryRowContext(ctx, `select n from counter`).Scan(&n); err != nil {
					return errors.Join(err, tx.Rollback())
				}
				_, err = tx.ExecContext(ctx, `update counter set n = ?`, n+1)
				return errors.Join(err, tx.Commit())
			})
		}
	}
	harnesstest.MustFail(t, harness.Explore(t, scenario), "error", "SQLITE_BUSY")
	r := harness.Explore(t, scenario, harness.WithGrain(harness.Transactions))
	if r.Failure != nil || r.Schedules() != 2 {
		t.Errorf("transaction by transaction: %s\n%v", r, r.Report)
	}
}

// TestChoose tries every number.
func TestChoose(t *testing.T) {
	seen := map[string]int{}
	r := harness.Explore(t, func(s *harness.Sim) {
		drawn := fmt.Sprint(s.Choose(3))
		s.Go("one", func(context.Context) error {
			err := s.Step("goes")
			drawn += fmt.Sprint(s.Choose(2))
			return err
		})
		s.Eventually("it is noted", func() error { seen[drawn]++; return nil })
	})
	if r.Failure != nil || len(seen) != 6 || r.Schedules() != 6 {
		t.Errorf("%s: %v", r, seen)
	}
}

// TestTheFlagsOfTime samples for longer, by other seeds.
func TestTheFlagsOfTime(t *testing.T) {
	setFlag(t, "harness.time", "20ms")
	orders := map[string]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		order := ""
		for _, name := range []string{"a", "b"} {
			s.Go(name, func(context.Context) error {
				err := s.Step("goes")
				order += name
				return err
			})
		}
		s.Eventually("it is noted", func() error { orders[order] = true; return nil })
	}, harness.WithStrategies(harness.Random(1)))
	if len(r.Covered) != 2 || r.Covered[1].Schedules == 0 || len(orders) != 2 {
		t.Errorf("%s: %v", r, orders)
	}
}

// TestMinimise has two actors and an operation that have nothing to do with
// it, and a fault that need not happen.
func TestMinimise(t *testing.T) {
	r := harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
		db := sqlite.Open(s, `create table counter (n integer not null)`, `insert into counter values (0)`, `create table noise (n integer)`)
		done := 0 // and the actor knows
		for _, name := range []string{"bystander", "first", "second", "other"} {
			s.Go(name, func(ctx context.Context) error {
				return errors.Join(
					s.Op(func() error {
						_, err := db.ExecContext(ctx, `insert into noise values (1)`)
						return err
					}),
					s.Op(func() error {
						if name == "bystander" || name == "other" {
							return nil
						}
						var n int
						if err := db.QueryRowContext(ctx, `select n from counter`).Scan(&n); err != nil {
							return err
						}
						_, err := db.ExecContext(ctx, `update counter set n = ?`, n+1)
						if err == nil {
							done++
						}
						return err
					}))
			}, harness.MayCrash())
		}
		s.Eventually("no increment is lost", func() error {
			var n int
			if err := db.QueryRow(`select n from counter`).Scan(&n); err != nil {
				return err
			}
			if n < done {
				return fmt.Errorf("%d of %d", n, done)
			}
			return nil
		})
	}, harness.WithStrategies(harness.PCT(3, 5000))), "eventually", "no increment")
	if len(r.Steps) != 4 || r.Faults != 0 || len(r.Actors) != 2 || r.Switches != 2 {
		t.Errorf("not minimal:\n%s", r)
	}
}

// TestPCTFindsWhatRandomMisses has a bug that needs one actor to stand still
// between two steps while the other goes nearly all its long way.
func TestPCTFindsWhatRandomMisses(t *testing.T) {
	t.Parallel()
	scenario := func(s *harness.Sim) {
		place, caught := 0, false
		s.Go("runner", func(context.Context) error {
			for range 40 {
				if err := s.Step("runs"); err != nil {
					return err
				}
				place++
			}
			return nil
		})
		s.Go("watcher", func(context.Context) error {
			if err := s.Step("looks"); err != nil {
				return err
			}
			before := place
			if err := s.Step("looks again"); err != nil {
				return err
			}
			caught = before >= 4 && before <= 14 && place-before >= 25
			return nil
		})
		s.Eventually("never caught", func() error {
			if caught {
				return errors.New("caught")
			}
			return nil
		})
	}
	n := 200_000
	if need.Smaller(t) || testing.Short() {
		n = 10_000
	}
	if r := harness.Explore(t, scenario, harness.WithStrategies(harness.Random(n))); r.Failure != nil {
		t.Errorf("random found it after %d", r.After)
	}
	for seed := range uint64(5) {
		r := harness.Explore(t, scenario, harness.WithStrategies(harness.PCT(3, 20_000)), harness.Seed(seed))
		harnesstest.MustFail(t, r, "eventually", "caught")
		t.Logf("PCT(3), seed %d: after %d", seed, r.After)
	}
}
