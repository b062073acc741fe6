package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

const reached = `
create table plain (id int primary key, n int);
insert into plain values (1, 0), (2, 0);
create table audited (id int primary key, n int);
insert into audited values (1, 0);
create table ruled (id int);
create rule also as on insert to ruled do also insert into plain values (new.id + 100, 0);
create function audit() returns trigger language plpgsql as $$ begin
  if (select old.n) < 0 then return null; end if;
  update plain set n = n + 1 where id = new.id;
  return null; end $$;
create trigger audit after update on audited for each row execute function audit();
create constraint trigger later after update on audited deferrable initially deferred for each row when (new.n > 5) execute function audit();
create function begin_run(a int) returns int language plpgsql as $$ declare c int; begin
  select n into c from plain where id = a;
  return c; end $$;
create function outer_run(a int) returns int language plpgsql as $$ begin return begin_run(a); end $$;
create function total() returns bigint stable language plpgsql as $$ begin return (select sum(n) from plain); end $$;
create function wraps(a int) returns int stable language plpgsql as $$ begin return begin_run(a); end $$;
create function in_sql(a int) returns int language sql as $$ update plain set n = n + 1 where id = a returning n $$;
create function calls_sql(a int) returns int language plpgsql as $$ begin
  a := a + 0;
  return in_sql(a); end $$;
create function makes_text(a int) returns void language plpgsql as $$ begin
  execute format('update plain set n = %s', a);
  perform 1;
  execute 'update plain set n = ' || a; end $$;
create function has_text(a int) returns int language plpgsql as $$ begin
  execute 'select in_sql($1)' into a using a; return a; end $$;
create function fills(a int) returns void language plpgsql as $$ begin insert into ruled values (a); end $$;
create view computed as select begin_run(1) as n;
create procedure settle() language plpgsql as $$ begin
  update plain set n = 0;
  commit;
  update plain set n = 1; end $$;
create function anonymous() returns void language plpgsql as $$ begin do 'begin update plain set n = 0; end'; end $$;`

var insideFunction = regexp.MustCompile(`^\w+:\d+: `)

// TestCaseH12_WhatIsSteppedThroughIsNotNamed: which statements become which
// steps, and what stays unexplored.
func TestCaseH12_WhatIsSteppedThroughIsNotNamed(t *testing.T) {
	config := Config{Address: pgtest.Database(t), StepInto: []string{"*"}, Setup: func(address string) error {
		pgtest.Exec(t, address, reached)
		return nil
	}}
	home := harness.Share(t)
	for _, test := range []struct {
		text              string
		steps, unexplored []string
		isolation         string
	}{
		{`update plain set n = 1`, nil, nil, ""},
		{`update audited set n = n + 1`, []string{"audit:2: if (select old.n) < 0", "audit:3: update plain set n = n + 1 where id = new.id"}, nil, ""},
		{`update audited set n = 9`, []string{
			"audit:2: if (select old.n) < 0", "audit:3: update plain set n = n + 1 where id = new.id",
			"audit:2: if (select old.n) < 0", "audit:3: update plain set n = n + 1 where id = new.id",
		}, nil, ""},
		{`select outer_run(1)`, []string{"outer_run:1: return begin_run(a)", "begin_run:2: select n into c from plain where id = a"}, nil, ""},
		{`select wraps(1)`, []string{"begin_run:2: select n into c from plain where id = a"}, nil, ""},
		{`select total()`, nil, nil, ""},
		{`select n from computed`, []string{"begin_run:2: select n into c from plain where id = a"}, nil, ""},
		{`select in_sql(1)`, nil, []string{"the function public.in_sql"}, ""},
		{`select calls_sql(1)`, []string{"calls_sql:3: return in_sql(a)"}, []string{"the function public.in_sql"}, ""},
		{`select makes_text(1)`, []string{"makes_text:2: execute format('update plain set n = %s', a)", "makes_text:3: perform 1", "makes_text:4: execute 'update plain set n = ' || a"}, []string{"lines 2 and 4 of the function public.makes_text"}, ""},
		{`select has_text(1)`, []string{"has_text:2: execute 'select in_sql($1)' into a using a"}, []string{"the function public.in_sql"}, ""},
		{`select fills(1)`, []string{"fills:1: insert into ruled values (a)"}, []string{"the rule also of ruled"}, ""},
		{`call settle()`, []string{"settle:2: update plain set n = 0", "settle:3: commit", "settle:4: update plain set n = 1"}, nil, ""},
		{`call settle() `, []string{"settle:2: update plain set n = 0", "settle:3: commit", "settle:4: update plain set n = 1"}, []string{"what follows a COMMIT in settle, whose snapshot is taken at once"}, "repeatable read"},
		{`select anonymous()`, []string{"anonymous:1: do 'begin update plain set n = 0; end'"}, []string{"line 1 of the function public.anonymous"}, ""},
		{`do $$ begin perform begin_run(1); end $$`, []string{"begin_run:2: select n into c from plain where id = a"}, []string{"the block do $$ begin perform begin_run(1); end $$"}, ""},
	} {
		var steps []string
		r := harness.Explore(t, func(s *harness.Sim) {
			db := New(s, config)
			pool := gatedPool(t, db, func(c *pgx.ConnConfig) {
				if test.isolation != "" {
					c.RuntimeParams["default_transaction_isolation"] = test.isolation
				}
			})
			s.OnEnd(pool.Close)
			s.Go("actor", func(ctx context.Context) error {
				_, err := pool.Exec(ctx, test.text)
				return err
			}, harness.Needed())
			s.Eventually("a report", func() error { return errors.New("is what tells its steps") })
		}, home)
		if r.Failure == nil || r.Failure.Oracle != "a report" {
			t.Fatalf("%s: %s", test.text, r.Report)
		}
		for _, step := range r.Report.Steps {
			if insideFunction.MatchString(step.Text) {
				steps = append(steps, step.Text)
			}
		}
		if diff := cmp.Diff(test.steps, steps); diff != "" {
			t.Errorf("%s: steps (-want +got):\n%s", test.text, diff)
		}
		if !slices.Equal(r.Unexplored, test.unexplored) {
			t.Errorf("%s: unexplored %q, want %q", test.text, r.Unexplored, test.unexplored)
		}
	}
}

// bodiesOf are the functions' bodies, and the locks of gates.
func bodiesOf(t *testing.T, address string) map[string]string {
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `select proname || ' ' || oid, prosrc from pg_proc where pronamespace = 'public'::regnamespace
union all select 'a lock', classid::text from pg_locks where locktype = 'advisory'`)
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{}
	var name, body string
	if _, err := pgx.ForEachRow(rows, []any{&name, &body}, func() error { bodies[name] = body; return nil }); err != nil {
		t.Fatal(err)
	}
	return bodies
}

// TestFunctionsAreLeftAsTheyWere, those too in which a process that was killed
// has left its gates.
func TestFunctionsAreLeftAsTheyWere(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, counters)
	before := bodiesOf(t, address)
	o, err := observe(address)
	if err != nil {
		t.Fatal(err)
	}
	killed, err := o.stepsInto([]string{"public.*"})
	if err != nil {
		t.Fatal(err)
	}
	o.close()
	if left := bodiesOf(t, address); maps.Equal(before, left) {
		t.Fatal("no gate was left behind")
	}
	r := harness.Explore(t, bothCount(func(s *harness.Sim) []*pgxpool.Pool {
		db := New(s, Config{Address: address, StepInto: []string{"public.counts_locked"}})
		if _, locked := bodiesOf(t, address)["a lock"]; locked {
			t.Error("a schedule begins with a gate closed, whose session is gone")
		}
		pool := gatedPool(t, db)
		s.OnEnd(pool.Close)
		return []*pgxpool.Pool{pool, pool, pool}
	}, `select counts_locked(1)`), harness.WithStrategies(harness.Preemptions(1, 0)))
	if r.Failure != nil || r.Steps < 6 {
		t.Error(r, r.Report)
	}
	wait.Until(t, "the sessions have ended, and their locks with them", func() bool { _, locked := bodiesOf(t, address)["a lock"]; return !locked })
	if diff := cmp.Diff(before, bodiesOf(t, address)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if len(killed.functions) != 2 {
		t.Errorf("%d functions", len(killed.functions))
	}
}

// TestAFunctionThatIsReplacedIsNamed: the gates went with its old body.
func TestAFunctionThatIsReplacedIsNamed(t *testing.T) {
	open := stepped(t, counters, "*")
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		s.Go("actor", func(ctx context.Context) error {
			_, err := pools[0].Exec(ctx, `create or replace function counts(a int) returns int language plpgsql as $$ begin update counters set n = 7; return 1; end $$`)
			if err == nil {
				_, err = pools[0].Exec(ctx, `select counts(1), counts_locked(1)`)
			}
			return err
		})
	})
	if r.Failure != nil || !slices.Equal(r.Unexplored, []string{"the function public.counts"}) {
		t.Error(r, r.Report)
	}
}

// TestWordsAboutGatesAreNoWordsAboutLocks: that a session waits at a gate doesn't
// say that it has looked for a deadlock where it waits afterwards.
func TestWordsAboutGatesAreNoWordsAboutLocks(t *testing.T) {
	var heard []bool
	b := serverSide{ready: true, looked: func(waits bool) { heard = append(heard, waits) }}
	for _, lock := range []string{fmt.Sprintf("ShareLock on advisory lock [16384,%d,77,2]", oneGate), fmt.Sprintf("ShareLock on advisory lock [16384,%d,77,2]", otherGate), "ShareLock on transaction 731"} {
		raw, err := (&pgproto3.NoticeResponse{Severity: "LOG", SeverityUnlocalized: "LOG", Code: "00000", Routine: "ProcSleep", Message: "process 77 still waiting for " + lock + " after 1.1 ms"}).Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		b.answered(raw)
	}
	if len(heard) != 1 || len(b.out) > 0 {
		t.Errorf("%d words about locks, and %q for the client", len(heard), b.out)
	}
}

// TestAPatternThatMeansNothingIsRefused, by what it says.
func TestAPatternThatMeansNothingIsRefused(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, counters)
	o, err := observe(address)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	for pattern, want := range map[string]string{
		"counts":  `StepInto "counts": no function in plpgsql is called so; they are called by schema and name, such as public.begin_run`,
		"public[": `StepInto "public[": syntax error in pattern`,
	} {
		if _, err := o.stepsInto([]string{"public.counts", pattern}); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", pattern, err, want)
		}
	}
}

const crossing = counters + `
create function crosses(a int, b int) returns void language plpgsql as $$
begin
  update counters set n = n + 1 where id = a;
  update counters set n = n + 1 where id = b;
end $$;`

// TestWaitsInFunctionsAreFound: a circle of two is ended by PostgreSQL, the same
// way each time, and gates are in none.
func TestWaitsInFunctionsAreFound(t *testing.T) {
	open := stepped(t, crossing, "*")
	harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		for i, name := range []string{"up", "down"} {
			s.Go(name, func(ctx context.Context) error {
				_, err := pools[i].Exec(ctx, fmt.Sprintf(`select crosses(%d, %d)`, 1+i, 2-i))
				return err
			}, harness.Needed())
		}
	}), "error", "40P01")
	waited := false
	open = steppedSeen(t, func(engine.Actor) { waited = true }, crossing, "*")
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		for i, name := range []string{"first", "second"} {
			s.Go(name, func(ctx context.Context) error {
				_, err := pools[i].Exec(ctx, `select crosses(1, 2)`)
				return err
			})
		}
	}, harness.WithStrategies(harness.Exhaustive(0)))
	if r.Failure != nil || !waited || !r.Covered[0].Complete {
		t.Error(r, waited, r.Report)
	}
}

// standsInside reports whether a session of a pool stands at a gate.
func standsInside(pool *pgxpool.Pool) bool {
	d := gateOf(pool.Config().ConnString()).now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.wires {
		if w.step != nil && w.step.inside {
			return true
		}
	}
	return false
}

// TestAnActorMayEndWithinAFunction: by a crash, by the end of its schedule, and
// together with its connection; what it had done there is rolled back.
func TestAnActorMayEndWithinAFunction(t *testing.T) {
	open := stepped(t, counters, "*")
	seen := map[int]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		crashed := true
		s.Go("worker", func(ctx context.Context) error {
			err := pgx.BeginFunc(ctx, pools[0], func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `select counts(1)`)
				return err
			})
			crashed = err != nil
			return nil
		}, harness.MayCrash())
		s.Go("other", func(ctx context.Context) error {
			_, err := pools[1].Exec(ctx, `select counts(2)`)
			return err
		})
		s.Eventually("all or nothing", func() error {
			n, err := number(pools[2].QueryRow(context.Background(), `select n from counters where id = 1`))
			if err == nil && !crashed && n != 1 {
				err = fmt.Errorf("n is %d", n)
			}
			seen[n] = true
			return err
		})
	}, harness.WithStrategies(harness.Preemptions(1, 0)))
	if r.Failure != nil || !seen[0] || !seen[1] {
		t.Error(r, seen, r.Report)
	}
	// The first that fails ends the schedule: the other stands at a gate then.
	harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		s.Go("counts", func(ctx context.Context) error {
			_, err := pools[0].Exec(ctx, `select counts(1)`)
			return err
		}, harness.Needed())
		s.Go("fails", func(ctx context.Context) error {
			_, err := pools[1].Exec(ctx, `select 1 from counters`)
			if err == nil && standsInside(pools[0]) {
				err = errors.New("on purpose")
			}
			return err
		}, harness.Needed())
	}), "error", "on purpose")
	if r := harness.Explore(t, bothCount(open, `select counts_locked(1)`), harness.WithStrategies(harness.Preemptions(1, 0))); r.Failure != nil {
		t.Error("it left something behind: ", r.Report)
	}
}

// TestOraclesPassTheGates: what they call through an actor's connection is no step.
func TestOraclesPassTheGates(t *testing.T) {
	open := stepped(t, counters, "*")
	asked := 0
	r := harness.Explore(t, func(s *harness.Sim) {
		pools := open(s)
		s.Go("actor", func(ctx context.Context) error {
			for range 2 {
				if _, err := pools[0].Exec(ctx, `select counts(1)`); err != nil {
					return err
				}
			}
			return nil
		})
		s.Eventually("it can be counted on", func() error {
			asked++
			n, err := number(pools[0].QueryRow(context.Background(), `select counts(1)`))
			if err == nil && n != 2 {
				err = fmt.Errorf("n is %d", n)
			}
			return err
		})
	})
	if r.Failure != nil || r.Steps != 6 || asked == 0 {
		t.Error(r, r.Steps, r.Report)
	}
}

// TestCaseH18_AnOwnerStepsThroughTheirFunctions, and through no others.
func TestCaseH18_AnOwnerStepsThroughTheirFunctions(t *testing.T) {
	super := pgtest.Database(t)
	address := asOwner(t, super)
	pgtest.Exec(t, address, counters)
	pgtest.Exec(t, super, `create function foreign_one() returns int language plpgsql security definer as $$ begin update counters set n = n; return 1; end $$`)
	config := Config{Address: address, StepInto: []string{"*"}}
	open := func(s *harness.Sim) []*pgxpool.Pool {
		pool := gatedPool(t, New(s, config))
		s.OnEnd(pool.Close)
		return []*pgxpool.Pool{pool, pool, pool}
	}
	harnesstest.MustFail(t, harness.Explore(t, bothCount(open, `select counts(1)`)), "eventually", "both are counted")
	r := harness.Explore(t, bothCount(open, `select counts_locked(1) + foreign_one()`), harness.WithStrategies(harness.Preemptions(0, 0)))
	want := "the function public.foreign_one, which can't be stepped through (ERROR: must be owner of function foreign_one (SQLSTATE 42501))"
	if r.Failure != nil || !slices.Equal(r.Unexplored, []string{want}) {
		t.Error(r, r.Report)
	}
}
