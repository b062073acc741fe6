package postgres

import (
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestListed(t *testing.T) {
	storetest.Listed(t, func(t testing.TB) storetest.Backend {
		address := sourcetest.Installed(t)
		pgtest.Exec(t, address, `alter table workflow_runs alter created_at drop not null`)
		return backend(t, address)
	}, false)
}

// A source without our migrations lists its counts and active runs; nothing is
// presumed there, and its logs are empty.
func TestListedWithoutMigrations(t *testing.T) {
	storetest.Listed(t, openBare, true)
}

func TestListedThroughAPooler(t *testing.T) {
	storetest.Listed(t, func(t testing.TB) storetest.Backend {
		address := sourcetest.Installed(t)
		pgtest.Exec(t, address, `alter table workflow_runs alter created_at drop not null`)
		return backend(t, pgtest.Pooler(t, address))
	}, false)
}

func openBare(t testing.TB) storetest.Backend {
	t.Helper()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable)
	return backend(t, address)
}
