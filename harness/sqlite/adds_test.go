package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// autocommits has actors that run statements outside of transactions, each on
// the table of its name, which may be one for all.
func autocommits(wal bool, actors int, tables []string, statements ...string) func(*harness.Sim) {
	return func(s *harness.Sim) {
		var setup []string
		for _, table := range slices.Compact(slices.Sorted(slices.Values(tables))) {
			setup = append(setup, `create table `+table+` (id integer primary key, n int)`, `insert into `+table+` values (1, 1)`)
		}
		db := New(s, Config{WAL: wal, Setup: setUp(setup...)}).Open()
		for i := range actors {
			s.Go(string(rune('p'+i)), func(ctx context.Context) error {
				for _, text := range statements {
					if _, err := db.ExecContext(ctx, strings.ReplaceAll(text, "TABLE", tables[i])); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
}

// TestCaseH14_TablesApartAreOneSchedule where three actors write four times,
// and tables that are not apart as many as before.
func TestCaseH14_TablesApartAreOneSchedule(t *testing.T) {
	update, insert, look := `update TABLE set n = n + 1`, `insert into TABLE (n) values (2)`, `select n from TABLE`
	apart, one := []string{"a", "b", "c"}, []string{"a", "a", "a"}
	for _, wal := range []bool{true, false} {
		for _, c := range []struct {
			statements []string
			tables     []string
			want       int
		}{
			{[]string{update, update, update, update}, apart, 1},
			{[]string{insert, update, look, insert}, apart, 1},
			{[]string{update, update}, one, 90}, // 6! / 2!³
			{[]string{look, update}, one, 36},
		} {
			r := harness.Explore(t, autocommits(wal, 3, c.tables, c.statements...), harness.WithStrategies(harness.Exhaustive(0)))
			if r.Failure != nil || r.Schedules() != c.want {
				t.Errorf("wal %v, %q on %q: %s, want %d; %v", wal, c.statements, c.tables, r, c.want, r.Report)
			}
		}
	}
}

// alwaysTrial is a scenario of transactions and statements outside of them on
// three tables, and what oracles of random tables have seen.
func alwaysTrial(seed uint64, strategy harness.Strategy, tb testing.TB) (states map[string]bool, r *harness.Result) {
	draw := rand.New(rand.NewPCG(seed, 14))
	names := []string{"a", "b", "c"}
	var actors [][]string
	for actor := range 2 + draw.IntN(2) {
		var list []string
		for range 1 + draw.IntN(2) {
			table := names[draw.IntN(3)]
			write := fmt.Sprintf(`update %s set n = n * 3 + %d`, table, actor)
			switch draw.IntN(5) {
			case 0:
				list = append(list, `begin immediate`, write, fmt.Sprintf(`update %s set n = n + 7`, names[draw.IntN(3)]), `commit`)
			case 1:
				list = append(list, fmt.Sprintf(`insert into %s (n) select n from %s`, table, names[draw.IntN(3)]))
			default:
				list = append(list, write)
			}
		}
		actors = append(actors, list)
	}
	oracles := make([][]string, 1+draw.IntN(2))
	for i := range oracles {
		for _, name := range names {
			if draw.IntN(2) == 0 {
				oracles[i] = append(oracles[i], name)
			}
		}
	}
	late := draw.IntN(3) == 0 // a table that an oracle reads only sometimes
	wal := draw.IntN(2) == 0
	states = map[string]bool{}
	r = harness.Explore(tb, func(s *harness.Sim) {
		var setup []string
		for _, name := range names {
			setup = append(setup, `create table `+name+` (id integer primary key, n int)`, `insert into `+name+` values (1, 1)`)
		}
		db := New(s, Config{WAL: wal, Setup: setUp(setup...)}).Open()
		db.SetMaxIdleConns(10)
		log := "" // of what actors did, for an oracle that reads no table
		for i, list := range actors {
			s.Go(string(rune('p'+i)), func(ctx context.Context) error {
				if err := execAll(ctx, db, list...); err != nil {
					return err
				}
				log = fmt.Sprint(log, i)
				return nil
			})
		}
		for i, tables := range oracles {
			s.Always(fmt.Sprint(i), func() error {
				state := fmt.Sprint(i, ":")
				for _, name := range tables {
					state += " " + sumOf(db, name)
				}
				if late && strings.HasSuffix(state, "7") {
					state += " " + sumOf(db, "a") + " " + sumOf(db, "c")
				}
				if len(tables) == 0 {
					state += log
				}
				states[state] = true
				return nil
			})
		}
	}, harness.WithStrategies(strategy))
	return states, r
}

func sumOf(db *sql.DB, table string) string {
	var text string
	if err := db.QueryRow(`select group_concat(n) from ` + table).Scan(&text); err != nil {
		panic(err)
	}
	return text
}

// TestNoStateThatAnAlwaysSeesIsLost to the reduced search.
func TestNoStateThatAnAlwaysSeesIsLost(t *testing.T) {
	tried, plainRuns, reducedRuns := 0, 0, 0
	for seed := range harnesstest.Trials(t, 300) {
		want, plain := alwaysTrial(seed, harness.Plain(2000), t)
		if !plain.Covered[0].Complete {
			continue
		}
		got, reduced := alwaysTrial(seed, harness.Exhaustive(0), t)
		if missing := harnesstest.Lacking(want, got); len(missing) > 0 || !maps.Equal(want, got) {
			t.Fatalf("seed %d: %d of %d states are lost, such as %q", seed, len(missing), len(want), missing)
		}
		tried, plainRuns, reducedRuns = tried+1, plainRuns+plain.Schedules(), reducedRuns+reduced.Schedules()
	}
	t.Logf("%d trials: %d schedules reduced to %d", tried, plainRuns, reducedRuns)
}

// TestAnOracleThatReadsMoreLater has the search begin again: what it has left
// out by then is another state now.
func TestAnOracleThatReadsMoreLater(t *testing.T) {
	schedules := 0
	r := harness.Explore(t, func(s *harness.Sim) {
		schedules++
		db := Open(s, `create table a (n)`, `create table b (n)`, `create table c (n)`)
		for _, name := range []string{"a", "b", "c"} {
			s.Go(name, func(ctx context.Context) error { return execAll(ctx, db, `insert into `+name+` values (1)`) })
		}
		s.Always("they are there", func() error {
			_, err := db.Exec(`select * from a`)
			if err == nil && schedules > 3 {
				_, err = db.Exec(`select * from b, c`)
			}
			return err
		})
	}, harness.WithStrategies(harness.Exhaustive(0)))
	if r.Failure != nil || r.Schedules() != 6 {
		t.Errorf("%s, want 6; %v", r, r.Report)
	}
}
