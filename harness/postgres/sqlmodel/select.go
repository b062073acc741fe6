package sqlmodel

import (
	"errors"
	"slices"
)

// A tuple is a row on its way through a select.
type tuple struct {
	e    *env
	keys []any // by which it is sorted
	out  []any
}

// errEnough ends a scan that has all that was asked for.
var errEnough = errors.New("enough")

// each calls yield for each row of the from clause that the where clause lets
// through. The env is used again for the next.
func (p *selectPlan) each(x *exec, up *env, yield func(e *env) error) error {
	e := &env{rows: make([][]any, p.rels), from: make([]*version, p.rels), up: up, x: x}
	return p.from.each(e, func() error {
		if p.where != nil {
			if v, err := p.where.f(e); err != nil || v != true {
				return err
			}
		}
		return yield(e)
	})
}

func (e *env) clone() *env {
	c := *e
	c.rows, c.from = slices.Clone(e.rows), slices.Clone(e.from)
	return &c
}

// rows runs a select.
func (p *selectPlan) rows(x *exec, up *env) ([][]any, error) {
	limit, offset, err := p.values(x, up)
	if err != nil {
		return nil, err
	}
	var list []tuple
	if p.grouped {
		list, err = p.groups(x, up)
	} else {
		list, err = p.tuples(x, up, limit, offset)
	}
	if err != nil {
		return nil, err
	}
	p.sort(list)
	if p.locks != nil {
		return p.lock(x, list, limit, offset)
	}
	rows := make([][]any, 0, len(list))
	seen := map[string][]any{}
	for _, t := range list {
		if p.distinct {
			k := rowKey(t.out)
			if before, ok := seen[k]; ok {
				if err := identical(before, t.out); err != nil {
					return nil, err
				}
				continue
			}
			seen[k] = t.out
		}
		rows = append(rows, t.out)
	}
	return cut(rows, limit, offset), nil
}

// tuples are the rows before they are sorted: no more than are needed.
func (p *selectPlan) tuples(x *exec, up *env, limit, offset int64) (list []tuple, err error) {
	stop := int64(-1)
	if limit >= 0 && p.order == nil && !p.distinct && p.locks == nil {
		if stop = limit + offset; stop == 0 {
			return nil, nil
		}
	}
	err = p.each(x, up, func(e *env) error {
		t := tuple{}
		if p.locks != nil {
			e = e.clone()
			t.e = e
		}
		var err error
		if t.out, err = p.project(e); err != nil {
			return err
		}
		if t.keys, err = p.sortValues(e, t.out); err != nil {
			return err
		}
		if list = append(list, t); int64(len(list)) == stop {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}

func (p *selectPlan) project(e *env) ([]any, error) {
	out := make([]any, len(p.targets))
	for i, t := range p.targets {
		v, err := t.f(e)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (p *selectPlan) sortValues(e *env, out []any) ([]any, error) {
	if p.order == nil {
		return nil, nil
	}
	keys := make([]any, len(p.order))
	for i, k := range p.order {
		if k.target >= 0 {
			keys[i] = out[k.target]
			continue
		}
		v, err := k.x.f(e)
		if err != nil {
			return nil, err
		}
		keys[i] = v
	}
	return keys, nil
}

func (p *selectPlan) sort(list []tuple) {
	if p.order == nil {
		return
	}
	slices.SortStableFunc(list, func(a, b tuple) int { return compareKeys(p.order, a.keys, b.keys) })
}

func compareKeys(order []sortKey, a, b []any) int {
	for i, k := range order {
		v, w := a[i], b[i]
		switch {
		case v == nil && w == nil:
			continue
		case v == nil || w == nil:
			if (v == nil) == k.nullsFirst {
				return -1
			}
			return 1
		}
		if n := compare(v, w); n != 0 {
			if k.desc {
				return -n
			}
			return n
		}
	}
	return 0
}

// groups are the rows of a select with aggregates.
func (p *selectPlan) groups(x *exec, up *env) (list []tuple, err error) {
	type group struct {
		e       *env
		keys    []any
		tallies []tally
	}
	var all []*group
	byKey := map[string]*group{}
	err = p.each(x, up, func(e *env) error {
		values := make([]any, len(p.keys))
		for i, k := range p.keys {
			v, err := k.f(e)
			if err != nil {
				return err
			}
			values[i] = v
		}
		k := rowKey(values)
		g := byKey[k]
		if g == nil {
			g = &group{e.clone(), values, make([]tally, len(p.aggs))}
			byKey[k] = g
			all = append(all, g)
		}
		if err := identical(g.keys, values); err != nil {
			return err
		}
		for i, a := range p.aggs {
			if err := a.add(&g.tallies[i], e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 && len(p.keys) == 0 {
		all = append(all, &group{&env{up: up, x: x}, nil, make([]tally, len(p.aggs))})
	}
	for _, g := range all {
		g.e.aggs = make([]any, len(p.aggs))
		for i, a := range p.aggs {
			g.e.aggs[i] = a.end(&g.tallies[i])
		}
		if p.having != nil {
			v, err := p.having.f(g.e)
			if err != nil {
				return nil, err
			}
			if v != true {
				continue
			}
		}
		t := tuple{}
		if t.out, err = p.project(g.e); err != nil {
			return nil, err
		}
		if t.keys, err = p.sortValues(g.e, t.out); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// lock locks the rows of a select, one after the other, until it has enough.
// A row that was changed meanwhile is looked at again, alone.
func (p *selectPlan) lock(x *exec, list []tuple, limit, offset int64) ([][]any, error) {
	rows := [][]any{}
	for _, t := range list {
		if limit >= 0 && int64(len(rows)) >= limit+offset || limit == 0 {
			break
		}
		out, ok, err := p.lockTuple(x, t)
		if err != nil {
			return nil, err
		}
		if ok {
			rows = append(rows, out)
		}
	}
	return cut(rows, limit, offset), nil
}

func (p *selectPlan) lockTuple(x *exec, t tuple) ([]any, bool, error) {
	e, moved := t.e, false
	for _, m := range p.locks {
		now, what, err := x.lock(e.from[m.rel], m.mode, m.policy, m.table)
		if err != nil || what != asSeen && what != changed {
			return nil, false, err
		}
		if what == changed {
			if !moved {
				before := e
				e = e.clone()
				e.before, moved = before, true
			}
			e.rows[m.rel], e.from[m.rel] = now.values, now
		}
	}
	if !moved {
		return t.out, true, nil
	}
	ok, err := recheck(p.from, p.where, e)
	if err != nil || !ok {
		return nil, false, err
	}
	out, err := p.project(e)
	return out, err == nil, err
}

// recheck looks at the rows of e again, of which some have changed.
func recheck(from *source, where *ex, e *env) (bool, error) {
	ok, err := from.again(e)
	if err != nil || !ok || where == nil {
		return ok, err
	}
	v, err := where.f(e)
	return v == true, err
}
