package sqlmodel

import (
	"fmt"
	"reflect"
	"slices"
)

// An ex is an expression that can be evaluated. A constant in quotes and a
// parameter have no type until their place gives them one.
type ex struct {
	t     typ
	f     func(e *env) (any, error)
	quote *string // of a constant in quotes
	param int     // of a parameter
	null  bool
	fixed bool // a constant, or a parameter
}

func (x *ex) untyped() bool { return x.t.k == kUnknown }

// A plan is a statement that is ready to run.
type plan struct {
	control *controlStmt
	run     func(x *exec) (*answer, error)
	params  []typ
	early   []*ex    // what is evaluated before all else
	names   []string // of what it returns
	touched
}

// touched is what a statement has to do with.
type touched struct {
	reads, writes, locks []*table
	draws                bool // from a sequence or at random
	advisory             bool
}

func add(list []*table, t *table) []*table {
	if slices.Contains(list, t) {
		return list
	}
	return append(list, t)
}

// A compiler makes a plan of a statement.
type compiler struct {
	cat    *catalog
	params []typ
	ctes   *cteScope
	want   []typ // of the columns of the select that is compiled next
	early  []*ex
	touched
}

// A cteScope is the CTEs that a query can name.
type cteScope struct {
	up   *cteScope
	name string
	plan *ctePlan
}

// A scope is the relations of one query, within that of the query around it.
type scope struct {
	parent     *scope
	rels       []*relation
	correlated bool // it refers to what is around it
	barrier    bool // and must not
	group      *grouping
}

// A relation is a table, or what stands for one.
type relation struct {
	alias  string
	cols   []column
	table  *table
	merged map[string]bool // columns that join using has taken from another
}

// A grouping is what there is of aggregates in a query.
type grouping struct {
	keys   []expr
	specs  []*aggregate
	within bool // an aggregate's argument is being read
	free   bool // a key is
}

// compileError carries an error up to [compile].
type compileError struct{ err error }

func fail(code, format string, args ...any) {
	panic(compileError{stateError(code, fmt.Sprintf(format, args...))})
}

func mustNot(err error) {
	if err != nil {
		panic(compileError{err})
	}
}

func catch(err *error) {
	if v := recover(); v != nil {
		e, ok := v.(compileError)
		if !ok {
			panic(v)
		}
		*err = e.err
	}
}

// compile makes the plan of a statement.
func compile(cat *catalog, s parsed) (p *plan, err error) {
	if c, ok := s.stmt.(*controlStmt); ok {
		return &plan{control: c}, nil
	}
	defer catch(&err)
	c := &compiler{cat: cat, params: make([]typ, s.params)}
	p = &plan{}
	switch s := s.stmt.(type) {
	case *selectStmt, *insertStmt, *updateStmt, *deleteStmt:
		q := c.query(s, nil)
		for i := range c.params {
			if c.params[i].k == kUnknown {
				c.params[i].k = kText
			}
		}
		p.params, p.run, p.names = c.params, q.run, q.names
	default:
		return nil, refuse("changes of the schema: they belong into the schema's text")
	}
	p.touched, p.early = c.touched, c.early
	return p, nil
}

// compileAlone compiles a default, a check or a part of an index.
func compileAlone(cat *catalog, t *table, x expr, to typ) (out *ex, err error) {
	defer catch(&err)
	c := &compiler{cat: cat}
	sc := &scope{}
	if t != nil {
		sc.rels = []*relation{{alias: t.name, cols: t.columns, table: t}}
	}
	if out = c.expr(sc, x); to.k != kUnknown {
		out = c.assign(out, to, "a default")
	}
	return out, nil
}

// column finds a name, here or in the queries around.
func (c *compiler) column(sc *scope, n eColumn) *ex {
	level := 0
	for s := sc; s != nil; s = s.parent {
		rel, col := -1, -1
		for i, r := range s.rels {
			if n.table != "" && n.table != r.alias {
				continue
			}
			for j, k := range r.cols {
				if k.name != n.name || n.table == "" && r.merged[n.name] {
					continue
				}
				if rel >= 0 {
					fail("42702", "column reference %q is ambiguous", n.name)
				}
				rel, col = i, j
			}
		}
		if rel >= 0 {
			for inner := sc; inner != s; inner = inner.parent {
				if inner.correlated = true; inner.barrier {
					mustNot(refuse("a CTE that reads columns of the query around it"))
				}
			}
			return c.reference(s, level, rel, col)
		}
		if n.table != "" && slices.ContainsFunc(s.rels, func(r *relation) bool { return r.alias == n.table }) {
			fail("42703", "column %s.%s does not exist", n.table, n.name)
		}
		level++
	}
	if n.table == "" {
		if c.wholeRow(sc, n.name) {
			mustNot(refuse("whole rows as values, such as %s", n.name))
		}
		fail("42703", "column %q does not exist", n.name)
	}
	fail("42P01", "missing FROM-clause entry for table %q", n.table)
	return nil
}

func (c *compiler) wholeRow(sc *scope, name string) bool {
	for ; sc != nil; sc = sc.parent {
		if slices.ContainsFunc(sc.rels, func(r *relation) bool { return r.alias == name }) {
			return true
		}
	}
	return false
}

func (c *compiler) reference(s *scope, level, rel, col int) *ex {
	r := s.rels[rel]
	if g := s.group; g != nil && !g.within && !g.free && !g.has(r, r.cols[col].name) {
		fail("42803", "column %q must appear in the GROUP BY clause or be used in an aggregate function", r.alias+"."+r.cols[col].name)
	}
	t := r.cols[col].t
	switch level {
	case 0:
		return &ex{t: t, f: func(e *env) (any, error) { return e.rows[rel][col], nil }}
	case 1:
		return &ex{t: t, f: func(e *env) (any, error) { return e.up.rows[rel][col], nil }}
	}
	return &ex{t: t, f: func(e *env) (any, error) {
		for range level {
			e = e.up
		}
		return e.rows[rel][col], nil
	}}
}

// has reports whether a column has one value in each group: it is a key, or a
// column of a table whose primary key is among them.
func (g *grouping) has(r *relation, name string) bool {
	is := func(name string) bool {
		return slices.ContainsFunc(g.keys, func(k expr) bool {
			n, ok := k.(eColumn)
			return ok && n.name == name && (n.table == "" || n.table == r.alias)
		})
	}
	if is(name) {
		return true
	}
	if r.table == nil || len(r.table.primary) == 0 {
		return false
	}
	for _, p := range r.table.primary {
		if !is(r.table.columns[p].name) {
			return false
		}
	}
	return true
}

// typed gives an expression without a type this one.
func (c *compiler) typed(x *ex, t typ) *ex {
	if !x.untyped() {
		return x
	}
	t = t.bare()
	if t.k == kUnknown {
		t.k = kText
	}
	switch {
	case x.param > 0:
		n := x.param - 1
		if c.params[n].k == kUnknown {
			c.params[n] = t
		}
		if c.params[n].k != t.k { // another place has decided
			return &ex{t: c.params[n], f: x.f, fixed: true}
		}
		return &ex{t: t, f: x.f, fixed: true}
	case x.null:
		return &ex{t: t, f: x.f, null: true}
	}
	v, err := fromText(t, *x.quote)
	mustNot(err)
	return constant(t, v)
}

func constant(t typ, v any) *ex {
	return &ex{t: t, f: func(*env) (any, error) { return v, nil }, fixed: true}
}

// castTo is an explicit cast.
func (c *compiler) castTo(x *ex, t typ) *ex {
	if x.untyped() {
		x = c.typed(x, t)
	}
	if !castable(x.t, t, true) {
		fail("42846", "cannot cast type %s to %s", x.t, t)
	}
	return c.known(converted(x, t, true))
}

func converted(x *ex, t typ, explicit bool) *ex {
	if x.t == t || x.t.k == t.k && t.mod == 0 {
		return &ex{t: t, f: x.f, null: x.null, fixed: x.fixed}
	}
	from := x.t
	return &ex{t: t, fixed: x.fixed, f: func(e *env) (any, error) {
		v, err := x.f(e)
		if err != nil {
			return nil, err
		}
		return cast(v, from, t, explicit)
	}}
}

// known notes a cast of a constant or a parameter: PostgreSQL carries it out when
// it plans the statement, and fails then, before it draws from a sequence; so it
// does with arithmetic of constants.
func (c *compiler) known(x *ex) *ex {
	if x.fixed {
		c.early = append(c.early, x)
	}
	return x
}

// literal is the value of a constant, where an expression is one. What PostgreSQL
// leaves out by it when it plans a statement can't fail either.
func (c *compiler) literal(x *ex) (any, bool) {
	if !x.fixed && !x.null || x.param > 0 {
		return nil, false
	}
	v, err := x.f(&env{x: &exec{args: make([]any, len(c.params))}})
	return v, err == nil && (v != nil || x.null)
}

// assign makes an expression one for a column.
func (c *compiler) assign(x *ex, t typ, what string) *ex {
	x = c.typed(x, t)
	if !castable(x.t, t, false) {
		fail("42804", "%s is of type %s but expression is of type %s", what, t, x.t)
	}
	return c.known(converted(x, t, false))
}

// common is the type to which all of them are brought.
func (c *compiler) common(what string, list ...*ex) typ {
	t := typ{}
	for _, x := range list {
		switch u := x.t.bare(); {
		case x.untyped():
		case t.k == kUnknown || t.k == u.k:
			t = u
		case t.isNum() && u.isNum():
			t.k = max(t.k, u.k)
		case t.isText() && u.isText():
			t.k = kText
		case t.isTime() && u.isTime():
			t.k = min(t.k, u.k)
		default:
			fail("42804", "%s types %s and %s cannot be matched", what, t, u)
		}
	}
	if t.k == kUnknown {
		t.k = kText
	}
	return t
}

// unified brings all of them to their common type.
func (c *compiler) unified(what string, list ...*ex) (typ, []*ex) {
	t := c.common(what, list...)
	out := make([]*ex, len(list))
	for i, x := range list {
		out[i] = converted(c.typed(x, t), t, false)
	}
	return t, out
}

// condition is an expression for where, on and the like.
func (c *compiler) condition(sc *scope, x expr, what string) *ex {
	y := c.typed(c.expr(sc, x), typ{k: kBool})
	if y.t.k != kBool {
		fail("42804", "argument of %s must be type boolean, not type %s", what, y.t)
	}
	return y
}

// inGroup reports whether an expression is one by which rows are grouped.
func (g *grouping) inGroup(x expr) bool {
	if g == nil || g.within || g.free {
		return false
	}
	if _, ok := x.(eColumn); ok {
		return false
	}
	return slices.ContainsFunc(g.keys, func(k expr) bool { return reflect.DeepEqual(k, x) })
}

// expr compiles an expression.
func (c *compiler) expr(sc *scope, x expr) *ex {
	if g := sc.group; g.inGroup(x) {
		g.free = true
		defer func() { g.free = false }()
	}
	switch x := x.(type) {
	case eNumber:
		return number(x.text)
	case eString:
		return &ex{quote: &x.text, f: func(*env) (any, error) { return x.text, nil }}
	case eBool:
		return constant(typ{k: kBool}, x.value)
	case eNull:
		return &ex{null: true, f: func(*env) (any, error) { return nil, nil }}
	case eParam:
		n := x.n - 1
		if n >= len(c.params) {
			fail("42P02", "there is no parameter $%d", x.n)
		}
		return &ex{t: c.params[n], param: x.n, fixed: true, f: func(e *env) (any, error) { return e.x.args[n], nil }}
	case eColumn:
		return c.column(sc, x)
	case eUnary:
		return c.unary(sc, x)
	case eBinary:
		return c.binary(sc, x)
	case eIsNull:
		y := c.typed(c.expr(sc, x.x), typ{k: kText})
		return &ex{t: typ{k: kBool}, f: func(e *env) (any, error) {
			v, err := y.f(e)
			return (v == nil) != x.not, err
		}}
	case eIsBool:
		return c.isBool(sc, x)
	case eDistinct:
		l := c.comparable("=", c.expr(sc, x.l), c.expr(sc, x.r))
		return &ex{t: typ{k: kBool}, f: func(e *env) (any, error) {
			a, b, err := both(e, l[0], l[1])
			return same(a, b) == x.not, err
		}}
	case eIn:
		return c.in(sc, x)
	case eCase:
		return c.cases(sc, x)
	case eCast:
		return c.castTo(c.expr(sc, x.x), x.t)
	case eCall:
		return c.call(sc, x)
	case eSub:
		return c.scalar(sc, x)
	case eExists:
		return c.exists(sc, x, false)
	case eDefault:
		fail("42601", "DEFAULT is not allowed in this context")
	}
	panic(fmt.Sprintf("harness: an expression of the type %T", x))
}

// number is a constant without quotes: of the smallest type that holds it.
func number(text string) *ex {
	for _, k := range []kind{kInt4, kInt8} {
		if v, err := fromText(typ{k: k}, text); err == nil {
			return constant(typ{k: k}, v)
		}
	}
	v, err := decimalFrom(text)
	mustNot(err)
	return constant(typ{k: kNumeric}, v)
}

func both(e *env, l, r *ex) (a, b any, err error) {
	if a, err = l.f(e); err == nil {
		b, err = r.f(e)
	}
	return a, b, err
}
