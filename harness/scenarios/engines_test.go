package scenarios

import (
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestPlantedBugsOnPostgreSQL runs the minimal schedule of each planted bug on
// a real server: what the model says of the SQL is true there.
func TestPlantedBugsOnPostgreSQL(t *testing.T) {
	t.Parallel()
	address, alike, all := pgtest.Database(t), 0, 0
	for n, b := range slices.Concat(bugs, quotaBugs) {
		if need.Raced && n%4 > 0 {
			continue
		}
		y := ours()
		b.plant(&y)
		r := harness.Explore(t, b.scene(y), harness.WithStrategies(b.budgets()[0]), pg.VerifyOn(address))
		if r.Report == nil {
			t.Errorf("%s: not found", b.name)
			continue
		}
		// The schedule may end before its last step, since a statement goes on
		// as soon as its lock is given back.
		_, onPostgres, _ := strings.Cut(r.Report.Engines, " · ")
		same := strings.HasSuffix(onPostgres, " FAIL, same")
		if !same && !strings.Contains(onPostgres, "the server had chosen") {
			t.Errorf("%s: on PostgreSQL it does not go wrong in the same way\n%s", b.name, r.Report)
		}
		if all++; same {
			alike++
		}
	}
	t.Logf("%d of %d fail on PostgreSQL step by step as on the model", alike, all)
	if alike < all-2 {
		t.Errorf("%d don't", all-alike)
	}
}

// TestTheSQLOfTheSystemOnPostgreSQL runs the statements that the model gives a
// meaning on a real server, a completion beside every deed: the laws hold there.
func TestTheSQLOfTheSystemOnPostgreSQL(t *testing.T) {
	t.Parallel()
	on, shared, total := pg.On(pgtest.Database(t)), harness.Share(t), 0
	for n, d := range deeds {
		if need.Raced && n%4 > 0 {
			continue
		}
		r := harness.Explore(t, together(ours(), deeds[2], d), on, shared, harness.WithStrategies(harness.Preemptions(1, 40)))
		if r.Failure != nil {
			t.Errorf("%s and %s:\n%s", deeds[2].name, d.name, r.Report)
		}
		if r.Schedules() < 2 {
			t.Errorf("%s and %s: %s", deeds[2].name, d.name, r)
		}
		total += r.Schedules()
	}
	t.Logf("%d schedules", total)
}
