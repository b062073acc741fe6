package scenarios

import (
	"context"
	"errors"
	"fmt"

	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// These are the parts of the system as people write them: each is small and
// plausible, and wrong.

type session = pg.Session

// completing is a completion that keeps the count by a statement of its own
// instead of the ledger.
func completing(y system, count func(ctx context.Context, s *session, of int64) error) system {
	y.complete = func(ctx context.Context, s *session, run, as, at int64) (won bool, err error) {
		err = inTx(ctx, s, func() error {
			r, err := lockRun(ctx, s, run)
			if err != nil || r == nil || r[status].(int64) >= completed {
				return err
			}
			won = true
			if err := setRun(ctx, s, run, as, at); err != nil {
				return err
			}
			return count(ctx, s, r[user].(int64))
		})
		return won, err
	}
	return y
}

const countSQL = `(select count(*) from runs where user_id = %[1]d and status >= 2 and completed_at is not null)`

func endedOf(q *query, of int64) int64 {
	return q.Count("runs", func(r row) bool { return r[user] == of && ended(r) })
}

func readModifyWrite(ctx context.Context, s *session, of int64) error {
	n, err := readCount(ctx, s, of)
	if err != nil {
		return err
	}
	return writeCount(ctx, s, of, n+1)
}

func readCount(ctx context.Context, s *session, of int64) (int64, error) {
	rows, err := exec(ctx, s, fmt.Sprintf(`select n from counts where user_id = %d`, of), tables("counts"), nil, func(q *query) error {
		for _, r := range q.Select("counts", col(0, of)) {
			q.Return(r[1])
		}
		return nil
	})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return rows[0][0].(int64), nil
}

func writeCount(ctx context.Context, s *session, of, n int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update counts set n = %d where user_id = %d`, n, of), nil, tables("counts"), func(q *query) error {
		_, err := q.Update("counts", col(0, of), func(r row) row { r[1] = n; return r })
		return err
	})
	return err
}

func upsertCount(ctx context.Context, s *session, of int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`insert into counts values (%[1]d, `+countSQL+`) on conflict (user_id) do update set n = excluded.n`, of), tables("runs"), tables("counts"), func(q *query) error {
		n := endedOf(q, of)
		_, err := q.Insert("counts", row{of, n}, pg.Conflict{DoUpdate: func(row) row { return row{of, n} }})
		return err
	})
	return err
}

func updateWithSubselect(ctx context.Context, s *session, of int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update counts set n = `+countSQL+` where user_id = %[1]d`, of), tables("runs"), tables("counts"), func(q *query) error {
		n := endedOf(q, of)
		_, err := q.Update("counts", col(0, of), func(r row) row { r[1] = n; return r })
		return err
	})
	return err
}

func lockAndCountAtOnce(ctx context.Context, s *session, of int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`with l as (select user_id from counts where user_id = %[1]d for update) update counts as c set n = `+countSQL+` from l where c.user_id = l.user_id`, of), tables("runs"), tables("counts"), func(q *query) error {
		n := endedOf(q, of)
		if _, err := q.ForUpdate("counts", pg.Wait, col(0, of)); err != nil {
			return err
		}
		_, err := q.Update("counts", col(0, of), func(r row) row { r[1] = n; return r })
		return err
	})
	return err
}

func advisoryAtOnce(ctx context.Context, s *session, of int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`with l as materialized (select pg_advisory_xact_lock(%[1]d)), n as (select count(*) as n from l, runs where user_id = %[1]d and status >= 2 and completed_at is not null) update counts set n = n.n from n where user_id = %[1]d`, of), tables("runs"), tables("counts", "advisory"), func(q *query) error {
		n := endedOf(q, of)
		if err := q.Advisory(of); err != nil {
			return err
		}
		_, err := q.Update("counts", col(0, of), func(r row) row { r[1] = n; return r })
		return err
	})
	return err
}

func lockMissingRow(ctx context.Context, s *session, of int64) error {
	if _, err := lockKeyRow(ctx, s, of, pg.Wait); err != nil {
		return err
	}
	return upsertCount(ctx, s, of)
}

// makeLockCount is the one of them that is right.
func makeLockCount(ctx context.Context, s *session, of int64) error {
	if _, err := lockKey(ctx, s, of, pg.Wait); err != nil {
		return err
	}
	return upsertCount(ctx, s, of)
}

func completeUnguarded(ctx context.Context, s *session, run, as, at int64) (bool, error) {
	return true, inTx(ctx, s, func() error {
		rows, err := exec(ctx, s, fmt.Sprintf(`update runs set status = %d, completed_at = %d where id = %d returning user_id`, as, at, run), nil, tables("runs"), func(q *query) error {
			rows, err := q.Update("runs", col(id, run), func(r row) row { r[status], r[completedAt] = as, at; return r })
			for _, r := range rows {
				q.Return(r[user])
			}
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		return post(ctx, s, rows[0][0].(int64), 1)
	})
}

// completeKeepingTime is the old complete_workflow_run_and_get_count: no guard
// on the status, coalesce on the time, and a count that is stored.
func completeKeepingTime(ctx context.Context, s *session, run, as, at int64) (bool, error) {
	return true, inTx(ctx, s, func() error {
		rows, err := exec(ctx, s, fmt.Sprintf(`update runs set status = %d, completed_at = coalesce(completed_at, %d) where id = %d returning user_id`, as, at, run), nil, tables("runs"), func(q *query) error {
			rows, err := q.Update("runs", col(id, run), func(r row) row {
				r[status] = as
				if r[completedAt] == nil {
					r[completedAt] = at
				}
				return r
			})
			for _, r := range rows {
				q.Return(r[user])
			}
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		return updateWithSubselect(ctx, s, rows[0][0].(int64))
	})
}

// completeRaising is the old complete_workflow_run: its last line compares a
// boolean with a number, which rolls everything back, and its caller only
// logs that.
func completeRaising(ctx context.Context, s *session, run, as, at int64) (bool, error) {
	err := inTx(ctx, s, func() error {
		if err := setRun(ctx, s, run, as, at); err != nil {
			return err
		}
		return errors.Join(&pg.SQLState{Code: "42883", Message: "operator does not exist: boolean > integer"})
	})
	var state *pg.SQLState
	if errors.As(err, &state) && state.Code == "42883" {
		return false, nil
	}
	return false, err
}

// completeLookingFirst decides by what it read before the lock.
func completeLookingFirst(ctx context.Context, s *session, run, as, at int64) (won bool, err error) {
	err = inTx(ctx, s, func() error {
		r, err := readRun(ctx, s, run)
		if err != nil || r == nil || r[status].(int64) >= completed {
			return err
		}
		won = true
		if err := setRun(ctx, s, run, as, at); err != nil {
			return err
		}
		return post(ctx, s, r[user].(int64), 1)
	})
	return won, err
}

func readRun(ctx context.Context, s *session, run int64) (row, error) {
	rows, err := exec(ctx, s, fmt.Sprintf(`select id, user_id, status, completed_at, updated_at from runs where id = %d`, run), tables("runs"), nil, func(q *query) error {
		for _, r := range q.Select("runs", col(id, run)) {
			q.Return(r...)
		}
		return nil
	})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// completePostingAlways forgets that a presumed outcome is counted already.
func completePostingAlways(ctx context.Context, s *session, run, as, at int64) (won bool, err error) {
	err = inTx(ctx, s, func() error {
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
		if err := unpresume(ctx, s, run); err != nil {
			return err
		}
		return post(ctx, s, r[user].(int64), 1)
	})
	return won, err
}

// completeThenPost writes the ledger in a transaction of its own.
func completeThenPost(ctx context.Context, s *session, run, as, at int64) (won bool, err error) {
	var of int64
	err = inTx(ctx, s, func() error {
		r, err := lockRun(ctx, s, run)
		if err != nil || r == nil || r[status].(int64) >= completed {
			return err
		}
		won, of = true, r[user].(int64)
		return setRun(ctx, s, run, as, at)
	})
	if err != nil || !won {
		return won, err
	}
	return won, post(ctx, s, of, 1)
}

// completeRetrying looks once, and tries what it decided until it hears that
// it worked.
func completeRetrying(ctx context.Context, s *session, run, as, at int64) (won bool, err error) {
	r, err := readRun(ctx, s, run)
	if err != nil || r == nil || r[status].(int64) >= completed {
		return false, err
	}
	return true, tried(ctx, s, func() error {
		if err := setRun(ctx, s, run, as, at); err != nil {
			return err
		}
		return post(ctx, s, r[user].(int64), 1)
	})
}

func lateUnguarded(ctx context.Context, s *session, run int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update runs set status = 1 where id = %d`, run), nil, tables("runs"), func(q *query) error {
		_, err := q.Update("runs", col(id, run), func(r row) row { r[status] = running; return r })
		return err
	})
	return err
}

// lateReopening is a user who sets their own run back.
func lateReopening(ctx context.Context, s *session, run int64) error {
	return setRun(ctx, s, run, pending, nil)
}

func insertWithoutTime(ctx context.Context, s *session, run, of, as int64) error {
	return insertRow(ctx, s, row{run, of, as, nil, present})
}

// handOverNewKeyAlone tells the new key and forgets the old one.
func handOverNewKeyAlone(ctx context.Context, s *session, run, to int64) error {
	return inTx(ctx, s, func() error {
		r, err := lockRun(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		if err := moveRun(ctx, s, run, to); err != nil || !ended(r) {
			return err
		}
		return post(ctx, s, to, 1)
	})
}

// handOverLookingFirst tells both, by what it read before it had to wait.
func handOverLookingFirst(ctx context.Context, s *session, run, to int64) error {
	return inTx(ctx, s, func() error {
		r, err := readRun(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		if err := moveRun(ctx, s, run, to); err != nil || !ended(r) {
			return err
		}
		return errors.Join(post(ctx, s, r[user].(int64), -1), post(ctx, s, to, 1))
	})
}

// handOverTwoLocks recounts both keys, the one that it comes from first.
func handOverTwoLocks(ctx context.Context, s *session, run, to int64) error {
	return inTx(ctx, s, func() error {
		r, err := lockRun(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		if err := moveRun(ctx, s, run, to); err != nil {
			return err
		}
		for _, of := range []int64{r[user].(int64), to} {
			if _, err := lockKey(ctx, s, of, pg.Wait); err != nil {
				return err
			}
		}
		if !ended(r) {
			return nil
		}
		return errors.Join(post(ctx, s, r[user].(int64), -1), post(ctx, s, to, 1))
	})
}

func removeLookingFirst(ctx context.Context, s *session, run int64) error {
	return inTx(ctx, s, func() error {
		r, err := readRun(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		_, err = exec(ctx, s, fmt.Sprintf(`delete from runs where id = %d`, run), nil, tables("runs"), func(q *query) error {
			_, err := q.Delete("runs", col(id, run))
			return err
		})
		if err != nil || !ended(r) {
			return err
		}
		return post(ctx, s, r[user].(int64), -1)
	})
}

// deliverUnguarded restores the outcome that a webhook saw, by a look before.
func deliverUnguarded(ctx context.Context, s *session, run, as, at int64) error {
	r, err := readRun(ctx, s, run)
	if err != nil || r == nil || r[status].(int64) >= completed {
		return err
	}
	return inTx(ctx, s, func() error {
		if err := setRun(ctx, s, run, as, at); err != nil {
			return err
		}
		return post(ctx, s, r[user].(int64), 1)
	})
}

// sweepUnguarded selects, and then updates whatever has become of the rows.
func sweepUnguarded(ctx context.Context, s *session) error {
	rows, err := exec(ctx, s, `select id, user_id, status, completed_at, updated_at from runs where status < 2 and updated_at + 5 <= 100`, tables("runs"), nil, func(q *query) error {
		for _, r := range q.Select("runs", stuck) {
			q.Return(r...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		err := inTx(ctx, s, func() error {
			if err := setRun(ctx, s, r[id].(int64), failed, r[updatedAt].(int64)+silence); err != nil {
				return err
			}
			if err := presume(ctx, s, r[id].(int64), r[updatedAt].(int64)+silence); err != nil {
				return err
			}
			return post(ctx, s, r[user].(int64), 1)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
