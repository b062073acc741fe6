package sqlite

import (
	"context"
	"database/sql"

	"github.com/edgaze-ai/runcounter/store"
)

// wrongTotalsSQL are the totals that are not the sum of the counts of their users,
// with all that belongs to their workflows.
const wrongTotalsSQL = `
with sides as (
    select kind, ref_id, status, presumed, sum(stored) as stored, sum(actual) as actual
      from (select kind, ref_id, status, presumed, n as stored, 0 as actual from totals
             union all
            select kind, ref_id, status, presumed, 0, n from counts)
     group by 1, 2, 3, 4
)
select kind, ref_id, status, presumed, stored, actual
  from sides
 where (kind, ref_id) in (select kind, ref_id from sides where stored <> actual)
 order by 1, 2`

const repairTotalsSQL = `
insert into totals (kind, ref_id, status, presumed, n)
select kind, ref_id, status, presumed, actual - stored from (` + wrongTotalsSQL + `) where stored <> actual
    on conflict (kind, ref_id, status, presumed) do update set n = n + excluded.n`

// AuditTotals implements [store.Maintainer].
func (s *Store) AuditTotals(ctx context.Context, repair bool) (wrong []store.Drift, err error) {
	look := func(q querier) error {
		wrong, err = readWrongTotals(ctx, q)
		return err
	}
	if err := s.read(ctx, look); err != nil || !repair || len(wrong) == 0 {
		return wrong, err
	}
	err = s.write(ctx, func(t *tx) error {
		if err := look(t.tx); err != nil { // a second process may have repaired them meanwhile
			return err
		}
		return t.execText("repair the totals", repairTotalsSQL)
	})
	return wrong, err
}

func readWrongTotals(ctx context.Context, q querier) (wrong []store.Drift, err error) {
	err = each(ctx, q, "audit the totals", wrongTotalsSQL, nil, func(rows *sql.Rows) error {
		var key store.Key
		var is, was ended
		if err := rows.Scan(&key.Kind, &key.Ref, &was.Status, &was.Presumed, &was.N, &is.N); err != nil {
			return err
		}
		if n := len(wrong); n == 0 || wrong[n-1].Key != key {
			wrong = append(wrong, store.Drift{Key: key})
		}
		last := &wrong[len(wrong)-1]
		is.Status, is.Presumed = was.Status, was.Presumed
		was.AddTo(&last.Stored)
		is.AddTo(&last.Actual)
		return nil
	})
	return wrong, err
}
