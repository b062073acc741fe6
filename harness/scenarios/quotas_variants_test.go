package scenarios

import (
	"context"
	"fmt"
	"math"
	"slices"

	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// These are the parts of quotas as people write them.

// beginLocking is a begin that takes the locks of the bounds that it is given, and then looks.
func beginLocking(locks func(run int64, bounds []bound) []bound, look func(ctx context.Context, s *session, run int64, bounds ...bound) (bool, error)) func(ctx context.Context, s *session, run int64, of whose, key, user, from int64) (bool, error) {
	return func(ctx context.Context, s *session, run int64, of whose, key, user, from int64) (began bool, err error) {
		bounds := boundsOf(of, key, user, from)
		err = inTx(ctx, s, func() error {
			for _, b := range locks(run, bounds) {
				if err := b.of.lock(ctx, s); err != nil {
					return err
				}
			}
			full, err := look(ctx, s, run, bounds...)
			if err != nil || full {
				return err
			}
			began = true
			return insertRunOf(ctx, s, run, of)
		})
		return began, err
	}
}

func allOf(_ int64, bounds []bound) []bound { return bounds }

// keyAlone leaves the user's lock out.
func keyAlone(_ int64, bounds []bound) []bound {
	return slices.DeleteFunc(slices.Clone(bounds), func(b bound) bool { return b.of.flow == 0 })
}

// asNamed takes the locks in the order in which the caller names them, which for every
// other call is the key first.
func asNamed(run int64, bounds []bound) []bound {
	bounds = slices.Clone(bounds)
	if run%2 == 0 {
		slices.Reverse(bounds)
	}
	return bounds
}

// usageInTwo reads the ended runs and the active ones by two statements.
func usageInTwo(ctx context.Context, s *session, _ int64, bounds ...bound) (full bool, err error) {
	for _, b := range bounds {
		used, granted, err := allowanceInTwo(ctx, s, b)
		if err != nil {
			return false, err
		}
		full = full || used >= b.most+granted
	}
	return full, nil
}

// usageActiveFirst reads the active runs before the ended ones: one that ends in between is
// in both.
func usageActiveFirst(ctx context.Context, s *session, _ int64, bounds ...bound) (full bool, err error) {
	for _, b := range bounds {
		active, err := one(ctx, s, b.of.activeSQL(), tables("runs"), b.of.active)
		if err != nil {
			return false, err
		}
		counted, err := one(ctx, s, b.countedSQL(), tables("runs", "counts", "ledger"), b.counted)
		if err != nil {
			return false, err
		}
		full = full || counted+active >= b.most
	}
	return full, nil
}

func allowanceInTwo(ctx context.Context, s *session, b bound) (used, granted int64, err error) {
	counted, err := one(ctx, s, b.countedSQL(), tables("runs", "counts", "ledger"), b.counted)
	if err != nil {
		return 0, 0, err
	}
	rows, err := exec(ctx, s, `select `+b.of.activeSQL()+`, `+b.grantedSQL(), tables("runs", "grants"), nil, func(q *query) error {
		q.Return(b.of.active(q), b.granted(q))
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return counted + rows[0][0].(int64), rows[0][1].(int64), nil
}

// usageOfAllGrants forgets that a grant is of the month in which it was given.
func usageOfAllGrants(ctx context.Context, s *session, _ int64, bounds ...bound) (full bool, err error) {
	for _, b := range bounds {
		ever := bound{of: b.of}
		n, err := one(ctx, s, b.countedSQL()+` + `+b.of.activeSQL()+` - `+ever.grantedSQL(), tables("runs", "counts", "ledger", "grants"), func(q *query) int64 {
			return b.counted(q) + b.of.active(q) - ever.granted(q)
		})
		if err != nil {
			return false, err
		}
		full = full || n >= b.most
	}
	return full, nil
}

// usageAbsorbing has a run that begins above the limit use up the grant, though it is
// counted as well.
func usageAbsorbing(ctx context.Context, s *session, run int64, bounds ...bound) (full bool, err error) {
	if full, err = usage(ctx, s, run, bounds...); err != nil || full {
		return full, err
	}
	by := bounds[0].of.user
	_, err = exec(ctx, s, fmt.Sprintf(`update grants set runs = runs - 1 where user_id = %d and runs > 0`, by), nil, tables("grants"), func(q *query) error {
		_, err := q.Update("grants", func(g row) bool { return g[grantUser] == by && g[grantRuns].(int64) > 0 }, func(g row) row { g[grantRuns] = g[grantRuns].(int64) - 1; return g })
		return err
	})
	return false, err
}

// windowInTwo reads a window month by month.
func windowInTwo(ctx context.Context, s *session, of whose, from, to int64) (int64, error) {
	october, err := windowOf(ctx, s, of, from, november)
	if err != nil {
		return 0, err
	}
	rest, err := windowOf(ctx, s, of, november, to)
	return october + rest, err
}

// grantLookingFirst looks whether the idempotency key has a grant, and then gives it.
func grantLookingFirst(ctx context.Context, s *session, k int64, of whose, runs int64) error {
	n, err := one(ctx, s, fmt.Sprintf(`count(*) from grants where user_id = %d and k = %d`, of.user, k), tables("grants"), func(q *query) int64 {
		return q.Count("grants", func(g row) bool { return g[grantUser] == of.user && g[grantKey] == k })
	})
	if err != nil || n > 0 {
		return err
	}
	return insertGrant(ctx, s, k, of, runs, "", pg.Conflict{})
}

// grantDrawing draws an idempotency key for each try.
func grantDrawing(ctx context.Context, s *session, k int64, of whose, runs int64) error {
	return tried(ctx, s, func() error {
		k++
		return insertGrant(ctx, s, k, of, runs, "", pg.Conflict{})
	})
}

// recountSetting sets the total of the workflow to the sum of its users' counts.
func recountSetting(ctx context.Context, s *session, of whose) error {
	others := fmt.Sprintf(`coalesce((select sum(n) from counts where flow = %d and user_id <> %d), 0)`, of.flow, of.user)
	return recounted(ctx, s, of, fmt.Sprintf(`update totals set n = %s + %s where flow = %d`, others, of.windowSQL(0, math.MaxInt64), of.flow), func(q *query) error {
		mine := of.windowed(q, 0, math.MaxInt64)
		n := mine + sumOf(q.Select("counts", func(r row) bool { return r[1] == of.flow && r[0] != of.user }))
		if _, err := q.Update("totals", col(0, of.flow), func(r row) row { r[1] = n; return r }); err != nil {
			return err
		}
		_, err := q.Update("counts", of.keyed, func(r row) row { r[2] = mine; return r })
		return err
	})
}

// What follows keeps a number for each month of a user, as people do who don't want to
// count runs: months are those of the user's own billing, numbered from 0.

// billing is when a user's month 1 begins.
var billing = map[int64]int64{1: november, 2: 40}

func monthOf(user, at int64) int64 {
	if at >= billing[user] {
		return 1
	}
	return 0
}

func postMonth(ctx context.Context, s *session, of whose, month, d int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`insert into months values (%d, %d, %d, %d)`, of.user, of.flow, month, d), nil, tables("months"), func(q *query) error {
		_, err := q.Insert("months", row{of.user, of.flow, month, d}, pg.Conflict{})
		return err
	})
	return err
}

// windowByMonths sums the numbers of the user's months in a window, for those who have
// runs: it reads these as well, since an order is left out where no statement has
// touched what the other's has, and the truth is that of the runs.
func windowByMonths(ctx context.Context, s *session, of whose, from, to int64) (int64, error) {
	first, last := monthOf(of.user, from), monthOf(of.user, to-1)
	return one(ctx, s, fmt.Sprintf(`coalesce(sum(n), 0)::bigint from months where %s and month between %d and %d and user_id in (select user_id from runs)`, of.sql(), first, last), tables("months", "runs"), func(q *query) (n int64) {
		for _, r := range q.Select("months", func(r row) bool { return of.keyed(r) && r[2].(int64) >= first && r[2].(int64) <= last }) {
			n += r[3].(int64)
		}
		return n
	})
}

// completeByMonths counts a run in the month that which says, unless a presumed outcome was
// counted.
func completeByMonths(which func(r row, at int64) int64) func(ctx context.Context, s *session, run, as, at int64) error {
	return func(ctx context.Context, s *session, run, as, at int64) error {
		return inTx(ctx, s, func() error {
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
			if presumed {
				return unpresume(ctx, s, run)
			}
			if err := postMonth(ctx, s, ofRun(r), monthOf(r[user].(int64), which(r, at)), 1); err != nil {
				return err
			}
			return ofRun(r).post(ctx, s, 1)
		})
	}
}

func itsEnd(_ row, at int64) int64     { return at }
func itsLastSign(r row, _ int64) int64 { return r[updatedAt].(int64) }

// handOverByMonths moves a run from a month of one user to that of the same number of the other.
func handOverByMonths(ctx context.Context, s *session, run, to int64) error {
	return inTx(ctx, s, func() error {
		r, err := lockRunOf(ctx, s, run)
		if err != nil || r == nil {
			return err
		}
		if err := moveRun(ctx, s, run, to); err != nil || !ended(r) {
			return err
		}
		was, is := ofRun(r), whose{to, r[flow].(int64)}
		month := monthOf(was.user, r[completedAt].(int64))
		for _, d := range []struct {
			of whose
			n  int64
		}{{was, -1}, {is, 1}} {
			if err := d.of.post(ctx, s, d.n); err != nil {
				return err
			}
			if err := postMonth(ctx, s, d.of, month, d.n); err != nil {
				return err
			}
		}
		return nil
	})
}
