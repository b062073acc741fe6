package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
)

// History returns what is known of one run.
func (s *Store) History(ctx context.Context, id store.ID) (h store.History, err error) {
	err = s.read(ctx, func(q querier) error {
		_, e, err := scanEntry(q.QueryRowContext(ctx, loadSQL, jsonList(id.String())))
		if err != nil {
			return fmt.Errorf("load run %s: %w", id, err)
		}
		h.Found, h.DeletedAt = e.exists, e.state.DeletedAt
		if h.Policy, err = readPolicy(ctx, q); err != nil {
			return err
		}
		if h.Found {
			if h.Run, err = makeRun(ctx, q, e.state, h.Policy); err != nil {
				return err
			}
			if key := h.Run.Key(); !key.IsZero() {
				if h.Count, err = countIn(ctx, q, key); err != nil {
					return err
				}
			}
		}
		rows, err := q.QueryContext(ctx, `select `+repairColumns+` from repairs where run_id = ? order by last_at, kind`, id.String())
		err = eachRow(rows, err, func(rows *sql.Rows) error {
			var l store.RepairLog
			err := scanRepair(rows, &l)
			h.Repairs = append(h.Repairs, l)
			return err
		})
		if err != nil {
			return fmt.Errorf("look up the repairs of run %s: %w", id, err)
		}
		rows, err = q.QueryContext(ctx, `select `+amendmentColumns+` from amendments where run_id = ? order by seq`, id.String())
		err = eachRow(rows, err, func(rows *sql.Rows) error {
			var l store.AmendmentLog
			err := scanAmendment(rows, &l)
			h.Amendments = append(h.Amendments, l)
			return err
		})
		if err != nil {
			return fmt.Errorf("look up the amendments of run %s: %w", id, err)
		}
		return nil
	})
	return h, err
}

// KeyHistory returns how the count of a key comes about, with at most limit of
// its runs.
func (s *Store) KeyHistory(ctx context.Context, key store.Key, limit int) (h store.KeyHistory, err error) {
	if key.IsZero() {
		return h, fmt.Errorf("%w: a count needs a user and a workflow or draft", store.ErrInvalid)
	}
	err = s.read(ctx, func(q querier) error {
		var err error
		if h.Policy, err = readPolicy(ctx, q); err != nil {
			return err
		}
		if h.Count, err = countIn(ctx, q, key); err != nil {
			return err
		}
		h.Drift = store.Drift{Key: key, Stored: h.Count.Tallies}
		for _, one := range []struct {
			text   string
			places []any
		}{
			{`select` + tallySQL + ` where user_id = ? and kind = ? and ref_id = ? and completed_at is not null`, talliesOf(&h.Drift.Actual)},
			{`select count(*) from workflow_runs where user_id = ? and kind = ? and ref_id = ? and completed_at is null`, []any{&h.Active}},
		} {
			if err := q.QueryRowContext(ctx, one.text, keyArgs(key)...).Scan(one.places...); err != nil {
				return fmt.Errorf("look up %s: %w", key, err)
			}
		}
		if h.Drift.Stored != h.Drift.Actual {
			h.Cause = "The tables counts or workflow_runs were written by hand: nothing in this program can do that."
		}
		if h.Runs, err = latestRuns(ctx, q, key, h.Policy, limit); err != nil {
			return fmt.Errorf("list the runs of %s: %w", key, err)
		}
		rows, err := q.QueryContext(ctx, `select user_id, kind, ref_id, at, before, after from recounts where user_id = ? and kind = ? and ref_id = ? order by seq`, keyArgs(key)...)
		return eachRow(rows, err, func(rows *sql.Rows) error {
			_, l, err := scanRecount(rows)
			h.Recounts = append(h.Recounts, l)
			return err
		})
	})
	return h, err
}

// latestRuns lists runs of a key: those that have not ended, then the ones
// that ended last.
func latestRuns(ctx context.Context, q querier, key store.Key, policy store.Policy, limit int) (runs []store.Run, err error) {
	rows, err := q.QueryContext(ctx, `
select id from workflow_runs where user_id = ? and kind = ? and ref_id = ?
 order by completed_at is not null, completed_at desc, created_at desc limit ?`, append(keyArgs(key), limit)...)
	var ids []string
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return loadRuns(ctx, q, ids, policy)
}

// What our logs hold, and the reading of it behind other columns.
const (
	repairColumns    = `kind, times, first_at, last_at, was, status, completed_at`
	amendmentColumns = `at, who, why, was, was_completed_at, status`
)

func scanRepair(rows *sql.Rows, l *store.RepairLog, before ...any) error {
	var first, last, at sql.NullInt64
	err := rows.Scan(append(before, &l.Reason, &l.Times, &first, &last, &l.Was, &l.Status, &at)...)
	l.First, l.Last, l.CompletedAt = timeOf(first), timeOf(last), timeOf(at)
	return err
}

func scanAmendment(rows *sql.Rows, l *store.AmendmentLog, before ...any) error {
	var at, was sql.NullInt64
	err := rows.Scan(append(before, &at, &l.Who, &l.Why, &l.Was, &was, &l.Status)...)
	l.At, l.WasCompletedAt = timeOf(at), timeOf(was)
	return err
}

// scanRecount reads a key, whatever stands between, and what was repaired of
// its count.
func scanRecount(rows *sql.Rows, between ...any) (key store.Key, l store.RecountLog, err error) {
	var at sql.NullInt64
	var before, after string
	if key, err = scanKey(rows, append(between, &at, &before, &after)...); err != nil {
		return key, l, err
	}
	l.At = timeOf(at)
	if err := json.Unmarshal([]byte(before), &l.Before); err != nil {
		return key, l, err
	}
	return key, l, json.Unmarshal([]byte(after), &l.After)
}
