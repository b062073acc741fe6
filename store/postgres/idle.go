package postgres

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// guard says whether the database keeps first outcomes by itself, or only reports what
// becomes of them, as each sweep and each ping see it: when that was last seen, in
// nanoseconds, and 0 where it is not so.
type guard struct{ seen atomic.Int64 }

// guardKnownFor is the time for which that is believed after it was seen so. Where
// it was switched off meanwhile, a change that takes back an outcome shows that
// as its old_record, which is never in order, and is repaired; what can be missed
// is the outcome of a run whose overwriting was told by no webhook, and only in
// that while.
const guardKnownFor = 2 * time.Minute

// Idle reports, without asking the database, whether a change leaves it nothing
// to do: the guard is not off, and the change shows a row in order. The ledger has
// counted it in the transaction that made it.
func (s *Store) Idle(c store.Change) bool {
	seen := s.guard.seen.Load()
	return seen != 0 && time.Since(time.Unix(0, seen)) < guardKnownFor && store.InOrder(c)
}

// readGuard looks whether the guard is on or reports: where it can't be seen, it
// is off.
func (s *Store) readGuard(ctx context.Context, db features, now time.Time) {
	var on bool
	if db.installed {
		err := s.pool.QueryRow(ctx, `
select (select g.guard <> 'off' from run_counter.settings as g)
   and (select count(*) = 2 from pg_trigger as t
         where t.tgrelid = `+regclass(db.table)+` and t.tgname in ('zzzz_run_counter_guard', 'zzzz_run_counter_guard_insert')
           and t.tgenabled in ('O', 'A') and t.tgfoid = to_regproc('run_counter.guard'))`).Scan(&on)
		on = on && err == nil
	}
	if !on {
		s.guard.seen.Store(0)
		return
	}
	s.guard.seen.Store(now.UnixNano())
}
