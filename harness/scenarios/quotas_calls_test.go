package scenarios

import (
	"context"
	"fmt"
	"math"

	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// lock is lock_key: an UPDATE of the key's row, or of that of the user's, where flow is 0.
func (w whose) lock(ctx context.Context, s *session) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update keys set flow = flow where user_id = %d and flow = %d`, w.user, w.flow), nil, tables("keys"), func(q *query) error {
		_, err := q.Update("keys", func(r row) bool { return r[0] == w.user && r[1] == w.flow }, func(r row) row { return r })
		return err
	})
	return err
}

// usage is what begins go by: of each limit how many runs fill it, and whether the run is there.
func usage(ctx context.Context, s *session, run int64, bounds ...bound) (full bool, err error) {
	text := fmt.Sprintf(`select (select count(*) from runs where id = %d)`, run)
	for _, b := range bounds {
		text += `, ` + b.countedSQL() + ` + ` + b.of.activeSQL() + ` - ` + b.grantedSQL()
	}
	rows, err := exec(ctx, s, text, tables("runs", "counts", "ledger", "grants"), nil, func(q *query) error {
		values := []any{q.Count("runs", col(id, run))}
		for _, b := range bounds {
			values = append(values, b.counted(q)+b.of.active(q)-b.granted(q))
		}
		q.Return(values...)
		return nil
	})
	if err != nil {
		return false, err
	}
	full = rows[0][0].(int64) > 0
	for i, b := range bounds {
		full = full || rows[0][i+1].(int64) >= b.most
	}
	return full, nil
}

// boundsOf are the limits of a call: of the key and of its user, each where it is not 0.
func boundsOf(of whose, key, user, from int64) (bounds []bound) {
	if user > 0 {
		bounds = append(bounds, bound{whose{user: of.user}, user, from})
	}
	if key > 0 {
		bounds = append(bounds, bound{of, key, from})
	}
	return bounds
}

// beginUnder takes all locks, the user's first, then looks at all limits in one statement.
func beginUnder(ctx context.Context, s *session, run int64, of whose, key, user, from int64) (began bool, err error) {
	bounds := boundsOf(of, key, user, from)
	return began, tried(ctx, s, func() error {
		began = false
		for _, b := range bounds {
			if err := b.of.lock(ctx, s); err != nil {
				return err
			}
		}
		full, err := usage(ctx, s, run, bounds...)
		if err != nil || full {
			return err
		}
		began = true
		return insertRunOf(ctx, s, run, of)
	})
}

func insertRunOf(ctx context.Context, s *session, run int64, of whose) error {
	_, err := exec(ctx, s, fmt.Sprintf(`insert into runs values (%d, %d, 0, null, %d, %d)`, run, of.user, present, of.flow), nil, tables("runs"), func(q *query) error {
		_, err := q.Insert("runs", row{run, of.user, pending, nil, present, of.flow}, pg.Conflict{})
		return err
	})
	return err
}

func lockRunOf(ctx context.Context, s *session, run int64) (row, error) {
	rows, err := exec(ctx, s, fmt.Sprintf(`select * from runs where id = %d for no key update`, run), nil, tables("runs"), func(q *query) error {
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

// ofRun is the key of a run.
func ofRun(r row) whose { return whose{r[user].(int64), r[flow].(int64)} }

func (w whose) post(ctx context.Context, s *session, d int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`insert into ledger values (%d, %d, %d)`, w.user, w.flow, d), nil, tables("ledger"), func(q *query) error {
		_, err := q.Insert("ledger", row{w.user, w.flow, d}, pg.Conflict{})
		return err
	})
	return err
}

func completeOf(ctx context.Context, s *session, run, as, at int64) error {
	return tried(ctx, s, func() error {
		r, err := lockRunOf(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		presumed, err := isPresumed(ctx, s, r)
		if err != nil || ended(r) && !presumed {
			return err
		}
		if err := setRun(ctx, s, run, as, at); err != nil {
			return err
		}
		if presumed { // it is counted already; in which month its row says
			return unpresume(ctx, s, run)
		}
		return ofRun(r).post(ctx, s, 1)
	})
}

func sweepOf(ctx context.Context, s *session) error {
	return tried(ctx, s, func() error {
		rows, err := exec(ctx, s, `select * from runs where status < 2 and updated_at + 5 <= 100 for no key update skip locked`, nil, tables("runs"), func(q *query) error {
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
			if err := ofRun(r).post(ctx, s, 1); err != nil {
				return err
			}
		}
		return nil
	})
}

func handOverOf(ctx context.Context, s *session, run, to int64) error {
	return inTx(ctx, s, func() error {
		r, err := lockRunOf(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		if err := moveRun(ctx, s, run, to); err != nil || !ended(r) {
			return err
		}
		if err := ofRun(r).post(ctx, s, -1); err != nil {
			return err
		}
		return whose{to, r[flow].(int64)}.post(ctx, s, 1)
	})
}

func removeOf(ctx context.Context, s *session, run int64) error {
	return inTx(ctx, s, func() error {
		rows, err := exec(ctx, s, fmt.Sprintf(`delete from runs where id = %d returning *`, run), nil, tables("runs"), func(q *query) error {
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
		return ofRun(rows[0]).post(ctx, s, -1)
	})
}

// reopenOf is an administrator's decision that a run goes on.
func reopenOf(ctx context.Context, s *session, run int64) error {
	return tried(ctx, s, func() error {
		r, err := lockRunOf(ctx, s, run)
		if err != nil || r == nil || !ended(r) {
			return err
		}
		if err := setRun(ctx, s, run, running, nil); err != nil {
			return err
		}
		if err := unpresume(ctx, s, run); err != nil {
			return err
		}
		return ofRun(r).post(ctx, s, -1)
	})
}

// foldOf moves a key's ledger into its count and the total of its workflow.
func foldOf(ctx context.Context, s *session, of whose) error {
	return tried(ctx, s, func() error {
		rows, err := exec(ctx, s, `select user_id from keys where `+of.sql()+` for update skip locked`, nil, tables("keys"), func(q *query) error {
			rows, err := q.ForUpdate("keys", pg.SkipLocked, of.keyed)
			for _, r := range rows {
				q.Return(r[0])
			}
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		const gone = `coalesce((select sum(d) from gone), 0)`
		_, err = exec(ctx, s, fmt.Sprintf(`with gone as (delete from ledger where %s returning d), folded as (update counts set n = n + %s where %s) update totals set n = n + %s where flow = %d`, of.sql(), gone, of.sql(), gone, of.flow),
			nil, tables("ledger", "counts", "totals"), func(q *query) error {
				rows, err := q.Delete("ledger", of.keyed)
				if err != nil {
					return err
				}
				return move(q, of, func(int64) int64 { return sumOf(rows) })
			})
		return err
	})
}

// move adds a difference, made of the count that there was, to a key's count and to the total.
func move(q *query, of whose, difference func(was int64) int64) error {
	d := difference(sumOf(q.Select("counts", of.keyed)))
	if _, err := q.Update("totals", col(0, of.flow), func(r row) row { r[1] = r[1].(int64) + d; return r }); err != nil {
		return err
	}
	_, err := q.Update("counts", of.keyed, func(r row) row { r[2] = r[2].(int64) + d; return r })
	return err
}

// recountOf sets a key's count, and adds the difference to the total of its workflow.
func recountOf(ctx context.Context, s *session, of whose) error {
	return recounted(ctx, s, of, fmt.Sprintf(`update totals set n = n + %s - (select n from counts where %s) where flow = %d`, of.windowSQL(0, math.MaxInt64), of.sql(), of.flow),
		func(q *query) error {
			return move(q, of, func(was int64) int64 { return of.windowed(q, 0, math.MaxInt64) - was })
		})
}

// recounted locks a key, and in one statement counts its runs, drops its ledger and does what total says.
func recounted(ctx context.Context, s *session, of whose, total string, do func(q *query) error) error {
	return tried(ctx, s, func() error {
		if err := of.lock(ctx, s); err != nil {
			return err
		}
		_, err := exec(ctx, s, fmt.Sprintf(`with gone as (delete from ledger where %[1]s), counted as (update counts set n = %[2]s where %[1]s) %[3]s`, of.sql(), of.windowSQL(0, math.MaxInt64), total),
			tables("runs"), tables("ledger", "counts", "totals"), func(q *query) error {
				if err := do(q); err != nil {
					return err
				}
				_, err := q.Delete("ledger", of.keyed)
				return err
			})
		return err
	})
}

// grantOnce gives runs, or finds that an earlier call has.
func grantOnce(ctx context.Context, s *session, k int64, of whose, runs int64) error {
	return tried(ctx, s, func() error {
		return insertGrant(ctx, s, k, of, runs, ` on conflict (user_id, k) do nothing`, pg.Conflict{DoNothing: true})
	})
}

func insertGrant(ctx context.Context, s *session, k int64, of whose, runs int64, text string, conflict pg.Conflict) error {
	_, err := exec(ctx, s, fmt.Sprintf(`insert into grants values (%d, %d, %d, %d, %d, false)%s`, of.user, k, of.flow, runs, present, text), nil, tables("grants"), func(q *query) error {
		_, err := q.Insert("grants", row{of.user, k, of.flow, runs, present, false}, conflict)
		return err
	})
	return err
}

func revokeGrant(ctx context.Context, s *session, by, k int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update grants set revoked = true where user_id = %d and k = %d and not revoked`, by, k), nil, tables("grants"), func(q *query) error {
		_, err := q.Update("grants", func(g row) bool { return g[grantUser] == by && g[grantKey] == k && !g[grantRevoked].(bool) },
			func(g row) row { g[grantRevoked] = true; return g })
		return err
	})
	return err
}

// one asks for a number.
func one(ctx context.Context, s *session, text string, reads []string, do func(q *query) int64) (int64, error) {
	rows, err := exec(ctx, s, `select `+text, reads, nil, func(q *query) error { q.Return(do(q)); return nil })
	if err != nil {
		return 0, err
	}
	return rows[0][0].(int64), nil
}

// countOf reads the counts and the ledger, and where no user is named the total and the
// ledger, in one statement.
func countOf(ctx context.Context, s *session, of whose) (int64, error) {
	if of.user == 0 {
		text := fmt.Sprintf(`(coalesce((select n from totals where flow = %[1]d), 0) + coalesce((select sum(d) from ledger where flow = %[1]d), 0))::bigint`, of.flow)
		return one(ctx, s, text, tables("totals", "ledger"), func(q *query) int64 {
			return sum(q.Select("totals", col(0, of.flow))) + sumOf(q.Select("ledger", of.keyed))
		})
	}
	return one(ctx, s, of.storedSQL(), tables("counts", "ledger"), of.stored)
}

func windowOf(ctx context.Context, s *session, of whose, from, to int64) (int64, error) {
	return one(ctx, s, of.windowSQL(from, to), tables("runs"), func(q *query) int64 { return of.windowed(q, from, to) })
}

// allowanceOf reads how far a limit is used, and by how much it is raised, in one statement.
func allowanceOf(ctx context.Context, s *session, b bound) (used, granted int64, err error) {
	rows, err := exec(ctx, s, `select `+b.countedSQL()+` + `+b.of.activeSQL()+`, `+b.grantedSQL(), tables("runs", "counts", "ledger", "grants"), nil, func(q *query) error {
		q.Return(b.counted(q)+b.of.active(q), b.granted(q))
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return rows[0][0].(int64), rows[0][1].(int64), nil
}
