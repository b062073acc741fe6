// Package sqlx explores code over sqlx, on SQLite.
package sqlx

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/examples/bank"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
)

type accounts struct{ db *sqlx.DB }

func open(s *harness.Sim) accounts {
	db := sqlite.Open(s, `create table accounts (name text primary key, balance integer not null)`,
		`insert into accounts values ('ada', 100)`)
	return accounts{sqlx.NewDb(db, "sqlite")}
}

func (a accounts) Balance(ctx context.Context) (balance int, err error) {
	err = a.db.GetContext(ctx, &balance, `select balance from accounts where name = 'ada'`)
	return balance, err
}

// wrong looks, and then writes what it has reckoned.
type wrong struct{ accounts }

func (a wrong) Withdraw(ctx context.Context, amount int) (bool, error) {
	balance, err := a.Balance(ctx)
	if err != nil || balance < amount {
		return false, err
	}
	_, err = a.db.NamedExecContext(ctx, `update accounts set balance = :balance where name = :name`,
		map[string]any{"name": "ada", "balance": balance - amount})
	return err == nil, err
}

// right leaves both to one statement.
type right struct{ accounts }

func (a right) Withdraw(ctx context.Context, amount int) (bool, error) {
	result, err := a.db.NamedExecContext(ctx, `update accounts set balance = balance - :amount where name = :name and balance >= :amount`,
		map[string]any{"name": "ada", "amount": amount})
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

func TestSqlxFound(t *testing.T) {
	bank.Found(t, bank.Pay(func(s *harness.Sim) bank.Account { return wrong{open(s)} }))
}

func TestSqlxSilent(t *testing.T) {
	harness.Test(t, bank.Pay(func(s *harness.Sim) bank.Account { return right{open(s)} }))
}
