package postgres

import (
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A token is a word, name, constant or sign of a statement.
type token struct {
	kind       byte   // w: a word; n: a quoted name; s: a string; 0: a number or parameter; else the sign itself
	text       string // of a word in lower case, of a name without its quotes
	start, end int
}

// lex returns the tokens of a text as PostgreSQL's scanner takes it apart;
// comments are none. With backslash, a backslash escapes in every string, as it
// does without standard_conforming_strings.
func lex(text string, backslash bool) (tokens []token) {
	for i := 0; i < len(text); {
		start, c := i, text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			i++
		case strings.HasPrefix(text[i:], "--"):
			if n := strings.IndexAny(text[i:], "\n\r"); n >= 0 {
				i += n
			} else {
				i = len(text)
			}
		case strings.HasPrefix(text[i:], "/*"):
			i = engine.EndOfComment(text, i)
		case c == '\'':
			i = endOfString(text, i, backslash)
			tokens = append(tokens, token{kind: 's', start: start, end: i})
		case c == '"':
			i = endOfQuotes(text, i, '"', false)
			name := strings.TrimSuffix(text[start+1:i], `"`)
			tokens = append(tokens, token{'n', strings.ReplaceAll(name, `""`, `"`), start, i})
		case c == '$':
			if i = endOfDollars(text, start); i > start {
				tokens = append(tokens, token{kind: 's', start: start, end: i})
				continue
			}
			for i = start + 1; i < len(text) && isDigit(text[i]); i++ {
			}
			tokens = append(tokens, token{start: start, end: i})
		case isLetter(c):
			for i++; i < len(text) && (isLetter(text[i]) || isDigit(text[i]) || text[i] == '$'); i++ {
			}
			word := strings.ToLower(text[start:i])
			if (word == "e" || word == "b" || word == "x" || word == "n") && i < len(text) && text[i] == '\'' {
				i = endOfString(text, i, word == "e" || backslash && word == "n")
				tokens = append(tokens, token{kind: 's', start: start, end: i})
				continue
			}
			tokens = append(tokens, token{'w', word, start, i})
		case isDigit(c):
			for i++; i < len(text) && (isLetter(text[i]) || isDigit(text[i]) || text[i] == '.'); i++ {
			}
			tokens = append(tokens, token{start: start, end: i})
		default:
			i++
			tokens = append(tokens, token{c, text[start:i], start, i})
		}
	}
	return tokens
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func endOfQuotes(text string, at int, quote byte, backslash bool) int {
	for at++; at < len(text); at++ {
		switch {
		case backslash && text[at] == '\\':
			at++
		case text[at] != quote:
		case at+1 < len(text) && text[at+1] == quote:
			at++
		default:
			return at + 1
		}
	}
	return len(text)
}

// endOfString is where a string ends; one that stands on a later line goes on
// with it.
func endOfString(text string, at int, backslash bool) int {
	for {
		at = endOfQuotes(text, at, '\'', backslash)
		rest := strings.TrimLeft(text[at:], " \t\n\r\f\v")
		between := text[at : len(text)-len(rest)]
		if !strings.HasPrefix(rest, "'") || !strings.ContainsAny(between, "\n\r") {
			return at
		}
		at += len(between)
	}
}

// endOfDollars is where a string in dollars ends, or at where none begins.
func endOfDollars(text string, at int) int {
	n := at + 1
	for n < len(text) && (isLetter(text[n]) || n > at+1 && isDigit(text[n])) {
		n++
	}
	if n == len(text) || text[n] != '$' {
		return at
	}
	tag := text[at : n+1]
	if end := strings.Index(text[n+1:], tag); end >= 0 {
		return n + 1 + end + len(tag)
	}
	return len(text)
}

// sqlStatement is one of a text.
type sqlStatement struct {
	tokens     []token
	start, end int
	text       string  // in which it stands
	count      int     // of the statements there, where it is a query's
	partial    bool    // others follow in its query, each a step of its own
	beside     int     // those that are no steps and are sent with it, each for itself
	portal     *portal // where it has parameters
	alone      bool    // it is the first since the last Sync
}

// statements takes a text apart at its semicolons: not at those in parentheses,
// as a rule has, nor in the body of an SQL function.
func statements(text string, backslash bool) (list []sqlStatement) {
	var s sqlStatement
	depth, body := 0, 0
	end := func(at int) {
		if len(s.tokens) > 0 {
			s.start, s.end = s.tokens[0].start, at
			list = append(list, s)
		}
		s = sqlStatement{}
		depth, body = 0, 0
	}
	for _, t := range lex(text, backslash) {
		switch {
		case t.kind == ';' && depth == 0 && body == 0:
			end(t.start)
			continue
		case t.kind == '(':
			depth++
		case t.kind == ')':
			depth = max(depth-1, 0)
		case t.kind == 'w' && t.text == "atomic" && s.last() == "begin", t.kind == 'w' && t.text == "case" && body > 0:
			body++
		case t.kind == 'w' && t.text == "end" && body > 0:
			body--
		}
		s.tokens = append(s.tokens, t)
	}
	end(len(text))
	return list
}

func (s sqlStatement) last() string {
	if n := len(s.tokens); n > 0 {
		return s.tokens[n-1].text
	}
	return ""
}

// word is that at a place, in lower case.
func (s sqlStatement) word(i int) string {
	if i < len(s.tokens) && s.tokens[i].kind == 'w' {
		return s.tokens[i].text
	}
	return ""
}

func (s sqlStatement) begins() bool {
	return s.word(0) == "begin" || s.word(0) == "start" && s.word(1) == "transaction"
}

func (s sqlStatement) commits() bool { return s.word(0) == "commit" || s.word(0) == "end" }

// catalogs are those that drivers read of their own accord, to know a
// database's types. Of the others one may tell what other sessions do.
var catalogs = []string{"pg_type", "pg_class", "pg_attribute", "pg_namespace", "pg_range", "pg_enum", "pg_proc", "pg_constraint",
	"pg_index", "pg_attrdef", "pg_description", "pg_collation", "pg_extension", "pg_am", "pg_opclass", "pg_operator"}

// harmless are functions that such a statement may call. In doubt it is a step.
var harmless = []string{"array", "any", "all", "some", "in", "exists", "coalesce", "array_agg", "array_to_string", "string_agg", "unnest",
	"format_type", "pg_get_expr", "pg_get_indexdef", "pg_get_constraintdef", "pg_type_is_visible", "pg_table_is_visible", "to_regtype", "to_regclass", "current_schema",
	"current_schemas", "current_database", "version", "lower", "upper", "concat", "format", "quote_ident", "nullif", "greatest", "least",
	"count", "min", "max", "generate_subscripts", "generate_series", "array_length", "array_position", "col_description", "obj_description", "cast", "and", "or", "not", "as", "on", "using", "values",
	"select", "from", "join", "where", "then", "else", "when", "by", "over", "current_setting"}

// aside reports whether no other actor can notice a statement: a setting of the
// session; outside of a transaction, in which it might be the first that looks,
// also one that reads only what drivers read of their own accord, or no table at
// all. A text says so by its words alone; what it doesn't say for certain is a
// step.
func (s sqlStatement) aside(idle bool) bool {
	switch s.word(0) {
	case "set":
		return s.word(1) != "constraints" && (s.word(1) != "transaction" || s.word(2) != "snapshot")
	case "reset":
		return true
	case "show":
		return idle
	case "select":
		return idle && s.readsCatalogs()
	}
	return false
}

func (s sqlStatement) readsCatalogs() bool {
	var lists []int // the depths of parentheses at which a FROM is open
	depth, table := 0, false
	for i, t := range s.tokens {
		switch t.kind {
		case '(':
			if i > 0 && !s.calls(i) {
				return false
			}
			depth++
			table = false
			continue
		case ')':
			depth--
			for len(lists) > 0 && lists[len(lists)-1] > depth {
				lists = lists[:len(lists)-1]
			}
		case ',':
			table = len(lists) > 0 && lists[len(lists)-1] == depth
			continue
		case 'n':
			return false // drivers quote none
		case 'w':
			switch t.text {
			case "from":
				lists, table = append(lists, depth), true
				continue
			case "join":
				table = true
				continue
			case "lateral", "only", "unnest", "generate_series", "generate_subscripts":
				continue
			case "where", "group", "order", "limit", "having", "window", "union", "offset", "fetch":
				if len(lists) > 0 && lists[len(lists)-1] == depth {
					lists = lists[:len(lists)-1]
				}
			case "for", "into":
				return false
			}
			if table {
				if !s.ofCatalog(i) {
					return false
				}
			}
		}
		table = false
	}
	return true
}

// calls reports whether what stands before a parenthesis is known: a sign, or a
// harmless function of PostgreSQL's.
func (s sqlStatement) calls(i int) bool {
	before := s.tokens[i-1]
	if before.kind != 'w' {
		return before.kind != 'n'
	}
	if i >= 3 && s.tokens[i-2].kind == '.' && s.tokens[i-3].text != "pg_catalog" {
		return false
	}
	return slices.Contains(harmless, before.text)
}

func (s sqlStatement) ofCatalog(i int) bool {
	name := s.word(i)
	if i+2 < len(s.tokens) && s.tokens[i+1].kind == '.' {
		return name == "information_schema" || name == "pg_catalog" && slices.Contains(catalogs, s.word(i+2))
	}
	return slices.Contains(catalogs, name)
}
