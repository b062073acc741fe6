package sqlmodel

import (
	"fmt"
	"slices"
	"time"
)

// A parker is what a session waits by.
type parker interface {
	// park returns when no transaction is in the way any more, or with the error
	// with which the statement ends.
	park(s *session, blockers func() []*tx) error
	// now is the clock.
	now() time.Time
}

// A session is one connection to the model.
type session struct {
	st         *state
	parker     parker
	top        *tx // nil outside of a transaction
	current    *tx // the part of it that a savepoint began
	command    int
	inBlock    bool // between begin and commit
	failed     bool // and a statement has failed there
	repeatable bool
	readOnly   bool
	snapshot   int // of a transaction at repeatable read, -1 until it has one
	began      time.Time
	savepoints []savepoint
	blockers   func() []*tx // while it waits
	drew       map[int]int64
	lastDrawn  int // the sequence, plus one
}

type savepoint struct {
	name string
	part *tx
}

// An answer is what a statement returns.
type answer struct {
	names []string
	types []typ
	rows  [][]any
	count int64 // of rows that were written, or read
	tag   string
}

var errFailed = stateError("25P02", "current transaction is aborted, commands ignored until end of transaction block")

// run carries out a statement.
func (s *session) run(p *plan, args []any) (*answer, error) {
	if c := p.control; c != nil {
		return s.control(c)
	}
	if s.failed {
		return nil, errFailed
	}
	auto := !s.inBlock
	if auto {
		s.begin()
		defer s.forget()
	}
	out, err := s.execute(p, args)
	if err != nil {
		s.fail(auto)
		return nil, err
	}
	if auto {
		s.commit()
	}
	return out, nil
}

// failing is the plan of a text that has none.
func failing(err error) *plan {
	return &plan{run: func(*exec) (*answer, error) { return nil, err }}
}

func (s *session) begin() {
	s.top = &tx{session: s}
	s.current, s.command, s.snapshot, s.began = s.top, 0, -1, s.parker.now()
}

func (s *session) commit() {
	s.st.seq++
	s.top.state, s.top.seq = committed, s.st.seq
}

// fail ends what a failing statement ends: the transaction, or its part since
// the last savepoint. Its locks are given back at once.
func (s *session) fail(auto bool) {
	s.current.state = aborted
	s.failed = !auto
}

// forget is the end of a transaction.
func (s *session) forget() {
	if s.top != nil && s.top.state == running {
		s.top.state = aborted
	}
	s.top, s.current, s.savepoints, s.inBlock, s.failed, s.repeatable, s.readOnly = nil, nil, nil, false, false, false, false
}

// abandon is what a lost connection leaves.
func (s *session) abandon() {
	s.forget()
	s.blockers = nil
	for _, l := range s.st.advisory {
		if l.holder == s {
			l.bySession = 0
		}
	}
}

// execute runs a statement of a transaction under a snapshot of its own.
func (s *session) execute(p *plan, args []any) (*answer, error) {
	if s.readOnly && len(p.writes)+len(p.locks) > 0 {
		return nil, stateError("25006", "cannot execute a statement that writes in a read-only transaction")
	}
	values := make([]any, len(p.params))
	for i, t := range p.params {
		v, err := argument(args[i], t)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	x := s.newExec(values)
	for _, y := range p.early {
		if _, err := y.f(&env{x: x}); err != nil {
			return nil, err
		}
	}
	out, err := p.run(x)
	if err == nil {
		err = x.after()
	}
	return out, err
}

// newExec begins a command, with its snapshot.
func (s *session) newExec(args []any) *exec {
	s.command++
	x := &exec{s: s, args: args, cid: s.command, snap: s.st.seq, subs: map[*subPlan]*subResult{}, ctes: map[*ctePlan][][]any{}}
	if s.repeatable {
		if s.snapshot < 0 {
			s.snapshot = s.st.seq
		}
		x.snap = s.snapshot
	}
	return x
}

// control begins and ends transactions and their parts.
func (s *session) control(c *controlStmt) (*answer, error) {
	switch c.verb {
	case "begin":
		if s.inBlock {
			return nil, refuse("begin inside of a transaction")
		}
		s.begin()
		s.inBlock, s.failed, s.repeatable, s.readOnly = true, false, c.repeatable, c.readOnly
	case "commit":
		if !s.inBlock {
			return nil, refuse("commit outside of a transaction")
		}
		failed := s.failed
		if !failed {
			s.commit()
		}
		s.forget()
		if failed {
			return &answer{tag: "ROLLBACK"}, nil
		}
	case "rollback":
		if !s.inBlock {
			return nil, refuse("rollback outside of a transaction")
		}
		s.forget()
	default:
		if !s.inBlock {
			return nil, stateError("25P01", upper(c.verb)+" can only be used in transaction blocks")
		}
		return s.savepoint(c)
	}
	return &answer{tag: upper(c.verb)}, nil
}

func (s *session) savepoint(c *controlStmt) (*answer, error) {
	if c.verb == "savepoint" {
		if s.failed {
			return nil, errFailed
		}
		s.current = &tx{parent: s.current}
		s.savepoints = append(s.savepoints, savepoint{c.name, s.current})
		return &answer{tag: "SAVEPOINT"}, nil
	}
	if s.failed && c.verb == "release" {
		return nil, errFailed
	}
	at := -1
	for i, p := range s.savepoints {
		if p.name == c.name {
			at = i
		}
	}
	if at < 0 {
		if !s.failed {
			s.fail(false)
		}
		return nil, stateError("3B001", fmt.Sprintf("savepoint %q does not exist", c.name))
	}
	part := s.savepoints[at].part
	if c.verb == "release" {
		s.current, s.savepoints = part.parent, s.savepoints[:at]
		return &answer{tag: "RELEASE"}, nil
	}
	part.state = aborted // with all parts within it
	s.current, s.failed = &tx{parent: part.parent}, false
	s.savepoints = append(s.savepoints[:at:at], savepoint{c.name, s.current})
	return &answer{tag: "ROLLBACK"}, nil
}

// wait parks the statement until nothing is in its way. Where that would never
// be, PostgreSQL ends one of those who wait: here the one that closes the circle.
func (s *session) wait(blockers func() []*tx) error {
	for len(blockers()) > 0 {
		s.blockers = blockers
		if s.circular() {
			s.blockers = nil
			return stateError("40P01", "deadlock detected")
		}
		err := s.parker.park(s, blockers)
		s.blockers = nil
		if err != nil {
			return err
		}
	}
	return nil
}

// circular reports whether the session waits for itself, by others.
func (s *session) circular() bool {
	seen := []*session{s}
	for i := 0; i < len(seen); i++ {
		if seen[i].blockers == nil {
			continue
		}
		for _, t := range seen[i].blockers() {
			if t.session == s {
				return true
			}
			if !slices.Contains(seen, t.session) {
				seen = append(seen, t.session)
			}
		}
	}
	return false
}
