package postgres

import (
	"slices"
	"strings"
)

// whole reads the body: options, and one block.
func (p *plpgsql) whole() {
	for p.is(p.at, '#') {
		p.at += 3 // #variable_conflict use_column
	}
	p.label()
	if w := p.word(); w != "declare" && w != "begin" {
		p.refuse("neither declare nor begin")
	}
	begin, first := p.tokens[0].start, len(p.inserts)
	if p.is(0, '#') {
		begin = p.begins()
	}
	if p.block(begin, true) > 0 {
		// The gate before what it declares needs a block around it.
		p.inserts[first].text = ""
		end := p.tokens[p.at-1].end
		p.inserts = append(p.inserts, insertion{at: end, text: "; end"})
		p.inserts = slices.Insert(p.inserts, first, insertion{at: begin, text: "begin"})
	}
	if p.is(p.at, ';') {
		p.at++
	}
	if p.at < len(p.tokens) {
		p.refuse("more than a block")
	}
}

// begins is where the first token behind the options does.
func (p *plpgsql) begins() int {
	i := 0
	for p.is(i, '#') {
		i += 3
	}
	return p.tokens[i].start
}

// label takes <<name>>, where that stands here.
func (p *plpgsql) label() {
	if !p.is(p.at, '<') || !p.is(p.at+1, '<') {
		return
	}
	p.at += 2
	p.name()
	p.take('>', ">")
	p.take('>', ">")
}

func (p *plpgsql) name() {
	if !p.is(p.at, 'w') && !p.is(p.at, 'n') {
		p.refuse("no name where one is looked for")
	}
	p.at++
}

// nameAgain is that of a label behind an end, up to the semicolon.
func (p *plpgsql) nameAgain() {
	if p.is(p.at, 'w') || p.is(p.at, 'n') {
		p.at++
	}
}

// block takes one that begins at a place, with its label, up to its end, and
// returns how many of the values that it declares are queried for. They are so
// when it is entered, one after the other.
func (p *plpgsql) block(at int, outermost bool) (declared int) {
	for p.word() == "declare" {
		for p.word() == "declare" {
			p.at++
		}
		for p.word() != "begin" && p.word() != "declare" {
			from := p.start()
			if p.declares(p.untilSemicolon()) {
				if declared++; declared == 1 {
					p.gate(at, "declare "+p.body[from:p.tokens[p.at-1].start])
				} else {
					p.leaves(from)
				}
			}
		}
	}
	p.take('w', "begin")
	p.statements()
	if p.word() == "exception" {
		p.at++
		for p.word() == "when" {
			p.until("then")
			p.at++
			p.statements()
		}
	}
	p.take('w', "end")
	p.nameAgain()
	if !outermost {
		p.take(';', ";")
	}
	return declared
}

// declares reports whether a declaration queries for its value. A cursor's query
// runs when it is opened.
func (p *plpgsql) declares(tokens []token) bool {
	for i, t := range tokens {
		switch {
		case t.kind == 'w' && t.text == "cursor" && i > 0:
			return false
		case t.kind == '=', t.kind == 'w' && t.text == "default":
			return p.queries(tokens[i+1:])
		}
	}
	return false
}

// statements takes all up to what ends a list of them.
func (p *plpgsql) statements() {
	for p.at < len(p.tokens) {
		switch p.word() {
		case "end", "else", "elsif", "elseif", "when":
			return
		case "exception":
			if p.is(p.at+1, 'w') && p.tokens[p.at+1].text == "when" {
				return
			}
		}
		p.statement()
	}
	p.refuse("no end")
}

func (p *plpgsql) statement() {
	at := p.start()
	p.label()
	switch p.word() {
	case "declare", "begin":
		p.block(at, false)
	case "if":
		p.branches(at, p.ifs)
	case "case":
		p.branches(at, p.cases)
	case "loop", "while", "for", "foreach":
		p.loop(at)
	default:
		if p.start() != at {
			p.refuse("a label before neither a block nor a loop")
		}
		p.simple(at)
	}
}

// branches takes an if or case. Its conditions are looked at one after the other,
// with a gate before the first of them that queries.
func (p *plpgsql) branches(at int, take func(condition func(tokens []token, from int))) {
	first, queries := len(p.inserts), 0
	take(func(tokens []token, from int) {
		if !p.queries(tokens) {
			return
		}
		if queries++; queries > 1 {
			p.leaves(tokens[0].start)
			return
		}
		p.gate(at, p.body[from:tokens[len(tokens)-1].end])
		// It stands before all, also before the gates in branches that came first.
		p.inserts = slices.Insert(p.inserts[:len(p.inserts)-1], first, p.inserts[len(p.inserts)-1])
	})
}

func (p *plpgsql) ifs(condition func(tokens []token, from int)) {
	for more := true; more; more = p.word() == "elsif" || p.word() == "elseif" {
		from := p.start()
		p.at++
		tokens := p.until("then")
		condition(tokens, from)
		p.at++
		p.statements()
	}
	p.otherwise("if")
}

func (p *plpgsql) cases(condition func(tokens []token, from int)) {
	from := p.start()
	p.at++
	condition(p.until("when"), from)
	for p.word() == "when" {
		from := p.start()
		p.at++
		condition(p.until("then"), from)
		p.at++
		p.statements()
	}
	p.otherwise("case")
}

// otherwise takes an else, and the end.
func (p *plpgsql) otherwise(what string) {
	if p.word() == "else" {
		p.at++
		p.statements()
	}
	p.take('w', "end")
	p.take('w', what)
	p.take(';', ";")
}

// loop takes one. Where it queries again before each turn, a gate stands before
// that too.
func (p *plpgsql) loop(at int) {
	from, kind := p.start(), p.word()
	if kind != "loop" {
		p.at++
	}
	header := p.until("loop")
	text := p.body[from:p.start()]
	queries, again := p.queries(header), false
	switch kind {
	case "while":
		again = queries
	case "for":
		queries, again = p.fors(header)
	}
	if queries {
		p.gate(at, text)
	}
	p.at++
	p.loops = append(p.loops, again)
	p.statements()
	p.loops = p.loops[:len(p.loops)-1]
	if again {
		p.gate(p.start(), text)
	}
	p.take('w', "end")
	p.take('w', "loop")
	p.nameAgain()
	p.take(';', ";")
}

// fors reports whether a loop's header queries, and whether it does so again
// when it goes on: a query without locks is of one moment, and it can't be told
// of one that stands elsewhere.
func (p *plpgsql) fors(header []token) (queries, again bool) {
	in := slices.IndexFunc(header, func(t token) bool { return t.kind == 'w' && t.text == "in" })
	if in < 0 || in+1 == len(header) {
		p.refuse("a for without its in")
	}
	rest := header[in+1:]
	for i := range rest[:len(rest)-1] {
		if rest[i].kind == '.' && rest[i+1].kind == '.' {
			n := p.parts(rest, "by")
			if n > 1 {
				p.leaves(rest[0].start)
			}
			return n > 0, false
		}
	}
	switch rest[0].text {
	case "select", "with", "values", "table":
		for i, t := range rest {
			again = again || t.kind == 'w' && t.text == "for" && i+1 < len(rest) && slices.Contains([]string{"update", "share", "no", "key"}, rest[i+1].text)
		}
		again = again || slices.ContainsFunc(called(rest), p.touches)
	case "execute":
		p.executes(rest)
		again = true
	default:
		again = true
	}
	return true, again
}

// simple takes a statement that holds no other.
func (p *plpgsql) simple(at int) {
	word := p.word()
	assigns := word == "" || p.assigns()
	tokens := p.untilSemicolon()
	if len(tokens) == 0 {
		p.refuse("an empty statement")
	}
	text := p.body[at:tokens[len(tokens)-1].end]
	queries := false
	switch {
	case assigns:
		queries = p.queries(tokens)
	case word == "null", word == "get", word == "close", sqlStatement{tokens: tokens}.aside(false):
	case word == "exit", word == "assert":
		queries = p.queries(tokens)
	case word == "continue":
		again := slices.Contains(p.loops, true)
		if queries = p.queries(tokens); queries && again {
			p.leaves(at)
		}
		queries = queries || again
	case word == "raise":
		n := p.parts(tokens[1:], "using")
		if queries = n > 0; n > 1 {
			p.leaves(at)
		}
	case word == "return":
		queries = p.queries(tokens)
		if len(tokens) > 2 && tokens[1].text == "query" && tokens[2].text == "execute" {
			p.executes(tokens[2:])
		}
	case word == "execute":
		queries = true
		p.executes(tokens)
	case word == "open":
		queries = true
		if i := slices.IndexFunc(tokens, func(t token) bool { return t.kind == 'w' && t.text == "execute" }); i >= 0 {
			p.executes(tokens[i:])
		}
	default:
		if queries = true; word == "do" {
			p.leaves(at) // what is inside
		}
		p.commits = p.commits || slices.Contains([]string{"commit", "rollback", "call", "do"}, word)
	}
	if queries {
		p.gate(at, text)
	}
}

// assigns reports whether a statement that begins here has a target and then a
// sign: x.y[1] := …
func (p *plpgsql) assigns() bool {
	depth := 0
	for i := p.at; i < len(p.tokens); i++ {
		t := p.tokens[i]
		switch {
		case t.kind == '[':
			depth++
		case t.kind == ']':
			depth--
		case t.kind == ';':
			return false
		case depth > 0, t.kind == '.':
		case t.kind == '=', t.kind == ':':
			return i > p.at
		case i > p.at && p.tokens[i-1].kind != '.':
			return false
		}
	}
	return false
}

// executes notes what a statement executes whose text is made while it runs. One
// of a constant text without another query is as good as the text itself.
func (p *plpgsql) executes(tokens []token) {
	constant := len(tokens) > 1 && tokens[1].kind == 's' && (len(tokens) == 2 || tokens[2].text == "into" || tokens[2].text == "using" || tokens[2].text == "loop")
	if constant && p.parts(tokens[2:], "using") == 0 {
		text, ok := unquoted(p.body[tokens[1].start:tokens[1].end])
		if list := statements(text, false); ok && len(list) == 1 && list[0].word(0) != "do" {
			p.runs = append(p.runs, text)
			return
		}
	}
	p.leaves(tokens[0].start)
}

// unquoted is the text of a constant, where it is plain.
func unquoted(constant string) (string, bool) {
	switch {
	case strings.HasPrefix(constant, "'") && strings.HasSuffix(constant, "'") && len(constant) > 1:
		text := constant[1 : len(constant)-1]
		if strings.Contains(strings.ReplaceAll(text, "''", ""), "'") {
			return "", false // it goes on in another line
		}
		return strings.ReplaceAll(text, "''", "'"), true
	case strings.HasPrefix(constant, "$"):
		tag := constant[:strings.IndexByte(constant[1:], '$')+2]
		return strings.TrimSuffix(strings.TrimPrefix(constant, tag), tag), true
	}
	return "", false
}
