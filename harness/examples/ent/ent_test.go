package ent

import (
	"context"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/examples/bank"
	"github.com/edgaze-ai/runcounter/harness/examples/ent/account"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
)

type accounts struct{ client *Client }

func open(s *harness.Sim) accounts {
	db := sqlite.Open(s, `create table accounts (id integer primary key, name text unique not null, balance integer not null)`,
		`insert into accounts (name, balance) values ('ada', 100)`)
	return accounts{NewClient(Driver(entsql.OpenDB(dialect.SQLite, db)))}
}

func (a accounts) Balance(ctx context.Context) (int, error) {
	ada, err := a.client.Account.Query().Where(account.Name("ada")).Only(ctx)
	if err != nil {
		return 0, err
	}
	return ada.Balance, nil
}

// wrong looks, and then writes what it has reckoned.
type wrong struct{ accounts }

func (a wrong) Withdraw(ctx context.Context, amount int) (bool, error) {
	balance, err := a.Balance(ctx)
	if err != nil || balance < amount {
		return false, err
	}
	err = a.client.Account.Update().Where(account.Name("ada")).SetBalance(balance - amount).Exec(ctx)
	return err == nil, err
}

// right leaves both to one statement.
type right struct{ accounts }

func (a right) Withdraw(ctx context.Context, amount int) (bool, error) {
	n, err := a.client.Account.Update().Where(account.Name("ada"), account.BalanceGTE(amount)).AddBalance(-amount).Save(ctx)
	return n == 1, err
}

func TestEntFound(t *testing.T) {
	bank.Found(t, bank.Pay(func(s *harness.Sim) bank.Account { return wrong{open(s)} }))
}

func TestEntSilent(t *testing.T) {
	harness.Test(t, bank.Pay(func(s *harness.Sim) bank.Account { return right{open(s)} }))
}
