package harness_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/edgaze-ai/runcounter/harness"
)

// toy is a database in memory that no engine knows: numbers by their names. A
// transaction locks what it writes until its end; who wants that waits. What is
// read is what is committed, or one's own.
//
//	get NAME · set NAME ? · add NAME ? · wait NAME · get NAME; get NAME
type toy struct {
	mu      sync.Mutex
	changed *sync.Cond
	numbers map[string]int64
	holders map[string]*toyConn
	old     bool // it has no more than a driver has to
	skips   bool // it would rather prepare
	deaf    bool // it does not hear that a context has ended
}

func newToy() *toy {
	t := &toy{numbers: map[string]int64{}, holders: map[string]*toyConn{}}
	t.changed = sync.NewCond(&t.mu)
	return t
}

func (t *toy) Driver() driver.Driver { return t }

func (t *toy) Open(string) (driver.Conn, error) { return t.Connect(context.Background()) }

func (t *toy) Connect(context.Context) (driver.Conn, error) {
	c := &toyConn{toy: t, wrote: map[string]int64{}}
	if t.old {
		return struct{ driver.Conn }{c}, nil
	}
	return c, nil
}

type toyConn struct {
	toy    *toy
	inTx   bool
	wrote  map[string]int64
	closed bool
}

func (c *toyConn) Prepare(text string) (driver.Stmt, error) { return &toyStmt{c, text}, nil }

func (c *toyConn) Begin() (driver.Tx, error) { c.inTx = true; return c, nil }
func (c *toyConn) Commit() error             { return c.end(true) }
func (c *toyConn) Rollback() error           { return c.end(false) }

func (c *toyConn) Close() error {
	c.toy.mu.Lock()
	c.closed = true
	c.toy.mu.Unlock()
	return c.end(false)
}

func (c *toyConn) end(keep bool) error {
	c.toy.mu.Lock()
	defer c.toy.mu.Unlock()
	for name, n := range c.wrote {
		if keep {
			c.toy.numbers[name] = n
		}
	}
	for name, holder := range c.toy.holders {
		if holder == c {
			delete(c.toy.holders, name)
		}
	}
	c.inTx = false
	clear(c.wrote)
	c.toy.changed.Broadcast()
	return nil
}

func (c *toyConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	if c.toy.skips {
		return nil, driver.ErrSkip
	}
	all, err := c.run(ctx, text, args)
	return driver.RowsAffected(len(all)), err
}

func (c *toyConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	if c.toy.skips {
		return nil, driver.ErrSkip
	}
	all, err := c.run(ctx, text, args)
	if err != nil {
		return nil, err
	}
	return &toyRows{sets: all}, nil
}

// run carries out a text, statement by statement. Each comes to a number, which
// is told twice, in a row of its own each.
func (c *toyConn) run(ctx context.Context, text string, args []driver.NamedValue) (all []int64, err error) {
	for _, part := range strings.Split(text, ";") {
		if len(strings.Fields(part)) == 0 && len(all) > 0 {
			continue
		}
		n, err := c.one(ctx, strings.Fields(part), args)
		if err != nil {
			return all, err
		}
		all = append(all, n)
	}
	return all, nil
}

// CheckNamedValue takes a number's words.
func (c *toyConn) CheckNamedValue(v *driver.NamedValue) error {
	if text, ok := v.Value.(string); ok && text == "seven" {
		v.Value = int64(7)
		return nil
	}
	return driver.ErrSkip
}

func (c *toyConn) one(ctx context.Context, words []string, args []driver.NamedValue) (int64, error) {
	if len(words) < 2 {
		return 0, fmt.Errorf("what is %q", words)
	}
	t, name := c.toy, words[1]
	t.mu.Lock()
	defer t.mu.Unlock()
	if words[0] == "wait" { // for another number
		for before := t.numbers[name]; t.numbers[name] == before && ctx.Err() == nil; {
			stop := context.AfterFunc(ctx, func() { t.mu.Lock(); defer t.mu.Unlock(); t.changed.Broadcast() })
			t.changed.Wait()
			stop()
		}
		return t.numbers[name], ctx.Err()
	}
	if words[0] == "get" {
		return c.value(name), nil
	}
	if !t.deaf {
		defer context.AfterFunc(ctx, func() { t.mu.Lock(); defer t.mu.Unlock(); t.changed.Broadcast() })()
	}
	for t.holders[name] != nil && t.holders[name] != c {
		t.changed.Wait()
		if err := ctx.Err(); err != nil && !t.deaf {
			return 0, err
		}
	}
	if c.closed {
		return 0, driver.ErrBadConn
	}
	if c.inTx {
		t.holders[name] = c
	}
	n := c.value(name)
	if len(args) > 0 {
		by, ok := args[0].Value.(int64)
		if !ok {
			return 0, fmt.Errorf("%v is no number", args[0].Value)
		}
		if words[0] == "add" {
			by += n
		}
		n = by
	}
	if c.inTx {
		c.wrote[name] = n
	} else {
		t.numbers[name] = n
		t.changed.Broadcast()
	}
	return n, nil
}

func (c *toyConn) value(name string) int64 {
	if n, ok := c.wrote[name]; ok {
		return n
	}
	return c.toy.numbers[name]
}

type toyStmt struct {
	conn *toyConn
	text string
}

func (s *toyStmt) Close() error  { return nil }
func (s *toyStmt) NumInput() int { return -1 }

func (s *toyStmt) Exec(args []driver.Value) (driver.Result, error) {
	all, err := s.conn.run(context.Background(), s.text, ordered(args))
	return driver.RowsAffected(len(all)), err
}

func (s *toyStmt) Query(args []driver.Value) (driver.Rows, error) {
	all, err := s.conn.run(context.Background(), s.text, ordered(args))
	return &toyRows{sets: all}, err
}

// ColumnConverter takes another number's word.
func (s *toyStmt) ColumnConverter(int) driver.ValueConverter { return toyConverter{} }

type toyConverter struct{}

func (toyConverter) ConvertValue(v any) (driver.Value, error) {
	if v == "eight" {
		return int64(8), nil
	}
	return driver.DefaultParameterConverter.ConvertValue(v)
}

func ordered(args []driver.Value) (list []driver.NamedValue) {
	for i, v := range args {
		list = append(list, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return list
}

// toyRows gives out its values by one buffer, as drivers may.
type toyRows struct {
	sets   []int64
	told   int
	buffer []byte
}

func (r *toyRows) Columns() []string                          { return []string{"n"} }
func (r *toyRows) Close() error                               { return nil }
func (r *toyRows) ColumnTypeDatabaseTypeName(int) string      { return "NUMBER" }
func (r *toyRows) ColumnTypeNullable(int) (nullable, ok bool) { return false, true }
func (r *toyRows) HasNextResultSet() bool                     { return len(r.sets) > 1 }

func (r *toyRows) NextResultSet() error {
	if len(r.sets) < 2 {
		return io.EOF
	}
	r.sets, r.told = r.sets[1:], 0
	return nil
}

func (r *toyRows) Next(dest []driver.Value) error {
	switch r.told++; {
	case len(r.sets) == 0 || r.told > 2:
		return io.EOF
	case r.told == 2 && r.sets[0] == 13:
		return errors.New("it breaks off")
	}
	r.buffer = strconv.AppendInt(r.buffer[:0], r.sets[0]+int64(r.told)-1, 10)
	dest[0] = r.buffer
	return nil
}

// gated is a handle on a toy in a schedule.
func gated(s *harness.Sim, t *toy) *sql.DB {
	db := sql.OpenDB(harness.Gate(s, t))
	s.OnEnd(func() { _ = db.Close() })
	return db
}

func numberOf(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
}, name string) (n int, err error) {
	err = db.QueryRowContext(ctx, "get "+name).Scan(&n)
	return n, err
}

// addsUp fails where the number is not what it should be.
func addsUp(db *sql.DB, want int) func() error {
	return func() error {
		if n, err := numberOf(context.Background(), db, "a"); err != nil || n != want {
			return errors.Join(err, fmt.Errorf("a is %d, want %d", n, want))
		}
		return nil
	}
}

// inToyTx runs statements in a transaction.
func inToyTx(ctx context.Context, db *sql.DB, texts ...string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, text := range texts {
		if _, err := tx.ExecContext(ctx, text, 1); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func both(s *harness.Sim, do func(ctx context.Context) error, options ...harness.ActorOption) {
	for _, name := range []string{"ann", "bob"} {
		s.Go(name, do, options...)
	}
}
