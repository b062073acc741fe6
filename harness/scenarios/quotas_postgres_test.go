package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// heldOnPostgres are the runs and grants, as [moment.scan] reads them.
const heldOnPostgres = `
select 'run', r.id::text, r.user_id::text, r.workflow_id::text, coalesce((extract(epoch from r.completed_at) * 1000000)::bigint, 0), 1::bigint, r.completed_at is not null
  from public.workflow_runs as r
 union all
select 'grant', '', g.user_id::text, coalesce(g.ref_id::text, ''), (extract(epoch from g.granted_at) * 1000000)::bigint, g.runs, g.revoked_at is not null
  from run_counter.grants as g`

// newSoldSource is the product's database in the world of limits, whose functions are
// stepped through.
func newSoldSource(t *testing.T, into ...string) *source {
	return newSoldSourceWith(t, func(string) error { return nil }, into...)
}

func newSoldSourceWith(t *testing.T, plant func(address string) error, into ...string) *source {
	return &source{config: pg.Config{Address: pgtest.Database(t), StepInto: into, Setup: func(address string) error {
		m, err := migrations.Postgres(t.Context(), address)
		if err != nil {
			return err
		}
		yes := true
		m.SetWindows(migrations.Windows{User: &yes, Workflow: &yes})
		if err := errors.Join(m.Up(), m.Close()); err != nil {
			return err
		}
		st, err := postgres.Open(t.Context(), address, postgres.Options{})
		if err != nil {
			return err
		}
		return errors.Join(soldBefore(st), st.Close(), plant(address))
	}}}
}

// moment is what is committed.
func (o oracle) moment() (now moment, err error) {
	rows, err := o.pool.Query(context.Background(), heldOnPostgres)
	if err != nil {
		return now, err
	}
	var kind, id, of, ref string
	var at, runs int64
	var marked bool
	_, err = pgx.ForEachRow(rows, []any{&kind, &id, &of, &ref, &at, &runs, &marked}, func() error {
		return now.scan(kind, id, of, ref, at, runs, marked)
	})
	return now, err
}

// committed reports whether anything was since the snapshot that at holds, and leaves the
// present one there. A function that is stepped through has dozens of steps, after each of
// which the oracles are asked, and commits once.
func (o oracle) committed(at *string) (bool, error) {
	was := *at
	err := o.pool.QueryRow(context.Background(), `select pg_current_snapshot()::text`).Scan(at)
	return *at != was, err
}

// soldAtOnce does deals at the same time on the product's store.
func (c *source) soldAtOnce(t *testing.T, list ...deal) func(*harness.Sim) {
	return func(s *harness.Sim) {
		c.open(t, s, len(list))
		var counted, held string
		s.Always("law 1: the counts of all scopes equal the ended runs", func() error {
			if is, err := c.oracle.committed(&counted); err != nil || !is {
				return err
			}
			return noScopeDrifts(c.oracle.store)
		})
		var now moment
		w := watch(s, false, func() (moment, error) {
			is, err := c.oracle.committed(&held)
			if err == nil && is {
				now, err = c.oracle.moment()
			}
			return now, err
		})
		for i, d := range list {
			st, app, do := c.stores[i], c.apps[i], d.tell(w)
			s.Go(fmt.Sprintf("%s · %d", d.name, i+1), func(ctx context.Context) error {
				if d.sql != "" {
					_, err := app.Exec(ctx, d.sql, pgx.QueryExecModeExec, runID(1).String())
					return err
				}
				return answered(do(ctx, st))
			}, d.with...)
		}
	}
}

// noScopeDrifts compares keys with their runs, and totals with the counts of their users.
func noScopeDrifts(look *postgres.Store) error {
	wrong, err := look.AuditTotals(context.Background(), false)
	if err == nil && len(wrong) > 0 {
		err = fmt.Errorf("a total: %+v", wrong[0])
	}
	if err != nil {
		return err
	}
	return noDrift(look)
}

// besides reports whether two deals are tried on PostgreSQL, where a schedule takes long: a
// begin under both limits beside one deal in three, with CI=true beside each, and so one in
// the window; and all with HARNESS_ALL_PAIRS=1. One that crashes at any statement takes as
// long as ten others.
func besides(i, j int) bool {
	switch {
	case os.Getenv("HARNESS_ALL_PAIRS") != "":
		return true
	case dealList[j].with != nil:
		return false
	}
	return i == 0 && (need.CI() || j%3 == 0) || need.CI() && dealList[i].name == "begin in the window"
}

// TestPairsOfLimitsOnPostgreSQL does two deals at once on the product's PostgreSQL store, in all
// orders of the statements of its functions with at most one preemption.
func TestPairsOfLimitsOnPostgreSQL(t *testing.T) {
	need.Serial(t)
	if !need.CI() {
		need.InPart(t, "one pair in three is tried, and all with CI=true")
	}
	c := newSoldSource(t, "public.*", "run_counter.*")
	total, pairs, shared := 0, 0, harness.Share(t)
	for i, a := range dealList {
		for j, b := range dealList {
			if j < i || !besides(i, j) {
				continue
			}
			r := harness.Explore(t, c.soldAtOnce(t, a, b), shared, harness.WithStrategies(harness.Preemptions(1, 0)))
			if r.Failure != nil {
				t.Fatalf("%s and %s:\n%s", a.name, b.name, r.Report)
			}
			if r.Schedules() < 2 || !r.Covered[0].Complete {
				t.Errorf("%s and %s: %s", a.name, b.name, r)
			}
			for _, left := range r.Unexplored {
				// A STABLE function reads one snapshot, whatever comes between its statements.
				if !strings.HasPrefix(left, "line") && !strings.HasPrefix(left, "the function run_counter.") {
					t.Errorf("%s and %s: unexplored: %s", a.name, b.name, left)
				}
			}
			total += r.Schedules()
			pairs++
		}
	}
	t.Logf("%d pairs, %d schedules", pairs, total)
}

// edit is a wrong edit of one of the product's own functions.
type edit struct{ function, old, text string }

func (e edit) plant(ctx context.Context, pool *pgxpool.Pool) error {
	var was string
	if err := pool.QueryRow(ctx, `select pg_get_functiondef(oid) from pg_proc where proname = $1`, e.function).Scan(&was); err != nil {
		return err
	}
	is := strings.Replace(was, e.old, e.text, 1)
	if is == was {
		return fmt.Errorf("%s has no %q", e.function, e.old)
	}
	_, err := pool.Exec(ctx, is)
	return err
}

// inTwo has what usage_of reads be of several statements.
var inTwo = edit{"usage_of", " STABLE\n", "\n"}

var plantedInFunctions = []struct {
	name   string
	edits  []edit
	deals  []deal
	oracle string
}{
	{"the user's row in keys is not locked", []edit{{"begin_run", "perform run_counter.lock_key(p_user_id, '', ", "perform (p_user_id, '', "}}, []deal{
		take("begin", 5, keyAda, 9, 3, 0), take("begin on another workflow", 6, keyTrim, 9, 3, 0),
	}, "never above a limit"},
	// The first look has to say nothing: or it would refuse what the second one lets begin.
	{"counted and active are read by two statements behind the locks", []edit{inTwo, {"begin_run", "if created and not limit_reached and not v_locked", "if created and not v_locked"}}, []deal{
		take("begin", 5, keyAda, 9, 2, 0), dealList[slices.Index(dealNames(), "complete on another workflow")],
	}, "never above a limit"},
	{"counted and active are read by two statements for an allowance", []edit{inTwo}, []deal{
		dealList[slices.Index(dealNames(), "ask what is left")], dealList[slices.Index(dealNames(), "complete on another workflow")],
	}, "an answer is that of one snapshot"},
}

// TestPlantedInTheFunctionsOfLimits finds wrong edits of the product's functions by the steps
// inside them.
func TestPlantedInTheFunctionsOfLimits(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	for _, p := range plantedInFunctions {
		t.Run(p.name, func(t *testing.T) {
			c := newSoldSourceWith(t, func(address string) error {
				pool, err := pgxpool.New(t.Context(), address)
				if err != nil {
					return err
				}
				defer pool.Close()
				for _, e := range p.edits {
					err = errors.Join(err, e.plant(t.Context(), pool))
				}
				return err
			}, "public.*", "run_counter.*")
			r := harness.Explore(t, c.soldAtOnce(t, p.deals...), harness.WithStrategies(harness.Preemptions(1, 0)))
			if f := r.Failure; f == nil || f.Oracle != p.oracle || r.Report.Again < 3 {
				t.Fatalf("not found by %q: %s\n%v", p.oracle, r, r.Report)
			}
			t.Logf("found after %d schedules", r.After)
		})
	}
}
