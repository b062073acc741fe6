package postgres

import (
	"context"
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
)

// addTotalsSQL adds the n of rows to the totals of their workflows, by kind, ref_id,
// status and presumed. It comes after all keys that a transaction locks, in one
// statement and in order, so that two of them never wait for each other; and each
// backend has a shard, so that next to none waits at all.
func addTotalsSQL(rows string) string {
	return `
    insert into run_counter.totals as t (kind, ref_id, status, presumed, shard, n)
    select kind, ref_id, status, presumed, pg_backend_pid() % 8, sum(n)
      from ` + rows + ` group by 1, 2, 3, 4 having sum(n) <> 0 order by 1, 2, 3, 4
        on conflict (kind, ref_id, status, presumed, shard) do update set n = t.n + excluded.n`
}

// wrongTotalsSQL are the totals that are not the sum of the counts of their users,
// in one snapshot, with all that belongs to their workflows. The ledger is in
// neither: a fold moves both sides at once, and so does a recount. So the difference
// is the same in every snapshot, whichever process folds meanwhile.
const wrongTotalsSQL = `
select null::text, kind, ref_id, status, presumed, stored, actual from (
    select kind, ref_id, status, presumed, sum(stored)::bigint as stored, sum(actual)::bigint as actual,
           bool_or(sum(stored) <> sum(actual)) over (partition by kind, ref_id) as wrong
      from (select kind, ref_id, status, presumed, n as stored, 0 as actual from run_counter.totals
             union all
            select kind, ref_id, status, presumed, 0, n from run_counter.counts) as k
     group by 1, 2, 3, 4) as k
 where wrong`

// The lock of a repairer, which no fold waits for: with two of them both would add the
// same difference. What it sees after that is newer than what the one before it did.
const lockTotalsSQL = `lock table run_counter.totals in share update exclusive mode`

var repairTotalsSQL = `
with wrong as materialized (` + wrongTotalsSQL + `
), repaired as (` + addTotalsSQL(`(select kind, ref_id, status, presumed, actual - stored as n from wrong) as w`) + `
)
select * from wrong order by kind, ref_id`

// pruneTotalsSQL drops what adds up to 0. That leaves the total as it is, whatever
// other rows come to it meanwhile; what a fold holds is left to the next audit.
const pruneTotalsSQL = `
with free as (
    select t.* from run_counter.totals as t
      join (select kind, ref_id, status, presumed from run_counter.totals group by 1, 2, 3, 4 having sum(n) = 0) as z using (kind, ref_id, status, presumed)
       for update of t skip locked
)
delete from run_counter.totals as t
 using free as f
 where (t.kind, t.ref_id, t.status, t.presumed, t.shard) = (f.kind, f.ref_id, f.status, f.presumed, f.shard)
   and (f.kind, f.ref_id, f.status, f.presumed) in (select kind, ref_id, status, presumed from free group by 1, 2, 3, 4 having sum(n) = 0)`

// AuditTotals implements [store.Maintainer].
func (s *Store) AuditTotals(ctx context.Context, repair bool) ([]store.Drift, error) {
	return installed(ctx, s, func(_ features, wrong *[]store.Drift) error {
		if err := send(ctx, s.pool, query{text: wrongTotalsSQL + ` order by kind, ref_id`, read: addDrifts(wrong)}); err != nil {
			return fmt.Errorf("audit the totals: %w", err)
		}
		if !repair {
			return nil
		}
		var queries []query
		if len(*wrong) > 0 {
			*wrong = nil // a second process may have repaired them meanwhile
			// Counts that a policy hides must not be taken for none.
			queries = []query{{text: `set local row_security = off`}, {text: lockTotalsSQL}, {text: repairTotalsSQL, read: addDrifts(wrong)}}
		}
		if err := s.commit(ctx, append(queries, query{text: pruneTotalsSQL})...); err != nil {
			return fmt.Errorf("repair the totals: %w", err)
		}
		return nil
	})
}
