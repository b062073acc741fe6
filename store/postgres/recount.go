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

// Recount implements [store.Maintainer].
func (s *Store) Recount(ctx context.Context, key store.Key, now time.Time) (store.RecountResult, error) {
	return s.recountIf(ctx, key, now, noCondition)
}

// noCondition is a recount that is not taken back.
func noCondition(features, pgx.Tx) error { return nil }

// recountIf takes the recount back where sure returns an error, which it is asked
// for when the runs have been counted.
func (s *Store) recountIf(ctx context.Context, key store.Key, now time.Time, sure func(features, pgx.Tx) error) (r store.RecountResult, err error) {
	if err := key.Validate(); err != nil {
		return r, err
	}
	err = s.attempt(ctx, func(db features) error {
		if err := db.requireKey(key); err != nil {
			return err
		}
		r = store.RecountResult{Key: key}
		if !db.installed {
			c, err := s.Count(ctx, key.Scope(), store.AllTime)
			r.Before, r.After = c.Tallies, c.Tallies
			return err
		}
		// A count that is right in one snapshot is right (law 1), and nothing
		// needs to be locked to see it.
		found, err := s.compare(ctx, db, key)
		if err != nil || !found.Wrong() {
			r.Before, r.After = found.Stored, found.Actual
			return err
		}
		r, err = s.recountLocked(ctx, db, key, store.Instant(now), sure)
		return err
	})
	return r, err
}

// compare reads both sides of law 1 for one key, in one snapshot.
func (s *Store) compare(ctx context.Context, db features, key store.Key) (d store.Drift, err error) {
	d.Key = key
	err = send(ctx, s.pool, compareQuery(db, &d))
	return d, err
}

func compareQuery(db features, d *store.Drift) query {
	return query{
		text: `with stored as (` + db.storedSQL() + `), actual as (` + actualOfKey(db, d.Key) + `)` + bothSQL,
		args: db.keyArgs(d.Key),
		read: func(rows pgx.Rows) error { return addBoth(rows, &d.Stored, &d.Actual) },
	}
}

// bothSQL are both sides of law 1.
const bothSQL = `
select coalesce(s.status, a.status), coalesce(s.presumed, a.presumed), coalesce(s.n, 0), coalesce(a.n, 0)
  from stored as s full join actual as a on a.status = s.status and a.presumed = s.presumed`

// addBoth reads a row of both sides, of a status and presumed, and adds it up.
func addBoth(rows pgx.Rows, stored, actual *store.Tallies, before ...any) error {
	var is, was ended
	err := rows.Scan(append(append(before, was.targets()...), &is.N)...)
	was.AddTo(stored)
	is.Status, is.Presumed = was.Status, was.Presumed
	is.AddTo(actual)
	return err
}

// recountLocked locks the key, and in the next statement counts the runs and deletes
// the ledger rows that it can see, under one snapshot.
func (s *Store) recountLocked(ctx context.Context, db features, key store.Key, now time.Time, sure func(features, pgx.Tx) error) (r store.RecountResult, err error) {
	r.Key = key
	err = s.write(ctx, func(tx pgx.Tx) error {
		err := send(ctx, tx,
			// A TRUNCATE that is under way is waited for before the snapshot
			// is taken: it empties the table for older ones, too.
			query{text: `lock table ` + db.table.SQL() + ` in access share mode`},
			query{text: `set local lock_timeout = '` + recountLockTimeout + `'`},
			query{text: `select run_counter.lock_key($1::` + db.user + `, $2::text, $3::` + db.ref + `)`, args: db.keyArgs(key), read: func(pgx.Rows) error { return nil }},
			query{text: `set local lock_timeout to default`},
		)
		if busy(err) {
			return fmt.Errorf("another transaction has held %s for %s, such as one that has begun a run of it and is still open; recount it when that has ended: %w", key, recountLockTimeout, err)
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", key, err)
		}
		if err := db.requireSameTable(ctx, tx); err != nil {
			return err
		}
		if err := repairMarks(ctx, tx, db, key); err != nil {
			return fmt.Errorf("look through the presumed outcomes of %s: %w", key, err)
		}
		err = send(ctx, tx, query{text: recountSQL(db, key), args: db.keyArgs(key), read: func(rows pgx.Rows) error { return addBoth(rows, &r.Before, &r.After) }})
		if err != nil {
			return fmt.Errorf("recount %s: %w", key, err)
		}
		if !r.Changed() { // a second process repaired it meanwhile
			return nil
		}
		if err := sure(db, tx); err != nil {
			return err
		}
		return logRecount(ctx, tx, db, r, now)
	})
	return r, err
}

// recountLockTimeout bounds a recount's wait for its key: a sweep has others to
// repair.
const recountLockTimeout = "2s"

// repairMarks looks through the marks of a locked key, and of its runs, for what
// hands left behind that kept the triggers from working. A mark goes with the
// outcome that it was of, and belongs to the key of its run: the ledger takes it
// from one key and gives it to the other, whichever of them is counted first.
//
// It judges those that it has locked, in the next statements, whose snapshots
// are newer: a writer may have made a mark good meanwhile. What a writer holds
// is that writer's to keep right.
func repairMarks(ctx context.Context, tx pgx.Tx, db features, key store.Key) error {
	rows, _ := tx.Query(ctx, `
select p.run_id::text from run_counter.presumed as p
 where p.user_id = $1::`+db.user+` and p.kind = $2::text and p.ref_id = $3::`+db.ref+`
    or p.run_id in (select r.id from `+db.keyed()+` as r where `+db.ofKey(key.Kind, "$1", "$3")+` and r.ended)
   for update skip locked`, db.keyArgs(key)...) // its error is that of the rows
	runs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(runs) == 0 {
		return err
	}
	const kind = `case when r.ref_id is not null then r.kind end`
	return send(ctx, tx,
		query{args: []any{runs}, text: `
delete from run_counter.presumed as p
 where p.run_id = any ($1::` + db.id + `[])
   and not exists (select from ` + db.keyed() + ` as r where r.id = p.run_id and p.ended_at = r.completed_at and p.status = r.status)`},
		query{args: []any{runs}, text: `
update run_counter.presumed as p
   set user_id = r.user_id, kind = ` + kind + `, ref_id = r.ref_id
  from ` + db.keyed() + ` as r
 where p.run_id = any ($1::` + db.id + `[]) and r.id = p.run_id
   and (p.user_id, p.kind, p.ref_id) is distinct from (r.user_id, ` + kind + `, r.ref_id)`},
	)
}

// recountSQL counts the runs of a locked key, deletes the ledger rows that
// these are in, and returns what was stored and what is. To the workflow's total it
// adds the difference: other users' folds move that meanwhile.
func recountSQL(db features, key store.Key) string {
	return `
with gone as (
    delete from run_counter.ledger where ` + db.keySQL() + ` returning *
), stored as (
    select k.status, k.presumed, sum(k.n)::bigint as n
      from (select status, presumed, n from gone
             union all
            select status, presumed, n from run_counter.counts where ` + db.keySQL() + `) as k
     group by 1, 2
), actual as (` + actualOfKey(db, key) + `
), none as (
    delete from run_counter.counts as c
     where ` + db.keySQL() + ` and not exists (select from actual as a where a.status = c.status and a.presumed = c.presumed)
), counted as (
    insert into run_counter.counts (user_id, kind, ref_id, status, presumed, n)
    select $1::` + db.user + `, $2::text, $3::` + db.ref + `, status, presumed, n from actual
        on conflict (user_id, kind, ref_id, status, presumed) do update set n = excluded.n
), moved as (
    select $2::text as kind, $3::` + db.ref + ` as ref_id, status, presumed, n from actual
     union all
    select kind, ref_id, status, presumed, -n from run_counter.counts where ` + db.keySQL() + `
), totalled as (` + addTotalsSQL("moved") + `
)` + bothSQL
}

func logRecount(ctx context.Context, tx pgx.Tx, db features, r store.RecountResult, now time.Time) error {
	before, err := json.Marshal(r.Before)
	after, errAfter := json.Marshal(r.After)
	if err := errors.Join(err, errAfter); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
insert into run_counter.recounts (at, user_id, kind, ref_id, before, after)
values ($4::timestamptz, $1::`+db.user+`, $2::text, $3::`+db.ref+`, $5::jsonb, $6::jsonb)`, append(db.keyArgs(r.Key), now, string(before), string(after))...)
	return err
}
