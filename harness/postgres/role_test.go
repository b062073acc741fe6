package postgres

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// asOwner is the address of a role that owns what it makes in a database, and no
// more.
func asOwner(t *testing.T, address string) string {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	role := "owner_of" + strings.TrimPrefix(u.Path, "/runcounter_test")
	pgtest.Exec(t, address, `create role `+role+` login password '`+pgtest.Password+`'`, `grant create on schema public to `+role)
	t.Cleanup(func() { pgtest.Exec(t, address, `drop owned by `+role, `drop role `+role) })
	u.User = url.UserPassword(role, pgtest.Password)
	return u.String()
}

// everything is what a database holds, in words.
func everything(t *testing.T, address string) []string {
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `
select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_'
union all select format('%s %s %s', relkind, relname, relhastriggers) from pg_class where relnamespace = 'public'::regnamespace
union all select format('trigger %s %s', tgname, tgenabled) from pg_trigger where not tgisinternal
union all select format('rule %s %s', rulename, ev_enabled) from pg_rewrite where ev_class::regclass::text in ('people', 'teams', 'notes')
union all select format('key %s %s %s', conname, condeferrable, condeferred) from pg_constraint where contype = 'f'
union all select format('person %s', p) from people p
union all select format('team %s', t) from teams t
union all select format('note %s', n) from notes n
union all select format('sequence %s %s', last_value, is_called) from notes_id_seq
order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestCaseH18_ARoleThatIsNoSuperuserWorks, and leaves nothing behind: on tables
// that refer to each other in a circle and to themselves, with triggers and a
// rule.
func TestCaseH18_ARoleThatIsNoSuperuserWorks(t *testing.T) {
	address := asOwner(t, pgtest.Database(t))
	ctx := context.Background()
	pgtest.Exec(t, address, `
create table teams (id int primary key, lead int);
create table people (id int primary key, team int not null references teams, boss int references people on delete restrict, n int not null default 0);
alter table teams add constraint led_by foreign key (lead) references people;
create table notes (id serial primary key, person int not null references people on delete cascade, text text);
create function noted() returns trigger language plpgsql as $$ begin insert into notes (person, text) values (new.id, tg_op); return null; end $$;
create trigger noted after insert or update on people for each row execute function noted();
create trigger never after insert on people for each row execute function noted();
alter table people disable trigger never;
create trigger always after insert on teams for each statement execute function noted();
alter table teams disable trigger always;
create rule unseen as on delete to notes where old.text = 'kept' do instead nothing;
insert into teams values (1, null); insert into people values (1, 1, null), (2, 1, 1); update teams set lead = 1;
insert into notes (person, text) values (2, 'kept');`)
	before := everything(t, address)
	waited := false
	config := Config{Address: address, held: func(engine.Actor) { waited = true }}
	var pool *pgxpool.Pool
	scenario := func(text string) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			db := New(s, config)
			if pool == nil {
				pool = gatedPool(t, db)
				t.Cleanup(pool.Close)
			}
			for _, name := range []string{"first", "second"} {
				s.Go(name, func(context.Context) error {
					n, err := number(pool.QueryRow(ctx, `select n from people where id = 2`))
					if err == nil {
						_, err = pool.Exec(ctx, fmt.Sprintf(text, n+1))
					}
					return err
				}, harness.Needed())
			}
			s.Eventually("both are counted", func() error {
				n, err := number(pool.QueryRow(ctx, `select n from people where id = 2`))
				if err == nil && n != 2 {
					err = fmt.Errorf("n is %d", n)
				}
				return err
			})
		}
	}
	harnesstest.MustFail(t, harness.Explore(t, scenario(`update people set n = %d where id = 2`)), "eventually", "both are counted")
	if r := harness.Explore(t, scenario(`update people set n = n + 1 where id = 2 and %d > 0`)); r.Failure != nil {
		t.Fatal(r.Report)
	}
	if diff := cmp.Diff(before, everything(t, address)); diff != "" {
		t.Errorf("it left something behind (-before +after):\n%s", diff)
	}
	t.Run("and waits for locks", func(t *testing.T) {
		waited = false
		r := harness.Explore(t, func(s *harness.Sim) {
			scenario(`update people set n = n + 1 where id = 2 and %d > 0`)(s)
			s.Go("holder", func(context.Context) error {
				return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, `update people set n = n where id = 2`)
					return err
				})
			})
		}, harness.WithStrategies(harness.Random(10)))
		if r.Failure != nil {
			t.Fatal(r.Report)
		}
		if !waited {
			t.Errorf("none waited in %s", r)
		}
	})
}
