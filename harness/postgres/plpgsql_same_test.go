package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// tricky are functions that would tell if a gate changed anything.
const tricky = `
create table t (id int primary key, n int not null default 0, "Quoted" text);
create table log (id serial primary key, what text);
insert into t select i, i * 10 from generate_series(1, 15) i;
create schema elsewhere;
create table elsewhere.t (id int primary key, n int);
insert into elsewhere.t values (1, 111);

create function found_stays() returns text language plpgsql as $fn$
declare
    a boolean; b boolean; c boolean; rows bigint; x int;
begin
    update t set n = n where id <= 3;
    if (select count(*) from t) > 0 then a := found; end if;
    get diagnostics rows = row_count;
    delete from t where id = 99;
    x := (select 1);
    b := found;
    insert into log (what) select 'x' from generate_series(1, 2);
    c := found;
    return format('%s %s %s %s', a, b, c, rows);
end
$fn$;

create function rows_of(k int) returns text language plpgsql as $$
declare v bigint; w bigint; begin
    update t set n = n + 1 where id <= k;
    get diagnostics v = row_count;
    perform 1 from t where id <= k + 1;
    get diagnostics w = row_count;
    return v || ' ' || w || ' ' || found;
end $$;

create function caught(k int) returns text language plpgsql as $$
<<o>>
declare said text; at text; detail text;
begin
    insert into log (what) values ('kept');
    begin
        insert into log (what) values ('gone');
        insert into t (id) values (k);
        return 'new';
    exception
        when unique_violation or foreign_key_violation then
            insert into log (what) values ('handled ' || sqlstate);
            get stacked diagnostics said = message_text, at = pg_exception_context;
            begin
                perform 1 / (select 0);
            exception when division_by_zero then
                said := o.said || '; ' || sqlerrm;
            end;
            return said || ' @ ' || at;
    end;
end o $$;

create function raises(k int) returns int language plpgsql as $$
begin

    if k > 1 then
        perform raises(k - 1);
    end if;
    update t set n = n / 0 where id = 1;
    return 1;
end $$;

create function context() returns text language plpgsql as $$
declare stack text;
begin
    perform 1 from t;
    get diagnostics stack = pg_context;
    return stack;
end $$;

create function pathed() returns int language plpgsql set search_path = elsewhere, pg_temp as $$
begin return (select n from t where id = 1); end $$;

create function elsewhere.pg_backend_pid() returns int language plpgsql as $$ begin raise 'not this one'; end $$;
create function elsewhere.current_setting(text) returns text language plpgsql as $$ begin raise 'not this one'; end $$;
create function elsewhere.differ(text, text) returns boolean language plpgsql as $$ begin raise 'not this one'; end $$;
create operator elsewhere.= (leftarg = text, rightarg = text, function = elsewhere.differ);
create operator elsewhere.<> (leftarg = text, rightarg = text, function = elsewhere.differ);
create function pathed_first() returns int language plpgsql set search_path = elsewhere, pg_catalog set lock_timeout = '1s' as $$
begin return (select n from t where id = 1); end $$;

create function defined() returns text language plpgsql security definer as $$
begin return (select n || current_user from t where id = 1); end $$;

create function strictly(k int) returns int language plpgsql strict as $$
begin update t set n = 0 where id = k; return k; end $$;

create function several(k int) returns setof t language plpgsql as $$
declare r t;
begin
    return query select * from t where id < k order by id;
    for r in select * from t where id >= k order by id limit 2 loop
        r.n := -r.n;
        return next r;
    end loop;
    return query execute 'select * from t where id = $1' using k + 5;
    return;
end $$;

create function table_of() returns table (id int, n bigint) language plpgsql as $$
#variable_conflict use_column
begin
    return query select id, n::bigint from t where id < 3 order by id;
    id := 100; n := (select max(n) from t); return next;
end $$;

create function stable_sum() returns bigint language plpgsql stable as $$ begin return (select sum(n) from t); end $$;

create function sees_its_own() returns text language plpgsql as $$
declare a bigint := stable_sum(); b bigint;
begin
    update t set n = n + 1;
    b := stable_sum();
    return b - a;
end $$;

create function touch() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and (select old.n > new.n) then
        new."Quoted" := 'less' || (select count(*) from log);
        insert into log (what) values (format('%s: %s to %s', tg_name, old.n, new.n));
    elsif tg_op = 'INSERT' then
        if exists (select from t where t.n = new.n) then return null; end if;
    end if;
    return new;
end $$;
create trigger touch before insert or update on t for each row execute function touch();

create function loops() returns text language plpgsql as $$
declare r record; word text := ''; i int := 0; a int[] := array[3, 4]; c cursor (k int) for select id from t where id <= k order by id; d refcursor;
begin
    <<w>> while (select count(*) from log) < 12 loop
        i := i + 1;
        insert into log (what) values ('w' || i);
        continue w when i % 2 = 0;
        word := word || 'w';
    end loop w;
    for r in select id from t order by id for update loop
        continue when r.id = 2;
        exit when r.id > 12;
        word := word || r.id;
    end loop;
    for r in c(2) loop word := word || ' c' || r.id; end loop;
    foreach i in array a loop word := word || i; end loop;
    for i in reverse 3..(select 1) by 2 loop word := word || ',' || i; end loop;
    open d for execute 'select id from t where id > $1 order by 1' using 13;
    loop
        fetch d into i;
        exit when not found;
        word := word || ';' || i;
    end loop;
    close d;
    return word;
end $$;

create function cases(k int) returns text language plpgsql as $$
begin
    case (select n from t where id = k)
        when 10, 11 then return 'ten';
        when (select n from t where id = 2) then return case when true then 'twenty' else 'no' end;
        else if k = 3 then return 'three'; else if (select true) then return 'else if'; end if; end if;
    end case;
    return null;
end $$;

create function no_case() returns int language plpgsql as $$ begin case (select 3) when 4 then return 1; end case; end $$;
create function no_return() returns int language plpgsql as $$ declare x int := (select 1); begin end $$;
create function nothing(out a int, out b text) language plpgsql as $$ <<b>> declare y int := (select 5); begin b.y := y + 1; a := y; nothing.b := 'x'; end b; $$;
create function "Odd ""Name"""(int) returns int language plpgsql as '
begin
  return $1 + (select ''0''::int); -- it''s
end';
create function patient() returns text language plpgsql set lock_timeout = '1ms' as $$
begin perform 1 from t; return current_setting('lock_timeout') || (select count(*) from t); end $$;
create procedure commits(inout k int) language plpgsql as $$
begin
    insert into log (what) values ('first');
    commit;
    insert into log (what) values ('second');
    rollback;
    k := (select count(*) from log);
end $$;
create function recursive(k int) returns int language plpgsql as $$
begin return case when k = 0 then (select count(*) from t) else recursive(k - 1) + (select 1) end; end $$;
create function any_of(a anyelement) returns anyelement language plpgsql as $$ declare b a%type; begin select a into strict b; return b; end $$;
create function asserts() returns void language plpgsql as $$ begin assert (select false), 'it isn''t'; end $$;
create view seen as select rows_of(1) as r;
create table defaulted (id int default recursive(1), k int);
create function parallel() returns int language plpgsql parallel safe as $$ begin return (select 1); end $$;
`

// attempts call them.
var attempts = []string{
	`select rows_of(0)`, `select rows_of(3)`, `select caught(1)`, `select caught(77)`, `select raises(3)`, `select context()`, `select pathed(), pathed_first()`, `select defined()`,
	`select strictly(null), strictly(4)`, `select * from several(3)`, `select several(2)`, `select * from table_of()`, `select sees_its_own()`,
	`update t set n = n - 1 where id in (5, 6)`, `insert into t values (20, 1), (21, 10000) returning *`, `select loops()`, `select cases(1), cases(2), cases(3), cases(4)`,
	`select no_case()`, `select no_return()`, `select * from nothing()`, `select "Odd ""Name"""(3)`, `select patient()`, `call commits(1)`, `select recursive(4)`,
	`select any_of(3), any_of('x'::text)`, `select asserts()`, `select * from seen`, `insert into defaulted (k) values (1) returning *`, `select parallel()`, `select found_stays()`,
	`do $$ begin perform rows_of(2); raise notice 'found %', found; end $$`, `begin; select caught(1); savepoint s; select raises(1); rollback to s; select rows_of(1); commit`,
	`select * from t order by id`, `select * from log order by id`, `select * from defaulted`,
	`select proname, proowner::regrole::text, proacl::text, provolatile, prosecdef, proconfig::text, proisstrict, proretset, prosqlbody::text, obj_description(oid, 'pg_proc') from pg_proc where pronamespace = 'public'::regnamespace order by 1`,
}

// tries runs the attempts, and says all that a client hears of them.
func tries(ctx context.Context, conn *pgx.Conn, notices *[]string) (list []string) {
	for _, text := range attempts {
		*notices = nil
		said := []string{text}
		results := conn.PgConn().Exec(ctx, text)
		for results.NextResult() {
			r := results.ResultReader()
			for r.NextRow() {
				said = append(said, fmt.Sprintf("%q", r.Values()))
			}
			tag, err := r.Close()
			if err == nil {
				said = append(said, tag.String())
			}
		}
		err := results.Close()
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			said = append(said, fmt.Sprintf("%s %s %s %s at %d", refused.Code, refused.Message, refused.Detail, refused.Where, refused.Position))
		} else if err != nil {
			said = append(said, err.Error())
		}
		list = append(list, strings.Join(append(said, *notices...), "\n"))
		if conn.PgConn().TxStatus() != 'I' {
			_, _ = conn.Exec(ctx, "rollback")
		}
	}
	return list
}

// TestGatesChangeNothing: results, errors with their lines, notices and rows are
// the same without gates, with open ones, and stepped through.
func TestGatesChangeNothing(t *testing.T) {
	address, notices := pgtest.Database(t), []string(nil)
	connect := func(configure func(*pgx.ConnConfig)) *pgx.Conn {
		config, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Severity+" "+n.Message) }
		configure(config)
		conn, err := pgx.ConnectConfig(context.WithoutCancel(t.Context()), config)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	setup := func(address string) error {
		pgtest.Exec(t, address, `drop schema public cascade; drop schema if exists elsewhere cascade; create schema public`, tricky, `revoke execute on function patient() from public; comment on function patient() is 'waits'`)
		return nil
	}
	run := func() []string {
		conn := connect(func(*pgx.ConnConfig) {})
		defer conn.Close(t.Context())
		return tries(t.Context(), conn, &notices)
	}
	if err := setup(address); err != nil {
		t.Fatal(err)
	}
	want := run()

	if err := setup(address); err != nil {
		t.Fatal(err)
	}
	o, err := observe(address)
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.stepsInto([]string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	gates := 0
	for _, f := range s.functions {
		if f.refused != "" && f.name != "parallel" {
			t.Errorf("%s: %s", f.name, f.refused)
		}
		gates += len(f.gates)
	}
	if gates < 58 {
		t.Errorf("%d gates", gates)
	}
	if diff := cmp.Diff(want, run()); diff != "" {
		t.Errorf("with open gates (-without +with):\n%s", diff)
	}
	if err := s.undone(o); err != nil {
		t.Fatal(err)
	}
	o.close()

	var got []string
	r := harness.Explore(t, func(s *harness.Sim) {
		db := New(s, Config{Address: address, Setup: setup, StepInto: []string{"*"}})
		conn := connect(db.Gate)
		s.OnEnd(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		s.Go("actor", func(ctx context.Context) error { got = tries(ctx, conn, &notices); return nil })
	})
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stepped through (-without +with):\n%s", diff)
	}
	t.Logf("%d attempts, %d gates, %d steps", len(attempts), gates, r.Steps)
	if r.Steps < 150 {
		t.Errorf("%d steps", r.Steps)
	}
	left := []string{
		"line 5 of the function public.cases", "the block do $$ begin perform rows_of(2); raise n…",
		"the function public.parallel, which can't be stepped through (it may run in a parallel worker)",
	}
	if diff := cmp.Diff(left, r.Unexplored); diff != "" {
		t.Errorf("unexplored (-want +got):\n%s", diff)
	}
}
