package scenarios

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// lockKey makes the row of a key where it is missing, and locks it: the one
// order of locks begins with it.
func lockKey(ctx context.Context, s *pg.Session, of int64, how pg.Locking) (bool, error) {
	if err := makeKey(ctx, s, of); err != nil {
		return false, err
	}
	return lockKeyRow(ctx, s, of, how)
}

func makeKey(ctx context.Context, s *pg.Session, of int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`insert into counts values (%d, 0) on conflict (user_id) do nothing`, of), nil, tables("counts"), func(q *query) error {
		_, err := q.Insert("counts", row{of, int64(0)}, pg.Conflict{DoNothing: true})
		return err
	})
	return err
}

func lockKeyRow(ctx context.Context, s *pg.Session, of int64, how pg.Locking) (bool, error) {
	text := fmt.Sprintf(`select user_id from counts where user_id = %d for update`, of)
	if how == pg.SkipLocked {
		text += ` skip locked`
	}
	rows, err := exec(ctx, s, text, nil, tables("counts"), func(q *query) error {
		rows, err := q.ForUpdate("counts", how, col(0, of))
		for _, r := range rows {
			q.Return(r[0])
		}
		return err
	})
	return len(rows) > 0, err
}

func fold(ctx context.Context, s *pg.Session, of int64) error {
	return tried(ctx, s, func() error {
		mine, err := lockKey(ctx, s, of, pg.SkipLocked)
		if err != nil || !mine {
			return err
		}
		_, err = exec(ctx, s, fmt.Sprintf(`with gone as (delete from ledger where user_id = %d returning d) update counts set n = n + coalesce((select sum(d) from gone), 0) where user_id = %d`, of, of),
			nil, tables("ledger", "counts"), func(q *query) error {
				gone, err := q.Delete("ledger", col(0, of))
				if err != nil {
					return err
				}
				_, err = q.Update("counts", col(0, of), func(r row) row { r[1] = r[1].(int64) + sum(gone); return r })
				return err
			})
		return err
	})
}

func sum(rows []row) (n int64) {
	for _, r := range rows {
		n += r[1].(int64)
	}
	return n
}

func recount(ctx context.Context, s *pg.Session, of int64) error {
	return tried(ctx, s, func() error {
		for {
			if mine, err := lockKey(ctx, s, of, pg.Wait); err != nil {
				return err
			} else if mine {
				break
			}
		}
		_, err := exec(ctx, s, fmt.Sprintf(`with gone as (delete from ledger where user_id = %d) update counts set n = (select count(*) from runs where user_id = %d and status >= 2 and completed_at is not null) where user_id = %d`, of, of, of),
			tables("runs"), tables("ledger", "counts"), func(q *query) error {
				n := q.Count("runs", func(r row) bool { return r[user] == of && ended(r) })
				// A WITH that no other part reads is run when the rest is done.
				if _, err := q.Update("counts", col(0, of), func(r row) row { r[1] = n; return r }); err != nil {
					return err
				}
				_, err := q.Delete("ledger", col(0, of))
				return err
			})
		return err
	})
}

// prune drops a row of zeros, which says the same as none.
func prune(ctx context.Context, s *pg.Session, of int64) error {
	return tried(ctx, s, func() error {
		mine, err := lockKeyRow(ctx, s, of, pg.SkipLocked)
		if err != nil || !mine {
			return err
		}
		_, err = exec(ctx, s, fmt.Sprintf(`delete from counts where user_id = %d and n = 0`, of), nil, tables("counts"), func(q *query) error {
			_, err := q.Delete("counts", func(r row) bool { return r[0] == of && r[1] == int64(0) })
			return err
		})
		return err
	})
}

// stored is what the read path says, in one statement.
func stored(q *query, of int64) int64 {
	return sum(q.Select("counts", col(0, of))) + sum(q.Select("ledger", col(0, of)))
}

func count(ctx context.Context, s *pg.Session, of int64) (int64, error) {
	rows, err := exec(ctx, s, fmt.Sprintf(`select (coalesce((select n from counts where user_id = %d), 0) + coalesce((select sum(d) from ledger where user_id = %d), 0))::bigint`, of, of),
		tables("counts", "ledger"), nil, func(q *query) error {
			q.Return(stored(q, of))
			return nil
		})
	if err != nil {
		return 0, err
	}
	return rows[0][0].(int64), nil
}

// errDrift is an audit that found something.
var errDrift = errors.New("the audit found a drift")

func audit(ctx context.Context, s *pg.Session) error {
	rows, err := exec(ctx, s, `select u, (coalesce((select n from counts where user_id = u), 0) + coalesce((select sum(d) from ledger where user_id = u), 0))::bigint, (select count(*) from runs where user_id = u and status >= 2 and completed_at is not null) from generate_series(1::bigint, 2) as u`,
		tables("counts", "ledger", "runs"), nil, func(q *query) error {
			for of := range int64(2) {
				q.Return(of+1, stored(q, of+1), q.Count("runs", func(r row) bool { return r[user] == of+1 && ended(r) }))
			}
			return nil
		})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r[1] != r[2] {
			return fmt.Errorf("%w: user %d has %d, and %d runs", errDrift, r[0], r[1], r[2])
		}
	}
	return nil
}

func begin(ctx context.Context, s *pg.Session, run, of, limit int64) (began bool, err error) {
	err = tried(ctx, s, func() error {
		began = false
		for {
			if mine, err := lockKey(ctx, s, of, pg.Wait); err != nil {
				return err
			} else if mine {
				break
			}
		}
		rows, err := exec(ctx, s, fmt.Sprintf(`select (coalesce((select n from counts where user_id = %d), 0) + coalesce((select sum(d) from ledger where user_id = %d), 0) + (select count(*) from runs where user_id = %d and completed_at is null))::bigint, (select count(*) from runs where id = %d)`, of, of, of, run),
			tables("counts", "ledger", "runs"), nil, func(q *query) error {
				q.Return(stored(q, of)+q.Count("runs", func(r row) bool { return r[user] == of && r[completedAt] == nil }), q.Count("runs", col(id, run)))
				return nil
			})
		if err != nil || rows[0][0].(int64) >= limit || rows[0][1].(int64) > 0 {
			return err
		}
		began = true
		return insertRow(ctx, s, row{run, of, pending, nil, present})
	})
	return began, err
}

// laws are the oracles of every scenario.
func laws(s *harness.Sim, db *pg.ReadCommitted) {
	var all map[string][]row // as of the moment that the laws are asked about
	s.Always("law 1: counts + ledger equal the ended runs", func() error {
		all = db.Contents()
		return exact(all)
	})
	first := map[int64]row{}
	s.Always("law 2: the first outcome wins", func() error {
		reopened := map[int64]bool{}
		for _, r := range all["amendments"] {
			reopened[r[0].(int64)] = true
		}
		presumed := map[int64]any{}
		for _, p := range all["presumed"] {
			presumed[p[0].(int64)] = p[1]
		}
		for _, r := range all["runs"] {
			run := r[id].(int64)
			if reopened[run] {
				continue
			}
			was, known := first[run]
			if known && (was[status] != r[status] || was[completedAt] != r[completedAt]) {
				return fmt.Errorf("run %d ended as %s, and is now %s", run, outcomeOf(was), outcomeOf(r))
			}
			if at, provisional := presumed[run]; ended(r) && (!provisional || at != r[completedAt]) {
				first[run] = slices.Clone(r)
			}
		}
		return nil
	})
	s.Always("an ended run has completed_at, and no other has", func() error {
		for _, r := range all["runs"] {
			if (r[status].(int64) >= completed) != (r[completedAt] != nil) {
				return fmt.Errorf("run %d is %s", r[id], outcomeOf(r))
			}
		}
		return nil
	})
	s.Show("runs", func() string {
		text := ""
		for _, r := range db.Rows("runs") {
			text += fmt.Sprintf("%d:%s ", r[id], outcomeOf(r))
		}
		return text
	})
	s.Show("count", func() string {
		text := ""
		for of := range int64(2) {
			all := db.Contents()
			n := int64(0)
			for _, table := range []string{"counts", "ledger"} {
				for _, r := range all[table] {
					if r[0] == of+1 {
						n += r[1].(int64)
					}
				}
			}
			text += fmt.Sprintf("%d ", n)
		}
		return text
	})
}

func outcomeOf(r row) string {
	name := [...]string{"pending", "running", "completed", "failed"}[r[status].(int64)]
	if r[completedAt] != nil {
		name += fmt.Sprintf("@%d", r[completedAt])
	}
	return name
}

func law1(db *pg.ReadCommitted) error { return exact(db.Contents()) }

func exact(all map[string][]row) error {
	for of := range int64(2) {
		var stored, actual int64
		for _, table := range []string{"counts", "ledger"} {
			for _, r := range all[table] {
				if r[0] == of+1 {
					stored += r[1].(int64)
				}
			}
		}
		for _, r := range all["runs"] {
			if r[user] == of+1 && ended(r) {
				actual++
			}
		}
		if stored != actual {
			return fmt.Errorf("user %d: count %d, runs %d", of+1, stored, actual)
		}
	}
	return nil
}
