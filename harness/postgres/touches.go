package postgres

import (
	"slices"
	"strings"
)

// What a statement touches is read from its text before it runs: the tables that it
// names, in whatever schema, and all to which the catalogs lead from there, by views,
// triggers, functions, foreign keys and sequences. That is rather too much, which
// makes the search longer and not wrong. What a text does not tell for certain touches
// everything: another command, a text made at run time, a function that is not in SQL
// or plpgsql, one of PostgreSQL's that looks at more than its arguments.

// How a text uses the tables that it reaches.
const (
	onlyReads = iota
	locksRows
	writesRows
)

// touched is what a text touches.
type touched struct {
	how        int
	tables     []object // and sequences
	everything bool
	defines    bool // it may change what other texts touch
}

// A catalog is what there is to know for that.
type catalog struct {
	needs     map[object][]object
	names     map[string][]object // relations, functions, types, by their names
	operators map[string][]object
	always    []object
	texts     map[object]objectText // of functions, defaults, checks, policies, rules
	kinds     map[object]byte       // of relations
	parents   map[object][]object   // by foreign keys
	children  map[object][]object
	builtin   map[string]byte // volatility of PostgreSQL's functions
	stepped   func(oid uint32) bool
	opaque    bool // not everything runs at READ COMMITTED
	class     classes
	seen      map[string]touched // of texts
}

type objectText struct {
	Class, OID          uint32
	Language, Text      string
	Immutable, Isolated bool
}

const objectTexts = `
select 'pg_proc'::regclass::oid, p.oid, l.lanname::text, coalesce(nullif(p.prosrc, ''), pg_get_functiondef(p.oid)), p.provolatile = 'i', coalesce(p.proconfig::text like '%isolation%', false)
  from pg_proc p join pg_language l on l.oid = p.prolang where p.oid >= 16384 and p.prokind <> 'a'
union all select 'pg_attrdef'::regclass, oid, 'default', pg_get_expr(adbin, adrelid), false, false from pg_attrdef
union all select 'pg_constraint'::regclass, oid, 'sql', pg_get_constraintdef(oid), false, false from pg_constraint where contype in ('c', 'x') and oid >= 16384
union all select 'pg_policy'::regclass, oid, 'sql', concat(pg_get_expr(polqual, polrelid), ' ', pg_get_expr(polwithcheck, polrelid)), false, false from pg_policy
union all select 'pg_rewrite'::regclass, oid, case rulename when '_RETURN' then 'sql' else 'rule' end, case rulename when '_RETURN' then pg_get_viewdef(ev_class) else '' end, false, false
  from pg_rewrite where oid >= 16384`

type relationKind struct {
	OID  uint32
	Kind string
}

const relationKinds = `select oid, relkind::text from pg_class where relkind in ('r', 'p', 'v', 'm', 'f', 'S') and oid >= 16384`

type foreignKey struct{ Child, Parent uint32 }

const foreignKeys = `select conrelid, confrelid from pg_constraint where contype = 'f'`

type builtin struct{ Name, Volatility string }

const builtins = `select proname::text, max(case provolatile when 'v' then '3' when 's' then '2' else '1' end) from pg_proc where oid < 16384 group by 1`

// elsewhereIsolated asks whether a session may begin at another level of isolation.
const elsewhereIsolated = `select current_setting('default_transaction_isolation') <> 'read committed' or exists (select from pg_db_role_setting where setconfig::text like '%isolation%')`

type classes struct{ Proc, Rewrite, Class, Trigger, Attrdef, Constraint uint32 }

const classNumbers = `select 'pg_proc'::regclass::oid, 'pg_rewrite'::regclass::oid, 'pg_class'::regclass::oid, 'pg_trigger'::regclass::oid, 'pg_attrdef'::regclass::oid, 'pg_constraint'::regclass::oid`

// readCatalog reads what a database has.
func (o *observer) readCatalog(stepped *stepping) (c *catalog, err error) {
	c = &catalog{
		needs: map[object][]object{}, names: map[string][]object{}, operators: map[string][]object{}, texts: map[object]objectText{}, kinds: map[object]byte{},
		parents: map[object][]object{}, children: map[object][]object{}, builtin: map[string]byte{}, seen: map[string]touched{},
		stepped: func(oid uint32) bool { return stepped != nil && stepped.functions[oid] != nil },
	}
	numbers, err := queryRows[classes](o, classNumbers)
	if err != nil {
		return nil, err
	}
	c.class = numbers[0]
	edges, err := queryRows[use](o, uses)
	if err != nil {
		return nil, err
	}
	for _, e := range edges {
		from := object{e.FromClass, e.From}
		c.needs[from] = append(c.needs[from], object{e.ToClass, e.To})
	}
	ways, err := queryRows[wayIn](o, waysIn)
	if err != nil {
		return nil, err
	}
	for _, w := range ways {
		at := object{w.Class, w.OID}
		switch w.Kind {
		case byOperator:
			c.operators[w.Name] = append(c.operators[w.Name], at)
		case byAny:
			c.always = append(c.always, at)
		case byCommand:
		default:
			c.names[w.Name] = append(c.names[w.Name], at)
		}
	}
	texts, err := queryRows[objectText](o, objectTexts)
	if err != nil {
		return nil, err
	}
	for _, t := range texts {
		c.texts[object{t.Class, t.OID}] = t
	}
	kinds, err := queryRows[relationKind](o, relationKinds)
	if err != nil {
		return nil, err
	}
	for _, k := range kinds {
		c.kinds[object{c.class.Class, k.OID}] = k.Kind[0]
	}
	keys, err := queryRows[foreignKey](o, foreignKeys)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		child, parent := object{c.class.Class, k.Child}, object{c.class.Class, k.Parent}
		c.parents[child] = append(c.parents[child], parent)
		c.children[parent] = append(c.children[parent], child)
	}
	functions, err := queryRows[builtin](o, builtins)
	if err != nil {
		return nil, err
	}
	for _, f := range functions {
		c.builtin[f.Name] = f.Volatility[0]
	}
	type yes struct{ Yes bool }
	isolated, err := queryRows[yes](o, elsewhereIsolated)
	if err != nil {
		return nil, err
	}
	c.opaque = isolated[0].Yes
	return c, nil
}

// Of these words the first kind writes, and of the second each may do what no text
// tells.
var (
	writingWords = []string{"insert", "update", "delete", "merge"}
	opaqueWords  = []string{"notify", "listen", "unlisten", "lock", "copy", "truncate", "refresh", "commit", "rollback", "savepoint",
		"fetch", "move", "open", "cursor", "isolation", "information_schema", "xmin", "xmax", "cmin", "cmax", "tablesample"}
	definingWords = []string{"execute", "create", "alter", "drop", "call", "import", "reassign"}
	// Those of PostgreSQL's volatile functions that touch nothing which others can.
	harmlessCalls = []string{"random", "clock_timestamp", "timeofday", "statement_timestamp", "gen_random_uuid", "uuidv4", "uuidv7", "currval", "lastval", "pg_typeof", "pg_column_size", "pg_get_expr"}
	opaqueCalls   = []string{"pg_", "txid_", "query_to_", "table_to_", "schema_to_", "database_to_", "cursor_to_", "lo_", "set_config", "dblink", "has_"}
)

// longestName is as many bytes as PostgreSQL keeps of a name.
const longestName = 63

// touches returns what a statement touches. One that only reads runs no trigger and
// no default.
func (c *catalog) touches(s sqlStatement) touched {
	switch s.word(0) {
	case "select", "values", "with", "table", "insert", "update", "delete", "merge":
	default:
		return touched{everything: true, defines: slices.Contains(definitions, s.word(0)) || slices.Contains(definingWords, s.word(0)) || s.word(0) == "do"}
	}
	for i, t := range s.tokens {
		if t.kind == 'w' && t.text == "into" && s.tokens[i-1].text != "insert" && s.tokens[i-1].text != "merge" {
			return touched{everything: true, defines: true} // select into makes a table
		}
	}
	if t := c.walk(s, func(at object) bool { return at.Class == c.class.Trigger || at.Class == c.class.Attrdef }); t.how == onlyReads {
		return t
	}
	return c.walk(s, func(object) bool { return false })
}

// walk goes to all that a statement reaches.
func (c *catalog) walk(s sqlStatement, without func(object) bool) (t touched) {
	seen := map[object]bool{}
	for next := c.named(&t, s.tokens, slices.Clone(c.always)); len(next) > 0; next = next[1:] {
		at := next[0]
		if seen[at] || without(at) {
			continue
		}
		seen[at] = true
		switch c.kinds[at] {
		case 'r', 'p', 'S':
			t.tables = append(t.tables, at)
		case 'f':
			t.everything = true
		}
		next = append(next, c.from(&t, at)...)
	}
	return t
}

// from returns what an object leads to.
func (c *catalog) from(t *touched, at object) (next []object) {
	text, ok := c.texts[at]
	if !ok {
		return c.needs[at]
	}
	t.everything = t.everything || at.Class == c.class.Proc && c.stepped(at.OID) || text.Isolated
	tokens := lex(withoutGates(text.Text), false)
	switch {
	case text.Language == "default" && slices.Contains(called(tokens), "nextval"): // its sequence is one of those
	case text.Language == "default", text.Language == "sql", text.Language == "plpgsql":
		next = c.named(t, tokens, nil)
	case !text.Immutable:
		t.everything, t.defines = true, true
	}
	return append(next, c.needs[at]...)
}

// named returns the objects that a text names, and notes what it does.
func (c *catalog) named(t *touched, tokens []token, list []object) []object {
	for i, w := range tokens {
		if w.kind != 'w' && w.kind != 'n' {
			continue
		}
		list = append(list, c.names[w.text]...)
		if w.kind == 'n' {
			t.everything = t.everything || len(w.text) > longestName
			continue
		}
		before, after := token{}, token{}
		if i > 0 {
			before = tokens[i-1]
		}
		if i+1 < len(tokens) {
			after = tokens[i+1]
		}
		switch {
		case w.text == "update" && (before.text == "for" || before.text == "key"), w.text == "share", w.text == "nowait", w.text == "locked":
			t.how = max(t.how, locksRows)
		case slices.Contains(writingWords, w.text):
			t.how = writesRows
		}
		defines := slices.Contains(definingWords, w.text) || w.text == "do" && after.kind == 's'
		t.defines = t.defines || defines
		t.everything = t.everything || defines || len(w.text) > longestName || w.text == "u" && after.kind == '&' ||
			strings.ContainsFunc(w.text, func(r rune) bool { return r >= 0x80 }) || // lower case is something else there
			slices.Contains(opaqueWords, w.text) ||
			strings.HasPrefix(w.text, "pg_") && w.text != "pg_catalog" && w.text != "pg_temp" && c.builtin[w.text] == 0
	}
	for _, name := range called(tokens) {
		volatility := c.builtin[name]
		looks := volatility == '3' || volatility == '2' && slices.ContainsFunc(opaqueCalls, func(begin string) bool { return strings.HasPrefix(name, begin) })
		t.everything = t.everything || looks && !slices.Contains(harmlessCalls, name)
		t.defines = t.defines || name == "set_config"
	}
	for name, at := range c.operators {
		if slices.ContainsFunc(operators(tokens), func(sign string) bool { return strings.Contains(sign, name) }) {
			list = append(list, at...)
		}
	}
	return list
}
