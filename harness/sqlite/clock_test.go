package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// TestCaseH16_TheClockOfSQLiteIsTheVirtualOne in statements, defaults and
// triggers, and in the setup.
func TestCaseH16_TheClockOfSQLiteIsTheVirtualOne(t *testing.T) {
	for expression, want := range map[string][2]string{
		`current_timestamp`:                    {"2026-01-01 00:00:00", "2026-01-01 00:01:30"},
		`current_date || current_time`:         {"2026-01-0100:00:00", "2026-01-0100:01:30"},
		`datetime('now')`:                      {"2026-01-01 00:00:00", "2026-01-01 00:01:30"},
		`datetime()`:                           {"2026-01-01 00:00:00", "2026-01-01 00:01:30"},
		`datetime('NOW', '-1 hour', 'subsec')`: {"2025-12-31 23:00:00.000", "2025-12-31 23:01:30.250"},
		`datetime('subsec')`:                   {"2026-01-01 00:00:00.000", "2026-01-01 00:01:30.250"},
		`unixepoch()`:                          {"1767225600", "1767225690"},
		`unixepoch('now', 'subsec')`:           {"1767225600.0", "1767225690.25"},
		`strftime('%s')`:                       {"1767225600", "1767225690"},
		`strftime('%H:%M:%f', 'now')`:          {"00:00:00.000", "00:01:30.250"},
		`round(julianday('now') * 1440)`:       {"3543899760.0", "3543899762.0"},
		`timediff('now', '2026-01-01')`:        {"+0000-00-00 00:00:00.000", "+0000-00-00 00:01:30.250"},
		`date('2024-02-30')`:                   {"2024-03-01", "2024-03-01"},
		`datetime(1092941466, 'unixepoch')`:    {"2004-08-19 18:51:06", "2004-08-19 18:51:06"},
		`coalesce(datetime('nonsense'), 'no')`: {"no", "no"},
		`(select at from made)`:                {"2026-01-01 00:00:00", "2026-01-01 00:00:00"},
	} {
		t.Run(expression, func(t *testing.T) {
			var got [2]string
			r := harness.Explore(t, func(s *harness.Sim) {
				db := Open(s, `create table made (at default current_timestamp, n)`, `insert into made (n) values (1)`, `create table t (v text)`)
				s.Go("worker", func(ctx context.Context) error {
					for i := range got {
						if i > 0 {
							if err := s.Sleep(90*time.Second + 250*time.Millisecond); err != nil {
								return err
							}
						}
						if err := db.QueryRowContext(ctx, `select cast(`+expression+` as text)`).Scan(&got[i]); err != nil {
							return err
						}
					}
					return nil
				})
			})
			if r.Failure != nil || got != want {
				t.Errorf("got %q, want %q; %v", got, want, r.Report)
			}
		})
	}
}

// TestCaseH16_AStatementThatReadsTheClock is tried before and after it moves.
func TestCaseH16_AStatementThatReadsTheClock(t *testing.T) {
	for _, text := range []string{`select unixepoch()`, `insert into t (n) values (1) returning unixepoch(at)`} {
		seen := map[int]bool{}
		r := harness.Explore(t, func(s *harness.Sim) {
			db := Open(s, `create table t (n, at default current_timestamp, day generated always as (date(at)))`, `create index day on t (date(at))`)
			began := s.Now()
			s.Go("sleeps", func(context.Context) error { return s.Sleep(time.Minute) })
			s.Go("looks", func(ctx context.Context) error {
				var at int
				err := db.QueryRowContext(ctx, text).Scan(&at)
				seen[at-int(began.Unix())] = true
				return err
			})
		})
		if r.Failure != nil || !seen[0] || !seen[60] {
			t.Errorf("%s sees %v; %v", text, seen, r.Report)
		}
	}
}

// TestCaseH16_DrawnNamesOfSavepointsAreRenamed in the report, which is then the
// same each time.
func TestCaseH16_DrawnNamesOfSavepointsAreRenamed(t *testing.T) {
	drawn := 0x1c0000
	r := harness.Explore(t, func(s *harness.Sim) {
		db := counter(s, true).Open()
		s.Go("worker", func(ctx context.Context) error {
			return inTx(ctx, db, func(tx *sql.Tx) error {
				for range 2 {
					drawn++
					for _, text := range []string{`SAVEPOINT sp%#x`, `savepoint plain`, `update counter set n = n + 1`, `ROLLBACK TO SAVEPOINT sp%#x`, `release sp%#x`} {
						if strings.Contains(text, "%") {
							text = fmt.Sprintf(text, drawn)
						}
						if _, err := tx.ExecContext(ctx, text); err != nil {
							return err
						}
					}
				}
				_, err := tx.ExecContext(ctx, `update counter set n = n + 1`)
				return err
			})
		})
		s.Eventually("no", func() error { n, err := harnesstest.Read(db); return fmt.Errorf("n is %d, %v", n, err) }) //nolint:errorlint // a text
	})
	report := harnesstest.MustFail(t, r, "eventually", "n is 1")
	for _, want := range []string{"savepoint point1", "savepoint plain", "rollback to point1", "release point1", "savepoint point2"} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("%q is missing in\n%s", want, report)
		}
	}
	if strings.Contains(report.String(), "0x1c") {
		t.Errorf("a drawn name is in\n%s", report)
	}
}

func inTx(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}
