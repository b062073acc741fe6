package sqlite

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// Days implements [store.Statistics]. It reads an index alone, which has all runs that
// have ended.
func (s *Store) Days(ctx context.Context, from, to time.Time) (days []store.Day, err error) {
	const day = int64(24 * time.Hour / time.Microsecond)
	err = each(ctx, s.reader, "count the runs of each day", `
select completed_at - completed_at % ?3 as day, status, evidence = 1, count(*)
  from workflow_runs indexed by workflow_runs_ended
 where completed_at is not null and completed_at >= ?1 and completed_at < ?2 and kind is not null
 group by 1, 2, 3
 order by 1`, []any{store.Instant(from).UnixMicro(), store.Instant(to).UnixMicro(), day}, func(rows *sql.Rows) error {
		var at sql.NullInt64
		var e ended
		err := rows.Scan(append([]any{&at}, e.targets()...)...)
		if n := len(days); n == 0 || !days[n-1].At.Equal(timeOf(at)) {
			days = append(days, store.Day{At: timeOf(at)})
		}
		e.AddTo(&days[len(days)-1].Tallies)
		return err
	})
	return days, err
}

// Greatest implements [store.Statistics].
func (s *Store) Greatest(ctx context.Context, of store.Top, limit int) (counts []store.Count, err error) {
	key, table := `user_id, '' as kind, null as ref_id`, `counts`
	if of == store.TopWorkflows {
		key, table = `null as user_id, kind, ref_id`, `totals`
	}
	err = s.withPolicy(ctx, func(q querier, policy store.Policy) error {
		counts = nil
		return each(ctx, q, "find the greatest counts", `
with greatest as (
    select `+key+`, sum(n * (`+countedSQL(policy)+`)) as counted from `+table+` group by 1, 2, 3 having counted > 0 order by counted desc, 1, 2, 3 limit ?
)
select g.user_id, g.kind, g.ref_id, k.status, k.presumed, sum(k.n)
  from greatest as g
  join (select `+key+`, status, presumed, n from `+table+`) as k on k.user_id is g.user_id and k.kind = g.kind and k.ref_id is g.ref_id
 group by 1, 2, 3, 4, 5
 order by g.counted desc, 1, 2, 3`, []any{limit}, func(rows *sql.Rows) error {
			var c store.Count
			var e ended
			err := rows.Scan(append([]any{&c.Key.User, &c.Key.Kind, &c.Key.Ref}, e.targets()...)...)
			if n := len(counts); n == 0 || counts[n-1].Key != c.Key {
				counts = append(counts, c)
			}
			last := &counts[len(counts)-1]
			e.AddTo(&last.Tallies)
			last.Count = policy.Count(last.Tallies)
			return err
		})
	})
	return counts, err
}

// countedSQL is the condition on a row of counts that its runs count under a policy. The
// words are ours.
func countedSQL(p store.Policy) string {
	var words []string
	for _, status := range store.Terminals {
		if p.Counts(status, false) {
			words = append(words, "'"+string(status)+"'")
		}
	}
	condition := "status in (" + strings.Join(words, ", ") + ")"
	if p.ExceptPresumed {
		condition += " and presumed = 0"
	}
	return condition
}
