package harness_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
)

// transfer is ordinary code over database/sql, which knows nothing of the
// harness. It looks, and then it acts.
func transfer(ctx context.Context, db *sql.DB, from, to string, amount int) error {
	var balance int
	err := db.QueryRowContext(ctx, `select balance from accounts where name = ?`, from).Scan(&balance)
	if err != nil || balance < amount {
		return err
	}
	_, err = db.ExecContext(ctx, `update accounts set balance = balance + iif(name = ?1, -?3, ?3)
		where name in (?1, ?2)`, from, to, amount)
	return err
}

// bank is the scenario: a database, who uses it at the same time, and what must
// hold whatever the order of their statements.
func bank(s *harness.Sim) {
	db := sqlite.Open(s, `create table accounts (name text primary key, balance integer not null)`,
		`insert into accounts values ('ada', 100), ('bob', 0), ('cy', 0)`)
	s.Go("rent", func(ctx context.Context) error { return transfer(ctx, db, "ada", "bob", 70) })
	s.Go("food", func(ctx context.Context) error { return transfer(ctx, db, "ada", "cy", 60) })
	s.Always("no account is overdrawn", func() error {
		var name string
		var balance int
		err := db.QueryRow(`select name, balance from accounts order by balance`).Scan(&name, &balance)
		if err == nil && balance < 0 {
			err = fmt.Errorf("%s has %d", name, balance)
		}
		return err
	})
}

// In a test of your own, all of this is one line:
//
//	func TestTransfer(t *testing.T) { harness.Test(t, bank) }
//
// An example has no t, and makes do with a name.
type noT struct{ testing.TB }

func (noT) Helper()      {}
func (noT) Name() string { return "TestTransfer" }

func Example() {
	found := harness.Explore(noT{}, bank)
	fmt.Print(found.Report)

	// What the command of its last line does.
	replayed := harness.Explore(noT{}, bank, harness.WithStrategies(harness.Replay("r1f2r1")))
	fmt.Printf("\nonce more: %s\n", replayed.Failure.Message)
	// Output:
	//   VIOLATED  always "no account is overdrawn"    ada has -30
	//   MINIMAL   4 steps, 2 switches, 0 faults   from 4 steps in 9 replays; reproduced 3 of 3
	//     #  rent                                                    food                                                    state
	//     1  select balance from accounts wher… → reads balance=100
	//     2                                                          select balance from accounts wher… → reads balance=100     ← point of no return
	//     3                                                          update accounts set balance = balance + iif… → wrote 2
	//     4  update accounts set balance = balance + iif… → wrote 2                                                           ✗
	//   WHY       stale read: rent read accounts at step 1, before food wrote it at step 3 (rw),
	//             and rent wrote at step 4 what food had written at step 3: accounts (ww)
	//             so no order of the two actors, whose statements are not in one transaction, explains both
	//   FIX       usually: begin immediate before the read, or put the condition into the statement that writes
	//   EXPLORED  2 schedules of all orders, the last of which fails
	//   REPLAY    go test -run '^TestTransfer$' -harness.replay=r1f2r1
	//
	// once more: ada has -30
}
