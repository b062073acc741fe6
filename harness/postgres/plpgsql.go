package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A body of plpgsql is read as its grammar takes it apart: blocks, branches and
// loops, and in them statements that end at a semicolon. What stands in a
// statement is not read but for whether it may query. A body that is not
// understood is refused: its function stays one step, and the verdict names it.

// gatedBody is a body with gates.
type gatedBody struct {
	text  string
	gates []insideGate
	left  []int    // lines at which more than one query follows a gate
	runs  []string // constant texts that it executes
	// It may end its transaction, so that the next one's snapshot is taken by a
	// gate: that matters where a transaction has one for all its statements.
	commits bool
}

// insideGate stands before a statement of a function, or before a loop looks again.
type insideGate struct {
	line int    // as PostgreSQL counts them: what follows AS begins with line 1
	text string // of the statement; of one that holds others, as far as those
}

// What is inserted begins and ends so, and stands in one line: those of the
// body keep their numbers.
const (
	insertBegins = "/*harness:*/"
	insertEnds   = "/*:harness*/"
)

// withoutGates takes out what was inserted.
func withoutGates(body string) string {
	var b strings.Builder
	for {
		at := strings.Index(body, insertBegins)
		if at < 0 {
			break
		}
		end := strings.Index(body[at:], insertEnds)
		if end < 0 {
			break
		}
		b.WriteString(body[:at])
		body = body[at+end+len(insertEnds):]
	}
	b.WriteString(body)
	return b.String()
}

// plpgsql reads a body.
type plpgsql struct {
	body    string
	tokens  []token
	at      int
	touches func(call string) bool // whether a function of this name may read or write
	loops   []bool                 // those around, and whether each queries again
	inserts []insertion
	gatedBody
}

// An insertion is a gate, by its number; or a text.
type insertion struct {
	at, gate int
	text     string
}

// plpgsqlError is why a body can't be gated.
type plpgsqlError struct {
	line int
	what string
}

func (e *plpgsqlError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.what) }

// gatePlpgsql puts gates into a body, each as gate says of its number.
func gatePlpgsql(body string, touches func(call string) bool, gate func(n int) string) (g gatedBody, err error) {
	p := &plpgsql{body: body, tokens: plpgsqlTokens(body, false), touches: touches}
	defer func() {
		if v := recover(); v != nil {
			refused, ok := v.(*plpgsqlError)
			if !ok {
				panic(v)
			}
			err = refused
		}
	}()
	if strings.Contains(body, insertBegins) || strings.Contains(body, insertEnds) {
		p.refuse("it holds the words by which gates are known")
	}
	if !slices.Equal(p.tokens, plpgsqlTokens(body, true)) {
		p.refuse("a backslash in a string, which means two things")
	}
	p.whole()
	var b strings.Builder
	from := 0
	for _, in := range p.inserts { // in the order of their places
		b.WriteString(body[from:in.at])
		from = in.at
		if in.text == "" {
			in.text = gate(in.gate)
		}
		b.WriteString(insertBegins + in.text + insertEnds)
	}
	b.WriteString(body[from:])
	p.text = b.String()
	return p.gatedBody, nil
}

// plpgsqlTokens are those of a body. The dots of a range end a number.
func plpgsqlTokens(body string, backslash bool) (tokens []token) {
	for _, t := range lex(body, backslash) {
		dots := strings.Index(body[t.start:t.end], "..")
		if t.kind != 0 || dots < 0 {
			tokens = append(tokens, t)
			continue
		}
		at := t.start + dots
		tokens = append(tokens, token{start: t.start, end: at}, token{'.', ".", at, at + 1}, token{'.', ".", at + 1, at + 2})
		for _, u := range plpgsqlTokens(body[at+2:t.end], backslash) {
			u.start, u.end = u.start+at+2, u.end+at+2
			tokens = append(tokens, u)
		}
	}
	return tokens
}

func (p *plpgsql) refuse(what string) {
	panic(&plpgsqlError{p.lineOf(p.start()), what})
}

func (p *plpgsql) lineOf(at int) int { return 1 + strings.Count(p.body[:at], "\n") }

// start is where the next token does.
func (p *plpgsql) start() int {
	if p.at < len(p.tokens) {
		return p.tokens[p.at].start
	}
	return len(p.body)
}

func (p *plpgsql) is(i int, kind byte) bool { return i < len(p.tokens) && p.tokens[i].kind == kind }

// word is the next token, where that is a word and no name of a variable that is
// assigned to.
func (p *plpgsql) word() string {
	if !p.is(p.at, 'w') || p.is(p.at+1, '=') || p.is(p.at+1, ':') || p.is(p.at+1, '[') || p.is(p.at+1, '.') {
		return ""
	}
	return p.tokens[p.at].text
}

func (p *plpgsql) take(kind byte, text string) {
	if !p.is(p.at, kind) || p.tokens[p.at].text != text {
		p.refuse("no " + text + " where one is looked for")
	}
	p.at++
}

// until takes tokens up to one of these words, outside of parentheses.
func (p *plpgsql) until(words ...string) []token {
	list, found := p.upTo(func(t token, depth int) bool {
		if t.kind == ';' {
			p.refuse("a semicolon before " + strings.Join(words, " or "))
		}
		return t.kind == 'w' && depth == 0 && slices.Contains(words, t.text)
	})
	if !found {
		p.refuse("no " + strings.Join(words, " or "))
	}
	return list
}

// untilSemicolon takes a statement and what ends it.
func (p *plpgsql) untilSemicolon() []token {
	list, found := p.upTo(func(t token, depth int) bool {
		switch {
		case t.kind == 'w' && t.text == "atomic":
			p.refuse("the body of a function in SQL")
		case t.kind == ';' && depth > 0:
			p.refuse("a semicolon in parentheses")
		}
		return t.kind == ';'
	})
	if !found {
		p.refuse("no semicolon")
	}
	p.at++
	return list
}

// upTo takes tokens up to the first at which ends reports true. It asks of each that
// is no parenthesis, and says in how many it stands.
func (p *plpgsql) upTo(ends func(t token, depth int) bool) (list []token, found bool) {
	from, depth := p.at, 0
	for ; p.at < len(p.tokens); p.at++ {
		switch t := p.tokens[p.at]; t.kind {
		case '(', '[':
			depth++
		case ')', ']':
			if depth--; depth < 0 {
				p.refuse("a parenthesis too many")
			}
		default:
			if ends(t, depth) {
				return p.tokens[from:p.at], true
			}
		}
	}
	return nil, false
}

// gate puts one before what begins here and has this text.
func (p *plpgsql) gate(at int, text string) {
	p.inserts = append(p.inserts, insertion{at: at, gate: len(p.gates)})
	p.gates = append(p.gates, insideGate{p.lineOf(at), engine.Clip(text, 1000)})
}

// leaves notes a part in which others can't come between all that queries.
func (p *plpgsql) leaves(at int) {
	if line := p.lineOf(at); !slices.Contains(p.left, line) {
		p.left = append(p.left, line)
	}
}

// queries reports whether an expression may read or write: it has a query of its
// own, or calls a function that may.
func (p *plpgsql) queries(tokens []token) bool {
	depth := 0
	for i, t := range tokens {
		switch {
		case t.kind == '(':
			depth++
		case t.kind == ')':
			depth--
		case t.kind != 'w':
		case t.text == "from": // and not extract(year from …)
			if depth == 0 && (i == 0 || tokens[i-1].text != "distinct") {
				return true
			}
		case slices.Contains(readingWords, t.text):
			return true
		}
	}
	return slices.ContainsFunc(called(tokens), p.touches)
}

// parts is how many of the expressions that commas and words part may query,
// each of which is a query by itself.
func (p *plpgsql) parts(tokens []token, words ...string) (n int) {
	depth, from := 0, 0
	count := func(to int) {
		if p.queries(tokens[from:to]) {
			n++
		}
		from = to + 1
	}
	for i, t := range tokens {
		switch {
		case t.kind == '(' || t.kind == '[':
			depth++
		case t.kind == ')' || t.kind == ']':
			depth--
		case depth == 0 && (t.kind == ',' || t.kind == 'w' && slices.Contains(words, t.text)),
			depth == 0 && t.kind == '.' && i > 0 && tokens[i-1].kind == '.':
			count(i)
		}
	}
	count(len(tokens))
	return n
}
