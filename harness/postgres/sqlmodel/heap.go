package sqlmodel

import "slices"

// A lockMode is the strength of a lock on a row.
type lockMode uint8

const (
	lockNone lockMode = iota
	lockKeyShare
	lockShare
	lockNoKeyUpdate
	lockUpdate
)

// conflicts is PostgreSQL's table of row-level locks.
func (m lockMode) conflicts(o lockMode) bool {
	if m > o {
		m, o = o, m
	}
	switch m {
	case lockNone:
		return false
	case lockKeyShare:
		return o == lockUpdate
	case lockShare:
		return o >= lockNoKeyUpdate
	}
	return true
}

// A waitPolicy says what a statement does about a row that another has locked.
type waitPolicy uint8

const (
	waitFor waitPolicy = iota
	skipLocked
	noWait
)

type txState uint8

const (
	running txState = iota
	committed
	aborted
)

// A tx is a transaction, or the part of one since a savepoint.
type tx struct {
	parent  *tx
	session *session
	state   txState // of a part: aborted, or that of its parent
	seq     int     // of the commit
}

func (t *tx) top() *tx {
	for t.parent != nil {
		t = t.parent
	}
	return t
}

// status is what has become of a transaction.
func (t *tx) status() txState {
	for t.parent != nil {
		if t.state == aborted {
			return aborted
		}
		t = t.parent
	}
	return t.state
}

// A version is one state of a row, as a tuple of a heap is.
type version struct {
	row     *row
	values  []any
	min     *tx // which made it, in this command
	cmin    int
	max     *tx // which replaced or deleted it, or nil
	cmax    int
	mode    lockMode // of that
	next    *version // what replaced it; nil where it was deleted
	entered int      // how many unique indexes it is in already
	queue   []*turn  // those who wait for it, the first to ask first
}

// A row is the identity that the versions of a row share, and its locks.
type row struct{ locks []rowLock }

type rowLock struct {
	tx   *tx
	mode lockMode
}

// A turn is a place in the queue of a version.
type turn struct {
	tx   *tx
	mode lockMode
}

// A state is what a database holds in one schedule.
type state struct {
	cat      *catalog
	heaps    [][]*version // by the number of the table, in the order of insertion
	seqs     []sequence
	seq      int // of the last commit
	advisory map[advisoryKey]*advisoryLock
	drawn    int // random values
}

type sequence struct {
	last   int64
	called bool
}

type advisoryKey struct {
	class, id int64
	two       bool
}

// An advisoryLock is held by sessions, whose transaction ends or not.
type advisoryLock struct {
	holder    *session
	bySession int
	byTx      []*tx
	queue     []*session // those who wait, the first to ask first
}

// base made all that the schema's text has left.
var base = &tx{state: committed}

// newState returns a database with these rows of the tables.
func newState(cat *catalog, rows [][][]any, seqs []sequence) *state {
	st := &state{cat: cat, heaps: make([][]*version, len(cat.list)), seqs: slices.Clone(seqs), advisory: map[advisoryKey]*advisoryLock{}}
	for i, list := range rows {
		all := make([]version, len(list))
		ids := make([]row, len(list))
		heap := make([]*version, len(list))
		for j, values := range list {
			all[j] = version{row: &ids[j], values: values, min: base, entered: len(cat.list[i].indexes)}
			heap[j] = &all[j]
		}
		st.heaps[i] = heap
	}
	return st
}

// contents returns what is committed, table by table, in the order of the heap.
func (st *state) contents() [][][]any {
	all := make([][][]any, len(st.heaps))
	for i, heap := range st.heaps {
		for _, v := range heap {
			if v.min.status() == committed && (v.max == nil || v.max.status() != committed) {
				all[i] = append(all[i], v.values)
			}
		}
	}
	return all
}

// visible reports whether the statement's snapshot shows a version.
func (x *exec) visible(v *version) bool {
	return x.sees(v.min, v.cmin) && (v.max == nil || !x.sees(v.max, v.cmax))
}

// sees reports whether the snapshot has what a transaction did in a command.
func (x *exec) sees(t *tx, command int) bool {
	switch t.status() {
	case committed:
		return t.top().seq <= x.snap
	case running:
		return t.top() == x.s.top && command < x.cid
	}
	return false
}

// others reports whether a transaction is another's that runs.
func (x *exec) others(t *tx) bool { return t != nil && t.status() == running && t.top() != x.s.top }

// holders are those for whom a lock of this strength on a version has to wait:
// those before it in the queue, or else those who have locked the row.
func (x *exec) holders(v *version, mode lockMode, own *turn) (list []*tx) {
	if v.max != nil && v.max.status() == committed {
		return nil // it is looked at again
	}
	for _, t := range v.queue {
		if own == nil || t == own {
			break
		}
		if t.mode.conflicts(mode) {
			list = append(list, t.tx)
		}
	}
	if list != nil {
		return list
	}
	if x.others(v.max) && mode.conflicts(v.mode) {
		list = append(list, v.max.top())
	}
	for _, l := range v.row.locks {
		if x.others(l.tx) && mode.conflicts(l.mode) && !slices.Contains(list, l.tx.top()) {
			list = append(list, l.tx.top())
		}
	}
	return list
}

// A found says what a statement has of the row that it wanted to lock.
type found uint8

const (
	asSeen  found = iota
	changed       // by a transaction that has committed meanwhile
	gone          // deleted by one
	skipped       // locked by one
	itsOwn        // replaced by this statement itself
)

// lock locks a row of which the statement has seen this version, and returns
// the version that is current now.
func (x *exec) lock(v *version, mode lockMode, policy waitPolicy, table *table) (*version, found, error) {
	what := asSeen
	for {
		if mode == lockKeyShare && v.max != nil && v.mode < lockUpdate && v.max.status() != aborted && v.max.top() != x.s.top {
			ok, err := x.follow(v)
			if err != nil {
				return nil, gone, err
			}
			if ok {
				v.row.hold(x.s.current, mode)
				return v, what, nil
			}
		}
		if t := v.max; t != nil && t.status() != aborted {
			switch {
			case t.top() == x.s.top:
				return v, itsOwn, nil
			case t.status() == committed:
				deed := "update"
				if v.next == nil {
					deed = "delete"
				}
				if x.s.repeatable {
					return nil, gone, stateError("40001", "could not serialize access due to concurrent "+deed)
				}
				if v.next == nil {
					return nil, gone, nil
				}
				v, what = v.next, changed
				continue
			}
		}
		if len(x.holders(v, mode, nil)) == 0 {
			v.row.hold(x.s.current, mode)
			return v, what, nil
		}
		switch policy {
		case skipLocked:
			return nil, skipped, nil
		case noWait:
			return nil, skipped, stateError("55P03", `could not obtain lock on row in relation "`+table.name+`"`)
		}
		if err := x.queue(v, mode); err != nil {
			return nil, gone, err
		}
	}
}

// follow looks through what an update has made of a version whose key it left
// alone: that is no hindrance to a lock of the key, even where it has committed,
// and the row is not looked at again. It waits for the locks of later versions,
// even where the statement skips those that are locked. Not ok says that one of
// them has another key, or is gone.
func (x *exec) follow(v *version) (bool, error) {
	for w := v.next; w != nil; {
		if w.max != nil && w.max.status() == committed && w.mode == lockUpdate {
			return false, nil
		}
		if list := x.holders(w, lockKeyShare, nil); len(list) > 0 {
			if err := x.s.wait(func() []*tx { return x.holders(w, lockKeyShare, nil) }); err != nil {
				return false, err
			}
			continue
		}
		if w.max == nil || w.max.status() == aborted {
			return true, nil
		}
		w = w.next
	}
	return true, nil
}

// queue waits for a version, in the order of asking.
func (x *exec) queue(v *version, mode lockMode) error {
	own := &turn{x.s.top, mode}
	v.queue = append(v.queue, own)
	err := x.s.wait(func() []*tx { return x.holders(v, mode, own) })
	v.queue = slices.DeleteFunc(v.queue, func(t *turn) bool { return t == own })
	return err
}

// hold notes a lock, and forgets those that are over.
func (r *row) hold(t *tx, mode lockMode) {
	r.locks = slices.DeleteFunc(r.locks, func(l rowLock) bool { return l.tx.status() != running })
	for _, l := range r.locks {
		if l.tx == t && l.mode >= mode {
			return
		}
	}
	r.locks = append(r.locks, rowLock{t, mode})
}

// put adds the first version of a row to a table.
func (x *exec) put(t *table, values []any) *version {
	v := &version{row: &row{}, values: values, min: x.s.current, cmin: x.cid}
	x.s.st.heaps[t.id] = append(x.s.st.heaps[t.id], v)
	return v
}

// replace makes a new version, or a deletion where values is nil, of one that
// the statement has locked.
func (x *exec) replace(t *table, v *version, values []any, mode lockMode) *version {
	for _, l := range v.row.locks { // what it had locked stays as strong
		if l.tx.status() == running && l.tx.top() == x.s.top {
			mode = max(mode, l.mode)
		}
	}
	v.max, v.cmax, v.mode, v.next = x.s.current, x.cid, mode, nil
	if values == nil {
		return nil
	}
	v.next = &version{row: v.row, values: values, min: x.s.current, cmin: x.cid}
	x.s.st.heaps[t.id] = append(x.s.st.heaps[t.id], v.next)
	return v.next
}
