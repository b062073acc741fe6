package sqlmodel

import (
	"reflect"
	"slices"
)

// An assignment is a column and what it becomes.
type assignment struct {
	column int
	x      *ex
}

// changes notes what a statement that writes a table has to do with.
func (c *compiler) changes(t *table) {
	if slices.Contains(c.writes, t) {
		return
	}
	c.writes = append(c.writes, t)
	for _, r := range t.refs {
		c.locks = add(c.locks, r.to)
	}
	for _, r := range t.back {
		if r.onDelete == "cascade" || r.onDelete == "set null" || r.onUpdate == "cascade" || r.onUpdate == "set null" {
			c.changes(r.from)
		} else {
			c.locks = add(c.locks, r.from)
		}
	}
}

// fallback is the default of a column.
func (c *compiler) fallback(t *table, i int) *ex {
	col := t.columns[i]
	switch {
	case col.sequence >= 0:
		c.draws = true
		return &ex{t: typ{k: kInt8}, f: func(e *env) (any, error) { return inRange(col.t, e.x.s.next(col.sequence)) }}
	case col.fallback != nil:
		c.draws = true // it may; that costs some orders that need not be tried
		return col.fallback
	}
	return &ex{t: col.t, f: func(*env) (any, error) { return nil, nil }}
}

// columnsOf are the columns of an insert.
func (c *compiler) columnsOf(t *table, names []string) (list []int) {
	if names == nil {
		for i := range t.columns {
			list = append(list, i)
		}
		return list
	}
	for _, n := range names {
		i, err := t.mustColumn(n)
		mustNot(err)
		if slices.Contains(list, i) {
			fail("42701", "column %q specified more than once", n)
		}
		list = append(list, i)
	}
	return list
}

// An insertPlan is an insert.
type insertPlan struct {
	table    *table
	rows     [][]*ex    // of values: one for each column
	query    *queryPlan // of a select
	columns  []int      // of that
	types    []*ex      // how its columns become those
	defaults []*ex      // of the other columns
	conflict *conflictPlan
	output
}

// An output is returning.
type output struct {
	names []string
	types []typ
	xs    []*ex
}

func (c *compiler) output(sc *scope, list []target) (o output) {
	list = c.expand(sc, list)
	o.names = titles(list)
	for _, t := range list {
		x := c.typed(c.expr(sc, t.x), typ{k: kText})
		o.xs, o.types = append(o.xs, x), append(o.types, x.t)
	}
	return o
}

func (o *output) of(e *env) ([]any, error) {
	out := make([]any, len(o.xs))
	for i, x := range o.xs {
		v, err := x.f(e)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// written makes a queryPlan of what returns rows and their number.
func (o *output) written(verb string, do func(x *exec) (rows [][]any, n int64, err error)) *queryPlan {
	q := &queryPlan{names: o.names, types: o.types}
	q.rows = func(x *exec, _ *env) ([][]any, error) {
		rows, _, err := do(x)
		return rows, err
	}
	q.run = func(x *exec) (*answer, error) {
		rows, n, err := do(x)
		return &answer{names: o.names, types: o.types, rows: rows, count: n, tag: verb}, err
	}
	return q
}

func (c *compiler) insert(s *insertStmt) *queryPlan {
	t, err := c.cat.table(s.table)
	mustNot(err)
	c.changes(t)
	p := &insertPlan{table: t, columns: c.columnsOf(t, s.columns)}
	p.defaults = make([]*ex, len(t.columns))
	for i := range t.columns {
		if s.source == nil || !slices.Contains(p.columns, i) {
			p.defaults[i] = c.fallback(t, i)
		}
	}
	switch src := s.source; {
	case src == nil:
		p.columns, p.rows = nil, [][]*ex{nil}
	case src.values != nil && src.order == nil && src.limit == nil && src.offset == nil && src.ctes == nil:
		c.insertValues(p, s)
	default:
		c.insertSelect(p, s)
	}
	alias := s.alias
	if alias == "" {
		alias = t.name
	}
	target := &relation{alias: alias, cols: t.columns, table: t}
	if s.conflict != nil {
		p.conflict = c.conflict(s.conflict, t, target)
	}
	p.output = c.output(&scope{rels: []*relation{target}}, s.returning)
	return p.written("INSERT", p.run)
}

func (c *compiler) tooMany(n int, p *insertPlan, named bool) {
	if n > len(p.columns) {
		fail("42601", "INSERT has more expressions than target columns")
	}
	if n < len(p.columns) {
		if named {
			fail("42601", "INSERT has more target columns than expressions")
		}
		for _, i := range p.columns[n:] {
			p.defaults[i] = c.fallback(p.table, i)
		}
		p.columns = p.columns[:n]
	}
}

func (c *compiler) insertValues(p *insertPlan, s *insertStmt) {
	n := len(s.source.values[0])
	c.tooMany(n, p, s.columns != nil)
	for _, row := range s.source.values {
		if len(row) != n {
			fail("42601", "VALUES lists must all be the same length")
		}
		list := make([]*ex, n)
		for j, x := range row {
			col := p.table.columns[p.columns[j]]
			if _, ok := x.(eDefault); ok {
				list[j] = c.fallback(p.table, p.columns[j])
				continue
			}
			if col.always && !s.overriding {
				fail("428C9", "cannot insert a non-DEFAULT value into column %q", col.name)
			}
			list[j] = c.assign(c.expr(&scope{}, x), col.t, "column \""+col.name+"\"")
		}
		p.rows = append(p.rows, list)
	}
}

func (c *compiler) insertSelect(p *insertPlan, s *insertStmt) {
	for _, i := range p.columns {
		c.want = append(c.want, p.table.columns[i].t)
	}
	p.query = c.selects(s.source, &scope{})
	c.want = nil
	c.tooMany(len(p.query.types), p, s.columns != nil)
	for j, i := range p.columns {
		col := p.table.columns[i]
		if col.always && !s.overriding {
			fail("428C9", "cannot insert a non-DEFAULT value into column %q", col.name)
		}
		if j < len(p.query.loose) && p.query.loose[j] && p.query.sel == nil && !col.t.isText() {
			mustNot(refuse("a constant without a type in this select: write its type behind it"))
		}
		x := &ex{t: p.query.types[j], f: func(e *env) (any, error) { return e.rows[0][j], nil }}
		p.types = append(p.types, c.assign(x, col.t, "column \""+col.name+"\""))
	}
}

// A conflictPlan is on conflict.
type conflictPlan struct {
	arbiters []int // the numbers of unique indexes
	update   bool
	sets     []assignment
	mode     lockMode
	filter   *ex
}

func (c *compiler) conflict(s *conflictClause, t *table, target *relation) *conflictPlan {
	p := &conflictPlan{update: s.update}
	for n, ix := range t.indexes {
		switch {
		case s.constraint != "":
			if ix.name != s.constraint || ix.where != nil || ix.columns == nil {
				continue
			}
		case s.columns != nil:
			if !sameKeys(s.columns, ix.written) || ix.only != nil && s.where == nil {
				continue
			}
			if ix.only != nil && !reflect.DeepEqual(ix.only, s.where) {
				mustNot(refuse("whether this where of on conflict is that of the index %s: write it the same way", ix.name))
			}
		}
		p.arbiters = append(p.arbiters, n)
	}
	switch {
	case s.constraint != "" && p.arbiters == nil:
		fail("42704", "constraint %q for table %q does not exist", s.constraint, t.name)
	case s.columns != nil && p.arbiters == nil:
		fail("42P10", "there is no unique or exclusion constraint matching the ON CONFLICT specification")
	case s.update && s.columns == nil && s.constraint == "":
		fail("42601", "ON CONFLICT DO UPDATE requires inference specification or constraint name")
	}
	if !s.update {
		return p
	}
	sc := &scope{rels: []*relation{target, {alias: "excluded", cols: t.columns}}}
	p.sets = c.assignments(t, sc, s.sets)
	p.mode = modeOf(t, p.sets)
	if s.filter != nil {
		p.filter = c.condition(sc, s.filter, "WHERE")
	}
	return p
}

func sameKeys(a, b []expr) bool {
	has := func(list []expr, x expr) bool {
		return slices.ContainsFunc(list, func(y expr) bool { return reflect.DeepEqual(x, y) })
	}
	for _, x := range a {
		if !has(b, x) {
			return false
		}
	}
	for _, x := range b {
		if !has(a, x) {
			return false
		}
	}
	return true
}

func (c *compiler) assignments(t *table, sc *scope, sets []setItem) (list []assignment) {
	for _, s := range sets {
		i, err := t.mustColumn(s.column)
		mustNot(err)
		if slices.ContainsFunc(list, func(a assignment) bool { return a.column == i }) {
			fail("42601", "multiple assignments to same column %q", s.column)
		}
		if _, ok := s.x.(eDefault); ok {
			list = append(list, assignment{i, c.fallback(t, i)})
			continue
		}
		if t.columns[i].always {
			fail("428C9", "column %q can only be updated to DEFAULT", s.column)
		}
		list = append(list, assignment{i, c.assign(c.expr(sc, s.x), t.columns[i].t, "column \""+s.column+"\"")})
	}
	return list
}

// modeOf is the lock of an update by the columns that it sets.
func modeOf(t *table, sets []assignment) lockMode {
	if slices.ContainsFunc(sets, func(a assignment) bool { return t.keys[a.column] }) {
		return lockUpdate
	}
	return lockNoKeyUpdate
}

// A changePlan is an update or a delete.
type changePlan struct {
	sel   *selectPlan // the rows, the first relation of which is the table's
	table *table
	sets  []assignment // nil of a delete
	mode  lockMode
	output
}

func (c *compiler) update(s *updateStmt) *queryPlan {
	p, sc := c.change(s.table, s.alias, s.from, s.where)
	p.sets = c.assignments(p.table, sc, s.sets)
	p.mode = modeOf(p.table, p.sets)
	p.output = c.output(sc, s.returning)
	return p.written("UPDATE", p.run)
}

func (c *compiler) delete(s *deleteStmt) *queryPlan {
	p, sc := c.change(s.table, s.alias, s.using, s.where)
	p.mode = lockUpdate
	p.output = c.output(sc, s.returning)
	return p.written("DELETE", p.run)
}

func (c *compiler) change(name, alias string, from []*fromItem, where expr) (*changePlan, *scope) {
	t, err := c.cat.table(name)
	mustNot(err)
	c.changes(t)
	if alias == "" {
		alias = name
	}
	sc := &scope{rels: []*relation{{alias: alias, cols: t.columns, table: t}}}
	p := &changePlan{table: t, sel: &selectPlan{from: &source{table: t}}}
	if from != nil {
		p.sel.from = &source{left: p.sel.from, right: c.from(sc, from)}
	}
	p.sel.rels = len(sc.rels)
	if where != nil {
		p.sel.where = c.where(sc, where)
	}
	return p, sc
}
