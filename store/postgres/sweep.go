package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
)

// repair is one row to write.
type repair struct {
	reason   store.Reason
	found    found
	after    store.Row
	presumed bool // the outcome is provisional
}

// sweepLock is the advisory lock of whoever sweeps: others have nothing to do
// meanwhile. Correctness rests on the locks of the rows.
const sweepLock = `select pg_try_advisory_xact_lock(7270265283512037)`

// stuckSQL finds rows that are inconsistent, or silent for longer than their
// status's limit in microseconds ($2 to $4, 0 for never) at $1, and locks
// those that nobody holds.
func (h schema) stuckSQL(lock string) string {
	sign := func(column string) string {
		return `case when ` + column + ` <= $1::timestamptz then ` + column + ` end`
	}
	lease := ""
	if h.lease != "" {
		lease = ", " + sign(h.leaseColumn())
	}
	return `
select ` + h.rowColumns() + `, ` + h.presumedColumn() + `, null::timestamptz
  from public.workflow_runs as r
 where ` + openSQL + `
   and (
        (r.status in ('completed', 'failed', 'cancelled', 'timeout') and r.completed_at is null and coalesce(r.updated_at, r.created_at) is not null)
        or (` + activeSQL + ` and r.completed_at is not null)
        or (` + activeSQL + ` and r.completed_at is null
            and case r.status when 'pending' then $2::bigint when 'running' then $3::bigint else $4::bigint end > 0
            and coalesce(greatest(` + sign("r.started_at") + `, ` + sign("r.updated_at") + lease + `), ` + sign("r.created_at") + `)
                < $1::timestamptz - make_interval(secs =>
                    (case r.status when 'pending' then $2::bigint when 'running' then $3::bigint else $4::bigint end)::double precision / 1000000))
   )
 limit $5::integer ` + lock
}

func stuckArgs(f store.FailStuck) []any {
	limit := func(status store.Status) int64 { return f.Limits[status].Microseconds() }
	return []any{f.Now, limit(store.Pending), limit(store.Running), limit(store.Cancelling), f.Max}
}

// stuck lists what FailStuck would repair.
func (s *Store) stuck(ctx context.Context, to sender, have schema, f store.FailStuck) (stuck []store.Repaired, err error) {
	err = send(ctx, to, query{text: have.stuckSQL(""), args: stuckArgs(f), read: func(rows pgx.Rows) error {
		found, err := scanFound(rows)
		if err != nil {
			return err
		}
		if r, needed := s.decide(found, f); needed {
			stuck = append(stuck, store.Repaired{Reason: r.reason, Before: r.found.row, After: r.after})
		}
		return nil
	}})
	return stuck, err
}

// FailStuck implements [store.Store].
func (s *Store) FailStuck(ctx context.Context, f store.FailStuck) (done []store.Repaired, err error) {
	f.Now = store.Instant(f.Now)
	err = s.attempt(ctx, func(have schema) (err error) {
		done = nil
		if f.DryRun {
			done, err = s.stuck(ctx, s.pool, have, f)
			return err
		}
		return s.write(ctx, func(tx pgx.Tx) error {
			var mine bool
			if err := tx.QueryRow(ctx, sweepLock).Scan(&mine); err != nil || !mine {
				return err
			}
			var repairs []repair
			err := send(ctx, tx, query{text: have.stuckSQL("for no key update of r skip locked"), args: stuckArgs(f), read: func(rows pgx.Rows) error {
				found, err := scanFound(rows)
				if err != nil {
					return err
				}
				if r, needed := s.decide(found, f); needed {
					repairs = append(repairs, r)
				}
				return nil
			}})
			if err != nil {
				return fmt.Errorf("find stuck runs: %w", err)
			}
			done, err = s.mendAll(ctx, tx, have, repairs, f.Now)
			return err
		})
	})
	return done, err
}

// decide applies the rules to a row.
func (s *Store) decide(found found, f store.FailStuck) (repair, bool) {
	if after, reason := s.rules.repair(found.row); reason == store.NoTime || reason == store.Overwritten {
		return repair{reason, found, after, reason == store.Overwritten}, true
	}
	if after, stuck := s.rules.presume(found.row, f.Limits, f.Now); stuck {
		return repair{store.Stuck, found, after, true}, true
	}
	return repair{}, false
}

// mendAll writes repairs of rows that are locked. A row that the database
// refuses, for a check or a trigger of the application, must not hold up the
// others: then each is written by itself, and the refused ones are left.
func (s *Store) mendAll(ctx context.Context, tx pgx.Tx, have schema, repairs []repair, now time.Time) ([]store.Repaired, error) {
	if len(repairs) == 0 {
		return nil, nil
	}
	done, err := s.mendTogether(ctx, tx, have, repairs, now)
	if err == nil || !refusedRow(err) {
		return done, err
	}
	done = nil
	for _, r := range repairs {
		one, err := s.mendTogether(ctx, tx, have, []repair{r}, now)
		if err != nil && !refusedRow(err) {
			return done, err
		}
		done = append(done, one...)
	}
	return done, nil
}

// refusedRow reports an error that is about what was written and not about the
// database.
func refusedRow(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	class := e.Code[:2]
	return class == "22" || class == "23" || class == "P0"
}

// mendTogether writes repairs in a savepoint.
func (s *Store) mendTogether(ctx context.Context, tx pgx.Tx, have schema, repairs []repair, now time.Time) (done []store.Repaired, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		written, err := write(ctx, tx, have, repairs)
		if err != nil {
			return err
		}
		repairs = slices.DeleteFunc(slices.Clone(repairs), func(r repair) bool { return !written[r.found.row.ID] })
		for _, r := range repairs {
			done = append(done, store.Repaired{Reason: r.reason, Before: r.found.row, After: r.after})
		}
		if !have.installed || len(repairs) == 0 {
			return nil
		}
		return logRepairs(ctx, tx, repairs, now)
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// write writes the outcome columns alone, where the row still is what was
// decided about, and marks what is presumed as it came to stand: a trigger of
// the application may have moved completed_at.
func write(ctx context.Context, tx pgx.Tx, have schema, repairs []repair) (map[store.ID]bool, error) {
	n := len(repairs)
	ids, was, status := make([]string, n), make([]*string, n), make([]string, n)
	wasAt, at := make([]*time.Time, n), make([]time.Time, n)
	duration, details, presumed := make([]*int32, n), make([]*string, n), make([]bool, n)
	for i, r := range repairs {
		before, after := r.found.row, r.after
		ids[i], was[i], wasAt[i] = before.ID.String(), textArg(before.Status), timeArg(before.CompletedAt)
		status[i], at[i] = string(after.Status), after.CompletedAt
		duration[i], details[i], presumed[i] = millisArg(after.DurationMS), textArg(after.ErrorDetails), r.presumed
	}
	args := []any{ids, was, wasAt, status, at, duration, details}
	update := `
    update public.workflow_runs as r
       set status = n.status, completed_at = n.completed_at, duration_ms = n.duration_ms, error_details = n.error_details::jsonb
      from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::timestamptz[], $6::integer[], $7::text[])
           as n (id, was, was_completed_at, status, completed_at, duration_ms, error_details)
     where r.id = n.id and r.status is not distinct from n.was and r.completed_at is not distinct from n.was_completed_at
    returning r.id, r.user_id, ` + have.kindColumn() + ` as kind, ` + have.refColumn() + ` as ref_id, r.status, r.completed_at`
	statement := `with updated as (` + update + `
)
select id::text from updated`
	if have.installed {
		args = append(args, presumed)
		statement = `with updated as (` + update + `
), marked as (
    insert into run_counter.presumed as p (run_id, ended_at, user_id, kind, ref_id, status)
    select u.id, u.completed_at, u.user_id, case when u.ref_id is not null then u.kind end, u.ref_id, u.status
      from updated as u
      join unnest($1::uuid[], $8::boolean[]) as n (id, presumed) on n.id = u.id and n.presumed
        on conflict (run_id) do update
       set ended_at = excluded.ended_at, user_id = excluded.user_id, kind = excluded.kind, ref_id = excluded.ref_id, status = excluded.status
)
select id::text from updated`
	}
	written := make(map[store.ID]bool, n)
	err := send(ctx, tx, query{text: statement, args: args, read: func(rows pgx.Rows) error {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		id, err := store.ParseID(text)
		written[id] = true
		return err
	}})
	if err != nil {
		return nil, fmt.Errorf("write %d repairs: %w", n, err)
	}
	return written, nil
}

func logRepairs(ctx context.Context, tx pgx.Tx, repairs []repair, now time.Time) error {
	n := len(repairs)
	ids, kinds, was, status, at := make([]string, n), make([]string, n), make([]*string, n), make([]string, n), make([]time.Time, n)
	for i, r := range repairs {
		ids[i], kinds[i], was[i] = r.found.row.ID.String(), string(r.reason), textArg(r.found.row.Status)
		status[i], at[i] = string(r.after.Status), r.after.CompletedAt
	}
	_, err := tx.Exec(ctx, `
insert into run_counter.repairs as l (run_id, kind, first_at, last_at, was, status, completed_at)
select n.run_id, n.kind, $1::timestamptz, $1::timestamptz, n.was, n.status, n.completed_at
  from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) as n (run_id, kind, was, status, completed_at)
    on conflict (run_id, kind) do update
   set times = l.times + 1, last_at = excluded.last_at, was = excluded.was, status = excluded.status, completed_at = excluded.completed_at`,
		now, ids, kinds, was, status, at)
	if err != nil {
		return fmt.Errorf("log %d repairs: %w", n, err)
	}
	return nil
}
