package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A keptTable is one whose rows are put back before each schedule.
type keptTable struct {
	OID           uint32
	Name, Columns string
	// Off and On switch its triggers and rules, for a role that can't have the
	// whole session do without.
	Off, On []string
}

// keptTables are the tables of the database, and of each what a session does
// without for as long as it puts rows back.
const keptTables = `
select c.oid, format('%I.%I', n.nspname, c.relname),
       (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''),
       array(select format('disable trigger %I', tgname) from pg_trigger where tgrelid = c.oid and not tgisinternal and tgenabled in ('O', 'A') order by tgname)
       || array(select format('disable rule %I', rulename) from pg_rewrite where ev_class = c.oid and ev_enabled in ('O', 'A') order by rulename),
       array(select format('enable %s trigger %I', case tgenabled when 'A' then 'always' end, tgname) from pg_trigger where tgrelid = c.oid and not tgisinternal and tgenabled in ('O', 'A') order by tgname)
       || array(select format('enable %s rule %I', case ev_enabled when 'A' then 'always' end, rulename) from pg_rewrite where ev_class = c.oid and ev_enabled in ('O', 'A') order by rulename)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' order by 2`

// A keptKey is a foreign key from one table to another.
type keptKey struct {
	From, To    uint32
	Table, Name string
	Deferrable  bool
	Deferred    bool
}

const keptKeys = `
select conrelid, confrelid, format('%I.%I', n.nspname, c.relname), quote_ident(conname), condeferrable, condeferred
  from pg_constraint join pg_class c on c.oid = conrelid join pg_namespace n on n.oid = c.relnamespace
 where contype = 'f' and conrelid <> confrelid order by 3, 4`

// keep remembers the contents of all tables, in temporary ones of this session,
// and the state of all sequences; and returns the statements that put them back.
// A superuser does without triggers meanwhile. The owner of the tables switches
// them off, and keeps to the order of the foreign keys.
func (o *observer) keep() (refill string, err error) {
	tables, err := queryRows[keptTable](o, keptTables)
	if err != nil {
		return "", err
	}
	for _, t := range tables {
		if err := o.exec(fmt.Sprintf("create temporary table harness_%d as select %s from %s", t.OID, t.Columns, t.Name)); err != nil {
			return "", err
		}
	}
	sequences, err := o.keepSequences()
	if err != nil {
		return "", err
	}
	if len(tables)+len(sequences) == 0 {
		return "", errors.New("the database has no tables: give Setup what makes them")
	}
	keys, err := queryRows[keptKey](o, keptKeys)
	if err != nil {
		return "", err
	}
	refill = strings.Join(slices.Concat([]string{"set session_replication_role = replica"}, putBack(tables), sequences, []string{"set session_replication_role = origin"}), "; ")
	err = o.exec(refill)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" {
		refill = strings.Join(slices.Concat(putBackInOrder(tables, keys), sequences), "; ")
		if err = o.exec(refill); err != nil {
			err = fmt.Errorf("put the rows of the tables back, for which the role has to own them, or to be a superuser: %w", err)
		}
	}
	return refill, err
}

func (o *observer) keepSequences() (statements []string, err error) {
	type name struct{ Text string }
	names, err := queryRows[name](o, `select format('%I.%I', schemaname, sequencename) from pg_sequences order by 1`)
	if err != nil {
		return nil, err
	}
	type state struct {
		Last   int64
		Called bool
	}
	for _, n := range names {
		states, err := queryRows[state](o, "select last_value, is_called from "+n.Text)
		if err != nil {
			return nil, err
		}
		statements = append(statements, fmt.Sprintf("select setval('%s', %d, %t)", strings.ReplaceAll(n.Text, "'", "''"), states[0].Last, states[0].Called))
	}
	return statements, nil
}

func (t keptTable) empty() string { return "delete from " + t.Name }

func (t keptTable) fill() string {
	return fmt.Sprintf("insert into %s (%s) overriding system value select * from pg_temp.harness_%d", t.Name, t.Columns, t.OID)
}

func putBack(tables []keptTable) (list []string) {
	for _, t := range tables {
		list = append(list, t.empty(), t.fill())
	}
	return list
}

// putBackInOrder puts rows back while foreign keys hold: who refers to a table is
// emptied before it, and filled after it. Keys in a circle are checked at the
// end.
func putBackInOrder(tables []keptTable, keys []keptKey) (list []string) {
	ordered, circle := byReference(tables, keys)
	alter := func(table, what string) { list = append(list, "alter table "+table+" "+what) }
	list = append(list, "set constraints all immediate")
	for _, t := range ordered {
		for _, off := range t.Off {
			alter(t.Name, off)
		}
	}
	for _, k := range circle {
		alter(k.Table, "alter constraint "+k.Name+" deferrable initially deferred")
	}
	if len(circle) > 0 {
		list = append(list, "set constraints all deferred")
	}
	for _, t := range slices.Backward(ordered) {
		list = append(list, t.empty())
	}
	for _, t := range ordered {
		list = append(list, t.fill())
	}
	list = append(list, "set constraints all immediate")
	for _, k := range circle {
		switch {
		case !k.Deferrable:
			alter(k.Table, "alter constraint "+k.Name+" not deferrable")
		case !k.Deferred:
			alter(k.Table, "alter constraint "+k.Name+" deferrable initially immediate")
		}
	}
	for _, t := range ordered {
		for _, on := range t.On {
			alter(t.Name, on)
		}
	}
	return list
}

// byReference sorts tables so that each comes after those that it refers to, and
// returns the keys of those for which there is no such order.
func byReference(tables []keptTable, keys []keptKey) (ordered []keptTable, circle []keptKey) {
	rest := slices.Clone(tables)
	for len(rest) > 0 {
		var later []keptTable
		for _, t := range rest {
			waits := slices.ContainsFunc(keys, func(k keptKey) bool {
				return k.From == t.OID && slices.ContainsFunc(rest, func(other keptTable) bool { return other.OID == k.To })
			})
			if waits {
				later = append(later, t)
			} else {
				ordered = append(ordered, t)
			}
		}
		if len(later) == len(rest) {
			among := func(oid uint32) bool {
				return slices.ContainsFunc(rest, func(t keptTable) bool { return t.OID == oid })
			}
			for _, k := range keys {
				if among(k.From) && among(k.To) {
					circle = append(circle, k)
				}
			}
			return append(ordered, rest...), circle
		}
		rest = later
	}
	return ordered, nil
}
