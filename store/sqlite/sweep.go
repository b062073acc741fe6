package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// suspectsSQL finds the runs that are probably stuck, by the limits of their
// statuses. It reads outside the write lock, and may be out of date by the time
// of the decision: [store.Presume] decides, on the row read again under the lock.
const suspectsSQL = `
select id, user_id
  from workflow_runs as r
 where completed_at is null
   and status in ('pending', 'running', 'cancelling')
   and case status when 'pending' then ?3 when 'running' then ?4 else ?5 end > 0
   and case
           when max(iif(started_at <= ?1, started_at, ?2), iif(updated_at <= ?1, updated_at, ?2), iif(lease_at <= ?1, lease_at, ?2)) > ?2
           then max(iif(started_at <= ?1, started_at, ?2), iif(updated_at <= ?1, updated_at, ?2), iif(lease_at <= ?1, lease_at, ?2))
           when created_at <= ?1 then created_at
           else (select seen_at from ahead where run_id = r.id)
       end + case status when 'pending' then ?3 when 'running' then ?4 else ?5 end < ?1
   and +id > ?6 -- the plus keeps it from walking the whole table by it
 order by +id
 limit ?7`

// Suspects implements [store.Maintainer]. A mirror's rows are consistent by
// construction, so there are stuck runs to look for and nothing to repair.
func (s *Store) Suspects(ctx context.Context, f store.FailStuck) ([]store.Suspect, error) {
	limit := func(status store.Status) int64 { return f.Limits[status].Microseconds() }
	args := []any{
		store.Instant(f.Now).UnixMicro(), int64(math.MinInt64),
		limit(store.Pending), limit(store.Running), limit(store.Cancelling), f.After.String(), f.Max,
	}
	return list(ctx, s.reader, "look for stuck runs", suspectsSQL, args,
		func(rows *sql.Rows, one *store.Suspect) error { return rows.Scan(&one.ID, &one.User) })
}

// aheadSQL holds for active runs all of whose times are still to come.
const aheadSQL = `
       completed_at is null and status in ('pending', 'running', 'cancelling')
   and coalesce(created_at, started_at, updated_at, lease_at) is not null
   and coalesce(created_at > ?1, true) and coalesce(started_at > ?1, true) and coalesce(updated_at > ?1, true) and coalesce(lease_at > ?1, true)`

// forgetSQL drops what was noted of other runs, and noteSQL notes those. A
// register's place stands among the times: a call of ours moves it, whatever
// clock wrote the run before.
const (
	forgetSQL = `delete from ahead where run_id not in (select id from workflow_runs where` + aheadSQL + `)`
	noteSQL   = `
insert into ahead (run_id, times, seen_at)
select id, json_array(status, created_at, started_at, updated_at, lease_at, as_of), ?1 from workflow_runs where` + aheadSQL + `
    on conflict (run_id) do update
   set times = excluded.times, seen_at = excluded.seen_at
 where times <> excluded.times`
)

// NoteAhead implements [store.Maintainer].
func (s *Store) NoteAhead(ctx context.Context, now time.Time) error {
	at := store.Instant(now).UnixMicro()
	var needed bool
	err := s.reader.QueryRowContext(ctx, `select exists (select 1 from ahead) or exists (select 1 from workflow_runs where`+aheadSQL+`)`, at).Scan(&needed)
	if err != nil || !needed {
		return translate(err)
	}
	return s.write(ctx, func(t *tx) error {
		if err := t.execText("forget whose clock was ahead", forgetSQL, at); err != nil {
			return err
		}
		return t.execText("note whose clock is ahead", noteSQL, at)
	})
}

// seenAt returns when a run was noted, or the zero time.
func seenAt(ctx context.Context, q querier, id store.ID) (time.Time, error) {
	var at sql.NullInt64
	err := q.QueryRowContext(ctx, `select seen_at from ahead where run_id = ?`, id.String()).Scan(&at)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, fmt.Errorf("look up when run %s was first seen: %w", id, err)
	}
	return timeOf(at), nil
}

// FailStuck implements [store.Maintainer]. No row of a mirror is refused: nothing
// stands between the program and the file.
func (s *Store) FailStuck(ctx context.Context, f store.FailStuck) ([]store.Repaired, error) {
	f.Now = store.Instant(f.Now)
	found, err := s.stuck(ctx, f)
	if err != nil || len(found) == 0 || f.DryRun {
		return found, err
	}
	return s.fail(ctx, f, found)
}

// fail gives the runs that were found an outcome, unless they have shown a
// sign of life or ended since.
func (s *Store) fail(ctx context.Context, f store.FailStuck, found []store.Repaired) ([]store.Repaired, error) {
	var done []store.Repaired
	err := s.write(ctx, func(t *tx) error {
		for _, r := range found {
			state, exists, err := t.load(r.Before.ID)
			if err != nil {
				return err
			}
			before := state.Row()
			var seen time.Time
			if store.LastSign(before, f.Now).IsZero() {
				if seen, err = seenAt(t.ctx, t.tx, before.ID); err != nil {
					return err
				}
			}
			after, stuck := t.rules.presume(before.Seen(seen, f.Now), f.Limits, f.Now)
			if !exists || !stuck {
				continue // it ended, or showed a sign of life
			}
			ended := t.rules.join(state, store.State{
				ID: state.ID, Last: state.Last,
				Outcome: store.Claim{Evidence: store.Presumed, Outcome: after.Outcome()},
			})
			if t.rules.equal(ended, state) {
				continue // it was re-opened at a moment that is still to come
			}
			was := state
			state = ended
			if err := errors.Join(t.save(was, state, true), t.logRepair(before, after, f)); err != nil {
				return err
			}
			done = append(done, store.Repaired{Reason: store.Stuck, Before: before, After: state.Row()})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// stuck lists which of the runs that f names are stuck, or else of the first
// suspects.
func (s *Store) stuck(ctx context.Context, f store.FailStuck) (found []store.Repaired, err error) {
	if f.Runs == nil {
		f.After = store.ID{}
		suspects, err := s.Suspects(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, one := range suspects {
			f.Runs = append(f.Runs, one.ID)
		}
	}
	if len(f.Runs) == 0 {
		return nil, nil
	}
	ids := make([]string, len(f.Runs))
	for i, id := range f.Runs {
		ids[i] = id.String()
	}
	err = each(ctx, s.reader, "look for stuck runs", `
select (select seen_at from ahead where run_id = r.id),`+runColumns+` from workflow_runs as r where id in (select value from json_each(?)) order by id`, []any{jsonList(ids...)}, func(rows *sql.Rows) error {
		var seen sql.NullInt64
		state, err := scanState(rows, &seen)
		if err != nil {
			return err
		}
		before := state.Row()
		if after, stuck := store.Presume(before.Seen(timeOf(seen), f.Now), f.Limits, f.Now); stuck {
			after.LeaseAt = before.LeaseAt
			found = append(found, store.Repaired{Reason: store.Stuck, Before: before, After: after})
		}
		return nil
	})
	return found, err
}

func (t *tx) logRepair(before, after store.Row, f store.FailStuck) error {
	return t.execText(fmt.Sprintf("log the repair of run %s", before.ID), `
insert into repairs (run_id, kind, first_at, last_at, was, status, completed_at)
values (?1, ?2, ?3, ?3, ?4, ?5, ?6)
    on conflict (run_id, kind) do update
   set times = times + 1, last_at = excluded.last_at, was = excluded.was,
       status = excluded.status, completed_at = excluded.completed_at`,
		before.ID.String(), string(store.Stuck), f.Now.UnixMicro(), string(before.Status), string(after.Status), after.CompletedAt.UnixMicro())
}
