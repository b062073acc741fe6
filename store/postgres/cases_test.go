package postgres

import (
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestCases(t *testing.T) { storetest.Cases(t, openLeased) }

// openLeased opens a store whose table has a lease column, and needs no times.
func openLeased(t testing.TB) storetest.Backend {
	t.Helper()
	address := mustInstall(t)
	pgtest.Exec(t, address, `alter table workflow_runs add column lease_at timestamptz, alter column updated_at drop not null, alter column created_at drop not null`)
	return backendOf(t, mustOpen(t, address, Options{LeaseColumn: "lease_at"}))
}
