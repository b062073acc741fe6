package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
)

// Policy returns the policy in force.
func (s *Store) Policy(ctx context.Context) (store.Policy, error) {
	p, err := readPolicy(ctx, s.reader)
	return p, translate(err)
}

// SetPolicy puts a policy in force, at once and for every process. Counts are
// kept free of policy, so nothing is recounted.
func (s *Store) SetPolicy(ctx context.Context, p store.Policy) error {
	return s.write(ctx, func(t *tx) error {
		return t.execText("set the policy", `update settings set policy = ?1 where id = 1 and policy <> ?1`, p.String())
	})
}

const policySQL = `select policy from settings`

func readPolicy(ctx context.Context, q querier) (store.Policy, error) {
	return scanPolicy(q.QueryRowContext(ctx, policySQL))
}

// withPolicy runs do in one snapshot, with the policy in force.
func (s *Store) withPolicy(ctx context.Context, do func(q querier, policy store.Policy) error) error {
	return s.read(ctx, func(q querier) error {
		policy, err := readPolicy(ctx, q)
		if err != nil {
			return err
		}
		return do(q, policy)
	})
}

func scanPolicy(row *sql.Row) (store.Policy, error) {
	var text string
	if err := row.Scan(&text); err != nil {
		return store.Policy{}, fmt.Errorf("read the settings: %w", err)
	}
	return store.ParsePolicy(text)
}

// Absent reports whether the runs are of a table that has no column for their user,
// and none for their workflow, as far as there are any.
func (s *Store) Absent(ctx context.Context) (user, workflow bool, err error) {
	err = s.reader.QueryRowContext(ctx, `select coalesce(user_id = '', false), coalesce(workflow_id = '', false) from workflow_runs limit 1`).Scan(&user, &workflow)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, nil
	}
	return user, workflow, translate(err)
}

// oddSQL is the condition of the index workflow_runs_odd, word by word.
const oddSQL = `kind is null
    or completed_at < started_at
    or (completed_at is null and status not in ('pending', 'running', 'cancelling'))`

// Health returns what deserves a look.
func (s *Store) Health(ctx context.Context) (h store.Health, err error) {
	err = s.reader.QueryRowContext(ctx, `
select (select count(*) from workflow_runs where completed_at is null),
       coalesce(sum(kind is null), 0),
       coalesce(sum(completed_at is null and status not in ('pending', 'running', 'cancelling')), 0),
       coalesce(sum(coalesce(completed_at < started_at, 0)), 0),
       (select count(*) from dead_letters)
  from workflow_runs
 where `+oddSQL).Scan(&h.Active, &h.NoKey, &h.UnknownStatus, &h.EndedTooSoon, &h.DeadLetters)
	return h, translate(err)
}
