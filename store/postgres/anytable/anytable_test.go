package anytable

import (
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestCaseO7_WithGoAloneNothingIsRed(t *testing.T) {
	t.Parallel()
	need.Alone(t, ".")
}

// The names by which statements are written.
const (
	ada     = sourcetest.Ada
	bob     = sourcetest.Bob
	adaFlow = sourcetest.AdaFlow
	bobFlow = sourcetest.BobFlow
	runOne  = sourcetest.RunOne
	runTwo  = sourcetest.RunTwo
)

func mustOpen(t testing.TB, address string, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), address, o)
	return sourcetest.MustOpen(t, s, err)
}

func backend(t testing.TB, address string) storetest.Backend {
	t.Helper()
	return sourcetest.Backend(t, mustOpen(t, address, postgres.Options{}), sourcetest.Pool(t, address))
}

// audited fails the test where a full audit finds a drift.
func audited(t testing.TB, address string) {
	t.Helper()
	sourcetest.Audited(t, sourcetest.SweeperOf(mustOpen(t, address, postgres.Options{})))
}
