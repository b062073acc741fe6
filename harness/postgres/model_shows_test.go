package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// raise adds one to the only row of a table.
func raise(table string) *Statement {
	return &Statement{
		SQL: "update " + table + " set n = n + 1", Writes: []string{table},
		Do: func(q *Query) error {
			_, err := q.Update(table, nil, func(r Row) Row { return Row{r[0], r[1].(int64) + 1} })
			return err
		},
	}
}

// valuesOf are the values of tables of one row, digit by digit.
func valuesOf(tables ...[]Row) string {
	var b strings.Builder
	for _, rows := range tables {
		fmt.Fprint(&b, rows[0][1])
	}
	return b.String()
}

// TestCaseH14_AnAlwaysOverTwoTablesSeesEachState on the model: two commits that
// touch nothing of each other's are two states in two orders for an oracle that
// reads both tables. For one that reads a single table they are one order.
func TestCaseH14_AnAlwaysOverTwoTablesSeesEachState(t *testing.T) {
	all := []string{"00", "01", "10", "11"}
	for _, test := range []struct {
		name        string
		asks        func(d *ReadCommitted) string
		want        []string
		transaction bool
		schedules   int
	}{
		{"both at once", func(d *ReadCommitted) string { c := d.Contents(); return valuesOf(c["left"], c["right"]) }, all, false, 2},
		{"one after the other", func(d *ReadCommitted) string { return valuesOf(d.Rows("left"), d.Rows("right")) }, all, false, 2},
		{"both, of transactions", func(d *ReadCommitted) string { return valuesOf(d.Rows("left"), d.Rows("right")) }, all, true, 2},
		{"by a statement", func(d *ReadCommitted) string {
			rows, _ := d.Session().Exec(context.Background(), &Statement{SQL: "select n from left, right", Reads: []string{"left", "right"}, Do: func(q *Query) error {
				q.Return(valuesOf(q.Select("left", nil), q.Select("right", nil)))
				return nil
			}})
			return fmt.Sprint(rows[0][0])
		}, all, false, 2},
		{"one alone", func(d *ReadCommitted) string { return valuesOf(d.Rows("left")) }, []string{"0", "1"}, false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			states := map[string]bool{}
			r := harness.Explore(t, func(s *harness.Sim) {
				d := NewReadCommitted(s, []Table{
					{Name: "left", Columns: []string{"id", "n"}, Key: 1, Rows: []Row{{int64(1), int64(0)}}},
					{Name: "right", Columns: []string{"id", "n"}, Key: 1, Rows: []Row{{int64(1), int64(0)}}},
				})
				states[test.asks(d)] = true
				for _, table := range []string{"left", "right"} {
					session := d.Session()
					s.Go(table, func(ctx context.Context) error {
						if !test.transaction {
							_, err := session.Exec(ctx, raise(table))
							return err
						}
						if err := session.Begin(ctx); err != nil {
							return err
						}
						if _, err := session.Exec(ctx, raise(table)); err != nil {
							return err
						}
						return session.Commit(ctx)
					})
				}
				s.Always("seen", func() error {
					states[test.asks(d)] = true
					return nil
				})
			})
			harnesstest.MustPass(t, r)
			if got := slices.Sorted(maps.Keys(states)); !slices.Equal(got, test.want) {
				t.Errorf("it saw %v, want %v", got, test.want)
			}
			if r.Schedules() != test.schedules {
				t.Errorf("%s, want %d", r, test.schedules)
			}
		})
	}
}
