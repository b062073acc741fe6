package postgres

import (
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// insides is what statements may run whose inside is no step: functions of the
// database, called by name, and by all that needs them (see [uses]): triggers,
// defaults, constraints, policies, indexes, views, operators, casts, aggregates,
// domains; and rules.
type insides struct {
	// By kinds of ways and names: what to say, where something can come between
	// what it does.
	ways map[string]map[string][]string
	seen map[string][]string // of texts
}

// A userFunction is one that is not PostgreSQL's. One of an extension is among them
// where it can be read.
type userFunction struct {
	OID            uint32
	Name, Said     string
	Volatile       bool
	Language, Body string
}

const userFunctions = `
select p.oid, p.proname::text, format('the function %I.%I', n.nspname, p.proname), p.provolatile = 'v', l.lanname::text,
       coalesce(nullif(p.prosrc, ''), pg_get_functiondef(p.oid))
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
 where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and p.prokind <> 'a'
   and (l.lanname in ('sql', 'plpgsql') or not exists (select from pg_depend where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e'))
 order by 3, 1`

// looksInside reads what a database may run beyond the functions that are
// stepped through.
func (o *observer) looksInside(stepped *stepping) (*insides, error) {
	functions, err := queryRows[userFunction](o, userFunctions)
	if err != nil {
		return nil, err
	}
	runs, err := o.runnables(functions)
	if err != nil {
		return nil, err
	}
	// What is said of a function depends on those that it calls.
	said, in := map[uint32][]string{}, readInsides(nil, runs)
	for more := true; more; in = readInsides(said, runs) {
		more = false
		for _, f := range functions {
			if list := in.says(f, stepped.of(f)); len(list) > len(said[f.OID]) {
				said[f.OID], more = list, true
			}
		}
	}
	return in, nil
}

// readInsides is what is said of names, where this is said of the functions.
func readInsides(said map[uint32][]string, runs []runnable) *insides {
	in := &insides{ways: map[string]map[string][]string{}, seen: map[string][]string{}}
	for _, r := range runs {
		list := said[r.function]
		if r.rule != "" {
			list = []string{r.rule}
		}
		for _, w := range r.ways {
			if len(list) > 0 && in.ways[w.Kind] == nil {
				in.ways[w.Kind] = map[string][]string{}
			}
			if len(list) > 0 {
				in.ways[w.Kind][w.Name] = append(in.ways[w.Kind][w.Name], list...)
			}
		}
	}
	return in
}

// says is what to say of a function within which something of another session
// can come between: one that reads or writes, and has a snapshot for each of its
// statements, as volatile ones have; and one that calls such a one. What a stable
// function reads is of one moment, that of the statement that calls it. Of one
// that is stepped through there is to say what can't be, and what it runs.
func (in *insides) says(f userFunction, stepped *steppedFunction) (list []string) {
	if stepped != nil && stepped.refused == "" {
		if len(stepped.left) > 0 {
			list = append(list, linesOf(stepped.left)+" of "+f.Said)
		}
		for _, text := range append([]string{withoutGates(f.Body)}, stepped.runs...) {
			list = append(list, in.of(text, false)...)
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	if f.divides(lex(f.Body, false)) || len(in.of(f.Body, false)) > 0 {
		if stepped != nil {
			return []string{f.Said + ", which can't be stepped through (" + stepped.refused + ")"}
		}
		return []string{f.Said}
	}
	return nil
}

// Of readingWords one stands in each statement that reads, writes or locks; with
// one of readingCalls begin the names of PostgreSQL's functions that do.
var (
	readingWords = []string{"select", "insert", "update", "delete", "merge", "truncate", "copy", "lock", "perform", "execute", "call", "from",
		"table", "refresh", "notify", "create", "alter", "drop", "commit", "rollback", "fetch", "open", "move", "analyze", "reindex"}
	readingCalls = []string{"nextval", "setval", "pg_notify", "pg_sleep", "lo_", "pg_advisory_", "pg_try_advisory_", "query_to_xml", "table_to_xml", "cursor_to_xml", "database_to_xml", "schema_to_xml", "dblink"}
)

// divides reports whether a function does something between whose parts another
// session can come.
func (f userFunction) divides(tokens []token) bool {
	if !f.Volatile {
		return false
	}
	if f.Language != "plpgsql" && f.Language != "sql" {
		return true
	}
	for _, t := range tokens {
		if t.kind == 'w' && slices.Contains(readingWords, t.text) {
			return true
		}
	}
	return slices.ContainsFunc(called(tokens), func(name string) bool {
		return slices.ContainsFunc(readingCalls, func(begin string) bool { return strings.HasPrefix(name, begin) })
	})
}

// called are the names before parentheses.
func called(tokens []token) (names []string) {
	for i, t := range tokens {
		if t.kind == '(' && i > 0 && (tokens[i-1].kind == 'w' || tokens[i-1].kind == 'n') {
			names = append(names, tokens[i-1].text)
		}
	}
	return names
}

// definitions begin the statements that run event triggers.
var definitions = []string{"alter", "comment", "create", "drop", "grant", "import", "reassign", "refresh", "reindex", "revoke", "security", "into"}

// impliedOperators are those that words stand for.
var impliedOperators = map[string]string{
	"in": "=", "any": "=", "case": "=", "distinct": "=", "nullif": "=", "using": "=", "natural": "=", "between": "<=>=",
	"like": "!~~", "ilike": "!~~*", "similar": "!~", "overlaps": "<=>=", "order": "<>", "group": "=", "union": "=", "intersect": "=", "except": "=",
}

// of returns what a text may run: the functions, types and operators that it names,
// and what belongs to the tables that it names, in whatever schema. That is rather
// too much.
func (in *insides) of(text string, backslash bool) []string {
	list, known := in.seen[text]
	if known {
		return list
	}
	for _, s := range statements(text, backslash) {
		if s.word(0) == "do" {
			list = append(list, "the block "+engine.Clip(text, 40))
		}
		list = append(list, in.ways[byAny][""]...)
		for _, name := range called(s.tokens) {
			list = append(list, in.ways[byCall][name]...)
		}
		for i, t := range s.tokens {
			if t.kind == 'w' || t.kind == 'n' {
				if i > 0 && s.tokens[i-1].kind == '.' {
					list = append(list, in.ways[byField][t.text]...)
				}
				list = append(list, in.ways[byRelation][t.text]...)
				list = append(list, in.ways[byType][t.text]...)
			}
			if t.kind == 'w' && slices.Contains(definitions, t.text) {
				list = append(list, in.ways[byCommand][""]...)
			}
		}
		for name, said := range in.ways[byOperator] {
			if slices.ContainsFunc(operators(s.tokens), func(sign string) bool { return strings.Contains(sign, name) }) {
				list = append(list, said...)
			}
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	in.seen[text] = list
	return list
}

// operators are the signs of a statement, each with those that follow it at once.
func operators(tokens []token) (signs []string) {
	end := -1
	for _, t := range tokens {
		switch {
		case t.kind == 'w' && impliedOperators[t.text] != "":
			signs = append(signs, impliedOperators[t.text])
		case t.kind == 0 || !strings.ContainsRune("+-*/<>=~!@#%^&|`?", rune(t.kind)):
		case t.start == end:
			signs[len(signs)-1] += t.text
			end = t.end
		default:
			signs = append(signs, t.text)
			end = t.end
		}
	}
	return signs
}

// mayRun returns what a statement may run. Where the database can't be asked the
// verdict says so.
func (d *Database) mayRun(text string, backslash bool) []string {
	d.mu.Lock()
	in := d.inside
	d.mu.Unlock()
	if in == nil { // looked up without the lock, which the observer takes as well
		var err error
		if in, err = d.observer.looksInside(d.stepped); err != nil {
			d.host().Unexplored("the functions of the database, which can't be looked up: " + err.Error())
			return nil
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside = in
	return in.of(text, backslash)
}

// names says in the verdict what a statement may have run. What it has made is
// looked for before the next.
func (d *Database) names(text, tag string, backslash bool) {
	for _, what := range d.mayRun(text, backslash) {
		d.host().Unexplored(what)
	}
	switch word, _, _ := strings.Cut(tag, " "); word {
	case "CREATE", "ALTER", "DROP", "DO", "SELECT INTO":
		d.mu.Lock()
		d.inside, d.catalog = nil, nil
		d.mu.Unlock()
	}
}
