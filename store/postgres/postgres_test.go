package postgres

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestContract(t *testing.T) { storetest.Run(t, open) }

func TestLetters(t *testing.T) {
	need.Serial(t)
	storetest.Letters(t, open)
}

func open(t testing.TB) storetest.Backend { return backend(t, sourcetest.Installed(t)) }

// mustScript returns what one migration runs on the table that the migrations
// make.
func mustScript(t testing.TB, name string) string {
	t.Helper()
	all, err := migrations.PrintPostgres(watched.Default())
	if err != nil {
		t.Fatal(err)
	}
	_, text, begins := strings.Cut(all, "\n-- "+name+".up.sql\nbegin;\n")
	text, _, ends := strings.Cut(text, "\ncreate table if not exists run_counter.schema_migrations")
	if !begins || !ends {
		t.Fatalf("the script has no migration %s", name)
	}
	return text
}

func mustOpen(t testing.TB, address string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), address, o)
	return sourcetest.MustOpen(t, s, err)
}

func backend(t testing.TB, address string) storetest.Backend {
	t.Helper()
	return backendOf(t, mustOpen(t, address, Options{}))
}

func backendOf(t testing.TB, s *Store) storetest.Backend {
	t.Helper()
	return sourcetest.Backend(t, s, s.pool)
}

// miscountSQL counts seven failed runs too many of each key.
const miscountSQL = `
with more as (insert into run_counter.counts select user_id, kind, ref_id, 'failed', false, 7 from run_counter.keys returning *)
insert into run_counter.totals select kind, ref_id, status, presumed, 0, sum(n) from more group by 1, 2, 3, 4`

// exact fails the test where law 1 does not hold.
func exact(t testing.TB, s *Store) {
	t.Helper()
	sourcetest.Exact(t, s.pool)
}

// audited fails the test where a full audit finds a drift.
func audited(t testing.TB, address string) {
	t.Helper()
	sourcetest.Audited(t, sourcetest.SweeperOf(mustOpen(t, address, Options{})))
}

func TestChaos(t *testing.T) { storetest.SourceChaos(t, open, true, seeds()) }

func TestChaosWithoutGuard(t *testing.T) {
	open := func(t testing.TB) storetest.Backend {
		address := sourcetest.Installed(t)
		pgtest.Exec(t, address, `update run_counter.settings set guard = 'off'`)
		return backend(t, address)
	}
	storetest.SourceChaos(t, open, false, seeds())
}

// seeds are fewer than a mirror's: each writes the table as well.
func seeds() uint64 { return max(storetest.Seeds()/5, 20) }
