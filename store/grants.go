package store

import (
	"context"
	"fmt"
	"time"
)

// MaxGrant is the largest number of runs of one grant.
const MaxGrant = 1_000_000_000

// Grant is a number of runs that a user was given on top of a limit. It raises the
// ceiling until it expires or is revoked, and no run uses it up. It raises the limit
// of its key, and that of its user: a refill of one workflow must not be stopped by
// the user's cap. Grants are kept for ever.
type Grant struct {
	Seq            int64 // its id; the store draws it
	Of             Scope // a key, or a user alone
	Runs           int64
	Who            string // who decided it
	Why            string
	GrantedAt      time.Time
	ExpiresAt      time.Time // zero: never
	IdempotencyKey string
	RevokedAt      time.Time // zero: it stands
	RevokedBy      string
	RevokedWhy     string
}

// Stands reports whether a grant is in force: neither revoked nor expired.
func (g Grant) Stands(now time.Time) bool {
	return g.RevokedAt.IsZero() && (g.ExpiresAt.IsZero() || now.Before(g.ExpiresAt))
}

// Raises reports whether a grant raises a limit of a key. In a window it does if it
// was granted in it, so that none is used in two.
func (g Grant) Raises(l Limit, key Key, now time.Time) bool {
	of := l.Of(key)
	return g.Stands(now) && !g.GrantedAt.Before(l.From) && g.Of.User == of.User && (l.Scope == UserLimit || g.Of == of)
}

// GrantRequest gives runs on top of a limit.
type GrantRequest struct {
	User           ID
	Workflow       ID
	Draft          ID
	Runs           int64
	Who            string
	Why            string
	ExpiresAt      time.Time // zero: never
	IdempotencyKey string    // none where empty; its scope is the user
	Now            time.Time
}

// Of returns whose limits the grant raises.
func (g GrantRequest) Of() Scope { return ScopeOf(g.User, g.Workflow, g.Draft) }

// Validate refuses a request that no store can serve, with [ErrInvalid]. That the grant
// would have expired is for [GrantRequest.ValidateExpiry].
func (g GrantRequest) Validate() error {
	switch {
	case g.User.IsZero():
		return fmt.Errorf("%w: a grant needs a user", ErrInvalid)
	case g.Runs < 1 || g.Runs > MaxGrant:
		return fmt.Errorf("%w: a grant is of 1 to %d runs", ErrInvalid, MaxGrant)
	case g.Who == "" || g.Why == "":
		return fmt.Errorf("%w: a grant needs who decided it and why", ErrInvalid)
	}
	return nil
}

// ValidateExpiry refuses a grant that would have expired when it is made, with
// [ErrInvalid]. A store asks once no earlier grant has the idempotency key: a request
// that is repeated later gets that grant.
func (g GrantRequest) ValidateExpiry() error {
	if g.ExpiresAt.IsZero() || Instant(g.ExpiresAt).After(Instant(g.Now)) {
		return nil
	}
	return fmt.Errorf("%w: the grant would have expired at %s: send a time to come, or none", ErrInvalid, g.ExpiresAt.Format(time.RFC3339))
}

// Same reports whether a grant is what the request asks for, so that a call with the
// same idempotency key may be answered with it. Times are compared as they are kept.
func (g GrantRequest) Same(as Grant) bool {
	return as.Of == g.Of() && as.Runs == g.Runs && as.Who == g.Who && as.Why == g.Why && as.ExpiresAt.Equal(Instant(g.ExpiresAt))
}

// GrantResult is the answer to a GrantRequest.
type GrantResult struct {
	Grant   Grant
	Created bool // false where an earlier call with the idempotency key made it
}

// grantError is one of the errors of this package, in a sentence about grants.
type grantError struct {
	sentence string
	is       error
}

func (e grantError) Error() string { return e.sentence }
func (e grantError) Unwrap() error { return e.is }

// NoGrant returns the [ErrNotFound] of a grant that is not there.
func NoGrant(seq int64) error {
	return grantError{fmt.Sprintf("there is no grant %d", seq), ErrNotFound}
}

// GrantConflict returns the [ErrConflict] of a request whose idempotency key belongs to
// a grant of other contents.
func GrantConflict(g Grant) error {
	return grantError{fmt.Sprintf("the idempotency key %q belongs to grant %d, of %d runs to %s: repeat that request as it was, or send another key", g.IdempotencyKey, g.Seq, g.Runs, g.Of), ErrConflict}
}

// RevokeRequest ends a grant before its time.
type RevokeRequest struct {
	Seq int64
	Who string
	Why string
	Now time.Time
}

// Validate refuses a request that no store can serve, with [ErrInvalid].
func (r RevokeRequest) Validate() error {
	if r.Who == "" || r.Why == "" {
		return fmt.Errorf("%w: to revoke a grant needs who decided it and why", ErrInvalid)
	}
	return nil
}

// GrantQuery asks for a page of grants.
type GrantQuery struct {
	Of     Scope // those of a user, or of one key; of all where zero
	Before int64 // the page begins behind the grant with this Seq; 0: with the latest
	Limit  int   // greater than 0
}

// Granter gives runs on top of limits, in place of deleting runs.
type Granter interface {
	// Grant gives runs, or finds the grant that an earlier call with the same
	// idempotency key made, which may have been revoked since and stays so. What has
	// begun under a grant stays begun when it ends.
	//
	// Errors: [ErrInvalid] as [GrantRequest.Validate] and [GrantRequest.ValidateExpiry] have it; [ErrConflict] where the
	// idempotency key belongs to a grant of other contents.
	Grant(ctx context.Context, g GrantRequest) (GrantResult, error)

	// RevokeGrant ends a grant, and returns it. One that was revoked before is
	// returned as it was, and nothing is written.
	//
	// Errors: [ErrNotFound]; [ErrInvalid] where who or why is missing.
	RevokeGrant(ctx context.Context, r RevokeRequest) (Grant, error)

	// Grants returns a page of the grants, latest first, revoked and expired ones
	// included.
	Grants(ctx context.Context, q GrantQuery) ([]Grant, error)
}
