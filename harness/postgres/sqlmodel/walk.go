package sqlmodel

import "strings"

// parts are the expressions that an expression consists of, but for subqueries.
func parts(x expr) []expr {
	switch x := x.(type) {
	case eUnary:
		return []expr{x.x}
	case eBinary:
		return []expr{x.l, x.r}
	case eIsNull:
		return []expr{x.x}
	case eIsBool:
		return []expr{x.x}
	case eDistinct:
		return []expr{x.l, x.r}
	case eIn:
		return append([]expr{x.x}, x.list...)
	case eCase:
		list := []expr{}
		if x.arg != nil {
			list = append(list, x.arg)
		}
		for _, w := range x.whens {
			list = append(list, w[0], w[1])
		}
		if x.other != nil {
			list = append(list, x.other)
		}
		return list
	case eCast:
		return []expr{x.x}
	case eCall:
		if x.filter != nil {
			return append([]expr{x.filter}, x.args...)
		}
		return x.args
	}
	return nil
}

// aggregated reports whether an expression has an aggregate in it.
func aggregated(x expr) bool {
	if c, ok := x.(eCall); ok {
		if _, ok := aggregates[c.name]; ok {
			return true
		}
	}
	for _, p := range parts(x) {
		if aggregated(p) {
			return true
		}
	}
	return false
}

// titleOf is the name of a column that is given none.
func titleOf(x expr) string {
	switch x := x.(type) {
	case eColumn:
		return x.name
	case eCall:
		return x.name
	case eCast:
		if name := titleOf(x.x); name != "?column?" {
			return name
		}
		return map[kind]string{kBool: "bool", kInt2: "int2", kInt4: "int4", kInt8: "int8", kNumeric: "numeric", kText: "text", kVarchar: "varchar", kUUID: "uuid",
			kTimestamptz: "timestamptz", kTimestamp: "timestamp", kDate: "date", kInterval: "interval", kJSON: "json", kJSONB: "jsonb"}[x.t.k]
	case eCase:
		if x.other != nil {
			if name := titleOf(x.other); name != "?column?" {
				return name
			}
		}
		return "case"
	case eBool:
		return "bool"
	case eExists:
		return "exists"
	case eSub:
		if len(x.sel.targets) > 0 && !x.sel.targets[0].star {
			if x.sel.targets[0].name != "" {
				return x.sel.targets[0].name
			}
			return titleOf(x.sel.targets[0].x)
		}
	}
	return "?column?"
}

// identical refuses two rows that are not distinct and look different: which of
// them PostgreSQL returns depends on its plan.
func identical(a, b []any) error {
	for i, v := range a {
		d, ok := v.(decimal)
		if w, _ := b[i].(decimal); ok && d.scale != w.scale {
			return refuse("which of %s and %s, which are equal, PostgreSQL returns", d, w)
		}
		j, ok := v.(interval)
		if w, _ := b[i].(interval); ok && j != w {
			return refuse("which of %s and %s, which are equal, PostgreSQL returns", j, w)
		}
	}
	return nil
}

// rowKey is a text that two rows share where their values are not distinct.
func rowKey(values []any) string {
	var b strings.Builder
	for _, v := range values {
		k := key(v)
		b.WriteString(strings.ReplaceAll(k, "\x01", "\x01\x01"))
		b.WriteString("\x01\x02")
	}
	return b.String()
}
