package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/edgaze-ai/runcounter/store"
)

// talliesSQL reads many keys, given as a JSON array of strings: see [keyText].
const talliesSQL = `
select k.key, c.status, c.presumed, c.n
  from json_each(?1) as k
 cross join counts as c on c.user_id = ` + keyUserSQL + ` and c.kind = ` + keyKindSQL + ` and c.ref_id = ` + keyRefSQL

// The parts of a [keyText]. One string is cheaper to take apart than an array:
// SQLite would read the text of that once for each part.
const (
	keyUserSQL = `substr(k.value, 7, substr(k.value, 1, 3))`
	keyRefSQL  = `substr(k.value, 7 + substr(k.value, 1, 3), substr(k.value, 4, 3))`
	keyKindSQL = `substr(k.value, 7 + substr(k.value, 1, 3) + substr(k.value, 4, 3))`
)

// countSQL reads one key, the policy in force, and when its last run ended.
const countSQL = `
select (select policy from settings),
       (select max(completed_at) from workflow_runs
         where user_id = ?1 and kind = ?2 and ref_id = ?3 and completed_at is not null),
       coalesce(c.status, ''), coalesce(c.presumed, false), coalesce(c.n, 0)
  from (select 1)
  left join counts as c on c.user_id = ?1 and c.kind = ?2 and c.ref_id = ?3`

// keyText is a key as talliesSQL takes it: how many characters user and ref
// have, three digits each, and user, ref and kind.
func keyText(k store.Key) string {
	user, ref := k.User.String(), k.Ref.String()
	lengths := 1_000_000 + 1000*utf8.RuneCountInString(user) + utf8.RuneCountInString(ref)
	return strconv.Itoa(lengths)[1:] + user + ref + string(k.Kind)
}

// keyTexts are those of keys, as a JSON array.
func keyTexts(keys []store.Key) string {
	texts := make([]string, len(keys)) // not nil, or its JSON is null
	for i, key := range keys {
		texts[i] = keyText(key)
	}
	return jsonList(texts...)
}

func keyArgs(k store.Key) []any { return []any{k.User.String(), string(k.Kind), k.Ref.String()} }

// ended is a row of counts as it is read.
type ended struct{ store.Ended }

func (e *ended) targets() []any { return []any{&e.Status, &e.Presumed, &e.N} }

// scanCount reads what countSQL returns.
func scanCount(rows *sql.Rows, err error, key store.Key) (store.Count, error) {
	var (
		c    = store.Count{Key: key}
		text string
		last sql.NullInt64
	)
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		var e ended
		err := rows.Scan(append([]any{&text, &last}, e.targets()...)...)
		e.AddTo(&c.Tallies)
		return err
	})
	if err != nil {
		return c, fmt.Errorf("count %s: %w", key, err)
	}
	policy, err := store.ParsePolicy(text)
	if err != nil {
		return c, fmt.Errorf("the table settings: %w", err)
	}
	c.Count, c.LastRunAt = policy.Count(c.Tallies), timeOf(last)
	return c, nil
}

// countIn reads a key where that is not prepared.
func countIn(ctx context.Context, q querier, key store.Key) (store.Count, error) {
	rows, err := q.QueryContext(ctx, countSQL, keyArgs(key)...)
	return scanCount(rows, err, key)
}

// Count implements [store.Store].
func (s *Store) Count(ctx context.Context, of store.Scope, in store.Window) (store.Count, error) {
	if err := cmp.Or(of.Validate(), in.Validate()); err != nil {
		return store.Count{}, err
	}
	in = in.Instants()
	key, one := of.Key()
	if !one || in != store.AllTime {
		return s.countScope(ctx, of, in)
	}
	rows, err := s.counts.QueryContext(ctx, keyArgs(key)...)
	c, err := scanCount(rows, err, key)
	return c, translate(err)
}

// scanKey reads a row that begins with the three columns of a key.
func scanKey(rows *sql.Rows, more ...any) (store.Key, error) {
	var key store.Key
	err := rows.Scan(append([]any{&key.User, &key.Kind, &key.Ref}, more...)...)
	return key, err
}

// countAll counts keys inside a write transaction, without LastRunAt. One
// statement for all of them costs a third of one for each.
func (t *tx) countAll(keys []store.Key) ([]store.Count, error) {
	policy, err := t.policyInForce()
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	if err := t.writeDifferences(); err != nil {
		return nil, err
	}
	rows, err := t.tx.StmtContext(t.ctx, t.stmts.tallies).QueryContext(t.ctx, keyTexts(keys))
	return scanCounts(rows, err, keys, policy)
}

// scanCounts reads what talliesSQL returns for keys.
func scanCounts(rows *sql.Rows, err error, keys []store.Key, policy store.Policy) ([]store.Count, error) {
	counts := make([]store.Count, len(keys))
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		var i int
		var e ended
		if err := rows.Scan(append([]any{&i}, e.targets()...)...); err != nil {
			return err
		}
		e.AddTo(&counts[i].Tallies)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count %d keys: %w", len(keys), err)
	}
	for i := range counts {
		counts[i].Key, counts[i].Count = keys[i], policy.Count(counts[i].Tallies)
	}
	return counts, nil
}

// count counts one key.
func (t *tx) count(key store.Key) (store.Count, error) {
	counts, err := t.countAll([]store.Key{key})
	if err != nil {
		return store.Count{}, err
	}
	return counts[0], nil
}

// policyInForce reads the policy once in a transaction.
func (t *tx) policyInForce() (store.Policy, error) {
	if t.policy == nil {
		policy, err := scanPolicy(t.row(t.stmts.policy))
		if err != nil {
			return policy, err
		}
		t.policy = &policy
	}
	return *t.policy, nil
}

// Fold implements [store.Maintainer]. Nothing waits to be folded.
func (s *Store) Fold(ctx context.Context, now time.Time, _ int) (int, error) {
	return 0, s.write(ctx, func(t *tx) error { return t.prune(now) })
}

// prune drops what is out of date.
func (t *tx) prune(now time.Time) error {
	before := now.Add(-store.KeepLogs).UnixMicro()
	for _, p := range []struct {
		text string
		args []any
	}{
		{`delete from counts where n = 0`, nil},
		{`delete from totals where n = 0`, nil},
		{`delete from repairs where last_at < ?`, []any{before}},
		{`delete from recounts where at < ?`, []any{before}},
		{`delete from limit_marks where marked_at < ? and counts_from is not null`, []any{before}},
		{`delete from notices where made_at < ? and subject <> ?`, []any{before, store.DoctorSubject}},
		{`delete from dead_letters where received_at < ?`, []any{now.Add(-store.KeepDeadLetters).UnixMicro()}},
		{`delete from activity where minute < ?`, []any{now.Add(-store.KeepActivity).UnixMicro()}},
	} {
		if err := t.execText("prune", p.text, p.args...); err != nil {
			return err
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

// talliesOf returns the places of the eight numbers, in the order of the columns.
func talliesOf(t *store.Tallies) []any {
	e, p := &t.Ended, &t.Presumed
	return []any{&e.Completed, &e.Failed, &e.Cancelled, &e.Timeout, &p.Completed, &p.Failed, &p.Cancelled, &p.Timeout}
}

// Recount implements [store.Maintainer].
func (s *Store) Recount(ctx context.Context, key store.Key, now time.Time) (store.RecountResult, error) {
	r := store.RecountResult{Key: key}
	if err := key.Validate(); err != nil {
		return r, err
	}
	err := s.write(ctx, func(t *tx) error {
		stored, err := t.count(key)
		if err != nil {
			return err
		}
		r.Before = stored.Tallies
		if err := t.tx.QueryRowContext(t.ctx, `select`+tallySQL+`
 where user_id = ? and kind = ? and ref_id = ? and completed_at is not null`, keyArgs(key)...).Scan(talliesOf(&r.After)...); err != nil {
			return fmt.Errorf("count the runs of %s: %w", key, err)
		}
		if !r.Changed() {
			return nil
		}
		return t.rules.recount(t, r, now)
	})
	return r, err
}

// recount writes a corrected count, and what it was.
func (t *tx) recount(r store.RecountResult, now time.Time) error {
	before, err := json.Marshal(r.Before)
	after, errAfter := json.Marshal(r.After)
	if err := errors.Join(err, errAfter); err != nil {
		return err
	}
	t.noteAll(r.Key, r.After, 1)
	t.noteAll(r.Key, r.Before, -1)
	return t.execText(fmt.Sprintf("recount %s", r.Key), `insert into recounts (user_id, kind, ref_id, at, before, after) values (?, ?, ?, ?, ?, ?)`,
		append(keyArgs(r.Key), now.UnixMicro(), string(before), string(after))...)
}
