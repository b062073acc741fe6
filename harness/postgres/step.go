package postgres

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// preparedText is a statement that was prepared.
type preparedText struct {
	text string
	oids []uint32 // of its parameters, as far as the client says
}

// portal is a statement with its parameters.
type portal struct {
	statement, text string
	oids            []uint32
	formats         []int16
	parameters      [][]byte
}

// wireStep is a step under way.
type wireStep struct {
	a      engine.Actor
	fault  harness.Fault
	what   sqlStatement
	data   []message // of COPY
	err    error     // why no answer came
	inside bool      // it has come to a gate in a function
}

// segment takes messages up to one to which the server answers. Each statement
// that they execute is a step: where there are more, each but the last is sent
// with a Flush, and the next is held until it has ended. All of them stay in one
// transaction, which ends with the Sync behind the last.
func (w *wire) segment(list []message) error {
	a := w.gate.now().actor()
	w.mu.Lock()
	w.user = a
	w.mu.Unlock()
	w.gate.now().closes(w.pid, a != nil)
	if a == nil {
		return w.astray(list)
	}
	defer w.hold()()
	w.gate.now().came.Store(true)
	w.settlesAgain(a)
	from, beside, pending := 0, 0, sqlStatement{}
	for i, m := range list {
		what, isStep := w.reads(m)
		if !isStep && m.kind == 'E' {
			beside++
		}
		if !isStep || m.kind == 'S' && pending.tokens != nil { // a Sync belongs to the statement that it is sent with
			continue
		}
		if pending.tokens != nil {
			end := i
			for list[end-1].kind != 'E' { // what prepares this one comes after it is chosen
				end--
			}
			pending.beside = beside
			if err := w.run(a, pending, list[from:end], true); err != nil {
				return err
			}
			from, beside = end, 0
		}
		pending = what
	}
	pending.beside = beside
	if pending.count > 1 {
		if ran, err := w.divides(a, pending.text); ran {
			return err
		}
		w.gate.now().host().Unexplored(fmt.Sprintf("the query of %d statements %q", pending.count, engine.Clip(pending.text, 60)))
	}
	if pending.tokens != nil {
		return w.run(a, pending, list[from:], false)
	}
	return w.exchange(a, list[from:])
}

// astray forwards what no actor writes: the scenario, its oracles, a pool in the
// background. What is a step there while an actor runs is refused, and fails the
// schedule.
func (w *wire) astray(list []message) error {
	for _, m := range list {
		if _, isStep := w.reads(m); isStep {
			if w.proxy != nil {
				return w.proxy.stray()
			}
			if _, err := w.gate.now().host().Caller(); err != nil {
				return err
			}
		}
	}
	return w.send(list...)
}

// reads keeps what a message prepares, and returns the statement that it
// executes, where that is a step.
func (w *wire) reads(m message) (sqlStatement, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch m.kind {
	case 'P':
		var p pgproto3.Parse
		if err := p.Decode(m.body()); err == nil {
			delete(w.told, p.Name)
			w.isolated = w.isolated || mentionsIsolation(p.Query)
			w.prepared[p.Name] = preparedText{p.Query, p.ParameterOIDs}
		}
	case 'B':
		var b pgproto3.Bind
		if err := b.Decode(m.body()); err == nil {
			s := w.prepared[b.PreparedStatement]
			w.portals[b.DestinationPortal] = portal{b.PreparedStatement, s.text, s.oids, b.ParameterFormatCodes, b.Parameters}
		}
	case 'C':
		if body := m.body(); len(body) > 0 && body[0] == 'S' {
			delete(w.prepared, cString(body[1:]))
		} else if len(body) > 0 {
			delete(w.portals, cString(body[1:]))
		}
	case 'E':
		return w.executes(w.portals[cString(m.body())])
	case 'Q':
		w.isolated = w.isolated || mentionsIsolation(cString(m.body()))
		return w.queries(cString(m.body()))
	case 'F':
		return sqlStatement{tokens: []token{{kind: 'w', text: "call"}}, text: "call a function by its number"}, true
	case 'S':
		if w.implicit && !w.skipping { // the transaction ends that Executes without one have begun
			return sqlStatement{tokens: []token{{kind: 'w', text: "commit"}}, text: "sync"}, true
		}
	}
	return sqlStatement{}, false
}

func (w *wire) backslash() bool { return w.parameters["standard_conforming_strings"] == "off" }

// aside reports whether a statement of a text is no step. One that reads no table
// is one all the same where it may run a function of the database's own: by an
// operator, or by the check of a domain.
func (w *wire) aside(s sqlStatement, text string, idle bool) bool {
	return s.aside(idle) && (s.word(0) != "select" || len(w.gate.now().mayRun(text, w.backslash())) == 0)
}

func (w *wire) executes(p portal) (sqlStatement, bool) {
	if w.skipping {
		return sqlStatement{}, false
	}
	list := statements(p.text, w.backslash())
	if len(list) == 0 || w.aside(list[0], p.text, w.status == 'I' && !w.implicit) {
		return sqlStatement{}, false
	}
	s := list[0]
	s.text, s.portal, s.alone = p.text, &p, !w.implicit
	if w.status == 'I' {
		w.implicit = true
	}
	return s, true
}

// queries returns the statement of a query. Of several, which are one step, it is
// the last, by which others may see what they did.
func (w *wire) queries(text string) (sqlStatement, bool) {
	list := statements(text, w.backslash())
	aside := 0
	for _, s := range list {
		if w.aside(s, text, w.status == 'I' && len(list) == 1) {
			aside++
		}
	}
	if aside == len(list) {
		return sqlStatement{}, false
	}
	s := list[len(list)-1]
	s.text, s.count, s.alone = text, len(list), !w.implicit
	return s, true
}

// run is a step: messages that execute a statement, and what belongs to them.
func (w *wire) run(a engine.Actor, what sqlStatement, list []message, more bool) error {
	what.alone = what.alone && !more && list[len(list)-1].kind != 'H' // its transaction ends with it
	foot, after := w.footprint(what)
	w.mu.Lock()
	o := engine.Op{Text: what.text, Foot: foot, Last: what.commits() || w.status == 'I' && !what.begins() && !more && !what.partial}
	if what.portal != nil && w.gate.now().host().Detailed() {
		o.Text += w.shows(what.portal)
	}
	w.mu.Unlock()
	if w.proxy != nil && what.word(0) == "listen" {
		w.gate.now().host().Unexplored("a wait for notifications in the process of " + a.Name())
	}
	if what.commits() {
		for _, f := range w.gate.now().config.Faults {
			if f == harness.LostBefore || f == harness.LostAfter {
				o.Faults = append(o.Faults, f)
			}
		}
	}
	fault, err := a.Gate(o)
	if err != nil {
		return err
	}
	w.tx = after
	w.step = &wireStep{a: a, fault: fault, what: what}
	w.flies(a)
	if fault == harness.LostBefore {
		w.gate.now().observer.end(w.pid)
		w.lose(errLost)
		return w.ends()
	}
	if more {
		list = append(list[:len(list):len(list)], message{'H', flushMessage})
	}
	w.mu.Lock()
	w.done, w.tag, w.code = 0, "", ""
	w.copying = false
	w.mu.Unlock()
	return w.fly(list)
}

// exchange sends what is no step. The server may wait for a lock all the same,
// to know a table that it is told of.
func (w *wire) exchange(a engine.Actor, list []message) error {
	w.mu.Lock()
	w.done = 0
	w.mu.Unlock()
	w.flies(a)
	a.Fly(w.passage)
	err := w.send(list...)
	if err == nil {
		err = w.pump()
	}
	w.lands(a)
	if err != nil {
		return w.abandon(err)
	}
	return nil
}

// flies gives a connection to the actor.
func (w *wire) flies(a engine.Actor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.gate.now()
	d.uses(w, a)
	p := &passage{database: d, actor: a, proxy: w.proxy, pid: w.pid, patience: w.patience()}
	w.passage, w.looked = p, p.looked.Store
}

// fly sends messages of a step, and returns when it has ended, or waits for data.
func (w *wire) fly(list []message) error {
	a := w.step.a
	a.Fly(w.passage) // from here on the scheduler looks
	err := w.send(list...)
	if err == nil {
		err = w.pump()
	}
	w.lands(a)
	w.mu.Lock()
	copying := w.copying && !w.dividing
	w.mu.Unlock()
	if err == nil && copying {
		return nil
	}
	if err != nil {
		w.step.err = err
		if err := w.abandon(err); err != nil {
			w.step = nil
			return err
		}
	}
	return w.ends()
}

// goOn sends the data for which a step waits.
func (w *wire) goOn(m message) error {
	defer w.hold()()
	list := append(w.step.data, m)
	w.step.data = nil
	w.mu.Lock()
	w.copying = false
	w.mu.Unlock()
	return w.fly(list)
}

// lands is where the answer has arrived. What had waited for a lock waits here
// until its actor is chosen again.
func (w *wire) lands(a engine.Actor) {
	if err := a.Land(); err != nil {
		w.lose(err) // its backend was ended, perhaps after it had answered
	}
}

// abandon is where no answer comes: the connection is gone, or its deadline has
// passed while a statement was under way. The server might carry it out all the
// same; here it never does.
func (w *wire) abandon(err error) error {
	w.mu.Lock()
	gone := w.lost != nil || len(w.expected) == 0
	w.mu.Unlock()
	if gone {
		return nil
	}
	if isTimeout(err) {
		w.gate.now().host().Unexplored("a statement whose context ends while it is under way")
		w.gate.now().observer.end(w.pid)
		w.lose(err)
	}
	return nil
}

// ends is the end of a step.
func (w *wire) ends() error {
	s := w.step
	w.step = nil
	w.mu.Lock()
	tag, code, idle, stray := w.tag, w.code, w.status == 'I' && !w.implicit && !w.dividing || w.lost != nil || s.what.commits(), w.stray
	done, backslash := w.done, w.backslash()
	w.mu.Unlock()
	w.gate.now().names(s.what.text, tag, backslash)
	switch {
	case s.fault == harness.LostBefore:
		s.a.Tell("fails, and took no effect")
	case s.fault == harness.LostAfter, s.fault == harness.CrashAfter:
		w.lose(errLost)
		idle = true
		s.a.Tell("fails, but took effect")
	case s.err != nil:
		s.a.Tell("fails: " + engine.Clip(s.err.Error(), 60))
	case code != "":
		s.a.Tell(code)
	default:
		s.a.Tell(strings.ToLower(tag))
	}
	if stray == "" && code == "" && s.err == nil && s.fault != harness.LostBefore && done > max(s.what.count, 1)+s.what.beside {
		stray = fmt.Sprintf("%d answers to %q", done, engine.Clip(s.what.text, 60))
	}
	if stray != "" {
		w.gate.now().host().Unscheduled("the server gave " + stray)
	}
	s.a.Note(nil, nil, idle)
	w.gate.now().host().Progress(idle)
	if s.fault == harness.CrashAfter && s.a.Dead() == nil {
		_ = s.a.Crash() // the client hears that the connection is lost
	}
	s.a.GoOn(false)
	return nil
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// awaitNotification is the step of an actor that reads where nothing is owed.
func (w *wire) awaitNotification(a engine.Actor) error {
	came := func() bool {
		w.mu.Lock()
		there := len(w.out) > 0 || w.lost != nil
		quiet := w.implicit || w.skipping
		w.mu.Unlock()
		if there || quiet {
			return there
		}
		// What was told to it before a transaction's end is here before the
		// answer to what is asked afterwards.
		w.mu.Lock()
		w.asked++
		w.mu.Unlock()
		if err := w.send(message{'S', syncMessage}); err != nil {
			w.lose(err)
			return true
		}
		if err := w.pump(); err != nil {
			w.lose(err)
			return true
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.out) > 0
	}
	_, err := a.Gate(engine.Op{
		Text: "a notification", Foot: engine.Footprint{Everything: true}, Ready: came,
		Blames: func() string { return "a notification" },
	})
	return err
}

// shows are the parameters of a statement.
func (w *wire) shows(p *portal) string {
	if len(p.parameters) == 0 {
		return ""
	}
	oids := p.oids
	if told, ok := w.told[p.statement]; ok {
		oids = told
	}
	list := make([]string, len(p.parameters))
	for i, v := range p.parameters {
		var oid uint32
		if i < len(oids) {
			oid = oids[i]
		}
		format := int16(pgx.TextFormatCode)
		switch {
		case len(p.formats) == 1:
			format = p.formats[0]
		case i < len(p.formats):
			format = p.formats[i]
		}
		list[i] = engine.Show(w.gate.now().decode(oid, format, v))
	}
	return "  [" + w.gate.now().host().Rename(strings.Join(list, ", ")) + "]"
}

// decode returns a parameter's value.
func (d *Database) decode(oid uint32, format int16, v []byte) any {
	if v == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.types == nil {
		d.types = pgtype.NewMap()
	}
	if t, ok := d.types.TypeForOID(oid); ok {
		if value, err := t.Codec.DecodeDatabaseSQLValue(d.types, oid, format, v); err == nil {
			return value
		}
	}
	if format == pgx.TextFormatCode {
		return string(v)
	}
	return fmt.Sprintf("%x", v)
}
