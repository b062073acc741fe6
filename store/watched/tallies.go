package watched

// What is stored of the keys' counts is read in one place: counts + ledger, of one
// statement and so of one snapshot (law 1). Readers add n up.

// Stored are the rows of all keys, or of those for which a condition on user_id,
// kind and ref_id holds, in brackets: user_id, kind, ref_id, status, presumed, n.
func Stored(where ...string) string {
	of := func(table string) string {
		text := "select user_id, kind, ref_id, status, presumed, n from run_counter." + table
		if len(where) > 0 {
			text += " where " + where[0]
		}
		return text
	}
	return "(" + of("counts") + " union all " + of("ledger") + ")"
}

// Total are the rows of a workflow or draft over all its users, for which a condition
// on kind and ref_id holds, in brackets: status, presumed, n.
func Total(where string) string {
	return "(select status, presumed, n from run_counter.totals where " + where + " union all select status, presumed, n from run_counter.ledger where " + where + ")"
}

// StoredOf are the rows of each key of a list before it, whose rows go by a name:
// status, presumed, n. Lateral, or a ledger without statistics is read as a whole.
func StoredOf(key string) string {
	of := func(table string) string {
		return " from run_counter." + table + " as s where s.user_id = " + key + ".user_id and s.kind = " + key + ".kind and s.ref_id = " + key + ".ref_id"
	}
	return "lateral (select s.status, s.presumed, s.n" + of("counts") +
		" union all select s.status, s.presumed, sum(s.n)::bigint" + of("ledger") + " group by s.status, s.presumed)"
}

// PartitionsOf is the select of a table, by an expression for its oid, and its
// partitions: relid, level, isleaf. pg_partition_tree would lock the partitions
// before the table, and an ALTER of the application, which locks the table first,
// could be the victim of that deadlock.
func PartitionsOf(oid string) string {
	return `(
    with recursive tree as (
        select ` + oid + `::oid as relid, 0 as level
         union all
        select i.inhrelid, tree.level + 1
          from tree
          join pg_inherits as i on i.inhparent = tree.relid and not i.inhdetachpending
          join pg_class as c on c.oid = i.inhrelid and c.relispartition
    )
    select tree.relid, tree.level, c.relkind <> 'p' as isleaf from tree join pg_class as c on c.oid = tree.relid)`
}
