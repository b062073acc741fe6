package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Days implements [store.Statistics]. An index of completed_at finds the runs; where the
// application has none, all are read.
func (s *Store) Days(ctx context.Context, from, to time.Time) (days []store.Day, err error) {
	err = s.attempt(ctx, func(db features) error {
		days = nil
		const day = `date_trunc('day', r.completed_at at time zone 'UTC') at time zone 'UTC' as day, `
		runs, where := db.keyed()+` as r`, ` where r.ended and r.ref_id is not null and `+db.table.Within("r", "$1::timestamptz", "$2::timestamptz")
		text := `select ` + day + statusSQL + `, false as presumed, count(*) as n from ` + runs + where + ` group by 1, 2`
		if db.installed {
			text += ` union all select ` + day + statusSQL + `, m.presumed, m.n from ` + runs + marksSQL + where
		}
		return send(ctx, s.pool, query{
			text: `select a.day, a.status, a.presumed, sum(a.n)::bigint from (` + text + `) as a group by 1, 2, 3 having sum(a.n) <> 0 order by 1`,
			args: windowArgs(store.Window{From: from, To: to}),
			read: func(rows pgx.Rows) error {
				var at time.Time
				var e ended
				err := rows.Scan(append([]any{(*instant)(&at)}, e.targets()...)...)
				if n := len(days); n == 0 || !days[n-1].At.Equal(at) {
					days = append(days, store.Day{At: at})
				}
				e.AddTo(&days[len(days)-1].Tallies)
				return err
			},
		})
	})
	return days, err
}

// Greatest implements [store.Statistics].
func (s *Store) Greatest(ctx context.Context, of store.Top, limit int) ([]store.Count, error) {
	return installed(ctx, s, func(db features, counts *[]store.Count) error {
		var policy store.Policy
		key, rows := `user_id, null::text as kind, null::`+db.ref+` as ref_id`, watched.Stored()
		if of == store.TopWorkflows {
			key, rows = `null::`+db.user+` as user_id, kind, ref_id`, `(select kind, ref_id, status, presumed, n from run_counter.totals union all select kind, ref_id, status, presumed, n from run_counter.ledger)`
		}
		err := s.snapshot(ctx, s.policyFor(db, &policy), query{
			text: `
with stored as materialized (
    select ` + key + `, status, presumed, sum(n)::bigint as n from ` + rows + ` as k group by 1, 2, 3, 4, 5
), greatest as (
    select user_id, kind, ref_id, sum(n) as counted
      from stored cross join (select policy from run_counter.settings) as p
     where (status in ('completed', 'failed') or p.policy like 'terminal%') and (not presumed or p.policy not like '%-except-presumed')
     group by 1, 2, 3 having sum(n) > 0 order by 4 desc, 1, 2, 3 limit $1::integer
)
select g.user_id, g.kind, g.ref_id, k.status, k.presumed, k.n
  from greatest as g
  join stored as k on k.user_id is not distinct from g.user_id and k.kind is not distinct from g.kind and k.ref_id is not distinct from g.ref_id
 order by g.counted desc, 1, 2, 3`,
			args: []any{limit},
			read: func(rows pgx.Rows) error {
				var c store.Count
				var e ended
				err := rows.Scan(append([]any{(*keyID)(&c.Key.User), (*text)(&c.Key.Kind), (*keyID)(&c.Key.Ref)}, e.targets()...)...)
				if n := len(*counts); n == 0 || (*counts)[n-1].Key != c.Key {
					*counts = append(*counts, c)
				}
				last := &(*counts)[len(*counts)-1]
				e.AddTo(&last.Tallies)
				last.Count = policy.Count(last.Tallies)
				return err
			},
		})
		if err != nil {
			return fmt.Errorf("find the greatest counts: %w", err)
		}
		return nil
	})
}
