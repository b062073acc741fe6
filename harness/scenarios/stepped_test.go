package scenarios

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

//go:embed testdata/begin_at_bf8e64f.sql
var beginAtBF8E64F string

// steppedSource is the product's database whose functions are stepped through.
func steppedSource(t *testing.T, plant string, into ...string) *source {
	c := newSource(t)
	setup := c.config.Setup
	c.config.StepInto = into
	c.config.Setup = func(address string) error {
		err := setup(address)
		if err == nil && plant != "" {
			pgtest.Exec(t, address, plant)
		}
		return err
	}
	return c
}

// beginsWhileOneEnds has a call begin a run of a key beside another that ends one
// of it, each by the function that applications call (case T27). The key has three
// runs, one of which has ended, and may have as many as limit.
func (c *source) beginsWhileOneEnds(t *testing.T, limit int) func(*harness.Sim) {
	return func(s *harness.Sim) {
		c.open(t, s, 2)
		look := c.oracle.store
		s.Go("begins", func(ctx context.Context) error {
			_, err := c.apps[0].Exec(ctx, `select public.begin_workflow_run($1, $2, p_limit => $3, p_run_id => $4)`, pgx.QueryExecModeExec, ada.String(), resize.String(), limit, runID(5).String())
			return err
		}, harness.Needed())
		s.Go("ends", func(ctx context.Context) error {
			_, err := c.apps[1].Exec(ctx, `select public.complete_workflow_run($1, 'completed')`, pgx.QueryExecModeExec, runID(1).String())
			return err
		}, harness.Needed())
		s.Eventually("as many runs as the limit", func() error {
			_, err := look.Run(context.Background(), runID(5))
			if began := err == nil; began != (limit > 3) {
				return fmt.Errorf("beside three runs under the limit of %d another began: %v", limit, began)
			}
			return nil
		})
		s.Eventually("law 1: counts + ledger equal the ended runs", func() error { return noDrift(look) })
	}
}

// TestCaseT27_BeginAsItWasIsFoundByStepping: as one step it is named, and no more.
// Begin as it is raises no alarm.
func TestCaseT27_BeginAsItWasIsFoundByStepping(t *testing.T) {
	need.Serial(t)
	t.Run("as it was, stepped through", func(t *testing.T) {
		c := steppedSource(t, beginAtBF8E64F, "public.*", "run_counter.*")
		r := harness.Explore(t, c.beginsWhileOneEnds(t, 3), harness.WithStrategies(harness.Preemptions(1, 0)))
		if r.Failure == nil || r.Failure.Oracle != "as many runs as the limit" || r.Report.Again != 3 {
			t.Fatal(r, r.Report)
		}
		t.Log(r.Report)
		if got := r.Report.Anomaly; got != "read skew" {
			t.Errorf("its anomaly is called %q", got)
		}
		for _, want := range []string{"run_counter.begin_run_was:35: counted := run_counter.count_of(", "run_counter.begin_run_was:36: select count(*) into active"} {
			if !slices.ContainsFunc(r.Report.Steps, func(s harness.Step) bool { return strings.HasPrefix(s.Text, want) }) {
				t.Errorf("no step %q", want)
			}
		}
	})
	t.Run("as it was, in one step", func(t *testing.T) {
		c := steppedSource(t, beginAtBF8E64F)
		r := harness.Explore(t, c.beginsWhileOneEnds(t, 3))
		if r.Failure != nil || !slices.Contains(r.Unexplored, "the function public.begin_workflow_run") {
			t.Fatal(r, r.Report)
		}
		t.Log(r)
	})
	for _, limit := range []int{3, 4} {
		t.Run(fmt.Sprintf("as it is, under a limit of %d, in all orders up to 2 preemptions", limit), func(t *testing.T) {
			c := steppedSource(t, "", "public.*", "run_counter.*")
			r := harness.Explore(t, c.beginsWhileOneEnds(t, limit), harness.WithStrategies(harness.Preemptions(2, 0)))
			if r.Failure != nil || !r.Covered[0].Complete || r.Schedules() < 50 {
				t.Fatal(r, r.Report)
			}
			for _, left := range r.Unexplored { // parts of triggers are named, with their lines
				// usage_of is STABLE: whatever comes between its statements, it reads one snapshot.
				if !strings.HasPrefix(left, "line") && left != "the function run_counter.usage_of" {
					t.Errorf("unexplored: %s", left)
				}
			}
			t.Log(r)
		})
	}
}
