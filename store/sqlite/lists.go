package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// CountsOf returns the exact counts of keys, in their order and of one
// snapshot, without LastRunAt.
func (s *Store) CountsOf(ctx context.Context, keys []store.Key) (counts []store.Count, err error) {
	for _, key := range keys {
		if err := key.Validate(); err != nil {
			return nil, err
		}
	}
	err = s.withPolicy(ctx, func(q querier, policy store.Policy) (err error) {
		rows, err := q.QueryContext(ctx, talliesSQL, keyTexts(keys))
		counts, err = scanCounts(rows, err, keys, policy)
		return err
	})
	return counts, err
}

// SearchCounts returns a page of the counts, in the order of their keys.
func (s *Store) SearchCounts(ctx context.Context, search store.CountQuery) (counts []store.Count, err error) {
	var w conditions
	w.add("(user_id, kind, ref_id) > (?, ?, ?)", keyArgs(search.After)...)
	if !search.User.IsZero() {
		w.add("user_id = ?", search.User.String())
	}
	if !search.Ref.IsZero() {
		w.add("ref_id = ?", search.Ref.String())
	}
	// One statement for all of the page: one for each key costs five times that.
	text := `
select k.user_id, k.kind, k.ref_id,
       (select max(r.completed_at) from workflow_runs as r
         where r.user_id = k.user_id and r.kind = k.kind and r.ref_id = k.ref_id and r.completed_at is not null),
       c.status, c.presumed, c.n
  from (` + countedKeys(w.String()) + `) as k
 cross join counts as c on c.user_id = k.user_id and c.kind = k.kind and c.ref_id = k.ref_id
 order by 1, 2, 3`
	err = s.withPolicy(ctx, func(q querier, policy store.Policy) error {
		return each(ctx, q, "list the counts", text, append(w.args, search.Limit), func(rows *sql.Rows) error {
			var e ended
			var last sql.NullInt64
			key, err := scanKey(rows, append([]any{&last}, e.targets()...)...)
			if len(counts) == 0 || counts[len(counts)-1].Key != key {
				counts = append(counts, store.Count{Key: key, LastRunAt: timeOf(last)})
			}
			c := &counts[len(counts)-1]
			e.AddTo(&c.Tallies)
			c.Count = policy.Count(c.Tallies)
			return err
		})
	})
	return counts, err
}

// countedKeys are the first keys in counts for which a condition holds.
func countedKeys(where string) string {
	return `select distinct user_id, kind, ref_id from counts` + where + ` order by 1, 2, 3 limit ?`
}

// undated is the time of creation, and where none was written one before all
// others: what a page shows is where the next goes on.
const undated = `coalesce(r.created_at, -62135510400000000)` // 0001-01-02

// runStates name the tables that hold the runs in a state, and the time that orders
// them.
var runStates = map[store.RunState]struct{ from, at string }{
	store.ActiveRuns:   {`workflow_runs as r where r.completed_at is null`, undated},
	store.EndedRuns:    {`workflow_runs as r where r.completed_at is not null`, `r.completed_at`},
	store.OddRuns:      {`workflow_runs as r where (` + oddSQL + `)`, undated},
	store.PresumedRuns: {`workflow_runs as r where r.completed_at is not null and r.evidence = 1`, `r.completed_at`},
	store.SupersededRuns: {`(select run_id, max(last_at) as last_at from repairs where kind in ('stuck', 'overwritten') group by run_id) as p
  join workflow_runs as r on r.id = p.run_id where r.completed_at is not null and r.evidence > 1`, `p.last_at`},
}

// runsIn lists the runs of a query: the select of their ids and times. Without an order it
// stops at the limit, whatever there is.
func runsIn(search store.RunQuery, ordered bool) (text string, args []any, err error) {
	if _, err := store.ParseRunState(string(search.State)); err != nil {
		return "", nil, err
	}
	from := runStates[search.State]
	text = `select r.id, ` + from.at + ` from ` + from.from
	and := func(condition string, values ...any) {
		text += ` and ` + condition
		args = append(args, values...)
	}
	if !search.User.IsZero() {
		and(`r.user_id = ?`, search.User.String())
	}
	if search.Status != "" {
		and(`r.status = ?`, string(search.Status))
	}
	if !search.In.From.IsZero() {
		and(from.at+` >= ?`, search.In.From.UnixMicro())
	}
	if !search.In.To.IsZero() {
		and(from.at+` < ?`, search.In.To.UnixMicro())
	}
	behind, order := `<`, ` desc`
	if search.Oldest {
		behind, order = `>`, ``
	}
	if !search.After.At.IsZero() {
		and(`(`+from.at+`, r.id) `+behind+` (?, ?)`, search.After.At.UnixMicro(), search.After.ID.String())
	}
	if ordered {
		text += ` order by 2` + order + `, 1` + order
	}
	return text + ` limit ?`, append(args, search.Limit), nil
}

// within bounds the time of a query, and says of one that took longer that it did.
func within(ctx context.Context, most time.Duration, ask func(ctx context.Context) error) error {
	if most <= 0 {
		return ask(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := ask(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", store.ErrTooSlow, err)
	}
	return err
}

// SearchRuns returns a page of the runs that are in a state.
func (s *Store) SearchRuns(ctx context.Context, search store.RunQuery) (runs []store.ListedRun, err error) {
	text, args, err := runsIn(search, true)
	if err != nil {
		return nil, err
	}
	err = within(ctx, search.Within, func(ctx context.Context) error {
		return s.withPolicy(ctx, func(q querier, policy store.Policy) error {
			var ids []string
			var at []time.Time
			err := each(ctx, q, fmt.Sprintf("list %s runs", search.State), text, args, func(rows *sql.Rows) error {
				var id string
				var micros sql.NullInt64
				err := rows.Scan(&id, &micros)
				ids, at = append(ids, id), append(at, timeOf(micros))
				return err
			})
			if err != nil {
				return err
			}
			loaded, err := loadRuns(ctx, q, ids, policy)
			for i, run := range loaded {
				runs = append(runs, store.ListedRun{Run: run, At: at[i]})
			}
			return err
		})
	})
	return runs, err
}

// CountRuns counts them, as far as the limit.
func (s *Store) CountRuns(ctx context.Context, search store.RunQuery) (n int, err error) {
	text, args, err := runsIn(search, false)
	if err != nil {
		return 0, err
	}
	err = within(ctx, search.Within, func(ctx context.Context) error {
		err := s.reader.QueryRowContext(ctx, `select count(*) from (`+text+`)`, args...).Scan(&n)
		return translate(err)
	})
	return n, err
}

// loadRuns returns runs in the order of their ids, without their snapshots.
func loadRuns(ctx context.Context, q querier, ids []string, policy store.Policy) ([]store.Run, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	runs := make([]store.Run, len(ids))
	return runs, each(ctx, q, fmt.Sprintf("load %d runs", len(ids)), loadSQL, []any{jsonList(ids...)}, func(rows *sql.Rows) error {
		i, e, err := scanEntry(rows)
		if err == nil {
			runs[i] = asRun(e.state, policy)
		}
		return err
	})
}

// Repairs returns at most limit of the repairs behind a cursor, latest first.
func (s *Store) Repairs(ctx context.Context, after store.Cursor, limit int) ([]store.ListedRepair, error) {
	var w conditions
	if !after.At.IsZero() {
		w.add("(last_at, run_id) < (?, ?)", after.At.UnixMicro(), after.ID.String())
	}
	repairs, err := list(ctx, s.reader, "list the repairs", `
select run_id, `+repairColumns+` from repairs`+w.String()+`
 order by last_at desc, run_id desc, kind limit ?`, append(w.args, limit+store.RepairTies),
		func(rows *sql.Rows, l *store.ListedRepair) error { return scanRepair(rows, &l.RepairLog, &l.ID) })
	return store.Page(repairs, limit), err
}

// Amendments returns at most limit of the amendments made before one, latest
// first.
func (s *Store) Amendments(ctx context.Context, before int64, limit int) ([]store.Amendment, error) {
	return list(ctx, s.reader, "list the amendments", `
select seq, run_id, `+amendmentColumns+` from amendments
 where seq < ? or ? = 0 order by seq desc limit ?`, []any{before, before, limit},
		func(rows *sql.Rows, d *store.Amendment) error {
			return scanAmendment(rows, &d.AmendmentLog, &d.Seq, &d.ID)
		})
}

// Recounts returns at most limit of the repairs of counts made before one,
// latest first.
func (s *Store) Recounts(ctx context.Context, before int64, limit int) ([]store.ListedRecount, error) {
	return list(ctx, s.reader, "list the recounts", `
select seq, user_id, kind, ref_id, `+recountColumns+` from recounts
 where seq < ? or ? = 0 order by seq desc limit ?`, []any{before, before, limit},
		func(rows *sql.Rows, r *store.ListedRecount) error {
			return scanRecount(rows, &r.RecountLog, &r.Seq, &r.Key.User, &r.Key.Kind, &r.Key.Ref)
		})
}

// conditions are those of a statement, all of which hold.
type conditions struct {
	texts []string
	args  []any
}

func (w *conditions) add(text string, args ...any) {
	w.texts = append(w.texts, text)
	w.args = append(w.args, args...)
}

func (w *conditions) String() string {
	if len(w.texts) == 0 {
		return ""
	}
	return " where " + strings.Join(w.texts, " and ")
}
