package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// CountsOf returns the exact counts of keys, in their order and of one
// snapshot, without LastRunAt.
func (s *Store) CountsOf(ctx context.Context, keys []store.Key) (counts []store.Count, err error) {
	for _, key := range keys {
		if err := key.Validate(); err != nil {
			return nil, err
		}
	}
	err = s.attempt(ctx, func(db features) error {
		var policy store.Policy
		tallies := make(map[store.Key]store.Tallies, len(keys))
		if err := s.snapshot(ctx, s.policyFor(db, &policy), talliesQuery(db, distinct(keys), tallies)); err != nil {
			return fmt.Errorf("count %d keys: %w", len(keys), err)
		}
		counts = make([]store.Count, len(keys))
		for i, key := range keys {
			counts[i] = store.Count{Key: key, Count: policy.Count(tallies[key]), Tallies: tallies[key]}
		}
		return nil
	})
	return counts, err
}

// distinct returns the keys, each once: the tallies of one that is asked for
// twice would be added up.
func distinct(keys []store.Key) []store.Key {
	seen := make(map[store.Key]bool, len(keys))
	list := make([]store.Key, 0, len(keys))
	for _, key := range keys {
		if !seen[key] {
			seen[key] = true
			list = append(list, key)
		}
	}
	return list
}

// conditions are those of a statement, all of which hold, with their
// parameters.
type conditions struct {
	texts []string
	args  []any
}

// arg adds a parameter, and returns its name.
func (w *conditions) arg(v any) string {
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args))
}

func (w *conditions) add(text string) { w.texts = append(w.texts, text) }

func (w *conditions) and() string {
	var b strings.Builder
	for _, text := range w.texts {
		b.WriteString(" and " + text)
	}
	return b.String()
}

// SearchCounts returns a page of the counts, in the order of their keys.
func (s *Store) SearchCounts(ctx context.Context, search store.CountQuery) (counts []store.Count, err error) {
	err = s.attempt(ctx, func(db features) error {
		counts = nil
		var policy store.Policy
		q := searchQuery(db, search)
		q.read = func(rows pgx.Rows) error {
			var c store.Count
			var e ended
			if err := scanKey(rows, &c.Key, append(e.targets(), (*instant)(&c.LastRunAt))...); err != nil {
				return err
			}
			if len(counts) == 0 || counts[len(counts)-1].Key != c.Key {
				counts = append(counts, c)
			}
			last := &counts[len(counts)-1]
			e.AddTo(&last.Tallies)
			last.Count = policy.Count(last.Tallies)
			return nil
		}
		if err := s.snapshot(ctx, s.policyFor(db, &policy), q); err != nil {
			return fmt.Errorf("list the counts: %w", err)
		}
		return nil
	})
	return counts, err
}

func searchQuery(db features, search store.CountQuery) query {
	var w conditions
	of := "k"
	if !db.installed {
		of = "r"
	}
	user, kind, ref := of+".user_id", of+".kind", of+".ref_id"
	if !search.After.IsZero() {
		after := fmt.Sprintf("(%s::%s, %s::text, %s::%s)", w.arg(db.cursorArg(watched.User, search.After.User)), db.user, w.arg(string(search.After.Kind)), w.arg(db.cursorArg(watched.Workflow, search.After.Ref)), db.ref)
		w.add(fmt.Sprintf("(%s, %s, %s) > %s", user, kind, ref, after))
	}
	if !search.User.IsZero() {
		w.add(user + " = " + w.arg(db.arg(watched.User, search.User)) + "::" + db.user)
	}
	if !search.Ref.IsZero() {
		w.add(ref + " = " + w.arg(db.arg(watched.Workflow, search.Ref)) + "::" + db.ref)
	}
	limit := " order by 1, 2, 3 limit " + w.arg(search.Limit) + "::integer"
	last := func(kind store.Kind) string {
		return `(select r.completed_at from ` + db.keyed() + ` as r
          where ` + db.ofKey(kind, "k.user_id", "k.ref_id") + ` and r.ended order by r.end_order desc limit 1)`
	}
	// Both sides in order and bounded, or a page would cost what the table has.
	part := func(table string) string {
		return `(select distinct k.user_id, k.kind, k.ref_id from ` + table + ` as k where true` + w.and() + limit + `)`
	}
	page := `
    select k.user_id, k.kind, k.ref_id, case k.kind when '` + string(db.table.Counted()) + `' then ` + last(db.table.Counted()) + ` else ` + last(store.KindDraft) + ` end as last_run_at
      from (` + part("run_counter.counts") + ` union ` + part("run_counter.ledger") + `) as k` + limit
	if !db.installed { // in one pass, which stops at the limit: the table may have no index for the keys
		var columns, rows []string
		for _, status := range store.Terminals {
			columns = append(columns, fmt.Sprintf("count(*) filter (where r.status = '%[1]s') as %[1]s", status))
			rows = append(rows, fmt.Sprintf("('%[1]s', k.%[1]s)", status))
		}
		return query{text: `
select k.user_id, k.kind, k.ref_id, n.status, false, n.n, k.last
  from (select r.user_id, r.kind, r.ref_id, ` + strings.Join(columns, ", ") + `, max(r.completed_at) as last
          from ` + db.keyed() + ` as r
         where r.ref_id is not null and r.ended` + w.and() + ` group by 1, 2, 3` + limit + `) as k
 cross join lateral (values ` + strings.Join(rows, ", ") + `) as n (status, n)
 where n.n > 0
 order by 1, 2, 3`, args: w.args}
	}
	return query{
		text: `
select n.user_id, n.kind, n.ref_id, t.status, t.presumed, t.n, n.last_run_at
  from (` + page + `) as n join ` + watched.StoredOf("n") + ` as t on true
 order by 1, 2, 3`,
		args: w.args,
	}
}

// listedRuns says where the runs r in a state are found, and the time and the
// id that order them. Our own tables come first where they know of them: a page
// follows their order, and looks at few rows of the table.
type listedRuns struct{ from, at, id string }

// shownSQL orders runs by when they were created, those of which that is not known
// last: a page goes on from what was shown.
const shownSQL = `coalesce(r.created_at, '0001-01-02 00:00:00+00')`

func runsIn(db features, state store.RunState) (l listedRuns, err error) {
	switch state {
	case store.ActiveRuns:
		return listedRuns{db.rows("open") + ` as r where r.open`, shownSQL, "r.id"}, nil
	case store.EndedRuns:
		return listedRuns{db.rows("ended", "has_user", "has_workflow", "no_workflow", "has_draft", "no_draft") + ` as r where r.ended`, "r.completed_at", "r.id"}, nil
	case store.OddRuns:
		return listedRuns{db.rows("odd") + ` as r where r.odd`, shownSQL, "r.id"}, nil
	case store.PresumedRuns:
		// Lateral, or the table is read as a whole: the planner expects few of
		// the marks to be those of what their run is.
		return listedRuns{`run_counter.presumed as m
  join lateral (select * from ` + db.rows("ended") + ` as w where w.id = m.run_id limit 1) as r on r.completed_at = m.ended_at and r.status = m.status where r.ended`, "m.ended_at", "m.run_id"}, nil
	case store.SupersededRuns:
		// Of a run that was repaired for both reasons the later repair tells.
		return listedRuns{`run_counter.repairs as m join ` + db.rows("ended") + ` as r on r.id = m.run_id
 where m.kind in ('stuck', 'overwritten') and r.ended and not ` + presumedSQL + `
   and not exists (select from run_counter.repairs as q
                    where q.run_id = m.run_id and q.kind in ('stuck', 'overwritten') and (q.last_at, q.kind) > (m.last_at, m.kind))`, "m.last_at", "m.run_id"}, nil
	}
	_, err = store.ParseRunState(string(state))
	return l, err
}

// runsQuery lists the columns of the runs of a query. ok is false for those that a
// database without our migrations has none of. Without an order it stops at the limit,
// whatever there is.
func runsQuery(db features, search store.RunQuery, columns func(l listedRuns) string, ordered bool) (q query, ok bool, err error) {
	l, err := runsIn(db, search.State)
	if err != nil || !db.installed && (search.State == store.PresumedRuns || search.State == store.SupersededRuns) {
		return q, false, err
	}
	var w conditions
	if !search.User.IsZero() {
		w.add(`r.user_id = ` + w.arg(db.arg(watched.User, search.User)) + `::` + db.user)
		if search.State == store.EndedRuns { // each has an index, and the last is odd
			w.add(`r.has_user and (r.has_workflow and r.no_draft or r.has_draft or r.no_workflow and r.no_draft)`)
		}
	}
	if search.Status != "" {
		w.add(`r.status = ` + w.arg(string(search.Status)) + `::text`)
	}
	if !search.In.From.IsZero() {
		w.add(l.at + ` >= ` + w.arg(bound(search.In.From)) + `::timestamptz`)
	}
	if !search.In.To.IsZero() {
		w.add(l.at + ` < ` + w.arg(bound(search.In.To)) + `::timestamptz`)
	}
	behind, order := `<`, ` desc`
	if search.Oldest {
		behind, order = `>`, ``
	}
	if !search.After.At.IsZero() {
		w.add(`(` + l.at + `, ` + l.id + `) ` + behind + ` (` + w.arg(search.After.At) + `::timestamptz, ` + w.arg(db.cursorArg(watched.ID, search.After.ID)) + `::` + db.id + `)`)
	}
	text := `select ` + columns(l) + ` from ` + l.from + w.and()
	if ordered {
		text += ` order by ` + l.at + order + `, ` + l.id + order
	}
	return query{text: text + ` limit ` + w.arg(search.Limit) + `::integer`, args: w.args}, true, nil
}

// within puts a bound before queries on the time of each.
func within(most time.Duration, queries ...query) []query {
	if most <= 0 {
		return queries
	}
	bound := query{text: `select set_config('statement_timeout', $1::text, true)`, args: []any{strconv.FormatInt(max(most.Milliseconds(), 1), 10)}}
	return append([]query{bound}, queries...)
}

// tooSlow says of a query that was cancelled by the bound on its time that it was.
func tooSlow(err error, most time.Duration) error {
	var e *pgconn.PgError
	if most > 0 && errors.As(err, &e) && e.Code == "57014" {
		return fmt.Errorf("%w: %w", store.ErrTooSlow, err)
	}
	return err
}

// SearchRuns returns a page of the runs that are in a state.
func (s *Store) SearchRuns(ctx context.Context, search store.RunQuery) (runs []store.ListedRun, err error) {
	err = s.attempt(ctx, func(db features) error {
		runs = nil
		q, ok, err := runsQuery(db, search, func(l listedRuns) string {
			return rowSQL + `, ''::text, ` + db.presumedColumn() + `, ` + l.at
		}, true)
		if err != nil || !ok {
			return err
		}
		var policy store.Policy
		q.read = func(rows pgx.Rows) error {
			var r store.ListedRun
			if err := db.scanRow(rows, &r.Row, (*text)(&r.Snapshot), &r.Presumed, (*instant)(&r.At)); err != nil {
				return err
			}
			r.Counted = r.CountsUnder(policy)
			runs = append(runs, r)
			return nil
		}
		if err := s.snapshot(ctx, within(search.Within, s.policyFor(db, &policy), q)...); err != nil {
			return fmt.Errorf("list %s runs: %w", search.State, tooSlow(err, search.Within))
		}
		return nil
	})
	return runs, err
}

// CountRuns counts them, as far as the limit.
func (s *Store) CountRuns(ctx context.Context, search store.RunQuery) (n int, err error) {
	err = s.attempt(ctx, func(db features) error {
		n = 0
		q, ok, err := runsQuery(db, search, func(listedRuns) string { return "1" }, false)
		if err != nil || !ok {
			return err
		}
		q.text = `select count(*) from (` + q.text + `) as q`
		q.read = func(rows pgx.Rows) error { return rows.Scan(&n) }
		if err := s.snapshot(ctx, within(search.Within, q)...); err != nil {
			return fmt.Errorf("count %s runs: %w", search.State, tooSlow(err, search.Within))
		}
		return nil
	})
	return n, err
}

// logs reads one of our logs; a database without our migrations has none.
func logs[T any](ctx context.Context, s *Store, what string, scan func(rows pgx.Rows, one *T) error, q func(db features) query) ([]T, error) {
	return installed(ctx, s, func(db features, list *[]T) error {
		q := q(db)
		q.read = all(list, scan)
		if err := send(ctx, s.pool, q); err != nil {
			return fmt.Errorf("list the %s: %w", what, err)
		}
		return nil
	})
}

// Repairs returns at most limit of the repairs behind a cursor, latest first.
func (s *Store) Repairs(ctx context.Context, after store.Cursor, limit int) ([]store.ListedRepair, error) {
	scan := func(rows pgx.Rows, l *store.ListedRepair) error {
		return scanRepair(rows, &l.RepairLog, (*anyID)(&l.ID))
	}
	repairs, err := logs(ctx, s, "repairs", scan, func(db features) query {
		var w conditions
		if !after.At.IsZero() {
			w.add(`(last_at, run_id) < (` + w.arg(after.At) + `::timestamptz, ` + w.arg(db.cursorArg(watched.ID, after.ID)) + `::` + db.id + `)`)
		}
		return query{text: `
select run_id, ` + repairColumns + ` from run_counter.repairs
 where true` + w.and() + ` order by last_at desc, run_id desc, kind limit ` + w.arg(limit+store.RepairTies) + `::integer`, args: w.args}
	})
	return store.Page(repairs, limit), err
}

// Amendments returns at most limit of the amendments made before one, latest
// first.
func (s *Store) Amendments(ctx context.Context, before int64, limit int) ([]store.Amendment, error) {
	scan := func(rows pgx.Rows, d *store.Amendment) error {
		return scanAmendment(rows, &d.AmendmentLog, &d.Seq, (*anyID)(&d.ID))
	}
	return logs(ctx, s, "amendments", scan, func(features) query {
		return query{text: `
select seq, run_id, ` + amendmentColumns + ` from run_counter.amendments
 where seq < $1::bigint or $1::bigint = 0 order by seq desc limit $2::integer`, args: []any{before, limit}}
	})
}

// Recounts returns at most limit of the repairs of counts made before one,
// latest first.
func (s *Store) Recounts(ctx context.Context, before int64, limit int) ([]store.ListedRecount, error) {
	scan := func(rows pgx.Rows, r *store.ListedRecount) error {
		return scanRecount(rows, &r.RecountLog, (*keyID)(&r.Key.User), (*text)(&r.Key.Kind), (*keyID)(&r.Key.Ref), &r.Seq)
	}
	return logs(ctx, s, "recounts", scan, func(features) query {
		return query{text: `
select user_id, kind, ref_id, seq, ` + recountColumns + ` from run_counter.recounts
 where seq < $1::bigint or $1::bigint = 0 order by seq desc limit $2::integer`, args: []any{before, limit}}
	})
}
