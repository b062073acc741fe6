package harness_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
)

var update = flag.Bool("update", false, "write the golden files anew")

const ada = "11111111-1111-4111-8111-111111111111"

// ended matches the runs of a user that have ended.
func ended(user string) func(postgres.Row) bool {
	return func(r postgres.Row) bool { return r[1] == user && r[2] == "completed" }
}

var (
	completeRun = &postgres.Statement{
		SQL:    `update runs set status = 'completed' where id = 2 and status = 'running'`,
		Writes: []string{"runs"},
		Do: func(q *postgres.Query) error {
			_, err := q.Update("runs", func(r postgres.Row) bool { return r[0] == int64(2) && r[2] == "running" },
				func(r postgres.Row) postgres.Row { return postgres.Row{r[0], r[1], "completed"} })
			return err
		},
	}
	countIt = &postgres.Statement{
		SQL:    `update counts set n = n + 1 where user_id = '` + ada + `'`,
		Writes: []string{"counts"},
		Do: func(q *postgres.Query) error {
			_, err := q.Update("counts", func(r postgres.Row) bool { return r[0] == ada },
				func(r postgres.Row) postgres.Row { return postgres.Row{r[0], r[1].(int64) + 1} })
			return err
		},
	}
	// What it reads is older than the lock for which it waits.
	upsertCount = &postgres.Statement{
		SQL: `insert into counts values ('` + ada + `', (select count(*) from runs where user_id = '` + ada + `' and status = 'completed'))
on conflict (user_id) do update set n = excluded.n returning n`,
		Reads:  []string{"runs"},
		Writes: []string{"counts"},
		Do: func(q *postgres.Query) error {
			n := q.Count("runs", ended(ada))
			row, err := q.Insert("counts", postgres.Row{ada, n}, postgres.Conflict{DoUpdate: func(r postgres.Row) postgres.Row { return postgres.Row{r[0], n} }})
			if err == nil {
				q.Return(row[1])
			}
			return err
		},
	}
	readCounts = &postgres.Statement{
		SQL:   `select count(*) from counts`,
		Reads: []string{"counts"},
		Do:    func(q *postgres.Query) error { q.Return(q.Count("counts", nil)); return nil },
	}
)

// staleRecount has a recount whose statement counts the runs, and then waits
// for the worker's lock on what it is about to write.
func staleRecount(s *harness.Sim) {
	db := postgres.NewReadCommitted(s, []postgres.Table{
		{
			Name: "runs", Columns: []string{"id", "user_id", "status"}, Types: []string{"bigint", "uuid", "text"}, Key: 1,
			Rows: []postgres.Row{{int64(1), ada, "completed"}, {int64(2), ada, "running"}},
		},
		{Name: "counts", Columns: []string{"user_id", "n"}, Types: []string{"uuid", "bigint"}, Key: 1, Rows: []postgres.Row{{ada, int64(1)}}},
	})
	worker, recount, reader := db.Session(), db.Session(), db.Session()
	s.Go("worker", func(ctx context.Context) error {
		if err := worker.Begin(ctx); err != nil {
			return err
		}
		for _, st := range []*postgres.Statement{completeRun, countIt} {
			if _, err := worker.Exec(ctx, st); err != nil {
				return errors.Join(err, worker.Rollback(ctx))
			}
		}
		return worker.Commit(ctx)
	}, harness.Needed())
	s.Go("recount", func(ctx context.Context) error {
		_, err := recount.Exec(ctx, upsertCount)
		return err
	})
	s.Go("reader", func(ctx context.Context) error {
		_, err := reader.Exec(ctx, readCounts)
		return err
	})
	runs := func() (n int64) {
		for _, r := range db.Rows("runs") {
			if ended(ada)(r) {
				n++
			}
		}
		return n
	}
	count := func() int64 { return db.Rows("counts")[0][1].(int64) }
	s.Show("runs", func() string { return fmt.Sprint(runs()) })
	s.Show("count", func() string { return fmt.Sprint(count()) })
	s.Always("the count is that of the runs", func() error {
		if count() != runs() {
			return fmt.Errorf("%s: count %d, runs %d", ada, count(), runs())
		}
		return nil
	})
}

// longStory has more steps than a report has lines: a worker that goes on where
// it was, after a crash, counts once more what it had counted already.
func longStory(s *harness.Sim) {
	db := sqlite.Open(s, `create table items (id integer primary key, done integer not null default 0)`,
		`insert into items (id) values (1), (2), (3), (4), (5), (6), (7), (8)`,
		`create table total (n integer not null)`, `insert into total values (0)`)
	number := func(query string) (n int) {
		if err := db.QueryRow(query).Scan(&n); err != nil {
			return -1
		}
		return n
	}
	s.Go("worker", func(ctx context.Context) error {
		for {
			var id int
			err := db.QueryRowContext(ctx, `select coalesce(min(id), 0) as next from items where done = 0`).Scan(&id)
			if err != nil || id == 0 {
				return err
			}
			if _, err := db.ExecContext(ctx, `update total set n = n + 1`); err != nil {
				return err
			}
			if _, err := db.ExecContext(ctx, `update items set done = 1 where id = ?`, id); err != nil {
				return err
			}
		}
	}, harness.Restarts(), harness.Needed())
	s.Go("editor", func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, `update items set done = 0 where id = 9`)
		return err
	})
	s.Show("total", func() string { return fmt.Sprint(number(`select n from total`)) })
	s.Eventually("each item is counted once", func() error {
		if n := number(`select n from total`); n != 8 {
			return fmt.Errorf("the total is %d, of 8 items", n)
		}
		return nil
	})
}

// TestReportsAreGolden holds what a developer sees of a failure, byte for byte:
// run it with -update after a change, and read the difference.
func TestReportsAreGolden(t *testing.T) {
	setFlag(t, "harness.postgres", "") // they are the same with a server and without
	for _, test := range []struct {
		name     string
		scenario func(*harness.Sim)
	}{{"report", staleRecount}, {"report-long", longStory}} {
		t.Run(test.name, func(t *testing.T) {
			r := harness.Explore(t, test.scenario).Report
			if r == nil {
				t.Fatal("nothing failed")
			}
			if r.Again != r.Of {
				t.Errorf("reproduced %d of %d: %s", r.Again, r.Of, r.Diverged)
			}
			text := r.String()
			if n := strings.Count(text, "\n"); n > 25 {
				t.Errorf("%d lines, want at most 25", n)
			}
			golden(t, test.name+".golden", text)
			golden(t, test.name+".golden.html", r.HTML())
		})
	}
}

// TestTheReadmeShowsAReportAsItIs today.
func TestTheReadmeShowsAReportAsItIs(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(filepath.Join("testdata", "report.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), string(report)) {
		t.Errorf("README.md does not show\n%s", report)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); -update writes it anew:\n%s", file, diff)
	}
}
