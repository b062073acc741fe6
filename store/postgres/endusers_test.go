package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// What end users write, as the Data API has them write it.

const bobsInsert = `insert into workflow_runs (user_id, workflow_id, status, `

func TestCaseT22_EndUsersCantMoveTimesIntoThePast(t *testing.T) {
	t.Parallel()
	address := mustFixture(t)
	pgtest.Exec(t, address, `drop trigger touch on workflow_runs; alter table workflow_runs add heartbeat_at timestamptz, add released_at timestamptz; update workflow_runs set heartbeat_at = now(), released_at = now()`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	c := newCaller(t, address)
	set := func(what, id string) string { return `update workflow_runs set ` + what + ` where id = '` + id + `'` }
	for _, tt := range []struct{ name, sql string }{
		{"the case itself", set(`status = 'cancelling', started_at = now() - interval '1 hour', updated_at = now() - interval '1 hour', created_at = now() - interval '1 hour'`, active)},
		{"started_at", set(`started_at = now() - interval '1 hour'`, active)},
		{"updated_at", set(`updated_at = now() - interval '1 hour'`, active)},
		{"created_at", set(`created_at = now() - interval '1 hour'`, active)},
		{"created_at, before all times", set(`created_at = '-infinity'`, active)},
		{"the heartbeat", set(`heartbeat_at = now() - interval '1 hour'`, active)},
		{"completed_at of a run that goes on", set(`status = 'completed', completed_at = now() - interval '40 days'`, active)},
		{"started_at of a run that has ended", set(`started_at = now() - interval '1 year'`, bobsRun)},
		{"an INSERT that is long over", bobsInsert + `completed_at) values ('` + bob + `', '` + bobFlow + `', 'completed', now() - interval '40 days')`},
		{"an INSERT that began long ago", bobsInsert + `started_at) values ('` + bob + `', '` + bobFlow + `', 'cancelling', now() - interval '40 days')`},
		{"an INSERT written long ago", bobsInsert + `updated_at) values ('` + bob + `', '` + bobFlow + `', 'cancelling', now() - interval '40 days')`},
		{"an INSERT created long ago", bobsInsert + `created_at) values ('` + bob + `', '` + bobFlow + `', 'cancelling', now() - interval '40 days')`},
		{"an upsert", `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + active + `', '` + bob + `', '` + bobFlow + `', 'running')
			on conflict (id) do update set started_at = now() - interval '1 hour'`},
	} {
		_, _, err := c.as("bob", tt.sql)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "42501" || !strings.Contains(e.Message, "into the past") {
			t.Errorf("%s: got %v, want it refused", tt.name, err)
		}
	}
	for _, tt := range []struct{ name, sql string }{
		{"a start", set(`status = 'running', started_at = now(), updated_at = now()`, active)},
		{"an end", set(`status = 'completed', completed_at = now(), updated_at = now(), duration_ms = 5`, active)},
		{"a clock that is four minutes slow", set(`status = 'completed', started_at = now() - interval '4 minutes', completed_at = now() - interval '4 minutes', updated_at = now() - interval '4 minutes'`, active)},
		{"a time of theirs whose name only holds the word lease", set(`released_at = now() - interval '40 days'`, active)},
		{"a clock that is four minutes fast", set(`updated_at = now() + interval '4 minutes'`, active)},
		{"times of JavaScript", set(`created_at = date_trunc('milliseconds', created_at), started_at = date_trunc('milliseconds', started_at), metadata = '{}'`, bobsRun)},
		{"a browser that was offline", bobsInsert + `started_at, completed_at) values ('` + bob + `', '` + bobFlow + `', 'completed', now() - interval '2 hours', now() - interval '1 hour')`},
		{"all columns of a row that stands", `insert into workflow_runs select * from workflow_runs where id = '` + bobsRun + `'
			on conflict (id) do update set started_at = excluded.started_at, completed_at = excluded.completed_at, status = excluded.status, metadata = '{}'`},
	} {
		if _, _, err := c.as("bob", tt.sql); err != nil {
			t.Errorf("%s: got %v, want it to go through", tt.name, err)
		}
	}
	// A row that the server cancelled two months ago is sent back by a client as it is.
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, started_at, completed_at, created_at) values ('`+oneRun+`', '`+bob+`', '`+bobFlow+`',
 'cancelled', now() - interval '60 days', now() - interval '60 days', now() - interval '60 days')`)
	if _, _, err := c.as("bob", `insert into workflow_runs select * from workflow_runs where id = '`+oneRun+`'
 on conflict (id) do update set status = excluded.status, started_at = excluded.started_at, created_at = excluded.created_at, completed_at = excluded.completed_at`); err != nil {
		t.Errorf("a row that is sent back as it is: %v", err)
	}
	pgtest.Exec(t, address, `update run_counter.settings set hardening = false`)
	if _, _, err := c.as("bob", set(`started_at = now() - interval '1 hour'`, active)); err != nil {
		t.Errorf("without hardening: %v", err)
	}
}

// An end needs no bounds where the guard keeps the one that stands: not where it
// is off, nor where that is presumed and gives way.
func TestCaseT22_AnEndThatTheGuardDoesNotKeepIsNotMovedIntoThePast(t *testing.T) {
	t.Parallel()
	address := mustApp(t)
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values ('`+oneRun+`', '`+bob+`', '`+bobFlow+`', 'running', now() - interval '1 hour')`)
	s := mustOpen(t, address, Options{})
	if got, err := s.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.Limits{store.Running: time.Minute}, Max: 10}); err != nil ||
		!slices.ContainsFunc(got, func(r store.Repaired) bool { return r.Before.ID.String() == oneRun && r.Refused == "" }) {
		t.Fatalf("FailStuck: got %+v, %v; want the run among them", got, err)
	}
	c := newCaller(t, address)
	for _, tt := range []struct {
		name, run, guard, want string
	}{
		{"a real end that is kept", bobsRun, "on", ""},
		{"a real end, without the guard", bobsRun, "off", "42501"},
		{"a presumed end", oneRun, "on", "42501"},
		{"a presumed end, without the guard", oneRun, "off", "42501"},
	} {
		pgtest.Exec(t, address, fmt.Sprintf(`update run_counter.settings set guard = '%s'`, tt.guard))
		_, _, err := c.as("bob", `update workflow_runs set status = 'completed', completed_at = now() - interval '40 days' where id = '`+tt.run+`'`)
		if code(err) != tt.want {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// Five minutes is how long a run may be silent. Whatever an end user does to
// the times of a run, it is not taken for stuck within these of what the
// database saw them begin or ask for, or of an earlier sign of life.
func TestCaseT22_ASweepTakesNothingForStuckThatAnEndUserMadeLookSilent(t *testing.T) {
	t.Parallel()
	address := mustFixture(t)
	pgtest.Exec(t, address, `drop trigger touch on workflow_runs; alter table workflow_runs add heartbeat_at timestamptz; delete from workflow_runs;
alter table workflow_runs alter updated_at drop not null, alter created_at drop not null`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	s := mustOpen(t, address, Options{LeaseColumn: "heartbeat_at"})
	const silent = `now() - interval '4 minutes 59 seconds'`
	insert := func(times string) string {
		return `insert into workflow_runs (id, user_id, workflow_id, status, started_at, updated_at, created_at, heartbeat_at) values ('` + active + `', '` + bob + `', '` + bobFlow + `', 'running', ` + times + `)`
	}
	update := func(what string) string { return sourcetest.AsBob(`update workflow_runs set ` + what) }
	for _, tt := range []struct{ name, server, bob string }{
		{"asks for a cancellation", insert(strings.Repeat(silent+", ", 3) + "null"), update(`status = 'cancelling'`)},
		{"asks for one, and sets the times back", insert(`now(),now(),now(),null`), update(`status = 'cancelling', started_at = ` + silent + `, updated_at = ` + silent)},
		{"sets updated_at back", insert(silent + `,now(),now(),null`), update(`updated_at = ` + silent)},
		{"clears updated_at", insert(silent + `,now(),now(),null`), update(`updated_at = null`)},
		{"sets updated_at into the future", insert(silent + `,now(),now(),null`), update(`updated_at = now() + interval '299 seconds'`)},
		{"clears started_at", insert(`now(), ` + silent + `, now(), null`), update(`started_at = null`)},
		{"sets the heartbeat back", insert(silent + `, ` + silent + `, now(), now()`), update(`heartbeat_at = ` + silent)},
		{"clears the heartbeat", insert(silent + `, ` + silent + `, now(), now()`), update(`heartbeat_at = null`)},
		{"sets the heartbeat into the future", insert(silent + `, ` + silent + `, now(), now()`), update(`heartbeat_at = now() + interval '1 day'`)},
		{"inserts a run that looks silent", "select 1", sourcetest.AsBob(insert(strings.Repeat(silent+", ", 3) + "null"))},
		{"inserts a run without times", "select 1", sourcetest.AsBob(insert(`null,null,` + silent + `, null`))},
		{"inserts a run of the future", "select 1", sourcetest.AsBob(insert(`now() + interval '299 seconds', now() + interval '299 seconds', ` + silent + `, null`))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pgtest.Exec(t, address, `delete from workflow_runs`, tt.server, tt.bob)
			for after, want := range map[time.Duration]int{4 * time.Minute: 0, 11 * time.Minute: 1} {
				got, err := s.FailStuck(t.Context(), store.FailStuck{Now: time.Now().Add(after), Limits: store.DefaultLimits(), Max: 10, DryRun: true})
				if err != nil || len(got) != want {
					t.Errorf("after %s: got %+v, %v; want %d", after, got, err, want)
				}
			}
		})
	}
	t.Run("what hides nothing is left alone", func(t *testing.T) {
		pgtest.Exec(t, address, `delete from workflow_runs`, insert(`now() - interval '1 hour', now() - interval '1 hour', now() - interval '1 hour', now() - interval '2 minutes'`))
		before := rowOf(t, address, active)
		pgtest.Exec(t, address, update(`metadata = '{"seen": true}'`))
		if after := rowOf(t, address, active); after["updated_at"] != before["updated_at"] {
			t.Errorf("updated_at was %v and is %v, though nobody wrote it", before["updated_at"], after["updated_at"])
		}
	})
}

// A worker's guarded update finds no row once a sweep has ended its run. Its
// outcome wins by the function, or where the condition lets it pass.
func TestCaseT22_AGuardedUpdateThatArrivesAfterAPresumedEnd(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	pgtest.Exec(t, address, `create role case_t22_worker bypassrls; grant select, update on workflow_runs to case_t22_worker; grant usage on schema run_counter to case_t22_worker; grant select on run_counter.presumed to case_t22_worker`)
	t.Cleanup(func() { pgtest.Exec(t, address, `drop owned by case_t22_worker; drop role case_t22_worker`) })
	s := mustOpen(t, address, Options{})
	const guarded = `update workflow_runs set status = 'completed' where id = '` + oneRun + `' and (status in ('pending', 'running', 'cancelling')`
	for _, tt := range []struct{ name, sql, want string }{
		{"as it is", guarded + `)`, "failed"},
		{"with what is presumed", `set role case_t22_worker; ` + guarded + ` or exists (select from run_counter.presumed as p where p.run_id = workflow_runs.id))`, "completed"},
		{"by complete_workflow_run", `select complete_workflow_run('` + oneRun + `', 'completed')`, "completed"},
	} {
		pgtest.Exec(t, address, `delete from workflow_runs; insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values ('`+oneRun+`', `+oneKey+`, 'running', now() - interval '1 hour')`)
		if got, err := s.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10}); err != nil || len(got) != 1 {
			t.Fatalf("FailStuck: got %+v, %v; want the run", got, err)
		}
		pgtest.Exec(t, address, tt.sql)
		if run, err := s.Run(t.Context(), sourcetest.MustParse(t, oneRun)); err != nil || string(run.Status) != tt.want || run.Presumed != (tt.want == "failed") {
			t.Errorf("%s: got %s (presumed %v), %v; want %s", tt.name, run.Status, run.Presumed, err, tt.want)
		}
	}
}

// Text types of a session's own, named like ours, are found first where
// pg_temp is not named last: the check of a domain runs as the role that casts.
func TestCaseT21_EveryFunctionOfOursNamesPgTempLast(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	c := newCaller(t, p.address)
	all := c.strings(`select p.oid::regprocedure::text || coalesce(' ' || array_to_string(p.proconfig, ' '), '') from pg_proc as p
 where p.pronamespace in ('run_counter'::regnamespace, 'run_counter_webhook'::regnamespace) or obj_description(p.oid, 'pg_proc') like 'Run Counter:%' order by 1`)
	for _, f := range all {
		if _, set, _ := strings.Cut(f, " search_path="); !strings.HasPrefix(set+" ", "pg_catalog, pg_temp ") {
			t.Errorf("%s: does not set search_path = pg_catalog, pg_temp", f)
		}
	}
	for _, name := range []string{"run_counter.guard()", "run_counter.harden()", "run_counter.ledger_update()", "run_counter.complete_own_run(", "run_counter_webhook.notify()", "complete_workflow_run("} {
		if !slices.ContainsFunc(all, func(f string) bool { return strings.HasPrefix(f, name) }) {
			t.Errorf("%s is not among the %d functions", name, len(all))
		}
	}
}

func TestCaseT21_TypesOfASessionsOwnRunNothingAsTheOwner(t *testing.T) {
	t.Parallel()
	address := mustApp(t)
	pgtest.Exec(t, address, `create table ran (as_whom text); alter table ran enable row level security; create policy p on ran for insert with check (true);
grant insert on ran to public`)
	attack := `create function pg_temp.f(pg_catalog.text) returns pg_catalog.bool language plpgsql as $$ begin insert into public.ran values (current_user); return true; end $$;`
	for _, name := range []string{"timestamptz", "text", "jsonb", "int4", "int8", "uuid", "bool", "interval", "numeric"} {
		attack += ` create domain pg_temp.` + name + ` as pg_catalog.` + name + ` check (pg_temp.f(value::pg_catalog.text));`
	}
	attack += `
insert into public.workflow_runs (user_id, workflow_id, status) values ('` + bob + `', '` + bobFlow + `', 'completed');
update public.workflow_runs set status = 'cancelling' where id = '` + active + `';
select * from public.complete_workflow_run_and_get_count('` + active + `', 'completed', 1, '{}', '{}');
select * from public.workflow_run_counts;`
	ranAs := func() []string {
		t.Helper()
		c := newCaller(t, address) // a session of its own: each keeps what it has looked up
		tx, err := c.api.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		for _, sql := range []string{`set local role authenticated; set local request.jwt.claims = '{"sub": "` + bob + `"}'`, attack} {
			if _, err := c.api.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c.strings(`select distinct as_whom from ran order by 1`)
	}
	if got := ranAs(); slices.ContainsFunc(got, func(role string) bool { return role != "authenticated" }) {
		t.Errorf("a check of the user's own ran as %v, want as the user alone", got)
	}
	// That this attack is one: with the empty path that is often advised it works.
	pgtest.Exec(t, address, `delete from ran; update workflow_runs set metadata = null;
do $$ declare f regprocedure; begin
    for f in select oid from pg_proc where pronamespace = 'run_counter'::regnamespace and prorettype = 'trigger'::regtype loop execute format($f$alter function %s set search_path = ''$f$, f); end loop;
end $$`)
	if got := ranAs(); !slices.Contains(got, "owner") {
		t.Errorf("with an empty search_path it ran as %v, want it to be seen running as the owner", got)
	}
}
