package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// unwritable makes 1,200 runs of one user that a sweep can't write, in four
// ways: two of these the user has by the table's own policies, two are the
// application's triggers. Their ids come before all others.
const unwritable = `
alter table workflow_runs add column if not exists note text;
create function mind_the_note() returns trigger language plpgsql as $$
begin
    if old.note = 'raises' and new.status <> old.status then
        raise insufficient_privilege using message = 'the plan of this user has lapsed';
    elsif old.note = 'skips' and new.status <> old.status then
        return null;
    elsif old.note = 'keeps' then
        new.status := old.status;
        new.completed_at := old.completed_at;
    end if;
    return new;
end $$;
create trigger mind_the_note before update on workflow_runs for each row execute function mind_the_note();
insert into workflow_runs (id, user_id, workflow_id, status, updated_at, completed_at, note)
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'a1000000-0000-4000-8000-00000000000a', 'c1000000-0000-4000-8000-000000000001',
       'running', now() - interval '1 hour', case when n % 4 = 0 then '-infinity'::timestamptz end, (array['', 'raises', 'skips', 'keeps'])[n % 4 + 1]
  from generate_series(1, 1200) as n`

const stuckOfOthers = `
insert into workflow_runs (id, user_id, workflow_id, status, updated_at)
select ('f0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, ('b1000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
       'c1000000-0000-4000-8000-000000000001', 'running', now() - interval '1 hour'
  from generate_series(1, 9) as n`

func TestCasesOfSweeps(t *testing.T) {
	t.Run("case T23: 900 rows that can't be written keep no other from being ended, and are named", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		pgtest.Exec(t, f.address, unwritable)
		pgtest.Exec(t, f.address, stuckOfOthers)
		sweeper := sourcetest.SweeperOf(f.store)
		dry, err := sweeper.Sweep(t.Context(), store.SweepOptions{DryRun: true})
		if err != nil || dry.Repairs() != 1209 {
			t.Errorf("a dry run would repair %d, %v; want all 1,209", dry.Repairs(), err)
		}
		r, err := sweeper.Sweep(t.Context(), store.SweepOptions{})
		if err != nil || r.Repairs() != 309 || r.Unwritable != 900 {
			t.Errorf("the sweep repaired %d, and could not write %d, %v; want 309, those that end at no time among them, and 900", r.Repairs(), r.Unwritable, err)
		}
		f.wantStuckOfOthers(0)
		said := map[string]int{}
		for _, one := range r.Refused {
			said[one.Refused]++
		}
		for _, want := range []string{"the plan of this user has lapsed", "left the row as it was"} {
			found := 0
			for text, n := range said {
				if strings.Contains(text, want) {
					found += n
				}
			}
			if found == 0 {
				t.Errorf("no row says %q: %v", want, said)
			}
		}
		if st := sweeper.Status(); st.Incomplete != 1 || st.Failures != 0 {
			t.Errorf("%d sweeps are incomplete and %d failed: want 1 and 0", st.Incomplete, st.Failures)
		}
		if told := sweeper.Degraded(); len(told) != 1 || !strings.Contains(told[0], "refused 900") {
			t.Errorf("degraded: %q, want one sentence that counts them", told)
		}
		exact(t, f.store)
	})

	t.Run("case T24: whoever holds an advisory lock keeps nothing from being swept", func(t *testing.T) {
		t.Parallel()
		f := supabaseFixture(t)
		pgtest.Exec(t, f.address, stuckOfOthers)
		stranger := f.session()
		stranger.do(`set role anon`)
		stranger.do(`select pg_advisory_lock(7270265283512037)`)
		if _, err := sourcetest.SweeperOf(f.store).Sweep(t.Context(), store.SweepOptions{}); err != nil {
			t.Error(err)
		}
		f.wantStuckOfOthers(0)
	})

	t.Run("case T24: a sweep that can't take its lock fails, and end users can't take it", func(t *testing.T) {
		t.Parallel()
		f := supabaseFixture(t)
		pgtest.Exec(t, f.address, stuckOfOthers)
		for _, role := range []string{"anon", "authenticated"} {
			_, err := f.session().conn.Exec(t.Context(), `set role `+role+`; select from run_counter.settings where id = 1 for key share`, pgx.QueryExecModeSimpleProtocol)
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Code != "42501" {
				t.Errorf("%s locks the row: %v; want 42501", role, err)
			}
		}
		other := f.session()
		other.do(`begin`)
		other.do(`select from run_counter.settings for update`)
		sweeper := sourcetest.SweeperOf(f.store)
		_, err := sweeper.Sweep(t.Context(), store.SweepOptions{})
		if !errors.Is(err, store.ErrUnavailable) || sweeper.Status().Failures != 1 {
			t.Errorf("the sweep: %v, %d failures; want it to say that it could not", err, sweeper.Status().Failures)
		}
		f.wantStuckOfOthers(9)
		other.do(`rollback`)
		if _, err := sweeper.Sweep(t.Context(), store.SweepOptions{}); err != nil {
			t.Error(err)
		}
		f.wantStuckOfOthers(0)
	})

	// Item 5 of what the issue asks to show.
	t.Run("cases T22 and T23: of ten users one spoils all they can, and the others' runs are ended on time", func(t *testing.T) {
		t.Parallel()
		f := supabaseFixture(t)
		pgtest.Exec(t, f.address, unwritable)
		pgtest.Exec(t, f.address, stuckOfOthers)
		mallory := f.session()
		mallory.do(`set request.jwt.claims = '{"sub":"a1000000-0000-4000-8000-00000000000a","role":"authenticated"}'`)
		mallory.do(`set role authenticated`)
		for _, back := range []string{"started_at", "updated_at", "created_at"} {
			mallory.try(`update workflow_runs set status = 'cancelling', ` + back + ` = now() - interval '1 hour'`)
			mallory.try(`update workflow_runs set ` + back + ` = now() + interval '4 minutes' where note = ''`)
		}
		mallory.try(`update workflow_runs set completed_at = '-infinity'`)
		mallory.try(`select pg_advisory_lock(7270265283512037)`)
		ended := mallory.try(`update workflow_runs set status = 'cancelling' where note = ''`)
		if ended != 300 {
			t.Errorf("the user could touch %d of their runs: want the 300 that no trigger holds", ended)
		}
		sweeper := sourcetest.SweeperOf(f.store)
		began := time.Now()
		r, err := sweeper.Sweep(t.Context(), store.SweepOptions{Brief: true})
		t.Logf("one sweep: %s, %d repaired, %d refused, %d postponed", time.Since(began).Round(time.Millisecond), r.Repairs(), r.Unwritable, r.Postponed)
		if err != nil || r.Unwritable == 0 {
			t.Errorf("the sweep: %d refused, %v; want it to go past the user's runs", r.Unwritable, err)
		}
		f.wantStuckOfOthers(0)
		late := `select count(*) from workflow_runs where id > 'f0000000-0000-4000-8000-000000000000' and completed_at <> updated_at + interval '5 minutes'`
		var n int
		if err := f.store.pool.QueryRow(t.Context(), late).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d, %v runs of others did not end five minutes after their last sign of life", n, err)
		}
		exact(t, f.store)
	})
}

// supabaseFixture is a project's database with our migrations, whose table end
// users may write as Supabase's default grants and a usual policy have it.
func supabaseFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{TB: t, address: pgtest.Supabase(t)}
	sourcetest.Migrate(t, f.address, (*migrations.Migrator).Up)
	pgtest.Exec(t, f.address, `grant all on workflow_runs to anon, authenticated`, `alter table workflow_runs enable row level security`,
		`create policy own on workflow_runs for all to authenticated using (user_id = auth.uid())`)
	f.store = mustOpen(t, f.address, Options{})
	return f
}

// try runs a statement that may be refused, and returns how many rows it wrote.
func (s *session) try(sql string) int64 {
	tag, err := s.conn.Exec(s.Context(), sql)
	var refused *pgconn.PgError
	if err != nil && !errors.As(err, &refused) {
		s.Fatalf("%s: %v", sql, err)
	}
	return tag.RowsAffected()
}

func (f *fixture) wantStuckOfOthers(want int) {
	f.Helper()
	var n int
	err := f.store.pool.QueryRow(f.Context(), `select count(*) from workflow_runs where status = 'running' and user_id <> 'a1000000-0000-4000-8000-00000000000a'`).Scan(&n)
	if err != nil || n != want {
		f.Errorf("%d, %v runs of other users are still running: want %d", n, err, want)
	}
}

func TestCaseT23_OneRefusedRowCostsItselfAlone(t *testing.T) {
	f := newFixture(t)
	pgtest.Exec(t, f.address, stuckOfOthers)
	for n := 1; n <= 3; n++ {
		pgtest.Exec(t, f.address, fmt.Sprintf(`alter table workflow_runs add constraint only_%[1]d check (id <> 'f0000000-0000-4000-8000-%012[1]d' or status <> 'failed')`, n))
	}
	done, err := f.store.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 100})
	if err != nil || len(done) != 9 {
		t.Fatalf("got %d, %v; want all 9", len(done), err)
	}
	for _, one := range done {
		refused := one.Before.ID.String() <= fmt.Sprintf("f0000000-0000-4000-8000-%012d", 3)
		if strings.Contains(one.Refused, "only_") != refused {
			t.Errorf("run %s: %q; want refused %t", one.Before.ID, one.Refused, refused)
		}
		r, err := f.store.Run(t.Context(), one.Before.ID)
		if err != nil || r.Ended() == refused {
			t.Errorf("run %s is %s, %v", one.Before.ID, r.Status, err)
		}
	}
	exact(t, f.store)
}

func TestCaseT23_WhatARowMeetsInATriggerCostsNoOtherRow(t *testing.T) {
	const mallorys = `
insert into workflow_runs (id, user_id, workflow_id, status, updated_at)
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'a1000000-0000-4000-8000-00000000000a', 'c1000000-0000-4000-8000-000000000001',
       'running', now() - interval '1 hour'
  from generate_series(1, 20) as n`
	trigger := func(body string) string {
		return `create function of_the_application() returns trigger language plpgsql as $$ begin ` + body + ` return new; end $$;
create trigger of_the_application after update on workflow_runs for each row when (new.user_id = 'a1000000-0000-4000-8000-00000000000a')
       execute function of_the_application()`
	}
	for name, tt := range map[string]struct{ body, held, says string }{
		"a lock that is held":                        {body: `update plans set n = n + 1;`, held: `update plans set n = n + 1`, says: "lock timeout"},
		"an error whose code is that of a lost race": {body: `raise serialization_failure using message = 'the run has another version';`, says: "another version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			pgtest.Exec(t, f.address, `create table plans (n integer); insert into plans values (1)`, trigger(tt.body), mallorys, stuckOfOthers)
			if tt.held != "" {
				other := f.session()
				other.do(`begin`, tt.held)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // of which a wait takes 5
			defer cancel()
			done, err := f.store.FailStuck(ctx, store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 100})
			if err != nil || len(done) != 29 {
				t.Fatalf("got %d, %v; want all 29", len(done), err)
			}
			refused := 0
			for _, one := range done {
				if strings.Contains(one.Refused, tt.says) {
					refused++
				}
			}
			if refused != 20 {
				t.Errorf("%d were refused with %q: want the 20 of one user", refused, tt.says)
			}
			f.wantStuckOfOthers(0)
		})
	}
}

// All zeros are a value to the database, which an end user may write into their
// own rows, and no id to a program.
func TestCaseT1_IDsOfZerosKeepNothingOfOthersFromBeingCountedOrEnded(t *testing.T) {
	t.Parallel()
	const (
		zeros = "00000000-0000-0000-0000-000000000000"
		flow  = "c1000000-0000-4000-8000-000000000001"
		bob   = "a1000000-0000-4000-8000-00000000000b"
	)
	for name, values := range map[string]string{
		"a user":     `gen_random_uuid(), '` + zeros + `', '` + flow + `', null`,
		"a workflow": `gen_random_uuid(), '` + bob + `', '` + zeros + `', null`,
		"a draft":    `gen_random_uuid(), '` + bob + `', null, '` + zeros + `'`,
		"a run":      `'` + zeros + `', '` + bob + `', '` + flow + `', null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			insert := `insert into workflow_runs (id, user_id, workflow_id, draft_id, status, updated_at, completed_at) values (` + values
			sweep := func(want int) {
				t.Helper()
				r, err := (&store.Sweeper{Store: f.store, Source: f.store, Slice: 1, Batch: 3}).Sweep(t.Context(), store.SweepOptions{Full: true})
				if err != nil || r.Repairs() != want || r.Unwritable != 0 {
					t.Errorf("the sweep: %d repaired, %d refused, %v; want %d and no error", r.Repairs(), r.Unwritable, err, want)
				}
				var left int
				sourcetest.MustScan(t, f.address, `select count(*) from run_counter.ledger`, &left)
				if left != 0 {
					t.Errorf("%d rows of the ledger were not folded", left)
				}
				exact(t, f.store)
			}
			pgtest.Exec(t, f.address, stuckOfOthers, insert+`, 'running', now() - interval '1 hour', null)`)
			sweep(10)
			pgtest.Exec(t, f.address, `update workflow_runs set status = 'completed'`)
			sweep(0)
			pgtest.Exec(t, f.address, `delete from run_counter.counts`)
			if r, err := (&store.Sweeper{Store: f.store, Source: f.store, Slice: 1}).Sweep(t.Context(), store.SweepOptions{Full: true}); err != nil || r.Corrected != r.Drifting || r.Drifting < 10 {
				t.Errorf("the sweep: %d of %d repaired, %v; want all", r.Corrected, r.Drifting, err)
			}
			sweep(0)
			var after store.Key
			for seen := 0; ; seen++ {
				page, err := f.store.SearchCounts(t.Context(), store.CountQuery{After: after, Limit: 1})
				if err != nil || seen > 20 {
					t.Fatalf("page %d of the counts behind %s: %v", seen, after, err)
				}
				if len(page) == 0 {
					break
				}
				after = page[0].Key
			}
		})
	}
}
