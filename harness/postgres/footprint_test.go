package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// linked has tables that lead to each other in each way that a text does not show.
const linked = `
create table a (id int primary key, n int not null);
create table b (id int primary key, n int not null);
create table c (id int generated always as identity, owner int references a);
create table d (id serial, n int);
create table e (id int default nextval('d_id_seq'), n int);
create table log (n int);
create view both_of as select a.n + b.n as n from a, b where a.id = b.id;
create function move(k int) returns int language plpgsql as $$ begin update a set n = n - 1 where id = k; update b set n = n + 1 where id = k; return k; end $$;
create function note() returns trigger language plpgsql as $$ begin insert into log select new.n + max(n) from a; return new; end $$;
create trigger note after update on b for each row execute function note();
insert into a values (1, 0), (2, 0); insert into b values (1, 0), (2, 0); insert into d (n) values (0);`

// drawn are the statements of drawn programs.
var drawn = []string{
	`update a set n = n + 1 where id = 1`, `update a set n = n * 2 where id = 2`, `update b set n = n + 1 where id = 1`,
	`select n from a where id = 1`, `select sum(n) from b`, `select sum(n) from both_of`, `select count(*) from c`, `select count(*) from log`,
	`insert into c (owner) values (2) returning id`, `delete from a where id = 2`, `insert into d (n) values (1) returning id`, `update d set n = n + 1`,
	`select move(1)`, `select n from a where id = 1 for update`, `select n from b where id = 1 for share`, `select n from d`,
	`with moved as (update d set n = 0 returning n) insert into log select n from moved`,
}

// A drawing is what actors do, each in a transaction or not.
type drawing struct {
	texts        [][]string
	transactions []bool
	always       bool
}

// certain are those that show each way in which two statements meet.
var certain = []drawing{
	{[][]string{{`delete from a where id = 2`}, {`insert into c (owner) values (2)`}}, []bool{true, false}, false},
	{[][]string{{`delete from a where id = 2`}, {`insert into c (owner) values (2)`}}, []bool{false, true}, false},
	{[][]string{{`insert into c (owner) values (2)`, `select n from d`}, {`select n from a where id = 2 for update nowait`}}, []bool{true, false}, false},
	{[][]string{{`delete from a where id = 2`}, {`insert into c (owner) values (2)`}}, []bool{false, false}, true},
	{[][]string{{`update b set n = n + 1 where id = 1`}, {`update a set n = n + 1 where id = 1`}}, []bool{false, true}, false},
	{[][]string{{`update b set n = n + 1 where id = 1`}, {`select count(*) from log`}}, []bool{false, false}, true},
	{[][]string{{`select move(1)`}, {`select sum(n) from both_of`}}, []bool{false, false}, false},
	{[][]string{{`insert into d (n) values (1) returning id`}, {`insert into e (n) values (1) returning id`}}, []bool{false, true}, true},
	{[][]string{{`update a set n = n + 1 where id = 1`}, {`select n from a where id = 1`}}, []bool{true, false}, true},
	{[][]string{{`select n from a where id = 1 for update`, `select n from d`}, {`select n from a for update skip locked`}}, []bool{true, false}, false},
	{[][]string{{`begin isolation level repeatable read`, `select n from b where id = 1`, `select n from a where id = 1`, `commit`}, {`update a set n = n + 1 where id = 1`}}, []bool{false, false}, false},
	{[][]string{{`pipeline select n from a for update skip locked`}, {`pipeline select n from a for update skip locked`}}, []bool{false, false}, false},
	{[][]string{{`select n from a where id = 1 for share`}, {`select n from a for share nowait`}, {`update a set n = 5 where id = 1`}}, []bool{true, false, false}, false},
}

// draws returns a drawing by chance.
func draws(draw *rand.Rand, always bool) (d drawing) {
	d.always = always
	for range 2 + draw.IntN(2) {
		texts := make([]string, 1+draw.IntN(2))
		for i := range texts {
			texts[i] = drawn[draw.IntN(len(drawn))]
		}
		d.texts, d.transactions = append(d.texts, texts), append(d.transactions, draw.IntN(2) == 0)
	}
	if len(d.texts) == 3 { // so that all orders are few
		clear(d.transactions)
	}
	return d
}

// contentsOf is what is committed.
func contentsOf(pool *pgxpool.Pool) string {
	var text string
	err := pool.QueryRow(context.Background(), `select concat(
		(select array_agg(n order by id) from a), (select array_agg(n order by id) from b), (select array_agg((id, owner)::text order by id) from c),
		(select array_agg((id, n)::text order by id) from d), (select array_agg(n order by n) from log))`).Scan(&text)
	if err != nil {
		panic(err)
	}
	return text
}

// program runs statements, in a transaction or not, and notes what they answer.
func program(ctx context.Context, pool *pgxpool.Pool, transaction bool, texts []string, said *[]string) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if transaction {
		texts = append(append([]string{"begin"}, texts...), "commit")
	}
	for _, text := range texts {
		if rest, ok := strings.CutPrefix(text, "pipeline "); ok {
			rows, err := flushed(ctx, conn.Conn().PgConn(), rest)
			if err != nil {
				return err
			}
			*said = append(*said, fmt.Sprint(rows))
			continue
		}
		var list []map[string]any
		rows, err := conn.Query(ctx, text, pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			list, err = pgx.CollectRows(rows, pgx.RowToMap)
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			*said = append(*said, refused.Code)
			continue
		}
		if err != nil {
			return err
		}
		*said = append(*said, fmt.Sprint(list))
	}
	return nil
}

// flushed has the answer to a statement before the transaction ends that it is in.
func flushed(ctx context.Context, conn *pgconn.PgConn, text string) (rows int, err error) {
	p := conn.StartPipeline(ctx)
	p.SendQueryParams(text, nil, nil, nil, nil)
	p.SendFlushRequest()
	if err := p.Flush(); err != nil {
		return 0, err
	}
	results, err := p.GetResults()
	if err != nil {
		return 0, err
	}
	if r, ok := results.(*pgconn.ResultReader); ok {
		rows = len(r.Read().Rows)
	}
	return rows, errors.Join(p.Sync(), p.Close())
}

// TestTheReducedSearchOnAServerLosesNothing holds it to the plain one: what actors were
// told, what was left, and what an Always could see.
func TestTheReducedSearchOnAServerLosesNothing(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, linked)
	look := ungated(t, address)
	list := slices.Clone(certain)
	for seed := range harnesstest.Trials(t, 10) {
		list = append(list, draws(rand.New(rand.NewPCG(seed, 15)), seed%3 == 0))
	}
	fewer, whole := 0, 0
	for _, d := range list {
		explore := func(unreduced bool) (r *harness.Result, outcomes, states map[string]bool) {
			outcomes, states = map[string]bool{}, map[string]bool{}
			var pools []*pgxpool.Pool
			r = harness.Explore(t, func(s *harness.Sim) {
				db := New(s, Config{Address: address, unreduced: unreduced})
				states[contentsOf(look)] = true
				said := make([][]string, len(d.texts))
				for i, texts := range d.texts {
					if i == len(pools) {
						pools = append(pools, gatedPool(t, db))
					}
					s.Go(fmt.Sprint("actor ", i), func(ctx context.Context) error { return program(ctx, pools[i], d.transactions[i], texts, &said[i]) })
				}
				if d.always {
					s.Always("seen", func() error {
						states[contentsOf(look)] = true
						return nil
					})
				}
				s.Eventually("over", func() error {
					outcomes[fmt.Sprint(said, contentsOf(look))] = true
					return nil
				})
			}, harness.WithStrategies(harness.Exhaustive(0)))
			for _, pool := range pools {
				pool.Close()
			}
			return r, outcomes, states
		}
		plain, want, wantStates := explore(true)
		reduced, got, gotStates := explore(false)
		if plain.Failure != nil || reduced.Failure != nil {
			t.Fatalf("%v: %v %v\n%v%v", d, plain, reduced, plain.Report, reduced.Report)
		}
		if !plain.Covered[0].Complete || !reduced.Covered[0].Complete {
			t.Logf("%v: not all of it was followed: %s, %s", d, plain, reduced)
			continue
		}
		if plain.Schedules() > reduced.Schedules() {
			fewer++
		}
		whole++
		if !maps.Equal(got, want) || !maps.Equal(gotStates, wantStates) {
			t.Errorf("%v: %s\nlacks %q\nand the states %q", d, reduced, harnesstest.Lacking(want, got), harnesstest.Lacking(wantStates, gotStates))
		}
	}
	t.Logf("%d of %d programs in fewer orders", fewer, whole)
}

// TestADatabaseAtAnotherLevelIsNotReduced, since a snapshot is one of all tables there.
func TestADatabaseAtAnotherLevelIsNotReduced(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `create table t0 (n int)`, `create table t1 (n int)`,
		`do $$ begin execute format('alter database %I set default_transaction_isolation = %L', current_database(), 'repeatable read'); end $$`)
	r := harness.Explore(t, func(s *harness.Sim) {
		db := New(s, Config{Address: address})
		for i := range 2 {
			s.Go(fmt.Sprint("actor ", i), func(ctx context.Context) error {
				pool, err := db.Pool(ctx)
				if err != nil {
					return err
				}
				defer pool.Close()
				_, err = pool.Exec(ctx, fmt.Sprintf(`update t%d set n = n + 1`, i))
				return err
			})
		}
	})
	harnesstest.MustPass(t, r)
	if r.Schedules() != 2 {
		t.Errorf("%s, want both orders", r)
	}
}

// TestCaseH14_TablesApartAreOneOrderOnAServer: three times four statements.
func TestCaseH14_TablesApartAreOneOrderOnAServer(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `create table t0 (n int)`, `create table t1 (n int)`, `create table t2 (n int)`,
		`insert into t0 values (0)`, `insert into t1 values (0)`, `insert into t2 values (0)`)
	pools := map[int]*pgxpool.Pool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		db := New(s, Config{Address: address})
		for i := range 3 {
			if pools[i] == nil {
				pools[i] = gatedPool(t, db)
				t.Cleanup(pools[i].Close)
			}
			s.Go(fmt.Sprint("actor ", i), func(ctx context.Context) error {
				for range 4 {
					if _, err := pools[i].Exec(ctx, fmt.Sprintf(`update t%d set n = n + 1`, i)); err != nil {
						return err
					}
				}
				return nil
			})
		}
	})
	harnesstest.MustPass(t, r)
	if r.Schedules() != 1 {
		t.Errorf("%s, want one", r)
	}
}
