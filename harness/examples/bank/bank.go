// Package bank is what the examples have in common: two bills that are paid from
// one account at once, and what must hold afterwards.
package bank

import (
	"context"
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
)

// Balance is what ada has before the bills come.
const Balance = 100

// An Account is ada's, over one library.
type Account interface {
	// Withdraw takes an amount, or reports that there is not so much.
	Withdraw(ctx context.Context, amount int) (paid bool, err error)
	// Balance is what is left.
	Balance(ctx context.Context) (int, error)
}

// Pay is a scenario: rent and food are paid at once, from an account that open
// makes. Only one of them can be.
func Pay(open func(s *harness.Sim) Account) func(s *harness.Sim) {
	return func(s *harness.Sim) {
		account, left := open(s), Balance
		for _, bill := range []struct {
			name   string
			amount int
		}{{"rent", 70}, {"food", 60}} {
			s.Go(bill.name, func(ctx context.Context) error {
				paid, err := account.Withdraw(ctx, bill.amount)
				if paid {
					left -= bill.amount
				}
				return err
			})
		}
		s.Eventually("the balance is what the bills have left", func() error {
			got, err := account.Balance(context.Background())
			if err == nil && (got != left || got < 0) {
				err = fmt.Errorf("it is %d, and %d should be left", got, left)
			}
			return err
		})
	}
}

// Found is for code that is known to be wrong: it fails the test unless a race is
// found, and prints its story.
func Found(t *testing.T, scenario func(s *harness.Sim)) {
	t.Helper()
	r := harness.Explore(t, scenario)
	if r.Failure == nil {
		t.Fatalf("the race was not found: %s", r)
	}
	t.Log(r.Report)
}
