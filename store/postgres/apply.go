package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Apply implements [store.Store]. A change is a hint to look: the rows are read
// as they are now, and almost always nothing is left to do, in one round trip
// and without a lock. Where a row is inconsistent, or has lost an outcome that
// a change shows, it is repaired under its lock.
//
// Rows that another transaction holds are repaired one by one: a transaction that
// waits for a lock here holds no other, so a user's statement never meets us in a circle.
// A repair is therefore committed by itself, and may be, where another fails;
// to apply the changes again is safe and finishes it.
func (s *Store) Apply(ctx context.Context, changes []store.Change, received time.Time) (applied []store.ApplyResult, err error) {
	claims := claimsOf(changes, store.Instant(received))
	err = s.attempt(ctx, func(db features) error {
		looked := snapshot{db: db, claims: claims, hooks: s.hooks, now: store.Instant(received)}
		if err := s.read(ctx, &looked, changes); err != nil {
			return err
		}
		fixed := map[store.ID]bool{}
		broken, err := s.candidates(ctx, looked)
		if err != nil {
			return err
		}
		if len(broken) > 0 {
			if err := s.repair(ctx, looked, broken, fixed); err != nil {
				return err
			}
			if err := s.read(ctx, &looked, changes); err != nil {
				return err
			}
		}
		if err := s.readMore(ctx, &looked); err != nil {
			return err
		}
		applied = looked.answer(changes, fixed)
		return nil
	})
	return applied, err
}

// claimsOf returns what changes say of their runs' outcomes, joined as a mirror
// does: by evidence, in whatever order they came.
func claimsOf(changes []store.Change, received time.Time) map[store.ID]store.Claim {
	states := make(map[store.ID]store.State, len(changes))
	for _, c := range changes {
		if c.Op == store.Delete {
			continue // what was deleted is not in the table; what is there was not deleted
		}
		id := c.ID()
		state, known := states[id]
		if !known {
			state.ID = id
		}
		states[id] = state.Learn(c, received)
	}
	claims := make(map[store.ID]store.Claim, len(states))
	for id, state := range states {
		claims[id] = state.Outcome
	}
	return claims
}

// found is a row as it is now, with what decides about it.
type found struct {
	row      store.Row
	presumed bool
	reports  bool      // the guard only reports: who overwrites an outcome may do so
	reopened time.Time // when an administrator last re-opened it
	seen     time.Time // when its times, all still to come, were first seen
}

// snapshot holds the rows and counts that a batch of changes is about, as they
// are in the database now.
type snapshot struct {
	db      features
	claims  map[store.ID]store.Claim
	hooks   hooks
	now     time.Time
	rows    map[store.ID]store.Row // as far as [features.snapshotSQL] reads them
	policy  store.Policy
	asked   map[store.Key]bool // whose tallies were read
	tallies map[store.Key]store.Tallies
}

// snapshotSQL reads of rows what says whether there is anything to do, and whose
// they are. Nearly all of them are in order, and only this is read of them.
func (h features) snapshotSQL() string {
	return `select 'run', r.id, r.user_id, r.workflow_id, r.draft_id, r.status::text, r.completed_at, '', null::` + h.ref + `, false, 0::bigint
  from ` + h.keyed() + ` as r
 where r.id = any ($1::` + h.id + `[])`
}

// candidatesSQL reads rows with what decides about them.
func (h features) candidatesSQL() string {
	reopened := `null::timestamptz`
	if h.installed {
		reopened = `(select max(a.at) from run_counter.amendments as a where a.run_id = r.id and a.status in ('pending', 'running', 'cancelling'))`
	}
	return `select ` + rowSQL + `, ` + h.presumedColumn() + `, ` + h.reports() + `, ` + reopened + `
  from ` + h.rows() + ` as r
 where r.id = any ($1::` + h.id + `[])`
}

func scanFound(db features, rows pgx.Row) (f found, err error) {
	err = db.scanRow(rows, &f.row, &f.presumed, &f.reports, (*instant)(&f.reopened))
	return f, err
}

// read reads the rows by [features.snapshotSQL], and the counts of the keys that
// the changes name.
func (s *Store) read(ctx context.Context, l *snapshot, changes []store.Change) error {
	l.rows = make(map[store.ID]store.Row, len(changes))
	l.tallies = make(map[store.Key]store.Tallies, len(changes))
	ids := make([]*string, 0, len(changes))
	seen := make(map[store.ID]bool, len(changes))
	l.asked = make(map[store.Key]bool, len(changes))
	for _, c := range changes {
		if id := c.ID(); !seen[id] {
			seen[id] = true
			ids = append(ids, l.db.arg(watched.ID, id))
		}
		for _, key := range c.Keys() {
			l.asked[key] = true
		}
	}
	keys := slices.Collect(maps.Keys(l.asked))
	if l.db.installed {
		return send(ctx, s.pool, query{
			text: `select * from run_counter.look($1::` + l.db.id + `[], $2::` + l.db.user + `[], $3::text[], $4::` + l.db.ref + `[])`,
			args: append([]any{ids}, l.db.keyArrays(keys)...),
			read: l.scan,
		})
	}
	return s.snapshot(ctx,
		query{text: l.db.snapshotSQL(), args: []any{ids}, read: l.scan},
		s.policyFor(l.db, &l.policy),
		talliesQuery(l.db, keys, l.tallies),
	)
}

// scan reads a row of run_counter.look: a run, a count of a key, or the policy.
func (l *snapshot) scan(rows pgx.Rows) (err error) {
	var (
		what string
		r    store.Row
		key  store.Key
		n    ended
	)
	if err := rows.Scan(&what, (*anyID)(&r.ID), (*anyID)(&r.User), (*anyID)(&r.Workflow), (*anyID)(&r.Draft), (*text)(&r.Status), (*instant)(&r.CompletedAt),
		(*text)(&key.Kind), (*keyID)(&key.Ref), &n.Presumed, &n.N); err != nil {
		return err
	}
	l.db.fill(&r) // and so whose count it is
	switch what {
	case "run":
		l.rows[r.ID] = r
	case "count":
		key.User, n.Status = r.User, r.Status
		t := l.tallies[key]
		n.AddTo(&t)
		l.tallies[key] = t
	case "policy":
		l.policy, err = parsePolicy(string(r.Status))
	}
	return err
}

// readMore reads the counts of keys that rows have now and no change named.
func (s *Store) readMore(ctx context.Context, l *snapshot) error {
	var more []store.Key
	for _, row := range l.rows {
		if key := row.Key(); !key.IsZero() && !l.asked[key] {
			l.asked[key] = true
			more = append(more, key)
		}
	}
	if len(more) == 0 {
		return nil
	}
	return send(ctx, s.pool, talliesQuery(l.db, more, l.tallies))
}

// candidates returns the runs that need a repair, in order. The
// snapshot shows of nearly all that they don't.
func (s *Store) candidates(ctx context.Context, l snapshot) ([]store.ID, error) {
	var suspects []*string
	for id, row := range l.rows {
		claim := l.claims[id]
		o, seen := claim.Outcome, claim.Evidence > store.Presumed
		switch {
		case row.Ended():
			if seen && (o.Status != row.Status || !o.CompletedAt.Equal(row.CompletedAt)) {
				suspects = append(suspects, l.db.arg(watched.ID, id)) // it may be presumed
			}
		case row.Status.Terminal(), row.Status.Active() && (seen || !row.CompletedAt.IsZero()):
			suspects = append(suspects, l.db.arg(watched.ID, id))
		}
	}
	if len(suspects) == 0 {
		return nil, nil
	}
	var ids []store.ID
	err := send(ctx, s.pool, query{text: l.db.candidatesSQL(), args: []any{suspects}, read: func(rows pgx.Rows) error {
		f, err := scanFound(l.db, rows)
		if _, needed := l.plan(f); needed && err == nil {
			ids = append(ids, f.row.ID)
		}
		return err
	}})
	slices.SortFunc(ids, store.ID.Compare)
	return ids, err
}

// plan decides about one row.
func (l *snapshot) plan(f found) (repair, bool) {
	claim := l.claims[f.row.ID]
	o := claim.Outcome
	if !f.reports && claim.Evidence > store.Presumed && (f.reopened.IsZero() || o.CompletedAt.After(f.reopened)) {
		// Told of a presumed outcome that it had ended just so: that was the
		// sweep's own update.
		same := o.Status == f.row.Status && o.CompletedAt.Equal(f.row.CompletedAt)
		if f.row.Status.Active() || f.presumed && !same {
			after := f.row
			after.Status, after.CompletedAt, after.DurationMS = o.Status, o.CompletedAt, o.DurationMS
			after.ErrorDetails = o.ErrorDetails
			return repair{reason: store.OutcomeLost, found: f, after: after}, true
		}
	}
	after, reason := l.hooks.repair(f.row)
	if reason == store.NoTime || reason == store.Overwritten && !f.reports { // then a sweep looks whether it is silent
		return repair{reason: reason, found: f, after: after, presumed: reason == store.Overwritten}, true
	}
	return repair{}, false
}

// repair repairs the rows that no other transaction holds in one transaction, and
// each of the others in its own.
func (s *Store) repair(ctx context.Context, l snapshot, broken []store.ID, fixed map[store.ID]bool) error {
	missed := map[store.ID]bool{}
	for _, id := range broken {
		missed[id] = true
	}
	fix := func(ids []store.ID, lock string) error {
		var done []store.Repaired
		err := s.write(ctx, func(tx pgx.Tx) error {
			repairs, err := l.lock(ctx, tx, ids, lock, missed)
			if err != nil {
				return err
			}
			done, err = s.repairAll(ctx, tx, l.db, repairs, l.now)
			return err
		})
		for _, r := range done {
			fixed[r.Before.ID] = err == nil && r.Refused == ""
		}
		return err
	}
	if err := fix(broken, "for no key update of r skip locked"); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	for _, id := range broken {
		if missed[id] {
			if err := fix([]store.ID{id}, "for no key update of r"); err != nil {
				return fmt.Errorf("repair run %s: %w", id, err)
			}
		}
	}
	return nil
}

// lock locks rows, reads them in the next statement, and decides again. Rows
// that are not had stay among the missed.
func (l snapshot) lock(ctx context.Context, tx pgx.Tx, ids []store.ID, lock string, missed map[store.ID]bool) ([]repair, error) {
	id := l.db.table.Col("r", watched.ID)
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	locked := make(map[store.ID]bool, len(ids))
	var repairs []repair
	err := send(ctx, tx,
		query{
			text: `select ` + id + ` from ` + l.db.table.SQL() + ` as r where ` + id + ` = any ($1::` + l.db.id + `[]) order by ` + id + ` ` + lock,
			args: []any{texts},
			read: func(rows pgx.Rows) error {
				var id store.ID
				err := rows.Scan((*anyID)(&id))
				locked[id] = true
				return err
			},
		},
		query{text: l.db.candidatesSQL(), args: []any{texts}, read: func(rows pgx.Rows) error {
			f, err := scanFound(l.db, rows)
			if err != nil || !locked[f.row.ID] {
				return err
			}
			delete(missed, f.row.ID)
			if r, needed := l.plan(f); needed {
				repairs = append(repairs, r)
			}
			return nil
		}})
	return repairs, err
}

// answer says for each change whether it led to a repair, and the counts of
// its keys.
func (l *snapshot) answer(changes []store.Change, fixed map[store.ID]bool) []store.ApplyResult {
	applied := make([]store.ApplyResult, len(changes))
	for i, c := range changes {
		keys := c.Keys()
		if row, ok := l.rows[c.ID()]; ok {
			if key := row.Key(); !key.IsZero() && !slices.Contains(keys, key) {
				keys = append(keys, key)
				slices.SortFunc(keys, store.Key.Compare)
			}
		}
		for _, key := range keys {
			t := l.tallies[key]
			applied[i].Counts = append(applied[i].Counts, store.Count{Key: key, Count: l.policy.Count(t), Tallies: t})
		}
		if fixed[c.ID()] {
			applied[i].Changed = true
			delete(fixed, c.ID()) // the first change that names a run is the one that said so
		}
	}
	return applied
}
