package sqlmodel

import (
	"strconv"
	"strings"
)

// The precedence of operators, from the loosest to the tightest, as PostgreSQL's
// grammar has it.
const (
	bindsOr = iota + 1
	bindsAnd
	bindsNot
	bindsIs
	bindsComparison
	bindsMembership // between, in, like
	bindsOther      // all operators without a level of their own
	bindsSum
	bindsProduct
	bindsSign
)

// expr reads an expression.
func (p *parser) expr() expr { return p.binary(bindsOr, false) }

// plain is an expression without and, not, in and what else ends in words, as it
// stands in between and behind default.
func (p *parser) plain() expr { return p.binary(bindsOr, true) }

// binary reads operators that bind at least as tight as a level. What stands
// behind an operator begins anew, so that a not there takes what binds tighter
// than not; and what ends by itself, such as is null, can be followed by any.
func (p *parser) binary(level int, plain bool) expr {
	defer p.deeper()()
	x := p.prefix(plain)
	for {
		op, binds := p.operator()
		if binds < level || plain && (binds < bindsIs || binds == bindsMembership || binds == bindsIs && !p.is("is", "distinct") && !p.is("is", "not", "distinct")) {
			return x
		}
		switch binds {
		case bindsIs:
			x = p.isTest(x, plain)
		case bindsComparison:
			x = p.comparison(x, plain)
		case bindsMembership:
			x = p.membership(x)
		default:
			p.next()
			x = eBinary{op, x, p.binary(binds+1, plain)}
		}
	}
}

// operator is the next token where that is one, and how tight it binds.
func (p *parser) operator() (string, int) {
	t := p.peek()
	switch t.kind {
	case tokWord:
		switch t.text {
		case "or":
			return t.text, bindsOr
		case "and":
			return t.text, bindsAnd
		case "is", "isnull", "notnull":
			return t.text, bindsIs
		case "between", "in", "like", "ilike", "similar":
			return t.text, bindsMembership
		case "not":
			switch p.ahead(1).text {
			case "between", "in", "like", "ilike", "similar":
				return t.text, bindsMembership
			}
		}
	case tokSymbol:
		switch t.text {
		case "=", "<", ">", "<=", ">=", "<>", "!=":
			return t.text, bindsComparison
		case "||":
			return t.text, bindsOther
		case "+", "-":
			return t.text, bindsSum
		case "*", "/", "%":
			return t.text, bindsProduct
		case "->", "->>", "#>", "#>>", "@>", "<@", "?", "~", "~*", "!~", "&", "|", "#", "^", "[":
			p.fail()
		}
	}
	if p.is("at") || p.is("collate") {
		p.fail()
	}
	return "", 0
}

// alone fails where an operator follows that binds as tight, which needs
// parentheses.
func (p *parser) alone(binds int) {
	if _, next := p.operator(); next == binds {
		panic(parseError{stateError("42601", "syntax error at or near \""+p.peek().text+"\"")})
	}
}

func (p *parser) prefix(plain bool) expr {
	switch {
	case !plain && p.take("not"):
		return eUnary{"not", p.binary(bindsNot, false)}
	case p.take("-"):
		x := p.binary(bindsSign, plain)
		if n, ok := x.(eNumber); ok && !strings.HasPrefix(n.text, "-") {
			return eNumber{"-" + n.text}
		}
		return eUnary{"-", x}
	case p.take("+"):
		return eUnary{"+", p.binary(bindsSign, plain)}
	}
	return p.cast()
}

func (p *parser) isTest(x expr, plain bool) expr {
	if p.take("isnull") {
		return eIsNull{x, false}
	}
	if p.take("notnull") {
		return eIsNull{x, true}
	}
	p.want("is")
	not := p.take("not")
	switch {
	case p.take("null"):
		return eIsNull{x, not}
	case p.take("distinct", "from"):
		y := eDistinct{x, p.binary(bindsIs+1, plain), not}
		p.alone(bindsIs)
		return y
	}
	what := p.oneOf("true", "false", "unknown")
	if what == "" {
		p.refuse("is %s", p.peek().text)
	}
	return eIsBool{x, what, not}
}

func (p *parser) comparison(x expr, plain bool) expr {
	op := p.next().text
	if op == "!=" {
		op = "<>"
	}
	if q := p.oneOf("any", "some", "all"); q != "" {
		if !p.is("(", "select") && !p.is("(", "values") && !p.is("(", "with") {
			p.refuse("arrays, in %s %s", op, q)
		}
		if in := op == "=" && q != "all" || op == "<>" && q == "all"; !in {
			p.refuse("%s %s of a subquery", op, q)
		}
		p.want("(")
		in := eIn{x: x, sub: p.subquery(), not: q == "all"}
		p.want(")")
		return in
	}
	y := eBinary{op, x, p.binary(bindsComparison+1, plain)}
	p.alone(bindsComparison)
	return y
}

// membership is between, in and like.
func (p *parser) membership(x expr) expr {
	not := p.take("not")
	switch {
	case p.take("between"):
		if !p.take("asymmetric") && p.is("symmetric") {
			p.fail()
		}
		lo := p.plain()
		p.want("and")
		hi := p.binary(bindsMembership+1, false)
		var y expr = eBinary{"and", eBinary{">=", x, lo}, eBinary{"<=", x, hi}}
		if not {
			y = eUnary{"not", y}
		}
		p.alone(bindsMembership)
		return y
	case p.take("in"):
		return p.in(x, not)
	case p.is("similar"):
		p.fail()
	}
	op := p.next().text
	if not {
		op = "not " + op
	}
	y := eBinary{op, x, p.binary(bindsMembership+1, false)}
	if p.is("escape") {
		p.fail()
	}
	p.alone(bindsMembership)
	return y
}

func (p *parser) in(x expr, not bool) expr {
	p.want("(")
	in := eIn{x: x, not: not}
	if p.is("select") || p.is("values") || p.is("with") {
		in.sub = p.subquery()
	} else {
		in.list = p.exprs()
	}
	p.want(")")
	return in
}

func (p *parser) cast() expr {
	x := p.primary()
	for p.take("::") {
		x = eCast{x, p.typeName()}
	}
	return x
}

// subquery is a select that stands in an expression.
func (p *parser) subquery() *selectStmt {
	s, ok := p.query().(*selectStmt)
	if !ok {
		p.fail()
	}
	return s
}

func (p *parser) primary() expr {
	t := p.peek()
	switch t.kind {
	case tokNumber:
		p.next()
		return eNumber{t.text}
	case tokString:
		p.next()
		return eString{t.text}
	case tokParam:
		p.next()
		n, err := strconv.Atoi(t.text)
		if err != nil || n < 1 || n > 65535 {
			panic(parseError{stateError("42P02", "there is no parameter $"+t.text)})
		}
		p.params = max(p.params, n)
		return eParam{n}
	case tokSymbol:
		if p.take("(") {
			return p.parenthesised()
		}
		p.fail()
	case tokWord:
		if x, ok := p.keyword(t.text); ok {
			return x
		}
	case tokEnd:
		p.fail()
	}
	return p.columnOrCall()
}

func (p *parser) parenthesised() expr {
	if p.is("select") || p.is("values") || p.is("with") {
		x := eSub{p.subquery()}
		p.want(")")
		return x
	}
	x := p.expr()
	if p.is(",") {
		p.refuse("row constructors")
	}
	p.want(")")
	if p.is(".") {
		p.refuse("parts of a composite")
	}
	if n, ok := x.(eNumber); ok { // so that - (1) is no constant of its own
		return eUnary{"+", n}
	}
	return x
}

// keyword reads what begins with a word of the grammar.
func (p *parser) keyword(word string) (expr, bool) {
	if p.ahead(1).kind == tokString {
		from := p.at
		if t, ok := p.knownType(); ok && p.peek().kind == tokString {
			return eCast{eString{p.next().text}, t}, true
		}
		p.at = from
	}
	switch word {
	case "true", "false":
		p.next()
		return eBool{word == "true"}, true
	case "null":
		p.next()
		return eNull{}, true
	case "case":
		p.next()
		return p.cases(), true
	case "cast":
		p.next()
		p.want("(")
		x := p.expr()
		p.want("as")
		t := p.typeName()
		p.want(")")
		return eCast{x, t}, true
	case "exists":
		if p.ahead(1).text != "(" {
			return nil, false
		}
		p.next()
		p.want("(")
		x := eExists{p.subquery()}
		p.want(")")
		return x, true
	case "current_timestamp", "current_date", "localtimestamp":
		p.next()
		if p.is("(") {
			p.refuse("%s with a precision", word)
		}
		return eCall{name: word}, true
	case "current_user", "session_user", "user", "current_role", "current_time", "localtime", "current_catalog":
		p.refuse("%s", word)
	case "extract", "substring", "trim", "position", "overlay", "xmlelement":
		if p.ahead(1).text == "(" {
			p.refuse("the function %s", word)
		}
	case "interval", "array", "row", "grouping":
		if n := p.ahead(1).text; n == "(" || n == "[" {
			p.fail()
		}
	}
	return nil, false
}

func (p *parser) cases() expr {
	c := eCase{}
	if !p.is("when") {
		c.arg = p.expr()
	}
	for p.take("when") {
		w := p.expr()
		p.want("then")
		c.whens = append(c.whens, [2]expr{w, p.expr()})
	}
	if c.whens == nil {
		p.fail()
	}
	if p.take("else") {
		c.other = p.expr()
	}
	p.want("end")
	return c
}

func (p *parser) columnOrCall() expr {
	t := p.peek()
	call := p.ahead(1).text == "(" && p.ahead(1).kind == tokSymbol
	if word := call && t.kind == tokWord && (t.text == "left" || t.text == "right"); !word && !p.isName() {
		p.fail()
	}
	p.next()
	if call {
		return p.call(t.text)
	}
	if p.is(".") {
		p.next()
		second := p.next()
		if second.kind != tokWord && second.kind != tokQuoted {
			p.at--
			p.fail()
		}
		if p.is("(") {
			if t.text != "pg_catalog" {
				p.refuse("the function %s.%s", t.text, second.text)
			}
			return p.call(second.text)
		}
		if p.is(".") {
			p.refuse("columns with the name of a schema")
		}
		return eColumn{t.text, second.text}
	}
	return eColumn{"", t.text}
}

func (p *parser) call(name string) expr {
	c := eCall{name: name}
	p.want("(")
	switch {
	case p.take("*"):
		c.star = true
	case !p.is(")"):
		if p.take("distinct") {
			c.distinct = true
		} else {
			p.take("all")
		}
		if p.is("variadic") {
			p.refuse("variadic")
		}
		c.args = p.exprs()
		if p.is("order") {
			p.refuse("order by inside of %s", name)
		}
		if p.is("from") || p.is("for") || p.is(":=") || p.is("=>") {
			p.refuse("the call of %s with %s", name, p.peek().text)
		}
	}
	p.want(")")
	if p.is("within") {
		p.fail()
	}
	if p.take("filter") {
		p.want("(")
		p.want("where")
		c.filter = p.expr()
		p.want(")")
	}
	if p.is("over") {
		p.fail()
	}
	return c
}

// typeNames are the types that the model knows.
var typeNames = map[string]kind{
	"bool": kBool, "boolean": kBool, "int2": kInt2, "smallint": kInt2, "int": kInt4, "int4": kInt4, "integer": kInt4,
	"int8": kInt8, "bigint": kInt8, "numeric": kNumeric, "decimal": kNumeric, "dec": kNumeric, "text": kText, "varchar": kVarchar, "uuid": kUUID,
	"timestamptz": kTimestamptz, "timestamp": kTimestamp, "date": kDate, "interval": kInterval,
	"json": kJSON, "jsonb": kJSONB, "smallserial": kInt2, "serial": kInt4, "serial4": kInt4, "bigserial": kInt8, "serial8": kInt8,
}

func (p *parser) typeName() typ {
	if t, ok := p.knownType(); ok {
		return t
	}
	name := p.peek()
	if name.kind != tokWord && name.kind != tokQuoted {
		p.fail()
	}
	p.refuse("the type %s", name.text)
	return typ{}
}

// knownType reads a type's name, or nothing.
func (p *parser) knownType() (t typ, ok bool) {
	if p.take("character", "varying") {
		t.k = kVarchar
	} else if t.k, ok = typeNames[p.peek().text]; !ok || p.peek().kind == tokString {
		return t, false
	} else {
		p.next()
	}
	switch t.k {
	case kVarchar:
		if p.take("(") {
			t.mod = int(p.number())
			p.want(")")
		}
	case kNumeric:
		if p.take("(") {
			t.mod = int(p.number())
			if p.take(",") {
				t.scale = int(p.number())
			}
			p.want(")")
		}
	case kTimestamp, kTimestamptz:
		if p.is("(") {
			p.refuse("a precision of timestamps")
		}
		if p.take("with", "time", "zone") {
			t.k = kTimestamptz
		} else {
			p.take("without", "time", "zone")
		}
	}
	if p.is("[") || p.is("array") {
		p.refuse("arrays")
	}
	return t, true
}
