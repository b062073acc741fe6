package harness_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// template is a statement of the differential test.
type template func(i, k int64) *postgres.Statement

func is(i int64) func(postgres.Row) bool { return func(r postgres.Row) bool { return r[0] == i } }

var templates = []template{
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`update a set n = n * 3 + %d where id = %d`, k, i), Writes: []string{"a"}, Do: func(q *postgres.Query) error {
			_, err := q.Update("a", is(i), func(r postgres.Row) postgres.Row { return postgres.Row{r[0], r[1].(int64)*3 + k} })
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`update a set n = n + 7 * (select count(*) from b) where id = %d`, i), Reads: []string{"b"}, Writes: []string{"a"}, Do: func(q *postgres.Query) error {
			n := q.Count("b", nil)
			_, err := q.Update("a", is(i), func(r postgres.Row) postgres.Row { return postgres.Row{r[0], r[1].(int64) + 7*n} })
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`insert into b values (%d, %d) on conflict (id) do nothing`, i, k), Writes: []string{"b"}, Do: func(q *postgres.Query) error {
			_, err := q.Insert("b", postgres.Row{i, k}, postgres.Conflict{DoNothing: true})
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`insert into b values (%d, %d) on conflict (id) do update set n = b.n * 2 + excluded.n`, i, k), Writes: []string{"b"}, Do: func(q *postgres.Query) error {
			_, err := q.Insert("b", postgres.Row{i, k}, postgres.Conflict{DoUpdate: func(r postgres.Row) postgres.Row { return postgres.Row{r[0], plus(r[1], r[1], k)} }})
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`insert into b values (%d, %d)`, i, k), Writes: []string{"b"}, Do: func(q *postgres.Query) error {
			_, err := q.Insert("b", postgres.Row{i, k}, postgres.Conflict{})
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`delete from b where id = %d`, i), Writes: []string{"b"}, Do: func(q *postgres.Query) error {
			_, err := q.Delete("b", is(i))
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`select n from a where id = %d for update`, i), Writes: []string{"a"}, Do: func(q *postgres.Query) error {
			rows, err := q.ForUpdate("a", postgres.Wait, is(i))
			for _, r := range rows {
				q.Return(r[1])
			}
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`update a set n = n + %d where n > 4`, k), Writes: []string{"a"}, Do: func(q *postgres.Query) error {
			_, err := q.Update("a", func(r postgres.Row) bool { return r[1].(int64) > 4 }, func(r postgres.Row) postgres.Row { return postgres.Row{r[0], r[1].(int64) + k} })
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: `delete from a where n % 2 = 1`, Writes: []string{"a"}, Do: func(q *postgres.Query) error {
			_, err := q.Delete("a", func(r postgres.Row) bool { return r[1].(int64)%2 == 1 })
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: `insert into b select id, n from a order by id on conflict (id) do update set n = b.n + excluded.n`, Reads: []string{"a"}, Writes: []string{"b"}, Do: func(q *postgres.Query) error {
			for _, r := range q.Select("a", nil) {
				if _, err := q.Insert("b", r, postgres.Conflict{DoUpdate: func(there postgres.Row) postgres.Row { return postgres.Row{there[0], plus(there[1], r[1])} }}); err != nil {
					return err
				}
			}
			return nil
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: fmt.Sprintf(`insert into b values (%d, (select sum(n) from a)) on conflict (id) do update set n = excluded.n`, i), Reads: []string{"a"}, Writes: []string{"b"}, Do: func(q *postgres.Query) error {
			var sum any
			for _, r := range q.Select("a", nil) {
				n, _ := sum.(int64)
				sum = n + r[1].(int64)
			}
			_, err := q.Insert("b", postgres.Row{i, sum}, postgres.Conflict{DoUpdate: func(r postgres.Row) postgres.Row { return postgres.Row{r[0], sum} }})
			return err
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: `with l as (select id from b order by id for update skip locked) delete from b using l where b.id = l.id returning b.n`, Writes: []string{"b"}, Do: func(q *postgres.Query) error {
			rows, err := q.ForUpdate("b", postgres.SkipLocked, nil)
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
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: `select pg_advisory_xact_lock(1)::text`, Writes: []string{"advisory"}, Do: func(q *postgres.Query) error {
			q.Return("")
			return q.Advisory(1)
		}}
	},
	func(i, k int64) *postgres.Statement {
		return &postgres.Statement{SQL: `select (select coalesce(sum(n), 0) from a)::bigint, (select coalesce(sum(n), 0) from b)::bigint`, Reads: []string{"a", "b"}, Do: func(q *postgres.Query) error {
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

// plus adds as SQL does: with null it is null.
func plus(list ...any) any {
	var sum int64
	for _, v := range list {
		n, ok := v.(int64)
		if !ok {
			return nil
		}
		sum += n
	}
	return sum
}

// program is a small set of transactions that was drawn at random.
type program struct {
	filled bool
	crash  bool // the first actor may
	actors [][]*postgres.Statement
	ends   []bool // commit, or roll back
	auto   []bool // outside of a transaction
}

func drawProgram(r *rand.Rand, actors int) program {
	p := program{filled: r.IntN(2) == 0}
	for actor := range actors {
		var list []*postgres.Statement
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

func byText(a, b postgres.Row) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }

func (p program) scenario(s *harness.Sim) { p.noting(new(string))(s) }

// noting leaves what a schedule came to in the note, when it is over.
func (p program) noting(note *string) func(s *harness.Sim) {
	return func(s *harness.Sim) { p.run(s, note) }
}

func (p program) run(s *harness.Sim, note *string) {
	tables := []postgres.Table{
		{Name: "a", Columns: []string{"id", "n"}, Key: 1, Rows: []postgres.Row{{int64(1), int64(4)}, {int64(2), int64(7)}}},
		{Name: "b", Columns: []string{"id", "n"}, Key: 1},
		{Name: "advisory", Columns: []string{"id"}, Key: 1},
	}
	if p.filled {
		tables[1].Rows = []postgres.Row{{int64(1), int64(5)}}
	}
	db := postgres.NewReadCommitted(s, tables)
	results := make([]string, len(p.actors))
	for i, list := range p.actors {
		session := db.Session()
		var with []harness.ActorOption
		if p.crash && i == 0 {
			with = []harness.ActorOption{harness.MayCrash()}
		}
		s.Go(string(rune('p'+i)), func(ctx context.Context) error {
			if !p.auto[i] {
				if err := session.Begin(ctx); err != nil {
					return err
				}
			}
			for _, st := range list {
				rows, err := session.Exec(ctx, st)
				slices.SortFunc(rows, byText) // no statement says in which order
				results[i] += fmt.Sprint(rows)
				var state *postgres.SQLState
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
			var state *postgres.SQLState
			if err := end(ctx); errors.As(err, &state) {
				results[i] += state.Code
			}
			return nil
		}, with...)
	}
	s.OnEnd(func() { *note = fmt.Sprint(db.Contents(), results) })
}

// outcomes returns every result that some schedule has.
func (p program) outcomes(t testing.TB, strategy harness.Strategy, options ...harness.Option) (map[string]bool, *harness.Result) {
	seen, note := map[string]bool{}, ""
	result := harness.ExploreBefore(t, harness.Eyes{End: func(r harness.Seen) {
		if !r.Aborted() {
			seen[note] = true
		}
	}}, p.noting(&note), append(options, harness.WithStrategies(strategy))...)
	return seen, result
}

// TestTheModelIsPostgreSQL draws small transactions and compares everything
// that some schedule of theirs leads to, contents and answers, on the model
// and on a real server.
func TestTheModelIsPostgreSQL(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	programs, schedules, outcomes := 0, 0, 0
	for seed := range harnesstest.Trials(t, 60) {
		p := drawProgram(rand.New(rand.NewPCG(seed, 1)), 2)
		model, r := p.outcomes(t, harness.Exhaustive(400))
		if r.Failure != nil {
			t.Fatalf("seed %d: %s\n%s", seed, r.Report, p)
		}
		if !r.Covered[0].Complete {
			continue
		}
		there, onServer := p.outcomes(t, harness.Exhaustive(0), postgres.On(address))
		for _, o := range harnesstest.Lacking(there, model) {
			t.Errorf("seed %d: only PostgreSQL comes to %s\n%s", seed, o, p)
		}
		for _, o := range harnesstest.Lacking(model, there) {
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
	for seed := range harnesstest.Trials(t, 20) {
		p := drawProgram(rand.New(rand.NewPCG(seed, 3)), 2+int(seed%2))
		harness.Follow(t, p.scenario, postgres.On(address), seed, 20, 5, func(run harness.Seen, v harness.Verdict) {
			followed++
			outcome, _, _ := strings.Cut(v.Outcome, " ")
			if v.Choice {
				outcome += ", by PostgreSQL's choice"
			}
			if verdicts[outcome]++; v.Outcome != "same" && !v.Choice {
				t.Errorf("seed %d, schedule %d, %s: %s\n%s", seed, followed, run.Schedule(), v, p)
			}
		})
	}
	t.Logf("%d schedules: %v", followed, verdicts)
}

// TestCaseO7_WhoClosesACircleIsEndedAsInTheModel, however late the server looks
// for deadlocks: who waited first has looked before another statement is sent.
func TestCaseO7_WhoClosesACircleIsEndedAsInTheModel(t *testing.T) {
	t.Parallel()
	first, second := templates[0](1, 1), templates[0](2, 1)
	p := program{actors: [][]*postgres.Statement{{first, second}, {second, first}}, ends: []bool{true, true}, auto: []bool{false, false}}
	circles := 0
	there := postgres.On(pgtest.With(t, pgtest.Database(t), "deadlock_timeout", "40ms"))
	harness.Follow(t, p.scenario, there, 1, 20, 1, func(run harness.Seen, v harness.Verdict) {
		if strings.Contains(run.Trace(), "40P01") {
			circles++
		}
		if v.Outcome != "same" {
			t.Errorf("%s: %s", run.Schedule(), v)
		}
	})
	if circles == 0 {
		t.Error("no schedule closes a circle")
	}
}

// TestTheModelsReductionLosesNothing holds the reduced search on the model to
// the plain one.
func TestTheModelsReductionLosesNothing(t *testing.T) {
	t.Parallel()
	programs, plain, reduced, n := 0, 0, 0, harnesstest.Trials(t, 100)
	for seed := range n {
		p := drawProgram(rand.New(rand.NewPCG(seed, 2)), 2+int(seed%2))
		p.crash = seed%3 == 0
		all, r := p.outcomes(t, harness.Plain(5000))
		if r.Failure != nil {
			t.Fatalf("seed %d: %s\n%s", seed, r.Report, p)
		}
		if !r.Covered[0].Complete {
			continue
		}
		some, less := p.outcomes(t, harness.Exhaustive(0))
		if missing := harnesstest.Lacking(all, some); len(missing) > 0 {
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

func TestMain(m *testing.M) { pgtest.Main(m) }
