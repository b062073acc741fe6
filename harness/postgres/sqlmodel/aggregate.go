package sqlmodel

// aggregates are the functions over groups.
var aggregates = map[string]bool{
	"count": true, "sum": true, "min": true, "max": true, "avg": true, "bool_and": true, "bool_or": true, "every": true,
	"string_agg": false, "array_agg": false, "json_agg": false, "jsonb_agg": false, "json_object_agg": false, "jsonb_object_agg": false,
}

// An aggregate is one function over a group.
type aggregate struct {
	name     string
	arg      *ex // nil of count(*)
	filter   *ex
	distinct bool
	t        typ
}

// A tally is what an aggregate has of its group so far.
type tally struct {
	n     int64
	value any
	seen  map[string]bool
}

func (c *compiler) aggregate(sc *scope, x eCall) *ex {
	g := sc.group
	switch {
	case !aggregates[x.name]:
		mustNot(refuse("the aggregate %s", x.name))
	case g == nil || g.within:
		fail("42803", "aggregate functions are not allowed here")
	case x.star && x.name != "count" || !x.star && len(x.args) != 1:
		mustNot(refuse("the aggregate %s with %d arguments", x.name, len(x.args)))
	}
	a := &aggregate{name: x.name, distinct: x.distinct, t: typ{k: kInt8}}
	g.within = true
	if !x.star {
		a.arg = c.typed(c.expr(sc, x.args[0]), typ{k: kText})
	}
	if x.filter != nil {
		a.filter = c.condition(sc, x.filter, "FILTER")
	}
	g.within = false
	if x.name != "count" {
		a.t = a.result()
	}
	g.specs = append(g.specs, a)
	n := len(g.specs) - 1
	return &ex{t: a.t, f: func(e *env) (any, error) { return e.aggs[n], nil }}
}

// result is the type of an aggregate other than count.
func (a *aggregate) result() typ {
	t := a.arg.t.bare()
	switch a.name {
	case "sum", "avg":
		switch {
		case a.name == "sum" && (t.k == kInt2 || t.k == kInt4):
			return typ{k: kInt8}
		case t.isNum():
			return typ{k: kNumeric}
		case t.k == kInterval:
			mustNot(refuse("%s of intervals", a.name))
		}
	case "bool_and", "bool_or", "every":
		if t.k == kBool {
			return t
		}
	default:
		if t.isText() {
			return typ{k: kText}
		}
		if t.isNum() || t.isTime() || t.k == kInterval {
			return t
		}
	}
	fail("42883", "function %s(%s) does not exist", a.name, a.arg.t)
	return t
}

// add takes a row into a tally.
func (a *aggregate) add(s *tally, e *env) error {
	if a.filter != nil {
		if v, err := a.filter.f(e); err != nil || v != true {
			return err
		}
	}
	if a.arg == nil {
		s.n++
		return nil
	}
	v, err := a.arg.f(e)
	if err != nil || v == nil {
		return err
	}
	if a.distinct {
		k := key(v)
		if s.seen[k] {
			return nil
		}
		if s.seen == nil {
			s.seen = map[string]bool{}
		}
		s.seen[k] = true
	}
	s.n++
	return a.fold(s, v)
}

func (a *aggregate) fold(s *tally, v any) error {
	if n, ok := v.(int64); ok && a.t.k == kNumeric && a.name != "min" && a.name != "max" {
		v = decimalOf(n)
	}
	if s.value == nil {
		s.value = v
		return nil
	}
	switch a.name {
	case "sum", "avg":
		if d, ok := v.(decimal); ok {
			s.value = s.value.(decimal).add(d)
			return nil
		}
		n, ok := integers("+", s.value.(int64), v.(int64))
		if !ok {
			return stateError("22003", "bigint out of range")
		}
		s.value = n
	case "min":
		if compare(v, s.value) <= 0 { // of equal ones the last, which may have another scale
			s.value = v
		}
	case "max":
		if compare(v, s.value) >= 0 {
			s.value = v
		}
	case "bool_and", "every":
		s.value = s.value.(bool) && v.(bool)
	case "bool_or":
		s.value = s.value.(bool) || v.(bool)
	}
	return nil
}

// end is the aggregate of the rows that were added.
func (a *aggregate) end(s *tally) any {
	switch {
	case a.name == "count":
		return s.n
	case a.name == "avg" && s.value != nil:
		return s.value.(decimal).div(decimalOf(s.n))
	}
	return s.value
}
