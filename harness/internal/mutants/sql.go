package mutants

import (
	"slices"
	"strings"
)

// sqlOthers are what a word or an operator is turned into.
var sqlOthers = map[string][]struct{ text, kind string }{
	"<":        {{"<=", "shifted"}},
	"<=":       {{"<", "shifted"}},
	">":        {{">=", "shifted"}},
	">=":       {{">", "shifted"}},
	"<>":       {{"=", "negated"}},
	"!=":       {{"=", "negated"}},
	"and":      {{"or", "joined"}},
	"or":       {{"and", "joined"}},
	"greatest": {{"least", "swapped"}},
	"least":    {{"greatest", "swapped"}},
	"min":      {{"max", "swapped"}},
	"max":      {{"min", "swapped"}},
	"asc":      {{"desc", "ordered"}},
	"desc":     {{"asc", "ordered"}},
	"true":     {{"false", "constant"}},
	"false":    {{"true", "constant"}},
	"distinct": {{"", "removed"}},
}

// ends are the words with which a condition is over.
var ends = words("and or group order limit returning union except intersect then loop for on where having window join left inner cross full natural as when else end do using offset is with set")

// statements are the beginnings of statements that can go by themselves.
var statements = words("grant revoke alter perform insert update delete raise execute")

func words(text string) map[string]bool {
	all := map[string]bool{}
	for _, w := range strings.Fields(text) {
		all[w] = true
	}
	return all
}

// sqlText collects the mutants of one text of SQL.
type sqlText struct {
	src  []byte
	all  []piece
	made []Mutant
}

// ofSQL returns the mutants of SQL. Whole statements are removed from a file alone: of a
// literal in Go it is the call that goes.
func ofSQL(src []byte, file bool) []Mutant {
	t := sqlText{src: src, all: pieces(src)}
	assigns := t.assignments()
	for i := 0; i < len(t.all); i++ {
		if t.starts(i) {
			end := t.until(i, func(p piece) bool { return p.text == ";" })
			if file || t.all[i].procedure {
				t.removed(i, end)
			}
			if w := t.all[i].text; w == "comment" || w == "raise" {
				i = end // the rest is written for people
				continue
			}
		}
		p := t.all[i]
		switch {
		case p.text == "and" || p.text == "or":
			t.connective(i)
		case p.text == "=" && !assigns[i]:
			t.edit(i, i+1, "<>", "negated")
		case p.word || sqlOthers[p.text] != nil:
			t.word(i)
		case p.number && i > 0 && slices.Contains([]string{"=", "<", ">", "<=", ">=", "<>", "+", "-", "limit"}, t.all[i-1].text):
			switch p.text {
			case "0":
				t.edit(i, i+1, "1", "constant")
			case "1":
				t.edit(i, i+1, "0", "constant")
			}
		case (p.text == "+" || p.text == "-") && t.operand(i-1) && t.operand(i+1):
			t.edit(i, i+1, map[string]string{"+": "-", "-": "+"}[p.text], "arithmetic")
		}
	}
	return t.made
}

// at is the text of a token, or "" outside.
func (t *sqlText) at(i int) string {
	if i < 0 || i >= len(t.all) {
		return ""
	}
	return t.all[i].text
}

// has reports whether tokens follow one another from i on.
func (t *sqlText) has(i int, texts ...string) bool {
	for n, text := range texts {
		if t.at(i+n) != text {
			return false
		}
	}
	return true
}

// operand reports whether a token may stand beside an operator.
func (t *sqlText) operand(i int) bool {
	if i < 0 || i >= len(t.all) {
		return false
	}
	p := t.all[i]
	return p.word && !ends[p.text] || p.number || p.action || p.text == "(" || p.text == ")"
}

// until is the first token from i on, at its depth, for which stop holds; or one that
// closes what i stands in; or the end.
func (t *sqlText) until(i int, stop func(piece) bool) int {
	depth := t.all[i].depth
	for ; i < len(t.all); i++ {
		p := t.all[i]
		if p.depth < depth || p.depth == depth && stop(p) || strings.HasPrefix(p.text, "$") && dollar.MatchString(p.text) {
			break
		}
	}
	return i
}

// starts reports whether a statement begins with a token.
func (t *sqlText) starts(i int) bool {
	switch before := t.at(i - 1); before {
	case "", ";", "loop":
	case "then", "else", "begin":
		return t.all[i].procedure && t.all[i].depth == 0
	default:
		return i > 0 && t.all[i-1].action && t.all[i].depth == 0 && statements[t.all[i].text]
	}
	return true
}

// assignments are the equals signs of SET, and of options, which compare nothing.
func (t *sqlText) assignments() map[int]bool {
	found := map[int]bool{}
	expects := map[int]bool{}
	inSet := map[int]bool{}
	for i, p := range t.all {
		switch {
		case p.text == "set" || p.text == "using" && t.at(i+2) == "=":
			inSet[p.depth], expects[p.depth] = true, true
		case p.text == "with" && t.at(i+1) == "(" && t.at(i+3) == "=":
			inSet[p.depth+1], expects[p.depth+1] = true, true
		case p.text == "," && inSet[p.depth]:
			expects[p.depth] = true
		case p.text == "=" && expects[p.depth]:
			found[i] = true
			expects[p.depth] = false
		case p.text == "where", p.text == "from", p.text == "returning", p.text == ";", p.text == ")":
			inSet[p.depth], expects[p.depth] = false, false
			if p.text == ")" {
				inSet[p.depth+1], expects[p.depth+1] = false, false
			}
		}
	}
	return found
}

// connective adds the other connective, and each side of an AND without the other.
func (t *sqlText) connective(i int) {
	p := t.all[i]
	switch t.at(i - 1) {
	case "insert", "update", "delete", "truncate", "create", "": // triggers' events; create or replace
		if p.text == "or" {
			return
		}
	}
	if t.at(i+1) == "replace" {
		return
	}
	t.swap(i)
	if p.text != "and" || i+1 >= len(t.all) {
		return
	}
	end := t.until(i+1, func(q piece) bool { return q.text == ";" || q.text == "," || ends[q.text] && q.text != "is" })
	if end > i+1 && t.whole(i, end) {
		t.edit(i, end, "", "dropped")
	}
	start := i
	for start > 0 {
		q := t.all[start-1]
		if q.depth < p.depth || q.depth == p.depth && (slices.Contains([]string{"where", "on", "when", "if", "elsif", "having", "and", "or", "select", "return", "then", "else", ":=", ";", ","}, q.text)) {
			break
		}
		start--
	}
	if before := t.at(start - 1); start < i && before != "and" && before != "or" && before != "" && before != ";" && before != "," && t.whole(start, i) {
		t.edit(start, i+1, "", "dropped")
	}
}

// whole reports whether no part of a branch of the template lies between two tokens.
func (t *sqlText) whole(from, to int) bool {
	for _, p := range t.all[from:to] {
		if p.action && !plain(p.text) {
			return false
		}
	}
	return true
}

// plain reports whether an action of a template only prints.
func plain(action string) bool {
	fields := strings.Fields(strings.Trim(action, "{}- "))
	return len(fields) > 0 && !slices.Contains([]string{"if", "else", "end", "range", "with", "define", "template", "block"}, fields[0])
}

// word adds what is made of a word.
func (t *sqlText) word(i int) {
	switch t.at(i) {
	case "is":
		switch {
		case t.has(i+1, "not", "distinct", "from"):
			t.edit(i, i+4, "is distinct from", "negated")
		case t.has(i+1, "distinct", "from"):
			t.edit(i, i+3, "is not distinct from", "negated")
		case t.has(i+1, "not", "null"):
			t.edit(i, i+3, "is null", "negated")
		case t.has(i+1, "null"):
			t.edit(i, i+2, "is not null", "negated")
		}
	case "not":
		if t.at(i-1) != "is" && t.at(i+1) != "null" && (t.at(i+1) != "exists" || t.at(i+2) == "(") && t.at(i-1) != "do" && t.at(i+1) != "deferrable" && t.at(i+1) != "valid" {
			t.edit(i, i+1, "", "negated")
		}
	case "for":
		if end := t.lock(i); end > i {
			t.edit(i, end, "", "unlocked")
		}
	case "on":
		if t.at(i+1) == "conflict" {
			end := t.until(i, func(p piece) bool { return p.text == "do" })
			if t.at(end+1) == "nothing" && t.whole(i, end) {
				t.edit(i, end+2, "", "removed")
			}
		}
	case "coalesce":
		if t.at(i+1) == "(" && i+2 < len(t.all) {
			if comma := t.until(i+2, func(p piece) bool { return p.text == "," }); t.at(comma) == "," {
				closing := t.until(comma, func(piece) bool { return false })
				if t.at(closing) == ")" && t.whole(i, closing) {
					t.edit(comma, closing, "", "coalesce")
					t.made[len(t.made)-1].Start = t.all[i].start
					t.made[len(t.made)-1].New = string(t.src[t.all[i+1].start:t.all[comma].start])
				}
			}
		}
	case "distinct":
		if before := t.at(i - 1); before == "select" && t.at(i+1) != "on" || before == "(" {
			t.swap(i)
		}
	case "min", "max", "greatest", "least":
		if t.at(i+1) == "(" {
			t.swap(i)
		}
	case "if", "elsif":
		if t.all[i].procedure && t.at(i-1) != "end" && t.all[i].depth == 0 {
			then := t.until(i, func(p piece) bool { return p.text == "then" })
			if t.at(then) == "then" && t.whole(i, then) {
				t.edit(i+1, then, "false and ("+string(t.src[t.all[i+1].start:t.all[then-1].end])+")", "never")
			}
		}
	default:
		t.swap(i)
	}
}

// lock is the token behind a lock of rows that begins at i, or i.
func (t *sqlText) lock(i int) int {
	end := i + 1
	switch {
	case t.has(end, "no", "key", "update"):
		end += 3
	case t.has(end, "key", "share"):
		end += 2
	case t.has(end, "update"), t.has(end, "share"):
		end++
	default:
		return i
	}
	if t.at(end) == "of" {
		end += 2
	}
	switch {
	case t.has(end, "skip", "locked"):
		end += 2
	case t.has(end, "nowait"):
		end++
	}
	return end
}

// removed adds a statement that is gone, from token i up to the semicolon at end.
func (t *sqlText) removed(i, end int) {
	gone := statements[t.at(i)] || t.all[i].procedure && t.at(i+1) == ":="
	if !gone || t.at(end) != ";" || !t.whole(i, end) {
		return
	}
	text := ""
	if t.all[i].procedure {
		text = "null"
	}
	t.edit(i, end, text, "removed")
}

func (t *sqlText) swap(i int) {
	for _, o := range sqlOthers[t.at(i)] {
		t.edit(i, i+1, o.text, o.kind)
	}
}

// edit replaces the tokens from one up to another.
func (t *sqlText) edit(from, to int, text, kind string) {
	start, end := t.all[from].start, t.all[to-1].end
	lines := strings.Count(string(t.src[start:end]), "\n") - strings.Count(text, "\n")
	t.made = append(t.made, Mutant{Kind: "sql-" + kind, Start: start, End: end, New: text + strings.Repeat("\n", max(lines, 0)), SQL: true})
}
