// Package bun explores code over bun, on SQLite.
package bun

import (
	"context"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/examples/bank"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
)

type account struct {
	bun.BaseModel `bun:"accounts"`

	Name    string `bun:",pk"`
	Balance int
}

type accounts struct{ db *bun.DB }

func open(s *harness.Sim) accounts {
	db := sqlite.Open(s, `create table accounts (name text primary key, balance integer not null)`,
		`insert into accounts values ('ada', 100)`)
	return accounts{bun.NewDB(db, sqlitedialect.New())}
}

func (a accounts) Balance(ctx context.Context) (int, error) {
	ada := account{Name: "ada"}
	err := a.db.NewSelect().Model(&ada).WherePK().Scan(ctx)
	return ada.Balance, err
}

// wrong looks, and then writes what it has reckoned.
type wrong struct{ accounts }

func (a wrong) Withdraw(ctx context.Context, amount int) (bool, error) {
	balance, err := a.Balance(ctx)
	if err != nil || balance < amount {
		return false, err
	}
	_, err = a.db.NewUpdate().Model(&account{Name: "ada", Balance: balance - amount}).WherePK().Exec(ctx)
	return err == nil, err
}

// right leaves both to one statement.
type right struct{ accounts }

func (a right) Withdraw(ctx context.Context, amount int) (bool, error) {
	result, err := a.db.NewUpdate().Model(&account{Name: "ada"}).Set("balance = balance - ?", amount).
		WherePK().Where("balance >= ?", amount).Exec(ctx)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

func TestBunFound(t *testing.T) {
	bank.Found(t, bank.Pay(func(s *harness.Sim) bank.Account { return wrong{open(s)} }))
}

func TestBunSilent(t *testing.T) {
	harness.Test(t, bank.Pay(func(s *harness.Sim) bank.Account { return right{open(s)} }))
}
