package sqlmodel

import (
	"fmt"
	"reflect"
	"slices"
)

// A queryPlan is a statement that returns rows, or none.
type queryPlan struct {
	names []string
	types []typ
	loose []bool // columns that are constants without a type
	rows  func(x *exec, up *env) ([][]any, error)
	run   func(x *exec) (*answer, error) // of a statement at the top
	sel   *selectPlan                    // of a plain select
}

// query compiles a statement, at the top or of a CTE there.
func (c *compiler) query(s stmt, sc *scope) *queryPlan {
	if sc == nil {
		sc = &scope{}
	}
	switch s := s.(type) {
	case *selectStmt:
		q := c.selects(s, sc)
		q.run = func(x *exec) (*answer, error) {
			rows, err := q.rows(x, nil)
			return &answer{names: q.names, types: q.types, rows: rows, count: int64(len(rows)), tag: "SELECT"}, err
		}
		return q
	case *insertStmt:
		return c.with(s.ctes, sc, func() *queryPlan { return c.insert(s) })
	case *updateStmt:
		return c.with(s.ctes, sc, func() *queryPlan { return c.update(s) })
	case *deleteStmt:
		return c.with(s.ctes, sc, func() *queryPlan { return c.delete(s) })
	}
	panic(fmt.Sprintf("harness: a query of the type %T", s))
}

// with compiles what CTEs stand before.
func (c *compiler) with(ctes []cte, sc *scope, main func() *queryPlan) *queryPlan {
	if ctes == nil {
		return main()
	}
	before := c.ctes
	defer func() { c.ctes = before }()
	var list []*ctePlan
	for _, d := range ctes {
		p := &ctePlan{}
		if _, reads := d.body.(*selectStmt); !reads {
			if p.modifies = true; sc.parent != nil || sc.barrier {
				fail("0A000", "WITH clause containing a data-modifying statement must be at the top level")
			}
		}
		p.q = c.query(d.body, &scope{parent: sc, barrier: true})
		if d.columns != nil {
			if len(d.columns) > len(p.q.names) {
				fail("42P10", "WITH query %q has %d columns available but %d columns specified", d.name, len(p.q.names), len(d.columns))
			}
			names := slices.Clone(p.q.names)
			copy(names, d.columns)
			p.q.names = names
		}
		for _, o := range list {
			if o.name == d.name {
				fail("42712", "WITH query name %q specified more than once", d.name)
			}
		}
		p.name = d.name
		list = append(list, p)
		c.ctes = &cteScope{c.ctes, d.name, p}
	}
	q := *main()
	rows, run := q.rows, q.run
	rest := func(x *exec) error { // what nothing has read is carried out all the same
		for _, p := range slices.Backward(list) {
			if p.modifies {
				if _, err := p.rowsOf(x); err != nil {
					return err
				}
			}
		}
		return nil
	}
	q.sel = nil
	q.rows = func(x *exec, up *env) ([][]any, error) {
		out, err := rows(x, up)
		if err == nil {
			err = rest(x)
		}
		return out, err
	}
	if run != nil {
		q.run = func(x *exec) (*answer, error) {
			out, err := run(x)
			if err == nil {
				err = rest(x)
			}
			return out, err
		}
	}
	return &q
}

// selects compiles a select.
func (c *compiler) selects(s *selectStmt, sc *scope) *queryPlan {
	return c.with(s.ctes, sc, func() *queryPlan {
		switch {
		case s.op != "":
			return c.setOperation(s, sc)
		case s.values != nil:
			return c.values(s, sc)
		}
		return c.plain(s, sc)
	})
}

// A selectPlan is a select of a from clause.
type selectPlan struct {
	from     *source
	rels     int
	where    *ex
	keys     []*ex
	aggs     []*aggregate
	grouped  bool
	having   *ex
	targets  []*ex
	order    []sortKey
	distinct bool
	limits
	locks []rowMark
}

// A sortKey is a target, or an expression of its own.
type sortKey struct {
	x                *ex
	target           int
	desc, nullsFirst bool
}

// A rowMark is a lock on the rows of a relation.
type rowMark struct {
	rel    int
	table  *table
	mode   lockMode
	policy waitPolicy
}

func (c *compiler) plain(s *selectStmt, sc *scope) *queryPlan {
	want := c.want
	c.want = nil
	p := &selectPlan{distinct: s.distinct}
	p.from = c.from(sc, s.from)
	p.rels = len(sc.rels)
	if s.where != nil {
		p.where = c.where(sc, s.where)
	}
	list := c.expand(sc, s.targets)
	p.grouped = s.group != nil || s.having != nil
	for _, t := range list {
		p.grouped = p.grouped || aggregated(t.x)
	}
	for _, o := range s.order {
		p.grouped = p.grouped || aggregated(o.x)
	}
	if p.grouped {
		c.group(p, s, sc, list)
	}
	q := &queryPlan{names: titles(list), sel: p}
	for i, t := range list {
		x := c.expr(sc, t.x)
		q.loose = append(q.loose, x.untyped() && x.param == 0)
		if to := (typ{k: kText}); x.untyped() {
			if i < len(want) {
				to = want[i]
			}
			x = c.typed(x, to)
		}
		p.targets, q.types = append(p.targets, x), append(q.types, x.t)
	}
	if s.having != nil {
		p.having = c.condition(sc, s.having, "HAVING")
	}
	for _, o := range s.order {
		p.order = append(p.order, c.sortKey(sc, p, list, o))
	}
	if sc.group != nil {
		p.aggs = sc.group.specs
	}
	p.limits = c.limits(s)
	p.locks = c.rowMarks(s, p, sc)
	q.rows = p.rows
	return q
}

func (c *compiler) expand(sc *scope, targets []target) (list []target) {
	for _, t := range targets {
		if t.star {
			list = append(list, c.stars(sc, t.table)...)
		} else {
			list = append(list, t)
		}
	}
	return list
}

// group compiles the keys by which rows are grouped.
func (c *compiler) group(p *selectPlan, s *selectStmt, sc *scope, list []target) {
	g := &grouping{}
	for _, k := range s.group {
		switch x := k.(type) {
		case eNumber:
			k = list[position(x.text, len(list), "GROUP BY")].x
		case eColumn:
			inputs := 0
			for _, r := range sc.rels {
				if slices.ContainsFunc(r.cols, func(col column) bool { return col.name == x.name }) {
					inputs++
				}
			}
			for _, t := range list {
				if x.table == "" && inputs == 0 && t.name == x.name {
					k = t.x
				}
			}
		}
		g.keys = append(g.keys, k)
		y := c.typed(c.expr(sc, k), typ{k: kText})
		if y.t.k == kJSON || y.t.k == kJSONB {
			mustNot(refuse("group by %s", y.t))
		}
		p.keys = append(p.keys, y)
	}
	sc.group = g
}

func position(text string, n int, clause string) int {
	for i := range n {
		if fmt.Sprint(i+1) == text {
			return i
		}
	}
	fail("42P10", "%s position %s is not in select list", clause, text)
	return 0
}

func (c *compiler) sortKey(sc *scope, p *selectPlan, list []target, o orderItem) sortKey {
	k := sortKey{target: -1, desc: o.desc, nullsFirst: o.nullsFirst}
	switch x := o.x.(type) {
	case eNumber:
		k.target = position(x.text, len(list), "ORDER BY")
	case eColumn:
		names := titles(list)
		for i, n := range names {
			if x.table != "" || n != x.name {
				continue
			}
			if k.target >= 0 && !reflect.DeepEqual(list[i].x, list[k.target].x) {
				fail("42702", "ORDER BY %q is ambiguous", x.name)
			}
			if k.target < 0 {
				k.target = i
			}
		}
	}
	if k.target < 0 {
		for i, t := range list {
			if reflect.DeepEqual(t.x, o.x) {
				k.target = i
			}
		}
	}
	if k.target < 0 {
		if p.distinct {
			fail("42P10", "for SELECT DISTINCT, ORDER BY expressions must appear in select list")
		}
		k.x = c.typed(c.expr(sc, o.x), typ{k: kText})
		if k.x.t.k == kJSON || k.x.t.k == kJSONB {
			mustNot(refuse("order by %s", k.x.t))
		}
	} else if t := p.targets[k.target].t; t.k == kJSON || t.k == kJSONB {
		mustNot(refuse("order by %s", t))
	}
	return k
}

// rowMarks are the locks of a select.
func (c *compiler) rowMarks(s *selectStmt, p *selectPlan, sc *scope) (marks []rowMark) {
	if len(s.locks) == 0 {
		return nil
	}
	switch {
	case p.distinct:
		fail("0A000", "FOR UPDATE is not allowed with DISTINCT clause")
	case s.group != nil:
		fail("0A000", "FOR UPDATE is not allowed with GROUP BY clause")
	case s.having != nil:
		fail("0A000", "FOR UPDATE is not allowed with HAVING clause")
	case p.grouped:
		fail("0A000", "FOR UPDATE is not allowed with aggregate functions")
	}
	for _, l := range s.locks {
		for _, name := range l.of {
			if !slices.ContainsFunc(sc.rels, func(r *relation) bool { return r.alias == name }) {
				fail("42P01", "relation %q in FOR UPDATE clause not found in FROM clause", name)
			}
		}
		for i, r := range sc.rels {
			if l.of != nil && !slices.Contains(l.of, r.alias) {
				continue
			}
			if r.table == nil {
				if l.of == nil && p.from.isCTE(i) {
					continue
				}
				mustNot(refuse("a lock of what a subquery in from returns"))
			}
			if p.from.nullable(i, false) {
				fail("0A000", "FOR UPDATE cannot be applied to the nullable side of an outer join")
			}
			c.locks = add(c.locks, r.table)
			m := rowMark{i, r.table, l.mode, l.policy}
			if at := slices.IndexFunc(marks, func(o rowMark) bool { return o.rel == i }); at >= 0 {
				marks[at].mode, marks[at].policy = max(marks[at].mode, l.mode), max(marks[at].policy, l.policy)
			} else {
				marks = append(marks, m)
			}
		}
	}
	slices.SortFunc(marks, func(a, b rowMark) int { return a.rel - b.rel })
	return marks
}

func (s *source) isCTE(rel int) bool {
	if s.left != nil {
		return s.left.isCTE(rel) || s.right.isCTE(rel)
	}
	return s.rel == rel && s.cte != nil
}

// nullable reports whether a relation is on the side of an outer join that may
// have no row.
func (s *source) nullable(rel int, outer bool) bool {
	if s.left != nil {
		return s.left.nullable(rel, outer) || s.right.nullable(rel, outer || s.outer)
	}
	return s.rel == rel && outer
}

// limits are limit and offset.
type limits struct{ limit, offset *ex }

func (c *compiler) limits(s *selectStmt) (l limits) {
	one := func(x expr, what string) *ex {
		if x == nil {
			return nil
		}
		y := c.typed(c.expr(&scope{}, x), typ{k: kInt8})
		if !y.t.isInt() {
			mustNot(refuse("%s of %s", what, y.t))
		}
		return y
	}
	return limits{one(s.limit, "limit"), one(s.offset, "offset")}
}

// values evaluates them: limit is -1 where there is none.
func (l limits) values(x *exec, up *env) (limit, offset int64, err error) {
	e := &env{x: x, up: up}
	limit = -1
	if l.limit != nil {
		v, err := l.limit.f(e)
		if err != nil {
			return 0, 0, err
		}
		if n, ok := v.(int64); ok {
			if limit = n; n < 0 {
				return 0, 0, stateError("2201W", "LIMIT must not be negative")
			}
		}
	}
	if l.offset != nil {
		v, err := l.offset.f(e)
		if err != nil {
			return 0, 0, err
		}
		if n, ok := v.(int64); ok {
			if offset = n; n < 0 {
				return 0, 0, stateError("2201X", "OFFSET must not be negative")
			}
		}
	}
	return limit, offset, nil
}

func cut(rows [][]any, limit, offset int64) [][]any {
	rows = rows[min(int64(len(rows)), offset):]
	if limit >= 0 {
		rows = rows[:min(int64(len(rows)), limit)]
	}
	return rows
}
