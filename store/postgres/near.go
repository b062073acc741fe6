package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

// NearLimits implements [store.Reader]. The marks are cut before they are looked at, or
// a store full of marks that are near no more would be read to the end. A window that no
// index finds any more is left out.
func (s *Store) NearLimits(ctx context.Context, now time.Time, limit int) ([]store.NearLimit, error) {
	return installed(ctx, s, func(db features, out *[]store.NearLimit) error {
		return send(ctx, s.pool, query{
			text: `
select m.user_id, m.kind, case when m.kind <> '' then m.ref_id end, m.max_runs, m.counts_from, m.marked_at,
       coalesce(u.granted, u.user_granted), coalesce(u.counted, u.user_counted), coalesce(u.active, u.user_active)
  from (select l.*, l.kind = '' as of_user from run_counter.limit_marks as l
         order by l.marked_at desc, l.user_id, l.kind, l.ref_id limit $2::bigint) as m
 cross join run_counter.usage_of(m.user_id, m.kind, m.ref_id,
                                 case when not m.of_user then m.max_runs end, m.counts_from,
                                 case when m.of_user then m.max_runs end, m.counts_from, $1::timestamptz, false) as u
 where $3::boolean or not m.of_user or m.counts_from is null
 order by m.marked_at desc, m.user_id, m.kind, m.ref_id`,
			args: []any{store.Instant(now), int64(limit) * store.NearLook, db.table.UserWindows()},
			read: func(rows pgx.Rows) error {
				var n store.NearLimit
				u := &n.Usage
				err := rows.Scan((*keyID)(&n.Of.User), (*text)(&n.Of.Kind), (*keyID)(&n.Of.Ref), &u.Limit.Max, (*instant)(&u.Limit.From), (*instant)(&n.Since),
					&u.Granted, &u.Counted, &u.Active)
				if u.Limit.Scope = store.KeyLimit; n.Of.Kind == "" {
					u.Limit.Scope = store.UserLimit
				}
				if err == nil && u.Near() && len(*out) < limit {
					*out = append(*out, n)
				}
				return err
			},
		})
	})
}
