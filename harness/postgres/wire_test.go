package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/internal/need"
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
			scenario := func(second ...string) func(s *harness.Sim) {
				return func(s *harness.Sim) {
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
			harnesstest.MustFail(t, harness.Explore(t, scenario(two, one)), "error", "40P01")
			r := harness.Explore(t, scenario(one, two))
			if r.Failure != nil {
				t.Fatal(r.Report)
			}
			if r.Steps < 5 || len(r.Unexplored) > 0 {
				t.Errorf("%s, of %d steps", r, r.Steps)
			}
			// A setting is no step, wherever it stands; it belongs to the step that it is sent with.
			set := `set lock_timeout = 0`
			r = harness.Explore(t, func(s *harness.Sim) {
				pools := open(s)
				s.Go("sets", func(context.Context) error {
					return send(pools[0], []string{set, one, set, set, two, set})
				})
			})
			if r.Failure != nil || r.Steps > 3 || len(r.Unexplored) > 0 {
				t.Errorf("with settings: %s, of %d steps\n%v", r, r.Steps, r.Report)
			}
		})
	}
}

// TestAQueryOfSeveralStatementsIsAStepForEach: what comes between them is
// explored, what they are to each other stays.
func TestAQueryOfSeveralStatementsIsAStepForEach(t *testing.T) {
	open := accounts(t)
	one, two := `update accounts set n = n + 1 where id = 1`, `update accounts set n = n + 1 where id = 2`
	both := func(text ...string) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			pools := open(s)
			for i, text := range text {
				s.Go(fmt.Sprint("query ", i+1), func(context.Context) error {
					_, err := pools[i].Exec(context.Background(), text)
					return err
				})
			}
			s.Always("as a whole", func() error {
				if a, b := valueOf(pools[3], 1), valueOf(pools[3], 2); a != b {
					return fmt.Errorf("%d and %d", a, b)
				}
				return nil
			})
		}
	}
	harnesstest.MustFail(t, harness.Explore(t, both(one+`; /* ; */ `+two, two+`;`+one)), "error", "40P01")
	for _, text := range []string{one + `; ` + two + `;`, `begin; ` + one + `; ` + two + `; commit`} {
		r := harness.Explore(t, both(text, text))
		if r.Failure != nil || len(r.Unexplored) > 0 {
			t.Errorf("%s %v", r, r.Report)
		}
		if want := 2 * strings.Count(text, "update"); r.Steps < want+1 || r.Schedules() < 2 {
			t.Errorf("%s: %s, of %d steps", text, r, r.Steps)
		}
	}
	harnesstest.MustFail(t, harness.Explore(t, both(one+`; commit; `+two, `select 1`)), "always", "as a whole")
	r := harness.Explore(t, both(one+`; copy accounts (id) to stdout`))
	if len(r.Unexplored) != 1 || !strings.Contains(r.Unexplored[0], "the query of 2 statements") {
		t.Errorf("%q", r.Unexplored)
	}
}

// TestAClientHearsNothingOfDividers compares what several statements answer with
// and without the gate.
func TestAClientHearsNothingOfDividers(t *testing.T) {
	open := accounts(t)
	texts := []string{
		`select 1; select 2, 'a;b'; update accounts set n = 5 where id = 1; select n from accounts order by id`,
		`update accounts set n = 7; select nothing from accounts where 'ä' = 'ä'; select 3`,
		`update accounts set n = 8; selct 1; select 2`,
		`begin isolation level repeatable read; set local work_mem = '1MB'; select n from accounts; select count(*) from accounts; rollback; select $$x;y$$`,
		`create temp table later (n int); insert into later values (1), (2); select sum(n) from later; drop table later`,
		`do $$ begin perform 1; end $$; savepoint a; select 1`,
		`begin; insert into accounts values (3, 3); savepoint a; insert into accounts values (3, 3); select 1`,
		`rollback`,
		`discard all`,
		`select 1; select 2`,
		`show client_min_messages`,
	}
	setting := ""
	answers := func(pool *pgxpool.Pool) (list []string) {
		_ = onConn(pool, func(ctx context.Context, c *pgx.Conn) error {
			for _, text := range texts {
				results, err := c.PgConn().Exec(ctx, text).ReadAll()
				if text == `show client_min_messages` {
					setting = string(results[0].Rows[0][0])
					continue
				}
				for _, r := range results {
					list = append(list, fmt.Sprintf("%s %q", r.CommandTag, r.Rows))
				}
				var e *pgconn.PgError
				if errors.As(err, &e) {
					list = append(list, fmt.Sprintf("%s %s at %d", e.Code, e.Message, e.Position))
				}
				list = append(list, string(c.PgConn().TxStatus()))
			}
			return nil
		})
		return list
	}
	var got, want []string
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		want = answers(pools[1])
		_, _ = pools[1].Exec(context.Background(), `update accounts set n = 0`)
		s.Go("actor", func(context.Context) error {
			got = answers(pools[0])
			return nil
		})
	})
	if r.Failure != nil || len(r.Unexplored) != 1 { // the block
		t.Errorf("%s %v", r, r.Report)
	}
	if setting != "log" {
		t.Errorf("client_min_messages is %q after it was reset", setting)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("other answers (-without +with):\n%s", diff)
	}
}

// TestANotificationIsWaitedFor has one that is lost since it is listened to it too
// late, and one that comes before what it tells of.
func TestANotificationIsWaitedFor(t *testing.T) {
	open := accounts(t)
	ctx := context.Background()
	scenario := func(listenFirst, together bool) func(s *harness.Sim) {
		return func(s *harness.Sim) {
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
	harnesstest.MustFail(t, harness.Explore(t, scenario(false, true)), "deadlock", "waits in a notification")
	harnesstest.MustFail(t, harness.Explore(t, scenario(true, false)), "error", "told of what isn't there")
	r := harness.Explore(t, scenario(true, true))
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
	scenario := func(text string) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			pools := open(s)
			pool = pools[1]
			s.Go("actor", func(context.Context) error {
				ask <- text
				if err := <-answer; err != nil {
					return err
				}
				_, err := pools[0].Exec(context.Background(), `select n from accounts`)
				return err
			})
		}
	}
	harnesstest.MustFail(t, harness.Explore(t, scenario(`update accounts set n = 1`)), "unscheduled", "at moments that no schedule chooses")
	for _, text := range []string{`-- ping`, `;`, `select 1`, `set application_name = 'x'`, `select oid from pg_type where typname = 'int4'`} {
		if r := harness.Explore(t, scenario(text)); r.Failure != nil {
			t.Errorf("%s: %s", text, r.Report)
		}
	}
}

// TestAnyDriverDialsThroughTheGate speaks the protocol without a driver.
func TestAnyDriverDialsThroughTheGate(t *testing.T) {
	address := pgtest.Database(t)
	config := Config{Address: address, Setup: func(address string) error {
		pgtest.Exec(t, address, `create table accounts (id int primary key, n int not null)`, `insert into accounts values (1, 0)`)
		return nil
	}}
	r := harness.Explore(t, func(s *harness.Sim) {
		db := New(s, config)
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

// TestADatabaseWithoutAGateIsNoProof: a pool that leads past it makes no steps.
func TestADatabaseWithoutAGateIsNoProof(t *testing.T) {
	open := accounts(t)
	var past *pgxpool.Pool
	scenario := func(gated bool) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			pool := open(s)[0]
			if past == nil {
				var err error
				if past, err = pgxpool.New(context.WithoutCancel(t.Context()), pool.Config().ConnString()); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(past.Close)
			}
			if !gated {
				pool = past
			}
			s.Go("actor", func(context.Context) error { return add(context.Background(), pool, 1) })
		}
	}
	harnesstest.MustFail(t, harness.Explore(t, scenario(false)), "unscheduled", "give each configuration that connects to it to its method Gate")
	if r := harness.Explore(t, scenario(true)); r.Failure != nil {
		t.Fatal(r.Report)
	}
}

// TestWhatHasComeIsNotWaitedFor has a reader that waits for more while others ask
// for what it has read, or is about to: they would wait for as long.
func TestWhatHasComeIsNotWaitedFor(t *testing.T) {
	client, server := net.Pipe()
	w := newWire(client, &gate{})
	first := make(chan error, 1)
	go func() { first <- w.receive(0) }()
	if _, err := server.Write([]byte("N\x00\x00\x00\x05\x00")); err != nil {
		t.Fatal(err)
	}
	if err := need.Await(t, "what was sent", first); err != nil {
		t.Fatal(err)
	}
	w.reading <- struct{}{} // it waits for more
	asked := make(chan error, 1)
	go func() { asked <- w.receive(0) }()
	if err := need.Await(t, "what has come", asked); err != nil {
		t.Error(err)
	}
}
