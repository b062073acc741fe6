package sqlmodel

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A conn is one database/sql connection of one schedule.
type conn struct {
	*session
	db      *Database
	host    engine.Host
	born    any // the schedule
	user    engine.Actor
	foot    engine.Footprint // of the statement under way
	wrote   []*table         // what its transaction has written or locked
	opener  uint64           // the goroutine that began it
	forget  func()
	lost    bool
	changed []string // tables that its transaction has changed
	advised bool     // it has used advisory locks
}

var (
	_ driver.ConnBeginTx        = (*conn)(nil)
	_ driver.ConnPrepareContext = (*conn)(nil)
	_ driver.ExecerContext      = (*conn)(nil)
	_ driver.QueryerContext     = (*conn)(nil)
	_ driver.Validator          = (*conn)(nil)
)

// over reports whether the schedule of the connection is.
func (c *conn) over() bool { return c.host.Schedule() != c.born }

// IsValid reports whether a pool may keep the connection.
func (c *conn) IsValid() bool { return !c.lost && !c.over() }

// Close rolls back what is open. That is a step where others can notice it.
func (c *conn) Close() error {
	if c.over() {
		return nil
	}
	if a := c.user; c.inBlock && a != nil && a.Dead() == nil && c.host.Here() == a {
		if _, err := c.step("rollback", nil); err != nil {
			return err
		}
	}
	c.abandon()
	if c.advised {
		c.host.Progress(false)
	}
	return nil
}

// Begin begins a transaction.
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx begins a transaction at an isolation level.
func (c *conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	text := "begin"
	switch sql.IsolationLevel(o.Isolation) {
	case sql.LevelDefault:
	case sql.LevelReadUncommitted, sql.LevelReadCommitted:
		text = "begin isolation level read committed"
	case sql.LevelRepeatableRead, sql.LevelSnapshot:
		text = "begin isolation level repeatable read"
	default:
		return nil, c.db.refused(c.user, refuse("the isolation level %s", sql.IsolationLevel(o.Isolation)))
	}
	if o.ReadOnly {
		text += " read only"
	}
	if _, err := c.step(text, nil); err != nil {
		return nil, err
	}
	c.opener, c.forget = engine.Goroutine(), c.host.Watch(ctx, c)
	return c, nil
}

// Commit ends the transaction. One in which a statement has failed is rolled
// back, and Commit says so.
func (c *conn) Commit() error {
	defer c.unwatch()
	failed := c.failed
	_, err := c.step("commit", nil)
	if err == nil && failed {
		return errors.New("commit unexpectedly resulted in rollback")
	}
	return err
}

// Rollback ends the transaction without a trace.
func (c *conn) Rollback() error {
	if c.opener != engine.Goroutine() { // database/sql does it, since the context has ended
		if c.over() || c.user == nil {
			return driver.ErrBadConn
		}
		return c.user.Beside(c, c.releases(), func() {
			c.host.Progress(false)
			c.abandon()
			c.wrote, c.lost = nil, true
		})
	}
	defer c.unwatch()
	_, err := c.step("rollback", nil)
	return err
}

func (c *conn) unwatch() {
	if c.forget != nil {
		c.forget()
		c.forget = nil
	}
}

// Prepare reads a statement.
func (c *conn) Prepare(text string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), text)
}

// PrepareContext reads a statement.
func (c *conn) PrepareContext(_ context.Context, text string) (driver.Stmt, error) {
	return &engine.Prepared{On: c, Text: text, Inputs: -1}, nil // the step says what is wrong
}

// ExecContext runs a statement.
func (c *conn) ExecContext(_ context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	out, err := c.steps(text, args)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(out.count), nil
}

// QueryContext runs a statement and returns its rows.
func (c *conn) QueryContext(_ context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	out, err := c.steps(text, args)
	if err != nil {
		return nil, err
	}
	return out.driverRows()
}

// driverRows are the rows of an answer, as pgx hands them to database/sql.
func (out *answer) driverRows() (*engine.Rows, error) {
	rows := &engine.Rows{Names: out.names}
	for _, r := range out.rows {
		values := make([]driver.Value, len(r))
		for i, v := range r {
			switch v := v.(type) {
			case decimal, interval:
				s, err := text(out.types[i], v)
				if err != nil {
					return nil, err
				}
				values[i] = s
			default:
				values[i] = v
			}
		}
		rows.Values = append(rows.Values, values)
	}
	return rows, nil
}

// steps runs a text. One of several statements is refused: in the protocol that
// pgx speaks it needs the simple one, where they are one transaction.
func (c *conn) steps(text string, args []driver.NamedValue) (*answer, error) {
	values := make([]any, len(args))
	for i, a := range args {
		if a.Name != "" {
			return nil, errors.New("harness: PostgreSQL has no named arguments")
		}
		values[i] = a.Value
	}
	return c.step(text, values)
}

// planned is a statement's plan. What the model doesn't know fails the schedule.
func (c *conn) planned(a engine.Actor, text string, args []any) (*plan, error) {
	p, err := c.db.plan(text)
	if err == nil && p.control == nil && len(args) != len(p.params) {
		err = fmt.Errorf("expected %d arguments, got %d", len(p.params), len(args))
	}
	return p, c.db.refused(a, err)
}

// refused fails the schedule where an error is what the model doesn't know, so
// that no code under test can take it for PostgreSQL's answer.
func (d *Database) refused(a engine.Actor, err error) error {
	var r *refusal
	if a != nil && errors.As(err, &r) {
		d.host.Unscheduled(r.Error())
	}
	return err
}

// step runs a statement when its actor is chosen for it.
func (c *conn) step(text string, args []any) (*answer, error) {
	if c.over() || c.lost {
		return nil, driver.ErrBadConn
	}
	a, err := c.host.Caller()
	if err != nil {
		return nil, err
	}
	if a == nil {
		c.user = nil
		p, err := c.planned(nil, text, args)
		if err != nil {
			return nil, err
		}
		c.asked(p)
		return c.run(p, args)
	}
	if a.Dead() != nil {
		return nil, a.Refuse()
	}
	c.user = a
	out, err := c.stepOf(a, text, args)
	a.GoOn(c.inBlock)
	return out, err
}

// asked says what an oracle reads.
func (c *conn) asked(p *plan) {
	var all engine.Resources
	for _, t := range p.reads {
		all |= c.db.of(t).data
	}
	if p.draws || p.advisory || len(p.writes)+len(p.locks) > 0 {
		all = ^engine.Resources(0)
	}
	c.host.Asked(all)
}

func (c *conn) stepOf(a engine.Actor, text string, args []any) (*answer, error) {
	p, failed := c.planned(a, text, args)
	if failed != nil { // PostgreSQL says so when it gets to the statement, which is a step
		p, args = failing(failed), nil
	}
	c.foot = c.footprint(p)
	ends := p.control != nil && p.control.verb == "commit"
	o := engine.Op{Text: c.db.shown(text, args), Foot: c.foot, Faults: c.faults(p), Last: ends || !c.inBlock && p.control == nil && len(p.writes) > 0}
	fault, err := a.Step(o, c.inBlock)
	if err != nil {
		return nil, err
	}
	switch fault {
	case harness.Refused, harness.Deadlock:
		state := stateError("40001", "could not serialize access due to concurrent update")
		if fault == harness.Deadlock {
			state = stateError("40P01", "deadlock detected")
		}
		if c.inBlock {
			c.fail(false)
			c.host.Progress(false)
		}
		a.Tell(state.Code)
		return nil, state
	case harness.LostBefore:
		c.lose()
		a.Tell("fails, and took no effect")
		return nil, harness.ErrLost
	}
	out, err := c.carryOut(a, p, args)
	switch {
	case a.Dead() != nil:
		return nil, a.Dead()
	case fault == harness.CrashAfter:
		return nil, a.Crash()
	case fault == harness.LostAfter && err == nil:
		c.lost = true
		a.Tell("fails, but took effect")
		return nil, harness.ErrLost
	}
	return out, c.db.refused(a, err)
}

// lose is a connection that breaks.
func (c *conn) lose() {
	c.abandon()
	c.wrote, c.lost = nil, true
	c.host.Progress(false)
}

// carryOut runs a statement, and says what came of it.
func (c *conn) carryOut(a engine.Actor, p *plan, args []any) (*answer, error) {
	before := c.inBlock
	a.Note(names(p.reads), nil, false) // as of its snapshot, whatever it waits for
	for _, t := range append(append([]*table{}, p.writes...), p.locks...) {
		c.wrote = add(c.wrote, t)
	}
	marks := c.written()
	out, err := c.run(p, args)
	if a.Dead() != nil {
		return nil, a.Dead() // Crashed takes care of its transaction
	}
	if c.host.Detailed() {
		a.Tell(describe(out, err))
		a.Note(names(append(append([]*table{}, p.writes...), p.locks...)), nil, false)
	}
	verb := ""
	if p.control != nil {
		verb = p.control.verb
	}
	switch {
	case !before && p.control == nil:
		if err == nil {
			a.Note(nil, c.tables(p, out, marks), true)
		}
		c.host.Progress(err == nil && len(p.writes) > 0)
		c.wrote = nil
	case verb == "commit" && err == nil:
		if out.tag != "ROLLBACK" {
			a.Note(nil, c.changed, true)
		}
		c.host.Progress(out.tag != "ROLLBACK")
		c.wrote, c.changed = nil, nil
	case verb == "rollback", verb == "rollback to", err != nil, p.advisory:
		if c.host.Progress(false); verb == "rollback" {
			c.wrote, c.changed = nil, nil
		}
	case p.control == nil:
		c.changed = append(c.changed, c.tables(p, out, marks)...)
	}
	return out, err
}

// written is how many versions each table has: it has more when a statement
// has written to it.
func (c *conn) written() []int {
	list := make([]int, len(c.st.heaps))
	for i, h := range c.st.heaps {
		list[i] = len(h)
	}
	return list
}

// tables are those that a statement has changed.
func (c *conn) tables(p *plan, out *answer, marks []int) (list []string) {
	for _, t := range p.writes {
		if len(c.st.heaps[t.id]) > marks[t.id] || out.tag == "DELETE" && out.count > 0 {
			list = append(list, t.name)
		}
	}
	return list
}

func names(list []*table) (names []string) {
	for _, t := range list {
		names = append(names, t.name)
	}
	return names
}

// faults are what may happen to a statement.
func (c *conn) faults(p *plan) (list []harness.Fault) {
	commits := p.control != nil && p.control.verb == "commit" && !c.failed
	for _, f := range c.db.config.Faults {
		switch f {
		case harness.Refused, harness.Deadlock:
			if len(p.writes)+len(p.locks) > 0 && !c.failed {
				list = append(list, f)
			}
		case harness.LostBefore, harness.LostAfter:
			if commits {
				list = append(list, f)
			}
		}
	}
	return list
}

// park waits until no transaction is in the way, as a step of its own.
func (c *conn) park(s *session, blockers func() []*tx) error {
	a := c.user
	if a == nil {
		return errors.New("harness: this statement, which is no actor's, has to wait for the lock of " + c.db.blames(blockers()))
	}
	a.Tell("waits for " + c.db.blames(blockers()))
	foot := c.foot
	for _, t := range c.wrote {
		foot.Writes |= c.db.of(t).data
	}
	_, err := a.Gate(engine.Op{
		Text: "… goes on", Foot: foot,
		Ready:  func() bool { return len(blockers()) == 0 },
		Blames: func() string { return c.db.blames(blockers()) },
	})
	return err
}

func (c *conn) now() time.Time { return c.host.Now() }
