package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// Begin implements [store.Store].
func (s *Store) Begin(ctx context.Context, b store.Begin) (begun store.BeginResult, err error) {
	if err := b.Validate(); err != nil {
		return begun, err
	}
	b.Now = store.Instant(b.Now)
	err = s.write(ctx, func(t *tx) error {
		known, err := t.findBegun(b)
		if err != nil {
			return err
		}
		begun = store.BeginResult{}
		policy, err := t.policyInForce()
		if err != nil {
			return err
		}
		begun.Usages, err = t.rules.usages(t.ctx, t.tx, policy, asked{key: b.Key(), limits: b.Limits, now: b.Now, begins: true, found: known != nil})
		if err != nil {
			return err
		}
		if known != nil {
			if err := t.keepIdempotencyKey(b, known.ID); err != nil {
				return err
			}
			begun.Run, err = t.run(*known)
			return err
		}
		if slices.ContainsFunc(begun.Usages, t.rules.full) {
			begun.LimitReached = true
			return nil
		}
		state := store.State{ID: b.ID}.Learn(store.Change{Op: store.Insert, Record: store.Row{
			ID: b.ID, User: b.User, Workflow: b.Workflow, Draft: b.Draft, Status: store.Pending,
			CreatedAt: b.Now, UpdatedAt: b.Now,
		}}, b.Now)
		if err := t.save(store.State{}, state, false); err != nil {
			return err
		}
		if err := t.keepIdempotencyKey(b, b.ID); err != nil {
			return err
		}
		begun.Created = true
		for i := range begun.Usages {
			begun.Usages[i].Active++
		}
		if err := t.markLimits(b, begun.Usages); err != nil {
			return err
		}
		begun.Run, err = t.run(state)
		return err
	})
	return begun, err
}

// keepIdempotencyKey lets later calls with the key find the run.
func (t *tx) keepIdempotencyKey(b store.Begin, run store.ID) error {
	if b.IdempotencyKey == "" {
		return nil
	}
	return t.execText(fmt.Sprintf("keep the idempotency key of run %s", run),
		`insert into idempotency_keys (user_id, idempotency_key, run_id) values (?, ?, ?) on conflict do nothing`,
		b.User.String(), b.IdempotencyKey, run.String())
}

// findBegun returns the run that an earlier call with the same idempotency key
// or id created, or nil.
func (t *tx) findBegun(b store.Begin) (*store.State, error) {
	id := b.ID
	if b.IdempotencyKey != "" {
		err := t.tx.QueryRowContext(t.ctx, `select run_id from idempotency_keys where user_id = ? and idempotency_key = ?`,
			b.User.String(), b.IdempotencyKey).Scan(&id)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("look up an idempotency key: %w", err)
		}
	}
	state, exists, err := t.load(id)
	switch {
	case err != nil:
		return nil, err
	case !state.DeletedAt.IsZero():
		return nil, fmt.Errorf("%w: run %s was deleted, and a deleted run is never brought back; begin with another id or idempotency key", store.ErrConflict, id)
	case !exists:
		return nil, nil
	case state.Row().Key() != b.Key():
		return nil, fmt.Errorf("%w: run %s is that of %s; begin with another id or idempotency key", store.ErrConflict, id, state.Row().Key())
	}
	return &state, nil
}

// Start implements [store.Store].
func (s *Store) Start(ctx context.Context, id store.ID, at time.Time) (run store.Run, err error) {
	at = store.Instant(at)
	err = s.write(ctx, func(t *tx) error {
		state, err := t.loadKnown(id)
		if err != nil {
			return err
		}
		if state.Row().Status == store.Pending {
			was := state
			state = state.Join(rewritten(state, store.Running, at, at))
			if err := t.save(was, state, true); err != nil {
				return err
			}
		}
		run, err = t.run(state)
		return err
	})
	return run, err
}

// rewritten returns the state of a run to which our own call writes an active
// status: it is always the last word so far, whatever clock wrote the one before.
func rewritten(s store.State, status store.Status, started, at time.Time) store.State {
	v := s.Last.Value()
	v.Status = status
	asOf := store.NotBefore(s.Last.At, at)
	return store.State{
		ID:        s.ID,
		StartedAt: started,
		UpdatedAt: at,
		Last:      store.Register{Version: s.Last.Version, At: asOf, Heads: []store.View{v}},
	}
}

// Complete implements [store.Store].
func (s *Store) Complete(ctx context.Context, c store.Completion) (result store.CompleteResult, err error) {
	if err := c.Validate(); err != nil {
		return result, err
	}
	c.Now, c.Outcome.CompletedAt = store.Instant(c.Now), store.Instant(c.Outcome.CompletedAt)
	err = s.write(ctx, func(t *tx) error {
		state, err := t.loadKnown(c.ID)
		if err != nil {
			return err
		}
		result = store.CompleteResult{Won: t.rules.open(state)}
		if result.Won {
			if state, err = t.complete(state, c); err != nil {
				return err
			}
		}
		if key := state.Row().Key(); !key.IsZero() {
			if result.Count, err = t.count(key); err != nil {
				return err
			}
		}
		result.Run, err = t.run(state)
		return err
	})
	return result, err
}

func (t *tx) complete(state store.State, c store.Completion) (store.State, error) {
	o := c.Outcome
	if o.CompletedAt.IsZero() {
		o.CompletedAt = store.EndOf(state.Row(), c.Now, state.ReopenedAt)
	}
	o.CompletedAt = store.NotBefore(state.ReopenedAt, o.CompletedAt) // what was claimed up to then is void
	o = store.Supersede(state.Row(), state.Presumed(), o)
	snapshot := o.Snapshot
	o.Snapshot = "" // kept apart
	was := state
	state = t.rules.join(state, store.State{
		ID: state.ID, UpdatedAt: c.Now, Last: state.Last,
		Outcome: store.Claim{Evidence: store.Confirmed, Outcome: o},
	})
	if err := t.save(was, state, true); err != nil {
		return state, err
	}
	if snapshot == "" {
		return state, nil
	}
	return state, t.execText(fmt.Sprintf("keep the snapshot of run %s", c.ID), `
insert into snapshots (run_id, state_snapshot) values (?1, ?2)
on conflict (run_id) do update set state_snapshot = ?2`, c.ID.String(), string(snapshot))
}

// Amend implements [store.Store].
func (s *Store) Amend(ctx context.Context, a store.AmendRequest) (run store.Run, err error) {
	if err := a.Validate(); err != nil {
		return run, err
	}
	a.Now = store.Instant(a.Now)
	err = s.write(ctx, func(t *tx) error {
		state, err := t.loadKnown(a.ID)
		if err != nil {
			return err
		}
		was := state.Row()
		if was.Status != a.Status || state.Presumed() {
			if state, err = t.amend(state, a); err != nil {
				return err
			}
			if err := t.logAmendment(was, a); err != nil {
				return err
			}
		}
		run, err = t.run(state)
		return err
	})
	return run, err
}

func (t *tx) amend(state store.State, a store.AmendRequest) (store.State, error) {
	delta := store.State{ID: state.ID, UpdatedAt: a.Now, Last: state.Last}
	last := state.Outcome // an amendment outranks everything, an earlier one included
	at := store.NotBefore(state.ReopenedAt, store.NotBefore(last.AmendedAt, a.Now))
	if a.Status.Terminal() {
		o := last.Outcome
		o.Status = a.Status
		if !state.Ended() {
			o.CompletedAt = store.EndOf(state.Row(), a.Now, state.ReopenedAt)
		}
		delta.Outcome = store.Claim{Evidence: store.Amended, AmendedAt: at, Outcome: o}
	} else {
		delta = rewritten(state, a.Status, time.Time{}, a.Now)
		if state.Ended() {
			if last.Outcome.CompletedAt.After(at) {
				return state, fmt.Errorf("%w: run %s ended at %s, which is still to come, and what ends up to then would be void; amend it to an outcome instead",
					store.ErrInvalid, a.ID, last.Outcome.CompletedAt.Format(time.RFC3339))
			}
			delta.ReopenedAt = at
			if err := t.execText(fmt.Sprintf("re-open run %s", a.ID), `delete from snapshots where run_id = ?`, a.ID.String()); err != nil {
				return state, err
			}
		}
	}
	was := state
	state = state.Join(delta)
	return state, t.save(was, state, true)
}

func (t *tx) logAmendment(was store.Row, a store.AmendRequest) error {
	return t.execText(fmt.Sprintf("log the amendment of run %s", a.ID), `
insert into amendments (run_id, at, who, why, was, was_completed_at, status) values (?, ?, ?, ?, ?, ?, ?)`,
		a.ID.String(), a.Now.UnixMicro(), a.Who, a.Why, string(was.Status), nullTime(was.CompletedAt), string(a.Status))
}

// loadKnown returns a run that exists.
func (t *tx) loadKnown(id store.ID) (store.State, error) {
	state, exists, err := t.load(id)
	if err == nil && !exists {
		err = notFound(id)
	}
	return state, err
}

func notFound(id store.ID) error { return fmt.Errorf("run %s: %w", id, store.ErrNotFound) }

// Run implements [store.Store].
func (s *Store) Run(ctx context.Context, id store.ID) (run store.Run, err error) {
	err = s.withPolicy(ctx, func(q querier, policy store.Policy) error {
		_, e, err := scanEntry(q.QueryRowContext(ctx, loadSQL, jsonList(id.String())))
		if err != nil {
			return fmt.Errorf("load run %s: %w", id, err)
		}
		if !e.exists {
			return notFound(id)
		}
		run, err = makeRun(ctx, q, e.state, policy)
		return err
	})
	return run, err
}

func (t *tx) run(state store.State) (store.Run, error) {
	policy, err := t.policyInForce()
	if err != nil {
		return store.Run{}, err
	}
	return makeRun(t.ctx, t.tx, state, policy)
}

func makeRun(ctx context.Context, q querier, state store.State, policy store.Policy) (store.Run, error) {
	r := asRun(state, policy)
	if !r.Ended() {
		return r, nil
	}
	var snapshot sql.NullString
	err := q.QueryRowContext(ctx, `select state_snapshot from snapshots where run_id = ?`, r.ID.String()).Scan(&snapshot)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("load the snapshot of run %s: %w", r.ID, err)
	}
	r.Snapshot = store.JSON(snapshot.String)
	return r, nil
}

// asRun is makeRun without the snapshot.
func asRun(state store.State, policy store.Policy) store.Run {
	r := store.Run{Row: state.Row(), Presumed: state.Presumed()}
	r.Counted = r.CountsUnder(policy)
	return r
}
