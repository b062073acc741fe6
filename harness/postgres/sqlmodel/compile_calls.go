package sqlmodel

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// call compiles a function.
func (c *compiler) call(sc *scope, x eCall) *ex {
	if _, ok := aggregates[x.name]; ok {
		return c.aggregate(sc, x)
	}
	if x.star || x.distinct || x.filter != nil {
		mustNot(refuse("the function %s", x.name))
	}
	args := make([]*ex, len(x.args))
	kept, decided := 0, false
	for i, a := range x.args {
		args[i] = c.expr(sc, a)
		if v, ok := c.literal(args[i]); x.name == "coalesce" && !decided && ok && v != nil {
			kept, decided = len(c.early), true
		}
	}
	if decided {
		c.early = c.early[:kept]
	}
	if f, ok := special[x.name]; ok {
		if len(args) == 0 && slices.Contains(ofAny, x.name) {
			mustNot(refuse("the function %s without arguments", x.name))
		}
		return f(c, x.name, args)
	}
	if f, ok := c.stateful(x.name, args); ok {
		return f
	}
	f, ok := functions[x.name]
	if !ok {
		mustNot(refuse("the function %s", x.name))
	}
	if len(args) != len(f.args) {
		mustNot(refuse("the function %s with %d arguments", x.name, len(args)))
	}
	for i, t := range f.args {
		args[i] = c.typed(args[i], t)
		if u := args[i].t; u.k != t.k && (!u.isText() || !t.isText()) && (!u.isInt() || !t.isInt() || u.k > t.k) {
			mustNot(refuse("the function %s of %s", x.name, args[i].t))
		}
	}
	return strict(f.t, args, f.do)
}

// strict is a function that is null where an argument is.
func strict(t typ, args []*ex, do func(values []any) (any, error)) *ex {
	return &ex{t: t, f: func(e *env) (any, error) {
		values := make([]any, len(args))
		for i, a := range args {
			v, err := a.f(e)
			if err != nil || v == nil {
				return nil, err
			}
			values[i] = v
		}
		return do(values)
	}}
}

type function struct {
	args []typ
	t    typ
	do   func(values []any) (any, error)
}

func textTo(t kind, do func(s string) any) function {
	return function{[]typ{{k: kText}}, typ{k: t}, func(v []any) (any, error) { return do(v[0].(string)), nil }}
}

// letters is lower or upper, which go by the locale beyond ASCII.
func letters(do func(string) string) function {
	return function{[]typ{{k: kText}}, typ{k: kText}, func(v []any) (any, error) {
		s := v[0].(string)
		if strings.ContainsFunc(s, func(r rune) bool { return r > 127 }) {
			return nil, refuse("lower and upper of %q: beyond ASCII they go by the locale", s)
		}
		return do(s), nil
	}}
}

var functions = map[string]function{
	"lower":       letters(strings.ToLower),
	"upper":       letters(strings.ToUpper),
	"btrim":       textTo(kText, func(s string) any { return strings.Trim(s, " ") }),
	"ltrim":       textTo(kText, func(s string) any { return strings.TrimLeft(s, " ") }),
	"rtrim":       textTo(kText, func(s string) any { return strings.TrimRight(s, " ") }),
	"length":      textTo(kInt4, func(s string) any { return int64(utf8.RuneCountInString(s)) }),
	"char_length": textTo(kInt4, func(s string) any { return int64(utf8.RuneCountInString(s)) }),
	"hashtext":    textTo(kInt4, func(s string) any { return int64(hashText(s)) }),
	"replace": {[]typ{{k: kText}, {k: kText}, {k: kText}}, typ{k: kText}, func(v []any) (any, error) {
		if v[1] == "" {
			return v[0], nil
		}
		return strings.ReplaceAll(v[0].(string), v[1].(string), v[2].(string)), nil
	}},
}

// ofAny are functions of as many arguments as there are, and of one at least.
var ofAny = []string{"coalesce", "greatest", "least", "concat"}

// special are functions whose arguments may be of several types.
var special = map[string]func(c *compiler, name string, args []*ex) *ex{
	"coalesce": func(c *compiler, _ string, args []*ex) *ex {
		t, list := c.unified("COALESCE", args...)
		if v, ok := c.literal(list[0]); ok && v != nil {
			return list[0]
		}
		return &ex{t: t, f: func(e *env) (any, error) {
			for _, a := range list {
				if v, err := a.f(e); err != nil || v != nil {
					return v, err
				}
			}
			return nil, nil
		}}
	},
	"nullif": func(c *compiler, name string, args []*ex) *ex {
		if len(args) != 2 {
			mustNot(refuse("the function %s with %d arguments", name, len(args)))
		}
		list := c.comparable("=", args[0], args[1])
		return &ex{t: list[0].t.bare(), f: func(e *env) (any, error) {
			a, b, err := both(e, list[0], list[1])
			if err != nil || a != nil && b != nil && compare(a, b) == 0 {
				return nil, err
			}
			return a, nil
		}}
	},
	"greatest": func(c *compiler, _ string, args []*ex) *ex { return c.extreme("GREATEST", 1, args) },
	"least":    func(c *compiler, _ string, args []*ex) *ex { return c.extreme("LEAST", -1, args) },
	"abs": func(_ *compiler, name string, args []*ex) *ex {
		if len(args) != 1 || !args[0].t.isNum() {
			mustNot(refuse("the function %s of this", name))
		}
		t := args[0].t.bare()
		return strict(t, args, func(v []any) (any, error) {
			if d, ok := v[0].(decimal); ok {
				if d.digits.Sign() < 0 {
					d = d.neg()
				}
				return d, nil
			}
			return inRange(t, int64(magnitude(v[0].(int64))))
		})
	},
	"now": clock(kTimestamptz), "current_timestamp": clock(kTimestamptz), "transaction_timestamp": clock(kTimestamptz), "localtimestamp": clock(kTimestamp),
	"current_date": clock(kDate), "statement_timestamp": clock(kVoid), "clock_timestamp": clock(kVoid),
	"concat": func(c *compiler, _ string, args []*ex) *ex {
		for i := range args {
			args[i] = c.typed(args[i], typ{k: kText})
			if args[i].t.k == kBool {
				mustNot(refuse("concat of a boolean"))
			}
		}
		return &ex{t: typ{k: kText}, f: func(e *env) (any, error) {
			var b strings.Builder
			for _, a := range args {
				v, err := a.f(e)
				if err != nil {
					return nil, err
				}
				if v == nil {
					continue
				}
				s, err := text(a.t, v)
				if err != nil {
					return nil, err
				}
				b.WriteString(s)
			}
			return b.String(), nil
		}}
	},
}

// clock is the time at which the transaction has begun; of the kind void, that
// of the statement, which is the same moment of the virtual clock for all in it.
func clock(k kind) func(c *compiler, name string, args []*ex) *ex {
	return func(_ *compiler, name string, args []*ex) *ex {
		if len(args) > 0 {
			mustNot(refuse("the function %s with arguments", name))
		}
		t := typ{k: k}
		if k == kVoid {
			t.k = kTimestamptz
		}
		return &ex{t: t, f: func(e *env) (any, error) {
			m := e.x.s.began
			if k == kVoid {
				m = e.x.s.parker.now()
			}
			if m = m.UTC().Truncate(time.Microsecond); k == kDate {
				m = m.Truncate(24 * time.Hour)
			}
			return m, nil
		}}
	}
}

func (c *compiler) extreme(what string, sign int, args []*ex) *ex {
	t, list := c.unified(what, args...)
	return &ex{t: t, f: func(e *env) (any, error) {
		var best any
		for _, a := range list {
			v, err := a.f(e)
			if err != nil {
				return nil, err
			}
			if v != nil && (best == nil || compare(v, best)*sign > 0) {
				best = v
			}
		}
		return best, nil
	}}
}

// hashText is PostgreSQL's hash of a text, by Jenkins: applications make keys
// of advisory locks of it.
func hashText(s string) int32 {
	k := []byte(s)
	a := uint32(0x9e3779b9) + uint32(len(k)) + 3923095
	b, c := a, a
	word := func(i int) uint32 {
		return uint32(k[i]) | uint32(k[i+1])<<8 | uint32(k[i+2])<<16 | uint32(k[i+3])<<24
	}
	rot := func(x uint32, n int) uint32 { return x<<n | x>>(32-n) }
	for len(k) >= 12 {
		a, b, c = a+word(0), b+word(4), c+word(8)
		a = a - c ^ rot(c, 4)
		c += b
		b = b - a ^ rot(a, 6)
		a += c
		c = c - b ^ rot(b, 8)
		b += a
		a = a - c ^ rot(c, 16)
		c += b
		b = b - a ^ rot(a, 19)
		a += c
		c = c - b ^ rot(b, 4)
		b += a
		k = k[12:]
	}
	for i, x := range k {
		switch {
		case i < 4:
			a += uint32(x) << (8 * i)
		case i < 8:
			b += uint32(x) << (8 * (i - 4))
		default:
			c += uint32(x) << (8 * (i - 7)) // the lowest byte is the length's
		}
	}
	c = c ^ b - rot(b, 14)
	a = a ^ c - rot(c, 11)
	b = b ^ a - rot(a, 25)
	c = c ^ b - rot(b, 16)
	a = a ^ c - rot(c, 4)
	b = b ^ a - rot(a, 14)
	c = c ^ b - rot(b, 24)
	return int32(c)
}

// stateful are functions that change more than rows.
func (c *compiler) stateful(name string, args []*ex) (*ex, bool) {
	switch name {
	case "nextval", "currval", "setval":
		return c.sequence(name, args), true
	case "lastval":
		return &ex{t: typ{k: kInt8}, f: func(e *env) (any, error) {
			s := e.x.s
			if s.lastDrawn == 0 {
				return nil, stateError("55000", "lastval is not yet defined in this session")
			}
			return s.drew[s.lastDrawn-1], nil
		}}, len(args) == 0
	case "gen_random_uuid":
		c.draws = true
		return &ex{t: typ{k: kUUID}, f: func(e *env) (any, error) {
			e.x.s.st.drawn++
			return fmt.Sprintf("00000000-0000-4000-8000-%012x", e.x.s.st.drawn), nil
		}}, len(args) == 0
	}
	if strings.HasPrefix(name, "pg_advisory") || strings.HasPrefix(name, "pg_try_advisory") {
		return c.advisoryLock(name, args), true
	}
	return nil, false
}

func (c *compiler) sequence(name string, args []*ex) *ex {
	if len(args) == 0 || args[0].quote == nil || len(args) > 1 && name != "setval" || len(args) > 2 {
		mustNot(refuse("%s of something other than the sequence's name in quotes", name))
	}
	written := strings.ReplaceAll(strings.TrimPrefix(*args[0].quote, "public."), `"`, "")
	n, ok := c.cat.sequences[written]
	if !ok {
		fail("42P01", "relation %q does not exist", written)
	}
	t := typ{k: kInt8}
	switch c.draws = true; name {
	case "currval":
		return &ex{t: t, f: func(e *env) (any, error) {
			v, ok := e.x.s.drew[n]
			if !ok {
				return nil, stateError("55000", fmt.Sprintf("currval of sequence %q is not yet defined in this session", written))
			}
			return v, nil
		}}
	case "setval":
		if len(args) != 2 {
			mustNot(refuse("setval with %d arguments", len(args)))
		}
		to := c.assign(args[1], t, "setval")
		return strict(t, []*ex{to}, func(v []any) (any, error) { return v[0], nil }).then(func(e *env, v any) {
			e.x.s.st.seqs[n] = sequence{v.(int64), true}
			e.x.s.draw(n, v.(int64))
		})
	}
	return &ex{t: t, f: func(e *env) (any, error) { return e.x.s.next(n), nil }}
}

// then does something with a value that is not null.
func (x *ex) then(do func(e *env, v any)) *ex {
	return &ex{t: x.t, f: func(e *env) (any, error) {
		v, err := x.f(e)
		if err == nil && v != nil {
			do(e, v)
		}
		return v, err
	}}
}

// next draws from a sequence, which no rollback takes back.
func (s *session) next(n int) int64 {
	q, d := &s.st.seqs[n], s.st.cat.seqs[n]
	if q.called {
		q.last += d.step
	} else {
		q.last, q.called = d.start, true
	}
	s.draw(n, q.last)
	return q.last
}

func (s *session) draw(n int, v int64) {
	if s.drew == nil {
		s.drew = map[int]int64{}
	}
	s.drew[n], s.lastDrawn = v, n+1
}
