// Package wait waits for conditions in tests, with an end. It imports the standard
// library alone, and only tests import it.
package wait

import (
	"testing"
	"time"
)

// most is the time after which a test has waited in vain.
const most = 15 * time.Second

// Until waits until is returns true. It ends a test that waits in vain.
func Until(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(most)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %s for this: %s", most, what)
		}
	}
}

// For returns what a channel brings. It ends a test that waits in vain.
func For[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	return Within(t, most, what, from)
}

// Within is [For] with a time of its own.
func Within[T any](t testing.TB, most time.Duration, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(most):
		t.Fatalf("waited %s for this: %s", most, what)
		panic("unreachable")
	}
}
