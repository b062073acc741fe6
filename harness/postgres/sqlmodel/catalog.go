package sqlmodel

import (
	"fmt"
	"slices"
	"strings"
)

// A catalog is the schema.
type catalog struct {
	tables    map[string]*table
	list      []*table
	sequences map[string]int
	seqs      []sequenceDef
	indexes   map[string]bool // the names of indexes, unique or not
}

type sequenceDef struct {
	name        string
	start, step int64
}

type table struct {
	id      int
	name    string
	columns []column
	indexes []*index // the unique ones
	checks  []check
	refs    []*reference // to others
	back    []*reference // from others
	keys    map[int]bool // columns that a foreign key may refer to
	primary []int
}

type column struct {
	name     string
	t        typ
	notNull  bool
	fallback *ex // default
	sequence int // of serial and identity, or -1
	always   bool
}

// An index is a unique one: of columns, or of expressions.
type index struct {
	name    string
	columns []int // nil where there are expressions
	keys    []*ex
	written []expr // the keys
	where   *ex
	only    expr // where, as it is written
	primary bool
}

type check struct {
	name string
	x    *ex
}

// A reference is a foreign key.
type reference struct {
	name               string
	from, to           *table
	columns, target    []int
	onDelete, onUpdate string
}

func (t *table) column(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
}

func (t *table) mustColumn(name string) (int, error) {
	if i := t.column(name); i >= 0 {
		return i, nil
	}
	return 0, stateError("42703", fmt.Sprintf("column %q of relation %q does not exist", name, t.name))
}

func newCatalog() *catalog {
	return &catalog{tables: map[string]*table{}, sequences: map[string]int{}, indexes: map[string]bool{}}
}

// define carries out a statement of the schema.
func (cat *catalog) define(s stmt) error {
	switch s := s.(type) {
	case *createTable:
		return cat.createTable(s)
	case *createIndex:
		return cat.createIndex(s)
	case *createSequence:
		if _, ok := cat.sequences[s.name]; ok {
			if s.ifNotExists {
				return nil
			}
			return stateError("42P07", fmt.Sprintf("relation %q already exists", s.name))
		}
		cat.addSequence(s.name, s.start, s.step)
		return nil
	case *alterTable:
		t, err := cat.table(s.table)
		if err != nil {
			return err
		}
		for _, c := range s.constraints {
			if err := cat.constrain(t, c); err != nil {
				return err
			}
		}
		return nil
	}
	return refuse("this statement in a schema")
}

func (cat *catalog) addSequence(name string, start, step int64) int {
	cat.sequences[name] = len(cat.seqs)
	cat.seqs = append(cat.seqs, sequenceDef{name, start, step})
	return len(cat.seqs) - 1
}

func (cat *catalog) table(name string) (*table, error) {
	if t, ok := cat.tables[name]; ok {
		return t, nil
	}
	if strings.HasPrefix(name, "pg_") {
		return nil, refuse("the catalog, such as %s", name)
	}
	return nil, stateError("42P01", fmt.Sprintf("relation %q does not exist", name))
}

func (cat *catalog) createTable(c *createTable) error {
	if _, ok := cat.tables[c.name]; ok {
		if c.ifNotExists {
			return nil
		}
		return stateError("42P07", fmt.Sprintf("relation %q already exists", c.name))
	}
	t := &table{id: len(cat.list), name: c.name, keys: map[int]bool{}}
	for _, d := range c.columns {
		if t.column(d.name) >= 0 {
			return stateError("42701", fmt.Sprintf("column %q specified more than once", d.name))
		}
		col := column{name: d.name, t: d.t, notNull: d.notNull, sequence: -1, always: d.identity == "always"}
		if d.serial || d.identity != "" {
			col.sequence = cat.addSequence(c.name+"_"+d.name+"_seq", 1, 1)
		}
		t.columns = append(t.columns, col)
	}
	for i, d := range c.columns {
		if d.fallback == nil {
			continue
		}
		if _, ok := d.fallback.(eNull); ok {
			continue
		}
		x, err := compileAlone(cat, nil, d.fallback, d.t)
		if err != nil {
			return err
		}
		t.columns[i].fallback = x
	}
	cat.tables[c.name] = t
	cat.list = append(cat.list, t)
	for _, k := range c.constraints {
		if err := cat.constrain(t, k); err != nil {
			return err
		}
	}
	return nil
}

func (cat *catalog) constrain(t *table, k constraintDef) error {
	columns := make([]int, len(k.columns))
	for i, n := range k.columns {
		c, err := t.mustColumn(n)
		if err != nil {
			return err
		}
		columns[i] = c
	}
	switch k.kind {
	case "check":
		x, err := compileAlone(cat, t, k.check, typ{k: kBool})
		if err != nil {
			return err
		}
		name := k.name
		if name == "" {
			name = t.name + "_" + strings.Join(append(slices.Clone(k.columns), "check"), "_")
			for n := 1; slices.ContainsFunc(t.checks, func(c check) bool { return c.name == name }); n++ {
				name = fmt.Sprintf("%s_check%d", t.name, n)
			}
		}
		t.checks = append(t.checks, check{name, x})
		slices.SortFunc(t.checks, func(a, b check) int { return strings.Compare(a.name, b.name) }) // as they are tried
		return nil
	case "foreign key":
		return cat.refer(t, k, columns)
	}
	x := &index{name: k.name, columns: columns, primary: k.kind == "primary key"}
	for _, c := range columns {
		x.written = append(x.written, eColumn{"", t.columns[c].name})
		x.keys = append(x.keys, columnKey(t, c))
	}
	if x.primary {
		if t.primary != nil {
			return stateError("42P16", fmt.Sprintf("multiple primary keys for table %q are not allowed", t.name))
		}
		t.primary = columns
		for _, c := range columns {
			t.columns[c].notNull = true
		}
		if x.name == "" {
			x.name = t.name + "_pkey"
		}
	}
	if x.name == "" {
		x.name = t.name + "_" + strings.Join(k.columns, "_") + "_key"
	}
	return cat.addIndex(t, x)
}

func columnKey(t *table, c int) *ex {
	return &ex{t: t.columns[c].t, f: func(e *env) (any, error) { return e.rows[0][c], nil }}
}

// addIndex adds a unique index to a table.
func (cat *catalog) addIndex(t *table, x *index) error {
	if cat.indexes[x.name] {
		return stateError("42P07", fmt.Sprintf("relation %q already exists", x.name))
	}
	cat.indexes[x.name] = true
	t.indexes = append(t.indexes, x)
	if x.columns != nil && x.where == nil {
		for _, c := range x.columns {
			t.keys[c] = true
		}
	}
	return nil
}

func (cat *catalog) createIndex(c *createIndex) error {
	t, err := cat.table(c.table)
	if err != nil {
		return err
	}
	if c.ifNotExists && cat.indexes[c.name] {
		return nil
	}
	x := &index{name: c.name, written: c.keys, only: c.where}
	for _, k := range c.keys {
		key, err := compileAlone(cat, t, k, typ{})
		if err != nil {
			return err
		}
		x.keys = append(x.keys, key)
		if col, ok := k.(eColumn); ok && len(x.columns) == len(x.keys)-1 {
			x.columns = append(x.columns, t.column(col.name))
		}
	}
	if len(x.columns) < len(x.keys) {
		x.columns = nil
	}
	if c.where != nil {
		if x.where, err = compileAlone(cat, t, c.where, typ{k: kBool}); err != nil {
			return err
		}
	}
	if x.name == "" {
		x.name = fmt.Sprintf("%s_%d_idx", t.name, len(cat.indexes))
	}
	if !c.unique { // it changes no answer
		cat.indexes[x.name] = true
		return nil
	}
	return cat.addIndex(t, x)
}

func (cat *catalog) refer(t *table, k constraintDef, columns []int) error {
	to, err := cat.table(k.ref)
	if err != nil {
		return err
	}
	r := &reference{name: k.name, from: t, to: to, columns: columns, onDelete: k.onDelete, onUpdate: k.onUpdate}
	if r.name == "" {
		r.name = t.name + "_" + strings.Join(k.columns, "_") + "_fkey"
	}
	r.target = to.primary
	if k.refColumns != nil {
		r.target = nil
		for _, n := range k.refColumns {
			c, err := to.mustColumn(n)
			if err != nil {
				return err
			}
			r.target = append(r.target, c)
		}
	}
	unique := slices.ContainsFunc(to.indexes, func(x *index) bool {
		return x.where == nil && x.columns != nil && len(x.columns) == len(r.target) && !slices.ContainsFunc(r.target, func(c int) bool { return !slices.Contains(x.columns, c) })
	})
	if !unique || len(r.target) != len(columns) {
		return stateError("42830", fmt.Sprintf("there is no unique constraint matching given keys for referenced table %q", to.name))
	}
	for i, c := range columns {
		a, b := t.columns[c].t, to.columns[r.target[i]].t
		if alike := a.isInt() && b.isInt() || a.isText() && b.isText() || a.k == b.k; !alike {
			return refuse("a foreign key from %s to %s", a, b)
		}
	}
	t.refs, to.back = append(t.refs, r), append(to.back, r)
	return nil
}
