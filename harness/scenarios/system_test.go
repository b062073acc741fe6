// Package scenarios puts this system, and what people commonly write in its
// place, into the harness.
package scenarios

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// The statuses of runs here, as numbers.
const (
	pending int64 = iota
	running
	completed
	failed
)

// limit is how long a run may be silent, and present what the sweep takes for
// now.
const (
	silence int64 = 5
	present int64 = 100
)

// Columns of runs.
const (
	id = iota
	user
	status
	completedAt
	updatedAt
)

type (
	row   = pg.Row
	query = pg.Query
)

func ended(r row) bool { return r[status].(int64) >= completed && r[completedAt] != nil }

func stuck(r row) bool {
	return r[status].(int64) < completed && r[updatedAt].(int64)+silence <= present
}

// world is what each scenario begins with: run 1 is silent for too long, run 2
// is not, run 3 has ended and is in the ledger, run 4 belongs to another user,
// of whom nothing has been counted yet.
func world() []pg.Table {
	return []pg.Table{
		{Name: "runs", Columns: []string{"id", "user_id", "status", "completed_at", "updated_at"}, Key: 1, Rows: []row{
			{int64(1), int64(1), running, nil, int64(10)},
			{int64(2), int64(1), pending, nil, int64(99)},
			{int64(3), int64(1), completed, int64(50), int64(50)},
			{int64(4), int64(2), running, nil, int64(99)},
		}},
		{Name: "counts", Columns: []string{"user_id", "n"}, Key: 1, Rows: []row{{int64(1), int64(0)}}},
		{Name: "ledger", Columns: []string{"user_id", "d"}, Rows: []row{{int64(1), int64(1)}}},
		{Name: "presumed", Columns: []string{"run_id", "ended_at"}, Key: 1},
		{Name: "amendments", Columns: []string{"run_id"}},
	}
}

// system is what the PostgreSQL store and its triggers do, statement by
// statement. A planted bug is a system of which one part was written as people
// write it. (A trigger's statement stands behind the one that fires it, in the
// same transaction.)
type system struct {
	begin    func(ctx context.Context, s *pg.Session, run, of int64, limit int64) (bool, error)
	start    func(ctx context.Context, s *pg.Session, run int64) error
	complete func(ctx context.Context, s *pg.Session, run, as, at int64) (won bool, err error)
	late     func(ctx context.Context, s *pg.Session, run int64) error // a late running by the application
	insert   func(ctx context.Context, s *pg.Session, run, of, as int64) error
	handOver func(ctx context.Context, s *pg.Session, run, to int64) error
	remove   func(ctx context.Context, s *pg.Session, run int64) error
	amend    func(ctx context.Context, s *pg.Session, run int64) error
	deliver  func(ctx context.Context, s *pg.Session, run, as, at int64) error // a webhook says that it has ended
	sweep    func(ctx context.Context, s *pg.Session) error
	fold     func(ctx context.Context, s *pg.Session, of int64) error
	recount  func(ctx context.Context, s *pg.Session, of int64) error
	prune    func(ctx context.Context, s *pg.Session, of int64) error
	count    func(ctx context.Context, s *pg.Session, of int64) (int64, error)
	audit    func(ctx context.Context, s *pg.Session) error

	receive func(ctx context.Context, s *pg.Session, event int64) error // counts a webhook
	forget  func(ctx context.Context, s *pg.Session) error              // old webhooks
	poll    func(ctx context.Context, s *pg.Session) error              // counts new events

	mirror miniature
	quotas quotas
}

func ours() system {
	return system{
		begin: begin, start: start, complete: complete, late: late, insert: insert, handOver: handOver, remove: remove, amend: amend,
		deliver: deliver, sweep: sweep, fold: fold, recount: recount, prune: prune, count: count, audit: audit,
		receive: receiveOnce, forget: keepSeen, poll: pollByDeleting, mirror: mini(), quotas: ourQuotas(),
	}
}

// inTx runs do in a transaction.
func inTx(ctx context.Context, s *pg.Session, do func() error) error {
	if err := s.Begin(ctx); err != nil {
		return err
	}
	if err := do(); err != nil {
		return errors.Join(err, s.Rollback(ctx))
	}
	return s.Commit(ctx)
}

// tried runs do again while the database asks for it, as the store does.
func tried(ctx context.Context, s *pg.Session, do func() error) error {
	for try := 1; ; try++ {
		err := inTx(ctx, s, do)
		var state *pg.SQLState
		again := errors.Is(err, harness.ErrLost) || errors.As(err, &state) && (state.Code == "40001" || state.Code == "40P01")
		if err == nil || !again || try == 3 {
			return err
		}
	}
}

func exec(ctx context.Context, s *pg.Session, sql string, reads, writes []string, do func(q *query) error) ([]row, error) {
	return s.Exec(ctx, &pg.Statement{SQL: sql, Reads: reads, Writes: writes, Do: do})
}

func tables(names ...string) []string { return names }

func col(i int, v int64) func(row) bool { return func(r row) bool { return r[i] == v } }

// lockRun is select … for no key update: the run as it is now, or nil.
func lockRun(ctx context.Context, s *pg.Session, run int64) (row, error) {
	rows, err := exec(ctx, s, fmt.Sprintf(`select id, user_id, status, completed_at, updated_at from runs where id = %d for no key update`, run), nil, tables("runs"), func(q *query) error {
		rows, err := q.ForUpdate("runs", pg.Wait, col(id, run))
		for _, r := range rows {
			q.Return(r...)
		}
		return err
	})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// setRun writes the outcome of a run.
func setRun(ctx context.Context, s *pg.Session, run, as int64, at any) error {
	text := "null"
	if at != nil {
		text = fmt.Sprint(at)
	}
	_, err := exec(ctx, s, fmt.Sprintf(`update runs set status = %d, completed_at = %s where id = %d`, as, text, run), nil, tables("runs"), func(q *query) error {
		_, err := q.Update("runs", col(id, run), func(r row) row { r[status], r[completedAt] = as, at; return r })
		return err
	})
	return err
}

// post appends to the ledger.
func post(ctx context.Context, s *pg.Session, of, d int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`insert into ledger values (%d, %d)`, of, d), nil, tables("ledger"), func(q *query) error {
		_, err := q.Insert("ledger", row{of, d}, pg.Conflict{})
		return err
	})
	return err
}

func isPresumed(ctx context.Context, s *pg.Session, r row) (bool, error) {
	if !ended(r) {
		return false, nil
	}
	rows, err := exec(ctx, s, fmt.Sprintf(`select run_id from presumed where run_id = %d and ended_at = %d`, r[id], r[completedAt]), tables("presumed"), nil, func(q *query) error {
		for _, p := range q.Select("presumed", func(p row) bool { return p[0] == r[id] && p[1] == r[completedAt] }) {
			q.Return(p[0])
		}
		return nil
	})
	return len(rows) > 0, err
}

func unpresume(ctx context.Context, s *pg.Session, run int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`delete from presumed where run_id = %d`, run), nil, tables("presumed"), func(q *query) error {
		_, err := q.Delete("presumed", col(0, run))
		return err
	})
	return err
}

func complete(ctx context.Context, s *pg.Session, run, as, at int64) (won bool, err error) {
	err = tried(ctx, s, func() error {
		won = false
		r, err := lockRun(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		presumed, err := isPresumed(ctx, s, r)
		if err != nil {
			return err
		}
		if won = r[status].(int64) < completed || presumed; !won {
			return nil
		}
		if err := setRun(ctx, s, run, as, at); err != nil {
			return err
		}
		if ended(r) { // it is counted already, as whatever was presumed
			return unpresume(ctx, s, run)
		}
		return post(ctx, s, r[user].(int64), 1)
	})
	return won, err
}

func start(ctx context.Context, s *pg.Session, run int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update runs set status = 1, updated_at = 100 where id = %d and status = 0`, run), nil, tables("runs"), func(q *query) error {
		_, err := q.Update("runs", func(r row) bool { return r[id] == run && r[status] == pending }, func(r row) row {
			r[status], r[updatedAt] = running, present
			return r
		})
		return err
	})
	return err
}

// late is the application's own update, which the guard patches.
func late(ctx context.Context, s *pg.Session, run int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update runs set status = case when status >= 2 and completed_at is not null then status else 1 end, updated_at = 100 where id = %d`, run),
		nil, tables("runs"), func(q *query) error {
			_, err := q.Update("runs", col(id, run), func(r row) row {
				if !ended(r) {
					r[status] = running
				}
				r[updatedAt] = present
				return r
			})
			return err
		})
	return err
}

// insert is the application's own insert of a run that has ended: the guard
// fills completed_at.
func insert(ctx context.Context, s *pg.Session, run, of, as int64) error {
	return inTx(ctx, s, func() error {
		if err := insertRow(ctx, s, row{run, of, as, present, present}); err != nil {
			return err
		}
		return post(ctx, s, of, 1)
	})
}

func insertRow(ctx context.Context, s *pg.Session, r row) error {
	at := "null"
	if r[completedAt] != nil {
		at = fmt.Sprint(r[completedAt])
	}
	_, err := exec(ctx, s, fmt.Sprintf(`insert into runs values (%d, %d, %d, %s, %d)`, r[id], r[user], r[status], at, r[updatedAt]), nil, tables("runs"), func(q *query) error {
		_, err := q.Insert("runs", r, pg.Conflict{})
		return err
	})
	return err
}

func handOver(ctx context.Context, s *pg.Session, run, to int64) error {
	return inTx(ctx, s, func() error {
		r, err := lockRun(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		if err := moveRun(ctx, s, run, to); err != nil || !ended(r) {
			return err
		}
		if err := post(ctx, s, r[user].(int64), -1); err != nil {
			return err
		}
		return post(ctx, s, to, 1)
	})
}

func moveRun(ctx context.Context, s *pg.Session, run, to int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update runs set user_id = %d where id = %d`, to, run), nil, tables("runs"), func(q *query) error {
		_, err := q.Update("runs", col(id, run), func(r row) row { r[user] = to; return r })
		return err
	})
	return err
}

func remove(ctx context.Context, s *pg.Session, run int64) error {
	return inTx(ctx, s, func() error {
		rows, err := exec(ctx, s, fmt.Sprintf(`delete from runs where id = %d returning id, user_id, status, completed_at, updated_at`, run), nil, tables("runs"), func(q *query) error {
			rows, err := q.Delete("runs", col(id, run))
			for _, r := range rows {
				q.Return(r...)
			}
			return err
		})
		if err != nil || len(rows) == 0 || !ended(rows[0]) {
			return err
		}
		if err := unpresume(ctx, s, run); err != nil {
			return err
		}
		return post(ctx, s, rows[0][user].(int64), -1)
	})
}

// amend re-opens a run, as an administrator decides.
func amend(ctx context.Context, s *pg.Session, run int64) error {
	return tried(ctx, s, func() error {
		r, err := lockRun(ctx, s, run)
		if err != nil || r == nil || !ended(r) {
			return err
		}
		_, err = exec(ctx, s, fmt.Sprintf(`insert into amendments values (%d)`, run), nil, tables("amendments"), func(q *query) error {
			_, err := q.Insert("amendments", row{run}, pg.Conflict{})
			return err
		})
		if err != nil {
			return err
		}
		if err := setRun(ctx, s, run, running, nil); err != nil {
			return err
		}
		if err := unpresume(ctx, s, run); err != nil {
			return err
		}
		return post(ctx, s, r[user].(int64), -1)
	})
}

// deliver looks at the run that a webhook names, and mends it where the old
// record had ended and the run is active: its outcome was overwritten.
func deliver(ctx context.Context, s *pg.Session, run, as, at int64) error {
	rows, err := exec(ctx, s, fmt.Sprintf(`select id, user_id, status, completed_at, updated_at from runs where id = %d and not exists (select from amendments where run_id = %d)`, run, run),
		tables("runs", "amendments"), nil, func(q *query) error {
			if len(q.Select("amendments", col(0, run))) > 0 {
				return nil
			}
			for _, r := range q.Select("runs", col(id, run)) {
				q.Return(r...)
			}
			return nil
		})
	if err != nil || len(rows) == 0 || rows[0][status].(int64) >= completed {
		return err // a hint, and nothing to do
	}
	return tried(ctx, s, func() error {
		r, err := lockRun(ctx, s, run)
		if err != nil || r == nil || r[status].(int64) >= completed {
			return err
		}
		amended, err := isAmended(ctx, s, run)
		if err != nil || amended {
			return err
		}
		if err := setRun(ctx, s, run, as, at); err != nil {
			return err
		}
		return post(ctx, s, r[user].(int64), 1)
	})
}

func isAmended(ctx context.Context, s *pg.Session, run int64) (bool, error) {
	rows, err := exec(ctx, s, fmt.Sprintf(`select run_id from amendments where run_id = %d`, run), tables("amendments"), nil, func(q *query) error {
		for _, r := range q.Select("amendments", col(0, run)) {
			q.Return(r...)
		}
		return nil
	})
	return len(rows) > 0, err
}

func sweep(ctx context.Context, s *pg.Session) error {
	return tried(ctx, s, func() error {
		rows, err := exec(ctx, s, `select id, user_id, status, completed_at, updated_at from runs where status < 2 and updated_at + 5 <= 100 for no key update skip locked`, nil, tables("runs"), func(q *query) error {
			rows, err := q.ForUpdate("runs", pg.SkipLocked, stuck)
			for _, r := range rows {
				q.Return(r...)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			at := r[updatedAt].(int64) + silence
			if err := setRun(ctx, s, r[id].(int64), failed, at); err != nil {
				return err
			}
			if err := presume(ctx, s, r[id].(int64), at); err != nil {
				return err
			}
			if err := post(ctx, s, r[user].(int64), 1); err != nil {
				return err
			}
		}
		return nil
	})
}

func presume(ctx context.Context, s *pg.Session, run, at int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`insert into presumed values (%d, %d) on conflict (run_id) do update set ended_at = excluded.ended_at`, run, at), nil, tables("presumed"), func(q *query) error {
		_, err := q.Insert("presumed", row{run, at}, pg.Conflict{DoUpdate: func(row) row { return row{run, at} }})
		return err
	})
	return err
}
