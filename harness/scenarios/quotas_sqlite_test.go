package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	lite "github.com/edgaze-ai/runcounter/harness/sqlite"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

// heldOnSQLite are the runs and grants, as [moment.scan] reads them.
const heldOnSQLite = `
select 'run', id, user_id, ref_id, coalesce(completed_at, 0), 1, completed_at is not null from workflow_runs
 union all
select 'grant', '', user_id, coalesce(ref_id, ''), granted_at, runs, revoked_at is not null from grants`

// newSoldMirror is the product's SQLite store in the world of limits.
func newSoldMirror(s *harness.Sim) *mirror {
	m := &mirror{sim: s, db: lite.New(s, lite.Config{WAL: true, Setup: func(path string, _ *sql.DB) error {
		st, err := sqlite.Open(context.Background(), path, sqlite.Options{Volatile: true})
		if err != nil {
			return err
		}
		if err := errors.Join(soldBefore(st), st.Close()); err != nil {
			return err
		}
		migrator, err := sqlite.OpenMigrator(path)
		if err != nil {
			return err
		}
		yes := true
		migrator.SetWindows(migrations.Windows{User: &yes, Workflow: &yes})
		return errors.Join(migrator.Up(), migrator.Close())
	}})}
	m.look = m.db.Open()
	m.look.SetMaxOpenConns(1)
	return m
}

// moment is what is committed.
func (m *mirror) moment() (now moment, err error) {
	rows, err := m.look.Query(heldOnSQLite)
	if err != nil {
		return now, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var kind, id, of, ref string
		var at, runs int64
		var marked bool
		if err := rows.Scan(&kind, &id, &of, &ref, &at, &runs, &marked); err != nil {
			return now, err
		}
		if err := now.scan(kind, id, of, ref, at, runs, marked); err != nil {
			return now, err
		}
	}
	return now, rows.Err()
}

// soldAtOnce does deals at the same time on the product's store.
func soldAtOnce(list ...deal) func(*harness.Sim) {
	return func(s *harness.Sim) {
		m := newSoldMirror(s)
		s.Always("law 1: the counts of all scopes equal the ended runs", m.exact)
		w := watch(s, false, m.moment)
		for i, d := range list {
			st, err := m.open()
			if err != nil {
				panic(err)
			}
			do := d.tell(w)
			s.Go(fmt.Sprintf("%s · %d", d.name, i+1), func(ctx context.Context) error { return answered(do(ctx, st)) }, d.with...)
		}
	}
}

// TestEveryPairOfLimitsOnSQLite does any two deals at once on the product's SQLite store,
// in all orders of their statements that matter.
func TestEveryPairOfLimitsOnSQLite(t *testing.T) {
	dealPairs.each(t, dealNames(), !need.Raced, func(t *testing.T, i int, shared harness.Option) (total int) {
		for j := i; j < len(dealList); j++ {
			if leftOut(i + j) {
				continue
			}
			total += passes(t, dealList[i].name+" and "+dealList[j].name, soldAtOnce(dealList[i], dealList[j]), shared, harness.Exhaustive(most()))
		}
		return total
	})
}

// TestEveryTripleOfLimitsOnSQLite does any begin under limits beside any two deals at once,
// in all orders of their statements that matter.
func TestEveryTripleOfLimitsOnSQLite(t *testing.T) {
	dealTriples.each(t, dealNames()[:quotaBegins], wholeTriples(t), func(t *testing.T, i int, shared harness.Option) (total int) {
		triples(i, len(dealList), func(n, j, k int) {
			if leftOutOfTriples(n) {
				return
			}
			total += passes(t, dealList[i].name+", "+dealList[j].name+" and "+dealList[k].name,
				soldAtOnce(dealList[i], dealList[j], dealList[k]), shared, harness.Exhaustive(most()))
		})
		return total
	})
}

var (
	dealPairs = schedules{ // 641
		"begin under both limits":                     51,
		"begin under both limits on another workflow": 49,
		"begin in the window":                         47,
		"grant to the user":                           43,
		"grant to a key":                              41,
		"revoke":                                      39,
		"complete":                                    39,
		"complete on another workflow":                37,
		"complete late":                               35,
		"sweep":                                       61,
		"fold":                                        29,
		"recount":                                     27,
		"re-open":                                     25,
		"hand over":                                   23,
		"delete":                                      21,
		"count a user":                                15,
		"count a workflow":                            14,
		"count in a window":                           13,
		"ask what is left":                            12,
		"begin, crash and restart":                    20,
	}
	dealTriples = schedules{ // 6,447
		"begin under both limits":                     2301,
		"begin under both limits on another workflow": 2176,
		"begin in the window":                         1970,
	}
)
