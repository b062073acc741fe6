package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// conn is one database/sql connection of one schedule.
type conn struct {
	*physical
	spare *physical   // see [conn.aside]
	host  engine.Host // of its schedule: the database may have the next one's
	born  any         // the schedule
}

var (
	_ driver.ConnBeginTx        = (*conn)(nil)
	_ driver.ConnPrepareContext = (*conn)(nil)
	_ driver.ExecerContext      = (*conn)(nil)
	_ driver.QueryerContext     = (*conn)(nil)
)

// Close rolls back what is open. That is a step where others can notice it.
// database/sql may be late: when the next schedule has the physical connection.
func (c *conn) Close() error {
	if c.over() {
		return nil
	}
	if a := c.user; c.inTx && a != nil && a.Dead() == nil && c.db.host.Here() == a {
		if _, err := c.step("rollback", nil, false); err != nil {
			return err
		}
	}
	c.clean()
	if c.spare != nil {
		c.spare.clean()
	}
	return nil
}

// over reports whether the schedule of the connection is.
func (c *conn) over() bool { return c.born == nil || c.host.Schedule() != c.born }

func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

func (c *conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	text := "begin"
	if c.txlock != "" && !o.ReadOnly {
		text += " " + c.txlock
	}
	if _, err := c.step(text, nil, false); err != nil {
		return nil, err
	}
	c.opener, c.forgets = engine.Goroutine(), c.db.host.Watch(ctx, c.physical)
	return c, nil
}

func (c *conn) Commit() error {
	a, err := c.db.host.Caller()
	if err != nil {
		return err
	}
	if a == nil {
		_, err := c.aside("commit", nil, false)
		if p := c.side(); err != nil && p != nil && p.inTx {
			p.rollBack()
		}
		return err
	}
	_, err = c.step("commit", nil, false)
	if err != nil && c.inTx && (c.user == nil || c.user.Dead() == nil) {
		c.rollBack() // or the pool would hand out an open transaction
	}
	return err
}

func (c *conn) Rollback() error {
	if c.opener != engine.Goroutine() {
		return c.rollBackBeside()
	}
	_, err := c.step("rollback", nil, false)
	return err
}

func (c *conn) Prepare(text string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), text)
}

func (c *conn) PrepareContext(_ context.Context, text string) (driver.Stmt, error) {
	s, err := c.prepare(text)
	if err != nil {
		return nil, err
	}
	return &engine.Prepared{On: c, Text: text, Inputs: s.NumInput()}, nil // it is kept with its connection
}

func (c *conn) ExecContext(_ context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	out, err := c.steps(text, args, false)
	if err != nil {
		return nil, err
	}
	return out.result, nil
}

func (c *conn) QueryContext(_ context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	out, err := c.steps(text, args, true)
	if err != nil {
		return nil, err
	}
	return out.rows, nil
}

type outcome struct {
	result driver.Result
	rows   *engine.Rows
}

// steps runs a text statement by statement, as the driver does: each gets the
// same arguments, and the answer is that of the last; of a query, of the last
// that had rows, unless nothing follows the last.
func (c *conn) steps(text string, args []driver.NamedValue, query bool) (answer outcome, err error) {
	s := c.db.scriptOf(text)
	if len(s.statements) == 0 { // a comment, by which a pool asks whether it is connected
		if a, err := c.db.host.Caller(); err != nil {
			return outcome{}, err
		} else if a != nil && a.Dead() != nil {
			return outcome{}, a.Refuse()
		}
		return c.run(text, args, query)
	}
	for i, statement := range s.statements {
		out, err := c.step(statement, args, query)
		if err != nil {
			return outcome{}, err
		}
		last := i == len(s.statements)-1
		if !query || i == 0 || len(out.rows.Values) > 0 || last && !s.tail {
			answer = out
		}
	}
	return answer, nil
}

// rollBackBeside is the step of the goroutine in which database/sql rolls back a
// transaction when its context has ended.
func (c *conn) rollBackBeside() error {
	if c.over() || c.user == nil {
		return driver.ErrBadConn
	}
	return c.user.Beside(c.physical, c.ending(true), c.rollBack)
}

// step runs a statement when its actor is chosen for it.
func (c *conn) step(text string, args []driver.NamedValue, query bool) (outcome, error) {
	a, err := c.db.host.Caller()
	if err != nil {
		return outcome{}, err
	}
	if a != nil {
		out, err := c.stepOf(a, text, args, query)
		a.GoOn(c.inTx)
		return out, err
	}
	return c.aside(text, args, query)
}

// stepOf is the step of an actor.
func (c *conn) stepOf(a engine.Actor, text string, args []driver.NamedValue, query bool) (outcome, error) {
	if a.Dead() != nil {
		return outcome{}, a.Refuse()
	}
	plan, err := c.planNow(text, args)
	if err != nil {
		return outcome{}, err
	}
	c.user = a
	for _, what := range plan.inside {
		c.db.host.Unexplored(what)
	}
	shown := c.describe(text, args)
	if plan.savepoint != noSavepoint {
		if shown = c.db.pointText(text, plan); shown != text { // it never comes again
			defer c.forget(text)
		}
	}
	o := engine.Op{Text: shown, Foot: c.footprint(plan), Faults: c.faults(plan), Last: plan.end && !plan.rollback && c.locked || plan.write && !c.inTx && !plan.begin}
	fault, err := a.Step(o, c.inTx)
	for {
		if err != nil {
			return outcome{}, err
		}
		switch fault {
		case harness.Refused:
			a.Tell("SQLITE_BUSY")
			return outcome{}, c.db.busy
		case harness.LostBefore:
			a.Tell("fails, and took no effect")
			c.rollBack()
			return outcome{}, harness.ErrLost
		}
		upgrade := c.inTx && !c.locked && c.snapshot && plan.write
		out, err := c.run(text, args, query)
		if busy, stale := isBusy(err); busy && !stale && !upgrade {
			fault, err = a.Wait(c.db.holders(c.physical))
			if err != nil {
				return outcome{}, err
			}
			continue
		}
		c.verify(text, plan)
		c.after(a, plan, err)
		if c.db.host.Detailed() {
			a.Tell(out.describe(plan, err))
		}
		switch {
		case fault == harness.CrashAfter:
			return outcome{}, a.Crash()
		case fault == harness.LostAfter && err == nil:
			a.Tell("fails, but took effect")
			return outcome{}, harness.ErrLost
		}
		return out, err
	}
}

func (p *physical) run(text string, args []driver.NamedValue, query bool) (out outcome, err error) {
	p.did = deeds{}
	if query {
		out.rows, err = p.queryRaw(text, args)
	} else {
		out.result, err = p.execRaw(text, args)
	}
	return out, err
}

// after notes what a statement has done to its connection and to others.
func (p *physical) after(a engine.Actor, plan *plan, err error) {
	if err != nil {
		if p.inTx && p.did.rolledBack && a != nil { // as INSERT OR ROLLBACK says
			if p.locked || p.snapshot {
				p.db.host.Progress(false)
			}
			p.ended()
		} else if p.inTx && p.did.rolledBack {
			p.ended()
		}
		return // SQLite has undone the statement, and the transaction stays as it was
	}
	d, progress, publish := p.db, false, false
	p.note(a, plan)
	p.special = p.special || plan.leaves
	switch {
	case plan.begin:
		p.inTx, p.locked, p.nameless = true, plan.write, plan.savepoint == noSavepoint
	case plan.end:
		progress, publish = p.locked || p.snapshot, p.locked && !plan.rollback
		p.ended()
	case p.inTx:
		p.locked = p.locked || plan.write
		p.snapshot = p.snapshot || plan.opens
		p.wrote |= plan.writes
	case plan.write:
		progress, publish = true, true
	}
	p.pointed(plan)
	for _, table := range plan.written {
		d.dirty[table] = true
	}
	d.unknown = d.unknown || plan.other
	if plan.other {
		progress, publish = true, true
	}
	if a != nil && progress {
		d.host.Progress(publish)
	}
}

// note keeps what a report tells of reads and writes: a write is one when it is
// committed.
func (p *physical) note(a engine.Actor, plan *plan) {
	if a == nil || !p.db.host.Detailed() {
		return
	}
	written := plan.written
	if p.inTx && !plan.end {
		p.tables, written = append(p.tables, written...), nil
	}
	if plan.end && !plan.rollback {
		written = p.tables
	}
	a.Note(plan.read, written, plan.end || !p.inTx && !plan.begin)
}

func (c *conn) faults(plan *plan) (list []harness.Fault) {
	for _, f := range c.db.config.Faults {
		commit := plan.end && !plan.rollback && c.locked
		switch {
		case f == harness.Refused && plan.write && !c.locked && !plan.end,
			(f == harness.LostBefore || f == harness.LostAfter) && commit:
			list = append(list, f)
		}
	}
	return list
}

// describe is the statement as the timeline shows it, its arguments in place.
func (c *conn) describe(text string, args []driver.NamedValue) string {
	if !c.db.host.Detailed() {
		return text
	}
	if len(args) == 0 {
		return text
	}
	list := make([]string, len(args))
	for i, a := range args {
		list[i] = c.db.host.Rename(engine.Show(a.Value))
	}
	return text + "  [" + strings.Join(list, ", ") + "]"
}

func (o outcome) describe(plan *plan, err error) string {
	switch {
	case err != nil:
		return "fails: " + engine.Clip(err.Error(), 60)
	case o.rows != nil:
		return o.rows.Describe()
	case o.result != nil && plan.write && !plan.begin && !plan.end:
		if n, err := o.result.RowsAffected(); err == nil && n > 0 {
			return fmt.Sprintf("wrote %d", n)
		}
	}
	return "ok"
}
