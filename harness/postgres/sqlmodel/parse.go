package sqlmodel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A parser reads the part of PostgreSQL's grammar that ordinary applications
// write. What it meets beyond that it refuses by name; what is no SQL at all
// fails with 42601, as on a server.
type parser struct {
	tokens []token
	at     int
	params int
	depth  int
}

// deeper counts what is within each other, and refuses what would take the
// parser's stack.
func (p *parser) deeper() (done func()) {
	if p.depth++; p.depth > 300 {
		p.refuse("a statement nested as deep as this")
	}
	return func() { p.depth-- }
}

// parsed is one statement, with its text and the number of its parameters.
type parsed struct {
	stmt   stmt
	text   string
	params int
}

// parse reads the statements of a text.
func parse(text string) (list []parsed, err error) {
	p := &parser{}
	if p.tokens, err = lex(text); err != nil {
		return nil, err
	}
	defer func() {
		if v := recover(); v != nil {
			e, ok := v.(parseError)
			if !ok {
				panic(v)
			}
			list, err = nil, e.err
		}
	}()
	for {
		for p.take(";") {
		}
		if p.peek().kind == tokEnd {
			return list, nil
		}
		from := p.peek().at
		p.params = 0
		s := p.statement()
		end := p.peek().at
		list = append(list, parsed{s, strings.TrimSpace(text[from:end]), p.params})
		if !p.take(";") && p.peek().kind != tokEnd {
			p.fail()
		}
	}
}

// parseError carries an error up to [parse].
type parseError struct{ err error }

func (p *parser) refuse(format string, args ...any) { panic(parseError{refuse(format, args...)}) }

// fail ends the parsing at the next token.
func (p *parser) fail() {
	t := p.peek()
	if what, ok := unknown[t.text]; ok && t.kind == tokWord {
		p.refuse("%s", what)
	}
	switch t.kind {
	case tokEnd:
		panic(parseError{stateError("42601", "syntax error at end of input")})
	case tokSymbol:
		switch t.text {
		case "[":
			p.refuse("arrays")
		case "->", "->>", "#>", "#>>", "@>", "<@", "?", "~", "~*", "!~", "^", "&", "|", "#", "!", "@":
			p.refuse("the operator %s", t.text)
		}
	}
	panic(parseError{stateError("42601", fmt.Sprintf("syntax error at or near %q", t.text))})
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

func (p *parser) ahead(n int) token { return p.tokens[min(p.at+n, len(p.tokens)-1)] }

// is reports whether the next tokens are these keywords or symbols.
func (p *parser) is(words ...string) bool {
	for i, w := range words {
		if t := p.ahead(i); t.text != w || t.kind != tokWord && t.kind != tokSymbol {
			return false
		}
	}
	return true
}

func (p *parser) take(words ...string) bool {
	if !p.is(words...) {
		return false
	}
	p.at += len(words)
	return true
}

func (p *parser) want(words ...string) {
	if !p.take(words...) {
		for i, w := range words {
			if t := p.peek(); t.text != w || i == len(words)-1 {
				p.fail()
			}
			p.at++
		}
	}
}

// isName reports whether the next token can be the name of a table or a column.
func (p *parser) isName() bool {
	t := p.peek()
	return t.kind == tokQuoted || t.kind == tokWord && !reserved[t.text] && !typeWords[t.text]
}

func (p *parser) name() string {
	if !p.isName() {
		p.fail()
	}
	return p.next().text
}

// relation is a table's name, with or without the schema public.
func (p *parser) relation() string {
	n := p.name()
	if p.take(".") {
		if n != "public" {
			p.refuse("the schema %s", n)
		}
		n = p.name()
	}
	return n
}

func (p *parser) names() (list []string) {
	p.want("(")
	for {
		list = append(list, p.name())
		if !p.take(",") {
			p.want(")")
			return list
		}
	}
}

// alias is [as] name.
func (p *parser) alias() string {
	if p.take("as") {
		return p.name()
	}
	if t := p.peek(); p.isName() && (t.kind == tokQuoted || !clauseWords[t.text]) {
		return p.next().text
	}
	return ""
}

func (p *parser) statement() stmt {
	switch t := p.peek(); {
	case p.is("select"), p.is("values"), p.is("("), p.is("with"), p.is("insert"), p.is("update"), p.is("delete"):
		return p.query()
	case p.is("begin"), p.is("start"), p.is("commit"), p.is("end"), p.is("rollback"), p.is("abort"), p.is("savepoint"), p.is("release"):
		return p.control()
	case p.is("create"):
		return p.create()
	case p.is("alter"):
		return p.alter()
	case t.kind == tokWord && unknown[t.text] == "":
		panic(parseError{stateError("42601", fmt.Sprintf("syntax error at or near %q", t.text))})
	}
	p.fail()
	return nil
}

// query is a statement that can stand in a CTE.
func (p *parser) query() stmt {
	var ctes []cte
	if p.take("with") {
		if p.is("recursive") {
			p.fail()
		}
		for {
			c := cte{name: p.name()}
			if p.is("(") {
				c.columns = p.names()
			}
			p.want("as")
			if !p.take("materialized") {
				p.take("not", "materialized")
			}
			p.want("(")
			c.body = p.query()
			p.want(")")
			ctes = append(ctes, c)
			if !p.take(",") {
				break
			}
		}
	}
	switch {
	case p.take("insert"):
		s := p.insert()
		s.ctes = ctes
		return s
	case p.take("update"):
		s := p.update()
		s.ctes = ctes
		return s
	case p.take("delete"):
		s := p.delete()
		s.ctes = ctes
		return s
	}
	s := p.selects()
	if s.ctes != nil && ctes != nil {
		p.refuse("a with clause inside of another's parentheses")
	}
	if ctes != nil {
		s.ctes = ctes
	}
	return s
}

func (p *parser) control() stmt {
	c := &controlStmt{verb: p.next().text}
	block := func() {
		if !p.take("transaction") {
			p.take("work")
		}
	}
	switch c.verb {
	case "begin", "start":
		if c.verb == "start" {
			p.want("transaction")
		} else {
			block()
		}
		c.verb = "begin"
		p.modes(c)
	case "commit", "end":
		c.verb = "commit"
		block()
	case "rollback", "abort":
		c.verb = "rollback"
		if block(); p.take("to") {
			p.take("savepoint")
			c.verb, c.name = "rollback to", p.name()
		}
	case "savepoint":
		c.name = p.name()
	case "release":
		p.take("savepoint")
		c.name = p.name()
	}
	if p.is("and") || p.is("prepared") {
		p.refuse("%s %s", c.verb, p.peek().text)
	}
	return c
}

func (p *parser) modes(c *controlStmt) {
	for {
		switch {
		case p.take("isolation", "level", "read", "committed"), p.take("isolation", "level", "read", "uncommitted"), p.take("read", "write"):
		case p.take("isolation", "level", "repeatable", "read"):
			c.repeatable = true
		case p.take("isolation", "level", "serializable"):
			p.refuse("the isolation level serializable")
		case p.take("read", "only"):
			c.readOnly = true
		default:
			return
		}
		p.take(",")
	}
}

func (p *parser) insert() *insertStmt {
	p.want("into")
	s := &insertStmt{table: p.relation()}
	if p.take("as") {
		s.alias = p.name()
	}
	if p.is("(") && !p.is("(", "select") && !p.is("(", "with") && !p.is("(", "values") && !p.is("(", "(") {
		s.columns = p.names()
	}
	if p.take("overriding") {
		if !p.take("system") {
			p.refuse("overriding user value")
		}
		p.want("value")
		s.overriding = true
	}
	if !p.take("default", "values") {
		q, ok := p.query().(*selectStmt)
		if !ok {
			p.refuse("insert of what another statement returns, outside of a CTE")
		}
		s.source = q
	}
	if p.take("on", "conflict") {
		s.conflict = p.conflict()
	}
	s.returning = p.returning()
	return s
}

func (p *parser) conflict() *conflictClause {
	c := &conflictClause{}
	if p.take("on", "constraint") {
		c.constraint = p.name()
	} else if p.take("(") {
		for {
			c.columns = append(c.columns, p.indexKey())
			if !p.take(",") {
				break
			}
		}
		p.want(")")
		if p.take("where") {
			c.where = p.expr()
		}
	}
	p.want("do")
	if p.take("nothing") {
		return c
	}
	p.want("update")
	p.want("set")
	c.update, c.sets = true, p.sets()
	if p.take("where") {
		c.filter = p.expr()
	}
	return c
}

// indexKey is a column, or an expression in parentheses or a call.
func (p *parser) indexKey() expr {
	if p.take("(") {
		x := p.expr()
		p.want(")")
		return x
	}
	return p.primary()
}

func (p *parser) sets() (list []setItem) {
	for {
		if p.take("(") {
			var names []string
			for {
				names = append(names, p.name())
				if !p.take(",") {
					break
				}
			}
			p.want(")")
			p.want("=")
			p.take("row")
			p.want("(")
			if p.is("select") || p.is("with") {
				p.refuse("set of several columns to a subquery")
			}
			for i, n := range names {
				if i > 0 {
					p.want(",")
				}
				list = append(list, setItem{n, p.exprOrDefault()})
			}
			p.want(")")
		} else {
			n := p.name()
			if p.is(".") || p.is("[") {
				p.refuse("set of a part of a column")
			}
			p.want("=")
			list = append(list, setItem{n, p.exprOrDefault()})
		}
		if !p.take(",") {
			return list
		}
	}
}

func (p *parser) exprOrDefault() expr {
	if p.take("default") {
		return eDefault{}
	}
	return p.expr()
}

func (p *parser) update() *updateStmt {
	s := &updateStmt{table: p.relation()}
	p.take("*")
	s.alias = p.alias()
	p.want("set")
	s.sets = p.sets()
	if p.take("from") {
		s.from = p.fromList()
	}
	s.where, s.returning = p.condition(), p.returning()
	return s
}

func (p *parser) delete() *deleteStmt {
	p.want("from")
	s := &deleteStmt{table: p.relation()}
	s.alias = p.alias()
	if p.take("using") {
		s.using = p.fromList()
	}
	s.where, s.returning = p.condition(), p.returning()
	return s
}

// condition is which rows an update or a delete means; nil is all.
func (p *parser) condition() expr {
	if !p.take("where") {
		return nil
	}
	if p.is("current", "of") {
		p.refuse("cursors")
	}
	return p.expr()
}

func (p *parser) returning() []target {
	if !p.take("returning") {
		return nil
	}
	return p.targets()
}

func (p *parser) number() int64 {
	neg := p.take("-")
	t := p.next()
	n, err := strconv.ParseInt(t.text, 10, 64)
	if t.kind != tokNumber || err != nil {
		p.at--
		p.fail()
	}
	if neg {
		n = -n
	}
	return n
}

// oneOf takes one of these words.
func (p *parser) oneOf(list ...string) string {
	if t := p.peek(); t.kind == tokWord && slices.Contains(list, t.text) {
		p.at++
		return t.text
	}
	return ""
}
