package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
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
const storedSQL = `
select` + sumSQL + `
  from (select ` + columnsSQL + `
          from run_counter.counts where user_id = $1::uuid and kind = $2::text and ref_id = $3::uuid
         union all
        select ` + columnsSQL + `
          from run_counter.ledger where user_id = $1::uuid and kind = $2::text and ref_id = $3::uuid) as k`

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
	const list = `unnest($1::uuid[], $2::text[], $3::uuid[]) as n (user_id, kind, ref_id)`
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
  join public.workflow_runs as r on r.user_id = n.user_id and ` + have.refColumn() + ` = n.ref_id and ` + have.kindColumn() + ` = n.kind and ` + endedSQL + `
 group by 1, 2, 3`
	}
	return query{text: text, args: keyArrays(keys), read: addTallies(into)}
}

// runTalliesQuery reads the tallies of the key that a run has now.
func runTalliesQuery(have schema, run store.ID, into map[store.Key]store.Tallies) query {
	ofRun := `
  from public.workflow_runs as r`
	ofKey := ` where r.id = $1::uuid and ` + have.refColumn() + ` is not null`
	on := ` as k on k.user_id = r.user_id and k.kind = ` + have.kindColumn() + ` and k.ref_id = ` + have.refColumn()
	text := `
select k.user_id, k.kind, k.ref_id, ` + columnsSQL + ofRun + ` join run_counter.counts` + on + ofKey + `
 union all
select k.user_id, k.kind, k.ref_id,` + sumSQL + ofRun + ` join run_counter.ledger` + on + ofKey + `
 group by k.user_id, k.kind, k.ref_id`
	if !have.installed {
		text = `
select n.user_id, n.kind, n.ref_id, t.*
  from (select r.user_id, ` + have.kindColumn() + ` as kind, ` + have.refColumn() + ` as ref_id` + ofRun + ofKey + `) as n
 cross join lateral (
    select` + actualSQL + `, 0::bigint, 0::bigint, 0::bigint, 0::bigint
      from public.workflow_runs as r
     where r.user_id = n.user_id and ` + have.refColumn() + ` = n.ref_id and ` + have.kindColumn() + ` = n.kind and ` + endedSQL + `) as t`
	}
	return query{text: text, args: []any{run.String()}, read: addTallies(into)}
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
		stored := query{text: storedSQL, args: keyArgs(key), read: func(rows pgx.Rows) error { return rows.Scan(talliesOf(&c.Tallies)...) }}
		if !have.installed {
			stored.text = `select` + actualSQL + `, 0::bigint, 0::bigint, 0::bigint, 0::bigint
  from public.workflow_runs as r
 where ` + have.ofKey(key.Kind, "$1", "$2") + ` and ` + endedSQL
			stored.args = []any{key.User.String(), key.Ref.String()}
		}
		err := s.snapshot(ctx, s.policyFor(have, &policy), stored, query{
			text: `select r.completed_at from public.workflow_runs as r
 where ` + have.ofKey(key.Kind, "$1", "$2") + ` and ` + endedSQL + ` order by r.completed_at desc limit 1`,
			args: []any{key.User.String(), key.Ref.String()},
			read: func(rows pgx.Rows) error { return rows.Scan((*instant)(&c.LastRunAt)) },
		})
		c.Count = policy.Count(c.Tallies)
		return err
	})
	return c, err
}

// UserCounts returns the counts of at most limit of a user's keys, in order,
// after one of them: the zero key for the beginning.
func (s *Store) UserCounts(ctx context.Context, user store.ID, after store.Key, limit int) ([]store.Count, error) {
	if user.IsZero() {
		return nil, nil // to a search it would mean everybody (law 7)
	}
	return s.SearchCounts(ctx, store.CountQuery{User: user, After: after, Limit: limit})
}

// foldableSQL are the keys of the first rows of the ledger. Their rows in
// counts are made where they are missing: only a row that is there can be
// locked.
const foldableSQL = `
with first as (
    select distinct l.user_id, l.kind, l.ref_id
      from (select user_id, kind, ref_id from run_counter.ledger order by user_id, kind, ref_id, seq limit $1::integer) as l
), made as (
    insert into run_counter.counts (user_id, kind, ref_id)
    select f.user_id, f.kind, f.ref_id from first as f
     where not exists (select from run_counter.counts as c where c.user_id = f.user_id and c.kind = f.kind and c.ref_id = f.ref_id)
     order by 1, 2, 3
        on conflict do nothing
)
select user_id, kind, ref_id from first order by 1, 2, 3`

// lockableSQL locks those of the keys that nobody else works on. It waits for
// none, so folds can't meet anybody in a circle.
const lockableSQL = `
select c.user_id, c.kind, c.ref_id
  from unnest($1::uuid[], $2::text[], $3::uuid[]) as k (user_id, kind, ref_id)
  join run_counter.counts as c on c.user_id = k.user_id and c.kind = k.kind and c.ref_id = k.ref_id
 order by 1, 2, 3
   for update of c skip locked`

// foldSQL moves what it sees of the ledger into the counts of locked keys.
// It is a statement of its own, so that what it sees is newer than the locks:
// nobody else can have moved the same rows.
const foldSQL = `
with gone as (
    delete from run_counter.ledger as l
     using unnest($1::uuid[], $2::text[], $3::uuid[]) as k (user_id, kind, ref_id)
     where l.user_id = k.user_id and l.kind = k.kind and l.ref_id = k.ref_id
    returning l.*
), sums as (
    select k.user_id, k.kind, k.ref_id, count(*) as n,` + sumSQL + ` from gone as k group by k.user_id, k.kind, k.ref_id
), folded as (
    update run_counter.counts as c
       set completed = c.completed + s.completed, failed = c.failed + s.failed,
           cancelled = c.cancelled + s.cancelled, timeout = c.timeout + s.timeout,
           presumed_completed = c.presumed_completed + s.presumed_completed, presumed_failed = c.presumed_failed + s.presumed_failed,
           presumed_cancelled = c.presumed_cancelled + s.presumed_cancelled, presumed_timeout = c.presumed_timeout + s.presumed_timeout
      from sums as s
     where c.user_id = s.user_id and c.kind = s.kind and c.ref_id = s.ref_id
    returning s.n
)
select coalesce(sum(n), 0)::bigint from folded`

// pruneSQL drops the zero rows among keys that are locked: a missing row and a
// row of zeros say the same. One with a run that has not ended is kept. Its
// begin has written the row, which is how a transaction in REPEATABLE READ that
// can't see that run is told so; in the place of a row that is gone it would
// make a new one, and go on.
func (h schema) pruneSQL() string {
	return `
delete from run_counter.counts as c
 using unnest($1::uuid[], $2::text[], $3::uuid[]) as k (user_id, kind, ref_id)
 where c.user_id = k.user_id and c.kind = k.kind and c.ref_id = k.ref_id
   and (c.completed, c.failed, c.cancelled, c.timeout, c.presumed_completed, c.presumed_failed, c.presumed_cancelled, c.presumed_timeout)
       = (0, 0, 0, 0, 0, 0, 0, 0)
   and not exists (select from public.workflow_runs as r
                    where r.user_id = c.user_id and ` + h.refColumn() + ` = c.ref_id and ` + h.kindColumn() + ` = c.kind and ` + openSQL + `)`
}

// keepLogs is how long what was repaired and refused stays readable.
const keepLogs = 90 * 24 * time.Hour

// Fold implements [store.Store]. Any number of instances may fold at once.
func (s *Store) Fold(ctx context.Context, now time.Time, limit int) (folded int, err error) {
	err = s.attempt(ctx, func(have schema) error {
		folded = 0
		if !have.installed {
			return nil
		}
		return s.write(ctx, func(tx pgx.Tx) error {
			keys, err := queryKeys(ctx, tx, foldableSQL, limit)
			if err != nil {
				return fmt.Errorf("find what to fold: %w", err)
			}
			if keys, err = queryKeys(ctx, tx, lockableSQL, keyArrays(keys)...); err != nil {
				return fmt.Errorf("lock what to fold: %w", err)
			}
			queries := prunes(now)
			if len(keys) > 0 {
				queries = append([]query{
					{text: foldSQL, args: keyArrays(keys), read: func(rows pgx.Rows) error { return rows.Scan(&folded) }},
					{text: have.pruneSQL(), args: keyArrays(keys)},
				}, queries...)
			}
			if err := send(ctx, tx, queries...); err != nil {
				return fmt.Errorf("fold the ledger: %w", err)
			}
			return nil
		})
	})
	return folded, err
}

func prunes(now time.Time) []query {
	before := store.Instant(now.Add(-keepLogs))
	return []query{
		{text: `delete from run_counter.repairs where last_at < $1::timestamptz`, args: []any{before}},
		{text: `delete from run_counter.recounts where at < $1::timestamptz`, args: []any{before}},
		{text: `delete from run_counter.dead_letters where received_at < $1::timestamptz`, args: []any{now.Add(-store.KeepDeadLetters)}},
	}
}

func queryKeys(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]store.Key, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (key store.Key, err error) {
		return key, scanKey(row, &key)
	})
}

// Recount implements [store.Store].
func (s *Store) Recount(ctx context.Context, key store.Key, now time.Time) (r store.Recounted, err error) {
	if key.IsZero() {
		return r, fmt.Errorf("%w: a recount needs a user and a workflow or draft", store.ErrInvalid)
	}
	err = s.attempt(ctx, func(have schema) error {
		r = store.Recounted{Key: key}
		if !have.installed {
			c, err := s.Count(ctx, key)
			r.Before, r.After = c.Tallies, c.Tallies
			return err
		}
		// A count that is right in one snapshot is right (law 1), and nothing
		// needs to be locked to see it.
		found, err := s.compare(ctx, have, key)
		if err != nil || found.Stored == found.Actual {
			r.Before, r.After = found.Stored, found.Actual
			return err
		}
		r, err = s.recount(ctx, have, key, store.Instant(now))
		return err
	})
	return r, err
}

// compare reads both sides of law 1 for one key, in one snapshot.
func (s *Store) compare(ctx context.Context, have schema, key store.Key) (d store.Drift, err error) {
	d.Key = key
	err = s.pool.QueryRow(ctx, `
select s.*, a.*, p.*
  from (`+storedSQL+`) as s,
       (`+actualOfKey(have, key)+`) as a,
       (`+presumedOfKey(have, key)+`) as p`, keyArgs(key)...).Scan(append(talliesOf(&d.Stored), talliesOf(&d.Actual)...)...)
	return d, err
}

// actualOfKey counts the runs of the key $1, $2, $3, from the index alone.
func actualOfKey(have schema, key store.Key) string {
	return `select` + actualSQL + ` from public.workflow_runs as r where $2::text <> '' and ` + have.ofKey(key.Kind, "$1", "$3") + ` and ` + endedSQL
}

func presumedOfKey(have schema, key store.Key) string {
	return `select` + actualPresumedSQL + `
          from run_counter.presumed as p join public.workflow_runs as r on p.run_id = r.id and p.ended_at = r.completed_at and p.status = r.status
         where $2::text <> '' and ` + have.ofKey(key.Kind, "$1", "$3") + ` and ` + endedSQL
}

// recount locks the key, and in the next statement counts the runs and deletes
// the ledger rows that it can see, under one snapshot.
func (s *Store) recount(ctx context.Context, have schema, key store.Key, now time.Time) (r store.Recounted, err error) {
	r.Key = key
	err = s.write(ctx, func(tx pgx.Tx) error {
		err := send(ctx, tx,
			// A TRUNCATE that is under way is waited for before the snapshot
			// is taken: it empties the table for older ones, too.
			query{text: `lock table public.workflow_runs in access share mode`},
			query{text: `select run_counter.lock_key($1::uuid, $2::text, $3::uuid)`, args: keyArgs(key), read: func(pgx.Rows) error { return nil }},
			// Marks that no longer belong to what their run is were left behind
			// by hands that kept the triggers from working.
			query{text: `
delete from run_counter.presumed as p
 where p.user_id = $1::uuid and p.kind = $2::text and p.ref_id = $3::uuid
   and not exists (select from public.workflow_runs as r
                    where r.id = p.run_id and p.ended_at = r.completed_at and p.status = r.status and r.user_id = p.user_id
                      and ` + have.refColumn() + ` = p.ref_id and ` + have.kindColumn() + ` = p.kind)`, args: keyArgs(key)},
		)
		if err != nil {
			return fmt.Errorf("lock %s: %w", key, err)
		}
		err = tx.QueryRow(ctx, recountSQL(have, key), keyArgs(key)...).Scan(append(talliesOf(&r.Before), talliesOf(&r.After)...)...)
		if err != nil {
			return fmt.Errorf("recount %s: %w", key, err)
		}
		if !r.Changed() { // somebody else mended it meanwhile
			return nil
		}
		return logRecount(ctx, tx, r, now)
	})
	return r, err
}

// recountSQL counts the runs of a locked key, deletes the ledger rows that
// these are in, and returns what was stored and what is.
func recountSQL(have schema, key store.Key) string {
	return `
with gone as (
    delete from run_counter.ledger where user_id = $1::uuid and kind = $2::text and ref_id = $3::uuid returning *
), stored as (
    select` + sumSQL + `
      from (select ` + columnsSQL + ` from gone
             union all
            select ` + columnsSQL + ` from run_counter.counts where user_id = $1::uuid and kind = $2::text and ref_id = $3::uuid) as k
), actual as (
    ` + actualOfKey(have, key) + `
), actual_presumed as (
    ` + presumedOfKey(have, key) + `
), counted as (
    update run_counter.counts as c
       set completed = a.completed, failed = a.failed, cancelled = a.cancelled, timeout = a.timeout,
           presumed_completed = p.presumed_completed, presumed_failed = p.presumed_failed,
           presumed_cancelled = p.presumed_cancelled, presumed_timeout = p.presumed_timeout
      from actual as a, actual_presumed as p
     where c.user_id = $1::uuid and c.kind = $2::text and c.ref_id = $3::uuid
)
select * from stored, actual, actual_presumed`
}

func logRecount(ctx context.Context, tx pgx.Tx, r store.Recounted, now time.Time) error {
	before, err := json.Marshal(r.Before)
	after, errAfter := json.Marshal(r.After)
	if err := errors.Join(err, errAfter); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
insert into run_counter.recounts (at, user_id, kind, ref_id, before, after)
values ($4::timestamptz, $1::uuid, $2::text, $3::uuid, $5::jsonb, $6::jsonb)`, append(keyArgs(r.Key), now, string(before), string(after))...)
	return err
}
