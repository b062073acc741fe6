package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// suspectsSQL finds rows behind the id $5 that are inconsistent, or silent for
// longer than their status's limit in microseconds ($2 to $4, 0 for never) at
// $1. The inner select stands by itself (offset 0), or the planner would walk
// the whole table in the order of its ids, in the hope of finding enough soon.
func (h schema) suspectsSQL() string {
	sign := func(column string) string {
		return `case when ` + column + ` <= $1::timestamptz then ` + column + ` end`
	}
	created, updated := h.column(watched.CreatedAt, "timestamptz"), h.column(watched.UpdatedAt, "timestamptz")
	lease := ""
	if h.lease != "" {
		lease = ", " + sign(h.leaseColumn())
	}
	return `
select id, user_id
  from (
    select r.id, r.user_id
      from public.workflow_runs as r
     where ` + openSQL + `
       and (
            (r.status in ('completed', 'failed', 'cancelled', 'timeout') and r.completed_at is null and coalesce(` + updated + `, ` + created + `) is not null)
            or (` + activeSQL + ` and r.completed_at is not null)
            or (` + activeSQL + ` and r.completed_at is null
                and case r.status when 'pending' then $2::bigint when 'running' then $3::bigint else $4::bigint end > 0
                and coalesce(greatest(` + sign(h.column(watched.StartedAt, "timestamptz")) + `, ` + sign(updated) + lease + `), ` + sign(created) + `, ` + h.seenColumn() + `)
                    < $1::timestamptz - make_interval(secs =>
                        (case r.status when 'pending' then $2::bigint when 'running' then $3::bigint else $4::bigint end)::double precision / 1000000))
       )
    offset 0
  ) as r
 where $5::uuid is null or id > $5::uuid
 order by id
 limit $6::integer`
}

// seenColumn is when the times of a run r that are still to come were first seen.
func (h schema) seenColumn() string {
	if !h.installed {
		return `null::timestamptz`
	}
	return `(select a.seen_at from run_counter.ahead as a where a.run_id = r.id)`
}

// NoteAhead implements [store.Store].
func (s *Store) NoteAhead(ctx context.Context, now time.Time) error {
	return s.attempt(ctx, func(have schema) error {
		if !have.installed {
			return nil // there is no place to keep it
		}
		times := []string{have.leaseColumn()}
		for _, role := range []watched.Role{watched.CreatedAt, watched.StartedAt, watched.UpdatedAt} {
			times = append(times, have.column(role, "timestamptz"))
		}
		var epochs []string // as text they don't depend on the session's time zone
		for _, column := range times {
			epochs = append(epochs, "extract(epoch from "+column+")")
		}
		at := []any{store.Instant(now)}
		ahead := openSQL + ` and ` + activeSQL + ` and r.completed_at is null and least(` + strings.Join(times, ", ") + `) > $1::timestamptz`
		return s.commit(ctx,
			query{text: `
delete from run_counter.ahead as a
 where not exists (select from public.workflow_runs as r where r.id = a.run_id and ` + ahead + `)`, args: at},
			query{text: `
insert into run_counter.ahead as a (run_id, times, seen_at)
select r.id, concat_ws(' ', r.status, ` + strings.Join(epochs, ", ") + `), $1::timestamptz from public.workflow_runs as r where ` + ahead + `
    on conflict (run_id) do update
   set times = excluded.times, seen_at = excluded.seen_at
 where a.times <> excluded.times`, args: at})
	})
}

func suspectsArgs(f store.FailStuck) []any {
	limit := func(status store.Status) int64 { return f.Limits[status].Microseconds() }
	return []any{f.Now, limit(store.Pending), limit(store.Running), limit(store.Cancelling), idArg(f.After), f.Max}
}

// Suspects implements [store.Store].
func (s *Store) Suspects(ctx context.Context, f store.FailStuck) (found []store.Suspect, err error) {
	f.Now = store.Instant(f.Now)
	err = s.attempt(ctx, func(have schema) (err error) {
		found, err = suspects(ctx, s.pool, have, f)
		return err
	})
	return found, err
}

func suspects(ctx context.Context, to sender, have schema, f store.FailStuck) (found []store.Suspect, err error) {
	err = send(ctx, to, query{text: have.suspectsSQL(), args: suspectsArgs(f), read: func(rows pgx.Rows) error {
		var one store.Suspect
		err := rows.Scan((*uuid)(&one.ID), (*uuid)(&one.User))
		found = append(found, one)
		return err
	}})
	if err != nil {
		return nil, fmt.Errorf("look for stuck runs: %w", err)
	}
	return found, nil
}

// first returns the ids of the first suspects.
func first(ctx context.Context, to sender, have schema, f store.FailStuck) (ids []store.ID, err error) {
	f.After = store.ID{}
	found, err := suspects(ctx, to, have, f)
	for _, one := range found {
		ids = append(ids, one.ID)
	}
	return ids, err
}

// wanted reads the rows that f names, and decides about each as it stands now.
// A lock makes it stand still.
func (s *Store) wanted(ctx context.Context, to sender, have schema, f store.FailStuck, lock string) (repairs []repair, err error) {
	ids := make([]*string, len(f.Runs))
	for i, id := range f.Runs {
		ids[i] = idArg(id)
	}
	err = send(ctx, to, query{text: `
select ` + have.rowColumns() + `, ` + have.presumedColumn() + `, ` + have.seenColumn() + `
  from public.workflow_runs as r
 where r.id = any($1::uuid[]) and ` + openSQL + `
 order by r.id ` + lock, args: []any{ids}, read: func(rows pgx.Rows) error {
		var found found
		if err := scanRow(rows, &found.row, &found.presumed, (*instant)(&found.seen)); err != nil {
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
func (s *Store) stuck(ctx context.Context, to sender, have schema, f store.FailStuck) (stuck []store.Repaired, err error) {
	if f.Runs == nil {
		if f.Runs, err = first(ctx, to, have, f); err != nil || f.Runs == nil {
			return nil, err
		}
	}
	repairs, err := s.wanted(ctx, to, have, f, "")
	for _, r := range repairs {
		stuck = append(stuck, r.report())
	}
	return stuck, err
}

// decide applies the rules to a row.
func (s *Store) decide(found found, f store.FailStuck) (repair, bool) {
	if after, reason := s.rules.repair(found.row); reason == store.NoTime || reason == store.Overwritten {
		return repair{reason: reason, found: found, after: after, presumed: reason == store.Overwritten}, true
	}
	if after, stuck := s.rules.presume(found.row.Seen(found.seen, f.Now), f.Limits, f.Now); stuck {
		after.LeaseAt = found.row.LeaseAt
		return repair{reason: store.Stuck, found: found, after: after, presumed: true}, true
	}
	return repair{}, false
}
