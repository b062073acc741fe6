package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// scripts are texts of none, one and several statements.
var scripts = []string{
	`insert into t values (1); update t set n = n + 1`,
	`insert into t values (1); update t set n = n + 1;`,
	`insert into t values (1); update t set n = n + 1;  `,
	`insert into t values (?); insert into t values (? + 10)`,
	`insert into t values (?1); insert into t values (?2 * ?1)`,
	`select 1 as one; select n from t`,
	`select n from t; select 'x' as x where false;`,
	`select n from t; select 'x' as x where false; -- the end`,
	`select n from t where false; insert into t values (8) returning n`,
	`select n from t; update t set n = 9`,
	`select n from t; update t set n = 9; `,
	`begin; update t set n = n + 5; commit`,
	`begin; update t set n = n + 5; rollback; select n from t`,
	`insert into t values (2); selct nonsense; insert into t values (3)`,
	`insert into t values (2); insert into t values (null); insert into t values (3)`,
	`insert into t values (2); insert into t values (?2), (?9)`,
	`explain insert into t values (4); insert into t values (5)`,
	`/* a; */ insert into t values (6) -- b;
; insert into t select ';' where ';' = "n" or n = 7; insert into t values (length('a;''b'))`,
	`create temp trigger x after insert on t begin update t set n = n + 100 where n = new.n; delete from t where n = 0; end; insert into t values (1); drop trigger x`,
	`;;; insert into t values (1);;`,
	`-- ping`,
	`/* ping; */ ;`,
	``,
	`insert into t values (1)`,
	`insert into t values (1); -- and that is all`,
}

// answered is what a text came to: its error, its result or its rows, and what
// it left in the table.
func answered(ctx context.Context, db *sql.DB, text string, way string) string {
	var b strings.Builder
	args := make([]any, strings.Count(text, "?"))
	for i := range args {
		args[i] = i + 40
	}
	exec := db.ExecContext
	query := db.QueryContext
	if strings.HasPrefix(way, "prepared") {
		s, err := db.PrepareContext(ctx, text)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = s.Close() }()
		exec = func(ctx context.Context, _ string, args ...any) (sql.Result, error) {
			return s.ExecContext(ctx, args...)
		}
		query = func(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
			return s.QueryContext(ctx, args...)
		}
	}
	if strings.HasSuffix(way, "exec") {
		r, err := exec(ctx, text, args...)
		fmt.Fprintf(&b, "error %v, ", err)
		if err == nil && !blank(text) {
			n, err := r.RowsAffected()
			id, err2 := r.LastInsertId()
			fmt.Fprintf(&b, "%d affected, id %d, %v", n, id, errors.Join(err, err2))
		}
		return b.String()
	}
	rows, err := query(ctx, text, args...)
	if err != nil {
		return "error " + err.Error()
	}
	columns, err := rows.Columns()
	fmt.Fprintf(&b, "%q %v", columns, err)
	for rows.Next() {
		list, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range list {
			to[i] = &list[i]
		}
		if err := rows.Scan(to...); err != nil {
			return err.Error()
		}
		if len(columns) < 5 { // an explanation has addresses
			fmt.Fprintf(&b, " %v", list)
		}
	}
	fmt.Fprintf(&b, ", error %v", errors.Join(rows.Err(), rows.Close()))
	return b.String()
}

// bareDatabase is one connection to a database of the test in memory, which
// exists as long as there are any.
func bareDatabase(t *testing.T) *sql.DB {
	db, err := sql.Open("sqlite", "file:/"+t.Name()+"?vfs=memdb")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

// TestCaseH2_AnswersAreThoseOfTheDriver holds texts of several statements to
// the driver without the harness.
func TestCaseH2_AnswersAreThoseOfTheDriver(t *testing.T) {
	const schema = `create table t (n not null); insert into t values (7)`
	ctx := t.Context()
	left := func(db *sql.DB) string {
		var n string
		if err := db.QueryRowContext(ctx, `select coalesce(group_concat(n), '') from t`).Scan(&n); err != nil {
			n = err.Error()
		}
		return n
	}
	for _, way := range []string{"exec", "query", "prepared exec", "prepared query"} {
		for _, text := range scripts {
			bare, setup := bareDatabase(t), bareDatabase(t)
			if _, err := setup.ExecContext(ctx, schema); err != nil {
				t.Fatal(err)
			}
			want := answered(ctx, bare, text, way) + "\nleaves " + left(bare)
			if err := errors.Join(bare.Close(), setup.Close()); err != nil {
				t.Error(err)
			}
			got := ""
			r := harness.Explore(t, func(s *harness.Sim) {
				db := Open(s, schema)
				db.SetMaxOpenConns(1)
				s.Go("worker", func(ctx context.Context) error { got = answered(ctx, db, text, way); return nil })
				s.Eventually("whatever", func() error { got += "\nleaves " + left(db); return nil })
			})
			if r.Failure != nil {
				t.Errorf("%s of %s: %v", way, text, r.Report)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s of %s: -bare driver +harness\n%s", way, text, diff)
			}
		}
	}
}

// TestCaseH2_EachStatementIsAStep counts them.
func TestCaseH2_EachStatementIsAStep(t *testing.T) {
	for text, want := range map[string]int{
		`insert into t values (1); update t set n = n + 1`:            2,
		`begin; update t set n = n + 5; commit;`:                      3,
		`-- ping`:                                                     0,
		`/* ping; */ ;`:                                               0,
		`insert into t values (';'); -- and that is all`:              1,
		`explain insert into t values (4); insert into t values (5)`:  2,
		`create temp trigger x after insert on t begin select 1; end`: 1,
		`explain create temp trigger x after insert on t begin select 1; end; select n from t; select 2`: 3,
	} {
		t.Run(text, func(t *testing.T) {
			r := harness.Explore(t, func(s *harness.Sim) {
				db := Open(s, `create table t (n not null)`)
				s.Go("worker", func(ctx context.Context) error { _, err := db.ExecContext(ctx, text); return err })
			})
			if r.Failure != nil || r.Steps != want {
				t.Errorf("%d steps, want %d; %v", r.Steps, want, r.Report)
			}
		})
	}
}

// TestCaseH2_ALostUpdateInOneText has the look and the act in one call.
func TestCaseH2_ALostUpdateInOneText(t *testing.T) {
	scenario := func(text string) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			db := Open(s, `create table t (n not null)`, `create table seen (who, n)`, `insert into t values (0)`)
			for _, who := range []string{"one", "two"} {
				s.Go(who, func(ctx context.Context) error { _, err := db.ExecContext(ctx, text, who); return err })
			}
			s.Eventually("both are counted", func() error {
				var n int
				err := db.QueryRow(`select n from t`).Scan(&n)
				if err == nil && n != 2 {
					err = fmt.Errorf("n is %d", n)
				}
				return err
			})
		}
	}
	harnesstest.MustFail(t, harness.Explore(t, scenario(`insert into seen select ?1, n from t; update t set n = 1 + (select n from seen where who = ?1)`)), "eventually", "n is 1")
	if r := harness.Explore(t, scenario(`begin immediate; insert into seen select ?1, n from t; update t set n = 1 + (select n from seen where who = ?1); commit`)); r.Failure != nil {
		t.Error(r.Report)
	}
}
