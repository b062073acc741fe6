package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// History returns what is known of one run.
func (s *Store) History(ctx context.Context, id store.ID) (h store.History, err error) {
	err = s.attempt(ctx, func(db features) error {
		h = store.History{}
		tallies := map[store.Key]store.Tallies{}
		queries := []query{
			s.policyFor(db, &h.Policy), db.runQuery(id, &h.Run, &h.Found), runTalliesQuery(db, id, tallies),
		}
		if db.installed {
			of := ` where run_id = $1::` + db.id + ` order by `
			queries = append(queries,
				query{text: `select ` + repairColumns + ` from run_counter.repairs` + of + `last_at, kind`, args: []any{db.arg(watched.ID, id)},
					read: all(&h.Repairs, func(rows pgx.Rows, l *store.RepairLog) error { return scanRepair(rows, l) })},
				query{text: `select ` + amendmentColumns + ` from run_counter.amendments` + of + `seq`, args: []any{db.arg(watched.ID, id)},
					read: all(&h.Amendments, func(rows pgx.Rows, l *store.AmendmentLog) error { return scanAmendment(rows, l) })})
		}
		if err := s.snapshot(ctx, queries...); err != nil {
			return fmt.Errorf("look up run %s: %w", id, err)
		}
		h.Run.Counted = h.Run.CountsUnder(h.Policy)
		if key := h.Run.Key(); !key.IsZero() {
			h.Count = store.Count{Key: key, Count: h.Policy.Count(tallies[key]), Tallies: tallies[key]}
		}
		return nil
	})
	return h, err
}

// KeyHistory returns how the count of a key comes about, with at most limit of
// its runs.
func (s *Store) KeyHistory(ctx context.Context, key store.Key, limit int) (h store.KeyHistory, err error) {
	if err := key.Validate(); err != nil {
		return h, err
	}
	err = s.attempt(ctx, func(db features) error {
		if err := db.requireKey(key); err != nil {
			return err
		}
		h = store.KeyHistory{Count: store.Count{Key: key}, Drift: store.Drift{Key: key}}
		keyed := []any{db.arg(watched.User, key.User), db.arg(watched.Workflow, key.Ref)}
		queries := []query{s.policyFor(db, &h.Policy), db.scopeQuery(key.Scope(), store.AllTime, &h.Count.Tallies)}
		queries = append(append(queries, db.lastRunAt(key.Scope(), store.AllTime, &h.Count.LastRunAt)...),
			query{text: `select count(*) from ` + db.keyed("open", "slot_user") + ` as r where r.slot_user = $1::` + db.user + ` and ` + db.ofKey(key.Kind, "$1", "$2") + ` and r.open`,
				args: keyed, read: func(rows pgx.Rows) error { return rows.Scan(&h.Active) }},
			query{text: `select ` + rowSQL + `, ''::text, ` + db.presumedColumn() + ` from ` + db.rows("has_user", "has_workflow", "no_draft", "has_draft", "end_order") + ` as r
 where ` + db.ofKey(key.Kind, "$1", "$2") + ` order by r.end_order desc nulls first, r.created_at desc limit $3::integer`,
				args: append(keyed, limit), read: all(&h.Runs, func(rows pgx.Rows, run *store.Run) error { return scanRun(db, rows, run) })})
		if db.installed {
			queries = append(append(queries, compareQuery(db, &h.Drift)), ledgerQueries(db, key, &h)...)
		}
		if err := s.snapshot(ctx, queries...); err != nil {
			return fmt.Errorf("look up %s: %w", key, err)
		}
		h.Count.Count = h.Policy.Count(h.Count.Tallies)
		if !db.installed {
			h.Drift.Stored, h.Drift.Actual = h.Count.Tallies, h.Count.Tallies
		}
		for i := range h.Runs {
			h.Runs[i].Counted = h.Runs[i].CountsUnder(h.Policy)
		}
		if !h.Drift.Wrong() {
			return nil
		}
		var err error
		h.Cause, err = s.cause(ctx, db, h.Drift)
		return err
	})
	return h, err
}

func ledgerQueries(db features, key store.Key, h *store.KeyHistory) []query {
	return []query{
		{text: `select count(*) from run_counter.ledger where ` + db.keySQL(),
			args: db.keyArgs(key), read: func(rows pgx.Rows) error { return rows.Scan(&h.Ledger) }},
		{text: `select ` + recountColumns + ` from run_counter.recounts where ` + db.keySQL() + ` order by seq`,
			args: db.keyArgs(key), read: all(&h.Recounts, func(rows pgx.Rows, l *store.RecountLog) error { return scanRecount(rows, l) })},
	}
}

// What our logs hold, and the reading of it behind other columns.
const (
	repairColumns    = `kind, times, first_at, last_at, was, status, completed_at`
	amendmentColumns = `at, who, why, was, was_completed_at, status`
	recountColumns   = `at, before::text, after::text`
)

func scanRepair(rows pgx.Rows, l *store.RepairLog, before ...any) error {
	return rows.Scan(append(before, (*text)(&l.Reason), &l.Times, (*instant)(&l.First), (*instant)(&l.Last),
		(*text)(&l.Was), (*text)(&l.Status), (*instant)(&l.CompletedAt))...)
}

func scanAmendment(rows pgx.Rows, l *store.AmendmentLog, before ...any) error {
	return rows.Scan(append(before, (*instant)(&l.At), &l.Who, &l.Why, (*text)(&l.Was), (*instant)(&l.WasCompletedAt), (*text)(&l.Status))...)
}

func scanRecount(rows pgx.Rows, l *store.RecountLog, before ...any) error {
	var was, is string
	if err := rows.Scan(append(before, (*instant)(&l.At), &was, &is)...); err != nil {
		return err
	}
	return errors.Join(json.Unmarshal([]byte(was), &l.Before), json.Unmarshal([]byte(is), &l.After))
}

// ledgerTriggers keep law 1: without one of them what it should have written
// is missing.
var ledgerTriggers = []string{
	"zzzz_run_counter_ledger_insert", "zzzz_run_counter_ledger_update", "zzzz_run_counter_ledger_delete", "zzzz_run_counter_ledger_truncate",
}

// cause returns the likely cause of a drift. By construction there are only
// three ways to get one: the ledger triggers didn't run, a snapshot was older
// than a TRUNCATE, or our tables were written by hand.
func (s *Store) cause(ctx context.Context, db features, d store.Drift) (string, error) {
	var working, disabled []string
	err := send(ctx, s.pool, query{
		text: `select tgname, tgenabled in ('O', 'A') from pg_trigger where tgrelid = ` + regclass(db.table) + ` and tgname = any ($1::text[])`,
		args: []any{ledgerTriggers},
		read: func(rows pgx.Rows) error {
			var name string
			var enabled bool
			if err := rows.Scan(&name, &enabled); err != nil {
				return err
			}
			working = append(working, name)
			if !enabled {
				disabled = append(disabled, name)
			}
			return nil
		},
	})
	if err != nil {
		return "", err
	}
	switch stored, actual := d.Stored.Ended.Total(), d.Actual.Ended.Total(); {
	case len(working) < len(ledgerTriggers):
		return "A ledger trigger is missing on " + db.table.String() + ", so what was written since was not counted: run runcounter migrate up, then recount.", nil
	case len(disabled) > 0:
		return "A ledger trigger is disabled (" + strings.Join(disabled, ", ") + "), so what was written meanwhile was not counted: " +
			"alter table " + db.table.SQL() + " enable trigger " + disabled[0] + ", then recount.", nil
	case actual == 0 && stored > 0:
		return "Its runs are gone, and no trigger saw them go: a TRUNCATE or DELETE with session_replication_role = replica, or a table that was swapped or restored without its counts.", nil
	case stored > actual:
		return "More was counted than is there: runs were deleted or changed where triggers didn't run (session_replication_role = replica, as in a restore), or run_counter.counts or run_counter.ledger was written by hand.", nil
	case stored < actual:
		return "Runs are there that were never counted: they were written where triggers didn't run (session_replication_role = replica, as in a restore or logical replication), or run_counter.counts or run_counter.ledger was written by hand.", nil
	}
	return "The number of runs is right but not how they ended: statuses were changed where triggers didn't run, or run_counter.counts, run_counter.ledger or run_counter.presumed was written by hand.", nil
}
