package sqlmodel

// A subPlan is a select within an expression.
type subPlan struct {
	q     *queryPlan
	sel   *selectPlan // where it is a plain one
	sc    *scope
	alone bool // it reads nothing of what is around it: it is run once
}

type subResult struct {
	rows [][]any
	err  error
}

// sub compiles a select within an expression.
func (c *compiler) sub(sc *scope, s *selectStmt) *subPlan {
	inner := &scope{parent: sc}
	q := c.selects(s, inner)
	return &subPlan{q: q, sel: q.sel, sc: inner, alone: !inner.correlated}
}

// rowsOf runs it.
func (p *subPlan) rowsOf(e *env) ([][]any, error) {
	if !p.alone {
		return p.q.rows(e.x, e)
	}
	r, ok := e.x.subs[p]
	if !ok {
		r = &subResult{}
		e.x.subs[p] = r
		r.rows, r.err = p.q.rows(e.x, e)
	}
	return r.rows, r.err
}

func (c *compiler) scalar(sc *scope, x eSub) *ex {
	p := c.sub(sc, x.sel)
	if len(p.q.types) != 1 {
		fail("42601", "subquery must return only one column")
	}
	return &ex{t: p.q.types[0], f: func(e *env) (any, error) {
		rows, err := p.rowsOf(e)
		switch {
		case err != nil || len(rows) == 0:
			return nil, err
		case len(rows) > 1:
			return nil, stateError("21000", "more than one row returned by a subquery used as an expression")
		}
		return rows[0][0], nil
	}}
}

// exists is exists, and not exists. PostgreSQL makes a join of one that stands
// alone in a where clause: see [compiler.where].
func (c *compiler) exists(sc *scope, x eExists, not bool) *ex {
	p := c.sub(sc, x.sel)
	return existsOf(p, not)
}

func existsOf(p *subPlan, not bool) *ex {
	return &ex{t: typ{k: kBool}, f: func(e *env) (any, error) {
		rows, err := p.rowsOf(e)
		return (len(rows) > 0) != not, err
	}}
}

func (c *compiler) in(sc *scope, x eIn) *ex {
	l := c.expr(sc, x.x)
	if x.sub != nil {
		p := c.sub(sc, x.sub)
		return c.inSub(l, p, x.not)
	}
	items := make([]*ex, len(x.list))
	for i, item := range x.list {
		if items[i] = c.expr(sc, item); l.untyped() && !items[i].untyped() {
			l = c.typed(l, textOf(items[i].t))
		}
	}
	for i, item := range items {
		pair := c.comparable("=", l, item)
		l, items[i] = pair[0], pair[1]
	}
	return membership(l, x.not, func(e *env) ([]any, error) {
		values := make([]any, len(items))
		for i, item := range items {
			v, err := item.f(e)
			if err != nil {
				return nil, err
			}
			values[i] = v
		}
		return values, nil
	})
}

func (c *compiler) inSub(l *ex, p *subPlan, not bool) *ex {
	if len(p.q.types) != 1 {
		fail("42601", "subquery has too many columns")
	}
	pair := c.comparable("=", l, &ex{t: p.q.types[0]})
	return membership(pair[0], not, func(e *env) ([]any, error) {
		rows, err := p.rowsOf(e)
		values := make([]any, len(rows))
		for i, r := range rows {
			values[i] = r[0]
		}
		return values, err
	})
}

// membership is in, with its third value: unknown where a null may be it.
func membership(l *ex, not bool, list func(e *env) ([]any, error)) *ex {
	return &ex{t: typ{k: kBool}, f: func(e *env) (any, error) {
		v, err := l.f(e)
		if err != nil {
			return nil, err
		}
		values, err := list(e)
		if err != nil || v == nil && len(values) > 0 {
			return nil, err
		}
		unknown := false
		for _, w := range values {
			if w == nil {
				unknown = true
			} else if compare(v, w) == 0 {
				return !not, nil
			}
		}
		if unknown {
			return nil, nil
		}
		return not, nil
	}}
}

func (c *compiler) cases(sc *scope, x eCase) *ex {
	var conditions, results []*ex
	possible := 0
	kept, decided, first := 0, false, -1 // the first that may be, where no other can
	for _, w := range x.whens {
		if x.arg != nil {
			conditions = append(conditions, c.compares("=", c.expr(sc, x.arg), c.expr(sc, w[0])))
		} else {
			conditions = append(conditions, c.condition(sc, w[0], "CASE/WHEN"))
		}
		tested := len(c.early)
		results = append(results, c.expr(sc, w[1]))
		switch v, ok := c.literal(conditions[len(conditions)-1]); {
		case decided:
		case !ok:
			possible++
		case v == true:
			kept, decided = len(c.early), true
			if possible == 0 {
				first = len(results) - 1
			}
		default:
			c.early = c.early[:tested]
		}
	}
	other := &ex{null: true, f: func(*env) (any, error) { return nil, nil }}
	if x.other != nil {
		other = c.expr(sc, x.other)
	}
	if decided {
		c.early = c.early[:kept]
	}
	t, list := c.unified("CASE", append(results, other)...)
	if first >= 0 {
		return list[first]
	}
	return &ex{t: t, f: func(e *env) (any, error) {
		for i, when := range conditions {
			v, err := when.f(e)
			if err != nil {
				return nil, err
			}
			if v == true {
				return list[i].f(e)
			}
		}
		return list[len(list)-1].f(e)
	}}
}

// where compiles the condition of a query. Of what is joined by and, PostgreSQL
// makes joins of in and exists: when a row is looked at again after a wait, the
// row of the subquery that matched before stays the one to match.
func (c *compiler) where(sc *scope, x expr) *ex {
	switch y := x.(type) {
	case eBinary:
		if y.op != "and" {
			break
		}
		l, r := c.where(sc, y.l), c.where(sc, y.r)
		return &ex{t: typ{k: kBool}, f: func(e *env) (any, error) {
			a, err := l.f(e)
			if err != nil || a == false {
				return a, err
			}
			b, err := r.f(e)
			if err != nil || b == false || a != nil {
				return b, err
			}
			return nil, nil
		}}
	case eIn:
		if y.sub == nil || y.not {
			break
		}
		l, p := c.expr(sc, y.x), c.sub(sc, y.sub)
		full := c.inSub(l, p, false)
		if !p.alone {
			return full
		}
		if l.untyped() {
			l = c.typed(l, p.q.types[0])
		}
		return &ex{t: full.t, f: func(e *env) (any, error) {
			if e.before == nil {
				return full.f(e)
			}
			v, err := l.f(e)
			if err != nil {
				return nil, err
			}
			w, err := l.f(e.before)
			return v != nil && same(v, w), err
		}}
	case eExists:
		return c.semiJoin(sc, y, false)
	case eUnary:
		if sub, ok := y.x.(eExists); ok && y.op == "not" {
			return c.semiJoin(sc, sub, true)
		}
	}
	return c.condition(sc, x, "WHERE")
}

// semiJoin is an exists that stands alone in a where clause.
func (c *compiler) semiJoin(sc *scope, x eExists, not bool) *ex {
	p := c.sub(sc, x.sel)
	full, s := existsOf(p, not), x.sel
	joined := !p.alone && p.sel != nil && s.from != nil && s.where != nil && s.group == nil && s.having == nil && s.limit == nil && s.offset == nil && s.locks == nil && s.ctes == nil && len(p.sel.aggs) == 0
	if !joined {
		return full
	}
	return &ex{t: full.t, f: func(e *env) (any, error) {
		if e.before == nil {
			return full.f(e)
		}
		if not {
			return true, nil
		}
		yes, no := 0, 0
		err := p.sel.each(e.x, e.before, func(inner *env) error {
			again := *inner
			again.up = e
			v, err := p.sel.where.f(&again)
			if v == true {
				yes++
			} else {
				no++
			}
			return err
		})
		if err == nil && yes > 0 && no > 0 {
			err = refuse("which row of exists PostgreSQL has joined to a row that was changed meanwhile, where several match")
		}
		return yes > 0, err
	}}
}
