package cases

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/postgres"
)

// serve returns the address of a database with these tables, as the role that owns
// them and is no superuser.
func serve(t *testing.T, statements ...string) string {
	t.Helper()
	return postgres.Start(t).Database(t, statements...)
}

// gated is how to connect to the database of a schedule.
func gated(t *testing.T, db *postgres.Database) *pgx.ConnConfig {
	t.Helper()
	config, err := pgx.ParseConfig(db.Address())
	if err != nil {
		t.Fatal(err)
	}
	db.Gate(config)
	return config
}

// pooled has ann and bob do the same at once, over a pool, and says what is there
// afterwards.
func pooled(t *testing.T, address string, do func(ctx context.Context, pool *pgxpool.Pool) error, want int) func(s *harness.Sim) {
	t.Helper()
	return func(s *harness.Sim) {
		db := postgres.New(s, postgres.Config{Address: address})
		pool, err := db.Pool(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.OnEnd(pool.Close)
		for _, name := range []string{"ann", "bob"} {
			s.Go(name, func(ctx context.Context) error { return do(ctx, pool) })
		}
		s.Eventually("it is as it should be", func() error {
			var n int
			err := pool.QueryRow(context.Background(), `select n from counter`).Scan(&n)
			if err == nil && n != want {
				err = fmt.Errorf("%d, and not %d", n, want)
			}
			return err
		})
	}
}

func TestH3CodeWithoutContextsIsExplored(t *testing.T) {
	address := serve(t, counter)
	found(t, harness.Explore(t, func(s *harness.Sim) {
		handle := stdlib.OpenDB(*gated(t, postgres.New(s, postgres.Config{Address: address})))
		s.OnEnd(func() { _ = handle.Close() })
		for _, name := range []string{"ann", "bob"} {
			s.Go(name, func(context.Context) error {
				var n int
				err := handle.QueryRow(`select n from counter`).Scan(&n)
				if err == nil {
					_, err = handle.Exec(`update counter set n = $1`, n+1)
				}
				return err
			})
		}
		s.Eventually("both are counted", counts(handle, 2))
	}), "lost update")
	found(t, harness.Explore(t, pooled(t, address, func(_ context.Context, pool *pgxpool.Pool) error {
		var n int
		err := pool.QueryRow(context.Background(), `select n from counter`).Scan(&n)
		if err == nil {
			_, err = pool.Exec(context.Background(), `update counter set n = $1`, n+1)
		}
		return err
	}, 2)), "lost update")
}

func TestH4CopyIsAStep(t *testing.T) {
	address := serve(t, `create table lines (n int)`, `create table counter (n int)`, `insert into counter values (0)`)
	found(t, harness.Explore(t, pooled(t, address, func(ctx context.Context, pool *pgxpool.Pool) error {
		if _, err := pool.CopyFrom(ctx, pgx.Identifier{"lines"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}})); err != nil {
			return err
		}
		_, err := pool.Exec(ctx, `update counter set n = n + (select count(*) from lines)`)
		return err
	}, 6)), "8, and not 6") // one after the other sees 2, and then 4
}

func TestH12WhatRunsInAFunctionIsNamed(t *testing.T) {
	address := serve(t, counter, `create function count_run() returns void language plpgsql as $$
		declare c int; begin select n into c from counter; update counter set n = c + 1; end $$`)
	r := harness.Explore(t, pooled(t, address, func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pool.Exec(ctx, `select count_run()`)
		return err
	}, 2))
	if r.Failure == nil && !strings.Contains(r.String(), "but for what happens inside the function public.count_run") {
		t.Errorf("got %s, want that the function was not explored", r)
	}
}

func TestH17WhatIsNoStatementIsRefused(t *testing.T) {
	for _, statement := range []*postgres.Statement{{SQL: `selct nonsense`}, {SQL: `update counter set n = 1`}} {
		r := harness.Explore(t, func(s *harness.Sim) {
			session := postgres.NewReadCommitted(s, []postgres.Table{{Name: "counter", Columns: []string{"n"}, Rows: []postgres.Row{{int64(0)}}}}).Session()
			s.Go("ann", func(ctx context.Context) error {
				_, err := session.Exec(ctx, statement)
				return err
			})
		})
		if r.Failure == nil {
			t.Errorf("%s passes: %s", statement.SQL, r)
		}
	}
}

func TestH18ARoleThatIsNoSuperuserWorksAndLeavesNothing(t *testing.T) {
	address := serve(t, counter)
	things := func() (n int, super bool) {
		db, err := sql.Open("pgx", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		err = db.QueryRow(`select (select count(*) from pg_class) + (select count(*) from pg_proc) + (select count(*) from pg_namespace where nspname !~ '^pg_(toast_)?temp_'), rolsuper
			from pg_roles where rolname = current_user`).Scan(&n, &super)
		if err != nil {
			t.Fatal(err)
		}
		return n, super
	}
	before, super := things()
	if super {
		t.Fatal("the role is a superuser")
	}
	allOrders(t, harness.Explore(t, pooled(t, address, func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pool.Exec(ctx, `update counter set n = n + 1`)
		return err
	}, 2)))
	if after, _ := things(); after != before {
		t.Errorf("%d things in the catalog, %d before", after, before)
	}
}
