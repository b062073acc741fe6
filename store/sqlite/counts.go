package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// talliesSQL reads a key: counts + ledger in one statement, and so in one
// snapshot (law 1), and how many ledger rows it had to read for that.
const talliesSQL = `
select l.n,
       coalesce(c.completed, 0) + l.completed,
       coalesce(c.failed, 0) + l.failed,
       coalesce(c.cancelled, 0) + l.cancelled,
       coalesce(c.timeout, 0) + l.timeout,
       coalesce(c.presumed_completed, 0) + l.presumed_completed,
       coalesce(c.presumed_failed, 0) + l.presumed_failed,
       coalesce(c.presumed_cancelled, 0) + l.presumed_cancelled,
       coalesce(c.presumed_timeout, 0) + l.presumed_timeout
  from (select count(*) as n,
               coalesce(sum(completed), 0) as completed, coalesce(sum(failed), 0) as failed,
               coalesce(sum(cancelled), 0) as cancelled, coalesce(sum(timeout), 0) as timeout,
               coalesce(sum(presumed_completed), 0) as presumed_completed,
               coalesce(sum(presumed_failed), 0) as presumed_failed,
               coalesce(sum(presumed_cancelled), 0) as presumed_cancelled,
               coalesce(sum(presumed_timeout), 0) as presumed_timeout
          from ledger where user_id = ?1 and kind = ?2 and ref_id = ?3) as l
  left join counts as c on c.user_id = ?1 and c.kind = ?2 and c.ref_id = ?3`

// countSQL reads besides the policy in force and when the last run ended.
const countSQL = `
select t.*,
       (select policy from settings),
       (select max(completed_at) from workflow_runs
         where user_id = ?1 and kind = ?2 and ref_id = ?3 and completed_at is not null)
  from (` + talliesSQL + `) as t`

// foldSQL adds a key's ledger to its count, and unledgerSQL deletes what was
// added. Between them nobody writes: the transaction holds the only write lock
// from its start.
const foldSQL = `
insert into counts
select user_id, kind, ref_id, sum(completed), sum(failed), sum(cancelled), sum(timeout),
       sum(presumed_completed), sum(presumed_failed), sum(presumed_cancelled), sum(presumed_timeout)
  from ledger
 where user_id = ?1 and kind = ?2 and ref_id = ?3
 group by user_id, kind, ref_id
    on conflict (user_id, kind, ref_id) do update
   set completed = completed + excluded.completed,
       failed = failed + excluded.failed,
       cancelled = cancelled + excluded.cancelled,
       timeout = timeout + excluded.timeout,
       presumed_completed = presumed_completed + excluded.presumed_completed,
       presumed_failed = presumed_failed + excluded.presumed_failed,
       presumed_cancelled = presumed_cancelled + excluded.presumed_cancelled,
       presumed_timeout = presumed_timeout + excluded.presumed_timeout`

const unledgerSQL = `delete from ledger where user_id = ? and kind = ? and ref_id = ?`

func keyArgs(k store.Key) []any { return []any{k.User.String(), string(k.Kind), k.Ref.String()} }

// talliesOf returns the places of the eight numbers, in the order of the columns.
func talliesOf(t *store.Tallies) []any {
	e, p := &t.Ended, &t.Presumed
	return []any{&e.Completed, &e.Failed, &e.Cancelled, &e.Timeout, &p.Completed, &p.Failed, &p.Cancelled, &p.Timeout}
}

// scanCount reads what countSQL returns.
func scanCount(row *sql.Row, key store.Key) (store.Count, error) {
	var (
		c      = store.Count{Key: key}
		ledger int64
		text   string
		last   sql.NullInt64
	)
	if err := row.Scan(slices.Concat([]any{&ledger}, talliesOf(&c.Tallies), []any{&text, &last})...); err != nil {
		return c, fmt.Errorf("count %s: %w", key, err)
	}
	policy, err := store.ParsePolicy(text)
	if err != nil {
		return c, fmt.Errorf("the table settings: %w", err)
	}
	c.Count, c.LastRunAt = policy.Count(c.Tallies), timeOf(last)
	return c, nil
}

// Count implements [store.Store].
func (s *Store) Count(ctx context.Context, key store.Key) (store.Count, error) {
	if key.IsZero() {
		return store.Count{}, fmt.Errorf("%w: a count needs a user and a workflow or draft", store.ErrInvalid)
	}
	c, err := scanCount(s.counts.QueryRowContext(ctx, keyArgs(key)...), key)
	return c, translate(err)
}

// UserCounts returns the counts of at most limit of a user's keys, in order,
// after one of them: the zero key for the beginning.
func (s *Store) UserCounts(ctx context.Context, user store.ID, after store.Key, limit int) ([]store.Count, error) {
	var counts []store.Count
	err := s.read(ctx, func(q querier) error {
		keys, err := userKeys(ctx, q, user, after, limit)
		if err != nil {
			return err
		}
		for _, key := range keys {
			c, err := scanCount(q.QueryRowContext(ctx, countSQL, keyArgs(key)...), key)
			if err != nil {
				return err
			}
			counts = append(counts, c)
		}
		return nil
	})
	return counts, err
}

func userKeys(ctx context.Context, q querier, user store.ID, after store.Key, limit int) ([]store.Key, error) {
	rows, err := q.QueryContext(ctx, `
select user_id, kind, ref_id
  from (select user_id, kind, ref_id from counts where user_id = ?1
         union
        select user_id, kind, ref_id from ledger where user_id = ?1)
 where (kind, ref_id) > (?2, ?3)
 order by kind, ref_id
 limit ?4`, user.String(), string(after.Kind), after.Ref.String(), limit)
	if err != nil {
		return nil, fmt.Errorf("list the keys of user %s: %w", user, err)
	}
	return scanKeys(rows)
}

func scanKeys(rows *sql.Rows) (keys []store.Key, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		key, err := scanKey(rows)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// scanKey reads a row that begins with the three columns of a key.
func scanKey(rows *sql.Rows, more ...any) (store.Key, error) {
	var user, kind, ref string
	if err := rows.Scan(append([]any{&user, &kind, &ref}, more...)...); err != nil {
		return store.Key{}, err
	}
	u, err := store.ParseID(user)
	if err != nil {
		return store.Key{}, fmt.Errorf("the table holds the user %q: %w", user, err)
	}
	r, err := store.ParseID(ref)
	if err != nil {
		return store.Key{}, fmt.Errorf("the table holds the ref %q: %w", ref, err)
	}
	return store.Key{User: u, Kind: store.Kind(kind), Ref: r}, nil
}

// tallies reads a key inside a write transaction.
func (t *tx) tallies(key store.Key) (tallies store.Tallies, ledger int64, err error) {
	if err := t.row(t.stmts.tallies, keyArgs(key)...).Scan(append([]any{&ledger}, talliesOf(&tallies)...)...); err != nil {
		return tallies, 0, fmt.Errorf("count %s: %w", key, err)
	}
	return tallies, ledger, nil
}

// count counts a key inside a write transaction, without LastRunAt, and folds
// it when its ledger has grown, so that no read ever waits for the sweep.
func (t *tx) count(key store.Key) (store.Count, error) {
	policy, err := t.policyInForce()
	if err != nil {
		return store.Count{}, err
	}
	tallies, ledger, err := t.tallies(key)
	if err == nil && ledger > t.rules.foldAt {
		err = t.fold(key)
	}
	return store.Count{Key: key, Count: policy.Count(tallies), Tallies: tallies}, err
}

// policyInForce reads the policy once in a transaction.
func (t *tx) policyInForce() (store.Policy, error) {
	if t.policy == nil {
		policy, err := readPolicy(t.ctx, t.tx)
		if err != nil {
			return policy, err
		}
		t.policy = &policy
	}
	return *t.policy, nil
}

func (t *tx) fold(key store.Key) error {
	if err := t.exec(t.stmts.fold, keyArgs(key)...); err != nil {
		return fmt.Errorf("fold %s: %w", key, err)
	}
	if err := t.exec(t.stmts.unledger, keyArgs(key)...); err != nil {
		return fmt.Errorf("fold %s: %w", key, err)
	}
	return nil
}

// keepLogs is how long what was repaired and refused stays readable.
const keepLogs = 90 * 24 * time.Hour

// Fold implements [store.Store].
func (s *Store) Fold(ctx context.Context, now time.Time, limit int) (folded int, err error) {
	err = s.write(ctx, func(t *tx) error {
		keys, n, err := t.ledgerKeys(limit)
		if err != nil {
			return fmt.Errorf("list the ledger: %w", err)
		}
		for _, key := range keys {
			if err := t.fold(key); err != nil {
				return err
			}
		}
		folded = n
		return t.prune(now)
	})
	return folded, err
}

// ledgerKeys returns the first keys of the ledger that have limit rows
// together, and how many rows they have.
func (t *tx) ledgerKeys(limit int) (keys []store.Key, n int, err error) {
	rows, err := t.tx.QueryContext(t.ctx, `
select user_id, kind, ref_id, count(*) from ledger group by user_id, kind, ref_id limit ?`, limit)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for n < limit && rows.Next() {
		var of int
		key, err := scanKey(rows, &of)
		if err != nil {
			return nil, 0, err
		}
		keys, n = append(keys, key), n+of
	}
	return keys, n, rows.Err()
}

// prune drops what is out of date.
func (t *tx) prune(now time.Time) error {
	before := now.Add(-keepLogs).UnixMicro()
	for _, p := range []struct {
		text string
		args []any
	}{
		{`delete from counts
		   where completed = 0 and failed = 0 and cancelled = 0 and timeout = 0
		     and presumed_completed = 0 and presumed_failed = 0 and presumed_cancelled = 0 and presumed_timeout = 0`, nil},
		{`delete from repairs where last_at < ?`, []any{before}},
		{`delete from recounts where at < ?`, []any{before}},
		{`delete from dead_letters where received_at < ?`, []any{before}},
	} {
		if _, err := t.tx.ExecContext(t.ctx, p.text, p.args...); err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	return nil
}

// tallySQL counts the runs themselves, from workflow_runs_ended alone.
const tallySQL = `
       coalesce(sum(status = 'completed'), 0), coalesce(sum(status = 'failed'), 0),
       coalesce(sum(status = 'cancelled'), 0), coalesce(sum(status = 'timeout'), 0),
       coalesce(sum(status = 'completed' and evidence = 1), 0), coalesce(sum(status = 'failed' and evidence = 1), 0),
       coalesce(sum(status = 'cancelled' and evidence = 1), 0), coalesce(sum(status = 'timeout' and evidence = 1), 0)
  from workflow_runs`

// Recount implements [store.Store].
func (s *Store) Recount(ctx context.Context, key store.Key, now time.Time) (store.Recounted, error) {
	r := store.Recounted{Key: key}
	if key.IsZero() {
		return r, fmt.Errorf("%w: a recount needs a user and a workflow or draft", store.ErrInvalid)
	}
	err := s.write(ctx, func(t *tx) error {
		stored, _, err := t.tallies(key)
		if err != nil {
			return err
		}
		r.Before = stored
		if err := t.tx.QueryRowContext(t.ctx, `select`+tallySQL+`
 where user_id = ? and kind = ? and ref_id = ? and completed_at is not null`, keyArgs(key)...).Scan(talliesOf(&r.After)...); err != nil {
			return fmt.Errorf("count the runs of %s: %w", key, err)
		}
		if !r.Changed() {
			return nil
		}
		return t.recount(r, now)
	})
	return r, err
}

// recount writes a corrected count, and what it was.
func (t *tx) recount(r store.Recounted, now time.Time) error {
	before, err := json.Marshal(r.Before)
	if err != nil {
		return err
	}
	after, err := json.Marshal(r.After)
	if err != nil {
		return err
	}
	key, a := keyArgs(r.Key), r.After
	values := append(key, a.Ended.Completed, a.Ended.Failed, a.Ended.Cancelled, a.Ended.Timeout,
		a.Presumed.Completed, a.Presumed.Failed, a.Presumed.Cancelled, a.Presumed.Timeout)
	for _, step := range []struct {
		text string
		args []any
	}{
		{unledgerSQL, key},
		{`delete from counts where user_id = ? and kind = ? and ref_id = ?`, key},
		{`insert into counts values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, values},
		{`insert into recounts (at, user_id, kind, ref_id, before, after) values (?, ?, ?, ?, ?, ?)`,
			append([]any{now.UnixMicro()}, append(keyArgs(r.Key), string(before), string(after))...)},
	} {
		if _, err := t.tx.ExecContext(t.ctx, step.text, step.args...); err != nil {
			return fmt.Errorf("recount %s: %w", r.Key, err)
		}
	}
	return nil
}
