package sqlmodel

import (
	"fmt"
	"strings"
)

// A tokenKind is what a token is.
type tokenKind uint8

const (
	tokEnd    tokenKind = iota
	tokWord             // a keyword or a name, folded to lower case
	tokQuoted           // a name in double quotes
	tokNumber
	tokString
	tokParam
	tokSymbol
)

type token struct {
	kind tokenKind
	text string
	at   int // its offset in the text
}

// refusal is what the model does not know. It ends a statement, and the
// schedule with it: code under test must not take it for an answer of
// PostgreSQL.
type refusal struct{ what string }

func (r *refusal) Error() string {
	return "the model does not know " + r.what + ": explore this on a server, postgres.Start"
}

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// symbols of two and three characters, the longer ones first.
var symbols = []string{"->>", "#>>", "::", "<=", ">=", "<>", "!=", "||", "->", "#>", "@>", "<@", "~*", "!~", ":="}

// lex divides a text into tokens, without comments.
func lex(text string) (list []token, err error) {
	at := 0
	for {
		if at, err = skipBlank(text, at); err != nil {
			return nil, err
		}
		if at == len(text) {
			return append(list, token{tokEnd, "", at}), nil
		}
		t, end, err := lexOne(text, at)
		if err != nil {
			return nil, err
		}
		list, at = append(list, t), end
	}
}

func skipBlank(text string, at int) (int, error) {
	for at < len(text) {
		switch {
		case strings.IndexByte(" \t\r\n\f\v", text[at]) >= 0:
			at++
		case strings.HasPrefix(text[at:], "--"):
			if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
				at += n
			} else {
				at = len(text)
			}
		case strings.HasPrefix(text[at:], "/*"):
			depth, end := 0, at
			for {
				switch {
				case end >= len(text):
					return 0, stateError("42601", "unterminated /* comment")
				case strings.HasPrefix(text[end:], "/*"):
					depth, end = depth+1, end+2
					continue
				case strings.HasPrefix(text[end:], "*/"):
					depth, end = depth-1, end+2
				default:
					end++
					continue
				}
				if depth == 0 {
					break
				}
			}
			at = end
		default:
			return at, nil
		}
	}
	return at, nil
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// lexOne reads the token that begins at an offset.
func lexOne(text string, at int) (t token, end int, err error) {
	c := text[at]
	var next byte
	if at+1 < len(text) {
		next = text[at+1]
	}
	switch {
	case (c == 'e' || c == 'E' || c == 'b' || c == 'B' || c == 'x' || c == 'X') && next == '\'', (c == 'u' || c == 'U') && next == '&':
		return t, 0, refuse("string constants with a prefix such as %c''", c)
	case isLetter(c):
		end = at
		for end < len(text) && (isLetter(text[end]) || isDigit(text[end]) || text[end] == '$') {
			end++
		}
		return token{tokWord, strings.ToLower(text[at:end]), at}, end, nil
	case isDigit(c) || c == '.' && isDigit(next):
		return lexNumber(text, at)
	case c == '\'':
		s, end, err := lexQuoted(text, at, '\'')
		return token{tokString, s, at}, end, err
	case c == '"':
		s, end, err := lexQuoted(text, at, '"')
		if err == nil && s == "" {
			err = stateError("42601", "zero-length delimited identifier")
		}
		return token{tokQuoted, s, at}, end, err
	case c == '$' && isDigit(next):
		for end = at + 1; end < len(text) && isDigit(text[end]); end++ {
		}
		return token{tokParam, text[at+1 : end], at}, end, nil
	case c == '$':
		return t, 0, refuse("dollar-quoted strings")
	}
	for _, s := range symbols {
		if strings.HasPrefix(text[at:], s) {
			return token{tokSymbol, s, at}, at + len(s), nil
		}
	}
	if strings.IndexByte("+-*/%<>=(),.;[]^~!@#&|?:", c) < 0 {
		return t, 0, stateError("42601", fmt.Sprintf("syntax error at or near %q", string(c)))
	}
	return token{tokSymbol, string(c), at}, at + 1, nil
}

func lexNumber(text string, at int) (token, int, error) {
	end, dots := at, 0
	for end < len(text) && (isDigit(text[end]) || text[end] == '.' && dots == 0) {
		if text[end] == '.' {
			dots++
		}
		end++
	}
	if end < len(text) && (text[end] == 'e' || text[end] == 'E' || isLetter(text[end]) || text[end] == '.') {
		return token{}, 0, refuse("numbers written as %s", text[at:end+1])
	}
	return token{tokNumber, text[at:end], at}, end, nil
}

// lexQuoted reads to the closing quote, which stands twice inside.
func lexQuoted(text string, at int, quote byte) (string, int, error) {
	var b strings.Builder
	for i := at + 1; i < len(text); i++ {
		if text[i] != quote {
			b.WriteByte(text[i])
			continue
		}
		if i+1 < len(text) && text[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return b.String(), i + 1, nil
	}
	return "", 0, stateError("42601", "unterminated quoted string")
}
