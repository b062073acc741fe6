package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	lite "github.com/edgaze-ai/runcounter/harness/sqlite"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// A program is one of the ways in which applications go wrong at a database,
// and how it is done right: the same code over database/sql on SQLite and on
// PostgreSQL.
type program struct {
	name             string
	setup            []string
	wrong, right     []func(*client)
	holds            func(*client) bool // at the end
	kind             string             // of the failure; eventually where it is ""
	sqlite, postgres string             // the anomaly's name there; absent where it doesn't exist
	faults           []harness.Fault
}

const absent = "absent"

// A client is an actor's connection, and the error that it met: what follows
// one is left out.
type client struct {
	ctx      context.Context
	sim      *harness.Sim
	db       *sql.DB
	now      *sql.DB // whose transactions begin immediate, on SQLite
	tx       *sql.Tx
	postgres bool
	outside  *outside
	err      error
}

// outside is what a program does beside the database.
type outside struct {
	sent         bool
	cursor, seen int
}

// run is an actor of a program, from its beginning.
func (c client) run(ctx context.Context, do func(*client)) error {
	c.ctx = ctx
	do(&c)
	return c.err
}

// n asks for a number, which is 0 where there is no row.
func (c *client) n(format string, args ...any) (n int) {
	if c.err != nil {
		return 0
	}
	query := c.db.QueryRowContext
	if c.tx != nil {
		query = c.tx.QueryRowContext
	}
	if err := query(c.ctx, fmt.Sprintf(format, args...)).Scan(&n); !errors.Is(err, sql.ErrNoRows) {
		c.err = err
	}
	return n
}

// do returns how many rows a statement has written.
func (c *client) do(format string, args ...any) (n int64) {
	if c.err != nil {
		return 0
	}
	exec := c.db.ExecContext
	if c.tx != nil {
		exec = c.tx.ExecContext
	}
	var r sql.Result
	if r, c.err = exec(c.ctx, fmt.Sprintf(format, args...)); c.err != nil {
		return 0
	}
	n, c.err = r.RowsAffected()
	return n
}

// within runs a transaction.
func (c *client) within(do func()) { c.at(sql.LevelDefault, do) }

func (c *client) at(level sql.IsolationLevel, do func()) {
	if c.err != nil {
		return
	}
	if c.tx, c.err = c.now.BeginTx(c.ctx, &sql.TxOptions{Isolation: level}); c.err != nil {
		return
	}
	do()
	if c.err == nil {
		c.err = c.tx.Commit()
	} else {
		c.err = errors.Join(c.err, c.tx.Rollback())
	}
	c.tx = nil
}

// locks is what a select of PostgreSQL says where SQLite has one lock for all.
func (c *client) locks(how string) string {
	if c.postgres {
		return how
	}
	return ""
}

func (c *client) step(name string) {
	if c.err == nil {
		c.err = c.sim.Step(name)
	}
}

func (c *client) sleep(d time.Duration) {
	if c.err == nil {
		c.err = c.sim.Sleep(d)
	}
}

func twice(do func(*client)) []func(*client) { return []func(*client){do, do} }

// the doctors are 1 and 2.
func doctors(off func(c *client, who int)) []func(*client) {
	return []func(*client){func(c *client) { off(c, 1) }, func(c *client) { off(c, 2) }}
}

func poll(c *client) {
	n := c.n(`select coalesce(max(id), 0) * 100 + count(*) from events where id > %d`, c.outside.cursor)
	c.outside.cursor, c.outside.seen = max(c.outside.cursor, n/100), c.outside.seen+n%100
}

var programs = []program{
	{
		name:  "lost update",
		setup: []string{`create table counter (id int primary key, n int not null)`, `insert into counter values (1, 0)`},
		wrong: twice(func(c *client) {
			n := c.n(`select n from counter where id = 1`)
			c.do(`update counter set n = %d where id = 1`, n+1)
		}),
		right:  twice(func(c *client) { c.do(`update counter set n = n + 1 where id = 1`) }),
		holds:  func(c *client) bool { return c.n(`select n from counter`) == 2 },
		sqlite: "lost update", postgres: "lost update",
	},
	{
		name:  "claim without SKIP LOCKED",
		setup: []string{`create table jobs (id int primary key, state text not null)`, `insert into jobs values (1, 'ready'), (2, 'ready')`, `create table done (job int)`},
		wrong: twice(func(c *client) {
			job := c.n(`select id from jobs where state = 'ready' order by id limit 1`)
			c.do(`update jobs set state = 'taken' where id = %d`, job)
			c.do(`insert into done values (%d)`, job)
		}),
		right: twice(func(c *client) {
			job := c.n(`update jobs set state = 'taken' where id = (select id from jobs where state = 'ready'
				order by id limit 1 %s) returning id`, c.locks("for update skip locked"))
			c.do(`insert into done values (%d)`, job)
		}),
		holds:  func(c *client) bool { return c.n(`select count(distinct job) from done`) == 2 },
		sqlite: "lost update", postgres: "stale read",
	},
	{
		name:  "oversell",
		setup: []string{`create table stock (id int primary key, n int not null)`, `insert into stock values (1, 1)`},
		wrong: twice(func(c *client) {
			if c.n(`select n from stock where id = 1`) > 0 {
				c.do(`update stock set n = n - 1 where id = 1`)
			}
		}),
		right:  twice(func(c *client) { c.do(`update stock set n = n - 1 where id = 1 and n > 0`) }),
		holds:  func(c *client) bool { return c.n(`select n from stock`) == 0 },
		sqlite: "stale read", postgres: "stale read",
	},
	{
		name: "check then insert",
		setup: []string{
			`create table users (email text not null)`, `create table accounts (email text primary key)`,
		},
		wrong: twice(func(c *client) {
			if c.n(`select count(*) from users where email = 'ada'`) == 0 {
				c.do(`insert into users (email) values ('ada')`)
			}
		}),
		right: twice(func(c *client) { c.do(`insert into accounts values ('ada') on conflict do nothing`) }),
		holds: func(c *client) bool {
			return c.n(`select count(*) from users`)+c.n(`select count(*) from accounts`) == 1
		},
		sqlite: "phantom", postgres: "phantom",
	},
	{
		name:  "outbox before commit",
		setup: []string{`create table orders (id int primary key)`, `create table outbox (id int primary key)`, `create table shipped (id int, known int)`},
		wrong: []func(*client){
			func(c *client) {
				c.within(func() {
					c.do(`insert into orders values (1)`)
					c.step("sends the message")
					c.outside.sent = c.err == nil
				})
			},
			func(c *client) {
				if c.step("looks for messages"); c.outside.sent {
					c.do(`insert into shipped values (1, %d)`, c.n(`select count(*) from orders where id = 1`))
				}
			},
		},
		right: []func(*client){
			func(c *client) {
				c.within(func() {
					c.do(`insert into orders values (1)`)
					c.do(`insert into outbox values (1)`)
				})
			},
			func(c *client) {
				if c.n(`select count(*) from outbox`) > 0 {
					c.do(`insert into shipped values (1, %d)`, c.n(`select count(*) from orders where id = 1`))
				}
			},
		},
		holds: func(c *client) bool { return c.n(`select count(*) from shipped where known = 0`) == 0 },
	},
	{
		name:  "idempotency key",
		setup: []string{`create table keys (k text primary key)`, `create table payments (n int)`},
		wrong: twice(func(c *client) {
			if c.n(`select count(*) from keys where k = 'a'`) == 0 {
				c.do(`insert into payments values (10)`)
				c.do(`insert into keys (k) values ('a') on conflict do nothing`)
			}
		}),
		right: twice(func(c *client) {
			c.within(func() {
				if c.do(`insert into keys (k) values ('a') on conflict do nothing`) == 1 {
					c.do(`insert into payments values (10)`)
				}
			})
		}),
		holds:  func(c *client) bool { return c.n(`select count(*) from payments`) == 1 },
		sqlite: "phantom", postgres: "phantom",
	},
	{
		name: "lease by clock",
		setup: []string{
			`create table lease (owner int not null)`, `insert into lease values (1)`,
			`create table result (owner int not null, token int not null)`, `insert into result values (0, 0)`,
		},
		wrong: []func(*client){
			func(c *client) { c.step("works for longer than it thought"); c.do(`update result set owner = 1`) },
			func(c *client) {
				c.sleep(5 * time.Minute)
				c.do(`update lease set owner = 2`)
				c.do(`update result set owner = 2`)
			},
		},
		right: []func(*client){
			func(c *client) {
				c.step("works for longer than it thought")
				c.do(`update result set owner = 1, token = 1 where token <= 1`)
			},
			func(c *client) {
				c.sleep(5 * time.Minute)
				c.do(`update lease set owner = 2`)
				c.do(`update result set owner = 2, token = 2 where token <= 2`)
			},
		},
		holds: func(c *client) bool {
			return c.n(`select count(*) from result, lease where result.owner = lease.owner`) == 1
		},
	},
	{
		name:  "cursor over late commits",
		setup: []string{`create table seq (n int not null)`, `insert into seq values (0)`, `create table events (id int primary key)`},
		wrong: append(twice(func(c *client) {
			id := c.n(`update seq set n = n + 1 returning n`)
			c.do(`insert into events values (%d)`, id)
		}), poll),
		right: append(twice(func(c *client) {
			c.within(func() {
				id := c.n(`update seq set n = n + 1 returning n`)
				c.do(`insert into events values (%d)`, id)
			})
		}), poll),
		holds: func(c *client) bool { poll(c); return c.outside.seen == 2 },
	},
	{
		name:  "retry after an unknown commit",
		setup: []string{`create table account (n int not null)`, `insert into account values (100)`, `create table paid (id int primary key)`},
		wrong: []func(*client){func(c *client) {
			for range 2 {
				c.err = nil
				if c.within(func() { c.do(`update account set n = n - 10`) }); c.err == nil {
					return
				}
			}
		}},
		right: []func(*client){func(c *client) {
			for range 2 {
				c.err = nil
				if c.within(func() {
					if c.do(`insert into paid values (1) on conflict do nothing`) == 1 {
						c.do(`update account set n = n - 10`)
					}
				}); c.err == nil {
					return
				}
			}
		}},
		holds:  func(c *client) bool { return c.n(`select n from account`) == 90 },
		faults: []harness.Fault{harness.LostBefore, harness.LostAfter},
	},
	{
		name:  "two locks in two orders",
		setup: []string{`create table rows (id int primary key, n int not null)`, `insert into rows values (1, 0), (2, 0)`},
		wrong: []func(*client){
			func(c *client) {
				c.within(func() { c.do(`update rows set n = n + 1 where id = 1`); c.do(`update rows set n = n + 1 where id = 2`) })
			},
			func(c *client) {
				c.within(func() { c.do(`update rows set n = n + 1 where id = 2`); c.do(`update rows set n = n + 1 where id = 1`) })
			},
		},
		right: twice(func(c *client) {
			c.within(func() { c.do(`update rows set n = n + 1 where id = 1`); c.do(`update rows set n = n + 1 where id = 2`) })
		}),
		holds: func(c *client) bool { return c.n(`select sum(n) from rows`) == 4 },
		kind:  "error", sqlite: absent, // one lock for all
	},
	{
		name:  "write skew under REPEATABLE READ",
		setup: []string{`create table doctors (id int primary key, on_call int not null)`, `insert into doctors values (1, 1), (2, 1)`},
		wrong: doctors(func(c *client, who int) {
			off := func() {
				if c.n(`select count(*) from doctors where on_call = 1`) == 2 {
					c.do(`update doctors set on_call = 0 where id = %d`, who)
				}
			}
			if c.postgres {
				c.at(sql.LevelRepeatableRead, off)
			} else {
				off() // SQLite's transactions are serializable: in none
			}
		}),
		right: doctors(func(c *client, who int) {
			c.within(func() {
				c.n(`select id from doctors order by id %s`, c.locks("for update"))
				if c.n(`select count(*) from doctors where on_call = 1`) == 2 {
					c.do(`update doctors set on_call = 0 where id = %d`, who)
				}
			})
		}),
		holds:  func(c *client) bool { return c.n(`select count(*) from doctors where on_call = 1`) == 1 },
		sqlite: "write skew", postgres: "write skew",
	},
}

// scenario starts a program's actors, each with a client.
func (p program) scenario(s *harness.Sim, actors []func(*client), connect func(actor int) client) {
	w := &outside{}
	for i, do := range actors {
		c := connect(i)
		c.sim, c.outside = s, w
		s.Go(string(rune('a'+i)), func(ctx context.Context) error {
			return c.run(ctx, do)
		}, harness.Needed())
	}
	look := connect(len(actors))
	look.ctx, look.sim, look.outside = context.Background(), s, w
	s.Eventually("it holds", func() error {
		if look.err = nil; !p.holds(&look) && look.err == nil {
			return errors.New("it does not")
		}
		return look.err
	})
}

// onSQLite has readers beside a writer.
func (p program) onSQLite(actors []func(*client)) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := lite.New(s, lite.Config{WAL: true, Faults: p.faults, Setup: func(_ string, db *sql.DB) (err error) {
			for _, text := range p.setup {
				_, failed := db.Exec(text)
				err = errors.Join(err, failed)
			}
			return err
		}})
		plain, now := db.Open(), sql.OpenDB(db.Connector("?_txlock=immediate"))
		s.OnEnd(func() { _ = now.Close() })
		p.scenario(s, actors, func(int) client { return client{db: plain, now: now} })
	}
}

// onPostgres has a connection for each actor, which all schedules share.
func (p program) onPostgres(t *testing.T, address string, actors []func(*client)) func(*harness.Sim) {
	var dbs []*sql.DB
	return func(s *harness.Sim) {
		server := pg.New(s, pg.Config{Address: address, Faults: p.faults, Setup: func(address string) error {
			pgtest.Exec(t, address, append([]string{`drop schema public cascade`, `create schema public`}, p.setup...)...)
			return nil
		}})
		p.scenario(s, actors, func(i int) client {
			if i == len(dbs) {
				config, err := pgx.ParseConfig(address)
				if err != nil {
					t.Fatal(err)
				}
				server.Gate(config)
				db := sql.OpenDB(stdlib.GetConnector(*config))
				t.Cleanup(func() { _ = db.Close() })
				dbs = append(dbs, db)
			}
			return client{db: dbs[i], now: dbs[i], postgres: true}
		})
	}
}

// found explores a program done wrong and done right.
func found(t *testing.T, name, kind, anomaly string, wrong, right func(*harness.Sim), options ...harness.Option) {
	t.Helper()
	if kind == "" {
		kind = "eventually"
	}
	r := harness.Explore(t, wrong, options...)
	switch {
	case r.Failure == nil || r.Failure.Kind != kind:
		t.Fatalf("done wrong: %s, %+v", r, r.Failure)
	case r.Report.Again < r.Report.Of || r.Report.Anomaly != anomaly || r.After > 40:
		t.Errorf("done wrong: %q after %d, want %q\n%s", r.Report.Anomaly, r.After, anomaly, r.Report)
	}
	after := r.After
	if r = harness.Explore(t, right, options...); r.Failure != nil || r.Schedules() < 2 || !r.Covered[0].Complete {
		t.Errorf("done right: %s\n%v", r, r.Report)
	}
	t.Logf("%-35s %-12s after %2d schedules; done right: %s", name, anomaly, after, r)
}

func TestProgramsOnSQLite(t *testing.T) {
	t.Parallel()
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			if p.sqlite == absent {
				right := harness.Explore(t, p.onSQLite(p.wrong))
				if right.Failure != nil {
					t.Errorf("there is no such anomaly on SQLite, and\n%s", right.Report)
				}
				return
			}
			found(t, p.name, p.kind, p.sqlite, p.onSQLite(p.wrong), p.onSQLite(p.right))
		})
	}
}

func TestProgramsOnPostgreSQL(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			found(t, p.name, p.kind, p.postgres, p.onPostgres(t, address, p.wrong), p.onPostgres(t, address, p.right),
				harness.WithStrategies(harness.Exhaustive(0)))
		})
	}
}
