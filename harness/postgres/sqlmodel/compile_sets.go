package sqlmodel

import "slices"

// values compiles a list of rows.
func (c *compiler) values(s *selectStmt, sc *scope) *queryPlan {
	c.want = nil
	n := len(s.values[0])
	columns := make([][]*ex, n)
	for _, row := range s.values {
		if len(row) != n {
			fail("42601", "VALUES lists must all be the same length")
		}
		for i, x := range row {
			columns[i] = append(columns[i], c.expr(sc, x))
		}
	}
	q := &queryPlan{}
	for i := range columns {
		t, list := c.unified("VALUES", columns[i]...)
		columns[i] = list
		q.types = append(q.types, t)
		q.names = append(q.names, "column"+string(rune('1'+i)))
	}
	if n > 9 {
		mustNot(refuse("values of more than nine columns"))
	}
	return c.tail(s, q, func(x *exec, up *env) ([][]any, error) {
		e := &env{x: x, up: up}
		out := make([][]any, len(s.values))
		for r := range out {
			out[r] = make([]any, n)
			for i := range columns {
				v, err := columns[i][r].f(e)
				if err != nil {
					return nil, err
				}
				out[r][i] = v
			}
		}
		return out, nil
	})
}

// setOperation compiles union, intersect and except.
func (c *compiler) setOperation(s *selectStmt, sc *scope) *queryPlan {
	c.want = nil
	side := func(s *selectStmt) *queryPlan {
		inner := &scope{parent: sc.parent, barrier: sc.barrier}
		q := c.selects(s, inner)
		sc.correlated = sc.correlated || inner.correlated
		return q
	}
	l, r := side(s.left), side(s.right)
	if len(l.types) != len(r.types) {
		fail("42601", "each %s query must have the same number of columns", upper(s.op))
	}
	q := &queryPlan{names: l.names}
	for i := range l.types {
		if (i < len(l.loose) && l.loose[i] || i < len(r.loose) && r.loose[i]) && l.types[i].k != r.types[i].k {
			mustNot(refuse("a constant without a type in a column of %s: write its type behind it", s.op))
		}
		q.types = append(q.types, c.common(upper(s.op), &ex{t: l.types[i]}, &ex{t: r.types[i]}))
		if k := q.types[i].k; (k == kJSON || k == kJSONB) && (s.op != "union" || !s.all) {
			mustNot(refuse("%s of json", s.op))
		}
	}
	rowsOf := func(p *queryPlan, x *exec, up *env) ([][]any, error) {
		rows, err := p.rows(x, up)
		if err != nil {
			return nil, err
		}
		out := make([][]any, len(rows))
		for i, row := range rows {
			out[i] = make([]any, len(row))
			for j, v := range row {
				if out[i][j], err = cast(v, p.types[j], q.types[j], false); err != nil {
					return nil, err
				}
			}
		}
		return out, nil
	}
	return c.tail(s, q, func(x *exec, up *env) ([][]any, error) {
		a, err := rowsOf(l, x, up)
		if err != nil {
			return nil, err
		}
		b, err := rowsOf(r, x, up)
		if err != nil {
			return nil, err
		}
		return combine(s.op, s.all, a, b)
	})
}

func combine(op string, all bool, a, b [][]any) (out [][]any, err error) {
	if op == "union" {
		if out = append(slices.Clone(a), b...); all {
			return out, nil
		}
		a, out = out, nil
	}
	there, first := map[string]int{}, map[string][]any{}
	if op != "union" {
		for _, row := range b {
			k := rowKey(row)
			there[k]++
			first[k] = row
		}
	}
	seen := map[string][]any{}
	for _, row := range a {
		k := rowKey(row)
		like, repeated := seen[k]
		if !repeated && op == "intersect" {
			like = first[k]
		}
		if like != nil {
			if err := identical(like, row); err != nil {
				return nil, err
			}
		}
		match := there[k] > 0
		if all {
			there[k]--
		}
		if seen[k] = row; repeated && !all {
			continue
		}
		if op == "union" || match == (op == "intersect") {
			out = append(out, row)
		}
	}
	return out, nil
}

// tail adds order, limit and offset to rows whose columns they name.
func (c *compiler) tail(s *selectStmt, q *queryPlan, rows func(x *exec, up *env) ([][]any, error)) *queryPlan {
	if len(s.locks) > 0 {
		fail("0A000", "FOR UPDATE is not allowed with UNION/INTERSECT/EXCEPT")
	}
	var order []sortKey
	for _, o := range s.order {
		k := sortKey{target: -1, desc: o.desc, nullsFirst: o.nullsFirst}
		switch x := o.x.(type) {
		case eNumber:
			k.target = position(x.text, len(q.names), "ORDER BY")
		case eColumn:
			if x.table == "" {
				k.target = slices.Index(q.names, x.name)
			}
		}
		if k.target < 0 {
			mustNot(refuse("order by anything but a column of a union or of values"))
		}
		order = append(order, k)
	}
	l := c.limits(s)
	q.rows = func(x *exec, up *env) ([][]any, error) {
		limit, offset, err := l.values(x, up)
		if err != nil {
			return nil, err
		}
		out, err := rows(x, up)
		if err != nil {
			return nil, err
		}
		if order != nil {
			keys := func(row []any) []any {
				k := make([]any, len(order))
				for i, o := range order {
					k[i] = row[o.target]
				}
				return k
			}
			out = slices.Clone(out)
			slices.SortStableFunc(out, func(a, b []any) int { return compareKeys(order, keys(a), keys(b)) })
		}
		return cut(out, limit, offset), nil
	}
	return q
}
