package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// maxTries is the number of times that [Retry] makes a call.
const maxTries = 3

// Retry makes a call of a store until it does not fail with [ErrUnavailable], at most
// three times, with tens of milliseconds in between. The jitter keeps calls that
// collided from colliding again. It returns what the last call did, at once where ctx
// has ended.
func Retry[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	for try := 1; ; try++ {
		v, err := call(ctx)
		if try == maxTries || !errors.Is(err, ErrUnavailable) {
			return v, err
		}
		pause := time.NewTimer(time.Duration(try) * (10*time.Millisecond + rand.N(30*time.Millisecond)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return v, err
		}
	}
}
