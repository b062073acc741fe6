package postgres

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// model is the state of a [ReadCommitted] database in memory.
type model struct {
	tables map[string]*modelTable
	order  []*modelTable
	seq    int // of the last commit
	locks  map[int64]*advisory
}

type modelTable struct {
	*Table
	rows  []*modelRow // in the order of their insertion
	byKey map[rowKey]*modelRow
}

// rowKey is the values of a primary key of up to three columns.
type rowKey [3]any

// A modelRow is what is known of one key, or of one row without a key.
type modelRow struct {
	table    *modelTable
	versions []version // committed, the oldest first
	pending  []version // of the transaction that holds the row
	holder   *modelTx
	queue    []*modelTx // who wants it, the first to ask first
}

type version struct {
	seq     int // of the commit; of the command while pending
	deleted bool
	values  Row
}

type modelTx struct {
	session  *Session
	command  int
	touched  []*modelRow
	advisory []*advisory
	waits    func() *modelTx // for whom, while it waits
	done     bool
}

type advisory struct {
	holder *modelTx
	depth  int
}

func newModel(tables []Table) *model {
	m := &model{tables: make(map[string]*modelTable, len(tables)), locks: nil}
	for i := range tables {
		t := &modelTable{Table: &tables[i], byKey: make(map[rowKey]*modelRow, len(tables[i].Rows))}
		m.tables[t.Name] = t
		m.order = append(m.order, t)
		for _, row := range tables[i].Rows {
			t.add(row, &modelRow{table: t, versions: []version{{values: row}}})
		}
	}
	return m
}

func (t *modelTable) key(row Row) (k rowKey) {
	copy(k[:], row[:t.Key])
	return k
}

func (t *modelTable) add(row Row, r *modelRow) {
	t.rows = append(t.rows, r)
	if t.Key > 0 {
		t.byKey[t.key(row)] = r
	}
}

func (m *model) begin(s *Session) *modelTx { return &modelTx{session: s} }

func (m *model) commit(tx *modelTx) {
	m.seq++
	for _, r := range tx.touched {
		if n := len(r.pending); n > 0 {
			last := r.pending[n-1]
			last.seq = m.seq
			r.versions = append(r.versions, last)
		}
	}
	tx.release()
}

func (m *model) rollback(tx *modelTx) { tx.release() }

func (tx *modelTx) release() {
	for _, r := range tx.touched {
		r.pending, r.holder = nil, nil
	}
	for _, l := range tx.advisory {
		l.holder, l.depth = nil, 0
	}
	tx.leave()
	tx.touched, tx.advisory, tx.done = nil, nil, true
}

// leave takes a transaction out of the queues in which it stands.
func (tx *modelTx) leave() { tx.waits = nil }

// latest is the newest committed version, or nil.
func (r *modelRow) latest() *version {
	if len(r.versions) == 0 {
		return nil
	}
	return &r.versions[len(r.versions)-1]
}

func (r *modelRow) live() bool {
	v := r.latest()
	return v != nil && !v.deleted
}

func (m *model) contents() map[string][]Row {
	all := make(map[string][]Row, len(m.order))
	for _, t := range m.order {
		rows := []Row{}
		for _, r := range t.rows {
			if r.live() {
				rows = append(rows, r.latest().values)
			}
		}
		slices.SortFunc(rows, compareRows)
		all[t.Name] = rows
	}
	return all
}

func compareRows(a, b Row) int {
	for i := range a {
		if c := compareValues(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func compareValues(a, b any) int {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
	case string:
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b)
		}
	}
	return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

// A Query is one statement under way on the model. Its methods are what a
// statement's parts do in PostgreSQL; a statement of several parts calls
// several, under one snapshot.
type Query struct {
	session   *Session
	statement *Statement
	at        int // the snapshot
	out       []Row
}

// snap takes the statement's snapshot: before any lock is waited for.
func (q *Query) snap() {
	q.at = q.session.db.model.seq
	q.session.tx.command++
}

// Next begins another statement within a function: it sees what was committed
// meanwhile, and what the ones before it did. Other actors may come between.
func (q *Query) Next() error {
	if a := q.session.user; a != nil && !q.session.db.host.WholeTransactions() {
		if _, err := a.Gate(engine.Op{Text: "… its next statement", Foot: q.foot()}); err != nil {
			return err
		}
	}
	q.snap()
	return nil
}

func (q *Query) foot() (f engine.Footprint) {
	for _, table := range q.statement.Reads {
		f.Reads |= q.session.data(table)
	}
	for _, table := range q.statement.Writes {
		f.Reads |= q.session.data(table)
		f.Writes |= q.session.locks(table) | q.session.data(table)
	}
	return f
}

// Return adds a row to what the statement returns.
func (q *Query) Return(values ...any) { q.out = append(q.out, values) }

func (q *Query) table(name string, write bool) *modelTable {
	if !slices.Contains(q.statement.Writes, name) && (write || !slices.Contains(q.statement.Reads, name)) {
		panic(fmt.Sprintf("harness: the statement %q must name %s among its tables", engine.Clip(q.statement.SQL, 60), name))
	}
	t, ok := q.session.db.model.tables[name]
	if !ok {
		panic(fmt.Sprintf("harness: there is no table %s", name))
	}
	return t
}

// visible is the version that the statement's snapshot shows, or nil.
func (q *Query) visible(r *modelRow) *version {
	if r.holder == q.session.tx {
		for i := len(r.pending) - 1; i >= 0; i-- {
			if r.pending[i].seq < q.session.tx.command {
				return present(&r.pending[i])
			}
		}
	}
	for i := len(r.versions) - 1; i >= 0; i-- {
		if r.versions[i].seq <= q.at {
			return present(&r.versions[i])
		}
	}
	return nil
}

func present(v *version) *version {
	if v.deleted {
		return nil
	}
	return v
}

// Select returns the rows that the snapshot shows and that match; nil matches
// all.
func (q *Query) Select(table string, match func(Row) bool) (rows []Row) {
	for _, r := range q.table(table, false).rows {
		if v := q.visible(r); v != nil && (match == nil || match(v.values)) {
			rows = append(rows, v.values)
		}
	}
	return rows
}

// Count returns how many rows the snapshot shows that match.
func (q *Query) Count(table string, match func(Row) bool) (n int64) {
	for _, r := range q.table(table, false).rows {
		if v := q.visible(r); v != nil && (match == nil || match(v.values)) {
			n++
		}
	}
	return n
}

// Locking is what a statement does about a row that another has locked.
type Locking int

// Ways to lock.
const (
	Wait       Locking = iota
	SkipLocked         // leave the row out
)

// each locks the rows that the snapshot shows and that match, one after the
// other, and calls do with each as it is now: after a wait the row is looked
// at again, alone.
func (q *Query) each(table string, how Locking, match func(Row) bool, do func(r *modelRow, now Row)) error {
	t := q.table(table, true)
	for _, r := range slices.Clone(t.rows) {
		seen := q.visible(r)
		if seen == nil || match != nil && !match(seen.values) {
			continue
		}
		tx := q.session.tx
		if r.holder != nil && r.holder != tx {
			if how == SkipLocked {
				continue
			}
			if err := q.queue(r); err != nil {
				return err
			}
		}
		if r.holder != tx { // another may have changed it since the snapshot
			now := r.latest()
			if now.deleted {
				continue
			}
			if now.seq > q.at {
				if match != nil && !match(now.values) {
					tx.take(r) // it stays locked all the same
					continue
				}
			}
			tx.take(r)
			do(r, now.values)
			continue
		}
		do(r, seen.values)
	}
	return nil
}

func (tx *modelTx) take(r *modelRow) {
	if r.holder == nil {
		r.holder = tx
		tx.touched = append(tx.touched, r)
	}
}

// queue waits for a row, in the order of asking.
func (q *Query) queue(r *modelRow) error {
	tx := q.session.tx
	r.queue = append(r.queue, tx)
	err := q.wait(func() *modelTx {
		if r.queue[0] != tx {
			return r.queue[0]
		}
		if r.holder != tx {
			return r.holder
		}
		return nil
	})
	r.queue = slices.DeleteFunc(r.queue, func(o *modelTx) bool { return o == tx })
	return err
}

// wait parks the statement until no other is in its way. Where that would never
// be, PostgreSQL ends one of those who wait: here the one who closes the
// circle.
func (q *Query) wait(blocker func() *modelTx) error {
	tx := q.session.tx
	for blocker() != nil {
		tx.waits = blocker
		for o, n := blocker(), 0; o != nil; n++ {
			if o == tx {
				tx.waits = nil
				return &SQLState{"40P01", "deadlock detected"}
			}
			if o.waits == nil || n > len(q.session.db.opened) {
				break
			}
			o = o.waits()
		}
		a := q.session.user
		if a == nil {
			panic("harness: a statement outside of an actor has to wait for one")
		}
		a.Tell("waits for " + blocker().session.who())
		_, err := a.Gate(engine.Op{
			Text: "… goes on", Foot: q.foot(),
			Ready:  func() bool { return blocker() == nil },
			Blames: func() string { return blocker().session.who() },
		})
		tx.waits = nil
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) who() string {
	if s.user == nil {
		return "the scenario"
	}
	return s.user.Name()
}

// ForUpdate is select … for update.
func (q *Query) ForUpdate(table string, how Locking, match func(Row) bool) (rows []Row, err error) {
	err = q.each(table, how, match, func(_ *modelRow, now Row) { rows = append(rows, now) })
	return rows, err
}

// Update is update … set … where match, and returns the new rows.
func (q *Query) Update(table string, match func(Row) bool, set func(Row) Row) (rows []Row, err error) {
	err = q.each(table, Wait, match, func(r *modelRow, now Row) {
		next := set(slices.Clone(now))
		r.pending = append(r.pending, version{seq: q.session.tx.command, values: next})
		rows = append(rows, next)
	})
	return rows, err
}

// Delete is delete … where match, and returns the rows that are gone.
func (q *Query) Delete(table string, match func(Row) bool) (rows []Row, err error) {
	err = q.each(table, Wait, match, func(r *modelRow, now Row) {
		r.pending = append(r.pending, version{seq: q.session.tx.command, deleted: true, values: now})
		rows = append(rows, now)
	})
	return rows, err
}

// Conflict says what an insert does about a key that is there already.
type Conflict struct {
	DoNothing bool
	DoUpdate  func(there Row) Row
}

// Insert is insert … on conflict, and returns the row that it left, or nil for
// DoNothing. Without a conflict clause a key that is there is 23505.
func (q *Query) Insert(table string, row Row, conflict Conflict) (Row, error) {
	t := q.table(table, true)
	tx := q.session.tx
	for {
		var r *modelRow
		if t.Key > 0 {
			r = t.byKey[t.key(row)]
		}
		if r == nil {
			r = &modelRow{table: t}
			t.add(row, r)
		}
		// Whose insert, update or delete of that key hasn't ended is waited for.
		if r.holder != nil && r.holder != tx && len(r.pending) > 0 {
			if err := q.wait(func() *modelTx {
				if r.holder != nil && r.holder != tx && len(r.pending) > 0 {
					return r.holder
				}
				return nil
			}); err != nil {
				return nil, err
			}
			continue
		}
		live := r.live()
		if r.holder == tx && len(r.pending) > 0 {
			live = !r.pending[len(r.pending)-1].deleted
		}
		switch {
		case !live:
			tx.take(r)
			r.pending = append(r.pending, version{seq: tx.command, values: slices.Clone(row)})
			return row, nil
		case conflict.DoNothing:
			return nil, nil
		case conflict.DoUpdate == nil:
			return nil, &SQLState{"23505", "duplicate key value violates unique constraint of " + table}
		}
		if r.holder != nil && r.holder != tx { // locked, not changed
			if err := q.queue(r); err != nil {
				return nil, err
			}
			continue
		}
		var now Row
		if r.holder == tx && len(r.pending) > 0 {
			now = r.pending[len(r.pending)-1].values
		} else {
			now = r.latest().values
		}
		tx.take(r)
		next := conflict.DoUpdate(slices.Clone(now))
		r.pending = append(r.pending, version{seq: tx.command, values: next})
		return next, nil
	}
}

// Advisory is pg_advisory_xact_lock.
func (q *Query) Advisory(key int64) error {
	if len(q.statement.Writes) == 0 {
		panic(fmt.Sprintf("harness: the statement %q takes an advisory lock, and must name a table for it in Writes", engine.Clip(q.statement.SQL, 60)))
	}
	m, tx := q.session.db.model, q.session.tx
	if m.locks == nil {
		m.locks = map[int64]*advisory{}
	}
	l, ok := m.locks[key]
	if !ok {
		l = &advisory{}
		m.locks[key] = l
	}
	err := q.wait(func() *modelTx {
		if l.holder != tx {
			return l.holder
		}
		return nil
	})
	if err != nil {
		return err
	}
	if l.holder == nil {
		l.holder = tx
		tx.advisory = append(tx.advisory, l)
	}
	return nil
}
