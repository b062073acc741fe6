package harness

import (
	"fmt"
	"strings"
)

// commands are the words with which a statement of PostgreSQL begins, as far as
// a [Statement] may be one.
var commands = map[string]bool{}

func init() {
	for _, word := range strings.Fields(`alter analyze call checkpoint close cluster comment copy create
		deallocate declare delete discard do drop execute explain fetch grant import insert listen load lock
		merge move notify prepare reassign refresh reindex release reset revoke savepoint security select set
		show table truncate unlisten update vacuum values with`) {
		commands[word] = true
	}
}

// endings begin and end transactions, which a session has methods for.
var endings = map[string]string{
	"begin": "Begin", "start": "Begin", "commit": "Commit", "end": "Commit", "rollback": "Rollback", "abort": "Rollback",
}

// check panics where the statement can't be what it says: a schedule in which
// it did nothing would pass, and prove nothing.
func (st *Statement) check(onModel bool) {
	word := verbOf(st.SQL)
	switch method, ends := endings[word]; {
	case ends:
		panic(fmt.Sprintf("harness: the statement %q begins or ends a transaction: call Session.%s instead", clip(st.SQL, 60), method))
	case !commands[word]:
		panic(fmt.Sprintf("harness: the statement %q is no SQL: %q is no command of PostgreSQL", clip(st.SQL, 60), word))
	case onModel && (word == "savepoint" || word == "release"):
		panic(fmt.Sprintf("harness: the statement %q: the model has no savepoints; explore it OnPostgres", clip(st.SQL, 60)))
	case onModel && st.Do == nil:
		panic(fmt.Sprintf("harness: the statement %q has no meaning, and the model reads no SQL: set its Do, or explore it OnPostgres", clip(st.SQL, 60)))
	}
}

// verbOf is the word with which a statement begins, in lower case, after
// comments and parentheses.
func verbOf(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f(")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			sql = sql[endOfComment(sql, 0):]
		default:
			end := strings.IndexFunc(sql, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_' })
			if end < 0 {
				end = len(sql)
			}
			return strings.ToLower(sql[:end])
		}
	}
}
