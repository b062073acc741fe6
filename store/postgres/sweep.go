package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// repair is one row to write.
type repair struct {
	reason   store.Reason
	found    found
	after    store.Row
	presumed bool   // the outcome is provisional
	refused  string // why the database did not take it
}

// report is the repair as it is told of.
func (r repair) report() store.Repaired {
	return store.Repaired{Reason: r.reason, Before: r.found.row, After: r.after, Refused: r.refused}
}

// said is the repair, refused where the table has no word for it: ours may mean
// something else there.
func (r repair) said(db features) repair {
	if err := db.requireStatus(r.after.Status); err != nil {
		r.refused = err.Error()
	}
	return r
}

// rounded is the repair as the table's columns can hold it: an end that we date is
// the one that its column keeps of it, and so is the duration that is filled by it.
func (r repair) rounded(db features) repair {
	end := db.table.Kept(watched.CompletedAt, r.after.CompletedAt)
	if r.reason != store.Stuck && r.reason != store.NoTime || end.Equal(r.after.CompletedAt) {
		return r
	}
	r.after.CompletedAt = end
	if !r.found.row.DurationMS.Valid && r.after.DurationMS.Valid {
		r.after.DurationMS = store.MillisOf(r.after.CompletedAt.Sub(r.after.StartedAt).Milliseconds())
	}
	return r
}

// FailStuck implements [store.Maintainer].
func (s *Store) FailStuck(ctx context.Context, f store.FailStuck) (done []store.Repaired, err error) {
	f.Now = store.Instant(f.Now)
	err = s.attempt(ctx, func(db features) (err error) {
		if f.DryRun {
			done, err = s.stuck(ctx, s.pool, db, f)
			return err
		}
		if f.Runs == nil { // where there are none, no lock is taken, and nothing written
			if f.Runs, err = first(ctx, s.pool, db, f); err != nil || f.Runs == nil {
				return err
			}
		}
		done = nil
		return s.write(ctx, func(tx pgx.Tx) error {
			if err := lockSweep(ctx, tx, db); err != nil {
				return err
			}
			repairs, err := s.wanted(ctx, tx, db, f, "for no key update of r skip locked")
			if err != nil {
				return err
			}
			done, err = s.repairAll(ctx, tx, db, repairs, f.Now)
			return err
		})
	})
	return done, err
}

// lockSweep waits for a sweep that is under way, since two would wait for each
// other in the application's triggers. The lock is a row that no end user can
// lock, unlike an advisory lock. To go past it would look like a sweep that
// found nothing to do.
func lockSweep(ctx context.Context, tx pgx.Tx, db features) error {
	if _, err := tx.Exec(ctx, `select set_config('lock_timeout', '5s', true)`); err != nil || !db.installed {
		return err
	}
	if _, err := tx.Exec(ctx, `select from run_counter.settings where id = 1 for update`); err != nil {
		return fmt.Errorf("wait for the sweep that holds the row of run_counter.settings: %w", err)
	}
	return nil
}

// repairAll writes repairs of rows that are locked. A row that the database
// refuses, for a check or a trigger of the application, must not hold up the
// others: then the halves are tried, and what is refused by itself is left and
// says why. The rows of one user stand together, so that those of another are
// rarely in a half with them.
func (s *Store) repairAll(ctx context.Context, tx pgx.Tx, db features, repairs []repair, now time.Time) ([]store.Repaired, error) {
	if err := db.requireSameTable(ctx, tx); err != nil {
		return nil, err
	}
	var told []store.Repaired
	said := make([]repair, 0, len(repairs))
	for _, r := range repairs {
		if r = r.rounded(db).said(db); r.refused != "" {
			told = append(told, r.report())
		} else {
			said = append(said, r)
		}
	}
	slices.SortStableFunc(said, func(a, b repair) int {
		return a.found.row.User.Compare(b.found.row.User)
	})
	done, err := s.repairHalves(ctx, tx, db, said, now)
	return append(done, told...), err
}

func (s *Store) repairHalves(ctx context.Context, tx pgx.Tx, db features, repairs []repair, now time.Time) ([]store.Repaired, error) {
	if len(repairs) == 0 {
		return nil, nil
	}
	done, err := s.repairTogether(ctx, tx, db, repairs, now)
	if err == nil || !refusedRow(err) {
		return done, err
	}
	if len(repairs) == 1 {
		repairs[0].refused = reasonOf(err)
		return []store.Repaired{repairs[0].report()}, nil
	}
	if busy(err) { // one wait is enough: others wait meanwhile for the rows that are locked here
		if _, err := tx.Exec(ctx, `set local lock_timeout = '10ms'`); err != nil {
			return nil, err
		}
	}
	half := len(repairs) / 2
	if done, err = s.repairHalves(ctx, tx, db, repairs[:half], now); err != nil {
		return done, err
	}
	rest, err := s.repairHalves(ctx, tx, db, repairs[half:], now)
	return append(done, rest...), err
}

// refusedRow reports an error that is about what was written and not about the
// database: a check, or whatever was raised in a trigger, the application's or
// ours.
func refusedRow(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	if e.Routine == "exec_stmt_raise" {
		return true // whatever code its author chose
	}
	switch e.Code[:2] {
	case "22", "23", "44", "P0":
		return true
	case "08", "40", "53", "57", "58", "XX": // the connection, another transaction, the machine
		return false
	}
	return e.Where != "" // raised in a function, and not for the statement itself
}

// reasonOf returns the database's reason for refusing a row.
func reasonOf(err error) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err.Error()
	}
	reason := e.Message
	if where, _, _ := strings.Cut(e.Where, "\n"); where != "" {
		reason += " (" + where + ")"
	}
	return reason
}

// repairTogether writes repairs in a savepoint. A row that stays as it was,
// although nothing was raised, is as good as refused.
func (s *Store) repairTogether(ctx context.Context, tx pgx.Tx, db features, repairs []repair, now time.Time) (done []store.Repaired, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		written, err := write(ctx, tx, db, repairs)
		if err != nil {
			return err
		}
		var ours []repair
		for _, r := range repairs {
			if !written[r.found.row.ID] {
				r.refused = "a trigger of the table left the row as it was"
			} else {
				ours = append(ours, r)
			}
			done = append(done, r.report())
		}
		if !db.installed || len(ours) == 0 {
			return nil
		}
		return logRepairs(ctx, tx, db, ours, now)
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// write writes the outcome columns alone, where the row still is what was
// decided about, and marks what is presumed as it came to stand: a trigger of
// the application may have moved completed_at. It returns those that have ended by it.
func write(ctx context.Context, tx pgx.Tx, db features, repairs []repair) (map[store.ID]bool, error) {
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
	t, args := db.table, []any{ids, was, wasAt, status, at, duration, details}
	update := `
    update ` + t.SQL() + ` as r
       set ` + db.outcome("r", "n.status", "n.completed_at") + db.set(watched.DurationMS, "n.duration_ms") + db.set(watched.ErrorDetails, "n.error_details"+db.table.JSON(watched.ErrorDetails)) + `
      from unnest($1::` + db.id + `[], $2::text[], $3::timestamptz[], $4::text[], $5::timestamptz[], $6::integer[], $7::text[])
           as n (id, was, was_completed_at, status, completed_at, duration_ms, error_details)
     where ` + t.Col("r", watched.ID) + ` = n.id and ` + t.Status("r") + ` is not distinct from n.was and ` + t.Moment("r", watched.CompletedAt) + ` is not distinct from n.was_completed_at
    returning ` + t.Col("r", watched.ID) + ` as id, ` + t.Col("r", watched.User) + ` as user_id, ` + t.Kind("r") + ` as kind, ` + t.Ref("r") + ` as ref_id, ` +
		t.Status("r") + ` as status, ` + t.Moment("r", watched.CompletedAt) + ` as completed_at, ` + t.Ended("r") + ` as ended`
	statement := `with updated as (` + update + `
)
select id::text from updated where ended`
	if db.installed {
		args = append(args, presumed)
		statement = `with updated as (` + update + `
), marked as (
    insert into run_counter.presumed as p (run_id, ended_at, user_id, kind, ref_id, status)
    select u.id, u.completed_at, u.user_id, case when u.ref_id is not null then u.kind end, u.ref_id, u.status
      from updated as u
      join unnest($1::` + db.id + `[], $8::boolean[]) as n (id, presumed) on n.id = u.id and n.presumed and u.ended
        on conflict (run_id) do update
       set ended_at = excluded.ended_at, user_id = excluded.user_id, kind = excluded.kind, ref_id = excluded.ref_id, status = excluded.status
)
select id::text from updated where ended`
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

func logRepairs(ctx context.Context, tx pgx.Tx, db features, repairs []repair, now time.Time) error {
	n := len(repairs)
	ids, kinds, was, status, at := make([]string, n), make([]string, n), make([]*string, n), make([]string, n), make([]time.Time, n)
	for i, r := range repairs {
		ids[i], kinds[i], was[i] = r.found.row.ID.String(), string(r.reason), textArg(r.found.row.Status)
		status[i], at[i] = string(r.after.Status), r.after.CompletedAt
	}
	_, err := tx.Exec(ctx, `
insert into run_counter.repairs as l (run_id, kind, first_at, last_at, was, status, completed_at)
select n.run_id, n.kind, $1::timestamptz, $1::timestamptz, n.was, n.status, n.completed_at
  from unnest($2::`+db.id+`[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) as n (run_id, kind, was, status, completed_at)
    on conflict (run_id, kind) do update
   set times = l.times + 1, last_at = excluded.last_at, was = excluded.was, status = excluded.status, completed_at = excluded.completed_at`,
		now, ids, kinds, was, status, at)
	if err != nil {
		return fmt.Errorf("log %d repairs: %w", n, err)
	}
	return nil
}
