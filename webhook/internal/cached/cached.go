// Package cached keeps answers for a time, so that a question which is asked often is no
// load. It imports the standard library alone.
package cached

import (
	"sync"
	"time"
)

// Answer keeps an answer, an error too. Calls that come while it is asked for wait for
// the same answer. The zero value is ready.
type Answer[T any] struct {
	mu    sync.Mutex
	asked time.Time
	until time.Time
	v     T
	err   error
}

// Get returns the answer, asked for anew where the last one is older than that
// and than share times as long as it took.
func (a *Answer[T]) Get(now func() time.Time, most time.Duration, share int64, ask func() (T, error)) (T, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	began := now()
	if !a.asked.IsZero() && !began.Before(a.asked) && began.Before(a.until) {
		return a.v, a.err
	}
	a.v, a.err = ask()
	a.asked = now()
	a.until = a.asked.Add(max(most, time.Duration(share*a.asked.Sub(began).Nanoseconds())))
	return a.v, a.err
}

// Before returns the error of the answer before. It is for the function that asks.
func (a *Answer[T]) Before() error { return a.err }

// Forget makes the next Get ask.
func (a *Answer[T]) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = time.Time{}
}
