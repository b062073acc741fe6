package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A Row is the values of one row, in the order of the table's columns: int64,
// string, bool or nil.
type Row []any

// A Table is one of a [ReadCommitted] database.
type Table struct {
	Name    string
	Columns []string
	Types   []string // for PostgreSQL; bigint where it is nil
	Key     int      // how many of the first columns are the primary key
	Rows    []Row
}

// A Statement is one SQL statement with its meaning. PostgreSQL runs the SQL,
// the model runs the meaning; a differential test holds one to the other.
type Statement struct {
	SQL string
	// Reads and Writes are the tables that it looks at, and whose rows it
	// locks, inserts, changes or deletes.
	Reads, Writes []string
	// Do is what the statement means, told by what PostgreSQL does: see
	// [Query]. The model refuses a statement without one; a server needs none.
	Do func(q *Query) error
}

// SQLState is an error that PostgreSQL would give, by its code.
type SQLState struct {
	Code    string
	Message string
}

// Error implements error.
func (e *SQLState) Error() string { return e.Message + " (SQLSTATE " + e.Code + ")" }

// SQLState returns the code, as errors of pgx do.
func (e *SQLState) SQLState() string { return e.Code }

// ReadCommitted is a PostgreSQL database at its default isolation level, whose
// every statement is a step: an in-memory model, offline, or a real server
// where the exploration runs [On] one.
//
// The model has what makes READ COMMITTED surprising: a snapshot per statement
// that is older than the locks it waits for, rows that are looked at again
// after such a wait while the rest of the statement is not, locks on rows and
// none on what isn't there, unique keys that wait for the end of another
// insert, SKIP LOCKED, advisory locks, deadlocks. It has no SERIALIZABLE, no
// foreign keys, no other indexes than the primary key, no savepoints.
type ReadCommitted struct {
	host   engine.Host
	tables []Table
	model  *model
	server *server // nil on the model
	faults []harness.Fault
	opened []*Session
	name   string

	touchables map[string]touchable
}

type touchable struct{ data, locks engine.Resources }

// NewReadCommitted returns the database of this schedule. The scenario calls it
// in the same order each time. Its faults: [harness.Refused] ends a statement that
// writes with 40001, [harness.Deadlock] with 40P01, and its transaction with it;
// [harness.LostBefore] and [harness.LostAfter] fail a COMMIT whose outcome its
// actor does not learn.
func NewReadCommitted(s *harness.Sim, tables []Table, faults ...harness.Fault) *ReadCommitted {
	host := s.Engine()
	d := engine.Next(host, func(number int) *ReadCommitted {
		d := &ReadCommitted{host: host, tables: tables, faults: faults, name: fmt.Sprintf("rc%d.", number), touchables: map[string]touchable{}}
		if address, ok := host.Setting(serverKey{}).(string); ok {
			host.Unsteady()
			d.server = newServer(host, d, address, number)
		}
		return d
	})
	d.host, d.opened = host, nil
	if d.server != nil {
		d.server.reset()
	} else {
		d.model = newModel(d.tables)
	}
	return d
}

// Session opens a connection: one for each actor that has one.
func (d *ReadCommitted) Session() *Session {
	s := &Session{db: d}
	if d.server != nil {
		s.backend = d.server.backend(len(d.opened))
	}
	d.opened = append(d.opened, s)
	return s
}

// Crashed rolls back what a dead process had open.
func (d *ReadCommitted) Crashed(a engine.Actor) {
	for _, s := range d.opened {
		if s.user == a {
			s.abandon()
		}
	}
}

// Contents returns what is committed, table by table, rows sorted by their key
// or, where there is none, by all their columns.
func (d *ReadCommitted) Contents() map[string][]Row {
	for _, t := range d.tables {
		d.asked(t.Name)
	}
	return d.contents()
}

// asked notes what an oracle reads.
func (d *ReadCommitted) asked(tables ...string) {
	for _, table := range tables {
		d.host.Asked(d.of(table).data)
	}
}

func (d *ReadCommitted) contents() map[string][]Row {
	if d.server != nil {
		return d.server.contents()
	}
	return d.model.contents()
}

// Rows returns what is committed of one table.
func (d *ReadCommitted) Rows(table string) []Row {
	d.asked(table)
	return d.contents()[table]
}

// A Session is one connection.
type Session struct {
	db      *ReadCommitted
	user    engine.Actor
	tx      *modelTx
	inTx    bool
	aborted bool
	wrote   []string // tables that the transaction has written or locked
	backend *backend
}

var errAborted = &SQLState{"25P02", "current transaction is aborted, commands ignored until end of transaction block"}

// Begin starts a transaction.
func (s *Session) Begin(context.Context) error {
	_, err := s.step("begin", engine.Footprint{}, nil, func(engine.Actor) ([]Row, error) {
		s.inTx, s.aborted = true, false
		if s.backend != nil {
			return s.backend.run(s, "begin")
		}
		s.tx = s.db.model.begin(s)
		return nil, nil
	})
	return err
}

// Commit ends the transaction. One in which a statement has failed is rolled
// back, and Commit says so.
func (s *Session) Commit(context.Context) error {
	foot := s.releases()
	for _, table := range s.wrote {
		foot.Writes |= s.data(table)
		foot.Shows |= s.data(table)
	}
	_, err := s.step("commit", foot, []harness.Fault{harness.LostBefore, harness.LostAfter}, func(a engine.Actor) ([]Row, error) {
		aborted := s.aborted
		defer s.forget()
		if s.backend != nil {
			end := "commit"
			if aborted {
				end = "rollback"
			}
			rows, err := s.backend.run(s, end)
			if !aborted && err == nil {
				noteWrites(a, s.wrote)
			}
			s.progress(a, true)
			if err == nil && aborted {
				err = errAborted
			}
			return rows, err
		}
		if aborted {
			s.db.model.rollback(s.tx)
			s.progress(a, false)
			return nil, errAborted
		}
		noteWrites(a, s.tx.tables())
		s.db.model.commit(s.tx)
		s.progress(a, true)
		return nil, nil
	})
	return err
}

// Rollback ends the transaction without a trace. Outside of one it does
// nothing.
func (s *Session) Rollback(context.Context) error {
	if !s.inTx {
		return nil
	}
	_, err := s.step("rollback", s.releases(), nil, func(a engine.Actor) ([]Row, error) {
		defer s.forget()
		if s.backend != nil {
			rows, err := s.backend.run(s, "rollback")
			s.progress(a, false)
			return rows, err
		}
		s.db.model.rollback(s.tx)
		s.progress(a, false)
		return nil, nil
	})
	return err
}

// Exec runs a statement, and returns the rows that it returns. It panics where
// the statement is no SQL, begins or ends a transaction, or has no meaning for
// the model.
func (s *Session) Exec(_ context.Context, st *Statement) ([]Row, error) {
	st.check(s.backend == nil)
	var foot engine.Footprint
	for _, table := range st.Reads {
		foot.Reads |= s.data(table)
	}
	for _, table := range st.Writes {
		foot.Reads |= s.data(table)
		foot.Writes |= s.locks(table)
		if !s.inTx {
			foot.Writes |= s.data(table)
			foot.Shows |= s.data(table)
		}
	}
	for _, table := range s.wrote { // an error would give them back
		foot.Writes |= s.locks(table)
	}
	faults := []harness.Fault{}
	if len(st.Writes) > 0 {
		faults = append(faults, harness.Refused, harness.Deadlock)
	}
	return s.step(st.SQL, foot, faults, func(a engine.Actor) ([]Row, error) {
		if s.aborted {
			return nil, errAborted
		}
		for _, table := range st.Writes {
			if !slices.Contains(s.wrote, table) {
				s.wrote = append(s.wrote, table)
			}
		}
		if a == nil {
			s.db.asked(slices.Concat(st.Reads, st.Writes)...)
		}
		noteReads(a, st.Reads) // as of its snapshot, whatever it waits for afterwards
		defer noteReads(a, st.Writes)
		if s.backend != nil {
			rows, err := s.backend.run(s, st.SQL, st.Writes...)
			if !s.inTx && err == nil {
				noteWrites(a, st.Writes)
			}
			s.aborted = err != nil && s.inTx
			if !s.inTx {
				s.progress(a, true)
				s.wrote = nil
			}
			return rows, err
		}
		return s.onModel(a, st)
	})
}

func (s *Session) onModel(a engine.Actor, st *Statement) ([]Row, error) {
	auto := !s.inTx
	if auto {
		s.tx = s.db.model.begin(s)
	}
	q := &Query{session: s, statement: st}
	q.snap()
	err := st.Do(q)
	if a != nil && a.Dead() != nil {
		return nil, a.Dead() // crashed takes care of its transaction
	}
	switch {
	case err != nil && auto:
		s.db.model.rollback(s.tx)
		s.progress(a, false)
		s.tx, s.wrote = nil, nil
	case err != nil: // its locks are given back at once
		s.aborted = true
		s.db.model.rollback(s.tx)
		s.progress(a, false)
	case auto:
		noteWrites(a, s.tx.tables())
		s.db.model.commit(s.tx)
		s.progress(a, len(st.Writes) > 0)
		s.tx, s.wrote = nil, nil
	}
	if err != nil {
		return nil, err
	}
	return q.out, nil
}

// step is the gate of everything that a session does.
func (s *Session) step(text string, foot engine.Footprint, faults []harness.Fault, do func(a engine.Actor) ([]Row, error)) ([]Row, error) {
	a, err := s.db.host.Caller()
	if err != nil {
		return nil, err
	}
	if s.user = a; a == nil {
		return do(nil)
	}
	o := engine.Op{Text: text, Foot: foot, Last: text == "commit" || !s.inTx && foot.Writes != 0}
	for _, f := range faults {
		if slices.Contains(s.db.faults, f) {
			o.Faults = append(o.Faults, f)
		}
	}
	defer func() { a.GoOn(s.inTx) }()
	fault, err := a.Step(o, s.inTx)
	if err != nil {
		return nil, err
	}
	switch fault {
	case harness.Refused, harness.Deadlock:
		s.refuse(a)
		state := &SQLState{"40001", "could not serialize access due to concurrent update"}
		if fault == harness.Deadlock {
			state = &SQLState{"40P01", "deadlock detected"}
		}
		a.Tell(state.Code)
		return nil, state
	case harness.LostBefore:
		s.abandon()
		a.Tell("fails, and took no effect")
		return nil, harness.ErrLost
	}
	rows, err := do(a)
	if s.db.host.Detailed() {
		a.Tell(describeRows(rows, err))
	}
	switch {
	case a.Dead() != nil:
		return nil, a.Dead()
	case fault == harness.CrashAfter:
		return nil, a.Crash()
	case fault == harness.LostAfter && err == nil:
		a.Tell("fails, but took effect")
		return nil, harness.ErrLost
	}
	return rows, err
}

// refuse ends a transaction as an error of the database does.
func (s *Session) refuse(a engine.Actor) {
	if !s.inTx {
		return
	}
	s.aborted = true
	if s.backend != nil {
		s.backend.abandon()
	} else {
		s.db.model.rollback(s.tx)
	}
	s.progress(a, false)
}

func (s *Session) data(table string) engine.Resources  { return s.db.of(table).data }
func (s *Session) locks(table string) engine.Resources { return s.db.of(table).locks }

// of returns what can be touched of a table.
func (d *ReadCommitted) of(table string) touchable {
	t, ok := d.touchables[table]
	if !ok {
		t = touchable{d.host.Resource(d.name + table), d.host.Resource(d.name + table + " locks")}
		d.touchables[table] = t
	}
	return t
}

// releases is the footprint of giving locks back.
func (s *Session) releases() (f engine.Footprint) {
	for _, table := range s.wrote {
		f.Writes |= s.locks(table)
	}
	return f
}

func (s *Session) progress(a engine.Actor, publish bool) {
	if a != nil {
		s.db.host.Progress(publish)
	}
}

func (s *Session) forget() { s.inTx, s.aborted, s.tx, s.wrote = false, false, nil, nil }

// abandon is what a lost connection leaves.
func (s *Session) abandon() {
	if s.backend != nil {
		s.backend.abandon()
	} else if s.tx != nil {
		s.db.model.rollback(s.tx)
	}
	s.forget()
}

// noteReads and noteWrites keep what a report tells: reads as they happen,
// writes when they are committed.
func noteReads(a engine.Actor, tables []string) {
	if a != nil {
		a.Note(tables, nil, false)
	}
}

func noteWrites(a engine.Actor, tables []string) {
	if a != nil {
		a.Note(nil, tables, true)
	}
}

// tables are those whose rows the transaction has changed.
func (tx *modelTx) tables() (names []string) {
	for _, r := range tx.touched {
		if len(r.pending) > 0 {
			names = append(names, r.table.Name)
		}
	}
	return names
}

func describeRows(rows []Row, err error) string {
	var state *SQLState
	switch {
	case errors.As(err, &state):
		return state.Code
	case err != nil:
		return "fails: " + engine.Clip(err.Error(), 60)
	case len(rows) == 0:
		return "ok"
	case len(rows) > 1:
		return fmt.Sprintf("%d rows", len(rows))
	}
	parts := make([]string, len(rows[0]))
	for i, v := range rows[0] {
		parts[i] = engine.Show(v)
	}
	return "reads " + strings.Join(parts, " ")
}
