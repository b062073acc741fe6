package scenarios

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// A modelProgram is a [program] of statements whose meaning is told to the
// model. REPEATABLE READ, which it has not, is left out: write skew is one of
// READ COMMITTED here.
type modelProgram struct {
	name         string
	tables       []pg.Table
	wrong, right []func(*speaker)
	holds        func(rows func(table string) []pg.Row, w *outside) bool
	kind         string
	anomaly      string
	faults       []harness.Fault
}

// A speaker is an actor's session, and the error that it met.
type speaker struct {
	*pg.Session
	ctx context.Context
	sim *harness.Sim
	*outside
	err error
}

// do runs a statement, and returns the number that it returns, or 0.
func (c *speaker) do(st *pg.Statement) (n int64) {
	if c.err != nil {
		return 0
	}
	rows, err := c.Exec(c.ctx, st)
	if c.err = err; len(rows) > 0 {
		n = rows[0][0].(int64)
	}
	return n
}

func (c *speaker) within(do func()) {
	if c.err = errors.Join(c.err, c.Begin(c.ctx)); c.err != nil {
		return
	}
	do()
	if c.err == nil {
		c.err = c.Commit(c.ctx)
	} else {
		c.err = errors.Join(c.err, c.Rollback(c.ctx))
	}
}

func (c *speaker) run(ctx context.Context, do func(*speaker)) error {
	mine := *c
	mine.ctx = ctx
	do(&mine)
	return mine.err
}

// The statements, with their meaning.

func is(column int, v any) func(pg.Row) bool {
	return func(r pg.Row) bool { return r[column] == v }
}

// number returns the column of the first row that matches, or locks it too.
func number(sql, table string, match func(pg.Row) bool, column int, how ...pg.Locking) *pg.Statement {
	st := &pg.Statement{SQL: sql, Reads: []string{table}, Do: func(q *pg.Query) error {
		for _, r := range q.Select(table, match) {
			q.Return(r[column])
			break
		}
		return nil
	}}
	if len(how) > 0 {
		st.Reads, st.Writes = nil, st.Reads
		st.Do = func(q *pg.Query) error {
			rows, err := q.ForUpdate(table, how[0], match)
			for _, r := range rows {
				q.Return(r[column])
			}
			return err
		}
	}
	return st
}

func howMany(sql, table string, match func(pg.Row) bool) *pg.Statement {
	return &pg.Statement{SQL: sql, Reads: []string{table}, Do: func(q *pg.Query) error {
		q.Return(q.Count(table, match))
		return nil
	}}
}

// change returns the column of each row that it has written.
func change(sql, table string, match func(pg.Row) bool, column int, to func(old int64) any) *pg.Statement {
	return &pg.Statement{SQL: sql + " returning n", Writes: []string{table}, Do: func(q *pg.Query) error {
		rows, err := q.Update(table, match, func(r pg.Row) pg.Row { r[column] = to(r[column].(int64)); return r })
		for _, r := range rows {
			q.Return(r[column])
		}
		return err
	}}
}

func add(n int64) func(int64) any { return func(old int64) any { return old + n } }
func to(n int64) func(int64) any  { return func(int64) any { return n } }

// insertNew inserts a row, unless its key is there, and returns its first column.
func insertNew(sql, table string, row ...any) *pg.Statement {
	return &pg.Statement{SQL: sql, Writes: []string{table}, Do: func(q *pg.Query) error {
		r, err := q.Insert(table, row, pg.Conflict{DoNothing: true})
		if r != nil {
			q.Return(r[0])
		}
		return err
	}}
}

// numbers is a table of an id and a number.
func numbers(name string, key int, rows ...[2]int64) pg.Table {
	t := pg.Table{Name: name, Columns: []string{"id", "n"}, Key: key}
	for _, r := range rows {
		t.Rows = append(t.Rows, pg.Row{r[0], r[1]})
	}
	return t
}

func both(do func(*speaker)) []func(*speaker) { return []func(*speaker){do, do} }

func each(do func(c *speaker, who int64)) []func(*speaker) {
	return []func(*speaker){func(c *speaker) { do(c, 1) }, func(c *speaker) { do(c, 2) }}
}

func modelPoll(c *speaker) {
	// No id is negative: what was seen is below the cursor.
	st := &pg.Statement{
		SQL:   fmt.Sprintf(`select coalesce(max(id), 0) * 100 + count(*) from events where id > %d`, c.cursor),
		Reads: []string{"events"},
		Do: func(q *pg.Query) error {
			n := int64(0)
			for _, r := range q.Select("events", func(r pg.Row) bool { return r[0].(int64) > int64(c.cursor) }) {
				n = max(n/100, r[0].(int64))*100 + n%100 + 1
			}
			q.Return(n)
			return nil
		},
	}
	n := int(c.do(st))
	c.cursor, c.seen = max(c.cursor, n/100), c.seen+n%100
}

func drawID(c *speaker) int64 {
	return c.do(change(`update seq set n = n + 1 where id = 1`, "seq", is(0, int64(1)), 1, add(1)))
}

func emit(c *speaker, id int64) {
	c.do(insertNew(fmt.Sprintf(`insert into events values (%d, 0) on conflict do nothing returning id`, id), "events", id, int64(0)))
}

var modelPrograms = []modelProgram{
	{
		name: "lost update", tables: []pg.Table{numbers("counter", 1, [2]int64{1, 0})},
		wrong: both(func(c *speaker) {
			n := c.do(number(`select n from counter where id = 1`, "counter", is(0, int64(1)), 1))
			c.do(change(fmt.Sprintf(`update counter set n = %d where id = 1`, n+1), "counter", is(0, int64(1)), 1, to(n+1)))
		}),
		right: both(func(c *speaker) {
			c.do(change(`update counter set n = n + 1 where id = 1`, "counter", is(0, int64(1)), 1, add(1)))
		}),
		holds:   func(rows func(string) []pg.Row, _ *outside) bool { return rows("counter")[0][1] == int64(2) },
		anomaly: "lost update",
	},
	{
		name: "claim without SKIP LOCKED", tables: []pg.Table{numbers("jobs", 1, [2]int64{1, 0}, [2]int64{2, 0}), numbers("done", 1, [2]int64{1, 0}, [2]int64{2, 0})},
		wrong: both(func(c *speaker) {
			job := c.do(number(`select id from jobs where n = 0 order by id limit 1`, "jobs", is(1, int64(0)), 0))
			c.do(change(fmt.Sprintf(`update jobs set n = 1 where id = %d`, job), "jobs", is(0, job), 1, to(1)))
			c.do(change(fmt.Sprintf(`update done set n = n + 1 where id = %d`, job), "done", is(0, job), 1, add(1)))
		}),
		right: each(func(c *speaker, who int64) {
			c.within(func() {
				job := c.do(number(`select id from jobs where n = 0 order by id for update skip locked`, "jobs", is(1, int64(0)), 0, pg.SkipLocked))
				c.do(change(fmt.Sprintf(`update jobs set n = %d where id = %d`, who, job), "jobs", is(0, job), 1, to(who)))
				c.do(change(fmt.Sprintf(`update done set n = n + 1 where id = %d`, job), "done", is(0, job), 1, add(1)))
			})
		}),
		holds: func(rows func(string) []pg.Row, _ *outside) bool {
			// A worker that finds every job locked has none.
			return rows("done")[0][1].(int64) <= 1 && rows("done")[1][1].(int64) <= 1
		},
		anomaly: "stale read",
	},
	{
		name: "oversell", tables: []pg.Table{numbers("stock", 1, [2]int64{1, 1})},
		wrong: both(func(c *speaker) {
			if c.do(number(`select n from stock where id = 1`, "stock", is(0, int64(1)), 1)) > 0 {
				c.do(change(`update stock set n = n - 1 where id = 1`, "stock", is(0, int64(1)), 1, add(-1)))
			}
		}),
		right: both(func(c *speaker) {
			c.do(change(`update stock set n = n - 1 where id = 1 and n > 0`, "stock", func(r pg.Row) bool { return r[1].(int64) > 0 }, 1, add(-1)))
		}),
		holds:   func(rows func(string) []pg.Row, _ *outside) bool { return rows("stock")[0][1] == int64(0) },
		anomaly: "stale read",
	},
	{
		name: "check then insert", tables: []pg.Table{numbers("users", 0), numbers("accounts", 1)},
		wrong: both(func(c *speaker) {
			if c.do(howMany(`select count(*) from users where id = 7`, "users", is(0, int64(7)))) == 0 {
				c.do(insertNew(`insert into users (id, n) values (7, 0) returning id`, "users", int64(7), int64(0)))
			}
		}),
		right: both(func(c *speaker) {
			c.do(insertNew(`insert into accounts values (7, 0) on conflict do nothing returning id`, "accounts", int64(7), int64(0)))
		}),
		holds: func(rows func(string) []pg.Row, _ *outside) bool {
			return len(rows("users"))+len(rows("accounts")) == 1
		},
		anomaly: "phantom",
	},
	{
		name: "outbox before commit", tables: []pg.Table{numbers("orders", 1), numbers("outbox", 1)},
		wrong: []func(*speaker){
			func(c *speaker) {
				c.within(func() {
					c.do(insertNew(`insert into orders values (1, 0) on conflict do nothing returning id`, "orders", int64(1), int64(0)))
					c.err = errors.Join(c.err, c.sim.Step("sends the message"))
					c.sent = c.err == nil
				})
			},
			func(c *speaker) {
				if c.err = c.sim.Step("looks for messages"); c.sent && c.do(howMany(`select count(*) from orders`, "orders", nil)) == 0 {
					c.seen++
				}
			},
		},
		right: []func(*speaker){
			func(c *speaker) {
				c.within(func() {
					c.do(insertNew(`insert into orders values (1, 0) on conflict do nothing returning id`, "orders", int64(1), int64(0)))
					c.do(insertNew(`insert into outbox values (1, 0) on conflict do nothing returning id`, "outbox", int64(1), int64(0)))
				})
			},
			func(c *speaker) {
				if c.do(howMany(`select count(*) from outbox`, "outbox", nil)) > 0 && c.do(howMany(`select count(*) from orders`, "orders", nil)) == 0 {
					c.seen++
				}
			},
		},
		holds: func(_ func(string) []pg.Row, w *outside) bool { return w.seen == 0 },
	},
	{
		name: "idempotency key", tables: []pg.Table{numbers("keys", 1), numbers("account", 1, [2]int64{1, 0})},
		wrong: both(func(c *speaker) {
			if c.do(howMany(`select count(*) from keys where id = 7`, "keys", is(0, int64(7)))) == 0 {
				c.do(change(`update account set n = n + 10 where id = 1`, "account", is(0, int64(1)), 1, add(10)))
				c.do(insertNew(`insert into keys (id, n) values (7, 0) on conflict do nothing returning id`, "keys", int64(7), int64(0)))
			}
		}),
		right: both(func(c *speaker) {
			c.within(func() {
				if c.do(insertNew(`insert into keys (id, n) values (7, 0) on conflict do nothing returning id`, "keys", int64(7), int64(0))) == 7 {
					c.do(change(`update account set n = n + 10 where id = 1`, "account", is(0, int64(1)), 1, add(10)))
				}
			})
		}),
		holds:   func(rows func(string) []pg.Row, _ *outside) bool { return rows("account")[0][1] == int64(10) },
		anomaly: "phantom",
	},
	{
		name: "lease by clock", tables: []pg.Table{numbers("lease", 1, [2]int64{1, 1}), numbers("result", 1, [2]int64{1, 0})},
		wrong: []func(*speaker){
			func(c *speaker) {
				c.err = c.sim.Step("works for longer than it thought")
				c.do(change(`update result set n = 1 where id = 1`, "result", nil, 1, to(1)))
			},
			func(c *speaker) {
				c.err = c.sim.Sleep(5 * time.Minute)
				c.do(change(`update lease set n = 2 where id = 1`, "lease", nil, 1, to(2)))
				c.do(change(`update result set n = 2 where id = 1`, "result", nil, 1, to(2)))
			},
		},
		right: []func(*speaker){
			func(c *speaker) {
				c.err = c.sim.Step("works for longer than it thought")
				c.do(change(`update result set n = 1 where n <= 1`, "result", func(r pg.Row) bool { return r[1].(int64) <= 1 }, 1, to(1)))
			},
			func(c *speaker) {
				c.err = c.sim.Sleep(5 * time.Minute)
				c.do(change(`update lease set n = 2 where id = 1`, "lease", nil, 1, to(2)))
				c.do(change(`update result set n = 2 where n <= 2`, "result", func(r pg.Row) bool { return r[1].(int64) <= 2 }, 1, to(2)))
			},
		},
		holds: func(rows func(string) []pg.Row, _ *outside) bool {
			return rows("lease")[0][1] == rows("result")[0][1]
		},
	},
	{
		name: "cursor over late commits", tables: []pg.Table{numbers("seq", 1, [2]int64{1, 0}), numbers("events", 1)},
		wrong: append(both(func(c *speaker) { emit(c, drawID(c)) }), modelPoll),
		right: append(both(func(c *speaker) { c.within(func() { emit(c, drawID(c)) }) }), modelPoll),
		holds: func(rows func(string) []pg.Row, w *outside) bool {
			for _, r := range rows("events") {
				if r[0].(int64) > int64(w.cursor) {
					w.seen++
				}
			}
			return w.seen == 2
		},
	},
	{
		name: "retry after an unknown commit", tables: []pg.Table{numbers("account", 1, [2]int64{1, 100}), numbers("paid", 1)},
		wrong: []func(*speaker){func(c *speaker) {
			for range 2 {
				c.err = nil
				if c.within(func() { c.do(change(`update account set n = n - 10 where id = 1`, "account", nil, 1, add(-10))) }); c.err == nil {
					return
				}
			}
		}},
		right: []func(*speaker){func(c *speaker) {
			for range 2 {
				c.err = nil
				if c.within(func() {
					if c.do(insertNew(`insert into paid values (1, 0) on conflict do nothing returning id`, "paid", int64(1), int64(0))) == 1 {
						c.do(change(`update account set n = n - 10 where id = 1`, "account", nil, 1, add(-10)))
					}
				}); c.err == nil {
					return
				}
			}
		}},
		holds:  func(rows func(string) []pg.Row, _ *outside) bool { return rows("account")[0][1] == int64(90) },
		faults: []harness.Fault{harness.LostBefore, harness.LostAfter},
	},
	{
		name: "two locks in two orders", tables: []pg.Table{numbers("t", 1, [2]int64{1, 0}, [2]int64{2, 0})},
		wrong: each(func(c *speaker, who int64) {
			c.within(func() {
				for _, id := range []int64{who, 3 - who} {
					c.do(change(fmt.Sprintf(`update t set n = n + 1 where id = %d`, id), "t", is(0, id), 1, add(1)))
				}
			})
		}),
		right: both(func(c *speaker) {
			c.within(func() {
				for id := range int64(2) {
					c.do(change(fmt.Sprintf(`update t set n = n + 1 where id = %d`, id+1), "t", is(0, id+1), 1, add(1)))
				}
			})
		}),
		holds: func(rows func(string) []pg.Row, _ *outside) bool { return rows("t")[0][1] == int64(2) },
		kind:  "error",
	},
	{
		name: "write skew", tables: []pg.Table{numbers("doctors", 1, [2]int64{1, 1}, [2]int64{2, 1})},
		wrong: each(func(c *speaker, who int64) {
			c.within(func() {
				if c.do(howMany(`select count(*) from doctors where n = 1`, "doctors", is(1, int64(1)))) == 2 {
					c.do(change(fmt.Sprintf(`update doctors set n = 0 where id = %d`, who), "doctors", is(0, who), 1, to(0)))
				}
			})
		}),
		right: each(func(c *speaker, who int64) {
			c.within(func() {
				c.do(number(`select id from doctors order by id for update`, "doctors", nil, 0, pg.Wait))
				if c.do(howMany(`select count(*) from doctors where n = 1`, "doctors", is(1, int64(1)))) == 2 {
					c.do(change(fmt.Sprintf(`update doctors set n = 0 where id = %d`, who), "doctors", is(0, who), 1, to(0)))
				}
			})
		}),
		holds: func(rows func(string) []pg.Row, _ *outside) bool {
			return rows("doctors")[0][1].(int64)+rows("doctors")[1][1].(int64) == 1
		},
		anomaly: "write skew",
	},
}

func (p modelProgram) on(actors []func(*speaker)) func(*harness.Sim) {
	return func(s *harness.Sim) {
		w := &outside{}
		db := pg.NewReadCommitted(s, p.tables, p.faults...)
		for i, do := range actors {
			c := &speaker{Session: db.Session(), sim: s, outside: w}
			s.Go(string(rune('a'+i)), func(ctx context.Context) error { return c.run(ctx, do) }, harness.Needed())
		}
		s.Eventually("it holds", func() error {
			if !p.holds(db.Rows, w) {
				return errors.New("it does not")
			}
			return nil
		})
	}
}

func (p modelProgram) found(t *testing.T, options ...harness.Option) {
	t.Helper()
	found(t, p.name, p.kind, p.anomaly, p.on(p.wrong), p.on(p.right), options...)
}

func TestProgramsOnTheModel(t *testing.T) {
	t.Parallel()
	for _, p := range modelPrograms {
		t.Run(p.name, func(t *testing.T) { p.found(t) })
	}
}

// TestProgramsOfTheModelOnPostgreSQL runs the same statements by their SQL.
func TestProgramsOfTheModelOnPostgreSQL(t *testing.T) {
	t.Parallel()
	on := pg.On(pgtest.Database(t))
	for _, p := range modelPrograms {
		t.Run(p.name, func(t *testing.T) { p.found(t, on) })
	}
}
