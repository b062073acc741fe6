package sqlmodel

import (
	"errors"
	"strings"
	"testing"
)

// refusals are statements that PostgreSQL runs and the model doesn't, by what it
// calls them.
var refusals = []struct{ sql, what string }{
	{`select row_number() over (order by id) from p`, "window functions"},
	{`with recursive x as (select 1) select * from x`, "recursive queries"},
	{`select * from p right join c on c.pid = p.id`, "right joins"},
	{`select * from p, lateral (select 1) x`, "lateral joins"},
	{`select distinct on (id) * from p`, "distinct on"},
	{`select * from p where id = any(array[1, 2])`, "arrays, in = any"},
	{`select array[1, 2]`, "arrays"},
	{`select '{1}'::int[]`, "arrays"},
	{`select j->'a' from e`, "the operator ->"},
	{`select md5('a')`, "the function md5"},
	{`select string_agg(v, ',') from c`, "the aggregate string_agg"},
	{`select extract(epoch from now())`, "the function extract"},
	{`select * from generate_series(1, 3)`, "functions in from, such as generate_series"},
	{`select (1, 2) = (1, 2)`, "row constructors"},
	{`select p from p`, "whole rows as values, such as p"},
	{`select * from pg_class`, "the catalog, such as pg_class"},
	{`select 'a'::bytea`, "the type bytea"},
	{`select 1.5e3`, "numbers written as 1.5e"},
	{`select E'a'`, "string constants with a prefix such as E''"},
	{`select $$a$$`, "dollar-quoted strings"},
	{`begin isolation level serializable`, "the isolation level serializable"},
	{`set local lock_timeout = 1`, "set"},
	{`show server_version`, "show"},
	{`truncate p`, "truncate"},
	{`lock table p`, "lock table"},
	{`listen a`, "listen"},
	{`create table z (id int)`, "changes of the schema: they belong into the schema's text"},
	{`create view z as select 1`, "create view"},
	{`create function z() returns int language sql as 'select 1'`, "create function"},
	{`alter table p add column z int`, "alter table … add column, behind create table"},
	{`drop table p`, "drop"},
	{`create temp table z (id int)`, "create temp"},
	{`merge into p using c on true when matched then delete`, "merge"},
	{`insert into p (id, k) values (1, 2) on conflict (k) where k > 1 do nothing returning (select 1 from q for update of z)`, ""},
	{`update p set (k, n) = (select 1, 2)`, "set of several columns to a subquery"},
	{`select current_user`, "current_user"},
	{`select now() at time zone 'utc'`, "at time zone"},
	{`select 'a' collate "C"`, "collations"},
	{`select pg_advisory_lock_shared(1)`, "the function pg_advisory_lock_shared with 1 arguments"},
	{`select $1 + $2`, "+ of two values without a type: write one behind them, such as $1::int"},
	{`select timestamptz 'yesterday'`, `"yesterday" as a constant of the type timestamp with time zone`},
	{`select 1; select 2`, "several statements in one text"},
}

func TestWhatTheModelDoesNotKnowItRefusesByName(t *testing.T) {
	s, err := newStage(schemas[0]+kindsSchema, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refusals {
		if r.what == "" {
			continue
		}
		_, err := compileText(s.cat, r.sql)
		var refused *refusal
		if !errors.As(err, &refused) || !strings.HasPrefix(refused.what, r.what) {
			t.Errorf("%s: %v, want a refusal of %q", r.sql, err, r.what)
		}
	}
}
