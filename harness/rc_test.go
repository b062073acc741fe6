package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// template is a statement of the differential test.
type template func(i, k int64) *Statement

func is(i int64) func(Row) bool { return func(r Row) bool { return r[0] == i } }

var templates = []template{
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`update a set n = n * 3 + %d where id = %d`, k, i), Writes: []string{"a"}, Do: func(q *Query) error {
			_, err := q.Update("a", is(i), func(r Row) Row { return Row{r[0], r[1].(int64)*3 + k} })
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`update a set n = n + 7 * (select count(*) from b) where id = %d`, i), Reads: []string{"b"}, Writes: []string{"a"}, Do: func(q *Query) error {
			n := q.Count("b", nil)
			_, err := q.Update("a", is(i), func(r Row) Row { return Row{r[0], r[1].(int64) + 7*n} })
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`insert into b values (%d, %d) on conflict (id) do nothing`, i, k), Writes: []string{"b"}, Do: func(q *Query) error {
			_, err := q.Insert("b", Row{i, k}, Conflict{DoNothing: true})
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`insert into b values (%d, %d) on conflict (id) do update set n = b.n * 2 + excluded.n`, i, k), Writes: []string{"b"}, Do: func(q *Query) error {
			_, err := q.Insert("b", Row{i, k}, Conflict{DoUpdate: func(r Row) Row { return Row{r[0], r[1].(int64)*2 + k} }})
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`insert into b values (%d, %d)`, i, k), Writes: []string{"b"}, Do: func(q *Query) error {
			_, err := q.Insert("b", Row{i, k}, Conflict{})
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`delete from b where id = %d`, i), Writes: []string{"b"}, Do: func(q *Query) error {
			_, err := q.Delete("b", is(i))
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`select n from a where id = %d for update`, i), Writes: []string{"a"}, Do: func(q *Query) error {
			rows, err := q.ForUpdate("a", Wait, is(i))
			for _, r := range rows {
				q.Return(r[1])
			}
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`update a set n = n + %d where n > 4`, k), Writes: []string{"a"}, Do: func(q *Query) error {
			_, err := q.Update("a", func(r Row) bool { return r[1].(int64) > 4 }, func(r Row) Row { return Row{r[0], r[1].(int64) + k} })
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: `delete from a where n % 2 = 1`, Writes: []string{"a"}, Do: func(q *Query) error {
			_, err := q.Delete("a", func(r Row) bool { return r[1].(int64)%2 == 1 })
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: `insert into b select id, n from a order by id on conflict (id) do update set n = b.n + excluded.n`, Reads: []string{"a"}, Writes: []string{"b"}, Do: func(q *Query) error {
			for _, r := range q.Select("a", nil) {
				if _, err := q.Insert("b", r, Conflict{DoUpdate: func(there Row) Row { return Row{there[0], there[1].(int64) + r[1].(int64)} }}); err != nil {
					return err
				}
			}
			return nil
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: fmt.Sprintf(`insert into b values (%d, (select sum(n) from a)) on conflict (id) do update set n = excluded.n`, i), Reads: []string{"a"}, Writes: []string{"b"}, Do: func(q *Query) error {
			var sum any
			for _, r := range q.Select("a", nil) {
				n, _ := sum.(int64)
				sum = n + r[1].(int64)
			}
			_, err := q.Insert("b", Row{i, sum}, Conflict{DoUpdate: func(r Row) Row { return Row{r[0], sum} }})
			return err
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: `with l as (select id from b order by id for update skip locked) delete from b using l where b.id = l.id returning b.n`, Writes: []string{"b"}, Do: func(q *Query) error {
			rows, err := q.ForUpdate("b", SkipLocked, nil)
			if err != nil {
				return err
			}
			for _, l := range rows {
				gone, err := q.Delete("b", is(l[0].(int64)))
				if err != nil {
					return err
				}
				for _, r := range gone {
					q.Return(r[1])
				}
			}
			return nil
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: `select pg_advisory_xact_lock(1)::text`, Writes: []string{"advisory"}, Do: func(q *Query) error {
			q.Return("")
			return q.Advisory(1)
		}}
	},
	func(i, k int64) *Statement {
		return &Statement{SQL: `select (select coalesce(sum(n), 0) from a)::bigint, (select coalesce(sum(n), 0) from b)::bigint`, Reads: []string{"a", "b"}, Do: func(q *Query) error {
			var sums [2]int64
			for i, table := range []string{"a", "b"} {
				for _, r := range q.Select(table, nil) {
					n, _ := r[1].(int64)
					sums[i] += n
				}
			}
			q.Return(sums[0], sums[1])
			return nil
		}}
	},
}

// program is a small set of transactions that was drawn at random.
type program struct {
	filled bool
	crash  bool // the first actor may
	actors [][]*Statement
	ends   []bool // commit, or roll back
	auto   []bool // outside of a transaction
}

func drawProgram(r *rand.Rand, actors int) program {
	p := program{filled: r.IntN(2) == 0}
	for actor := range actors {
		var list []*Statement
		n := 1 + r.IntN(2)
		if actors == 2 {
			n++
		}
		for range n {
			list = append(list, templates[r.IntN(len(templates))](1+r.Int64N(2), int64(10*actor)+1+r.Int64N(3)))
		}
		p.actors = append(p.actors, list)
		p.ends = append(p.ends, r.IntN(5) > 0)
		p.auto = append(p.auto, r.IntN(6) == 0)
	}
	return p
}

func (p program) String() string {
	var b strings.Builder
	for i, list := range p.actors {
		fmt.Fprintf(&b, "actor %d (commits %v, autocommit %v):\n", i, p.ends[i], p.auto[i])
		for _, st := range list {
			fmt.Fprintf(&b, "  %s\n", st.SQL)
		}
	}
	return b.String()
}

func (p program) scenario(s *Sim) {
	tables := []Table{
		{Name: "a", Columns: []string{"id", "n"}, Key: 1, Rows: []Row{{int64(1), int64(4)}, {int64(2), int64(7)}}},
		{Name: "b", Columns: []string{"id", "n"}, Key: 1},
		{Name: "advisory", Columns: []string{"id"}, Key: 1},
	}
	if p.filled {
		tables[1].Rows = []Row{{int64(1), int64(5)}}
	}
	db := s.ReadCommitted(tables)
	results := make([]string, len(p.actors))
	for i, list := range p.actors {
		session := db.Session()
		var with []ActorOption
		if p.crash && i == 0 {
			with = []ActorOption{MayCrash()}
		}
		s.Go(string(rune('p'+i)), func(ctx context.Context) error {
			if !p.auto[i] {
				if err := session.Begin(ctx); err != nil {
					return err
				}
			}
			for _, st := range list {
				rows, err := session.Exec(ctx, st)
				slices.SortFunc(rows, compareRows) // no statement says in which order
				results[i] += fmt.Sprint(rows)
				var state *SQLState
				if errors.As(err, &state) {
					results[i] += state.Code
				} else if err != nil {
					return err
				}
			}
			if p.auto[i] {
				return nil
			}
			end := session.Rollback
			if p.ends[i] {
				end = session.Commit
			}
			var state *SQLState
			if err := end(ctx); errors.As(err, &state) {
				results[i] += state.Code
			}
			return nil
		}, with...)
	}
	s.OnEnd(func() {
		s.x.note = fmt.Sprint(db.Contents(), results)
	})
}

// outcomes returns every result that some schedule has.
func (p program) outcomes(t testing.TB, strategy Strategy, options ...Option) (map[string]bool, *Result) {
	x := newExplorer(t, p.scenario, append(options, WithStrategies(strategy)))
	defer x.close()
	seen := map[string]bool{}
	result := &Result{}
	x.observeEnd = func(r *execution) {
		if !r.aborted {
			seen[x.note] = true
		}
	}
	x.explore(result)
	return seen, result
}

// TestTheModelIsPostgreSQL draws small transactions and compares everything
// that some schedule of theirs leads to, contents and answers, on the model
// and on a real server.
func TestTheModelIsPostgreSQL(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	programs, schedules, outcomes := 0, 0, 0
	for seed := range trials(t, 60) {
		p := drawProgram(rand.New(rand.NewPCG(seed, 1)), 2)
		model, r := p.outcomes(t, Exhaustive(400))
		if r.Failure != nil {
			t.Fatalf("seed %d: %s\n%s", seed, r.Report, p)
		}
		if !r.Covered[0].Complete {
			continue
		}
		there, onServer := p.outcomes(t, Exhaustive(0), OnPostgres(address))
		for _, o := range lacking(there, model) {
			t.Errorf("seed %d: only PostgreSQL comes to %s\n%s", seed, o, p)
		}
		for _, o := range lacking(model, there) {
			t.Errorf("seed %d: only the model comes to %s\n%s", seed, o, p)
		}
		if onServer.Failure != nil {
			t.Errorf("seed %d: %s", seed, onServer.Report)
		}
		programs++
		schedules += onServer.Schedules()
		outcomes += len(there)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d programs, %d schedules on PostgreSQL, %d outcomes", programs, schedules, outcomes)
}

// TestTheSameScheduleOnPostgreSQL follows single schedules of drawn programs,
// step by step: every answer, every wait and whom it is for, every refusal.
func TestTheSameScheduleOnPostgreSQL(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	followed, verdicts := 0, map[string]int{}
	for seed := range trials(t, 20) {
		p := drawProgram(rand.New(rand.NewPCG(seed, 3)), 2+int(seed%2))
		x := newExplorer(t, p.scenario, nil)
		y := x.onServer(address)
		for i := range uint64(20) {
			run := x.execute(&random{rand: rand.New(rand.NewPCG(seed, i))}, omissions{}, true)
			_, v := y.follow(run, omissions{})
			followed++
			outcome, _, _ := strings.Cut(v.Outcome, " ")
			if v.Choice {
				outcome += ", by PostgreSQL's choice"
			}
			if verdicts[outcome]++; v.Outcome != same && !v.Choice {
				t.Errorf("seed %d, schedule %d, %s: %s\n%s", seed, i, run.schedule(), v, p)
			}
		}
		y.close()
		x.close()
	}
	t.Logf("%d schedules: %v", followed, verdicts)
}

// TestCaseO7_WhoClosesACircleIsEndedAsInTheModel, however late the server looks
// for deadlocks: who waited first has looked before another statement is sent.
func TestCaseO7_WhoClosesACircleIsEndedAsInTheModel(t *testing.T) {
	t.Parallel()
	first, second := templates[0](1, 1), templates[0](2, 1)
	p := program{actors: [][]*Statement{{first, second}, {second, first}}, ends: []bool{true, true}, auto: []bool{false, false}}
	x := newExplorer(t, p.scenario, nil)
	defer x.close()
	y := x.onServer(pgtest.With(t, pgtest.Database(t), "deadlock_timeout", "40ms"))
	defer y.close()
	circles := 0
	for i := range uint64(20) {
		run := x.execute(&random{rand: rand.New(rand.NewPCG(1, i))}, omissions{}, true)
		if strings.Contains(fmt.Sprint(x.note), "40P01") {
			circles++
		}
		if v := compare(run, y.execute(&replay{steps: run.schedule()}, omissions{}, true)); v.Outcome != same {
			t.Errorf("schedule %d, %s: %s", i, run.schedule(), v)
		}
	}
	if circles == 0 {
		t.Error("no schedule closes a circle")
	}
}

// TestTheModelsReductionLosesNothing holds the reduced search on the model to
// the plain one.
func TestTheModelsReductionLosesNothing(t *testing.T) {
	t.Parallel()
	programs, plain, reduced, n := 0, 0, 0, trials(t, 100)
	for seed := range n {
		p := drawProgram(rand.New(rand.NewPCG(seed, 2)), 2+int(seed%2))
		p.crash = seed%3 == 0
		all, r := p.outcomes(t, Plain(5000))
		if r.Failure != nil {
			t.Fatalf("seed %d: %s\n%s", seed, r.Report, p)
		}
		if !r.Covered[0].Complete {
			continue
		}
		some, less := p.outcomes(t, Exhaustive(0))
		if missing := lacking(all, some); len(missing) > 0 {
			t.Fatalf("seed %d: lost %s\n%s", seed, missing[0], p)
		}
		programs++
		plain += r.Schedules()
		reduced += less.Schedules()
	}
	if programs < int(n)/10 {
		t.Fatalf("only %d programs were small enough", programs)
	}
	t.Logf("%d programs: %d schedules reduced to %d", programs, plain, reduced)
}

// trials is how many of something a test draws: more with
// HARNESS_TRIALS=10, ten times as many.
func trials(t testing.TB, n uint64) uint64 {
	t.Helper()
	if more, err := strconv.ParseUint(os.Getenv("HARNESS_TRIALS"), 10, 32); err == nil {
		n *= more
	}
	if need.Smaller(t) {
		n = max(n/20, 1)
	}
	return n
}
