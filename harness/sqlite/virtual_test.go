package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// found is how many documents a full-text index has for a word.
func found(db *sql.DB, word string) (n int, err error) {
	err = db.QueryRow(`select count(*) from docs where docs match ?`, word).Scan(&n)
	return n, err
}

// TestCaseH5_VirtualTablesAreResetAndSeen has two who look whether a document
// is there, and write it.
func TestCaseH5_VirtualTablesAreResetAndSeen(t *testing.T) {
	setups := map[string]string{
		"of its own":       `create virtual table docs using fts5(body); insert into docs values ('first words')`,
		"of another table": `create table posts (id integer primary key, body text); create virtual table docs using fts5(body, content='posts', content_rowid='id'); create trigger p after insert on posts begin insert into docs(rowid, body) values (new.id, new.body); end; create view writes as select * from posts; insert into posts(body) values ('first words')`,
	}
	for name, setup := range setups {
		for _, wal := range []bool{false, true} {
			for _, immediate := range []bool{false, true} {
				scenario := func(s *harness.Sim) {
					d := New(s, Config{WAL: wal, Setup: func(_ string, db *sql.DB) error { _, err := db.Exec(setup); return err }})
					db := d.Open()
					for _, word := range []string{"first", "second"} {
						if n, err := found(db, word); err != nil || (n == 1) != (word == "first") {
							panic(fmt.Sprintf("a schedule finds %d documents with %s, %v", n, word, err))
						}
					}
					insert := `insert into docs(body) values ('second words')`
					if strings.Contains(setup, "posts") {
						insert = `insert into posts(body) values ('second words')`
					}
					for _, who := range []string{"one", "two"} {
						s.Go(who, func(ctx context.Context) error {
							conn, err := db.Conn(ctx)
							if err != nil {
								return err
							}
							defer func() { _ = conn.Close() }()
							if immediate {
								if _, err := conn.ExecContext(ctx, `begin immediate`); err != nil {
									return err
								}
							}
							var n int
							if err := conn.QueryRowContext(ctx, `select count(*) from docs where docs match 'second'`).Scan(&n); err != nil {
								return err
							}
							if n == 0 {
								if _, err := conn.ExecContext(ctx, insert); err != nil {
									return err
								}
							}
							if immediate {
								_, err = conn.ExecContext(ctx, `commit`)
							}
							return err
						})
					}
					s.Always("it is there once", func() error {
						n, err := found(db, "second")
						if err == nil && n > 1 {
							err = fmt.Errorf("it is there %d times", n)
						}
						return err
					})
					s.Sometimes("it is there", func() bool { n, err := found(db, "second"); return err == nil && n == 1 })
				}
				r := harness.Explore(t, scenario)
				if !immediate {
					harnesstest.MustFail(t, r, "always", "2 times")
				} else if r.Failure != nil || len(r.Unseen) > 0 || r.Schedules() < 2 {
					t.Errorf("%s, wal %v: %s, unseen %q; %v", name, wal, r, r.Unseen, r.Report)
				}
				if len(r.Unexplored) > 0 {
					t.Errorf("%s: unexplored %q", name, r.Unexplored)
				}
			}
		}
	}
}

// TestCaseH5_WhatAVirtualTableTouchesIsPlanned by name, its shadow tables as it.
func TestCaseH5_WhatAVirtualTableTouchesIsPlanned(t *testing.T) {
	for text, want := range map[string]struct{ read, written string }{
		`select * from docs where docs match 'x'`:                  {"docs", ""},
		`insert into docs(body) values ('x')`:                      {"docs", "docs"},
		`select count(*) from docs_data`:                           {"docs", ""},
		`delete from docs_content`:                                 {"", "docs"},
		`insert into base values ('x')`:                            {"docs", "base docs"},
		`select b.body from base b join docs d on d.body = b.body`: {"base docs", ""},
		`select value from json_each('[1]')`:                       {"", ""},
		`select * from area where x1 > 3`:                          {"area", ""},
		`update area set x1 = 2`:                                   {"area", "area"},
		`select name from pragma_table_info('base')`:               {"", ""},
	} {
		harness.Explore(t, func(s *harness.Sim) {
			d := New(s, Config{Setup: func(_ string, db *sql.DB) error {
				_, err := db.Exec(`create virtual table docs using fts5(body); create virtual table area using rtree(id, x0, x1);
create table base (body); create trigger b after insert on base begin insert into docs(body) values (new.body); end`)
				return err
			}})
			p, err := d.open("")
			if err != nil {
				panic(err)
			}
			s.OnEnd(func() { _ = p.conn.Close() })
			plan, err := p.planNow(text, nil)
			if err != nil {
				panic(text + ": " + err.Error())
			}
			slices.Sort(plan.read)
			slices.Sort(plan.written)
			if got := strings.Join(plan.read, " "); got != want.read || plan.other {
				t.Errorf("%s reads %q, want %q; other %v", text, got, want.read, plan.other)
			}
			if got := strings.Join(plan.written, " "); got != want.written {
				t.Errorf("%s writes %q, want %q", text, got, want.written)
			}
		})
	}
}

// TestCaseH5_WhatCannotBeToldIsNamed in the verdict, and depends on everything.
func TestCaseH5_WhatCannotBeToldIsNamed(t *testing.T) {
	r := harness.Explore(t, func(s *harness.Sim) {
		d := New(s, Config{Setup: func(_ string, db *sql.DB) error {
			_, err := db.Exec(`create virtual table docs using fts5(body); create virtual table words using fts5vocab('docs', 'row'); insert into docs values ('one two')`)
			return err
		}})
		db := d.Open()
		for _, who := range []string{"one", "two"} {
			s.Go(who, func(ctx context.Context) error { return execAll(ctx, db, `select * from words`) })
		}
	})
	if r.Failure != nil || r.Schedules() != 2 || len(r.Unexplored) != 1 || !strings.Contains(r.Unexplored[0], "words") {
		t.Errorf("%s, unexplored %q; %v", r, r.Unexplored, r.Report)
	}
}

// TestTheRowsOfTheSetupArePutBack as they were, whatever their types.
func TestTheRowsOfTheSetupArePutBack(t *testing.T) {
	first := ""
	r := harness.Explore(t, func(s *harness.Sim) {
		db := Open(s, `create table v (v, at datetime, b blob, "a ""name" text)`, `create table k (k text primary key) without rowid`,
			`create table s (id integer primary key autoincrement, a any) strict`,
			`insert into v values (1, '2026-01-01 00:00:00', x'', 'x'), (null, 5, zeroblob(3), ''), ('1', 1.0, 'text', null)`,
			`delete from v where rowid = 1`, `insert into k values ('k'), ('')`, `insert into s (a) values ('7'), (7), (7.0), (x'')`, `delete from s where id = 2`)
		state := func() string {
			var text string
			if err := db.QueryRow(`select (select group_concat(rowid || typeof(v) || quote(v) || typeof(at) || quote(at) || typeof(b) || quote(b) || quote("a ""name")) from v) ||
				(select group_concat(quote(k)) from k) || (select group_concat(id || quote(a)) from s) || (select group_concat(name || seq) from sqlite_sequence)`).Scan(&text); err != nil {
				panic(err)
			}
			return text
		}
		if first == "" {
			first = state()
		}
		if got := state(); got != first {
			t.Errorf("a schedule finds\n%s, the first\n%s", got, first)
		}
		for _, who := range []string{"one", "two"} {
			s.Go(who, func(ctx context.Context) error {
				return execAll(ctx, db, `delete from v`, `delete from k`, `insert into s (a) values (1)`, `delete from s`)
			})
		}
	}, harness.WithStrategies(harness.Exhaustive(20)))
	if r.Failure != nil {
		t.Error(r.Report)
	}
}

func setUp(texts ...string) func(string, *sql.DB) error {
	return func(_ string, db *sql.DB) error {
		for _, text := range texts {
			if _, err := db.Exec(text); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		return nil
	}
}
