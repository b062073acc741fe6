package sqlmodel

import (
	"math"
	"math/big"
	"math/bits"
	"strings"
	"time"
)

func (c *compiler) unary(sc *scope, x eUnary) *ex {
	if x.op == "not" {
		if sub, ok := x.x.(eExists); ok {
			return c.exists(sc, sub, true)
		}
		y := c.condition(sc, x.x, "NOT")
		return &ex{t: y.t, fixed: y.fixed, f: func(e *env) (any, error) {
			v, err := y.f(e)
			if b, ok := v.(bool); ok {
				return !b, err
			}
			return nil, err
		}}
	}
	y := c.expr(sc, x.x)
	if y.untyped() {
		mustNot(refuse("the sign of a constant in quotes or of a parameter: write its type behind it, such as $1::int"))
	}
	if !y.t.isNum() {
		fail("42883", "operator does not exist: %s %s", x.op, y.t)
	}
	if x.op == "+" {
		return &ex{t: y.t.bare(), f: y.f}
	}
	t := y.t.bare()
	return &ex{t: t, f: func(e *env) (any, error) {
		switch v, err := y.f(e); v := v.(type) {
		case int64:
			if v == math.MinInt64 {
				return nil, stateError("22003", t.String()+" out of range")
			}
			return inRange(t, -v)
		case decimal:
			return v.neg(), nil
		default:
			return nil, err
		}
	}}
}

func (c *compiler) isBool(sc *scope, x eIsBool) *ex {
	y := c.condition(sc, x.x, "IS "+upper(x.what))
	want := map[string]any{"true": true, "false": false, "unknown": nil}[x.what]
	return &ex{t: y.t, fixed: y.fixed, f: func(e *env) (any, error) {
		v, err := y.f(e)
		return (v == want) != x.not, err
	}}
}

func (c *compiler) binary(sc *scope, x eBinary) *ex {
	switch x.op {
	case "and", "or":
		return c.logic(sc, x)
	}
	l, r := c.expr(sc, x.l), c.expr(sc, x.r)
	switch x.op {
	case "=", "<>", "<", ">", "<=", ">=":
		return c.compares(x.op, l, r)
	case "||":
		return c.concatenates(l, r)
	case "like", "ilike", "not like", "not ilike":
		return c.like(x.op, l, r)
	}
	return c.arithmetic(x.op, l, r)
}

// logic is the operators and, or, with their third value. A side that is not needed is
// not looked at.
func (c *compiler) logic(sc *scope, x eBinary) *ex {
	decides := x.op == "or"
	l := c.condition(sc, x.l, upper(x.op))
	kept := len(c.early)
	r := c.condition(sc, x.r, upper(x.op))
	if v, ok := c.literal(l); ok && v == decides {
		c.early = c.early[:kept]
		return constant(l.t, decides)
	}
	if v, ok := c.literal(r); ok && v == decides {
		return constant(r.t, decides)
	}
	return &ex{t: typ{k: kBool}, fixed: l.fixed && r.fixed, f: func(e *env) (any, error) {
		a, err := l.f(e)
		if err != nil || a == decides {
			return a, err
		}
		b, err := r.f(e)
		if err != nil || b == decides {
			return b, err
		}
		if a == nil || b == nil {
			return nil, nil
		}
		return !decides, nil
	}}
}

// comparable brings two sides to types that are compared.
func (c *compiler) comparable(op string, l, r *ex) []*ex {
	switch {
	case l.untyped() && r.untyped():
		l, r = c.typed(l, typ{k: kText}), c.typed(r, typ{k: kText})
	case l.untyped():
		l = c.typed(l, textOf(r.t))
	case r.untyped():
		r = c.typed(r, textOf(l.t))
	}
	a, b := l.t, r.t
	alike := a.k == b.k || a.isNum() && b.isNum() || a.isText() && b.isText() || a.isTime() && b.isTime()
	if !alike || a.k == kJSON || b.k == kVoid || a.k == kJSONB && op != "=" {
		fail("42883", "operator does not exist: %s %s %s", a, op, b)
	}
	if a.k == kJSONB {
		mustNot(refuse("comparisons of jsonb"))
	}
	return []*ex{l, r}
}

// textOf is text for both types of text: what is compared has no length.
func textOf(t typ) typ {
	if t.isText() {
		t.k = kText
	}
	return t
}

func (c *compiler) compares(op string, l, r *ex) *ex {
	list := c.comparable(op, l, r)
	l, r = list[0], list[1]
	test := map[string]func(int) bool{
		"=": func(n int) bool { return n == 0 }, "<>": func(n int) bool { return n != 0 },
		"<": func(n int) bool { return n < 0 }, ">": func(n int) bool { return n > 0 },
		"<=": func(n int) bool { return n <= 0 }, ">=": func(n int) bool { return n >= 0 },
	}[op]
	return &ex{t: typ{k: kBool}, fixed: l.fixed && r.fixed, f: func(e *env) (any, error) {
		a, b, err := both(e, l, r)
		if err != nil || a == nil || b == nil {
			return nil, err
		}
		return test(compare(a, b)), nil
	}}
}

func (c *compiler) concatenates(l, r *ex) *ex {
	if l.untyped() {
		l = c.typed(l, typ{k: kText})
	}
	if r.untyped() {
		r = c.typed(r, typ{k: kText})
	}
	if !l.t.isText() && !r.t.isText() {
		if l.t.k == kJSONB || r.t.k == kJSONB {
			mustNot(refuse("the operator || of jsonb"))
		}
		fail("42883", "operator does not exist: %s || %s", l.t, r.t)
	}
	return &ex{t: typ{k: kText}, f: func(e *env) (any, error) {
		a, b, err := both(e, l, r)
		if err != nil || a == nil || b == nil {
			return nil, err
		}
		s, err := text(l.t, a)
		if err != nil {
			return nil, err
		}
		t, err := text(r.t, b)
		return s + t, err
	}}
}

func (c *compiler) like(op string, l, r *ex) *ex {
	l, r = c.typed(l, typ{k: kText}), c.typed(r, typ{k: kText})
	if !l.t.isText() || !r.t.isText() {
		fail("42883", "operator does not exist: %s ~~ %s", l.t, r.t)
	}
	not, fold := strings.HasPrefix(op, "not "), strings.HasSuffix(op, "ilike")
	return &ex{t: typ{k: kBool}, f: func(e *env) (any, error) {
		a, b, err := both(e, l, r)
		if err != nil || a == nil || b == nil {
			return nil, err
		}
		s, pattern := a.(string), b.(string)
		if fold && strings.ContainsFunc(s+pattern, func(r rune) bool { return r > 127 }) {
			return nil, refuse("ilike of %q: beyond ASCII it goes by the locale", s)
		}
		if fold {
			s, pattern = strings.ToLower(s), strings.ToLower(pattern)
		}
		if strings.HasSuffix(strings.ReplaceAll(pattern, `\\`, ""), `\`) {
			return nil, stateError("22025", "LIKE pattern must not end with escape character")
		}
		return likes([]rune(s), []rune(pattern)) != not, nil
	}}
}

// likes matches % and _, and what a backslash quotes. Where it fails behind a %,
// that takes one more rune, and what comes before it stays as it is.
func likes(s, pattern []rune) bool {
	at, back, from := 0, -1, 0
	for i := 0; i < len(s); {
		n, ok := 0, false
		switch {
		case at == len(pattern):
		case pattern[at] == '%':
			at++
			back, from = at, i
			continue
		case pattern[at] == '_':
			n, ok = 1, true
		case pattern[at] == '\\' && at+1 < len(pattern):
			n, ok = 2, pattern[at+1] == s[i]
		default:
			n, ok = 1, pattern[at] == s[i]
		}
		switch {
		case ok:
			at, i = at+n, i+1
		case back < 0:
			return false
		default:
			from++
			at, i = back, from
		}
	}
	for at < len(pattern) && pattern[at] == '%' {
		at++
	}
	return at == len(pattern)
}

func (c *compiler) arithmetic(op string, l, r *ex) *ex {
	if l.untyped() && r.untyped() {
		mustNot(refuse("%s of two values without a type: write one behind them, such as $1::int", op))
	}
	if l.untyped() || r.untyped() {
		known := l.t
		if l.untyped() {
			known = r.t
		}
		to := known
		switch {
		case known.k == kDate, known.isTime() && (op != "-" && op != "+" || l.untyped() && op == "-"), known.k == kInterval && op != "+" && op != "-", l.untyped() && known.k == kInterval:
			mustNot(refuse("%s of %s and a value without a type: write one behind it, such as $1::interval", op, known))
		case known.isTime() && op == "+":
			to = typ{k: kInterval}
		}
		l, r = c.typed(l, to), c.typed(r, to)
	}
	if l.t.isNum() && r.t.isNum() {
		return c.numbers(op, l, r)
	}
	return moments(op, l, r)
}

func (c *compiler) numbers(op string, l, r *ex) *ex {
	t := typ{k: max(l.t.k, r.t.k)}
	l, r = converted(l, t, false), converted(r, t, false)
	return c.known(&ex{t: t, fixed: l.fixed && r.fixed, f: func(e *env) (any, error) {
		a, b, err := both(e, l, r)
		if err != nil || a == nil || b == nil {
			return nil, err
		}
		if t.k == kNumeric {
			return decimals(op, a.(decimal), b.(decimal))
		}
		n, ok := integers(op, a.(int64), b.(int64))
		switch {
		case !ok && (op == "/" || op == "%") && b == int64(0):
			return nil, stateError("22012", "division by zero")
		case !ok:
			return nil, stateError("22003", t.String()+" out of range")
		}
		return inRange(t, n)
	}})
}

// integers calculates with 64 bits: not ok where the result has more.
func integers(op string, a, b int64) (n int64, ok bool) {
	switch op {
	case "+":
		n = a + b
		return n, (n > a) == (b > 0)
	case "-":
		n = a - b
		return n, (n < a) == (b > 0)
	case "*":
		hi, lo := bits.Mul64(magnitude(a), magnitude(b))
		if neg := (a < 0) != (b < 0); hi > 0 || lo > 1<<63 || !neg && lo == 1<<63 {
			return 0, false
		}
		return a * b, true
	}
	if b == 0 || a == math.MinInt64 && b == -1 && op == "/" {
		return 0, false
	}
	if op == "/" {
		return a / b, true
	}
	if b == -1 {
		return 0, true
	}
	return a % b, true
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

func decimals(op string, a, b decimal) (any, error) {
	switch op {
	case "+":
		return a.add(b), nil
	case "-":
		return a.add(b.neg()), nil
	case "*":
		return a.mul(b), nil
	}
	if b.digits.Sign() == 0 {
		return nil, stateError("22012", "division by zero")
	}
	if op == "%" {
		x, y, scale := align(a, b)
		return decimal{x.Rem(x, y), scale}, nil
	}
	return a.div(b), nil
}

// div has as many digits behind the point as PostgreSQL gives a quotient: at
// least 16 significant ones, counted in groups of four.
func (d decimal) div(o decimal) decimal {
	w1, f1 := d.leading()
	w2, f2 := o.leading()
	weight := w1 - w2
	if f1 <= f2 {
		weight--
	}
	scale := min(max(16-weight*4, d.scale, o.scale), 1000)
	x := new(big.Int).Mul(d.digits, power(scale+o.scale+1))
	y := new(big.Int).Mul(o.digits, power(d.scale))
	return decimal{x.Quo(x, y), scale + 1}.round(scale)
}

// leading is the position of the first group of four digits, and its value.
func (d decimal) leading() (weight int, first int64) {
	whole, fraction, _ := strings.Cut(decimal{new(big.Int).Abs(d.digits), d.scale}.String(), ".")
	for len(whole)%4 != 0 {
		whole = "0" + whole
	}
	for len(fraction)%4 != 0 {
		fraction += "0"
	}
	groups, weight := whole+fraction, len(whole)/4-1
	for ; len(groups) > 0; groups, weight = groups[4:], weight-1 {
		if n, _ := new(big.Int).SetString(groups[:4], 10); n.Sign() != 0 {
			return weight, n.Int64()
		}
	}
	return 0, 0
}

// moments is arithmetic with dates, timestamps and intervals.
func moments(op string, l, r *ex) *ex {
	a, b := l.t.bare(), r.t.bare()
	if op == "+" && (a.k == kInterval && b.isTime() || a.isInt() && a.k != kInt8 && b.k == kDate) {
		l, r, a, b = r, l, b, a
	}
	if op == "*" && a.isInt() && b.k == kInterval {
		l, r, a, b = r, l, b, a
	}
	sign := 1
	if op == "-" {
		sign = -1
	}
	var t typ
	var do func(v, w any) (any, error)
	plus := op == "+" || op == "-"
	switch {
	case plus && a.k == kInterval && b.k == kInterval:
		t, do = a, func(v, w any) (any, error) { return v.(interval).plus(w.(interval), int64(sign)) }
	case plus && a.isTime() && b.k == kInterval:
		if t = a; a.k == kDate {
			t.k = kTimestamp
		}
		do = func(v, w any) (any, error) { return inYears(shift(v.(time.Time), w.(interval), sign)) }
	case plus && a.k == kDate && b.isInt() && b.k != kInt8:
		t, do = a, func(v, w any) (any, error) {
			n := w.(int64)
			if magnitude(n) > 4e6 {
				return nil, refuse("dates beyond the years 1 to 9999")
			}
			return inYears(v.(time.Time).AddDate(0, 0, sign*int(n)))
		}
	case op == "-" && a.k == kDate && b.k == kDate:
		t, do = typ{k: kInt4}, func(v, w any) (any, error) {
			return (v.(time.Time).Unix() - w.(time.Time).Unix()) / 86400, nil
		}
	case op == "-" && a.isTime() && b.isTime():
		t, do = typ{k: kInterval}, func(v, w any) (any, error) {
			m := v.(time.Time).UnixMicro() - w.(time.Time).UnixMicro()
			return interval{}.plus(interval{days: int32(m / 86400e6), micros: m % 86400e6}, 1)
		}
	case op == "*" && a.k == kInterval && b.isInt():
		t, do = a, func(v, w any) (any, error) { return interval{}.plus(v.(interval), w.(int64)) }
	default:
		if a.k == kInterval || b.k == kInterval || a.isTime() && b.isTime() {
			mustNot(refuse("%s %s %s", a, op, b))
		}
		fail("42883", "operator does not exist: %s %s %s", a, op, b)
	}
	return &ex{t: t, f: func(e *env) (any, error) {
		v, w, err := both(e, l, r)
		if err != nil || v == nil || w == nil {
			return nil, err
		}
		return do(v, w)
	}}
}

// plus adds an interval so many times.
func (v interval) plus(w interval, times int64) (any, error) {
	ok := true
	part := func(a, b int64) int64 {
		n, fine := integers("*", b, times)
		sum, fits := integers("+", a, n)
		ok = ok && fine && fits
		return sum
	}
	months, days, micros := part(int64(v.months), int64(w.months)), part(int64(v.days), int64(w.days)), part(v.micros, w.micros)
	if !ok || !fits(typ{k: kInt4}, months) || !fits(typ{k: kInt4}, days) {
		return nil, stateError("22008", "interval out of range")
	}
	return interval{int32(months), int32(days), micros}, nil
}

func inYears(m time.Time) (any, error) {
	if y := m.Year(); y < 1 || y > 9999 {
		return nil, refuse("dates beyond the years 1 to 9999")
	}
	return m, nil
}
