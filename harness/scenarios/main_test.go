package scenarios

import (
	"runtime/debug"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestMain collects garbage less often: a schedule leaves little behind, and a
// fifth of the time went into looking for it.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	pgtest.Main(m)
}
