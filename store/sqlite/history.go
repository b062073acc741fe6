package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
)

// History returns what is known of one run.
func (s *Store) History(ctx context.Context, id store.ID) (h store.History, err error) {
	err = s.withPolicy(ctx, func(q querier, policy store.Policy) error {
		_, e, err := scanEntry(q.QueryRowContext(ctx, loadSQL, jsonList(id.String())))
		if err != nil {
			return fmt.Errorf("load run %s: %w", id, err)
		}
		h.Found, h.DeletedAt, h.Policy = e.exists, e.state.DeletedAt, policy
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
		h.Repairs, err = list(ctx, q, fmt.Sprintf("look up the repairs of run %s", id),
			`select `+repairColumns+` from repairs where run_id = ? order by last_at, kind`, []any{id.String()},
			func(rows *sql.Rows, l *store.RepairLog) error { return scanRepair(rows, l) })
		if err != nil {
			return err
		}
		h.Amendments, err = list(ctx, q, fmt.Sprintf("look up the amendments of run %s", id),
			`select `+amendmentColumns+` from amendments where run_id = ? order by seq`, []any{id.String()},
			func(rows *sql.Rows, l *store.AmendmentLog) error { return scanAmendment(rows, l) })
		return err
	})
	return h, err
}

// KeyHistory returns how the count of a key comes about, with at most limit of
// its runs.
func (s *Store) KeyHistory(ctx context.Context, key store.Key, limit int) (h store.KeyHistory, err error) {
	if err := key.Validate(); err != nil {
		return h, err
	}
	err = s.withPolicy(ctx, func(q querier, policy store.Policy) (err error) {
		h.Policy = policy
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
		if h.Drift.Wrong() {
			h.Cause = "The tables counts or workflow_runs were written by hand: nothing in this program can do that."
		}
		if h.Runs, err = latestRuns(ctx, q, key, policy, limit); err != nil {
			return err
		}
		h.Recounts, err = list(ctx, q, fmt.Sprintf("look up the recounts of %s", key),
			`select `+recountColumns+` from recounts where user_id = ? and kind = ? and ref_id = ? order by seq`, keyArgs(key),
			func(rows *sql.Rows, l *store.RecountLog) error { return scanRecount(rows, l) })
		return err
	})
	return h, err
}

// latestRuns lists runs of a key: those that have not ended, then the ones
// that ended last.
func latestRuns(ctx context.Context, q querier, key store.Key, policy store.Policy, limit int) ([]store.Run, error) {
	ids, err := list(ctx, q, fmt.Sprintf("list the runs of %s", key), `
select id from workflow_runs where user_id = ? and kind = ? and ref_id = ?
 order by completed_at is not null, completed_at desc, created_at desc limit ?`, append(keyArgs(key), limit),
		func(rows *sql.Rows, id *string) error { return rows.Scan(id) })
	if err != nil {
		return nil, err
	}
	return loadRuns(ctx, q, ids, policy)
}

// What our logs hold, and the reading of it behind other columns.
const (
	repairColumns    = `kind, times, first_at, last_at, was, status, completed_at`
	amendmentColumns = `at, who, why, was, was_completed_at, status`
	recountColumns   = `at, before, after`
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

func scanRecount(rows *sql.Rows, l *store.RecountLog, before ...any) error {
	var at sql.NullInt64
	var was, is string
	if err := rows.Scan(append(before, &at, &was, &is)...); err != nil {
		return err
	}
	l.At = timeOf(at)
	return errors.Join(json.Unmarshal([]byte(was), &l.Before), json.Unmarshal([]byte(is), &l.After))
}
