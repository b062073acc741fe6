package harness

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A wording is what the text of a statement says of the rows that it is about, as
// far as that is plain: one table, and equalities joined by "and". It serves to
// tell anomalies apart, so what isn't plain is left unknown.
type wording struct {
	verb    string // select, insert, update, delete; "" where it is another
	table   string // "" where there are several, or none
	known   bool   // it is about all rows that have these values, and no others
	rows    map[string]string
	limited bool // select … limit
	blind   bool // update that sets what has nothing to do with what is there
	upsert  bool
	selects bool // it has a select of its own
	calls   bool // a select that calls a function, which may do anything
}

// plainCalls are words before a parenthesis that write nothing.
var plainCalls = map[string]bool{
	"select": true, "from": true, "where": true, "and": true, "or": true, "not": true, "in": true, "exists": true, "any": true, "all": true,
	"distinct": true, "as": true, "by": true, "on": true, "join": true, "when": true, "then": true, "else": true, "union": true,
	"count": true, "sum": true, "max": true, "min": true, "avg": true, "coalesce": true, "nullif": true, "abs": true,
	"lower": true, "upper": true, "length": true, "greatest": true, "least": true, "iif": true, "now": true,
}

// obscure reports whether a statement may have written, or read, what its
// wording doesn't tell.
func (s wording) obscure(text string) bool {
	if s.verb != "" {
		return s.calls
	}
	if _, inside := bare(text); inside {
		return true
	}
	switch word := engine.Verb(text); word {
	case "savepoint", "release", "set", "show", "reset", "listen", "unlisten", "notify", "discard":
		return false
	default:
		return engine.Command(word) || word == "replace"
	}
}

var insidePlace = regexp.MustCompile(`^[^\s:]+:\d+: `)

// bare is a step's statement without the place in a function at which it stands,
// in words of SQL.
func bare(text string) (statement string, inside bool) {
	place := insidePlace.FindString(text)
	if place == "" {
		return text, false
	}
	text = text[len(place):]
	if rest, ok := strings.CutPrefix(text, "return query "); ok {
		return rest, true
	}
	if rest, ok := strings.CutPrefix(text, "perform "); ok {
		return "select " + rest, true
	}
	return text, true
}

// namePattern is a name, and what it is of before it, each of them in quotes or not.
const namePattern = `(?:[\pL_][\pL\d_$]*|"[^"]*"|` + "`[^`]*`" + `)`

var tokenPattern = regexp.MustCompile(`'(?:[^']|'')*'|` + namePattern + `(?:\.` + namePattern + `)*|\d+(?:\.\d+)?|\?\d*|\$\d+|[:@][\pL_]\w*|<>|<=|>=|!=|\|\||::|\S`)

// wordingOf reads a statement as the timeline has it, its arguments in brackets
// behind it.
func wordingOf(text string) (s wording) {
	text, _ = bare(text)
	tokens, ok := tokensOf(text)
	if !ok || len(tokens) == 0 {
		return s
	}
	for _, t := range tokens[1:] {
		s.selects = s.selects || t == "select"
	}
	switch verb := tokens[0]; verb {
	case "select":
		s.verb, s.selects = verb, true
		for i, t := range tokens[:len(tokens)-1] {
			s.calls = s.calls || word(t) && tokens[i+1] == "(" && !plainCalls[t]
		}
		s.readFrom(tokens, "from")
	case "delete":
		s.verb = verb
		s.readFrom(tokens, "from")
	case "update":
		s.verb = verb
		s.readUpdate(tokens)
	case "insert", "replace":
		s.verb = "insert"
		s.readInsert(tokens)
	}
	return s
}

// tokensOf returns the words of a statement, in lower case but for strings, its
// arguments in place; or not ok, where an argument isn't known in full.
func tokensOf(text string) (tokens []string, ok bool) {
	var args []string
	if at := strings.LastIndex(text, "  ["); at >= 0 && strings.HasSuffix(text, "]") {
		args = strings.Split(text[at+3:len(text)-1], ", ")
		text = text[:at]
	}
	if strings.Contains(text, "--") || strings.Contains(text, "/*") {
		return nil, false
	}
	next, used := 0, map[int]bool{}
	for _, t := range tokenPattern.FindAllString(text, -1) {
		switch {
		case t == "'": // a string without an end
			return nil, false
		case t[0] == '\'':
			t = "=" + strings.ReplaceAll(t[1:len(t)-1], "''", "'")
		case t[0] >= '0' && t[0] <= '9':
			t = "=" + t
		case t[0] == '?' || t[0] == '$':
			n, err := strconv.Atoi(t[1:])
			if err != nil {
				next++
				n = next
			}
			if n < 1 || n > len(args) || strings.HasSuffix(args[n-1], "…") {
				return nil, false
			}
			used[n] = true
			t = "=" + args[n-1]
		case t[0] == ':' && len(t) > 1 && t != "::", t[0] == '@':
			return nil, false
		default:
			t = lastName(t) // one table: whose column it is goes without saying
			if t == "=" {
				t = "= "
			}
		}
		tokens = append(tokens, t)
	}
	for len(tokens) > 0 && tokens[len(tokens)-1] == ";" {
		tokens = tokens[:len(tokens)-1]
	}
	return tokens, len(used) == len(args)
}

// lastName is the last part of a name, in lower case and without its quotes.
func lastName(t string) string {
	if len(t) > 1 {
		for _, quote := range "\"`" {
			if rest, ok := strings.CutSuffix(t, string(quote)); ok {
				return strings.ToLower(rest[strings.LastIndexByte(rest, byte(quote))+1:])
			}
		}
	}
	return strings.ToLower(t[strings.LastIndexByte(t, '.')+1:])
}

// value reports whether a token is a constant: it begins with "=", as no other
// does but the sign itself, which is followed by a space.
func value(token string) bool { return strings.HasPrefix(token, "=") && token != "= " }

var wordPattern = regexp.MustCompile(`^[\pL_][\pL\d_]*$`)

func word(token string) bool { return wordPattern.MatchString(token) }

// until returns the tokens before one of these, outside of parentheses, and
// that one with what follows.
func until(tokens []string, ends ...string) (before, after []string) {
	depth := 0
	for i, t := range tokens {
		switch t {
		case "(":
			depth++
		case ")":
			depth--
		}
		if depth > 0 {
			continue
		}
		for _, end := range ends {
			if t == end {
				return tokens[:i], tokens[i:]
			}
		}
	}
	return tokens, nil
}

// readTable takes the one table and its alias off the beginning.
func (s *wording) readTable(tokens []string, ends ...string) (rest []string, ok bool) {
	names, rest := until(tokens, ends...)
	if len(names) == 3 && names[1] == "as" {
		names = append(names[:1:1], names[2])
	}
	if len(names) == 0 || len(names) > 2 || !word(names[0]) || len(names) == 2 && !word(names[1]) {
		return nil, false
	}
	s.table = names[0]
	return rest, true
}

func (s *wording) readFrom(tokens []string, from string) {
	_, rest := until(tokens[1:], from, "union", "except", "intersect")
	if len(rest) == 0 || rest[0] != from {
		return
	}
	rest, ok := s.readTable(rest[1:], "where", "group", "having", "order", "limit", "for", "returning", "union", "except", "intersect")
	if !ok {
		return
	}
	s.readWhere(rest)
}

// readWhere reads what follows the tables.
func (s *wording) readWhere(rest []string) {
	if _, tail := until(rest, "union", "except", "intersect"); tail != nil {
		return
	}
	if _, tail := until(rest, "limit"); tail != nil {
		s.limited = true
	}
	var where []string
	if len(rest) > 0 && rest[0] == "where" {
		where, _ = until(rest[1:], "group", "having", "order", "limit", "for", "returning")
	}
	for _, t := range where {
		if t == "or" || t == "case" {
			return
		}
	}
	s.rows, s.known = map[string]string{}, true
	s.readConditions(where)
}

// isNull is the value of a column that is null, which no constant has.
const isNull = "=\x00"

// readConditions reads conditions that are joined by "and".
func (s *wording) readConditions(where []string) {
	for len(where) > 0 {
		var part []string
		if part, where = until(where, "and"); len(where) > 0 {
			where = where[1:]
		}
		switch {
		case enclosed(part):
			s.readConditions(part[1 : len(part)-1])
		case len(part) == 3 && word(part[0]) && part[1] == "is" && part[2] == "null":
			s.rows[part[0]] = isNull
		case len(part) == 3 && word(part[0]) && part[1] == "= " && value(part[2]):
			s.rows[part[0]] = part[2]
		case len(part) == 3 && word(part[2]) && part[1] == "= " && value(part[0]):
			s.rows[part[2]] = part[0]
		default:
			s.known = false
		}
	}
}

// enclosed reports whether tokens are one pair of parentheses and what is in it.
func enclosed(tokens []string) bool {
	depth := 0
	for i, t := range tokens {
		switch t {
		case "(":
			depth++
		case ")":
			depth--
		}
		if depth == 0 {
			return i > 0 && i == len(tokens)-1
		}
	}
	return false
}

func (s *wording) readUpdate(tokens []string) {
	rest, ok := s.readTable(tokens[1:], "set")
	if !ok || len(rest) == 0 {
		return
	}
	set, rest := until(rest[1:], "where", "from", "returning")
	s.blind = true
	for len(set) > 0 {
		var part []string
		if part, set = until(set, ","); len(set) > 0 {
			set = set[1:]
		}
		if len(part) < 3 || part[1] != "= " {
			s.blind = false
			break
		}
		for _, t := range part[2:] {
			s.blind = s.blind && (!word(t) || t == "null" || t == "true" || t == "false" || t == "default")
		}
	}
	if len(rest) > 0 && rest[0] == "from" {
		return
	}
	s.readWhere(rest)
}

// readInsert reads the columns and values of a row, where they are constants.
func (s *wording) readInsert(tokens []string) {
	_, rest := until(tokens, "into")
	if len(rest) < 2 || !word(rest[1]) {
		return
	}
	s.table = rest[1]
	_, conflict := until(rest, "conflict")
	_, update := until(conflict, "update")
	s.upsert = update != nil || tokens[0] == "replace" || tokens[1] == "or"
	columns, rest := until(rest[2:], "values", "select", "default")
	if len(columns) < 3 || len(rest) == 0 || rest[0] != "values" {
		return
	}
	values, _ := until(rest[1:], "on", "returning")
	columns = columns[1 : len(columns)-1]
	if len(values) != len(columns)+2 {
		return
	}
	s.rows = map[string]string{}
	for i, column := range columns {
		if v := values[i+1]; word(column) && value(v) {
			s.rows[column] = v
		}
	}
}

// apart reports whether two statements are certainly about different rows.
func (s wording) apart(o wording) bool {
	for column, v := range s.rows {
		if w, ok := o.rows[column]; ok && differ(v, w) {
			return true
		}
	}
	return false
}

// differ reports whether two constants are different whatever the column's type
// and collation.
func differ(v, w string) bool {
	one, err := strconv.ParseFloat(v[1:], 64)
	other, otherErr := strconv.ParseFloat(w[1:], 64)
	if err == nil && otherErr == nil {
		return one != other
	}
	return !strings.EqualFold(strings.TrimSpace(v[1:]), strings.TrimSpace(w[1:]))
}

// together reports whether two statements, both of which have found rows, are
// certainly about one that is the same: all that one of them asks for, the other
// does too.
func (s wording) together(o wording) bool {
	return s.table == o.table && s.known && o.known && (s.within(o) || o.within(s))
}

// within reports whether all rows of s are among those of o.
func (s wording) within(o wording) bool {
	for column, v := range o.rows {
		if s.rows[column] != v {
			return false
		}
	}
	return true
}

// covers reports whether a select with this answer has certainly read a row that
// an update is about.
func (s wording) covers(o wording, answer string) bool {
	if s.verb != "select" || s.table != o.table || !o.known {
		return false
	}
	if s.known && !s.limited && (o.within(s) || s.within(o) && answer != "no rows") {
		return true
	}
	if answer == "no rows" {
		return false
	}
	for column, v := range o.rows { // the select asked for it, or the answer names it
		if s.rows[column] != v && !slices.Contains(strings.Fields(answer), column+v) {
			return false
		}
	}
	return len(o.rows) > 0
}
