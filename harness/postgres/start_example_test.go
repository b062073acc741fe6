package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/postgres"
)

const shop = `
create table articles (name text primary key, stock int not null);
insert into articles values ('lamp', 1);`

var errSoldOut = errors.New("sold out")

// sellByRead reads the stock, and then writes what it has computed from it.
func sellByRead(ctx context.Context, db *pgxpool.Pool) error {
	var stock int
	if err := db.QueryRow(ctx, `select stock from articles where name = 'lamp'`).Scan(&stock); err != nil {
		return err
	}
	if stock == 0 {
		return errSoldOut
	}
	_, err := db.Exec(ctx, `update articles set stock = $1 where name = 'lamp'`, stock-1)
	return err
}

// sell has the database compare and subtract in one statement.
func sell(ctx context.Context, db *pgxpool.Pool) error {
	tag, err := db.Exec(ctx, `update articles set stock = stock - 1 where name = 'lamp' and stock > 0`)
	if err == nil && tag.RowsAffected() == 0 {
		return errSoldOut
	}
	return err
}

// selling has two customers buy the last lamp, by a pool of their own: what a
// process that died had open is taken from it.
func selling(t *testing.T, sell func(context.Context, *pgxpool.Pool) error) func(s *harness.Sim) {
	address := postgres.Start(t).Database(t, shop)
	pools := map[string]*pgxpool.Pool{}
	return func(s *harness.Sim) {
		db := postgres.New(s, postgres.Config{Address: address})
		sold := 0
		for _, name := range []string{"ada", "bob"} {
			if pools[name] == nil {
				pools[name] = open(t, db)
			}
			s.Go(name, func(ctx context.Context) error {
				err := sell(ctx, pools[name])
				if err == nil {
					sold++
				}
				if errors.Is(err, errSoldOut) {
					return nil
				}
				return err
			})
		}
		s.Eventually("one lamp is sold", func() error {
			if sold != 1 {
				return fmt.Errorf("%d are", sold)
			}
			return nil
		})
	}
}

func open(t *testing.T, db *postgres.Database) *pgxpool.Pool {
	pool, err := db.Pool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestTheLastLampIsSoldOnce is a test as any program over pgx could have it.
func TestTheLastLampIsSoldOnce(t *testing.T) {
	postgres.NeedServer(t)
	harness.Test(t, selling(t, sell))
}

func TestALostUpdateIsFoundWithNothingSetUp(t *testing.T) {
	postgres.NeedServer(t)
	r := harness.Explore(t, selling(t, sellByRead))
	if r.Failure == nil || r.Failure.Oracle != "one lamp is sold" {
		t.Fatalf("got %v, want that two are sold", r)
	}
}
