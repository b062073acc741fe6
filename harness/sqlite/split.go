package sqlite

import (
	"strings"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// script is a text that a program hands over, as SQLite takes it apart.
type script struct {
	statements []string // those that do something
	tail       bool     // something follows the last of them, if only a space
}

// scriptOf takes a text apart, once for each text. SQLite says where its
// statements end.
func (d *Database) scriptOf(text string) script {
	s, ok := d.scripts[text]
	if !ok {
		s = split(text)
		d.scripts[text] = s
	}
	return s
}

func split(text string) (s script) {
	text, _, _ = strings.Cut(text, "\x00") // where SQLite stops to read
	tls := libc.NewTLS()
	defer tls.Close()
	start := 0
	for i := range len(text) {
		if text[i] != ';' || !complete(tls, text[start:i+1]) {
			continue
		}
		if part := text[start:i]; !blank(part) {
			s.statements = append(s.statements, strings.TrimSpace(part))
			s.tail = i+1 < len(text)
		}
		start = i + 1
	}
	if part := text[start:]; !blank(part) {
		s.statements, s.tail = append(s.statements, strings.TrimSpace(part)), false
	}
	if len(s.statements) == 1 && start == 0 {
		s.statements[0] = text
	}
	return s
}

// complete reports whether a text that ends in a semicolon ends a statement
// there, and not a string, a comment, or a part of a trigger.
func complete(tls *libc.TLS, text string) bool {
	c, err := libc.CString(text)
	if err != nil {
		panic("harness: no memory for a statement")
	}
	defer libc.Xfree(tls, c)
	return sqlite3.Xsqlite3_complete(tls, c) != 0
}

// blank reports whether a text holds nothing but space, comments and
// semicolons.
func blank(text string) bool { return firstWord(text) == "" }

// firstWord returns the first word of a text in lower case, or its first sign.
func firstWord(text string) string {
	text = strings.ToLower(afterComments(text))
	end := strings.IndexFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' })
	switch {
	case end < 0:
		return text
	case end == 0:
		return text[:1]
	}
	return text[:end]
}

// afterComments cuts off what comes before the first word.
func afterComments(text string) string {
	for {
		text = strings.TrimLeft(text, " \t\n\f\r;")
		switch {
		case strings.HasPrefix(text, "--"):
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			_, text, _ = strings.Cut(text[2:], "*/")
		default:
			return text
		}
	}
}
