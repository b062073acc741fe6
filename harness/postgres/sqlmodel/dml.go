package sqlmodel

import "slices"

// run inserts the rows, one after the other.
func (p *insertPlan) run(x *exec) (out [][]any, n int64, err error) {
	one := func(values []any) error {
		e, err := p.one(x, values)
		if err != nil || e == nil {
			return err
		}
		n++
		if len(p.xs) > 0 {
			row, err := p.of(e)
			if err != nil {
				return err
			}
			out = append(out, row)
		}
		return nil
	}
	if p.query != nil {
		rows, err := p.query.rows(x, nil)
		if err != nil {
			return nil, 0, err
		}
		for _, row := range rows {
			values, err := p.complete(x, p.types, &env{rows: [][]any{row}, x: x})
			if err == nil {
				err = one(values)
			}
			if err != nil {
				return nil, 0, err
			}
		}
		return out, n, nil
	}
	for _, row := range p.rows {
		values, err := p.complete(x, row, &env{x: x})
		if err == nil {
			err = one(values)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return out, n, nil
}

// complete makes a row of a table, with its defaults.
func (p *insertPlan) complete(x *exec, list []*ex, e *env) ([]any, error) {
	values := make([]any, len(p.table.columns))
	alone := &env{x: x}
	for i := range values {
		y, at := p.defaults[i], alone
		if j := slices.Index(p.columns, i); j >= 0 {
			y, at = list[j], e
		}
		v, err := y.f(at)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, x.checkRow(p.table, values)
}

// one inserts a row, or does what on conflict says. It returns the row that was
// written, or nothing.
func (p *insertPlan) one(x *exec, values []any) (*env, error) {
	for p.conflict != nil {
		there, err := x.arbitrate(p.table, p.conflict.arbiters, values)
		if err != nil {
			return nil, err
		}
		if there == nil {
			break
		}
		if !p.conflict.update {
			if x.s.repeatable && !x.visible(there) && there.min.top() != x.s.top {
				return nil, stateError("40001", "could not serialize access due to concurrent update")
			}
			return nil, nil
		}
		e, done, err := p.upsert(x, there, values)
		if err != nil || done {
			return e, err
		}
	}
	v, err := x.insert(p.table, values)
	if err != nil {
		return nil, err
	}
	return &env{rows: [][]any{v.values}, x: x}, nil
}

// arbitrate looks for a row that is in the way, until it need not wait.
func (x *exec) arbitrate(t *table, arbiters []int, values []any) (*version, error) {
	for {
		waited := false
		for _, n := range arbiters {
			k, ok, err := x.keyOf(t.indexes[n], values)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			there, wait, err := x.occupant(t, n, k, nil)
			if err != nil || there != nil {
				return there, err
			}
			if wait == nil {
				continue
			}
			if there, err = x.conflict(t, n, values, nil); err != nil || there != nil {
				return there, err
			}
			waited = true
		}
		if !waited {
			return nil, nil
		}
	}
}

// upsert is on conflict do update: not done where the row has to be looked for
// again.
func (p *insertPlan) upsert(x *exec, there *version, values []any) (*env, bool, error) {
	c := p.conflict
	if there.min.top() == x.s.top && there.cmin == x.cid {
		return nil, true, stateError("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time")
	}
	if len(x.holders(there, c.mode, nil)) > 0 {
		return nil, false, x.queue(there, c.mode)
	}
	if x.s.repeatable && !x.visible(there) {
		return nil, true, stateError("40001", "could not serialize access due to concurrent update")
	}
	there.row.hold(x.s.current, c.mode)
	e := &env{rows: [][]any{there.values, values}, x: x}
	if c.filter != nil {
		if v, err := c.filter.f(e); err != nil || v != true {
			return nil, true, err
		}
	}
	now, err := assigned(c.sets, e)
	if err == nil {
		err = x.checkRow(p.table, now)
	}
	if err != nil {
		return nil, true, err
	}
	if err := x.change(p.table, there, now); err != nil {
		return nil, true, err
	}
	return &env{rows: [][]any{now, values}, x: x}, true, nil
}

// assigned is the first row of e with its new values.
func assigned(sets []assignment, e *env) ([]any, error) {
	values := slices.Clone(e.rows[0])
	for _, s := range sets {
		v, err := s.x.f(e)
		if err != nil {
			return nil, err
		}
		values[s.column] = v
	}
	return values, nil
}

// run updates or deletes the rows, one after the other.
func (p *changePlan) run(x *exec) (out [][]any, n int64, err error) {
	err = p.sel.each(x, nil, func(e *env) error {
		after, err := p.one(x, e.clone())
		if err != nil || after == nil {
			return err
		}
		n++
		if len(p.xs) == 0 {
			return nil
		}
		row, err := p.of(after)
		out = append(out, row)
		return err
	})
	return out, n, err
}

// one changes a row as it is now: after a wait it is looked at again, alone.
func (p *changePlan) one(x *exec, e *env) (*env, error) {
	v := e.from[0]
	values, mode, err := p.next(x, e)
	if err != nil {
		return nil, err
	}
	now, what, err := x.lock(v, mode, waitFor, p.table)
	moved := what == changed
	if err == nil && moved && mode < p.mode { // the columns that are set decide now, and not their values
		now, what, err = x.lock(now, p.mode, waitFor, p.table)
	}
	if err != nil || what == gone || what == itsOwn {
		return nil, err
	}
	if moved {
		seen := e
		e = e.clone()
		e.before, e.rows[0], e.from[0] = seen, now.values, now
		ok, err := recheck(p.sel.from, p.sel.where, e)
		if err != nil || !ok {
			return nil, err
		}
		if values, _, err = p.next(x, e); err != nil {
			return nil, err
		}
	}
	if p.sets == nil {
		x.erase(p.table, now)
		return e, nil
	}
	if err := x.change(p.table, now, values); err != nil {
		return nil, err
	}
	e.rows[0] = values
	return e, nil
}

// next is what a row becomes, and the lock that it takes.
func (p *changePlan) next(x *exec, e *env) ([]any, lockMode, error) {
	if p.sets == nil {
		return nil, lockUpdate, nil
	}
	values, err := assigned(p.sets, e)
	if err == nil {
		err = x.checkRow(p.table, values)
	}
	if err != nil {
		return nil, 0, err
	}
	return values, x.strength(p.table, e.rows[0], values), nil
}
