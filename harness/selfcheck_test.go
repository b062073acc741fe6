package harness_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
	"github.com/edgaze-ai/runcounter/internal/need"
)

// trial is a small scenario that was drawn at random.
type trial struct {
	wal    bool
	crash  bool       // the first of them may, at any moment
	actors [][]string // their statements
}

func drawTrial(r *rand.Rand) trial {
	t := trial{wal: r.IntN(2) == 0}
	statement := func(actor int) string {
		return []string{
			`select 1`,
			`select n from a where id = 1`,
			`select n from b where id = 1`,
			`select sum(n) from a`,
			fmt.Sprintf(`update a set n = n * 3 + %d where id = 1`, actor),
			fmt.Sprintf(`update b set n = n * 5 + %d where id = 1`, actor),
			fmt.Sprintf(`insert into a (n) select n + %d from b`, actor),
		}[r.IntN(7)]
	}
	for actor := range 2 + r.IntN(2) {
		var list []string
		for range 1 + r.IntN(2) {
			switch r.IntN(7) {
			case 0:
				list = append(list, "begin immediate", statement(actor), "commit")
			case 4:
				list = append(list, "begin exclusive", statement(actor), "commit")
			case 5:
				list = append(list, "savepoint p", statement(actor), statement(actor), "release p")
			case 6:
				list = append(list, "begin", statement(actor), "savepoint p", statement(actor), "rollback to p", "commit")
			case 1:
				list = append(list, "begin", statement(actor), statement(actor), "commit")
			case 2:
				list = append(list, "begin", statement(actor), "rollback")
			default:
				list = append(list, statement(actor))
			}
		}
		t.actors = append(t.actors, list)
	}
	t.crash = r.IntN(3) == 0
	return t
}

// run is the scenario. Each actor goes by a connection of its own; what its
// statements return is part of what is observed, a failed one ends it.
func (t trial) scenario(s *harness.Sim) {
	d := sqlite.New(s, sqlite.Config{WAL: t.wal, Setup: func(_ string, db *sql.DB) error {
		_, err := db.Exec(`create table a (id integer primary key, n int); create table b (id integer primary key, n int);
create table log (n int); create trigger l after update on b begin insert into log values (new.n); end;
insert into a values (1, 1); insert into b values (1, 1)`)
		return err
	}})
	db := d.Open()
	db.SetMaxIdleConns(10) // more than 2, or which are closed depends on the order in which they come back
	for i, list := range t.actors {
		var with []harness.ActorOption
		if t.crash && i == 0 {
			with = []harness.ActorOption{harness.MayCrash()}
		}
		s.Go(string(rune('p'+i)), func(ctx context.Context) error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			for _, text := range list {
				rows, err := conn.QueryContext(ctx, text)
				if err != nil {
					break
				}
				if err := errors.Join(rows.Err(), rows.Close()); err != nil {
					break
				}
			}
			return nil
		}, with...)
	}
	s.Show("contents", func() string { return contentsOf(db) })
}

func contentsOf(db *sql.DB) string {
	var text string
	err := db.QueryRow(`select coalesce((select group_concat(id || '=' || n) from a), '') || ' ' || coalesce((select group_concat(n) from b), '') || ' ' || coalesce((select group_concat(n) from log), '')`).Scan(&text)
	if err != nil {
		panic(err)
	}
	return text
}

// observed is what an outsider can tell of a schedule: what each actor got to
// see, and what was left in the end.
func observed(r harness.Seen) string {
	per := make([]strings.Builder, r.Actors())
	last := ""
	for _, st := range r.Steps() {
		fmt.Fprintf(&per[st.Actor], "%s=%s%s|", st.Text, st.Result, st.Fault)
		last = st.Show[0]
	}
	text := last
	for i := range per {
		text += "\n" + per[i].String()
	}
	if f := r.Failed(); f != nil {
		text += f.Kind
	}
	return text
}

// mazurkiewicz names the trace of a schedule: the order of its dependent
// steps, and of no others.
func mazurkiewicz(r harness.Seen) string {
	steps := r.Steps()
	seen := make([]int, r.Actors())
	places := make([]int, len(steps))
	var edges []string
	for i, st := range steps {
		places[i] = seen[st.Actor]
		seen[st.Actor]++
		if st.Fault != harness.NoFault {
			edges = append(edges, fmt.Sprintf("%d.%d %s", st.Actor, places[i], st.Fault))
		}
		for j := range i {
			if o := steps[j]; o.Actor != st.Actor && harness.Dependent(o.Foot, st.Foot) {
				edges = append(edges, fmt.Sprintf("%d.%d<%d.%d", o.Actor, places[j], st.Actor, places[i]))
			}
		}
	}
	slices.Sort(edges)
	return strings.Join(edges, " ")
}

// search explores a trial and returns what was observed and which traces.
func (t trial) search(tb testing.TB, strategy harness.Strategy, dependent func(a, b engine.Footprint) bool) (seen, traces map[string]bool, result *harness.Result) {
	tb.Helper()
	seen, traces = map[string]bool{}, map[string]bool{}
	result = harness.ExploreBefore(tb, harness.Eyes{Dependent: dependent, Schedule: func(r harness.Seen) {
		seen[observed(r)] = true
		traces[mazurkiewicz(r)] = true
	}}, t.scenario, harness.WithStrategies(strategy))
	return seen, traces, result
}

// TestTheReducedSearchLosesNothing holds the search with sleep sets to the
// plain one: everything that an actor or an oracle could observe, and every trace, once.
func TestTheReducedSearchLosesNothing(t *testing.T) {
	t.Parallel()
	tried, plainRuns, reducedRuns := 0, 0, 0
	for seed := range harnesstest.Trials(t, 3000) {
		trial := drawTrial(rand.New(rand.NewPCG(seed, 0)))
		steps := 0
		for _, a := range trial.actors {
			steps += len(a)
		}
		if steps > 8 {
			continue
		}
		seen, traces, plain := trial.search(t, harness.Plain(3000), nil)
		if !plain.Covered[0].Complete {
			continue
		}
		gotSeen, gotTraces, reduced := trial.search(t, harness.Exhaustive(0), nil)
		if missing := harnesstest.Lacking(seen, gotSeen); len(missing) > 0 {
			t.Fatalf("seed %d %v: %d of %d observations are lost, such as\n%s", seed, trial, len(missing), len(seen), missing[0])
		}
		if missing := harnesstest.Lacking(traces, gotTraces); len(missing) > 0 {
			t.Fatalf("seed %d %v: %d of %d traces are lost, such as\n%s", seed, trial, len(missing), len(traces), missing[0])
		}
		if extra := harnesstest.Lacking(gotTraces, traces); len(extra) > 0 {
			t.Fatalf("seed %d %v: %d traces that the plain search lacks", seed, trial, len(extra))
		}
		// A crash wakes all that wait: some traces are run more than once.
		if n := reduced.Schedules(); n < len(traces) || n > len(traces) && !trial.crash {
			t.Errorf("seed %d %v: %d schedules for %d traces", seed, trial, reduced.Schedules(), len(traces))
		}
		tried++
		plainRuns += plain.Schedules()
		reducedRuns += reduced.Schedules()
	}
	if tried < 60 && !need.Smaller(t) {
		t.Fatalf("only %d trials were small enough", tried)
	}
	t.Logf("%d trials: %d schedules reduced to %d", tried, plainRuns, reducedRuns)
}

// TestTheSelfCheckNoticesAWrongRelation makes steps independent that aren't:
// the comparison above must see that something was lost.
func TestTheSelfCheckNoticesAWrongRelation(t *testing.T) {
	need.NoRaceDetector(t)
	for name, wrong := range map[string]func(a, b engine.Footprint) bool{
		"nothing is dependent":            func(a, b engine.Footprint) bool { return false },
		"reads are independent of writes": func(a, b engine.Footprint) bool { return a.Writes&b.Writes != 0 },
		"writes are independent of each other": func(a, b engine.Footprint) bool {
			return a.Writes&b.Reads|b.Writes&a.Reads != 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(400) {
				trial := drawTrial(rand.New(rand.NewPCG(seed, 0)))
				seen, _, plain := trial.search(t, harness.Plain(1000), nil)
				if !plain.Covered[0].Complete {
					continue
				}
				got, _, _ := trial.search(t, harness.Exhaustive(0), wrong)
				if len(harnesstest.Lacking(seen, got)) > 0 {
					return
				}
			}
			t.Error("no trial noticed")
		})
	}
}
