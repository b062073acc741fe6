package sqlc

import (
	"context"
	_ "embed"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/examples/bank"
	"github.com/edgaze-ai/runcounter/harness/postgres"
)

//go:embed schema.sql
var schema string

type accounts struct{ pool *pgxpool.Pool }

// opener has a PostgreSQL with the tables of schema.sql. Each schedule finds them as
// they are here, and opens a pool of its own.
func opener(t *testing.T) func(s *harness.Sim) accounts {
	t.Helper()
	address := postgres.Start(t).Database(t, schema, `insert into accounts values ('ada', 100)`)
	return func(s *harness.Sim) accounts {
		db := postgres.New(s, postgres.Config{Address: address})
		pool, err := db.Pool(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.OnEnd(pool.Close)
		return accounts{pool}
	}
}

func (a accounts) Balance(ctx context.Context) (int, error) {
	balance, err := New(a.pool).Balance(ctx, "ada")
	return int(balance), err
}

// wrong looks, and then writes what it has reckoned. That both are in one
// transaction does not help, under READ COMMITTED.
type wrong struct{ accounts }

func (a wrong) Withdraw(ctx context.Context, amount int) (paid bool, err error) {
	err = pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		q := New(tx)
		balance, err := q.Balance(ctx, "ada")
		if err != nil || int(balance) < amount {
			return err
		}
		paid = true
		return q.SetBalance(ctx, SetBalanceParams{Name: "ada", Balance: balance - int32(amount)})
	})
	return paid && err == nil, err
}

// right leaves both to one statement.
type right struct{ accounts }

func (a right) Withdraw(ctx context.Context, amount int) (bool, error) {
	n, err := New(a.pool).Withdraw(ctx, WithdrawParams{Name: "ada", Amount: int32(amount)})
	return n == 1, err
}

func TestSqlcFound(t *testing.T) {
	open := opener(t)
	bank.Found(t, bank.Pay(func(s *harness.Sim) bank.Account { return wrong{open(s)} }))
}

func TestSqlcSilent(t *testing.T) {
	open := opener(t)
	harness.Test(t, bank.Pay(func(s *harness.Sim) bank.Account { return right{open(s)} }))
}
