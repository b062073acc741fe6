package sqlmodel

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
)

// TestCaseH14_AnAlwaysOverTwoTablesSeesEachOrder on this model: two commits that touch
// nothing of each other's are two orders for an oracle that reads both tables, which may
// remember what it saw. For one that reads a single table they are one order.
func TestCaseH14_AnAlwaysOverTwoTablesSeesEachOrder(t *testing.T) {
	for _, test := range []struct {
		name, query string
		transaction bool
		states      []string
		schedules   int
	}{
		{"both", `select l.n, r.n from l, r`, false, []string{"01", "10", "11"}, 2},
		{"both, of transactions", `select l.n, r.n from l, r`, true, []string{"01", "10", "11"}, 2},
		{"one alone", `select n, 0 from l`, false, []string{"00", "10"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			states := map[string]bool{}
			r := harness.Explore(t, func(s *harness.Sim) {
				db := Open(s, `create table l (n int); create table r (n int)`, `insert into l values (0)`, `insert into r values (0)`)
				for _, table := range []string{"l", "r"} {
					s.Go(table, func(ctx context.Context) error {
						update := `update ` + table + ` set n = n + 1`
						if !test.transaction {
							_, err := db.ExecContext(ctx, update)
							return err
						}
						tx, err := db.BeginTx(ctx, nil)
						if err != nil {
							return err
						}
						defer func() { _ = tx.Rollback() }()
						if _, err := tx.ExecContext(ctx, update); err != nil {
							return err
						}
						return tx.Commit()
					})
				}
				s.Always("each state is seen", func() error {
					var left, right int
					err := db.QueryRow(test.query).Scan(&left, &right)
					states[fmt.Sprintf("%d%d", left, right)] = true
					return err
				})
			})
			if got := slices.Sorted(maps.Keys(states)); r.Failure != nil || r.Schedules() != test.schedules || !slices.Equal(got, test.states) {
				t.Errorf("%d schedules, want %d, which saw %v, want %v: %v", r.Schedules(), test.schedules, got, test.states, r.Failure)
			}
		})
	}
}
