package postgres

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// roundabout has a function, run, behind each thing that a statement can use without
// its name.
const roundabout = `
create table plain (id int primary key, n int);
create function run(a int) returns int language plpgsql as $$ begin update public.plain set n = n + a; return a; end $$;
create function run(a int, b int) returns int language plpgsql as $$ begin update public.plain set n = n + a; return a + b; end $$;
create operator +@ (leftarg = int, rightarg = int, function = run);
create aggregate gathered(int) (sfunc = run, stype = int, initcond = '0');
create type money_of as (amount int);
create function run(m money_of) returns int language plpgsql as $$ begin update public.plain set n = n + 1; return m.amount; end $$;
create cast (money_of as int) with function run(money_of) as implicit;
create table wallets (id int, held money_of);
create function run(a text, b int) returns boolean language plpgsql as $$ begin update public.plain set n = n + 1; return a = b::text; end $$;
create operator = (leftarg = text, rightarg = int, function = run);
create domain counted as int check (run(value) > 0);
create type pair as (first counted, second int);
create function takes(a counted) returns int language plpgsql as $$ begin return a; end $$;
create function assigns(a int) returns int language plpgsql as $$ declare c counted; begin c := a; return c; end $$;
create function signs(a int) returns int language plpgsql as $$ begin return a +@ a; end $$;
create function waits(a int) returns int stable language plpgsql as $$ begin return a +@ a; end $$;
create function by_default(a int default run(1)) returns int language sql as $$ select a $$;
create function run(p plain) returns int language plpgsql as $$ begin update public.plain set n = n + 1; return p.n; end $$;
create function split(a int) returns int immutable language plpgsql as $$ begin return a; end $$;
create table lots (id int) partition by list (split(id));
create table lot partition of lots default;
create function run() returns trigger language plpgsql as $$ begin update public.plain set n = n + 1; return new; end $$;
create trigger run before insert on lot for each row execute function run();
create type rank as (v int);
create function less(a rank, b rank) returns boolean immutable language plpgsql as $$ begin return a.v < b.v; end $$;
create function run(a rank, b rank) returns int language plpgsql as $$ begin update public.plain set n = n + 1; return a.v - b.v; end $$;
create operator <| (leftarg = rank, rightarg = rank, function = less);
create operator class by_rank default for type rank using btree as operator 1 <| (rank, rank), function 1 run(rank, rank);
create table ranked (id int, r rank);
create index on ranked using btree (r);
create function hides(a int) returns int immutable language plpgsql as $$ begin return public.run(a); end $$;
create table wide (id int);
create index on wide (hides(id));
create table described (id int, n int);
create statistics told on hides(id), n from described;
create table bounded (id int check (run(id) > 0));
create table secret (id int);
alter table secret enable row level security;
create policy own on secret using (run(id) > 0);
insert into plain values (1, 0);
insert into described values (1, 2);
insert into wallets values (1, row(5));
insert into ranked values (1, row(1)), (2, row(2));`

func TestCaseH12_WhatIsReachedRoundaboutIsNamed(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, roundabout)
	config := Config{Address: address}
	home := harness.Share(t)
	run := []string{"the function public.run"}
	for _, test := range []struct {
		text string
		want []string
	}{
		{`select 1 +@ 2`, run},
		{`select 1 operator(public.+@) 2`, run},
		{`select gathered(id) from plain`, run},
		{`select sum(held) from wallets`, run},
		{`select row(1)::money_of + 1`, run},
		{`select 'a'::text in (1)`, run},
		{`select 3::counted`, run},
		{`select cast('{3}' as counted[])`, run},
		{`select row(1, 2)::pair`, run},
		{`select takes(1)`, run},
		{`select assigns(1)`, []string{"the function public.assigns"}},
		{`select signs(1)`, []string{"the function public.signs"}},
		{`select waits(1)`, []string{"the function public.waits"}},
		{`select by_default()`, []string{"the function public.by_default", "the function public.run"}},
		{`select p.run from plain p`, run},
		{`insert into lots values (1)`, run},
		{`insert into ranked values (3, row(3))`, run},
		{`insert into bounded values (1)`, run},
		{`insert into wide values (1)`, []string{"the function public.hides"}},
		{`analyze described`, []string{"the function public.hides"}},
		{`select id from secret`, run},
		{`select n + 2, -n from plain`, nil},
	} {
		if got := counted(t, address, test.text); got != (len(test.want) > 0) && !slices.Contains(notCounted, test.text) {
			t.Errorf("%s: PostgreSQL says that it runs run: %v", test.text, got)
		}
		namesInsides(t, config, home, test.want, test.text, pgx.QueryExecModeSimpleProtocol)
	}
}

// notCounted run a function that PostgreSQL doesn't count, of an aggregate or of an
// index; or would run it for another role.
var notCounted = []string{`select gathered(id) from plain`, `select id from secret`, `insert into ranked values (3, row(3))`}

// counted asks PostgreSQL itself whether a statement runs a function run, or would
// run one: it counts calls.
func counted(t *testing.T, address, text string) (runs bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, text := range []string{`set track_functions = 'all'`, `begin`, text} {
		if _, err := conn.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if err := conn.QueryRow(t.Context(), `select exists (select from pg_stat_xact_user_functions where funcname = 'run' and calls > 0)`).Scan(&runs); err != nil {
		t.Fatal(err)
	}
	return runs
}

// TestCaseH12_EventTriggersAreNamed where a statement defines something.
func TestCaseH12_EventTriggersAreNamed(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `create table plain (n int)`,
		`create function defined() returns event_trigger language plpgsql as $$ begin update public.plain set n = n + 1; end $$`,
		`create event trigger defined on ddl_command_start execute function defined()`)
	r := harness.Explore(t, func(s *harness.Sim) {
		db := New(s, Config{Address: address})
		s.Go("actor", func(ctx context.Context) error {
			pool, err := db.Pool(ctx)
			if err != nil {
				return err
			}
			defer pool.Close()
			_, err = pool.Exec(ctx, `comment on table plain is 'seen'`)
			return err
		})
	})
	if want := []string{"the function public.defined"}; r.Failure != nil || !slices.Equal(r.Unexplored, want) {
		t.Errorf("%v, unexplored %q, want %q", r, r.Unexplored, want)
	}
}
