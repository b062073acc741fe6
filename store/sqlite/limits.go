package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// asked is a question for the usages of limits. To answer whether a run may begin, a
// look at a window reads no more runs than fill it.
type asked struct {
	key    store.Key // with a user alone where no limit is of the key
	limits []store.Limit
	now    time.Time
	begins bool
	found  bool // by a begin that was repeated: a limit whose window has no index any more is left out
}

// usages returns how far limits are used, in the snapshot of q.
func (h *hooks) usages(ctx context.Context, q querier, policy store.Policy, a asked) ([]store.Usage, error) {
	if len(a.limits) == 0 {
		return nil, nil
	}
	grants, err := list(ctx, q, fmt.Sprintf("read the grants of user %s", a.key.User.Shown()), h.standing, []any{a.key.User.String(), a.now.UnixMicro()}, scanGrants)
	if err != nil {
		return nil, err
	}
	usages := make([]store.Usage, 0, len(a.limits))
	for _, l := range a.limits {
		u := store.Usage{Limit: l}
		l.From = store.Instant(l.From)
		for _, g := range grants {
			if h.raises(g, l, a.key, a.now) {
				u.Granted += g.Runs
			}
		}
		of := h.scope(l, a.key)
		if u.Active, err = activeRuns(ctx, q, of); err != nil {
			return nil, err
		}
		u.Counted, err = h.countedRuns(ctx, q, policy, of, u, a.begins)
		if _, missing := errors.AsType[*store.NoIndexError](err); missing && a.found {
			continue
		}
		if err != nil {
			return nil, err
		}
		usages = append(usages, u)
	}
	return usages, nil
}

// countedRuns counts the ended runs of the scope of a limit, since its From where it has
// one. Where a run is to begin, a look at a window stops at those that fill the limit.
func (h *hooks) countedRuns(ctx context.Context, q querier, policy store.Policy, of store.Scope, u store.Usage, begins bool) (n int64, err error) {
	in := store.Window{From: store.Instant(u.Limit.From)}
	if in == store.AllTime || !begins {
		t, err := h.tallies(ctx, q, of, in)
		return policy.Count(t), err
	}
	by, w, err := windowRuns(ctx, q, of, in)
	if err != nil {
		return 0, err
	}
	w.countsUnder(policy)
	err = q.QueryRowContext(ctx, `select count(*) from (select 1 from workflow_runs`+by+w.String()+` limit ?)`, append(w.args, u.Ceiling())...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", of, err)
	}
	return n, nil
}

// activeRuns counts the runs of a scope that hold a slot without having ended, those
// with an unknown status included.
func activeRuns(ctx context.Context, q querier, of store.Scope) (n int64, err error) {
	w := ofScope(of)
	w.add("completed_at is null")
	err = q.QueryRowContext(ctx, `select count(*) from workflow_runs`+w.String(), w.args...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the active runs of %s: %w", of, err)
	}
	return n, nil
}

// Allowance implements [store.Store].
func (s *Store) Allowance(ctx context.Context, a store.AllowanceRequest) (usages []store.Usage, err error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	err = s.withPolicy(ctx, func(q querier, policy store.Policy) (err error) {
		usages, err = s.hooks.usages(ctx, q, policy, asked{key: a.Key(), limits: a.Limits, now: store.Instant(a.Now)})
		return err
	})
	return usages, err
}
