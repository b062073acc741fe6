package mutants

import (
	"regexp"
	"strings"
)

// piece is a token of SQL: comments and blanks are none.
type piece struct {
	text       string // of words in lower case
	start, end int
	depth      int  // of brackets and of CASE … END; an opening one and its end have that outside of them
	word       bool // a keyword, or a name without quotes
	number     bool
	action     bool // of a template, between double braces
	procedure  bool // it stands in a body of PL/pgSQL
}

var (
	dollar = regexp.MustCompile(`^\$[A-Za-z_0-9]*\$`)
	lexed  = regexp.MustCompile(`^(?:[A-Za-z_][A-Za-z_0-9.]*|[0-9]+(?:\.[0-9]+)?)`)
)

// operators are those of more than one character, the longest first.
var operators = []string{"#>>", "->>", "!~*", "<=", ">=", "<>", "!=", ":=", "=>", "||", "->", "#>", "@>", "<@", "&&", "::", "~*", "!~"}

// pieces cuts SQL, or a template of it, into tokens.
func pieces(src []byte) []piece {
	var all []piece
	text := string(src)
	for at := 0; at < len(text); {
		rest := text[at:]
		n := 1
		p := piece{start: at}
		switch {
		case strings.ContainsRune(" \t\r\n", rune(rest[0])):
			at++
			continue
		case strings.HasPrefix(rest, "--"):
			at += through(rest, "\n")
			continue
		case strings.HasPrefix(rest, "/*"):
			at += through(rest, "*/")
			continue
		case strings.HasPrefix(rest, "{{"):
			n, p.action = through(rest, "}}"), true
		case rest[0] == '\'', rest[0] == '"':
			n = 1 + through(rest[1:], rest[:1])
		case dollar.MatchString(rest):
			n = len(dollar.FindString(rest))
		case lexed.MatchString(rest):
			found := lexed.FindString(rest)
			n = len(found)
			p.number = found[0] >= '0' && found[0] <= '9'
			p.word = !p.number
		default:
			for _, op := range operators {
				if strings.HasPrefix(rest, op) {
					n = len(op)
					break
				}
			}
		}
		p.text, p.end = rest[:n], at+n
		if p.word {
			p.text = strings.ToLower(p.text)
		}
		all = append(all, p)
		at += n
	}
	nest(all)
	return all
}

// through is the length up to the end of an end, or of the text.
func through(text, end string) int {
	if n := strings.Index(text, end); n >= 0 {
		return n + len(end)
	}
	return len(text)
}

// andOfBetween is the text of an AND that joins no conditions.
const andOfBetween = "and of between"

// nest tells each token how deep it stands, and whether in PL/pgSQL.
func nest(all []piece) {
	var open []string
	procedure := ""
	between := map[int]bool{} // depths at which the next AND belongs to BETWEEN
	for i := range all {
		p := &all[i]
		quote := dollar.MatchString(p.text)
		if quote && procedure == p.text {
			procedure, open = "", nil
		}
		switch {
		case p.text == ")" && len(open) > 0, p.text == "end" && len(open) > 0 && open[len(open)-1] == "case":
			open = open[:len(open)-1]
		}
		p.depth, p.procedure = len(open), procedure != ""
		switch {
		case p.text == "between":
			between[p.depth] = true
		case p.text == "and" && between[p.depth]:
			between[p.depth] = false
			p.text = andOfBetween
		case quote && procedure == "" && i+1 < len(all) && begins(all[i+1].text):
			procedure, open = p.text, nil
		case p.text == "(", p.text == "case" && (i == 0 || all[i-1].text != "end"):
			open = append(open, p.text)
		case p.text == ";":
			open = nil
		}
	}
}

// begins reports whether a body that begins with the word is PL/pgSQL.
func begins(word string) bool { return word == "begin" || word == "declare" }

var (
	sqlStarts = regexp.MustCompile(`^[\s(]*(select|insert|update|delete|with|create|from|where|and|or|on|for|order|set|values|returning|join|left|case|alter|lock|exists|not|coalesce|drop|revoke|grant|perform|do)\b`)
	sqlSigns  = regexp.MustCompile(`(?s)^\s*(select|delete|from)\b.*\bfrom\b|^\s*select\b.*\(select\b|\bwhere\b|\breturning\b|\bvalues\b|\bis (not )?null\b|\bfor (no key )?update\b|\border by\b|\bon conflict\b|\bcoalesce\(|\bexists \(|\binsert into\b|\bupdate \w+ (as \w+ )?set\b| (=|<|<=|>|>=|<>) `)
)

// looksLikeSQL reports whether a literal of Go is a statement or a part of one: it
// begins with a word of SQL in lower case, and has a sign of it.
func looksLikeSQL(text string) bool {
	return sqlStarts.MatchString(text) && sqlSigns.MatchString(text)
}
