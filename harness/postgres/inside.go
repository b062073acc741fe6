package postgres

import (
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// insides is what statements may run whose inside is no step: functions of the
// database, called by name, by triggers, defaults, constraints, policies, indexes
// and views; and rules.
type insides struct {
	functions map[string][]string // of a name: what to say, where something can come between what it does
	relations map[string][]string // of a table or view, with what it leads to
	seen      map[string][]string // of texts
}

// A userFunction is one that is neither PostgreSQL's nor an extension's.
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
   and not exists (select from pg_depend where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e')
 order by 3, 1`

// whatRelationsRun is which functions and rules a table or view may run: its own,
// those of what a view reads, of partitions, and of tables whose rows a foreign
// key changes along.
const whatRelationsRun = `
with recursive leads(a, b) as (
  select r.ev_class, d.refobjid from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
   where d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
  union select confrelid, conrelid from pg_constraint where contype = 'f' and (confdeltype in ('c', 'n', 'd') or confupdtype in ('c', 'n', 'd'))
  union select inhparent, inhrelid from pg_inherits
), reaches(a, b) as (
  select c.oid, c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_(catalog|toast)'
  union select r.a, l.b from reaches r join leads l on l.a = r.b
), parts(class, object, relation) as (
  select 'pg_attrdef'::regclass, oid, adrelid from pg_attrdef
  union all select 'pg_constraint'::regclass, oid, conrelid from pg_constraint where conrelid <> 0
  union all select 'pg_constraint'::regclass, c.oid, a.attrelid from pg_constraint c join pg_attribute a on a.atttypid = c.contypid where c.contypid <> 0
  union all select 'pg_policy'::regclass, oid, polrelid from pg_policy
  union all select 'pg_class'::regclass, indexrelid, indrelid from pg_index
  union all select 'pg_rewrite'::regclass, oid, ev_class from pg_rewrite
), runs(relation, function, rule) as (
  select tgrelid, tgfoid, '' from pg_trigger where not tgisinternal and tgenabled <> 'D'
  union select p.relation, d.refobjid, '' from parts p join pg_depend d on d.classid = p.class and d.objid = p.object where d.refclassid = 'pg_proc'::regclass
  union select ev_class, 0, format('the rule %I of %s', rulename, ev_class::regclass) from pg_rewrite where rulename <> '_RETURN' and ev_enabled <> 'D'
)
select distinct c.relname::text, u.function, u.rule
  from reaches r join runs u on u.relation = r.b join pg_class c on c.oid = r.a
 order by 1, 3, 2`

type relationRuns struct {
	Relation string
	Function uint32
	Rule     string
}

// looksInside reads what a database may run beyond the functions that are
// stepped through.
func (o *observer) looksInside(stepped *stepping) (*insides, error) {
	functions, err := queryRows[userFunction](o, userFunctions)
	if err != nil {
		return nil, err
	}
	runs, err := queryRows[relationRuns](o, whatRelationsRun)
	if err != nil {
		return nil, err
	}
	// What is said of a function depends on those that it calls.
	said, in := map[uint32][]string{}, readInsides(nil, functions, runs)
	for more := true; more; in = readInsides(said, functions, runs) {
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
func readInsides(said map[uint32][]string, functions []userFunction, runs []relationRuns) *insides {
	in := &insides{functions: map[string][]string{}, relations: map[string][]string{}, seen: map[string][]string{}}
	for _, f := range functions {
		in.functions[f.Name] = append(in.functions[f.Name], said[f.OID]...)
	}
	for _, r := range runs {
		if r.Rule != "" {
			in.relations[r.Relation] = append(in.relations[r.Relation], r.Rule)
		}
		in.relations[r.Relation] = append(in.relations[r.Relation], said[r.Function]...)
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
	tokens := lex(f.Body, false)
	if f.divides(tokens) || slices.ContainsFunc(called(tokens), func(name string) bool { return len(in.functions[name]) > 0 }) {
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

// of returns what a text may run: the functions that it names, and what belongs
// to the tables that it names, in whatever schema. That is rather too much.
func (in *insides) of(text string, backslash bool) []string {
	list, known := in.seen[text]
	if known {
		return list
	}
	for _, s := range statements(text, backslash) {
		if s.word(0) == "do" {
			list = append(list, "the block "+engine.Clip(text, 40))
		}
		for _, name := range called(s.tokens) {
			list = append(list, in.functions[name]...)
		}
		for _, t := range s.tokens {
			if t.kind == 'w' || t.kind == 'n' {
				list = append(list, in.relations[t.text]...)
			}
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	in.seen[text] = list
	return list
}

// names says in the verdict what a statement may have run. What it has made is
// looked for before the next.
func (d *Database) names(text, tag string, backslash bool) {
	d.mu.Lock()
	in := d.inside
	d.mu.Unlock()
	if in == nil {
		var err error
		if in, err = d.observer.looksInside(d.stepped); err != nil {
			d.host().Unexplored("the functions of the database, which can't be looked up: " + err.Error())
			return
		}
	}
	d.mu.Lock()
	list := in.of(text, backslash)
	switch word, _, _ := strings.Cut(tag, " "); word {
	case "CREATE", "ALTER", "DROP", "DO", "SELECT INTO":
		in = nil
	}
	d.inside = in
	d.mu.Unlock()
	for _, what := range list {
		d.host().Unexplored(what)
	}
}
