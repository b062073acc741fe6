package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// suspectsSQL finds rows behind the id $5 that are inconsistent, or silent for
// longer than their status's limit in microseconds ($2 to $4, 0 for never) at
// $1. The inner select stands by itself (offset 0), or the planner would walk
// the whole table in the order of its ids, in the hope of finding enough soon.
func (h features) suspectsSQL() string {
	sign := func(column string) string {
		return `case when ` + column + ` <= $1::timestamptz then ` + column + ` end`
	}
	return `
select id, user_id
  from (
    select r.id, r.user_id
      from ` + h.rows("open", "active", "terminal") + ` as r
     where r.open
       and (
            (r.terminal and r.completed_at is null and coalesce(r.updated_at, r.created_at) is not null)
            or (r.active and r.completed_at is not null and not ` + h.reports() + `)
            or (r.active and (r.completed_at is null or ` + h.reports() + `)
                and case r.status when 'pending' then $2::bigint when 'running' then $3::bigint else $4::bigint end > 0
                and coalesce(greatest(` + sign("r.started_at") + `, ` + sign("r.updated_at") + `, ` + sign("r.lease_at") + `), ` + sign("r.created_at") + `, ` + h.seenColumn() + `)
                    < $1::timestamptz - make_interval(secs =>
                        (case r.status when 'pending' then $2::bigint when 'running' then $3::bigint else $4::bigint end)::double precision / 1000000))
       )
    offset 0
  ) as r
 where $5::` + h.id + ` is null or id > $5::` + h.id + `
 order by id
 limit $6::integer`
}

// reports says whether the guard only reports. A run that has ended, and is active
// again, is a retry then, and no sweep restores it before it is silent.
func (h features) reports() string {
	if !h.installed {
		return `false`
	}
	return `(select s.guard = 'report' from run_counter.settings as s)`
}

// seenColumn selects the time at which those times of a run r that are still to
// come were first seen.
func (h features) seenColumn() string {
	if !h.installed {
		return `null::timestamptz`
	}
	return `(select a.seen_at from run_counter.ahead as a where a.run_id = r.id)`
}

// NoteAhead implements [store.Maintainer].
func (s *Store) NoteAhead(ctx context.Context, now time.Time) error {
	return s.attempt(ctx, func(db features) error {
		if !db.installed {
			return nil // there is no place to keep it
		}
		runs, at := db.rows("open", "active")+" as r", []any{store.Instant(now)}
		const ahead = `r.open and r.active and r.completed_at is null and least(r.lease_at, r.created_at, r.started_at, r.updated_at) > $1::timestamptz`
		return s.commit(ctx,
			query{text: `
delete from run_counter.ahead as a
 where not exists (select from ` + runs + ` where r.id = a.run_id and ` + ahead + `)`, args: at},
			query{text: `
insert into run_counter.ahead as a (run_id, times, seen_at)
-- epochs, since they don't depend on the session's time zone
select r.id, concat_ws(' ', r.status, extract(epoch from r.lease_at), extract(epoch from r.created_at), extract(epoch from r.started_at), extract(epoch from r.updated_at)),
       $1::timestamptz from ` + runs + ` where ` + ahead + `
    on conflict (run_id) do update
   set times = excluded.times, seen_at = excluded.seen_at
 where a.times <> excluded.times`, args: at})
	})
}

func suspectsArgs(db features, f store.FailStuck) []any {
	limit := func(status store.Status) int64 { return f.Limits[status].Microseconds() }
	return []any{f.Now, limit(store.Pending), limit(store.Running), limit(store.Cancelling), db.arg(watched.ID, f.After), f.Max}
}

// Suspects implements [store.Maintainer].
func (s *Store) Suspects(ctx context.Context, f store.FailStuck) (found []store.Suspect, err error) {
	f.Now = store.Instant(f.Now)
	err = s.attempt(ctx, func(db features) (err error) {
		found, err = suspects(ctx, s.pool, db, f)
		return err
	})
	return found, err
}

func suspects(ctx context.Context, to sender, db features, f store.FailStuck) (found []store.Suspect, err error) {
	err = send(ctx, to, query{text: db.suspectsSQL(), args: suspectsArgs(db, f), read: all(&found, func(rows pgx.Rows, one *store.Suspect) error {
		return rows.Scan((*anyID)(&one.ID), (*anyID)(&one.User))
	})})
	if err != nil {
		return nil, fmt.Errorf("look for stuck runs: %w", err)
	}
	return found, nil
}

// first returns the ids of the first suspects.
func first(ctx context.Context, to sender, db features, f store.FailStuck) (ids []store.ID, err error) {
	f.After = store.ID{}
	found, err := suspects(ctx, to, db, f)
	for _, one := range found {
		ids = append(ids, one.ID)
	}
	return ids, err
}

// wanted reads the rows that f names, and decides about each as it stands now.
// A lock makes it stand still.
func (s *Store) wanted(ctx context.Context, to sender, db features, f store.FailStuck, lock string) (repairs []repair, err error) {
	ids := make([]*string, len(f.Runs))
	for i, id := range f.Runs {
		ids[i] = db.arg(watched.ID, id)
	}
	err = send(ctx, to, query{text: `
select ` + rowSQL + `, ` + db.presumedColumn() + `, ` + db.reports() + `, ` + db.seenColumn() + `
  from ` + db.rows("open") + ` as r
 where r.id = any($1::` + db.id + `[]) and r.open
 order by r.id ` + lock, args: []any{ids}, read: func(rows pgx.Rows) error {
		var found found
		if err := db.scanRow(rows, &found.row, &found.presumed, &found.reports, (*instant)(&found.seen)); err != nil {
			return err
		}
		if r, needed := s.decide(found, f); needed {
			repairs = append(repairs, r)
		}
		return nil
	}})
	if err != nil {
		return nil, fmt.Errorf("read %d runs that may be stuck: %w", len(ids), err)
	}
	return repairs, nil
}

// stuck lists what FailStuck would repair.
func (s *Store) stuck(ctx context.Context, to sender, db features, f store.FailStuck) (stuck []store.Repaired, err error) {
	if f.Runs == nil {
		if f.Runs, err = first(ctx, to, db, f); err != nil || f.Runs == nil {
			return nil, err
		}
	}
	repairs, err := s.wanted(ctx, to, db, f, "")
	for _, r := range repairs {
		stuck = append(stuck, r.rounded(db).said(db).report())
	}
	return stuck, err
}

// decide applies the rules to a row.
func (s *Store) decide(found found, f store.FailStuck) (repair, bool) {
	after, reason := s.hooks.repair(found.row)
	if reason == store.Overwritten && found.reports {
		retried := found.row
		retried.CompletedAt = time.Time{}
		if _, silent := s.hooks.presume(retried.Seen(found.seen, f.Now), f.Limits, f.Now); !silent {
			return repair{}, false
		}
	}
	if reason == store.NoTime || reason == store.Overwritten {
		return repair{reason: reason, found: found, after: after, presumed: reason == store.Overwritten}, true
	}
	if after, stuck := s.hooks.presume(found.row.Seen(found.seen, f.Now), f.Limits, f.Now); stuck {
		after.LeaseAt = found.row.LeaseAt
		return repair{reason: store.Stuck, found: found, after: after, presumed: true}, true
	}
	return repair{}, false
}
