package sqlmodel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// An exec is one statement under way, or what a foreign key does behind it.
type exec struct {
	s      *session
	args   []any
	snap   int // the commits that it sees
	cid    int // the commands of its own transaction that it doesn't
	subs   map[*subPlan]*subResult
	ctes   map[*ctePlan][][]any
	events []event
	looked int // the rows that it has read
}

// An event is what the foreign keys have to look at when the statement is done.
type event struct {
	table    *table
	old, now []any
}

// An env is the rows to which an expression refers.
type env struct {
	rows   [][]any
	from   []*version
	aggs   []any
	up     *env
	x      *exec
	before *env // the rows as they were first seen, where one is looked at again
}

func constraintError(code string, t *table, name, message string) *pgconn.PgError {
	e := stateError(code, message)
	e.SchemaName, e.TableName, e.ConstraintName = "public", t.name, name
	return e
}

// checkRow looks at what a row must be by itself.
func (x *exec) checkRow(t *table, values []any) error {
	for i, c := range t.columns {
		if c.notNull && values[i] == nil {
			e := stateError("23502", fmt.Sprintf("null value in column %q of relation %q violates not-null constraint", c.name, t.name))
			e.SchemaName, e.TableName, e.ColumnName = "public", t.name, c.name
			return e
		}
	}
	if len(t.checks) == 0 {
		return nil
	}
	e := &env{rows: [][]any{values}, x: x}
	for _, c := range t.checks {
		v, err := c.x.f(e)
		if err != nil {
			return err
		}
		if v == false {
			return constraintError("23514", t, c.name, fmt.Sprintf("new row for relation %q violates check constraint %q", t.name, c.name))
		}
	}
	return nil
}

// keyOf is what a unique index has of a row: not ok where it has nothing.
func (x *exec) keyOf(ix *index, values []any) (k []any, ok bool, err error) {
	e := &env{rows: [][]any{values}, x: x}
	if ix.where != nil {
		if v, err := ix.where.f(e); err != nil || v != true {
			return nil, false, err
		}
	}
	for _, key := range ix.keys {
		v, err := key.f(e)
		if err != nil || v == nil {
			return nil, false, err
		}
		k = append(k, v)
	}
	return k, true, nil
}

func sameKey(a, b []any) bool {
	for i := range a {
		if !same(a[i], b[i]) {
			return false
		}
	}
	return true
}

// conflict returns the row that has the key already. It waits for transactions
// that have it and have not ended.
func (x *exec) conflict(t *table, n int, values []any, except *row) (*version, error) {
	ix := t.indexes[n]
	k, ok, err := x.keyOf(ix, values)
	if err != nil || !ok {
		return nil, err
	}
	for {
		there, wait, err := x.occupant(t, n, k, except)
		if err != nil || wait == nil {
			return there, err
		}
		if err := x.s.wait(func() []*tx {
			if x.others(wait) {
				return []*tx{wait.top()}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
}

// occupant looks for the key once: whose row has it, or whose end decides that.
func (x *exec) occupant(t *table, n int, k []any, except *row) (there *version, wait *tx, err error) {
	for _, v := range x.s.st.heaps[t.id] {
		if v.entered <= n || v.row == except || v.min.status() == aborted {
			continue
		}
		dead := v.max != nil && v.max.status() != aborted && !x.others(v.max)
		if dead {
			continue
		}
		other, ok, err := x.keyOf(t.indexes[n], v.values)
		if err != nil {
			return nil, nil, err
		}
		if !ok || !sameKey(k, other) {
			continue
		}
		switch {
		case x.others(v.min):
			return nil, v.min, nil
		case x.others(v.max):
			return nil, v.max, nil
		}
		return v, nil, nil
	}
	return nil, nil, nil
}

// enter puts a version into the unique indexes of its table, one after the other.
func (x *exec) enter(t *table, v *version, old []any) error {
	for n, ix := range t.indexes {
		if old != nil {
			was, had, err := x.keyOf(ix, old)
			if err != nil {
				return err
			}
			is, has, err := x.keyOf(ix, v.values)
			if err != nil {
				return err
			}
			if !has || had && sameKey(was, is) {
				v.entered = n + 1
				continue
			}
		}
		there, err := x.conflict(t, n, v.values, v.row)
		if err != nil {
			return err
		}
		if there != nil {
			return constraintError("23505", t, ix.name, fmt.Sprintf("duplicate key value violates unique constraint %q", ix.name))
		}
		v.entered = n + 1
	}
	return nil
}

// insert adds a row.
func (x *exec) insert(t *table, values []any) (*version, error) {
	v := x.put(t, values)
	if err := x.enter(t, v, nil); err != nil {
		return nil, err
	}
	x.happened(t, nil, values)
	return v, nil
}

// change replaces a version that is locked.
func (x *exec) change(t *table, v *version, values []any) error {
	now := x.replace(t, v, values, x.strength(t, v.values, values))
	if err := x.enter(t, now, v.values); err != nil {
		return err
	}
	x.happened(t, v.values, values)
	return nil
}

// erase deletes a version that is locked.
func (x *exec) erase(t *table, v *version) {
	x.replace(t, v, nil, lockUpdate)
	x.happened(t, v.values, nil)
}

func (x *exec) happened(t *table, old, now []any) {
	if len(t.refs) > 0 && now != nil || len(t.back) > 0 && old != nil {
		x.events = append(x.events, event{t, old, now})
	}
}

// strength is the lock of an update, by what it changes.
func (x *exec) strength(t *table, old, now []any) lockMode {
	for c := range t.keys {
		if !same(old[c], now[c]) {
			return lockUpdate
		}
	}
	return lockNoKeyUpdate
}

// after is what the foreign keys do when the statement is done.
func (x *exec) after() error {
	for len(x.events) > 0 {
		e := x.events[0]
		x.events = x.events[1:]
		if e.old != nil {
			for _, r := range e.table.back {
				if err := x.parentChanged(r, e); err != nil {
					return err
				}
			}
		}
		if e.now == nil {
			continue
		}
		for _, r := range e.table.refs {
			if err := x.childChanged(r, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func pick(values []any, columns []int) []any {
	k := make([]any, len(columns))
	for i, c := range columns {
		k[i] = values[c]
	}
	return k
}

// childChanged looks for the row to which another refers, and locks it.
func (x *exec) childChanged(r *reference, e event) error {
	k := pick(e.now, r.columns)
	if slices.Contains(k, nil) || e.old != nil && sameKey(pick(e.old, r.columns), k) {
		return nil
	}
	q := x.s.newExec(nil)
	found, err := q.each(r.to, lockKeyShare, func(values []any) bool { return sameKey(pick(values, r.target), k) }, nil)
	if err != nil {
		return err
	}
	if !found {
		return constraintError("23503", r.from, r.name, fmt.Sprintf("insert or update on table %q violates foreign key constraint %q", r.from.name, r.name))
	}
	return nil
}

// each locks the rows that match, one after the other, and does something with
// each as it is then. Where there is nothing to do, one row is enough.
func (x *exec) each(t *table, mode lockMode, match func([]any) bool, do func(*version) error) (some bool, err error) {
	for _, v := range slices.Clone(x.s.st.heaps[t.id]) {
		if !x.visible(v) || !match(v.values) {
			continue
		}
		now, what, err := x.lock(v, mode, waitFor, t)
		if err != nil {
			return false, err
		}
		if what == gone || what == itsOwn || what == changed && !match(now.values) {
			continue
		}
		if some = true; do == nil {
			break
		}
		if err := do(now); err != nil {
			return false, err
		}
	}
	return some, nil
}

// parentChanged does what a foreign key says of the rows that refer to one
// which is gone, or has another key.
func (x *exec) parentChanged(r *reference, e event) error {
	old := pick(e.old, r.target)
	if slices.Contains(old, nil) || e.now != nil && sameKey(old, pick(e.now, r.target)) {
		return nil
	}
	q := x.s.newExec(nil)
	if x.s.repeatable {
		return refuse("a change of a key to which foreign keys refer, at repeatable read")
	}
	refers := func(values []any) bool {
		return sameKey(pick(values, r.columns), old) && !slices.Contains(pick(values, r.columns), nil)
	}
	action := r.onDelete
	if e.now != nil {
		action = r.onUpdate
	}
	var err error
	switch action {
	case "cascade", "set null":
		mode := lockUpdate
		if e.now != nil || action == "set null" {
			mode = lockNoKeyUpdate
			if slices.ContainsFunc(r.columns, func(c int) bool { return r.from.keys[c] }) {
				mode = lockUpdate
			}
		}
		_, err = q.each(r.from, mode, refers, func(v *version) error { return q.act(r, v, action, e.now) })
	default:
		if action == "" {
			there, err := q.each(r.to, lockKeyShare, func(values []any) bool { return sameKey(pick(values, r.target), old) }, nil)
			if err != nil || there {
				return err
			}
			q = x.s.newExec(nil)
		}
		var found bool
		if found, err = q.each(r.from, lockKeyShare, refers, nil); found {
			err = constraintError("23503", r.from, r.name, fmt.Sprintf("update or delete on table %q violates foreign key constraint %q on table %q", r.to.name, r.name, r.from.name))
		}
	}
	x.events = append(x.events, q.events...)
	return err
}

// act changes one row that refers.
func (x *exec) act(r *reference, v *version, action string, parent []any) error {
	if action == "cascade" && parent == nil {
		x.erase(r.from, v)
		return nil
	}
	values := slices.Clone(v.values)
	for i, c := range r.columns {
		if values[c] = nil; action == "cascade" {
			values[c] = parent[r.target[i]]
		}
	}
	if err := x.checkRow(r.from, values); err != nil {
		return err
	}
	return x.change(r.from, v, values)
}

func upper(s string) string { return strings.ToUpper(s) }
