// Package harnesstest has what the tests of the harness and its engines share.
package harnesstest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/internal/need"
)

// MustFail fails a test whose exploration found no failure of this kind, or one
// of another text, or that does not happen again.
func MustFail(t *testing.T, r *harness.Result, kind, text string) *harness.Report {
	t.Helper()
	if r.Failure == nil || r.Failure.Kind != kind || !strings.Contains(r.Failure.Message+r.Failure.Oracle, text) {
		t.Fatalf("got %+v, want a failure %s %q", r.Failure, kind, text)
	}
	if r.Report.Again != r.Report.Of {
		t.Errorf("reproduced %d of %d: %s", r.Report.Again, r.Report.Of, r.Report.Diverged)
	}
	return r.Report
}

// MustPass fails a test whose exploration failed, or left out an order.
func MustPass(t *testing.T, r *harness.Result) {
	t.Helper()
	if r.Failure != nil {
		t.Fatalf("%s", r.Report)
	}
	t.Log(r)
	if len(r.Covered) != 1 || !r.Covered[0].Complete || len(r.Unseen) > 0 {
		t.Errorf("%s, unseen %q, want all orders", r, r.Unseen)
	}
}

// Counter makes a table with one row, which each actor of a scenario increments.
const Counter = `create table counter (n integer not null); insert into counter values (0)`

// Increment adds one to the counter, in a transaction.
func Increment(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `update counter set n = n + 1`); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Read returns the counter.
func Read(db *sql.DB) (n int, err error) {
	err = db.QueryRowContext(context.Background(), `select n from counter`).Scan(&n)
	return n, err
}

// endOfTest is how a stand-in for a test ends.
type endOfTest struct{}

// A Stand is a test that may fail.
type Stand struct {
	testing.TB
	name         string
	Logs, Errors strings.Builder
}

// Helper does nothing.
func (s *Stand) Helper() {}

// Name is what the test is called.
func (s *Stand) Name() string { return s.name }

// Logf keeps what the test logs.
func (s *Stand) Logf(format string, args ...any) { fmt.Fprintf(&s.Logs, format+"\n", args...) }

// Log keeps what the test logs.
func (s *Stand) Log(args ...any) { fmt.Fprintln(&s.Logs, args...) }

// Errorf keeps why the test failed.
func (s *Stand) Errorf(format string, a ...any) { fmt.Fprintf(&s.Errors, format+"\n", a...) }

// Fatalf keeps why the test failed, and ends it.
func (s *Stand) Fatalf(format string, a ...any) {
	s.Errorf(format, a...)
	panic(endOfTest{})
}

// Of runs a test of that name as go test would.
func Of(name string, scenario func(*harness.Sim), options ...harness.Option) (s *Stand) {
	s = &Stand{name: name}
	func() {
		defer func() {
			if v := recover(); v != nil {
				if _, ok := v.(endOfTest); !ok {
					panic(v)
				}
			}
		}()
		harness.Test(s, scenario, options...)
	}()
	return s
}

// Trials is how many of something a test draws: more with
// HARNESS_TRIALS=10, ten times as many.
func Trials(t testing.TB, n uint64) uint64 {
	t.Helper()
	if more, err := strconv.ParseUint(os.Getenv("HARNESS_TRIALS"), 10, 32); err == nil {
		n *= more
	}
	if need.Smaller(t) {
		n = max(n/20, 1)
	}
	return n
}

// Lacking returns what is wanted and is not there, sorted.
func Lacking(want, got map[string]bool) []string {
	var list []string
	for k := range maps.Keys(want) {
		if !got[k] {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	return list
}
