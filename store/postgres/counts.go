package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// columnsSQL are the eight numbers of a key, of counts and of ledger alike.
const columnsSQL = `completed, failed, cancelled, timeout, presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout`

// sumSQL adds up rows k of both.
const sumSQL = `
       coalesce(sum(k.completed), 0)::bigint as completed, coalesce(sum(k.failed), 0)::bigint as failed,
       coalesce(sum(k.cancelled), 0)::bigint as cancelled, coalesce(sum(k.timeout), 0)::bigint as timeout,
       coalesce(sum(k.presumed_completed), 0)::bigint as presumed_completed, coalesce(sum(k.presumed_failed), 0)::bigint as presumed_failed,
       coalesce(sum(k.presumed_cancelled), 0)::bigint as presumed_cancelled, coalesce(sum(k.presumed_timeout), 0)::bigint as presumed_timeout`

// storedSQL is counts + ledger of a key ($1, $2, $3), in one statement and so
// in one snapshot (law 1).
func (h schema) storedSQL() string {
	return `
select` + sumSQL + `
  from (select ` + columnsSQL + `
          from run_counter.counts where user_id = $1::` + h.user + ` and kind = $2::text and ref_id = $3::` + h.ref + `
         union all
        select ` + columnsSQL + `
          from run_counter.ledger where user_id = $1::` + h.user + ` and kind = $2::text and ref_id = $3::` + h.ref + `) as k`
}

// actualSQL counts the ended runs r of whatever stands behind it, with p the
// mark of a presumed one.
const actualSQL = `
       count(*) filter (where r.status = 'completed') as completed, count(*) filter (where r.status = 'failed') as failed,
       count(*) filter (where r.status = 'cancelled') as cancelled, count(*) filter (where r.status = 'timeout') as timeout`

// actualPresumedSQL counts the marks p whose runs r ended so.
const actualPresumedSQL = `
       count(*) filter (where r.status = 'completed') as presumed_completed, count(*) filter (where r.status = 'failed') as presumed_failed,
       count(*) filter (where r.status = 'cancelled') as presumed_cancelled, count(*) filter (where r.status = 'timeout') as presumed_timeout`

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
func (s *Store) policyFor(have schema, p *store.Policy) query {
	if have.installed {
		return policyQuery(p)
	}
	*p = s.options.Policy
	return query{text: `select`}
}

// talliesQuery reads the tallies of keys into a map: counts and ledger in one
// statement, added up here. Lateral, or a ledger without statistics is read as a
// whole. Without our migrations the runs are counted in one pass, since the
// table may have no index for the keys.
func talliesQuery(have schema, keys []store.Key, into map[store.Key]store.Tallies) query {
	list := `unnest($1::` + have.user + `[], $2::text[], $3::` + have.ref + `[]) as n (user_id, kind, ref_id)`
	text := `
select n.user_id, n.kind, n.ref_id, ` + columnsSQL + `
  from ` + list + `
  join lateral (select ` + columnsSQL + ` from run_counter.counts as c
                 where c.user_id = n.user_id and c.kind = n.kind and c.ref_id = n.ref_id limit 1) as c on true
 union all
select n.user_id, n.kind, n.ref_id, l.*
  from ` + list + `
  join lateral (select` + sumSQL + ` from run_counter.ledger as k
                 where k.user_id = n.user_id and k.kind = n.kind and k.ref_id = n.ref_id having count(*) > 0) as l on true`
	if !have.installed {
		text = `
select n.user_id, n.kind, n.ref_id,` + actualSQL + `, 0::bigint, 0::bigint, 0::bigint, 0::bigint
  from ` + list + `
  join ` + have.keyed() + ` as r on r.user_id = n.user_id and r.ref_id = n.ref_id and r.kind = n.kind and r.ended
 group by 1, 2, 3`
	}
	return query{text: text, args: have.keyArrays(keys), read: addTallies(into)}
}

// runTalliesQuery reads the tallies of the key that a run has now.
func runTalliesQuery(have schema, run store.ID, into map[store.Key]store.Tallies) query {
	ofRun := `
  from ` + have.keyed() + ` as r`
	ofKey := ` where r.id = $1::` + have.id + ` and r.ref_id is not null`
	const on = ` as k on k.user_id = r.user_id and k.kind = r.kind and k.ref_id = r.ref_id`
	text := `
select k.user_id, k.kind, k.ref_id, ` + columnsSQL + ofRun + ` join run_counter.counts` + on + ofKey + `
 union all
select k.user_id, k.kind, k.ref_id,` + sumSQL + ofRun + ` join run_counter.ledger` + on + ofKey + `
 group by k.user_id, k.kind, k.ref_id`
	if !have.installed {
		text = `
select n.user_id, n.kind, n.ref_id, t.*
  from (select r.user_id, r.kind, r.ref_id` + ofRun + ofKey + `) as n
 cross join lateral (
    select` + actualSQL + `, 0::bigint, 0::bigint, 0::bigint, 0::bigint
      from ` + have.keyed() + ` as r
     where r.user_id = n.user_id and r.ref_id = n.ref_id and r.kind = n.kind and r.ended) as t`
	}
	return query{text: text, args: []any{have.arg(watched.ID, run)}, read: addTallies(into)}
}

func addTallies(into map[store.Key]store.Tallies) func(rows pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var key store.Key
		var t store.Tallies
		if err := scanKey(rows, &key, talliesOf(&t)...); err != nil {
			return err
		}
		into[key] = into[key].Add(t)
		return nil
	}
}

// Count implements [store.Store].
func (s *Store) Count(ctx context.Context, key store.Key) (c store.Count, err error) {
	if key.IsZero() {
		return c, fmt.Errorf("%w: a count needs a user and a workflow or draft", store.ErrInvalid)
	}
	err = s.attempt(ctx, func(have schema) error {
		var policy store.Policy
		c = store.Count{Key: key}
		err := s.snapshot(ctx, s.countQueries(have, &policy, &c)...)
		c.Count = policy.Count(c.Tallies)
		return err
	})
	return c, err
}

// countQueries read what makes up the count of a key, and the policy.
func (s *Store) countQueries(have schema, policy *store.Policy, c *store.Count) []query {
	ofKey, args := have.keyed()+` as r where `+have.ofKey(c.Key.Kind, "$1", "$2")+` and r.ended`, []any{have.arg(watched.User, c.Key.User), have.arg(watched.Workflow, c.Key.Ref)}
	stored := query{text: have.storedSQL(), args: have.keyArgs(c.Key)}
	if !have.installed {
		stored.text, stored.args = `select`+actualSQL+`, 0::bigint, 0::bigint, 0::bigint, 0::bigint from `+ofKey, args
	}
	stored.read = func(rows pgx.Rows) error { return rows.Scan(talliesOf(&c.Tallies)...) }
	return []query{s.policyFor(have, policy), stored, {
		text: `select r.completed_at from ` + ofKey + ` order by r.completed_at desc limit 1`,
		args: args,
		read: func(rows pgx.Rows) error { return rows.Scan((*instant)(&c.LastRunAt)) },
	}}
}

// UserCounts returns the counts of at most limit of a user's keys, in order,
// after one of them: the zero key for the beginning.
func (s *Store) UserCounts(ctx context.Context, user store.ID, after store.Key, limit int) ([]store.Count, error) {
	if user.IsZero() {
		return nil, nil // to a search it would mean everybody (law 7)
	}
	return s.SearchCounts(ctx, store.CountQuery{User: user, After: after, Limit: limit})
}
