package harness

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// gateCall is something that the driver is to do.
type gateCall struct {
	text string
	args []driver.NamedValue
	do   func(ctx context.Context) (result string, err error)

	prepared bool
}

// skippedCall is a text that the driver would rather have prepared, when its
// actor was chosen for it.
type skippedCall struct {
	text  string
	fault Fault
}

// shown is the call as the timeline has it.
func (g gateCall) shown(x *explorer) string {
	if run := x.current(); len(g.args) == 0 || run == nil || !run.detail {
		return g.text
	}
	return g.text + "  " + x.rename(showArgs(g.args))
}

// step has the driver do something when the actor is chosen for it. What comes
// from no actor is done at once.
func (c *gateConn) step(ctx context.Context, call gateCall) error {
	x := c.sim.x
	a, err := x.caller()
	if err != nil {
		return err
	}
	switch {
	case a != nil && a.dead.get() != nil:
		return a.Refuse()
	case c.isShut():
		return driver.ErrBadConn
	case a == nil:
		return c.aside(ctx, call)
	}
	c.user = a
	if several(call.text) {
		x.unexplored(fmt.Sprintf("the text of several statements %q", engine.Clip(call.text, 60)))
	}
	before := c.inTx()
	var fault Fault
	if last := c.skipped; last != nil && call.prepared && last.text == call.text {
		fault = last.fault
	} else {
		o := engine.Op{Text: call.shown(x), Foot: engine.Footprint{Everything: true}, Last: !before || call.text == "commit"}
		if fault, err = a.Step(o, before); err != nil {
			return err
		}
	}
	c.skipped = nil
	result, err := c.fly(ctx, a, call.do)
	if errors.Is(err, driver.ErrSkip) {
		c.skipped = &skippedCall{call.text, fault}
		return err
	}
	if dead := a.dead.get(); dead != nil { // it was stopped while it waited
		return dead
	}
	if err != nil {
		result = "fails: " + engine.Clip(err.Error(), 60)
	}
	a.Tell(result)
	open := c.inTx()
	a.Note(nil, nil, !open)
	a.sim.run.progress = true
	a.sim.run.publish = a.sim.run.publish || !open
	if fault == CrashAfter {
		return a.Crash()
	}
	a.GoOn(open)
	return err
}

// fly calls the driver, which may have to wait there for another actor.
func (c *gateConn) fly(ctx context.Context, a *actor, do func(ctx context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &gateFlight{conn: c, actor: a, cancel: cancel, landed: make(chan struct{})}
	a.Fly(f)
	result, err := do(ctx)
	close(f.landed)
	_ = a.Land()
	return result, err
}

// aside is what the scenario or an oracle does. It must not wait for an actor,
// none of which goes on meanwhile.
func (c *gateConn) aside(ctx context.Context, call gateCall) error {
	x := c.sim.x
	run := x.current()
	if run == nil || len(run.events) == 0 || engine.Goroutine() != x.goroutine {
		_, err := call.do(ctx)
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := call.do(ctx)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(c.gate.patience):
		x.abandoned = true
		x.t.Fatalf("harness: for %s an oracle's statement has had no answer: it waits for what an actor has locked: %s", c.gate.patience, engine.Clip(call.text, 60))
		return driver.ErrBadConn
	}
}

// gateFlight is a call of the driver.
type gateFlight struct {
	conn   *gateConn
	actor  *actor
	cancel context.CancelFunc
	landed chan struct{}

	before *stack    // at the last look
	steps  int64     // at the last look, of all actors
	since  time.Time // when it was first looked at after one of them
}

// gatePatience is how long a call is waited for that may wait outside of the
// process.
const gatePatience = 200 * time.Millisecond

const unknownWait = "a lock"

// Held reports whether the call waits for another actor: where all goroutines
// stand still twice, that is certain. Where something waits outside of the
// process, or for the machine's clock, time must tell, and the verdict says so.
func (f *gateFlight) Held(time.Time) (blames string, held bool) {
	x := f.actor.sim.x
	if steps := x.steps.Load(); f.since.IsZero() || steps != f.steps {
		f.steps, f.since, f.before = steps, time.Now(), nil
	}
	all, still := x.still()
	s := all[f.actor.worker.id]
	if s == nil {
		return unknownWait, false
	}
	before := f.before
	f.before = s
	if still {
		return unknownWait, before != nil && *before == *s
	}
	f.before = nil
	if time.Since(f.since) < gatePatience || x.computes(all) {
		return unknownWait, false
	}
	x.unexplored("the database: a statement without an answer for " + gatePatience.String() + " was taken to wait for another actor")
	x.home.unsteady = true
	return unknownWait, true
}

// computes reports whether a goroutine of the exploration does more than wait
// for something.
func (x *explorer) computes(all map[uint64]*stack) bool {
	for id, s := range all {
		if id != x.goroutine && (s.state == "running" || s.state == "runnable") && x.descends(all, s) {
			return true
		}
	}
	return false
}

// Abort has the call end by its context, and where that does not help, by
// closing the connections of the others, which hold it up.
func (f *gateFlight) Abort() {
	f.cancel()
	if f.lands(gatePatience) {
		return
	}
	f.conn.gate.shut(func(c *gateConn) bool { return c != f.conn && c.user != f.actor })
	if !f.lands(longWait) {
		x := f.actor.sim.x
		x.abandoned = true
		x.t.Fatalf("harness: for %s a statement of %s has not ended, although its context has: %s", longWait, f.actor.name, engine.Clip(f.actor.op.Text, 60))
	}
}

func (f *gateFlight) lands(within time.Duration) bool {
	select {
	case <-f.landed:
		return true
	case <-time.After(within):
		return false
	}
}

// several reports whether a text has more than one statement, or may have.
func several(text string) bool {
	for at := 0; at < len(text); at++ {
		switch c := text[at]; {
		case c == '\'' || c == '"' || c == '`':
			end := strings.IndexByte(text[at+1:], c)
			if end < 0 { // rather one too many
				return strings.Contains(text[at:], ";")
			}
			at += end + 1
		case strings.HasPrefix(text[at:], "--"):
			end := strings.IndexByte(text[at:], '\n')
			if end < 0 {
				return false
			}
			at += end
		case strings.HasPrefix(text[at:], "/*"):
			at = engine.EndOfComment(text, at) - 1
		case c == ';':
			if rest := strings.TrimLeft(text[at:], "; \t\r\n"); engine.Verb(rest) != "" {
				return true
			}
		}
	}
	return false
}
