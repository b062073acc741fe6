package sqlmodel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// drawActors draws what some actors do: a statement, or a transaction of two.
func drawActors(g *generator) (actors [][]string) {
	for range 2 + g.IntN(2) {
		one := func() string {
			for {
				g.open[0] = true
				if m := g.statement(0); !strings.Contains(m.sql, "savepoint") && m.sql != "commit" && !strings.HasPrefix(m.sql, "rollback") && !strings.HasPrefix(m.sql, "release") {
					return m.sql
				}
			}
		}
		if len(actors) == 2 || g.IntN(3) == 0 {
			actors = append(actors, []string{one()})
			continue
		}
		begin := g.one("begin", "begin", "begin isolation level repeatable read")
		actors = append(actors, []string{begin, one(), one(), g.one("commit", "commit", "rollback")})
	}
	return actors
}

// outcomes explores the actors, and returns what each of them saw and what was
// left, in each schedule.
func outcomes(t *testing.T, schema string, actors [][]string, strategy harness.Strategy) (seen map[string]bool, r *harness.Result) {
	t.Helper()
	seen = map[string]bool{}
	r = harness.Explore(t, func(s *harness.Sim) {
		d := New(s, Config{Schema: schema})
		db := d.Open()
		db.SetMaxIdleConns(10)
		saw := make([]string, len(actors))
		for i, list := range actors {
			s.Go(string(rune('p'+i)), func(ctx context.Context) error {
				c, err := db.Conn(ctx)
				if err != nil {
					return err
				}
				defer func() { _ = c.Close() }()
				for _, text := range list {
					rows, err := c.QueryContext(ctx, text)
					if err != nil {
						saw[i] += didOf(nil, err).state + "|"
						continue
					}
					columns, _ := rows.Columns()
					for rows.Next() {
						values, into := make([]any, len(columns)), make([]any, len(columns))
						for j := range values {
							into[j] = &values[j]
						}
						if err := rows.Scan(into...); err != nil {
							return err
						}
						saw[i] += fmt.Sprint(values)
					}
					saw[i] += "|"
					if err := errors.Join(rows.Err(), rows.Close()); err != nil {
						return err
					}
				}
				return nil
			})
		}
		s.Eventually("seen", func() error {
			st := &stage{cat: d.cat, st: d.st}
			seen[fmt.Sprint(saw, st.contents())] = true
			return nil
		})
	}, harness.WithStrategies(strategy))
	return seen, r
}

// TestWhatOrdersDependOn has pairs whose order shows by one thing alone: locks
// that nothing was written under, a sequence, an advisory lock, a foreign key.
func TestWhatOrdersDependOn(t *testing.T) {
	t.Parallel()
	for name, actors := range map[string][][]string{
		"locks":       {{"begin", "select id from p order by id limit 1 for update skip locked", "commit"}, {"begin", "select id from p order by id limit 1 for update skip locked", "commit"}},
		"a sequence":  {{"select nextval('c_id_seq')"}, {"select nextval('c_id_seq')"}},
		"advisory":    {{"select pg_try_advisory_lock(1)"}, {"select pg_try_advisory_lock(1)"}},
		"foreign key": {{"begin", "insert into c (pid) values (3)", "commit"}, {"begin", "select id from p where id = 3 for update skip locked", "commit"}},
		"a cascade":   {{"begin", "delete from p where id = 2", "commit"}, {"begin", "select id from c where pid = 2 for update skip locked", "commit"}},
	} {
		want, plain := outcomes(t, schemas[0]+filling, actors, harness.Plain(0))
		got, r := outcomes(t, schemas[0]+filling, actors, harness.Exhaustive(0))
		if plain.Failure != nil || r.Failure != nil || len(want) < 2 {
			t.Errorf("%s: %v, %v, %d outcomes", name, plain, r, len(want))
		}
		if lost := harnesstest.Lacking(want, got); len(lost) > 0 {
			t.Errorf("%s: %d of %d outcomes are lost, such as %v", name, len(lost), len(want), lost)
		}
	}
}

// TestReducedSearchSeesAll holds the footprints to the search that leaves no
// order out: what actors see and what is left is the same.
func TestReducedSearchSeesAll(t *testing.T) {
	t.Parallel()
	tried, all, reduced := 0, 0, 0
	for n := range harnesstest.Trials(t, 60) {
		g := &generator{Rand: rand.New(rand.NewPCG(n, 3)), open: map[int]bool{}, points: map[int]int{}}
		schema := schemas[n%uint64(len(schemas))] + filling
		actors := drawActors(g)
		want, plain := outcomes(t, schema, actors, harness.Plain(2000))
		if plain.Failure != nil || !plain.Covered[0].Complete {
			continue // refused, or too many
		}
		got, r := outcomes(t, schema, actors, harness.Exhaustive(0))
		if r.Failure != nil {
			t.Fatalf("seed %d: %s", n, r.Report)
		}
		if lost := harnesstest.Lacking(want, got); len(lost) > 0 || len(got) > len(want) {
			t.Errorf("seed %d %q: %d of %d outcomes are lost, such as\n%v\nof those that were seen\n%v", n, actors, len(lost), len(want), lost, slices.Sorted(maps.Keys(got)))
		}
		tried, all, reduced = tried+1, all+plain.Schedules(), reduced+r.Schedules()
	}
	t.Logf("%d trials: %d schedules reduced to %d", tried, all, reduced)
	if tried == 0 {
		t.Error("no trial was small enough")
	}
}
