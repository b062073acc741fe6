package postgres

import "slices"

// An object of the catalogs: the number of the catalog, and its own there.
type object struct{ Class, OID uint32 }

// A use is that what uses the object From may run To: a table's trigger, the
// function of an operator, a check of a domain.
type use struct {
	FromClass, From uint32
	ToClass, To     uint32
}

// uses are all of a database. What an object depends on it may run, but for a
// foreign key, which runs nothing of the table that it refers to, and a relation or a
// type: an index, a partition or a type of rows runs nothing of its table's. And an
// object may run its parts, which depend on it.
const uses = `
select classid, objid, refclassid, refobjid
  from pg_depend left join pg_constraint k on classid = 'pg_constraint'::regclass and k.oid = objid
 where deptype <> 'e' and deptype <> 'p' and refclassid not in ('pg_namespace'::regclass, 'pg_language'::regclass, 'pg_extension'::regclass)
   and (refclassid <> 'pg_class'::regclass or k.contype is distinct from 'f' and classid not in ('pg_class'::regclass, 'pg_type'::regclass))
union all select 'pg_class'::regclass, tgrelid, 'pg_trigger'::regclass, oid from pg_trigger where not tgisinternal and tgenabled <> 'D'
union all select 'pg_class'::regclass, adrelid, 'pg_attrdef'::regclass, oid from pg_attrdef
union all select 'pg_class'::regclass, conrelid, 'pg_constraint'::regclass, oid from pg_constraint where conrelid <> 0 and contype <> 'f'
union all select 'pg_class'::regclass, polrelid, 'pg_policy'::regclass, oid from pg_policy
union all select 'pg_class'::regclass, indrelid, 'pg_class'::regclass, indexrelid from pg_index
union all select 'pg_class'::regclass, stxrelid, 'pg_statistic_ext'::regclass, oid from pg_statistic_ext
union all select 'pg_class'::regclass, ev_class, 'pg_rewrite'::regclass, oid from pg_rewrite where ev_enabled <> 'D'
union all select 'pg_class'::regclass, inhparent, 'pg_class'::regclass, inhrelid from pg_inherits
union all select 'pg_class'::regclass, confrelid, 'pg_class'::regclass, conrelid from pg_constraint
           where contype = 'f' and (confdeltype in ('c', 'n', 'd') or confupdtype in ('c', 'n', 'd'))
union all select 'pg_type'::regclass, t.oid, 'pg_class'::regclass, typrelid from pg_type t join pg_class c on c.oid = typrelid where c.relkind = 'c'
union all select 'pg_type'::regclass, contypid, 'pg_constraint'::regclass, oid from pg_constraint where contypid <> 0
union all select 'pg_type'::regclass, castsource, 'pg_cast'::regclass, oid from pg_cast where oid >= 16384
union all select 'pg_type'::regclass, casttarget, 'pg_cast'::regclass, oid from pg_cast where oid >= 16384
union all select 'pg_type'::regclass, opcintype, 'pg_opclass'::regclass, oid from pg_opclass where oid >= 16384
union all select 'pg_opfamily'::regclass, amopfamily, 'pg_amop'::regclass, oid from pg_amop where oid >= 16384
union all select 'pg_opfamily'::regclass, amprocfamily, 'pg_amproc'::regclass, oid from pg_amproc where oid >= 16384`

// A wayIn is how a statement comes to use an object: by a name of this kind.
type wayIn struct {
	Kind, Name string
	Class, OID uint32
}

// The kinds of ways.
const (
	byCall     = "function"
	byRelation = "relation"
	byField    = "field" // as row.name, which calls a function of the row
	byType     = "type"
	byOperator = "operator"
	byCommand  = "command" // a statement that defines something runs event triggers
	byAny      = "any"     // a cast between PostgreSQL's own types, which no text shows; a trigger on login
)

const waysIn = `
select 'relation', c.relname::text, 'pg_class'::regclass::oid, c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_(catalog|toast)'
union all select 'function', proname, 'pg_proc'::regclass, oid from pg_proc where oid >= 16384
union all select 'field', proname, 'pg_proc'::regclass, p.oid from pg_proc p join pg_type t on t.oid = p.proargtypes[0]
 where p.oid >= 16384 and p.pronargs - p.pronargdefaults <= 1 and t.typtype = 'c'
union all select 'type', typname, 'pg_type'::regclass, oid from pg_type where oid >= 16384
   and (typrelid = 0 or exists (select from pg_class c where c.oid = typrelid and c.relkind = 'c'))
union all select 'operator', oprname, 'pg_operator'::regclass, oid from pg_operator where oid >= 16384
union all select case evtevent when 'login' then 'any' else 'command' end, '', 'pg_proc'::regclass, evtfoid from pg_event_trigger where evtenabled <> 'D'
union all select 'any', '', 'pg_cast'::regclass, oid from pg_cast where oid >= 16384 and castsource < 16384 and casttarget < 16384`

// A rule is one of a table that runs other statements than its own.
type rule struct {
	OID  uint32
	Said string
}

const rules = `
select oid, format('the rule %I of %s', rulename, ev_class::regclass) from pg_rewrite
 where rulename <> '_RETURN' and ev_enabled <> 'D' and oid >= 16384 order by 2`

// reaching returns who may run an object: those from which uses lead to it.
func reaching(users map[object][]object, to object) map[object]bool {
	reached := map[object]bool{to: true}
	for next := []object{to}; len(next) > 0; {
		at := next[0]
		next = next[1:]
		for _, user := range users[at] {
			if !reached[user] {
				reached[user] = true
				next = append(next, user)
			}
		}
	}
	return reached
}

// A runnable is a function or a rule that a statement may run, and the ways to it.
type runnable struct {
	function uint32 // or 0
	rule     string
	ways     []wayIn
}

// runnables are those of a database.
func (o *observer) runnables(functions []userFunction) (list []runnable, err error) {
	edges, err := queryRows[use](o, uses)
	if err != nil {
		return nil, err
	}
	ways, err := queryRows[wayIn](o, waysIn)
	if err != nil {
		return nil, err
	}
	ruled, err := queryRows[rule](o, rules)
	if err != nil {
		return nil, err
	}
	type classes struct{ Proc, Rewrite uint32 }
	class, err := queryRows[classes](o, `select 'pg_proc'::regclass::oid, 'pg_rewrite'::regclass::oid`)
	if err != nil {
		return nil, err
	}
	users := map[object][]object{}
	for _, e := range edges {
		to := object{e.ToClass, e.To}
		users[to] = append(users[to], object{e.FromClass, e.From})
	}
	waysTo := func(to object) []wayIn {
		reached := reaching(users, to)
		return slices.DeleteFunc(slices.Clone(ways), func(w wayIn) bool { return !reached[object{w.Class, w.OID}] })
	}
	for _, f := range functions {
		list = append(list, runnable{function: f.OID, ways: waysTo(object{class[0].Proc, f.OID})})
	}
	for _, r := range ruled {
		list = append(list, runnable{rule: r.Said, ways: waysTo(object{class[0].Rewrite, r.OID})})
	}
	return list, nil
}
