package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// RecordActivity implements [store.ActivityLog].
func (s *Store) RecordActivity(ctx context.Context, minutes ...store.Activity) error {
	minutes = slices.DeleteFunc(slices.Clone(minutes), store.Activity.Quiet)
	if len(minutes) == 0 {
		return nil
	}
	return s.write(ctx, func(t *tx) error {
		for _, a := range minutes {
			minute := a.At.Truncate(store.ActivityStep)
			err := t.execText("record activity", `
insert into activity as a (minute, since, deliveries, refused, failed, changes, duplicates, out_of_order, lost, lag)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (minute) do update
   set since = min(a.since, excluded.since), deliveries = a.deliveries + excluded.deliveries, refused = a.refused + excluded.refused,
       failed = a.failed + excluded.failed, changes = a.changes + excluded.changes, duplicates = a.duplicates + excluded.duplicates,
       out_of_order = a.out_of_order + excluded.out_of_order, lost = max(a.lost, excluded.lost), lag = max(a.lag, excluded.lag)`,
				minute.UnixMicro(), store.Instant(earlier(a.Since, minute)).UnixMicro(), a.Deliveries, a.Refused, a.Failed, a.Changes, a.Duplicates, a.OutOfOrder, a.Lost, a.Lag.Microseconds())
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// earlier returns the time from which on was watched: the minute, where nothing earlier is
// known.
func earlier(since, minute time.Time) time.Time {
	if since.IsZero() || since.After(minute) {
		return minute
	}
	return since
}

// Activity implements [store.ActivityLog].
func (s *Store) Activity(ctx context.Context, from, to time.Time, step time.Duration) ([]store.Activity, error) {
	if err := store.ValidateActivityStep(step); err != nil {
		return nil, err
	}
	return list(ctx, s.reader, "read the activity", `
select minute - minute % ?3 as at, min(since), sum(deliveries), sum(refused), sum(failed), sum(changes), sum(duplicates), sum(out_of_order), sum(lost), max(lag)
  from activity
 where minute >= ?1 and minute < ?2
 group by at
 order by at`, []any{from.UnixMicro(), to.UnixMicro(), step.Microseconds()}, func(rows *sql.Rows, a *store.Activity) error {
		var at, since sql.NullInt64
		var lag int64
		err := rows.Scan(&at, &since, &a.Deliveries, &a.Refused, &a.Failed, &a.Changes, &a.Duplicates, &a.OutOfOrder, &a.Lost, &lag)
		a.At, a.Since, a.Lag = timeOf(at), timeOf(since), time.Duration(lag)*time.Microsecond
		return err
	})
}
