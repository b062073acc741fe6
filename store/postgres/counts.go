package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// keySQL is the condition on a row of ours that it is of the key $1, $2, $3.
func (h features) keySQL() string {
	return `user_id = $1::` + h.user + ` and kind = $2::text and ref_id = $3::` + h.ref
}

// storedSQL selects the stored tallies of that key.
func (h features) storedSQL() string {
	return `
select k.status, k.presumed, sum(k.n)::bigint as n
  from ` + watched.Stored(h.keySQL()) + ` as k
 group by 1, 2`
}

// statusSQL is the status of a run r as it is stored with a count.
const statusSQL = `r.status::text collate "C" as status`

// marksSQL are the marks m of runs r, each of which takes a run n from those that
// are not presumed to those that are.
const marksSQL = `
  join (select p.run_id, p.ended_at, p.status, v.presumed, v.n
          from run_counter.presumed as p cross join (values (false, -1), (true, 1)) as v (presumed, n)) as m
    on m.run_id = r.id and m.ended_at = r.completed_at and m.status = r.status`

// actualOfKey counts the runs of the key $1, $2, $3, from the index alone, and
// then those that are marked.
func actualOfKey(db features, key store.Key) string {
	runs := db.keyed() + ` as r`
	of := ` where $2::text <> '' and ` + db.ofKey(key.Kind, "$1", "$3") + ` and r.ended`
	return `
select a.status, a.presumed, sum(a.n)::bigint as n
  from (select ` + statusSQL + `, false as presumed, count(*) as n from ` + runs + of + ` group by 1
         union all
        select ` + statusSQL + `, m.presumed, m.n from ` + runs + marksSQL + of + `) as a
 group by 1, 2 having sum(a.n) <> 0`
}

func policyQuery(p *store.Policy) query {
	return query{text: `select policy from run_counter.settings`, read: func(rows pgx.Rows) error {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		var err error
		*p, err = parsePolicy(name)
		return err
	}}
}

// policyFor reads the policy in force, or the one for a database that can't
// say.
func (s *Store) policyFor(db features, p *store.Policy) query {
	if db.installed {
		return policyQuery(p)
	}
	*p = s.options.Policy
	return query{text: `select`}
}

// talliesQuery reads the tallies of keys into a map: counts and ledger in one
// statement, added up here. Without our migrations the runs are counted in one pass, since the
// table may have no index for the keys.
func talliesQuery(db features, keys []store.Key, into map[store.Key]store.Tallies) query {
	return db.tallies(`unnest($1::`+db.user+`[], $2::text[], $3::`+db.ref+`[]) as n (user_id, kind, ref_id)`, db.keyArrays(keys), into)
}

// runTalliesQuery reads the tallies of the key that a run has now.
func runTalliesQuery(db features, run store.ID, into map[store.Key]store.Tallies) query {
	return db.tallies(`(select * from `+db.keyed()+` as r where r.id = $1::`+db.id+` and r.ref_id is not null) as n`, []any{db.arg(watched.ID, run)}, into)
}

// tallies reads the tallies of a list n of keys into a map.
func (h features) tallies(list string, args []any, into map[store.Key]store.Tallies) query {
	text := `
select n.user_id, n.kind, n.ref_id, t.status, t.presumed, t.n
  from ` + list + ` join ` + watched.StoredOf("n") + ` as t on true`
	if !h.installed {
		text = `
select n.user_id, n.kind, n.ref_id, ` + statusSQL + `, false, count(*)
  from ` + list + `
  join ` + h.keyed() + ` as r on r.user_id = n.user_id and r.ref_id = n.ref_id and r.kind = n.kind and r.ended
 group by 1, 2, 3, 4`
	}
	return query{text: text, args: args, read: func(rows pgx.Rows) error {
		var key store.Key
		var e ended
		if err := scanKey(rows, &key, e.targets()...); err != nil {
			return err
		}
		t := into[key]
		e.AddTo(&t)
		into[key] = t
		return nil
	}}
}
