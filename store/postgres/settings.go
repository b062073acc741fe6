package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Policy returns the policy in force.
func (s *Store) Policy(ctx context.Context) (p store.Policy, err error) {
	err = s.attempt(ctx, func(db features) error { return send(ctx, s.pool, s.policyFor(db, &p)) })
	return p, err
}

// SetPolicy puts a policy in force, at once and for every process. Counts are
// kept free of policy, so nothing is recounted.
func (s *Store) SetPolicy(ctx context.Context, p store.Policy) error {
	return s.attempt(ctx, func(db features) error {
		if !db.installed {
			if p == s.options.Policy {
				return nil
			}
			return errNeedsMigrations
		}
		return s.commit(ctx, query{text: `update run_counter.settings set policy = $1::text where policy <> $1::text`, args: []any{p.String()}})
	})
}

// Health returns what deserves a look.
func (s *Store) Health(ctx context.Context) (h store.Health, err error) {
	err = s.attempt(ctx, func(db features) error { return send(ctx, s.pool, healthQuery(db, &h)) })
	return h, err
}

func healthQuery(db features, h *store.Health) query {
	ours := `(select count(*) from run_counter.ledger), (select count(*) from run_counter.dead_letters)`
	if !db.installed {
		ours = `0::bigint, 0::bigint`
	}
	return query{text: `
select (select count(*) from ` + db.keyed("open") + ` as r where r.open),
       count(*) filter (where r.ref_id is null),
       count(*) filter (where r.status is null or r.status not in (` + watched.Ours(store.Status.Known) + `)),
       count(*) filter (where r.ended and r.too_soon),
       ` + ours + `
  from ` + db.keyed("odd", "too_soon") + ` as r
 where r.odd`, read: func(rows pgx.Rows) error {
		return rows.Scan(&h.Active, &h.NoKey, &h.UnknownStatus, &h.EndedTooSoon, &h.Ledger, &h.DeadLetters)
	}}
}
