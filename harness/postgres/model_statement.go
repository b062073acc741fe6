package postgres

import (
	"fmt"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// endings begin and end transactions, which a session has methods for.
var endings = map[string]string{
	"begin": "Begin", "start": "Begin", "commit": "Commit", "end": "Commit", "rollback": "Rollback", "abort": "Rollback",
}

// check panics where the statement can't be what it says: a schedule in which
// it did nothing would pass, and prove nothing.
func (st *Statement) check(onModel bool) {
	word := engine.Verb(st.SQL)
	switch method, ends := endings[word]; {
	case ends:
		panic(fmt.Sprintf("harness: the statement %q begins or ends a transaction: call Session.%s instead", engine.Clip(st.SQL, 60), method))
	case !engine.Command(word):
		panic(fmt.Sprintf("harness: the statement %q is no SQL: %q is no command of PostgreSQL", engine.Clip(st.SQL, 60), word))
	case onModel && (word == "savepoint" || word == "release"):
		panic(fmt.Sprintf("harness: the statement %q: the model has no savepoints; explore it on a server by On", engine.Clip(st.SQL, 60)))
	case onModel && st.Do == nil:
		panic(fmt.Sprintf("harness: the statement %q has no meaning, and the model reads no SQL: set its Do, or explore it on a server by On", engine.Clip(st.SQL, 60)))
	}
}
