package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// A way runs one statement, and returns the number that it reads, if any. None
// of them is given the actor's context.
type way struct {
	name string
	run  func(pool *pgxpool.Pool, db *sql.DB, text string) (int, error)
}

func number(row interface{ Scan(...any) error }) (n int, err error) {
	err = row.Scan(&n)
	return n, err
}

func reads(text string) bool { return strings.HasPrefix(text, "select") }

func byMode(mode pgx.QueryExecMode) func(*pgxpool.Pool, *sql.DB, string) (int, error) {
	return func(pool *pgxpool.Pool, _ *sql.DB, text string) (int, error) {
		if reads(text) {
			return number(pool.QueryRow(context.Background(), text+" and $1", mode, true))
		}
		_, err := pool.Exec(context.Background(), text+" and $1", mode, true)
		return 0, err
	}
}

func onConn(pool *pgxpool.Pool, do func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx := context.Background()
	return pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return do(ctx, c.Conn()) })
}

var ways = []way{
	{"database/sql without a context", func(_ *pgxpool.Pool, db *sql.DB, text string) (int, error) {
		if reads(text) {
			return number(db.QueryRow(text))
		}
		_, err := db.Exec(text)
		return 0, err
	}},
	{"database/sql, prepared", func(_ *pgxpool.Pool, db *sql.DB, text string) (n int, err error) {
		s, err := db.Prepare(text)
		if err != nil {
			return 0, err
		}
		defer s.Close()
		if reads(text) {
			return number(s.QueryRow())
		}
		_, err = s.Exec()
		return 0, err
	}},
	{"pgx with a context of its own", func(pool *pgxpool.Pool, _ *sql.DB, text string) (int, error) {
		if reads(text) {
			return number(pool.QueryRow(context.Background(), text))
		}
		_, err := pool.Exec(context.Background(), text)
		return 0, err
	}},
	{"statements that pgx keeps", byMode(pgx.QueryExecModeCacheStatement)},
	{"descriptions that pgx keeps", byMode(pgx.QueryExecModeCacheDescribe)},
	{"described each time", byMode(pgx.QueryExecModeDescribeExec)},
	{"executed", byMode(pgx.QueryExecModeExec)},
	{"the simple protocol", byMode(pgx.QueryExecModeSimpleProtocol)},
	{"a batch", func(pool *pgxpool.Pool, _ *sql.DB, text string) (n int, err error) {
		b := &pgx.Batch{}
		q := b.Queue(text)
		if reads(text) {
			q.QueryRow(func(row pgx.Row) error { n, err = number(row); return err })
		}
		return n, errors.Join(pool.SendBatch(context.Background(), b).Close(), err)
	}},
	{"a pipeline", func(pool *pgxpool.Pool, _ *sql.DB, text string) (n int, err error) {
		err = onConn(pool, func(ctx context.Context, c *pgx.Conn) error {
			p := c.PgConn().StartPipeline(ctx)
			p.SendQueryParams(text, nil, nil, nil, nil)
			if err := p.Sync(); err != nil {
				return err
			}
			results, err := p.GetResults()
			if err != nil {
				return err
			}
			result := results.(*pgconn.ResultReader).Read() //nolint:forcetypeassert // it is one
			if len(result.Rows) > 0 {
				n, err = strconv.Atoi(string(result.Rows[0][0]))
			}
			return errors.Join(result.Err, err, p.Close())
		})
		return n, err
	}},
	{"a prepared statement", func(pool *pgxpool.Pool, _ *sql.DB, text string) (n int, err error) {
		err = onConn(pool, func(ctx context.Context, c *pgx.Conn) error {
			if _, err := c.Prepare(ctx, "mine", text); err != nil {
				return err
			}
			if reads(text) {
				n, err = number(c.QueryRow(ctx, "mine"))
			} else {
				_, err = c.Exec(ctx, "mine")
			}
			return errors.Join(err, c.Deallocate(ctx, "mine"))
		})
		return n, err
	}},
	{"COPY TO", func(pool *pgxpool.Pool, _ *sql.DB, text string) (n int, err error) {
		if !reads(text) {
			_, err := pool.Exec(context.Background(), text)
			return 0, err
		}
		var out bytes.Buffer
		err = onConn(pool, func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.PgConn().CopyTo(ctx, &out, "copy ("+text+") to stdout")
			return err
		})
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(out.String()))
		}
		return n, err
	}},
	{"a cursor", func(pool *pgxpool.Pool, _ *sql.DB, text string) (n int, err error) {
		ctx := context.Background()
		if !reads(text) {
			_, err := pool.Exec(ctx, text)
			return 0, err
		}
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "declare mine cursor for "+text); err != nil {
				return err
			}
			n, err = number(tx.QueryRow(ctx, "fetch from mine"))
			return err
		})
		return n, err
	}},
	{"a transaction of database/sql", func(_ *pgxpool.Pool, db *sql.DB, text string) (n int, err error) {
		tx, err := db.Begin()
		if err != nil {
			return 0, err
		}
		if reads(text) {
			n, err = number(tx.QueryRow(text))
		} else {
			_, err = tx.Exec(text)
		}
		return n, errors.Join(err, tx.Commit())
	}},
}

// TestCaseH3_EveryWayToTheServerIsSeen has a lost update, and what mends it, in
// each way in which Go code sends statements.
func TestCaseH3_EveryWayToTheServerIsSeen(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			open := accounts(t)
			var dbs []*sql.DB
			counted := func(s *harness.Sim, do func(run func(text string) (int, error)) error) {
				pools := open(s)
				for i := len(dbs); i < len(pools); i++ {
					db := sql.OpenDB(stdlib.GetConnector(*pools[i].Config().ConnConfig))
					t.Cleanup(func() { _ = db.Close() })
					dbs = append(dbs, db)
				}
				for i, name := range []string{"first", "second"} {
					s.Go(name, func(context.Context) error {
						return do(func(text string) (int, error) { return w.run(pools[i], dbs[i], text) })
					}, harness.Needed())
				}
				s.Eventually("both are counted", func() error {
					if n := valueOf(pools[2], 1); n != 2 {
						return fmt.Errorf("n is %d", n)
					}
					return nil
				})
			}
			harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
				counted(s, func(run func(string) (int, error)) error {
					n, err := run(`select n from accounts where id = 1`)
					if err == nil {
						_, err = run(fmt.Sprintf(`update accounts set n = %d where id = 1`, n+1))
					}
					return err
				})
			}, harness.WithStrategies(harness.Preemptions(1, 0))), "eventually", "both are counted")
			r := harness.Explore(t, func(s *harness.Sim) {
				counted(s, func(run func(string) (int, error)) error {
					_, err := run(`update accounts set n = n + 1 where id = 1`)
					return err
				})
			})
			if r.Failure != nil {
				t.Fatal(r.Report)
			}
			if r.Steps < 2 || r.Schedules() < 2 || !r.Covered[0].Complete || len(r.Unexplored) > 0 {
				t.Errorf("%s, of %d steps", r, r.Steps)
			}
		})
	}
}

// TestCaseH4_CopyIsAStep has numbers that are given twice by COPY.
func TestCaseH4_CopyIsAStep(t *testing.T) {
	open := accounts(t)
	give := func(lock bool) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			pools := open(s)
			for i, name := range []string{"first", "second"} {
				s.Go(name, func(context.Context) error {
					ctx := context.Background()
					return pgx.BeginFunc(ctx, pools[i], func(tx pgx.Tx) error {
						if lock {
							if _, err := tx.Exec(ctx, `lock table given in exclusive mode`); err != nil {
								return err
							}
						}
						n, err := number(tx.QueryRow(ctx, `select coalesce(max(n), 0) from given`))
						if err == nil {
							_, err = tx.CopyFrom(ctx, pgx.Identifier{"given"}, []string{"n"}, pgx.CopyFromRows([][]any{{n + 1}, {n + 2}}))
						}
						return err
					})
				}, harness.Needed())
			}
			s.Eventually("no number twice", func() error {
				n, err := number(pools[2].QueryRow(context.Background(), `select count(*) - count(distinct n) from given`))
				if err == nil && n > 0 {
					err = fmt.Errorf("%d are", n)
				}
				return err
			})
		}
	}
	r := harnesstest.MustFail(t, harness.Explore(t, give(false)), "eventually", "no number twice")
	if !strings.Contains(strings.ToLower(r.String()), "copy 2") {
		t.Errorf("no COPY in\n%s", r)
	}
	pass := harness.Explore(t, give(true), harness.WithStrategies(harness.Preemptions(1, 0)))
	if pass.Failure != nil {
		t.Fatal(pass.Report)
	}
	if pass.Steps != 11 || pass.Schedules() < 2 { // begin, lock, … goes on, read, copy, commit
		t.Errorf("%s, of %d steps", pass, pass.Steps)
	}
}

// TestCaseH4_CopyThatWaits has a COPY that waits for a lock, and one whose data
// do.
func TestCaseH4_CopyThatWaits(t *testing.T) {
	open := accounts(t)
	seen := map[string]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		ctx := context.Background()
		s.Go("holder", func(context.Context) error {
			return pgx.BeginFunc(ctx, pools[0], func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `insert into keyed values (1)`)
				return err
			})
		})
		s.Go("copier", func(context.Context) error {
			_, err := pools[1].CopyFrom(ctx, pgx.Identifier{"keyed"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}}))
			seen[fmt.Sprint("copier ", codeOf(err))] = true
			return nil
		})
		s.Go("locker", func(context.Context) error {
			return pgx.BeginFunc(ctx, pools[2], func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `lock table keyed`)
				return err
			})
		})
		s.Eventually("one", func() error {
			n, err := number(pools[3].QueryRow(ctx, `select count(*) from keyed`))
			seen[fmt.Sprint("rows ", n)] = true
			return err
		})
	}, harness.WithStrategies(harness.Preemptions(1, 0)))
	if r.Failure != nil && r.Failure.Oracle != "holder" { // whose key is taken
		t.Fatal(r.Report)
	}
	if !seen["copier 23505"] && !seen["copier "] {
		t.Errorf("%v in %s", seen, r)
	}
}

func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
