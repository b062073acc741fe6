package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
)

const grantsSQL = `
select seq, user_id, coalesce(kind, ''), ref_id, runs, who, why, granted_at, expires_at, coalesce(idempotency_key, ''),
       revoked_at, coalesce(revoked_by, ''), coalesce(revoked_why, '')
  from grants`

func scanGrant(row interface{ Scan(...any) error }, g *store.Grant) error {
	var granted, expires, revoked sql.NullInt64
	err := row.Scan(&g.Seq, &g.Of.User, &g.Of.Kind, &g.Of.Ref, &g.Runs, &g.Who, &g.Why, &granted, &expires, &g.IdempotencyKey,
		&revoked, &g.RevokedBy, &g.RevokedWhy)
	g.GrantedAt, g.ExpiresAt, g.RevokedAt = timeOf(granted), timeOf(expires), timeOf(revoked)
	return err
}

func scanGrants(rows *sql.Rows, g *store.Grant) error { return scanGrant(rows, g) }

// standingSQL reads the grants of a user that are in force. Which limits they raise is
// for [store.Grant.Raises] to say.
const standingSQL = grantsSQL + `
 where user_id = ?1 and revoked_at is null and (expires_at is null or expires_at > ?2)`

// Grant implements [store.Granter].
func (s *Store) Grant(ctx context.Context, g store.GrantRequest) (result store.GrantResult, err error) {
	if err := g.Validate(); err != nil {
		return result, err
	}
	g.Now, g.ExpiresAt = store.Instant(g.Now), store.Instant(g.ExpiresAt)
	err = s.write(ctx, func(t *tx) error {
		result = store.GrantResult{}
		if g.IdempotencyKey != "" {
			err := scanGrant(t.tx.QueryRowContext(t.ctx, grantsSQL+` where user_id = ? and idempotency_key = ?`, g.User.String(), g.IdempotencyKey), &result.Grant)
			switch {
			case err == nil && !g.Same(result.Grant):
				return store.GrantConflict(result.Grant)
			case err == nil:
				return nil
			case !errors.Is(err, sql.ErrNoRows):
				return fmt.Errorf("look up the idempotency key of a grant: %w", err)
			}
		}
		if err := g.ValidateExpiry(); err != nil {
			return err
		}
		of := g.Of()
		inserted, err := t.tx.ExecContext(t.ctx, `
insert into grants (user_id, kind, ref_id, runs, who, why, granted_at, expires_at, idempotency_key)
values (?, ?, ?, ?, ?, ?, ?, ?, ?)`, of.User.String(), nullIf(of.Kind == "", string(of.Kind)), nullID(of.Ref), g.Runs, g.Who, g.Why,
			g.Now.UnixMicro(), nullTime(g.ExpiresAt), nullIf(g.IdempotencyKey == "", g.IdempotencyKey))
		if err != nil {
			return fmt.Errorf("grant %d runs to %s: %w", g.Runs, of, err)
		}
		seq, err := inserted.LastInsertId()
		if err != nil {
			return fmt.Errorf("grant %d runs to %s: %w", g.Runs, of, err)
		}
		result.Created = true
		result.Grant, err = t.grant(seq)
		return err
	})
	return result, err
}

// grant reads one grant.
func (t *tx) grant(seq int64) (g store.Grant, err error) {
	err = scanGrant(t.tx.QueryRowContext(t.ctx, grantsSQL+` where seq = ?`, seq), &g)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return g, store.NoGrant(seq)
	case err != nil:
		return g, fmt.Errorf("read grant %d: %w", seq, err)
	}
	return g, nil
}

// RevokeGrant implements [store.Granter].
func (s *Store) RevokeGrant(ctx context.Context, r store.RevokeRequest) (g store.Grant, err error) {
	if err := r.Validate(); err != nil {
		return g, err
	}
	err = s.write(ctx, func(t *tx) error {
		if g, err = t.grant(r.Seq); err != nil || !g.RevokedAt.IsZero() {
			return err
		}
		g.RevokedAt, g.RevokedBy, g.RevokedWhy = store.Instant(r.Now), r.Who, r.Why
		return t.execText(fmt.Sprintf("revoke grant %d", r.Seq),
			`update grants set revoked_at = ?2, revoked_by = ?3, revoked_why = ?4 where seq = ?1`,
			r.Seq, g.RevokedAt.UnixMicro(), g.RevokedBy, g.RevokedWhy)
	})
	return g, err
}

// Grants implements [store.Granter].
func (s *Store) Grants(ctx context.Context, page store.GrantQuery) ([]store.Grant, error) {
	var w conditions
	if !page.Of.User.IsZero() {
		w.add("user_id = ?", page.Of.User.String())
	}
	if page.Of.Kind != "" {
		w.add("kind = ?", string(page.Of.Kind))
	}
	if !page.Of.Ref.IsZero() {
		w.add("ref_id = ?", page.Of.Ref.String())
	}
	if page.Before != 0 {
		w.add("seq < ?", page.Before)
	}
	return list(ctx, s.reader, "list the grants", grantsSQL+w.String()+` order by seq desc limit ?`, append(w.args, page.Limit), scanGrants)
}
