package webhook

import (
	"context"

	"github.com/edgaze-ai/runcounter/store"
)

// Lists is what the console, live counts and the letters' own API read of a
// backend beyond its contract. Each call reads one snapshot, and may return
// [store.ErrUnavailable] as the contract's methods do. A source without our
// migrations has counts and runs; its logs are empty.
type Lists interface {
	// CountsOf returns the exact counts of keys, in their order and of one
	// snapshot, without LastRunAt. A key without runs has the count 0.
	//
	// Errors: [store.ErrInvalid] for the zero key.
	CountsOf(ctx context.Context, keys []store.Key) ([]store.Count, error)

	store.CountSearcher

	// SearchRuns returns a page of the runs that are in a state. Those of the
	// same time are in the order of their ids, the greatest first.
	//
	// Errors: [store.ErrInvalid] for an unknown state.
	SearchRuns(ctx context.Context, q store.RunQuery) ([]store.ListedRun, error)

	// History returns what is known of one run. That it is not there is a
	// result and not an error.
	History(ctx context.Context, id store.ID) (store.History, error)

	// KeyHistory returns how the count of a key comes about, with at most
	// limit of its runs.
	//
	// Errors: [store.ErrInvalid] for the zero key.
	KeyHistory(ctx context.Context, key store.Key, limit int) (store.KeyHistory, error)

	// Repairs returns limit of the repairs behind a place, latest first, and as
	// many more as have the last one's place: those of one run and moment for
	// several reasons come together.
	Repairs(ctx context.Context, after store.Cursor, limit int) ([]store.ListedRepair, error)

	// Amendments returns at most limit of the amendments made before one, latest
	// first; all where before is 0.
	Amendments(ctx context.Context, before int64, limit int) ([]store.Amendment, error)

	// Recounts returns at most limit of the repairs of counts made before one,
	// latest first; all where before is 0.
	Recounts(ctx context.Context, before int64, limit int) ([]store.ListedRecount, error)

	// DeadLetters returns a page of them, latest first, without their bodies
	// unless one alone is asked for.
	DeadLetters(ctx context.Context, q store.DeadLetterQuery) ([]store.DeadLetter, error)

	// DropDeadLetters drops those, and returns how many. A query that names
	// nothing drops them all.
	DropDeadLetters(ctx context.Context, q store.DeadLetterQuery) (int, error)

	// Policy returns the policy in force.
	Policy(ctx context.Context) (store.Policy, error)

	// Health returns what deserves a look.
	Health(ctx context.Context) (store.Health, error)
}
