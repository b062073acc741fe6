package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// grantSQL are the columns of a grant g that scanGrant reads.
const grantSQL = `g.seq, g.user_id, coalesce(g.kind, ''), g.ref_id, g.runs, g.who, g.why, g.granted_at, g.expires_at,
       coalesce(g.idempotency_key, ''), g.revoked_at, coalesce(g.revoked_by, ''), coalesce(g.revoked_why, '')`

func scanGrant(rows pgx.Rows, g *store.Grant) error {
	return rows.Scan(&g.Seq, (*keyID)(&g.Of.User), (*text)(&g.Of.Kind), (*keyID)(&g.Of.Ref), &g.Runs, &g.Who, &g.Why, (*instant)(&g.GrantedAt),
		(*instant)(&g.ExpiresAt), &g.IdempotencyKey, (*instant)(&g.RevokedAt), &g.RevokedBy, &g.RevokedWhy)
}

// Grant implements [store.Granter]. run_counter.grant_runs does it, as it does for a
// caller in SQL.
func (s *Store) Grant(ctx context.Context, g store.GrantRequest) (r store.GrantResult, err error) {
	if err := g.Validate(); err != nil {
		return r, err
	}
	g.Now, g.ExpiresAt = store.Instant(g.Now), store.Instant(g.ExpiresAt)
	err = s.attempt(ctx, func(db features) error {
		if !db.installed {
			return errNeedsMigrations
		}
		of := g.Of()
		if err := db.requireScope(of); err != nil {
			return err
		}
		if err := db.requireIDs(map[watched.Role]store.ID{watched.User: g.User, watched.Workflow: g.Workflow, watched.Draft: g.Draft}); err != nil {
			return err
		}
		r = store.GrantResult{Grant: store.Grant{
			Of: of, Runs: g.Runs, Who: g.Who, Why: g.Why, ExpiresAt: g.ExpiresAt, IdempotencyKey: g.IdempotencyKey,
		}}
		made := &r.Grant
		err := s.commit(ctx, query{
			text: `select created, seq, granted_at, revoked_at, coalesce(revoked_by, ''), coalesce(revoked_why, '')
  from run_counter.grant_runs($1::` + db.user + `, $2::text, $3::` + db.ref + `, $4::bigint, $5::text, $6::text, $7::timestamptz, $8::text, $9::timestamptz)`,
			args: append(db.keyArgs(store.Key(of)), g.Runs, g.Who, g.Why, timeArg(g.ExpiresAt), textArg(g.IdempotencyKey), g.Now),
			read: func(rows pgx.Rows) error {
				return rows.Scan(&r.Created, &made.Seq, (*instant)(&made.GrantedAt), (*instant)(&made.RevokedAt), &made.RevokedBy, &made.RevokedWhy)
			},
		})
		if codeOf(err) == "23505" {
			return s.grantConflict(ctx, db, g, err)
		}
		if expired := g.ValidateExpiry(); expired != nil && codeOf(err) == "22023" {
			return expired
		}
		return err
	})
	return r, err
}

// grantConflict names the grant that an idempotency key belongs to.
func (s *Store) grantConflict(ctx context.Context, db features, g store.GrantRequest, cause error) error {
	var known store.Grant
	err := send(ctx, s.pool, query{
		text: `select ` + grantSQL + ` from run_counter.grants as g where g.user_id = $1::` + db.user + ` and g.idempotency_key = $2::text`,
		args: []any{db.arg(watched.User, g.User), g.IdempotencyKey},
		read: func(rows pgx.Rows) error { return scanGrant(rows, &known) },
	})
	if err != nil || known.Seq == 0 {
		return errors.Join(cause, err)
	}
	return store.GrantConflict(known)
}

// RevokeGrant implements [store.Granter].
func (s *Store) RevokeGrant(ctx context.Context, r store.RevokeRequest) (g store.Grant, err error) {
	if err := r.Validate(); err != nil {
		return g, err
	}
	err = s.attempt(ctx, func(db features) error {
		if !db.installed {
			return errNeedsMigrations
		}
		g = store.Grant{}
		err := s.commit(ctx,
			query{text: `select run_counter.revoke_grant($1::bigint, $2::text, $3::text, $4::timestamptz)`, args: []any{r.Seq, r.Who, r.Why, store.Instant(r.Now)}},
			query{
				text: `select ` + grantSQL + ` from run_counter.grants as g where g.seq = $1::bigint`, args: []any{r.Seq},
				read: func(rows pgx.Rows) error { return scanGrant(rows, &g) },
			})
		if err == nil && g.Seq == 0 {
			return store.NoGrant(r.Seq)
		}
		return err
	})
	return g, err
}

// Grants implements [store.Granter].
func (s *Store) Grants(ctx context.Context, q store.GrantQuery) ([]store.Grant, error) {
	return installed(ctx, s, func(db features, out *[]store.Grant) error {
		conditions, args := []string{`($1::bigint = 0 or g.seq < $1::bigint)`}, append([]any{q.Before, q.Limit}, db.keyArgs(store.Key(q.Of))...)
		// Each argument is named, or it would have no type.
		conditions = append(conditions, `($3::text is not null or $4::text is not null or $5::text is not null)`)
		if !q.Of.User.IsZero() {
			conditions = append(conditions, `g.user_id = $3::text::`+db.user)
		}
		if q.Of.Kind != "" {
			conditions = append(conditions, `g.kind = $4::text`)
		}
		if !q.Of.Ref.IsZero() {
			conditions = append(conditions, `g.ref_id = $5::text::`+db.ref)
		}
		return send(ctx, s.pool, query{
			text: `select ` + grantSQL + ` from run_counter.grants as g where ` + strings.Join(conditions, ` and `) + ` order by g.seq desc limit $2::integer`,
			args: args, read: all(out, scanGrant),
		})
	})
}
