package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// TestContractWithGates holds the functions of the migrations to the contract
// while the harness has its gates in them: it sees what they do, and changes
// nothing of it.
func TestContractWithGates(t *testing.T) {
	need.Serial(t)
	storetest.Run(t, func(t testing.TB) storetest.Backend {
		address := sourcetest.Installed(t)
		gated := 0
		r := harness.Explore(t, func(s *harness.Sim) {
			db := pg.New(s, pg.Config{Address: address, StepInto: []string{"run_counter.*", "public.*"}})
			s.Go("looks", func(ctx context.Context) error {
				config, err := pgx.ParseConfig(address)
				if err != nil {
					return err
				}
				db.Gate(config)
				c, err := pgx.ConnectConfig(ctx, config)
				if err != nil {
					return err
				}
				return c.QueryRow(ctx, `select count(*) from pg_proc where prosrc like '%harness gate %'`).Scan(&gated)
			})
		}, harness.Share(t))
		if r.Failure != nil || gated < 15 {
			t.Fatalf("%d functions have gates: %s", gated, r)
		}
		return backend(t, address)
	})
}
