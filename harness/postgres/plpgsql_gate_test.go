package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// counters is a database with a row, and functions that count in it: wrongly,
// by reading first, and rightly.
const counters = `
create table counters (id int primary key, n int not null);
insert into counters values (1, 0), (2, 0);
create function counts(a int) returns int language plpgsql as $$
declare
  was int;
begin
  select n into was from counters where id = a;
  update counters set n = was + 1 where id = a;
  return was;
end $$;
create function counts_locked(a int) returns int language plpgsql as $$
declare
  was int;
begin
  select n into was from counters where id = a for update;
  update counters set n = was + 1 where id = a;
  return was;
end $$;`

// stepped is a database of its own, functions of which are stepped through, and a
// pool for each actor and the oracles.
func stepped(t *testing.T, sql string, into ...string) func(s *harness.Sim) []*pgxpool.Pool {
	return steppedSeen(t, nil, sql, into...)
}

// steppedSeen is stepped, by one who sees which statements wait for a lock.
func steppedSeen(t *testing.T, held func(engine.Actor), sql string, into ...string) func(s *harness.Sim) []*pgxpool.Pool {
	config := Config{Address: pgtest.Database(t), StepInto: into, held: held, Setup: func(address string) error {
		pgtest.Exec(t, address, `drop schema public cascade; create schema public`, sql)
		return nil
	}}
	var pools []*pgxpool.Pool
	return func(s *harness.Sim) []*pgxpool.Pool {
		db := New(s, config)
		for len(pools) < 4 {
			pool := gatedPool(t, db)
			t.Cleanup(pool.Close)
			pools = append(pools, pool)
		}
		return pools
	}
}

// bothCount has two actors run a statement that counts.
func bothCount(open func(s *harness.Sim) []*pgxpool.Pool, text string) func(s *harness.Sim) {
	return func(s *harness.Sim) {
		pools := open(s)
		for i, name := range []string{"first", "second"} {
			s.Go(name, func(ctx context.Context) error {
				_, err := pools[i].Exec(ctx, text, pgx.QueryExecModeExec)
				return err
			}, harness.Needed())
		}
		s.Eventually("both are counted", func() error {
			n, err := number(pools[2].QueryRow(context.Background(), `select n from counters where id = 1`))
			if err == nil && n != 2 {
				err = fmt.Errorf("n is %d", n)
			}
			return err
		})
	}
}

// TestCaseH12_AFunctionIsSteppedThrough: its race is found, named, told with its
// lines and replayed; without the option it is named as one step.
func TestCaseH12_AFunctionIsSteppedThrough(t *testing.T) {
	report := harnesstest.MustFail(t, harness.Explore(t, bothCount(stepped(t, counters, "public.counts"), `select counts(1)`)), "eventually", "both are counted")
	if len(report.Steps) != 6 || report.Switches != 2 || report.Again != 3 {
		t.Errorf("not minimal, or not the same again:\n%s", report)
	}
	for _, want := range []string{"select counts(1) → enters a function", "counts:5: select n into was from counters wher… → done", "counts:6: update counters set n = was + 1 … → select 1", "WHY       stale read: "} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("no %q in\n%s", want, report)
		}
	}
	open := stepped(t, counters, "public.counts")
	if r := harness.Explore(t, bothCount(open, `select counts(1)`), harness.WithStrategies(harness.Replay(report.Schedule.String()))); r.Failure == nil || r.Failure.Kind != "eventually" {
		t.Errorf("the schedule %s comes to %s", report.Schedule, r)
	}
	r := harness.Explore(t, bothCount(stepped(t, counters, "*"), `select counts_locked(1)`), harness.WithStrategies(harness.Exhaustive(0)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if r.Schedules() != 14 || !r.Covered[0].Complete || len(r.Unexplored) > 0 {
		t.Errorf("%s, of %d steps", r, r.Steps)
	}
	r = harness.Explore(t, bothCount(stepped(t, counters), `select counts(1)`))
	if r.Failure != nil || !slices.Equal(r.Unexplored, []string{"the function public.counts"}) {
		t.Errorf("without stepping: %s", r)
	}
}
