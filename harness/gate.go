package harness

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// Gate makes each statement over a driver of database/sql a step, and each end of
// a transaction: for an engine that has no package of its own here. Call it in
// every schedule, and open the handle in the scenario:
//
//	db := sql.OpenDB(harness.Gate(s, connector))
//	s.OnEnd(func() { db.Close() })
//
// Nothing is assumed of what the engine does. Each step depends on every other,
// so that no order is left out. The scenario makes its database anew for every
// schedule, or empties it: nothing is put back. Errors are handed through, as
// those of a database that is busy. Rows are read whole, within the step.
//
// A statement that waits inside the driver, because another actor has a lock, is
// two steps: when it was sent, and when the actor goes on with its answer. That
// it waits is certain where all goroutines of the process stand still, as with a
// database in memory. Where it waits for the network or sleeps, it is taken to
// wait when it has had no answer for 200 milliseconds in which no other actor
// went on; then the verdict says so. What actors wait for beside such a database,
// such as a mutex, is not explored: the test ends after 30 seconds, and says where.
//
// Of a text of several statements, which is one step, the verdict says that too.
// What triggers and functions of the database do is part of a statement's step,
// and is not seen. An oracle's statement must not wait for what an actor has
// locked: the test ends after 30 seconds.
func Gate(s *Sim, c driver.Connector) driver.Connector {
	g := engine.Next(s.Engine(), func(int) *gate { return &gate{patience: longWait} })
	g.begins(s)
	return &gateConnector{g, c}
}

// gate is a database of which nothing is known.
type gate struct {
	patience time.Duration // with an oracle's statement

	mu    sync.Mutex
	sim   *Sim
	conns []*gateConn // of this schedule
}

// begins takes the next schedule, at whose end all connections are closed: what an
// actor that was stopped has left open is given up with them.
func (g *gate) begins(s *Sim) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sim, g.conns = s, nil
	s.OnEnd(func() { g.shut(func(*gateConn) bool { return true }) })
}

// Crashed closes the connections of a dead process, by which its transactions are
// rolled back.
func (g *gate) Crashed(a engine.Actor) {
	g.shut(func(c *gateConn) bool { return c.user != nil && engine.Actor(c.user) == a })
}

// Traits are those of any database.
func (g *gate) Traits() engine.Traits { return anyTraits }

// shut closes connections.
func (g *gate) shut(which func(*gateConn) bool) {
	g.mu.Lock()
	conns := g.conns
	g.mu.Unlock()
	for _, c := range conns {
		if which(c) {
			_ = c.shut()
		}
	}
}

type gateConnector struct {
	gate *gate
	raw  driver.Connector
}

func (c *gateConnector) Driver() driver.Driver { return c.raw.Driver() }

func (c *gateConnector) Connect(ctx context.Context) (driver.Conn, error) {
	g := c.gate
	g.mu.Lock()
	s := g.sim
	g.mu.Unlock()
	a, err := s.x.caller()
	if err != nil {
		return nil, err
	}
	if a != nil && a.dead.get() != nil {
		return nil, a.Refuse()
	}
	raw, err := c.raw.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := &gateConn{gate: g, sim: s, raw: raw}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = append(g.conns, conn)
	return conn, nil
}

// gateConn is one connection.
type gateConn struct {
	gate *gate
	sim  *Sim // of the schedule, at whose end it is closed
	raw  driver.Conn

	mu     sync.Mutex
	closed bool

	user   *actor
	opener uint64    // the goroutine that opened its transaction
	tx     driver.Tx // that was begun by database/sql
	begun  bool      // or one, by a statement
	forget func()    // the context of the transaction

	skipped *skippedCall // that database/sql prepares, in the same step
}

var (
	_ driver.ConnBeginTx        = (*gateConn)(nil)
	_ driver.ConnPrepareContext = (*gateConn)(nil)
	_ driver.ExecerContext      = (*gateConn)(nil)
	_ driver.QueryerContext     = (*gateConn)(nil)
	_ driver.Pinger             = (*gateConn)(nil)
	_ driver.SessionResetter    = (*gateConn)(nil)
	_ driver.Validator          = (*gateConn)(nil)
	_ driver.NamedValueChecker  = (*gateConn)(nil)
)

func (c *gateConn) inTx() bool { return c.tx != nil || c.begun }

// shut closes the connection of the driver, once.
func (c *gateConn) shut() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.raw.Close()
}

func (c *gateConn) isShut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close is a step where it ends a transaction.
func (c *gateConn) Close() error {
	if a := c.user; a != nil && c.inTx() && !c.isShut() && a.dead.get() == nil && c.sim.x.at(engine.Goroutine()) == a {
		if err := c.step(context.Background(), gateCall{text: "closes its connection", do: func(context.Context) (string, error) { return "ok", nil }}); err != nil {
			return errors.Join(err, c.shut())
		}
	}
	return c.shut()
}

// IsValid has database/sql let go a connection that was closed under it.
func (c *gateConn) IsValid() bool {
	if v, ok := c.raw.(driver.Validator); ok && !c.isShut() {
		return v.IsValid()
	}
	return !c.isShut()
}

// ResetSession is the driver's.
func (c *gateConn) ResetSession(ctx context.Context) error {
	if c.isShut() {
		return driver.ErrBadConn
	}
	if r, ok := c.raw.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

// Ping is no step.
func (c *gateConn) Ping(ctx context.Context) error {
	if p, ok := c.raw.(driver.Pinger); ok && !c.isShut() {
		return p.Ping(ctx)
	}
	return nil
}

// CheckNamedValue is the driver's.
func (c *gateConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.raw.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *gateConn) Prepare(text string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), text)
}

// PrepareContext is no step.
func (c *gateConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	raw, err := c.prepare(ctx, text)
	if err != nil {
		c.skipped = nil
		return nil, err
	}
	return newGateStmt(c, raw, text), nil
}

func (c *gateConn) prepare(ctx context.Context, text string) (driver.Stmt, error) {
	if c.isShut() {
		return nil, driver.ErrBadConn
	}
	if p, ok := c.raw.(driver.ConnPrepareContext); ok {
		return p.PrepareContext(ctx, text)
	}
	return c.raw.Prepare(text)
}

func (c *gateConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx is a step: it may take a lock, or a snapshot.
func (c *gateConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	err := c.step(ctx, gateCall{text: "begin", do: func(context.Context) (string, error) { // the transaction may live as long as its context
		tx, err := c.begin(ctx, o)
		if err == nil {
			c.tx = tx
		}
		return "ok", err
	}})
	if err != nil {
		return nil, err
	}
	c.opener = engine.Goroutine()
	c.forget = c.sim.Engine().Watch(ctx, c)
	return &gateTx{c}, nil
}

// begin is what database/sql does with a driver.
func (c *gateConn) begin(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	switch b, ok := c.raw.(driver.ConnBeginTx); {
	case ok:
		return b.BeginTx(ctx, o)
	case o.Isolation != 0:
		return nil, errors.New("sql: driver does not support non-default isolation level")
	case o.ReadOnly:
		return nil, errors.New("sql: driver does not support read-only transactions")
	}
	return c.raw.Begin() //nolint:staticcheck // an old driver's only way
}

// gateTx is a transaction.
type gateTx struct{ conn *gateConn }

func (t *gateTx) Commit() error {
	return t.conn.step(context.Background(), gateCall{text: "commit", do: func(context.Context) (string, error) { return "ok", t.conn.ends(driver.Tx.Commit) }})
}

// Rollback is a step; or, where database/sql calls it because a context has
// ended, that of another actor.
func (t *gateTx) Rollback() error {
	c := t.conn
	var err error
	rollBack := func() { err = c.ends(driver.Tx.Rollback) }
	switch a := c.user; {
	case a != nil && a.dead.get() != nil: // nothing that it did may stay
		rollBack()
		return errors.Join(a.Refuse(), err)
	case a != nil && c.opener != engine.Goroutine():
		return errors.Join(a.Beside(c, engine.Footprint{Everything: true}, func() { rollBack(); a.sim.run.publish = true }), err)
	}
	return c.step(context.Background(), gateCall{text: "rollback", do: func(context.Context) (string, error) { rollBack(); return "ok", err }})
}

// ends is the end of the transaction.
func (c *gateConn) ends(how func(driver.Tx) error) error {
	tx := c.tx
	if tx == nil {
		return driver.ErrBadConn
	}
	c.tx = nil
	if c.forget != nil {
		defer c.forget()
		c.forget = nil
	}
	if c.isShut() {
		return driver.ErrBadConn
	}
	return how(tx)
}

// ExecContext leaves a driver that can't execute a text as it is to database/sql,
// which then prepares it.
func (c *gateConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	direct, ok := c.raw.(driver.ExecerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	var result driver.Result
	err := c.statement(ctx, text, args, false, func(ctx context.Context) (string, error) {
		var err error
		result, err = direct.ExecContext(ctx, text, args)
		return wrote(result, err), err
	})
	return result, err
}

// QueryContext is as [gateConn.ExecContext].
func (c *gateConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	direct, ok := c.raw.(driver.QueryerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	var rows *gateRows
	err := c.statement(ctx, text, args, false, func(ctx context.Context) (string, error) {
		raw, err := direct.QueryContext(ctx, text, args)
		if err == nil {
			rows, err = readRows(raw)
		}
		return rows.describe(err), err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// statement is the step of a text.
func (c *gateConn) statement(ctx context.Context, text string, args []driver.NamedValue, prepared bool, do func(ctx context.Context) (string, error)) error {
	return c.step(ctx, gateCall{text: text, args: args, prepared: prepared, do: func(ctx context.Context) (string, error) {
		result, err := do(ctx)
		if err == nil {
			c.noteBegin(text)
		}
		return result, err
	}})
}

// noteBegin notes a transaction that a statement has begun or ended.
func (c *gateConn) noteBegin(text string) {
	switch engine.Verb(text) {
	case "begin", "start":
		c.begun = true
	case "commit", "end", "abort":
		c.begun = false
	case "rollback":
		c.begun = c.begun && slices.Contains(strings.Fields(strings.ToLower(text)), "to") // a savepoint
	}
}
