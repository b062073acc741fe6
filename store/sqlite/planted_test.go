package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
	modernc "modernc.org/sqlite"
)

var errPlanted = errors.New("planted")

// planted fails one of the calls that reach the engine: the one at which left is 1.
// Behind a commit none fails: what an operation does then is not of its outcome.
type planted struct {
	left   int
	struck bool
}

func (p *planted) fails() bool {
	p.left--
	p.struck = p.struck || p.left == 0
	return p.left == 0
}

// failing is a driver, a connection, a prepared statement, a transaction or rows whose
// calls may fail.
type (
	failingConnector struct {
		dsn string
		at  *planted
	}
	failingConn struct {
		driver.Conn
		at *planted
	}
	failingStmt struct {
		driver.Stmt
		at *planted
	}
	failingTx struct {
		driver.Tx
		at *planted
	}
	failingRows struct {
		driver.Rows
		at *planted
	}
)

func (f failingConnector) Driver() driver.Driver { return new(modernc.Driver) }

func (f failingConnector) Connect(context.Context) (driver.Conn, error) {
	c, err := new(modernc.Driver).Open(f.dsn)
	return &failingConn{c, f.at}, err
}

func (f *failingConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if f.at.fails() {
		return nil, errPlanted
	}
	tx, err := f.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
	return failingTx{tx, f.at}, err
}

func (f *failingConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	s, err := f.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, text)
	return failingStmt{s, f.at}, err
}

func (f *failingConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	if f.at.fails() {
		return nil, errPlanted
	}
	return f.Conn.(driver.ExecerContext).ExecContext(ctx, text, args)
}

func (f *failingConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	if f.at.fails() {
		return nil, errPlanted
	}
	rows, err := f.Conn.(driver.QueryerContext).QueryContext(ctx, text, args)
	return failingRows{rows, f.at}, err
}

func (f failingStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if f.at.fails() {
		return nil, errPlanted
	}
	return f.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (f failingStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if f.at.fails() {
		return nil, errPlanted
	}
	rows, err := f.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	return failingRows{rows, f.at}, err
}

// Commit rolls back where it fails, as the engine does with what it could not write.
func (f failingTx) Commit() error {
	if f.at.fails() {
		return errors.Join(errPlanted, f.Rollback())
	}
	f.at.left = 0
	return f.Tx.Commit()
}

func (f failingRows) Next(dest []driver.Value) error {
	if f.at.fails() {
		return errPlanted
	}
	return f.Rows.Next(dest)
}

// contents are all rows of all tables, as text.
func contents(t *testing.T, s *Store) string {
	t.Helper()
	rows, err := s.reader.QueryContext(t.Context(), `select name from sqlite_master where type = 'table' order by name`)
	var tables []string
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		var table string
		err := rows.Scan(&table)
		tables = append(tables, table)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, table := range tables {
		rows, err := s.reader.QueryContext(t.Context(), `select * from `+table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, targets := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				targets[i] = &values[i]
			}
			if err := rows.Scan(targets...); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&all, "%s %q\n", table, values)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// TestWhateverFailsIsToldAndLeavesNothingHalfDone: each call that an operation makes of
// the engine fails once, the first, the second and so on, until it makes no more.
func TestWhateverFailsIsToldAndLeavesNothingHalfDone(t *testing.T) {
	at := &planted{}
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "runs.db"), Options{Volatile: true, Connector: func(dsn string) driver.Connector {
		return failingConnector{dsn, at}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, user, workflow := t.Context(), storetest.MustID('a', 1), storetest.MustID('c', 1)
	key := store.KeyOf(user, workflow, store.ID{})
	later := now.Add(time.Hour)
	silent, begun := endedRun(100), storetest.MustID('7', 200)
	silent.Record.Status, silent.Record.CompletedAt = store.Running, time.Time{}
	limits := store.Limits{store.Pending: time.Minute, store.Running: time.Minute, store.Cancelling: time.Minute}
	letter := store.DeadLetter{ReceivedAt: now, Reason: "it is odd", Bytes: 2, Body: []byte("{}")}
	gone := store.Change{Op: store.Delete, Old: endedRun(3).Record, HasOld: true}
	mustIndexWindows(t, s, true)
	bounds := []store.Limit{{Scope: store.KeyLimit, Max: 9}, {Scope: store.UserLimit, Max: 9, From: now.Add(-time.Hour)}}
	for _, op := range []struct {
		name string
		call func() error
	}{
		{"Apply", func() error {
			_, err := s.Apply(ctx, []store.Change{endedRun(1), endedRun(2), endedRun(3), silent}, now)
			return err
		}},
		{"Apply of a deletion", func() error { _, err := s.Apply(ctx, []store.Change{gone}, now); return err }},
		{"Grant", func() error {
			_, err := s.Grant(ctx, store.GrantRequest{User: user, Workflow: workflow, Runs: 5, Who: "ada", Why: "a bad week", IdempotencyKey: "k", Now: now})
			return err
		}},
		{"Begin", func() error {
			_, err := s.Begin(ctx, store.Begin{ID: begun, User: user, Workflow: workflow, Limits: bounds, IdempotencyKey: "k", Now: now})
			return err
		}},
		{"Allowance", func() error {
			_, err := s.Allowance(ctx, store.AllowanceRequest{User: user, Workflow: workflow, Limits: bounds, Now: now})
			return err
		}},
		{"Grants", func() error { _, err := s.Grants(ctx, store.GrantQuery{Limit: 9}); return err }},
		{"RevokeGrant", func() error {
			_, err := s.RevokeGrant(ctx, store.RevokeRequest{Seq: 1, Who: "ada", Why: "a mistake", Now: now})
			return err
		}},
		{"Count of a user", func() error { _, err := s.Count(ctx, store.Scope{User: user}, store.AllTime); return err }},
		{"Count in a window", func() error { _, err := s.Count(ctx, store.Scope{User: user}, store.Window{From: now}); return err }},
		{"Start", func() error { _, err := s.Start(ctx, begun, now); return err }},
		{"Complete", func() error {
			_, err := s.Complete(ctx, store.Completion{ID: begun, Outcome: store.Outcome{Status: store.Completed}, Now: now})
			return err
		}},
		{"Suspects", func() error {
			_, err := s.Suspects(ctx, store.FailStuck{Now: later, Limits: limits, Max: 9})
			return err
		}},
		{"FailStuck", func() error {
			_, err := s.FailStuck(ctx, store.FailStuck{Now: later, Limits: limits, Max: 9, Runs: []store.ID{silent.Record.ID}})
			return err
		}},
		{"Amend", func() error {
			_, err := s.Amend(ctx, store.AmendRequest{ID: begun, Status: store.Failed, Who: "ada", Why: "it was", Now: later})
			return err
		}},
		{"Recount", func() error { _, err := s.Recount(ctx, key, later); return err }},
		{"Audit", func() error { _, err := s.Audit(ctx, store.Audit{Max: 9}); return err }},
		{"AuditTotals", func() error { _, err := s.AuditTotals(ctx, true); return err }},
		{"KeepDeadLetter", func() error { return s.KeepDeadLetter(ctx, letter) }},
		{"SetPolicy", func() error { return s.SetPolicy(ctx, store.Policy{Terminal: true}) }},
		{"Count", func() error { _, err := s.Count(ctx, key.Scope(), store.AllTime); return err }},
		{"Count over all users", func() error {
			_, err := s.Count(ctx, store.Scope{Kind: key.Kind, Ref: key.Ref}, store.AllTime)
			return err
		}},
		{"Run", func() error { _, err := s.Run(ctx, begun); return err }},
		{"CountsOf", func() error { _, err := s.CountsOf(ctx, []store.Key{key}); return err }},
		{"SearchCounts", func() error { _, err := s.SearchCounts(ctx, store.CountQuery{User: user, Limit: 9}); return err }},
		{"SearchRuns", func() error {
			_, err := s.SearchRuns(ctx, store.RunQuery{State: store.PresumedRuns, Limit: 9})
			return err
		}},
		{"History", func() error { _, err := s.History(ctx, begun); return err }},
		{"KeyHistory", func() error { _, err := s.KeyHistory(ctx, key, 9); return err }},
		{"Repairs", func() error { _, err := s.Repairs(ctx, store.Cursor{}, 9); return err }},
		{"Amendments", func() error { _, err := s.Amendments(ctx, 0, 9); return err }},
		{"Recounts", func() error { _, err := s.Recounts(ctx, 0, 9); return err }},
		{"Policy", func() error { _, err := s.Policy(ctx); return err }},
		{"DeadLetters", func() error { _, err := s.DeadLetters(ctx, store.DeadLetterQuery{Limit: 9}); return err }},
		{"DropDeadLetters", func() error { _, err := s.DropDeadLetters(ctx, store.DeadLetterQuery{Until: later}); return err }},
	} {
		const most = 200
		n := 1
		for ; n < most; n++ {
			before := contents(t, s)
			*at = planted{left: n}
			err := op.call()
			at.left = 0
			if !at.struck {
				if err != nil {
					t.Errorf("%s, of which nothing failed: %v", op.name, err)
				}
				break
			}
			if !errors.Is(err, errPlanted) {
				t.Errorf("%s, whose call %d of the engine failed: got %v, want that error", op.name, n, err)
				break
			}
			if after := contents(t, s); after != before {
				t.Errorf("%s, whose call %d of the engine failed, has left something:\nbefore\n%s\nafter\n%s", op.name, n, before, after)
				break
			}
		}
		if n == 1 || n == most {
			t.Errorf("%s: %d calls of the engine, want some", op.name, n-1)
		}
	}
	exact(t, s)
}
