package harness

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
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
			return number(db.QueryRow(text)) //nolint:noctx // it is what is tried
		}
		_, err := db.Exec(text) //nolint:noctx // it is what is tried
		return 0, err
	}},
	{"database/sql, prepared", func(_ *pgxpool.Pool, db *sql.DB, text string) (n int, err error) {
		s, err := db.Prepare(text) //nolint:noctx // it is what is tried
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
		tx, err := db.Begin() //nolint:noctx // it is what is tried
		if err != nil {
			return 0, err
		}
		if reads(text) {
			n, err = number(tx.QueryRow(text)) //nolint:noctx // it is what is tried
		} else {
			_, err = tx.Exec(text) //nolint:noctx // it is what is tried
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
			counted := func(s *Sim, do func(run func(text string) (int, error)) error) {
				pools := open(s)
				for i := len(dbs); i < len(pools); i++ {
					db := sql.OpenDB(stdlib.GetConnector(*pools[i].Config().ConnConfig))
					t.Cleanup(func() { _ = db.Close() })
					dbs = append(dbs, db)
				}
				for i, name := range []string{"first", "second"} {
					s.Go(name, func(context.Context) error {
						return do(func(text string) (int, error) { return w.run(pools[i], dbs[i], text) })
					}, Needed())
				}
				s.Eventually("both are counted", func() error {
					if n := valueOf(pools[2], 1); n != 2 {
						return fmt.Errorf("n is %d", n)
					}
					return nil
				})
			}
			mustFail(t, Explore(t, func(s *Sim) {
				counted(s, func(run func(string) (int, error)) error {
					n, err := run(`select n from accounts where id = 1`)
					if err == nil {
						_, err = run(fmt.Sprintf(`update accounts set n = %d where id = 1`, n+1))
					}
					return err
				})
			}, WithStrategies(Preemptions(1, 0))), "eventually", "both are counted")
			r := Explore(t, func(s *Sim) {
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
	give := func(lock bool) func(s *Sim) {
		return func(s *Sim) {
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
				}, Needed())
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
	r := mustFail(t, Explore(t, give(false)), "eventually", "no number twice")
	if !strings.Contains(strings.ToLower(r.String()), "copy 2") {
		t.Errorf("no COPY in\n%s", r)
	}
	pass := Explore(t, give(true), WithStrategies(Preemptions(1, 0)))
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
	r := Explore(t, func(s *Sim) {
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
	}, WithStrategies(Preemptions(1, 0)))
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

// TestABatchIsAStepForEachStatement finds two locks in two orders within
// batches, and pipelines, which one step each would hide.
func TestABatchIsAStepForEachStatement(t *testing.T) {
	open := accounts(t)
	for name, send := range map[string]func(pool *pgxpool.Pool, texts []string) error{
		"batch": func(pool *pgxpool.Pool, texts []string) error {
			b := &pgx.Batch{}
			for _, text := range texts {
				b.Queue(text)
			}
			return pool.SendBatch(context.Background(), b).Close()
		},
		"pipeline": func(pool *pgxpool.Pool, texts []string) error {
			return onConn(pool, func(ctx context.Context, c *pgx.Conn) error {
				p := c.PgConn().StartPipeline(ctx)
				for _, text := range texts {
					p.SendQueryParams(text, nil, nil, nil, nil)
				}
				if err := p.Sync(); err != nil {
					return err
				}
				return p.Close()
			})
		},
		"pipeline, flushed": func(pool *pgxpool.Pool, texts []string) error {
			return onConn(pool, func(ctx context.Context, c *pgx.Conn) error {
				p := c.PgConn().StartPipeline(ctx)
				for _, text := range texts {
					p.SendQueryParams(text, nil, nil, nil, nil)
					if err := p.Flush(); err != nil {
						return err
					}
				}
				if err := p.Sync(); err != nil {
					return err
				}
				return p.Close()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := `update accounts set n = n + 1 where id = 1`, `update accounts set n = n + 1 where id = 2`
			scenario := func(second ...string) func(s *Sim) {
				return func(s *Sim) {
					pools := open(s)
					s.Go("up", func(context.Context) error { return send(pools[0], []string{one, two}) })
					s.Go("down", func(context.Context) error { return send(pools[1], second) })
					s.Always("as a whole", func() error {
						if a, b := valueOf(pools[2], 1), valueOf(pools[2], 2); a != b {
							return fmt.Errorf("%d and %d", a, b)
						}
						return nil
					})
				}
			}
			mustFail(t, Explore(t, scenario(two, one)), "error", "40P01")
			r := Explore(t, scenario(one, two))
			if r.Failure != nil {
				t.Fatal(r.Report)
			}
			if r.Steps < 5 || len(r.Unexplored) > 0 {
				t.Errorf("%s, of %d steps", r, r.Steps)
			}
		})
	}
}

// TestAQueryOfSeveralStatementsIsNamed: the verdict says that nothing came
// between them.
func TestAQueryOfSeveralStatementsIsNamed(t *testing.T) {
	open := accounts(t)
	r := Explore(t, func(s *Sim) {
		pools := open(s)
		s.Go("both", func(context.Context) error {
			_, err := pools[0].Exec(context.Background(), `update accounts set n = 1 where id = 1; /* ; */ update accounts set n = 1 where id = 2;`)
			return err
		})
	})
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if len(r.Unexplored) != 1 || !strings.Contains(r.Unexplored[0], "between the 2 statements") {
		t.Errorf("%q", r.Unexplored)
	}
}

// TestANotificationIsWaitedFor has one that is lost since it is listened to it too
// late, and one that comes before what it tells of.
func TestANotificationIsWaitedFor(t *testing.T) {
	open := accounts(t)
	ctx := context.Background()
	scenario := func(listenFirst, together bool) func(s *Sim) {
		return func(s *Sim) {
			pools := open(s)
			s.Go("listener", func(context.Context) error {
				c, err := pgx.ConnectConfig(ctx, pools[0].Config().ConnConfig)
				if err != nil {
					return err
				}
				defer c.Close(ctx)
				return func() error {
					read := func() (int, error) { return number(c.QueryRow(ctx, `select n from accounts where id = 1`)) }
					listen := func() error { _, err := c.Exec(ctx, `listen news`); return err }
					if listenFirst {
						if err := listen(); err != nil {
							return err
						}
					}
					n, err := read()
					if err != nil || n == 1 {
						return err
					}
					if !listenFirst {
						if err := listen(); err != nil {
							return err
						}
					}
					if _, err := c.WaitForNotification(ctx); err != nil {
						return err
					}
					if n, err = read(); err == nil && n != 1 {
						err = errors.New("told of what isn't there")
					}
					return err
				}()
			})
			s.Go("teller", func(context.Context) error {
				update := `update accounts set n = 1 where id = 1`
				if !together {
					_, err := pools[1].Exec(ctx, `notify news`)
					if err == nil {
						_, err = pools[1].Exec(ctx, update)
					}
					return err
				}
				return pgx.BeginFunc(ctx, pools[1], func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, update)
					if err == nil {
						_, err = tx.Exec(ctx, `notify news`)
					}
					return err
				})
			})
		}
	}
	mustFail(t, Explore(t, scenario(false, true)), "deadlock", "waits in a notification")
	mustFail(t, Explore(t, scenario(true, false)), "error", "told of what isn't there")
	r := Explore(t, scenario(true, true))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if !r.Covered[0].Complete || r.Schedules() < 2 {
		t.Error(r)
	}
}

// TestAGoroutineOfNobodysIsNoStep: what a pool or a timer does in the background
// is not scheduled, which fails.
func TestAGoroutineOfNobodysIsNoStep(t *testing.T) {
	open := accounts(t)
	ask, answer := make(chan string), make(chan error)
	var pool *pgxpool.Pool
	go func() {
		for text := range ask {
			_, err := pool.Exec(context.Background(), text)
			answer <- err
		}
	}()
	defer close(ask)
	scenario := func(text string) func(s *Sim) {
		return func(s *Sim) {
			pools := open(s)
			pool = pools[1]
			s.Go("actor", func(context.Context) error {
				ask <- text
				return <-answer
			})
		}
	}
	mustFail(t, Explore(t, scenario(`update accounts set n = 1`)), "unscheduled", "at moments that no schedule chooses")
	for _, text := range []string{`-- ping`, `;`, `select 1`, `set application_name = 'x'`, `select oid from pg_type where typname = 'int4'`} {
		if r := Explore(t, scenario(text)); r.Failure != nil {
			t.Errorf("%s: %s", text, r.Report)
		}
	}
}

// TestAnyDriverDialsThroughTheGate speaks the protocol without a driver.
func TestAnyDriverDialsThroughTheGate(t *testing.T) {
	address := pgtest.Database(t)
	config := Postgres{Address: address, Setup: func(address string) error {
		pgtest.Exec(t, address, `create table accounts (id int primary key, n int not null)`, `insert into accounts values (1, 0)`)
		return nil
	}}
	r := Explore(t, func(s *Sim) {
		db := s.Postgres(config)
		for _, name := range []string{"first", "second"} {
			s.Go(name, func(context.Context) error {
				c, err := pgconn.ParseConfig(db.Address())
				if err != nil {
					return err
				}
				c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
					return db.Dial(ctx, network, address)
				}
				conn, err := pgconn.ConnectConfig(context.Background(), c)
				if err != nil {
					return err
				}
				defer conn.Close(context.Background())
				_, err = conn.Exec(context.Background(), `update accounts set n = n + 1`).ReadAll()
				return err
			})
		}
	})
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if r.Steps != 2 || r.Schedules() != 2 {
		t.Errorf("%s, of %d steps", r, r.Steps)
	}
}
