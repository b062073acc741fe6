package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/metric"
)

// tries bounds each call of the store, measures it, and counts how it ended.
type tries struct {
	timeout time.Duration // of one
	ended   *prometheus.CounterVec
	took    *prometheus.HistogramVec
}

// try is one operation of them.
type try struct {
	*tries
	operation string
}

func (t *tries) of(operation string) try { return try{t, operation} }

// operations are the methods of a store that are measured: each has its series from the
// start.
var operations = [...]string{
	"begin", "start", "complete", "amend", "apply", "count", "allowance", "run",
	"fail_stuck", "recount", "search_counts", "keep_dead_letter", "search_runs", "history", "key_history", "repairs",
	"amendments", "recounts", "near_limits", "policy", "dead_letters", "drop_dead_letters", "grant", "revoke_grant",
	"grants",
	"count_runs", "counts_of", "health",
}

func newTries(timeout time.Duration, registry prometheus.Registerer) *tries {
	t := &tries{
		timeout: timeout,
		ended: metric.CounterBy("store_tries_total", "Transactions tried, by how they ended.", "result",
			"ok", "unavailable", "refused", "cancelled", "error"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "runcounter", Name: "store_duration_seconds", Help: "Time that the database took for one try of an operation, whichever way it ended; waiting for a connection is in it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"operation"}),
	}
	for _, operation := range operations {
		t.took.WithLabelValues(operation)
	}
	registry.MustRegister(t.ended, t.took)
	return t
}

// timed measures a call that has a pace and bounds of its own.
func timed[T any](t try, call func() (T, error)) (T, error) {
	began := time.Now()
	v, err := call()
	t.took.WithLabelValues(t.operation).Observe(time.Since(began).Seconds())
	return v, err
}

// withRetry makes a call of the store as [store.Retry] does, and bounds each try.
func withRetry[T any](ctx context.Context, t try, call func(context.Context) (T, error)) (T, error) {
	return store.Retry(ctx, func(ctx context.Context) (T, error) { return withTimeout(ctx, t, call) })
}

// withTimeout bounds one call, so that a database that hangs is one that is not
// available.
func withTimeout[T any](ctx context.Context, t try, call func(context.Context) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	v, err := timed(t, func() (T, error) { return call(bounded) })
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: no answer within %s", store.ErrUnavailable, t.timeout)
	}
	t.ended.WithLabelValues(resultOf(err)).Inc()
	return v, err
}

// resultOf names how a try ended.
func resultOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, store.ErrUnavailable):
		return "unavailable"
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrTooSlow):
		return "refused"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "error"
}

// retryingStore is a store whose methods, those that the rooms call, are tried again.
type retryingStore struct {
	Store
	tries *tries
}

func (r retryingStore) Begin(ctx context.Context, b store.Begin) (store.BeginResult, error) {
	return withRetry(ctx, r.tries.of("begin"), func(ctx context.Context) (store.BeginResult, error) { return r.Store.Begin(ctx, b) })
}

func (r retryingStore) Start(ctx context.Context, id store.ID, at time.Time) (store.Run, error) {
	return withRetry(ctx, r.tries.of("start"), func(ctx context.Context) (store.Run, error) { return r.Store.Start(ctx, id, at) })
}

func (r retryingStore) Complete(ctx context.Context, c store.Completion) (store.CompleteResult, error) {
	return withRetry(ctx, r.tries.of("complete"), func(ctx context.Context) (store.CompleteResult, error) { return r.Store.Complete(ctx, c) })
}

func (r retryingStore) Amend(ctx context.Context, a store.AmendRequest) (store.Run, error) {
	return withRetry(ctx, r.tries.of("amend"), func(ctx context.Context) (store.Run, error) { return r.Store.Amend(ctx, a) })
}

func (r retryingStore) Apply(ctx context.Context, changes []store.Change, received time.Time) ([]store.ApplyResult, error) {
	return withRetry(ctx, r.tries.of("apply"), func(ctx context.Context) ([]store.ApplyResult, error) { return r.Store.Apply(ctx, changes, received) })
}

func (r retryingStore) Count(ctx context.Context, of store.Scope, in store.Window) (store.Count, error) {
	return withRetry(ctx, r.tries.of("count"), func(ctx context.Context) (store.Count, error) { return r.Store.Count(ctx, of, in) })
}

func (r retryingStore) Allowance(ctx context.Context, a store.AllowanceRequest) ([]store.Usage, error) {
	return withRetry(ctx, r.tries.of("allowance"), func(ctx context.Context) ([]store.Usage, error) { return r.Store.Allowance(ctx, a) })
}

func (r retryingStore) Run(ctx context.Context, id store.ID) (store.Run, error) {
	return withRetry(ctx, r.tries.of("run"), func(ctx context.Context) (store.Run, error) { return r.Store.Run(ctx, id) })
}

func (r retryingStore) FailStuck(ctx context.Context, f store.FailStuck) ([]store.Repaired, error) {
	return withRetry(ctx, r.tries.of("fail_stuck"), func(ctx context.Context) ([]store.Repaired, error) { return r.Store.FailStuck(ctx, f) })
}

func (r retryingStore) Recount(ctx context.Context, key store.Key, at time.Time) (store.RecountResult, error) {
	return withRetry(ctx, r.tries.of("recount"), func(ctx context.Context) (store.RecountResult, error) { return r.Store.Recount(ctx, key, at) })
}

func (r retryingStore) SearchCounts(ctx context.Context, q store.CountQuery) ([]store.Count, error) {
	return withRetry(ctx, r.tries.of("search_counts"), func(ctx context.Context) ([]store.Count, error) { return r.Store.SearchCounts(ctx, q) })
}

func (r retryingStore) KeepDeadLetter(ctx context.Context, letters ...store.DeadLetter) error {
	_, err := withRetry(ctx, r.tries.of("keep_dead_letter"), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.Store.KeepDeadLetter(ctx, letters...)
	})
	return err
}

// retryingReader is a reader whose methods are tried again, but for those with a pace of
// their own: CountsOf, which live counts call again and again, and Health.
type retryingReader struct {
	store.Reader
	tries *tries
}

func (r retryingReader) SearchCounts(ctx context.Context, q store.CountQuery) ([]store.Count, error) {
	return withRetry(ctx, r.tries.of("search_counts"), func(ctx context.Context) ([]store.Count, error) { return r.Reader.SearchCounts(ctx, q) })
}

func (r retryingReader) SearchRuns(ctx context.Context, q store.RunQuery) ([]store.ListedRun, error) {
	return withRetry(ctx, r.tries.of("search_runs"), func(ctx context.Context) ([]store.ListedRun, error) { return r.Reader.SearchRuns(ctx, q) })
}

func (r retryingReader) CountRuns(ctx context.Context, q store.RunQuery) (int, error) {
	return withRetry(ctx, r.tries.of("count_runs"), func(ctx context.Context) (int, error) { return r.Reader.CountRuns(ctx, q) })
}

func (r retryingReader) History(ctx context.Context, id store.ID) (store.History, error) {
	return withRetry(ctx, r.tries.of("history"), func(ctx context.Context) (store.History, error) { return r.Reader.History(ctx, id) })
}

func (r retryingReader) KeyHistory(ctx context.Context, key store.Key, limit int) (store.KeyHistory, error) {
	return withRetry(ctx, r.tries.of("key_history"), func(ctx context.Context) (store.KeyHistory, error) { return r.Reader.KeyHistory(ctx, key, limit) })
}

func (r retryingReader) Repairs(ctx context.Context, after store.Cursor, limit int) ([]store.ListedRepair, error) {
	return withRetry(ctx, r.tries.of("repairs"), func(ctx context.Context) ([]store.ListedRepair, error) { return r.Reader.Repairs(ctx, after, limit) })
}

func (r retryingReader) Amendments(ctx context.Context, before int64, limit int) ([]store.Amendment, error) {
	return withRetry(ctx, r.tries.of("amendments"), func(ctx context.Context) ([]store.Amendment, error) { return r.Reader.Amendments(ctx, before, limit) })
}

func (r retryingReader) Recounts(ctx context.Context, before int64, limit int) ([]store.ListedRecount, error) {
	return withRetry(ctx, r.tries.of("recounts"), func(ctx context.Context) ([]store.ListedRecount, error) { return r.Reader.Recounts(ctx, before, limit) })
}

func (r retryingReader) NearLimits(ctx context.Context, now time.Time, limit int) ([]store.NearLimit, error) {
	return withRetry(ctx, r.tries.of("near_limits"), func(ctx context.Context) ([]store.NearLimit, error) { return r.Reader.NearLimits(ctx, now, limit) })
}

func (r retryingReader) Policy(ctx context.Context) (store.Policy, error) {
	return withRetry(ctx, r.tries.of("policy"), func(ctx context.Context) (store.Policy, error) { return r.Reader.Policy(ctx) })
}

// retryingLetters are dead letters whose methods are tried again, each by itself.
type retryingLetters struct {
	webhook.Letters
	tries *tries
}

func (r retryingLetters) DeadLetters(ctx context.Context, q store.DeadLetterQuery) ([]store.DeadLetter, error) {
	return withRetry(ctx, r.tries.of("dead_letters"), func(ctx context.Context) ([]store.DeadLetter, error) { return r.Letters.DeadLetters(ctx, q) })
}

func (r retryingLetters) DropDeadLetters(ctx context.Context, q store.DeadLetterQuery) (int, error) {
	return withRetry(ctx, r.tries.of("drop_dead_letters"), func(ctx context.Context) (int, error) { return r.Letters.DropDeadLetters(ctx, q) })
}

// retryingGrants are grants whose methods are tried again, each by itself. One without an
// idempotency key is given once: the answer of a first try may have been lost.
type retryingGrants struct {
	store.Granter
	tries *tries
}

func (r retryingGrants) Grant(ctx context.Context, g store.GrantRequest) (store.GrantResult, error) {
	if g.IdempotencyKey == "" {
		return withTimeout(ctx, r.tries.of("grant"), func(ctx context.Context) (store.GrantResult, error) { return r.Granter.Grant(ctx, g) })
	}
	failed := false
	return withRetry(ctx, r.tries.of("grant"), func(ctx context.Context) (store.GrantResult, error) {
		made, err := r.Granter.Grant(ctx, g)
		// A try whose commit got lost on its way back created it, too.
		if err == nil && failed && made.Grant.GrantedAt.Equal(store.Instant(g.Now)) {
			made.Created = true
		}
		failed = failed || err != nil
		return made, err
	})
}

func (r retryingGrants) RevokeGrant(ctx context.Context, v store.RevokeRequest) (store.Grant, error) {
	return withRetry(ctx, r.tries.of("revoke_grant"), func(ctx context.Context) (store.Grant, error) { return r.Granter.RevokeGrant(ctx, v) })
}

func (r retryingGrants) Grants(ctx context.Context, q store.GrantQuery) ([]store.Grant, error) {
	return withRetry(ctx, r.tries.of("grants"), func(ctx context.Context) ([]store.Grant, error) { return r.Granter.Grants(ctx, q) })
}
