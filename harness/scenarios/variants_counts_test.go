package scenarios

import (
	"context"
	"fmt"

	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// foldDeletingMore sums in one statement and deletes in the next.
func foldDeletingMore(ctx context.Context, s *session, of int64) error {
	return inTx(ctx, s, func() error {
		if mine, err := lockKey(ctx, s, of, pg.SkipLocked); err != nil || !mine {
			return err
		}
		_, err := exec(ctx, s, fmt.Sprintf(`update counts set n = n + coalesce((select sum(d) from ledger where user_id = %d), 0) where user_id = %d`, of, of), tables("ledger"), tables("counts"), func(q *query) error {
			d := sum(q.Select("ledger", col(0, of)))
			_, err := q.Update("counts", col(0, of), func(r row) row { r[1] = r[1].(int64) + d; return r })
			return err
		})
		if err != nil {
			return err
		}
		return dropLedger(ctx, s, of)
	})
}

func dropLedger(ctx context.Context, s *session, of int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`delete from ledger where user_id = %d`, of), nil, tables("ledger"), func(q *query) error {
		_, err := q.Delete("ledger", col(0, of))
		return err
	})
	return err
}

// foldLedgerFirst takes the ledger's rows before the key's lock.
func foldLedgerFirst(ctx context.Context, s *session, of int64) error {
	return inTx(ctx, s, func() error {
		rows, err := exec(ctx, s, fmt.Sprintf(`delete from ledger where user_id = %d returning user_id, d`, of), nil, tables("ledger"), func(q *query) error {
			gone, err := q.Delete("ledger", col(0, of))
			for _, r := range gone {
				q.Return(r...)
			}
			return err
		})
		if err != nil {
			return err
		}
		if _, err := lockKey(ctx, s, of, pg.Wait); err != nil {
			return err
		}
		_, err = exec(ctx, s, fmt.Sprintf(`update counts set n = n + %d where user_id = %d`, sum(rows), of), nil, tables("counts"), func(q *query) error {
			_, err := q.Update("counts", col(0, of), func(r row) row { r[1] = r[1].(int64) + sum(rows); return r })
			return err
		})
		return err
	})
}

// foldUnlocked reads the count, and writes what it made of that.
func foldUnlocked(ctx context.Context, s *session, of int64) error {
	return inTx(ctx, s, func() error {
		n, err := readCount(ctx, s, of)
		if err != nil {
			return err
		}
		rows, err := exec(ctx, s, fmt.Sprintf(`delete from ledger where user_id = %d returning user_id, d`, of), nil, tables("ledger"), func(q *query) error {
			gone, err := q.Delete("ledger", col(0, of))
			for _, r := range gone {
				q.Return(r...)
			}
			return err
		})
		if err != nil {
			return err
		}
		return writeCount(ctx, s, of, n+sum(rows))
	})
}

// foldInTwo commits the sum before it deletes what it summed.
func foldInTwo(ctx context.Context, s *session, of int64) error {
	var d int64
	err := inTx(ctx, s, func() error {
		if _, err := lockKey(ctx, s, of, pg.Wait); err != nil {
			return err
		}
		_, err := exec(ctx, s, fmt.Sprintf(`update counts set n = n + coalesce((select sum(d) from ledger where user_id = %d), 0) where user_id = %d`, of, of), tables("ledger"), tables("counts"), func(q *query) error {
			d = sum(q.Select("ledger", col(0, of)))
			_, err := q.Update("counts", col(0, of), func(r row) row { r[1] = r[1].(int64) + d; return r })
			return err
		})
		return err
	})
	if err != nil {
		return err
	}
	return dropLedger(ctx, s, of)
}

// recountUnlocked counts and sets without the key's lock.
func recountUnlocked(ctx context.Context, s *session, of int64) error {
	return inTx(ctx, s, func() error {
		if err := makeKey(ctx, s, of); err != nil {
			return err
		}
		_, err := exec(ctx, s, fmt.Sprintf(`with gone as (delete from ledger where user_id = %[1]d) update counts set n = `+countSQL+` where user_id = %[1]d`, of), tables("runs"), tables("ledger", "counts"), func(q *query) error {
			n := endedOf(q, of)
			if _, err := q.Update("counts", col(0, of), func(r row) row { r[1] = n; return r }); err != nil {
				return err
			}
			_, err := q.Delete("ledger", col(0, of))
			return err
		})
		return err
	})
}

// recountInTwo deletes the ledger in one statement and counts in the next.
func recountInTwo(ctx context.Context, s *session, of int64) error {
	return inTx(ctx, s, func() error {
		if _, err := lockKey(ctx, s, of, pg.Wait); err != nil {
			return err
		}
		if err := dropLedger(ctx, s, of); err != nil {
			return err
		}
		return updateWithSubselect(ctx, s, of)
	})
}

// pruneByAnEarlierLook deletes what was zero when it looked.
func pruneByAnEarlierLook(ctx context.Context, s *session, of int64) error {
	n, err := readCount(ctx, s, of)
	if err != nil || n != 0 {
		return err
	}
	_, err = exec(ctx, s, fmt.Sprintf(`delete from counts where user_id = %d`, of), nil, tables("counts"), func(q *query) error {
		_, err := q.Delete("counts", col(0, of))
		return err
	})
	return err
}

// countInTwo reads the counts and the ledger by two statements.
func countInTwo(ctx context.Context, s *session, of int64) (int64, error) {
	n, err := readCount(ctx, s, of)
	if err != nil {
		return 0, err
	}
	rows, err := exec(ctx, s, fmt.Sprintf(`select coalesce(sum(d), 0)::bigint from ledger where user_id = %d`, of), tables("ledger"), nil, func(q *query) error {
		q.Return(sum(q.Select("ledger", col(0, of))))
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n + rows[0][0].(int64), nil
}

// beginUnlocked checks the limit, and then starts.
func beginUnlocked(ctx context.Context, s *session, run, of, limit int64) (bool, error) {
	rows, err := exec(ctx, s, fmt.Sprintf(`select (coalesce((select n from counts where user_id = %d), 0) + coalesce((select sum(d) from ledger where user_id = %d), 0) + (select count(*) from runs where user_id = %d and completed_at is null))::bigint`, of, of, of),
		tables("counts", "ledger", "runs"), nil, func(q *query) error {
			q.Return(stored(q, of) + q.Count("runs", func(r row) bool { return r[user] == of && r[completedAt] == nil }))
			return nil
		})
	if err != nil || rows[0][0].(int64) >= limit {
		return false, err
	}
	return true, insertRow(ctx, s, row{run, of, pending, nil, present})
}

// beginCountingEnded forgets the runs that have not ended.
func beginCountingEnded(ctx context.Context, s *session, run, of, limit int64) (began bool, err error) {
	err = inTx(ctx, s, func() error {
		if _, err := lockKey(ctx, s, of, pg.Wait); err != nil {
			return err
		}
		n, err := count(ctx, s, of)
		if err != nil || n >= limit {
			return err
		}
		began = true
		return insertRow(ctx, s, row{run, of, pending, nil, present})
	})
	return began, err
}

// beginInTwo reads the ended runs and the active ones by two statements. Both
// are right, and a run that ends between them is in neither.
func beginInTwo(ctx context.Context, s *session, run, of, limit int64) (began bool, err error) {
	err = inTx(ctx, s, func() error {
		if _, err := lockKey(ctx, s, of, pg.Wait); err != nil {
			return err
		}
		n, err := count(ctx, s, of)
		if err != nil {
			return err
		}
		rows, err := exec(ctx, s, fmt.Sprintf(`select count(*) from runs where user_id = %d and completed_at is null`, of), tables("runs"), nil, func(q *query) error {
			q.Return(q.Count("runs", func(r row) bool { return r[user] == of && r[completedAt] == nil }))
			return nil
		})
		if err != nil || n+rows[0][0].(int64) >= limit {
			return err
		}
		began = true
		return insertRow(ctx, s, row{run, of, pending, nil, present})
	})
	return began, err
}
