package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

// Policy returns the policy in force.
func (s *Store) Policy(ctx context.Context) (p store.Policy, err error) {
	err = s.attempt(ctx, func(have schema) error { return send(ctx, s.pool, s.policyFor(have, &p)) })
	return p, err
}

// SetPolicy puts a policy in force, at once and for every process. Counts are
// kept free of policy, so nothing is recounted.
func (s *Store) SetPolicy(ctx context.Context, p store.Policy) error {
	return s.attempt(ctx, func(have schema) error {
		if !have.installed {
			if p == s.options.Policy {
				return nil
			}
			return errNeedsMigrations
		}
		return send(ctx, s.pool, query{text: `update run_counter.settings set policy = $1::text where policy <> $1::text`, args: []any{p.String()}})
	})
}

// What is kept of dead letters: the newest, up to these bounds.
const (
	maxDeadLetters     = 1_000
	maxDeadLetterBytes = 16 << 20
)

// KeepDeadLetter keeps a delivery that can't be read, and drops the oldest
// beyond the bounds. Without the migrations there is no place to keep it.
func (s *Store) KeepDeadLetter(ctx context.Context, d store.DeadLetter) error {
	return s.attempt(ctx, func(have schema) error {
		if !have.installed {
			return errNeedsMigrations
		}
		return send(ctx, s.pool,
			query{text: `insert into run_counter.dead_letters (received_at, reason, bytes, body) values ($1::timestamptz, $2::text, $3::bigint, $4::bytea)`,
				args: []any{store.Instant(d.ReceivedAt), d.Reason, d.Bytes, append([]byte{}, d.Body...)}},
			query{text: `
delete from run_counter.dead_letters
 where seq in (select seq
                 from (select seq, row_number() over newest as n, sum(length(body)) over newest as kept
                         from run_counter.dead_letters
                       window newest as (order by seq desc)) as d
                where n > $1::integer or kept > $2::bigint)`, args: []any{maxDeadLetters, maxDeadLetterBytes}},
		)
	})
}

// Health returns what deserves a look.
func (s *Store) Health(ctx context.Context) (h store.Health, err error) {
	err = s.attempt(ctx, func(have schema) error { return send(ctx, s.pool, healthQuery(have, &h)) })
	return h, err
}

func healthQuery(have schema, h *store.Health) query {
	ours := `(select count(*) from run_counter.ledger), (select count(*) from run_counter.dead_letters)`
	if !have.installed {
		ours = `0::bigint, 0::bigint`
	}
	return query{text: `
select (select count(*) from public.workflow_runs as r where ` + openSQL + `),
       count(*) filter (where ` + have.refColumn() + ` is null),
       count(*) filter (where r.status is null or r.status not in ('pending', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'timeout')),
       count(*) filter (where ` + endedSQL + ` and r.completed_at < r.started_at),
       ` + ours + `
  from public.workflow_runs as r
 where ` + have.oddSQL(), read: func(rows pgx.Rows) error {
		return rows.Scan(&h.Active, &h.NoKey, &h.UnknownStatus, &h.EndedTooSoon, &h.Ledger, &h.DeadLetters)
	}}
}

// oddSQL is the condition of the index run_counter_odd, word by word.
func (h schema) oddSQL() string {
	noKey := "r.workflow_id is null"
	if h.draft {
		noKey += " and r.draft_id is null"
	}
	return noKey + ` or r.status is null or r.status not in ('pending', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'timeout') or r.completed_at < r.started_at`
}
