package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

// RecordActivity implements [store.ActivityLog]. Without the migrations there is no
// place to keep it.
func (s *Store) RecordActivity(ctx context.Context, minutes ...store.Activity) error {
	minutes = slices.DeleteFunc(slices.Clone(minutes), store.Activity.Quiet)
	if len(minutes) == 0 {
		return nil
	}
	// Instances that write the same minutes lock them in one order.
	slices.SortFunc(minutes, func(a, b store.Activity) int { return a.At.Compare(b.At) })
	return s.attempt(ctx, func(db features) error {
		if !db.installed {
			return errNeedsMigrations
		}
		queries := make([]query, 0, len(minutes))
		for _, a := range minutes {
			queries = append(queries, query{text: `
insert into run_counter.activity as a (minute, since, deliveries, refused, failed, changes, duplicates, out_of_order, lost, lag)
values ($1::timestamptz, least($1::timestamptz, $2::timestamptz), $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $9::bigint, $10::bigint)
    on conflict (minute) do update
   set since = least(a.since, excluded.since), deliveries = a.deliveries + excluded.deliveries, refused = a.refused + excluded.refused,
       failed = a.failed + excluded.failed, changes = a.changes + excluded.changes, duplicates = a.duplicates + excluded.duplicates,
       out_of_order = a.out_of_order + excluded.out_of_order, lost = greatest(a.lost, excluded.lost), lag = greatest(a.lag, excluded.lag)`,
				args: []any{a.At.Truncate(store.ActivityStep), timeArg(a.Since), a.Deliveries, a.Refused, a.Failed, a.Changes, a.Duplicates, a.OutOfOrder, a.Lost, a.Lag.Microseconds()}})
		}
		return s.commit(ctx, queries...)
	})
}

// Activity implements [store.ActivityLog].
func (s *Store) Activity(ctx context.Context, from, to time.Time, step time.Duration) ([]store.Activity, error) {
	if err := store.ValidateActivityStep(step); err != nil {
		return nil, err
	}
	return installed(ctx, s, func(_ features, steps *[]store.Activity) error {
		return send(ctx, s.pool, query{
			text: `
select to_timestamp(floor(extract(epoch from minute) / $3::bigint) * $3::bigint) as at, min(since), sum(deliveries)::bigint, sum(refused)::bigint, sum(failed)::bigint,
       sum(changes)::bigint, sum(duplicates)::bigint, sum(out_of_order)::bigint, sum(lost)::bigint, max(lag)
  from run_counter.activity
 where minute >= $1::timestamptz and minute < $2::timestamptz
 group by at
 order by at`,
			args: []any{from, to, int64(step / time.Second)},
			read: all(steps, func(rows pgx.Rows, a *store.Activity) error {
				var lag int64
				err := rows.Scan((*instant)(&a.At), (*instant)(&a.Since), &a.Deliveries, &a.Refused, &a.Failed, &a.Changes, &a.Duplicates, &a.OutOfOrder, &a.Lost, &lag)
				a.Lag = time.Duration(lag) * time.Microsecond
				return err
			}),
		})
	})
}
