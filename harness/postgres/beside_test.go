package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// ungated is a pool past the gate.
func ungated(t *testing.T, address string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestCaseH3_AConnectionPastTheGateIsNoProof: two actors count by gated connections,
// and one of them does something by another as well. Oracles may.
func TestCaseH3_AConnectionPastTheGateIsNoProof(t *testing.T) {
	const update = `update accounts set n = n + 1 where id = 1`
	for _, test := range []struct {
		name   string
		actor  string // does this past the gate
		first  bool   // before its statement
		oracle bool   // looks past the gate
		fails  bool
	}{
		{name: "an actor writes", actor: update, fails: true},
		{name: "an actor reads", actor: `select n from accounts`, fails: true},
		{name: "an actor reads first", actor: `select n from accounts`, first: true, fails: true},
		{name: "an actor reads beside an oracle", actor: `select n from accounts`, oracle: true, fails: true},
		{name: "an oracle reads", oracle: true},
		{name: "none does"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := accountsConfig(t)
			var past, gated *pgxpool.Pool
			if test.actor != "" || test.oracle {
				past = ungated(t, config.Address)
			}
			r := harness.Explore(t, func(s *harness.Sim) {
				db := New(s, config)
				if gated == nil {
					gated = gatedPool(t, db)
					t.Cleanup(gated.Close)
				}
				aside := func(ctx context.Context, now bool) (err error) {
					if now && test.actor != "" {
						_, err = past.Exec(ctx, test.actor)
					}
					return err
				}
				s.Go("ann", func(ctx context.Context) error {
					if err := aside(ctx, test.first); err != nil {
						return err
					}
					if _, err := gated.Exec(ctx, update); err != nil {
						return err
					}
					return aside(ctx, !test.first)
				})
				s.Go("bob", func(ctx context.Context) error {
					_, err := gated.Exec(ctx, update)
					return err
				})
				s.Always("n is at most 2", func() error {
					if !test.oracle {
						return nil
					}
					if n := valueOf(past, 1); n > 2 {
						return fmt.Errorf("n is %d", n)
					}
					return nil
				})
			})
			if !test.fails {
				harnesstest.MustPass(t, r)
				return
			}
			if r.Failure == nil || r.Failure.Kind != "unscheduled" || !strings.Contains(r.Failure.Message, fmt.Sprintf("%q came", test.actor)) {
				t.Errorf("got %v %+v, want that it was not scheduled", r, r.Failure)
			}
		})
	}
}

// TestAConnectionThatCantBeWatchedIsNamed where the role may not see what another's does.
func TestAConnectionThatCantBeWatchedIsNamed(t *testing.T) {
	address := pgtest.Database(t)
	owner := asOwner(t, address)
	pgtest.Exec(t, owner, `create table accounts (id int primary key, n int not null)`, `insert into accounts values (1, 0)`)
	config := Config{Address: owner}
	past := ungated(t, address)
	r := harness.Explore(t, func(s *harness.Sim) {
		db := New(s, config)
		s.Go("ann", func(ctx context.Context) error {
			pool, err := db.Pool(ctx)
			if err != nil {
				return err
			}
			defer pool.Close()
			if _, err := past.Exec(ctx, `select 1`); err != nil {
				return err
			}
			_, err = pool.Exec(ctx, `update accounts set n = n + 1`)
			return err
		})
	})
	if r.Failure != nil || len(r.Unexplored) != 1 || !strings.Contains(r.Unexplored[0], "pg_read_all_stats") {
		t.Errorf("got %v, unexplored %q", r, r.Unexplored)
	}
}
