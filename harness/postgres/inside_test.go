package postgres

import (
	"context"
	"slices"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestCaseH12_WhatRunsInsideTheDatabaseIsNamed: functions that the text calls,
// and those behind the tables that it names; not those in which nothing can come
// between, nor what PostgreSQL runs for a foreign key.
func TestCaseH12_WhatRunsInsideTheDatabaseIsNamed(t *testing.T) {
	config := Config{Address: pgtest.Database(t), Setup: func(address string) error {
		pgtest.Exec(t, address, `
create table plain (id int primary key, n int);
create table stamped (id int primary key, n int, at timestamptz);
create function stamp() returns trigger language plpgsql as $$ begin new.at := now(); return new; end $$;
create trigger stamp before update on stamped for each row execute function stamp();
create table audited (id int primary key, n int);
create function audit() returns trigger language plpgsql as $$ begin update plain set n = n + 1; return null; end $$;
create trigger audit after update on audited for each row execute function audit();
create table parent (id int primary key);
create table child (parent int references parent on delete cascade);
create trigger audit after delete on child for each row execute function audit();
create table firm (parent int references parent on delete restrict);
create view seen as select n from plain where n >= 0;
create function begin_run(a int) returns int language plpgsql as $$ declare c int; begin select n into c from plain where id = a; update plain set n = c + 1 where id = a; return c; end $$;
create function outer_run(a int) returns int language plpgsql as $$ begin return begin_run(a); end $$;
create function twice(a int) returns int immutable language sql as $$ select 2 * a $$;
create function total() returns bigint stable language sql as $$ select sum(n) from plain $$;
create view computed as select begin_run(1) as n;
create table defaulted (id int default begin_run(1), n int);
create table checked (id int check (twice(id) > 0));
create domain odd as int check (begin_run(value) >= 0);
create table domained (id odd);
create table ruled (id int);
create rule also as on insert to ruled do also insert into plain values (new.id + 100, 0);
create procedure settle() language plpgsql as $$ begin update plain set n = 0; commit; end $$;
create table "Quoted" (id int);
create trigger audit after insert on "Quoted" for each row execute function audit();
insert into plain values (1, 0); insert into stamped values (1, 0); insert into audited values (1, 0); insert into parent values (1);`)
		return nil
	}}
	home := harness.Share(t)
	for _, test := range []struct {
		text string
		want []string
	}{
		{`update plain set n = n + 1`, nil},
		{`update stamped set n = n + 1`, nil},
		{`update audited set n = n + 1`, []string{"the function public.audit"}},
		{`delete from parent where id = 2`, []string{"the function public.audit"}},
		{`insert into firm values (1)`, nil},
		{`select begin_run(1)`, []string{"the function public.begin_run"}},
		{`select public . "begin_run" (1)`, []string{"the function public.begin_run"}},
		{`select outer_run(1)`, []string{"the function public.outer_run"}},
		{`select twice(n) from plain`, nil},
		{`select total()`, nil},
		{`select n from seen`, nil},
		{`select n from computed`, []string{"the function public.begin_run"}},
		{`insert into defaulted (n) values (1)`, []string{"the function public.begin_run"}},
		{`insert into checked values (1)`, nil},
		{`insert into domained values (1)`, []string{"the function public.begin_run"}},
		{`insert into ruled values (1)`, []string{"the rule also of ruled"}},
		{`call settle()`, []string{"the function public.settle"}},
		{`do $$ begin update plain set n = 0; end $$`, []string{"the block do $$ begin update plain set n = 0; end…"}},
		{`select 'begin_run(1)', n from plain -- begin_run(1)`, nil},
		{`insert into "Quoted" values (1)`, []string{"the function public.audit"}},
	} {
		namesInsides(t, config, home, test.want, test.text)
	}
}

// namesInsides has an actor run a statement, and holds what the verdict names of it.
func namesInsides(t *testing.T, config Config, home harness.Option, want []string, text string, args ...any) {
	t.Helper()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := New(s, config)
		s.Go("actor", func(ctx context.Context) error {
			pool, err := db.Pool(ctx)
			if err != nil {
				return err
			}
			defer pool.Close()
			_, err = pool.Exec(ctx, text, args...)
			return err
		})
	}, home)
	if r.Failure != nil {
		t.Errorf("%s: %s", text, r.Report)
	}
	if !slices.Equal(r.Unexplored, want) {
		t.Errorf("%s: unexplored %q, want %q", text, r.Unexplored, want)
	}
}
