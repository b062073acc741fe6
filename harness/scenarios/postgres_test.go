package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// source is the product's PostgreSQL store below the harness, on a real
// server: every actor has one of its own, as processes have, and a connection
// of the application. They are kept from one schedule to the next.
type source struct {
	config pg.Config
	stores []*postgres.Store
	apps   []*pgxpool.Pool
	oracle oracle
}

// oracle is what looks at the database and is no part of the scenario, so that
// its connections lead past the gate. It asks the same questions after each step:
// PostgreSQL plans them once for a session, and not 20 times for a schedule.
type oracle struct {
	store *postgres.Store
	pool  *pgxpool.Pool
}

func newOracle(t *testing.T, address string) oracle {
	address = pgtest.With(t, address, "default_query_exec_mode", "cache_statement", "plan_cache_mode", "force_generic_plan")
	ctx := context.WithoutCancel(t.Context())
	st, err := postgres.Open(ctx, address, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	pool, err := pgxpool.New(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return oracle{st, pool}
}

func newSource(t *testing.T) *source {
	return &source{config: pg.Config{Address: pgtest.Database(t), Setup: func(address string) error {
		m, err := migrations.Postgres(t.Context(), address)
		if err != nil {
			return err
		}
		if err := errors.Join(m.Up(), m.Close()); err != nil {
			return err
		}
		st, err := postgres.Open(t.Context(), address, postgres.Options{})
		if err != nil {
			return err
		}
		return errors.Join(begun(st), st.Close())
	}}}
}

// open opens the connections of as many actors, and those of the oracle.
func (c *source) open(t *testing.T, s *harness.Sim, actors int) {
	db := pg.New(s, c.config)
	if c.oracle.store == nil {
		c.oracle = newOracle(t, db.Address())
	}
	for len(c.stores) < actors {
		st, err := postgres.Open(context.WithoutCancel(t.Context()), db.Address(), postgres.Options{Connect: db.Gate})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		app := appOf(t, db)
		c.stores, c.apps = append(c.stores, st), append(c.apps, app)
	}
}

// appOf is an application's connections, through the gate.
func appOf(t *testing.T, db *pg.Database) *pgxpool.Pool {
	app, err := db.Pool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	return app
}

// bySource are the acts that an application's own statements do there, instead
// of a webhook that tells of them.
var bySource = map[string]string{
	"late running": `update public.workflow_runs set status = 'running', updated_at = '2026-01-01 12:10+00' where id = $1`,
	"hand over":    `update public.workflow_runs set user_id = '` + bob.String() + `', updated_at = '2026-01-01 12:06+00' where id = $1`,
	"delete":       `delete from public.workflow_runs where id = $1`,
}

// atOnceOnPostgres runs acts at the same time on the product's store.
func (c *source) atOnce(t *testing.T, list ...act) func(*harness.Sim) {
	return func(s *harness.Sim) {
		c.open(t, s, len(list))
		look := c.oracle.store
		s.Always("law 1: counts + ledger equal the ended runs", func() error { return noDrift(look) })
		s.Always("law 2: the first outcome wins", outcomesStand(c.oracle.pool))
		for i, a := range list {
			st, app := c.stores[i], c.apps[i]
			s.Go(fmt.Sprintf("%s %d", a.name, i+1), func(ctx context.Context) error {
				if sql, ok := bySource[a.name]; ok {
					_, err := app.Exec(ctx, sql, pgx.QueryExecModeExec, runID(1).String())
					return err
				}
				return answered(a.do(ctx, st))
			}, a.with...)
		}
		s.Eventually("law 3: one full sweep leaves nothing to do", func() error { return sweptClean(look) })
	}
}

// TestPairsOnPostgreSQL runs two acts at once on the product's PostgreSQL
// store, in all orders of their statements with at most two preemptions:
// completions beside everything, or any two acts with HARNESS_ALL_PAIRS=1.
func TestPairsOnPostgreSQL(t *testing.T) {
	c := newSource(t)
	total, pairs, shared := 0, 0, harness.Share(t)
	for i, a := range acts {
		for j, b := range acts[i:] {
			beside := a.name == "complete" || b.name == "complete"
			if !beside && os.Getenv("HARNESS_ALL_PAIRS") == "" || need.Raced && j%3 > 0 {
				continue
			}
			r := harness.Explore(t, c.atOnce(t, a, b), shared, harness.WithStrategies(harness.Preemptions(2, 0)))
			if r.Failure != nil {
				t.Fatalf("%s and %s:\n%s", a.name, b.name, r.Report)
			}
			if r.Schedules() < 2 {
				t.Errorf("%s and %s: %s", a.name, b.name, r)
			}
			total += r.Schedules()
			pairs++
		}
	}
	t.Logf("%d pairs, %d schedules", pairs, total)
}

func noDrift(look *postgres.Store) error {
	a, err := look.Audit(context.Background(), store.Audit{Max: 10})
	if err == nil && len(a.Drifts) > 0 {
		err = fmt.Errorf("%+v", a.Drifts[0])
	}
	return err
}

// outcomesStand remembers the real outcome of each run that no administrator has
// touched.
func outcomesStand(app *pgxpool.Pool) func() error {
	first := map[string]string{}
	return func() error {
		rows, err := app.Query(context.Background(), `
select id::text, status || '@' || completed_at from public.workflow_runs r
 where completed_at is not null and status in ('completed', 'failed', 'cancelled', 'timeout')
   and not exists (select from run_counter.presumed p where p.run_id = r.id)
   and not exists (select from run_counter.amendments a where a.run_id = r.id)`)
		if err != nil {
			return err
		}
		var run, outcome string
		_, err = pgx.ForEachRow(rows, []any{&run, &outcome}, func() error {
			if was, known := first[run]; known && was != outcome {
				return fmt.Errorf("run %s ended as %s, and is now %s", run, was, outcome)
			}
			first[run] = outcome
			return nil
		})
		return err
	}
}

func sweptClean(look *postgres.Store) error {
	ctx := context.Background()
	r, err := (&store.Sweeper{Store: look, Source: look, Now: func() time.Time { return after(60) }}).Sweep(ctx, store.SweepOptions{Full: true})
	if err == nil && r.Drifting > 0 {
		err = fmt.Errorf("%d keys drift", r.Drifting)
	}
	if err != nil {
		return err
	}
	for n := 1; n <= 4; n++ {
		run, err := look.Run(ctx, runID(n))
		if err == nil && !run.Ended() {
			return fmt.Errorf("run %d is %s", n, run.Status)
		}
	}
	return noDrift(look)
}
