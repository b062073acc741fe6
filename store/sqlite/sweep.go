package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/edgaze-ai/runcounter/store"
)

// stuckSQL finds the runs of one status that are probably stuck. It reads
// outside the write lock, and may be out of date by the time of the decision:
// [store.Presume] decides, on the row read again under the lock.
const stuckSQL = `
select` + runColumns + `
  from workflow_runs as r
 where completed_at is null
   and status = ?1
   and case
           when max(iif(started_at <= ?2, started_at, ?4), iif(updated_at <= ?2, updated_at, ?4), iif(lease_at <= ?2, lease_at, ?4)) > ?4
           then max(iif(started_at <= ?2, started_at, ?4), iif(updated_at <= ?2, updated_at, ?4), iif(lease_at <= ?2, lease_at, ?4))
           when created_at <= ?2 then created_at
       end + ?3 < ?2
 order by +r.id -- the plus keeps it from walking the whole table in that order
 limit ?5`

// FailStuck implements [store.Store]. A mirror's rows are consistent by
// construction, so there are stuck runs to look for and nothing to repair.
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
			after, stuck := t.rules.presume(before, f.Limits, f.Now)
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
			state = ended
			if err := errors.Join(t.save(state, true), t.logRepair(before, after, f)); err != nil {
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

// stuck lists at most f.Max stuck runs.
func (s *Store) stuck(ctx context.Context, f store.FailStuck) ([]store.Repaired, error) {
	var found []store.Repaired
	for _, status := range []store.Status{store.Pending, store.Running, store.Cancelling} {
		if f.Limits[status] <= 0 || len(found) >= f.Max {
			continue
		}
		more, err := s.stuckIn(ctx, status, f, f.Max-len(found))
		if err != nil {
			return nil, fmt.Errorf("look for stuck runs: %w", translate(err))
		}
		found = append(found, more...)
	}
	return found, nil
}

func (s *Store) stuckIn(ctx context.Context, status store.Status, f store.FailStuck, limit int) (found []store.Repaired, err error) {
	rows, err := s.reader.QueryContext(ctx, stuckSQL,
		string(status), f.Now.UnixMicro(), f.Limits[status].Microseconds(), int64(math.MinInt64), limit)
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		state, err := scanState(rows)
		if err != nil {
			return err
		}
		before := state.Row()
		if after, stuck := store.Presume(before, f.Limits, f.Now); stuck {
			found = append(found, store.Repaired{Reason: store.Stuck, Before: before, After: after})
		}
		return nil
	})
	return found, err
}

func (t *tx) logRepair(before, after store.Row, f store.FailStuck) error {
	_, err := t.tx.ExecContext(t.ctx, `
insert into repairs (run_id, kind, first_at, last_at, was, status, completed_at)
values (?1, ?2, ?3, ?3, ?4, ?5, ?6)
    on conflict (run_id, kind) do update
   set times = times + 1, last_at = excluded.last_at, was = excluded.was,
       status = excluded.status, completed_at = excluded.completed_at`,
		before.ID.String(), string(store.Stuck), f.Now.UnixMicro(), string(before.Status), string(after.Status), after.CompletedAt.UnixMicro())
	if err != nil {
		return fmt.Errorf("log the repair of run %s: %w", before.ID, err)
	}
	return nil
}
