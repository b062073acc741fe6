package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// TestCaseH7_ARollbackByAFaultWakesWhoWaits for the lock: on every strategy a
// correct program is silent.
func TestCaseH7_ARollbackByAFaultWakesWhoWaits(t *testing.T) {
	for _, wal := range []bool{false, true} {
		r := harness.Explore(t, func(s *harness.Sim) {
			s.Faults(2)
			db := counter(s, wal, harness.LostBefore).Open()
			for i := range 3 {
				s.Go(fmt.Sprint("worker ", i), func(ctx context.Context) error {
					if err := harnesstest.Increment(ctx, db); !errors.Is(err, harness.ErrLost) {
						return err
					}
					return nil
				})
			}
		}, harness.WithStrategies(harness.Random(400), harness.PCT(3, 400), harness.Exhaustive(2000)))
		if r.Failure != nil {
			t.Errorf("wal %v: %v", wal, r.Report)
		}
	}
}

// TestACommitThatFailsWakesWhoWaits: a foreign key that is looked at there.
func TestACommitThatFailsWakesWhoWaits(t *testing.T) {
	r := harness.Explore(t, func(s *harness.Sim) {
		d := New(s, Config{Setup: func(_ string, db *sql.DB) error {
			_, err := db.Exec(`create table p (id integer primary key); create table c (p references p deferrable initially deferred); create table counter (n); insert into counter values (0)`)
			return err
		}})
		db := sql.OpenDB(d.Connector("?_pragma=foreign_keys(1)"))
		s.OnEnd(func() { _ = db.Close() })
		s.Go("wrong", func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err = tx.ExecContext(ctx, `insert into c values (7)`); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			if tx.Commit() == nil {
				return errors.New("the key was not looked at")
			}
			return nil
		})
		s.Go("right", func(ctx context.Context) error { return harnesstest.Increment(ctx, db) })
	}, harness.WithStrategies(harness.Random(100), harness.Exhaustive(0)))
	if r.Failure != nil {
		t.Error(r.Report)
	}
}

// TestAConnectionThatIsClosedRollsBack as a step, at which others go on.
func TestAConnectionThatIsClosedRollsBack(t *testing.T) {
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		db.SetMaxIdleConns(-1) // a connection that comes back is closed
		s.Go("leaves", func(ctx context.Context) error {
			return execAll(ctx, db, `begin immediate`, `update counter set n = 7`)
		})
		s.Go("writes", func(ctx context.Context) error {
			return execAll(ctx, db, `begin immediate`, `update counter set n = n + 1`, `commit`)
		})
		s.Eventually("one", func() error {
			n, err := harnesstest.Read(db)
			if err == nil && n != 1 {
				err = fmt.Errorf("n is %d", n)
			}
			return err
		})
	}, harness.WithStrategies(harness.Random(100), harness.Exhaustive(0)))
	if r.Failure != nil || r.Steps < 6 {
		t.Errorf("%d steps; %v", r.Steps, r.Report)
	}
}
