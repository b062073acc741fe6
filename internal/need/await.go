package need

import (
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/wait"
)

// awaits is how long [Await] waits: what comes takes a few seconds at most, on a
// busy machine too.
const awaits = 30 * time.Second

// Await returns what a channel brings, or fails the test that waits in vain:
// go test itself would let it hang for minutes.
func Await[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	return wait.Within(t, awaits, what, from)
}
