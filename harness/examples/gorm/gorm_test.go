// Package gorm explores code over gorm and its pure-Go driver of SQLite, which
// registers the name of another, so that harness/sqlite can't be linked beside it.
// [harness.Gate] takes any driver.
package gorm

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"testing"

	driversqlite "github.com/glebarez/go-sqlite"
	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/examples/bank"
)

type account struct {
	Name    string `gorm:"primaryKey"`
	Balance int
}

type accounts struct{ db *gorm.DB }

// connector opens connections to a file.
type connector struct{ dsn string }

func (c connector) Driver() driver.Driver                        { return &driversqlite.Driver{} }
func (c connector) Connect(context.Context) (driver.Conn, error) { return c.Driver().Open(c.dsn) }

// opener makes the database anew in every schedule: of an engine of which it knows
// nothing the harness puts nothing back.
func opener(t *testing.T) func(s *harness.Sim) accounts {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bank.db")
	return func(s *harness.Sim) accounts {
		handle := sql.OpenDB(harness.Gate(s, connector{path + "?_pragma=busy_timeout(0)&_pragma=synchronous(off)"}))
		s.OnEnd(func() { _ = handle.Close() })
		db, err := gorm.Open(sqlite.Dialector{Conn: handle}, &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
		if err == nil {
			err = db.Migrator().DropTable(&account{})
		}
		if err == nil {
			err = db.AutoMigrate(&account{})
		}
		if err == nil {
			err = db.Create(&account{"ada", bank.Balance}).Error
		}
		if err != nil {
			t.Fatal(err)
		}
		return accounts{db}
	}
}

func (a accounts) Balance(ctx context.Context) (int, error) {
	ada, err := gorm.G[account](a.db).Where("name = ?", "ada").Take(ctx)
	return ada.Balance, err
}

// wrong looks, and then writes what it has reckoned.
type wrong struct{ accounts }

func (a wrong) Withdraw(ctx context.Context, amount int) (bool, error) {
	balance, err := a.Balance(ctx)
	if err != nil || balance < amount {
		return false, err
	}
	err = a.db.WithContext(ctx).Save(&account{"ada", balance - amount}).Error
	return err == nil, err
}

// right leaves both to one statement.
type right struct{ accounts }

func (a right) Withdraw(ctx context.Context, amount int) (bool, error) {
	result := a.db.WithContext(ctx).Model(&account{Name: "ada"}).Where("balance >= ?", amount).
		Update("balance", gorm.Expr("balance - ?", amount))
	return result.RowsAffected == 1, result.Error
}

func TestGormFound(t *testing.T) {
	open := opener(t)
	bank.Found(t, bank.Pay(func(s *harness.Sim) bank.Account { return wrong{open(s)} }))
}

func TestGormSilent(t *testing.T) {
	open := opener(t)
	harness.Test(t, bank.Pay(func(s *harness.Sim) bank.Account { return right{open(s)} }))
}
