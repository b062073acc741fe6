package sqlmodel

import (
	"slices"
)

// A source is a table, a subquery or a join in a from clause.
type source struct {
	rel         int // of the scope
	table       *table
	query       *queryPlan
	cte         *ctePlan
	nulls       []any // the row of an outer join that finds none
	left, right *source
	on          *ex
	outer       bool
}

// A ctePlan is a query of a with clause.
type ctePlan struct {
	name     string
	q        *queryPlan
	modifies bool
}

// rowsOf runs the query of a CTE once in a statement.
func (p *ctePlan) rowsOf(x *exec) ([][]any, error) {
	rows, ok := x.ctes[p]
	if ok {
		return rows, nil
	}
	rows, err := p.q.rows(x, nil)
	x.ctes[p] = rows
	return rows, err
}

// from compiles a from clause.
func (c *compiler) from(sc *scope, list []*fromItem) *source {
	var all *source
	for _, f := range list {
		s := c.source(sc, f)
		if all != nil {
			s = &source{left: all, right: s}
		}
		all = s
	}
	return all
}

func (c *compiler) source(sc *scope, f *fromItem) *source {
	if f.left == nil {
		return c.relation(sc, f)
	}
	from := len(sc.rels)
	s := &source{left: c.source(sc, f.left), outer: f.outer}
	middle := len(sc.rels)
	s.right = c.source(sc, f.right)
	inner := &scope{parent: sc.parent, rels: slices.Clone(sc.rels), barrier: sc.barrier}
	for i := range from {
		inner.rels[i] = &relation{} // to which its condition can't refer
	}
	for _, name := range f.using {
		c.using(s, inner, name, from, middle)
	}
	if f.on != nil {
		s.on = c.condition(inner, f.on, "JOIN/ON")
	}
	sc.correlated = sc.correlated || inner.correlated
	return s
}

// using adds the condition that a column is the same on both sides.
func (c *compiler) using(s *source, sc *scope, name string, from, middle int) {
	side := func(lo, hi int) *ex {
		found := -1
		for i := lo; i < hi; i++ {
			r := sc.rels[i]
			if slices.ContainsFunc(r.cols, func(k column) bool { return k.name == name }) && !r.merged[name] {
				if found >= 0 {
					fail("42702", "common column name %q appears more than once in left table", name)
				}
				found = i
			}
		}
		if found < 0 {
			fail("42703", "column %q specified in USING clause does not exist in a table", name)
		}
		return c.reference(sc, 0, found, slices.IndexFunc(sc.rels[found].cols, func(k column) bool { return k.name == name }))
	}
	l, r := side(from, middle), side(middle, len(sc.rels))
	for _, rel := range sc.rels[middle:] {
		if slices.ContainsFunc(rel.cols, func(k column) bool { return k.name == name }) {
			if rel.merged == nil {
				rel.merged = map[string]bool{}
			}
			rel.merged[name] = true
		}
	}
	same := c.compares("=", l, r)
	if s.on != nil {
		before := s.on
		s.on = &ex{t: same.t, f: func(e *env) (any, error) {
			if v, err := before.f(e); err != nil || v != true {
				return v, err
			}
			return same.f(e)
		}}
		return
	}
	s.on = same
}

func (c *compiler) relation(sc *scope, f *fromItem) *source {
	s := &source{rel: len(sc.rels)}
	r := &relation{alias: f.alias}
	if r.alias == "" {
		r.alias = f.table
	}
	if slices.ContainsFunc(sc.rels, func(o *relation) bool { return o.alias == r.alias }) {
		fail("42712", "table name %q specified more than once", r.alias)
	}
	switch {
	case f.sub != nil:
		inner := &scope{parent: sc.parent, barrier: sc.barrier}
		s.query = c.selects(f.sub, inner)
		sc.correlated = sc.correlated || inner.correlated
		r.cols = s.query.columns()
	case c.cte(f.table) != nil:
		s.cte = c.cte(f.table)
		r.cols = s.cte.q.columns()
	default:
		t, err := c.cat.table(f.table)
		mustNot(err)
		s.table, r.table, r.cols = t, t, t.columns
		c.reads = add(c.reads, t)
	}
	if len(f.columns) > len(r.cols) {
		fail("42P10", "table %q has %d columns available but %d columns specified", r.alias, len(r.cols), len(f.columns))
	}
	if r.cols = slices.Clone(r.cols); len(f.columns) > 0 {
		for i, n := range f.columns {
			r.cols[i].name = n
		}
	}
	s.nulls = make([]any, len(r.cols)+1)
	sc.rels = append(sc.rels, r)
	return s
}

func (c *compiler) cte(name string) *ctePlan {
	for s := c.ctes; s != nil; s = s.up {
		if s.name == name {
			return s.plan
		}
	}
	return nil
}

func (q *queryPlan) columns() (list []column) {
	for i, n := range q.names {
		list = append(list, column{name: n, t: q.types[i], sequence: -1})
	}
	return list
}

// each calls yield for each row of a source, which stands in e then.
func (s *source) each(e *env, yield func() error) error {
	switch {
	case s == nil:
		return yield()
	case s.table != nil:
		for _, v := range e.x.s.st.heaps[s.table.id] {
			if err := e.x.look(); err != nil {
				return err
			}
			if !e.x.visible(v) {
				continue
			}
			e.rows[s.rel], e.from[s.rel] = v.values, v
			if err := yield(); err != nil {
				return err
			}
		}
		return nil
	case s.left != nil:
		return s.eachPair(e, yield)
	}
	var rows [][]any
	var err error
	if s.cte != nil {
		rows, err = s.cte.rowsOf(e.x)
	} else {
		rows, err = s.query.rows(e.x, e.up)
	}
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := e.x.look(); err != nil {
			return err
		}
		e.rows[s.rel], e.from[s.rel] = r, nil
		if err := yield(); err != nil {
			return err
		}
	}
	return nil
}

// look counts a row that is read. A model in memory, without an index, is no
// place for more than these.
func (x *exec) look() error {
	if x.looked++; x.looked > 3_000_000 {
		return refuse("statements that look at more than three million rows")
	}
	return nil
}

func (s *source) eachPair(e *env, yield func() error) error {
	return s.left.each(e, func() error {
		found := false
		err := s.right.each(e, func() error {
			if s.on != nil {
				if v, err := s.on.f(e); err != nil || v != true {
					return err
				}
			}
			found = true
			return yield()
		})
		if err != nil || found || !s.outer {
			return err
		}
		s.right.none(e)
		return yield()
	})
}

// none has no row of a source.
func (s *source) none(e *env) {
	if s.left != nil {
		s.left.none(e)
		s.right.none(e)
		return
	}
	e.rows[s.rel], e.from[s.rel] = s.nulls, nil
}

func (s *source) isNone(e *env) bool {
	if s.left != nil {
		return s.left.isNone(e) && s.right.isNone(e)
	}
	return len(e.rows[s.rel]) > 0 && &e.rows[s.rel][0] == &s.nulls[0]
}

// again looks at the rows that stand in e once more, of which one has changed.
func (s *source) again(e *env) (bool, error) {
	if s == nil || s.left == nil {
		return true, nil
	}
	if ok, err := s.left.again(e); err != nil || !ok {
		return false, err
	}
	if s.outer && s.right.isNone(e) {
		return true, nil
	}
	ok, err := s.right.again(e)
	if err == nil && ok && s.on != nil {
		var v any
		v, err = s.on.f(e)
		ok = v == true
	}
	if err == nil && !ok && s.outer {
		s.right.none(e)
		ok = true
	}
	return ok, err
}

// stars are the columns of a star, or of one of a table.
func (c *compiler) stars(sc *scope, table string) (list []target) {
	if table == "" && len(sc.rels) == 0 {
		fail("42601", "SELECT * with no tables specified is not valid")
	}
	found := false
	merged := false
	for _, r := range sc.rels {
		merged = merged || len(r.merged) > 0
		if table != "" && r.alias != table {
			continue
		}
		found = true
		for _, k := range r.cols {
			if table == "" && r.merged[k.name] {
				continue
			}
			list = append(list, target{x: eColumn{r.alias, k.name}, name: k.name})
		}
	}
	if !found {
		fail("42P01", "missing FROM-clause entry for table %q", table)
	}
	if merged && table == "" {
		mustNot(refuse("* of a join with using: name the columns"))
	}
	return list
}

func titles(list []target) []string {
	names := make([]string, len(list))
	for i, t := range list {
		if names[i] = t.name; t.name == "" {
			names[i] = titleOf(t.x)
		}
	}
	return names
}
