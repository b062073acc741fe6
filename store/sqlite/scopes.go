package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
)

// countScope returns the count of a scope in a window, in one snapshot.
func (s *Store) countScope(ctx context.Context, of store.Scope, in store.Window) (store.Count, error) {
	c := store.Count{Key: store.Key(of)}
	err := s.withPolicy(ctx, func(q querier, policy store.Policy) (err error) {
		c.Tallies, err = s.hooks.tallies(ctx, q, of, in)
		c.Count = policy.Count(c.Tallies)
		return err
	})
	return c, err
}

// tallies returns the tallies of a scope in a window, in the snapshot of q.
func (h *hooks) tallies(ctx context.Context, q querier, of store.Scope, in store.Window) (store.Tallies, error) {
	if in == store.AllTime {
		return storedTallies(ctx, q, of)
	}
	return windowTallies(ctx, q, of, h.window(in))
}

// storedTallies reads the tallies of a scope for all time from the counts, or where it
// has no user from the totals.
func storedTallies(ctx context.Context, q querier, of store.Scope) (t store.Tallies, err error) {
	table, w := "counts", ofScope(of)
	if of.OfAllUsers() {
		table = "totals"
	}
	return readTallies(ctx, q, of, `select status, presumed, sum(n) from `+table+w.String()+` group by 1, 2`, w.args)
}

// windowTallies counts the runs of a scope that ended in a window.
func windowTallies(ctx context.Context, q querier, of store.Scope, in store.Window) (t store.Tallies, err error) {
	by, w, err := windowRuns(ctx, q, of, in)
	if err != nil {
		return t, err
	}
	if err := q.QueryRowContext(ctx, windowSQL(by, w), w.args...).Scan(talliesOf(&t)...); err != nil {
		return t, fmt.Errorf("count %s: %w", of, err)
	}
	return t, nil
}

// windowSQL sums in one pass: a GROUP BY would sort all of the runs first.
func windowSQL(by string, w conditions) string {
	return `select` + tallySQL + by + w.String()
}

// readTallies reads rows of status, presumed and number.
func readTallies(ctx context.Context, q querier, of store.Scope, text string, args []any) (t store.Tallies, err error) {
	err = each(ctx, q, fmt.Sprintf("count %s", of), text, args, func(rows *sql.Rows) error {
		var e ended
		err := rows.Scan(e.targets()...)
		e.AddTo(&t)
		return err
	})
	return t, err
}

// ofScope returns the condition that a row belongs to a scope, of a table with the
// columns of a key.
func ofScope(of store.Scope) conditions { return ofScopeBy(of, "kind", "ref_id") }

// ofScopeBy is ofScope for a table that tells kind and ref by such expressions.
func ofScopeBy(of store.Scope, kind, ref string) (w conditions) {
	if !of.User.IsZero() {
		w.add("user_id = ?", of.User.String())
	}
	if of.Kind != "" {
		w.add(kind+" = ?", string(of.Kind))
	} else {
		w.add(kind + " is not null") // a run without a workflow is in no count
	}
	if !of.Ref.IsZero() {
		w.add(ref+" = ?", of.Ref.String())
	}
	return w
}

// windowRuns returns the condition that a run of a scope ended in a window, and what says
// behind the name of the table by which index that is read: one of the optional ones, but
// for a key.
//
// Errors: [*store.NoIndexError].
func windowRuns(ctx context.Context, q querier, of store.Scope, in store.Window) (by string, w conditions, err error) {
	index := "workflow_runs_ended"
	_, one := of.Key()
	if !one {
		if index = migrations.SQLiteUserWindows; of.OfAllUsers() {
			index = migrations.SQLiteWorkflowWindows
		}
		var there bool
		err := q.QueryRowContext(ctx, `select exists (select 1 from sqlite_master where type = 'index' and name = ?)`, index).Scan(&there)
		if err != nil {
			return "", w, fmt.Errorf("look for the index %s: %w", index, err)
		}
		if !there {
			return "", w, &store.NoIndexError{Of: of}
		}
	}
	w = ofScope(of)
	if !one { // its index has what these columns are generated from
		w = ofScopeBy(of, "("+migrations.SQLiteKind+")", migrations.SQLiteRef)
	}
	w.add("completed_at is not null")
	if !in.From.IsZero() {
		w.add("completed_at >= ?", in.From.UnixMicro())
	}
	if !in.To.IsZero() {
		w.add("completed_at < ?", in.To.UnixMicro())
	}
	return " indexed by " + index, w, nil
}

// countsUnder adds the condition that an ended run counts under a policy.
func (w *conditions) countsUnder(p store.Policy) {
	var statuses []any
	for _, status := range store.Terminals {
		if p.Counts(status, false) {
			statuses = append(statuses, string(status))
		}
	}
	w.add("status in (?"+strings.Repeat(", ?", len(statuses)-1)+")", statuses...)
	if p.ExceptPresumed {
		w.add("evidence <> 1")
	}
}
