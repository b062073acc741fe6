package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

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
	if len(r.Unexplored) != 1 || !strings.Contains(r.Unexplored[0], "the query of 2 statements") {
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
