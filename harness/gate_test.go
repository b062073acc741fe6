package harness_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// toys are drivers with more and with less of what a driver may have.
var toys = map[string]func() *toy{
	"whole": newToy,
	"old":   func() *toy { t := newToy(); t.old = true; return t },
	"skips": func() *toy { t := newToy(); t.skips = true; return t },
}

// TestGateMakesStepsOfAnyDriver has a lost update over a driver that the harness
// does not know, and what mends it; whatever of the interfaces the driver has.
func TestGateMakesStepsOfAnyDriver(t *testing.T) {
	for name, open := range toys {
		scenario := func(act func(ctx context.Context, s *harness.Sim, n int) (text string, arg int)) func(s *harness.Sim) {
			return func(s *harness.Sim) {
				db := gated(s, open())
				both(s, func(ctx context.Context) error {
					n, err := numberOf(ctx, db, "a")
					if err != nil {
						return err
					}
					text, arg := act(ctx, s, n)
					_, err = db.ExecContext(ctx, text, arg)
					return err
				}, harness.Needed())
				s.Show("a", func() string { n, err := numberOf(context.Background(), db, "a"); return fmt.Sprint(n, err) })
				s.Eventually("both are counted", addsUp(db, 2))
			}
		}
		r := harnesstest.MustFail(t, harness.Explore(t, scenario(func(_ context.Context, _ *harness.Sim, n int) (string, int) { return "set a ?", n + 1 })), "eventually", "a is 1, want 2")
		if len(r.Steps) != 4 || r.Steps[0].Result != "2 rows" || r.Steps[0].Text != "get a" || r.Steps[3].Text != "set a ? [1]" || r.Steps[3].Result != "wrote 1" {
			t.Errorf("%s: it tells\n%s", name, r)
		}
		right := harness.Explore(t, scenario(func(context.Context, *harness.Sim, int) (string, int) { return "add a ?", 1 }))
		harnesstest.MustPass(t, right)
		if right.Schedules() != 6 || len(right.Unexplored) > 0 {
			t.Errorf("%s: %s, want 6 schedules", name, right)
		}
	}
}

// TestGateWaitsInsideTheDriver for what another actor has locked: the statement
// that waits is two steps, and all orders are tried.
func TestGateWaitsInsideTheDriver(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		toy := newToy()
		waits := false
		r := harness.ExploreBefore(t, harness.Eyes{Schedule: func(seen harness.Seen) {
			for _, st := range seen.Steps() {
				waits = waits || st.Result == "waits for a lock"
			}
		}}, func(s *harness.Sim) {
			toy = newToy()
			toy.deaf = deaf
			db := gated(s, toy)
			both(s, func(ctx context.Context) error { return inToyTx(ctx, db, "add a ?") })
			s.Eventually("both are counted", addsUp(db, 2))
		})
		harnesstest.MustPass(t, r)
		if !waits || r.Schedules() < 10 || len(r.Unexplored) > 0 {
			t.Errorf("deaf %v: %s, one waited: %v", deaf, r, waits)
		}
	}
}

// TestGateFindsACircleInTheDriver, of two who wait for each other there; and the
// next schedule begins, though the driver does not hear that it is over.
func TestGateFindsACircleInTheDriver(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		r := harness.Explore(t, func(s *harness.Sim) {
			toy := newToy()
			toy.deaf = deaf
			db := gated(s, toy)
			s.Go("up", func(ctx context.Context) error { return inToyTx(ctx, db, "add a ?", "add b ?") })
			s.Go("down", func(ctx context.Context) error { return inToyTx(ctx, db, "add b ?", "add a ?") })
		})
		harnesstest.MustFail(t, r, "deadlock", "for a lock")
	}
}

// TestGateEndsWhatWaitsForNothing by its context.
func TestGateEndsWhatWaitsForNothing(t *testing.T) {
	start := time.Now()
	harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
		db := gated(s, newToy())
		s.Go("ann", func(ctx context.Context) error { _, err := db.ExecContext(ctx, "wait a"); return err })
	}), "deadlock", "ann waits in … goes on, for a lock")
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestGateLeavesNothingOfTheDead: their transactions are rolled back, actors
// that wait for their locks go on, and so does an actor that starts again.
func TestGateLeavesNothingOfTheDead(t *testing.T) {
	seen := map[string]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		db := gated(s, newToy())
		starts := 0
		s.Go("dies", func(ctx context.Context) error {
			starts++
			tx, err := db.BeginTx(context.WithoutCancel(ctx), nil) // and it is not rolled back
			for _, text := range []string{"add a ?", "add b ?"} {
				if err == nil {
					_, err = tx.ExecContext(ctx, text, 1)
				}
			}
			if err != nil {
				return err
			}
			return tx.Commit()
		}, harness.Restarts())
		s.Go("lives", func(ctx context.Context) error { return inToyTx(ctx, db, "add a ?") })
		s.Eventually("all or nothing", func() error {
			a, err := numberOf(context.Background(), db, "a")
			b, err2 := numberOf(context.Background(), db, "b")
			seen[fmt.Sprint(starts, a, b)] = true
			if a != b+1 || b < 1 || b > starts {
				return errors.Join(err, err2, fmt.Errorf("a is %d, b %d after %d starts", a, b, starts))
			}
			return nil
		})
	}, harness.WithStrategies(harness.Exhaustive(0)))
	harnesstest.MustPass(t, r)
	for _, want := range []string{"1 2 1", "2 2 1", "2 3 2"} {
		if !seen[want] {
			t.Errorf("never starts, a, b are %s: %v", want, seen)
		}
	}
}

// TestGateRollsBackWhereAContextEnds, at any moment from then on.
func TestGateRollsBackWhereAContextEnds(t *testing.T) {
	seen, waited, beside := map[int]bool{}, false, map[int]bool{}
	r := harness.ExploreBefore(t, harness.Eyes{Schedule: func(r harness.Seen) {
		for i, st := range r.Steps() {
			waited = waited || st.Result == "waits for a lock"
			if st.Text == "has ended: rollback" {
				beside[i] = true
			}
		}
	}}, func(s *harness.Sim) {
		db := gated(s, newToy())
		s.Go("ann", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			tx, err := db.BeginTx(ctx, nil)
			if err == nil {
				_, err = tx.ExecContext(ctx, "add a ?", 10)
			}
			cancel()
			return err
		})
		s.Go("bob", func(ctx context.Context) error {
			n, err := numberOf(ctx, db, "a")
			seen[n] = true
			return errors.Join(err, inToyTx(ctx, db, "add a ?"))
		})
		s.Eventually("nothing of it is left", addsUp(db, 1))
	})
	if r.Failure != nil || !seen[0] || len(seen) != 1 || !waited || len(beside) < 3 {
		t.Errorf("seen %v, bob waited %v, it was rolled back after so many steps: %v; %v", seen, waited, beside, r.Report)
	}
}

// TestGateNamesATextOfSeveralStatements, which it can't take apart.
func TestGateNamesATextOfSeveralStatements(t *testing.T) {
	for text, want := range map[string]string{
		"add a ?":             "",
		"add a ?; ":           "",
		"add a ? ; /* b; */":  "",
		"add a ?; add b ?":    `the text of several statements "add a ?; add b ?"`,
		"add ';' ?":           "",
		"add -- a; add b\n a": "",
	} {
		r := harness.Explore(t, func(s *harness.Sim) {
			db := gated(s, newToy())
			if _, err := db.Exec("add a ?; add b ?", 0); err != nil { // no step
				panic(err)
			}
			s.Go("ann", func(ctx context.Context) error {
				_, _ = db.ExecContext(ctx, text, 1)
				return nil
			})
		})
		if got := strings.Join(r.Unexplored, ", "); got != want || r.Failure != nil {
			t.Errorf("%q: the verdict names %q, want %q; %v", text, got, want, r.Failure)
		}
	}
}

// TestGateIsTheDriver to database/sql: what comes back through it, in whatever
// way, is what the driver itself gives.
func TestGateIsTheDriver(t *testing.T) {
	for name, open := range toys {
		bare := sql.OpenDB(open())
		want := answersOf(t.Context(), bare)
		if err := bare.Close(); err != nil {
			t.Fatal(err)
		}
		var byActor string
		r := harness.Explore(t, func(s *harness.Sim) {
			if diff := cmp.Diff(want, answersOf(t.Context(), gated(s, open()))); diff != "" {
				t.Fatalf("%s (-driver +gate):\n%s", name, diff)
			}
			db := gated(s, open())
			s.Go("ann", func(ctx context.Context) error { byActor = answersOf(ctx, db); return nil })
		})
		if diff := cmp.Diff(want, byActor); diff != "" || r.Failure != nil {
			t.Errorf("%s, by an actor (-driver +gate):\n%s%v", name, diff, r.Failure)
		}
	}
}

// answersOf is what a handle comes to in many ways.
func answersOf(ctx context.Context, db *sql.DB) string {
	var b strings.Builder
	note := func(what, answer string, err error) { fmt.Fprintf(&b, "%s: %v, %v\n", what, answer, err) }
	exec := func(text string, args ...any) {
		result, err := db.ExecContext(ctx, text, args...)
		n := int64(-1)
		if err == nil {
			n, err = result.RowsAffected()
		}
		note(text+fmt.Sprint(args...), fmt.Sprint(n), err)
	}
	query := func(text string) {
		rows, err := db.QueryContext(ctx, text)
		if err != nil {
			note(text, "", err)
			return
		}
		defer func() { _ = rows.Close() }()
		types, _ := rows.ColumnTypes()
		nullable, ok := types[0].Nullable()
		note("type", types[0].DatabaseTypeName()+fmt.Sprint(nullable, ok, types[0].ScanType()), nil)
		for again := true; again; again = rows.NextResultSet() {
			var list []sql.RawBytes
			for rows.Next() {
				var v sql.RawBytes
				if err := rows.Scan(&v); err != nil {
					note("scan", "", err)
				}
				list = append(list, append(sql.RawBytes{}, v...))
			}
			note(text, fmt.Sprintf("%s", list), rows.Err())
		}
	}
	exec("set a ?", 5)
	exec("set a ?", "seven")
	exec("set a ?", "eight")
	exec("set a ?", sql.Named("x", 5))
	exec("set a ?", struct{}{})
	exec("nonsense")
	query("get a")
	query("get a; get b")
	exec("set c ?", 13)
	query("get c") // breaks off behind its first row
	for _, options := range []*sql.TxOptions{nil, {Isolation: sql.LevelSerializable}, {ReadOnly: true}} {
		tx, err := db.BeginTx(ctx, options)
		note("begin", fmt.Sprint(options), err)
		if err == nil {
			_, err = tx.ExecContext(ctx, "add a ?", 1)
			note("in it", "", errors.Join(err, tx.Rollback()))
		}
	}
	st, err := db.PrepareContext(ctx, "add a ?")
	note("prepare", "", err)
	if err == nil {
		_, err = st.ExecContext(ctx, "eight")
		note("prepared", "", errors.Join(err, st.Close()))
	}
	query("get a")
	note("ping", "", db.PingContext(ctx))
	return b.String()
}

// TestGateEndsTheTestWhereAnOracleWaits for what an actor has locked: no actor
// would go on.
func TestGateEndsTheTestWhereAnOracleWaits(t *testing.T) {
	stand := harnesstest.Of("TestIt", func(s *harness.Sim) {
		db := sql.OpenDB(harness.WithPatience(harness.Gate(s, newToy()), 20*time.Millisecond))
		s.Go("ann", func(ctx context.Context) error { return inToyTx(ctx, db, "add a ?") })
		s.Always("it is there", func() error { _, err := db.Exec("add a ?", 0); return err })
		s.Go("bob", func(ctx context.Context) error { _, err := db.ExecContext(ctx, "add b ?", 1); return err })
	})
	if got := stand.Errors.String(); !strings.Contains(got, "an oracle's statement has had no answer: it waits for what an actor has locked: add a ?") {
		t.Errorf("it says %s", got)
	}
}

// TestGateWithAPoolOfOne, for which actors wait beside the database; and
// transaction by transaction.
func TestGateWithAPoolOfOne(t *testing.T) {
	scenario := func(connections int) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			db := gated(s, newToy())
			db.SetMaxOpenConns(connections)
			both(s, func(ctx context.Context) error { return inToyTx(ctx, db, "add a ?") })
			s.Eventually("both are counted", addsUp(db, 2))
		}
	}
	harnesstest.MustPass(t, harness.Explore(t, scenario(1)))
	r := harness.Explore(t, scenario(0), harness.WithGrain(harness.Transactions))
	harnesstest.MustPass(t, r)
	if r.Schedules() != 2 {
		t.Errorf("%s, want 2 schedules", r)
	}
}
