package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

// foldableSQL are the keys of the first $1 rows of the ledger behind a key ($2
// to $4): how many of these rows each has, and whether it has a row in keys.
func (h features) foldableSQL() string {
	return `
select f.user_id, f.kind, f.ref_id, f.n,
       exists (select from run_counter.keys as k where k.user_id = f.user_id and k.kind = f.kind and k.ref_id = f.ref_id)
  from (select l.user_id, l.kind, l.ref_id, count(*) as n
          from (select user_id, kind, ref_id from run_counter.ledger
                 where (user_id, kind, ref_id) > ($2::` + h.user + `, $3::text, $4::` + h.ref + `)
                 order by user_id, kind, ref_id, seq limit $1::integer) as l
         group by l.user_id, l.kind, l.ref_id) as f
 order by 1, 2, 3`
}

// keysSQL are the keys of three arrays, in the order in which they are locked:
// that of the bytes of a text, or a locale's would be another.
func (h features) keysSQL() string {
	bytes := func(column, typ string) string {
		if typ == "text" {
			return column + ` collate "C"`
		}
		return column
	}
	return `(select ` + bytes("k.user_id", h.user) + ` as user_id, k.kind collate "C" as kind, ` + bytes("k.ref_id", h.ref) + ` as ref_id
           from unnest($1::` + h.user + `[], $2::text[], $3::` + h.ref + `[]) as k (user_id, kind, ref_id)) as k`
}

// insertKeysSQL makes the rows of keys: only a row that is there can be locked.
func (h features) insertKeysSQL() string {
	return `
insert into run_counter.keys (user_id, kind, ref_id)
select * from ` + h.keysSQL() + ` order by 1, 2, 3
    on conflict do nothing`
}

// lockableSQL locks those of the keys that no other session holds. It waits for
// none, so a fold can't be part of a deadlock.
func (h features) lockableSQL() string {
	return `
select c.user_id, c.kind, c.ref_id
  from ` + h.keysSQL() + `
  join run_counter.keys as c on c.user_id = k.user_id and c.kind = k.kind and c.ref_id = k.ref_id
 order by 1, 2, 3
   for update of c skip locked`
}

// foldSQL moves what it sees of the ledger into the counts of locked keys, and into
// the totals of their workflows.
// It is a statement of its own, so that what it sees is newer than the locks:
// no other fold can have moved the same rows.
func (h features) foldSQL() string {
	return `
with gone as (
    delete from run_counter.ledger as l
     using ` + h.keysSQL() + `
     where l.user_id = k.user_id and l.kind = k.kind and l.ref_id = k.ref_id
    returning l.*
), sums as (
    select user_id, kind, ref_id, status, presumed, sum(n) as n, count(*) as rows from gone group by 1, 2, 3, 4, 5
), folded as (
    insert into run_counter.counts as c (user_id, kind, ref_id, status, presumed, n)
    select user_id, kind, ref_id, status, presumed, n from sums where n <> 0
        on conflict (user_id, kind, ref_id, status, presumed) do update set n = c.n + excluded.n
), totalled as (` + addTotalsSQL("sums") + `
)
select coalesce(sum(rows), 0)::bigint from sums`
}

// pruneCountsSQL drops the zeros of locked keys: a missing row says the same.
func (h features) pruneCountsSQL() string {
	return `
delete from run_counter.counts as c
 using ` + h.keysSQL() + `
 where c.user_id = k.user_id and c.kind = k.kind and c.ref_id = k.ref_id and c.n = 0`
}

// pruneKeysSQL drops those of the locked keys of which nothing is counted. One
// with a run that has not ended is kept. Its begin has written the row, which is
// how a transaction in REPEATABLE READ that can't see that run is told so; in the
// place of a row that is gone it would make a new one, and go on.
func (h features) pruneKeysSQL() string {
	return `
delete from run_counter.keys as c
 using ` + h.keysSQL() + `
 where c.user_id = k.user_id and c.kind = k.kind and c.ref_id = k.ref_id
   and not exists (select from run_counter.counts as n where n.user_id = c.user_id and n.kind = c.kind and n.ref_id = c.ref_id)
   and not exists (select from run_counter.ledger as l where l.user_id = c.user_id and l.kind = c.kind and l.ref_id = c.ref_id)
   and not exists (select from ` + h.keyed("open", "slot_user") + ` as r
                    where r.slot_user = c.user_id and r.ref_id = c.ref_id and r.kind = c.kind and r.open)`
}

// Fold implements [store.Maintainer]. Any number of instances may fold at once. A
// key that another transaction holds is left for a later fold, and those behind
// it are folded.
func (s *Store) Fold(ctx context.Context, now time.Time, limit int) (int, error) {
	return installed(ctx, s, func(db features, folded *int) (err error) {
		for after, more := (store.Key{}), true; more && *folded < limit; {
			var keys []store.Key
			if keys, more, err = s.foldable(ctx, db, after, limit); err != nil {
				return fmt.Errorf("find what to fold: %w", err)
			}
			if len(keys) == 0 {
				break
			}
			n, err := s.foldKeys(ctx, db, keys)
			if err != nil {
				return err
			}
			*folded += n
			after = keys[len(keys)-1]
		}
		if err := s.commit(ctx, prunes(now)...); err != nil {
			return fmt.Errorf("drop what is out of date: %w", err)
		}
		return nil
	})
}

// foldable returns the keys of the first rows of the ledger behind one, and
// whether there may be more behind them. Their rows in keys are made where they
// are missing.
func (s *Store) foldable(ctx context.Context, db features, after store.Key, limit int) (keys []store.Key, more bool, err error) {
	behind := append([]any{limit}, db.cursorArgs(after)...)
	var missing []store.Key
	rows := 0
	err = send(ctx, s.pool, query{text: db.foldableSQL(), args: behind, read: func(all pgx.Rows) error {
		var key store.Key
		var n int
		var there bool
		if err := scanKey(all, &key, &n, &there); err != nil {
			return err
		}
		rows += n
		keys = append(keys, key)
		if !there {
			missing = append(missing, key)
		}
		return nil
	}})
	if err != nil || len(missing) == 0 {
		return keys, rows == limit, err
	}
	if err = s.insertKeys(ctx, db, missing); busy(err) && len(missing) > 1 {
		for _, key := range missing {
			if err = s.insertKeys(ctx, db, []store.Key{key}); err != nil && !busy(err) {
				break
			}
		}
	}
	if busy(err) {
		err = nil // without its row a key is left out
	}
	return keys, rows == limit, err
}

// insertKeys makes rows in a transaction of its own, which waits for next to
// nothing: where a transaction that has begun the first run of a key is still
// open, the row that it made stands in the way, and can't be skipped.
func (s *Store) insertKeys(ctx context.Context, db features, keys []store.Key) error {
	return s.commit(ctx, query{text: `set local lock_timeout = '10ms'`}, query{text: db.insertKeysSQL(), args: db.keyArrays(keys)})
}

// busy reports that a lock was not to be had.
func busy(err error) bool { return slices.Contains([]string{"55P03", "40P01"}, codeOf(err)) }

// foldKeys folds those of the keys that no other session holds.
func (s *Store) foldKeys(ctx context.Context, db features, keys []store.Key) (folded int, err error) {
	err = s.write(ctx, func(tx pgx.Tx) error {
		folded = 0
		rows, _ := tx.Query(ctx, db.lockableSQL(), db.keyArrays(keys)...) // its error is that of the rows
		keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (key store.Key, err error) {
			err = scanKey(row, &key)
			return key, err
		})
		if err != nil {
			return fmt.Errorf("lock what to fold: %w", err)
		}
		if len(keys) == 0 {
			return nil
		}
		err = send(ctx, tx,
			query{text: db.foldSQL(), args: db.keyArrays(keys), read: func(rows pgx.Rows) error { return rows.Scan(&folded) }},
			query{text: db.pruneCountsSQL(), args: db.keyArrays(keys)}, query{text: db.pruneKeysSQL(), args: db.keyArrays(keys)})
		if err != nil {
			return fmt.Errorf("fold the ledger: %w", err)
		}
		return nil
	})
	return folded, err
}

func prunes(now time.Time) []query {
	before := store.Instant(now.Add(-store.KeepLogs))
	return []query{
		// An application that overwrites an outcome again holds its row, and may wait for another's.
		{text: `delete from run_counter.repairs where (run_id, kind) in (select run_id, kind from run_counter.repairs where last_at < $1::timestamptz for update skip locked)`, args: []any{before}},
		{text: `delete from run_counter.recounts where at < $1::timestamptz`, args: []any{before}},
		// A begin that writes a mark holds it until its transaction ends. That of a limit of
		// all time is as true as it was: once the limit is reached no begin writes it again.
		{text: `delete from run_counter.limit_marks where (user_id, kind, ref_id) in (select user_id, kind, ref_id from run_counter.limit_marks where marked_at < $1::timestamptz and counts_from is not null for update skip locked)`, args: []any{before}},
		{text: `delete from run_counter.notices where subject in (select subject from run_counter.notices where made_at < $1::timestamptz and subject <> $2::text for update skip locked)`, args: []any{before, store.DoctorSubject}},
		{text: `delete from run_counter.dead_letters where received_at < $1::timestamptz`, args: []any{now.Add(-store.KeepDeadLetters)}},
		{text: `delete from run_counter.activity where minute < $1::timestamptz`, args: []any{now.Add(-store.KeepActivity)}},
	}
}
