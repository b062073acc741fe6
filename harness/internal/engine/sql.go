package engine

import "strings"

// commands are the words with which a statement of PostgreSQL begins, beside
// those that begin and end transactions.
var commands = map[string]bool{}

func init() {
	for _, word := range strings.Fields(`alter analyze call checkpoint close cluster comment copy create
		deallocate declare delete discard do drop execute explain fetch grant import insert listen load lock
		merge move notify prepare reassign refresh reindex release reset revoke savepoint security select set
		show table truncate unlisten update vacuum values with`) {
		commands[word] = true
	}
}

// Command reports whether a statement can begin with the word.
func Command(word string) bool { return commands[word] }

// Verb is the word with which a statement begins, in lower case, after
// comments and parentheses.
func Verb(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f(")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			sql = sql[EndOfComment(sql, 0):]
		default:
			end := strings.IndexFunc(sql, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_' })
			if end < 0 {
				end = len(sql)
			}
			return strings.ToLower(sql[:end])
		}
	}
}

// EndOfComment is where a comment ends, in which others may stand.
func EndOfComment(text string, at int) int {
	depth := 0
	for at < len(text) {
		switch {
		case strings.HasPrefix(text[at:], "/*"):
			depth++
			at += 2
		case strings.HasPrefix(text[at:], "*/"):
			depth--
			if at += 2; depth == 0 {
				return at
			}
		default:
			at++
		}
	}
	return at
}
