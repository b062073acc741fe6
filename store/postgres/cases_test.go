package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestCases(t *testing.T) { storetest.Cases(t, openLeased) }

// openLeased opens a store whose table has a lease column, and needs no times.
func openLeased(t testing.TB) storetest.Backend {
	t.Helper()
	address := sourcetest.Installed(t)
	pgtest.Exec(t, address, `alter table workflow_runs add column lease_at timestamptz, alter column updated_at drop not null, alter column created_at drop not null`)
	return backendOf(t, mustOpen(t, address, Options{LeaseColumn: "lease_at"}))
}

// runOf is the row of run n of the fixture's key.
func (f *fixture) runOf(n int, status store.Status, completed time.Time) store.Row {
	at := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	return store.Row{ID: storetest.MustID('1', n), User: f.key.User, Workflow: f.key.Ref, Status: status,
		CreatedAt: at, StartedAt: at, UpdatedAt: at, CompletedAt: completed}
}

func (f *fixture) enact(c store.Change) {
	f.Helper()
	if err := sourcetest.Write(f.Context(), f.store, f.store.pool, c); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) apply(changes ...store.Change) []store.ApplyResult {
	f.Helper()
	applied, err := f.store.Apply(f.Context(), changes, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	return applied
}

func (f *fixture) runOne(n int) store.Run {
	f.Helper()
	r, err := f.store.Run(f.Context(), storetest.MustID('1', n))
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) begun(n int) {
	f.Helper()
	b := store.Begin{ID: storetest.MustID('1', n), User: f.key.User, Workflow: f.key.Ref, Now: time.Now().Add(-24 * time.Hour)}
	if _, err := f.store.Begin(f.Context(), b); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) failStuck() []store.Repaired {
	f.Helper()
	done, err := f.store.FailStuck(f.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 100})
	if err != nil {
		f.Fatalf("FailStuck: %v", err)
	}
	return done
}

func change(old, record store.Row) store.Change {
	return store.Change{Op: store.Update, Old: old, HasOld: true, Record: record}
}

// TestCaseAnOverwrittenOutcomeThatAWebhookShowsIsBroughtBack holds law 2 where
// the guard is off, and an application takes an outcome back.
func TestCaseAnOverwrittenOutcomeThatAWebhookShowsIsBroughtBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.address, `update run_counter.settings set guard = 'off'`)
	at := f.runOf(0, "", time.Time{}).CreatedAt.Add(time.Minute)
	n := 0
	for _, active := range []store.Status{store.Pending, store.Running, store.Cancelling} {
		for _, ended := range store.Terminals {
			n++
			running, done := f.runOf(n, store.Running, time.Time{}), f.runOf(n, ended, at)
			done.DurationMS, done.ErrorDetails = store.MillisOf(77), `{"code": "NODE_ERROR"}`
			f.enact(store.Change{Op: store.Insert, Record: running})
			f.enact(change(running, done))
			f.enact(change(done, f.runOf(n, active, time.Time{})))
			for i, want := range []bool{true, false} {
				if got := f.apply(change(running, done)); got[0].Changed != want {
					t.Errorf("%s over %s, hint %d: changed %v, want %v", active, ended, i+1, got[0].Changed, want)
				}
			}
			got := f.runOne(n)
			if got.Status != ended || !got.CompletedAt.Equal(at) || got.Presumed || got.DurationMS != done.DurationMS || got.ErrorDetails != done.ErrorDetails {
				t.Errorf("%s over %s: got %+v, want it %s as it had ended", active, ended, got, ended)
			}
		}
	}
	exact(t, f.store)

	t.Run("but no outcome that stands is touched, and no unknown status", func(t *testing.T) {
		for i, status := range []store.Status{store.Failed, "archived"} {
			n := 100 + i
			running, done, now := f.runOf(n, store.Running, time.Time{}), f.runOf(n, store.Completed, at), f.runOf(n, status, at.Add(time.Minute))
			f.enact(store.Change{Op: store.Insert, Record: now})
			if got := f.apply(change(running, done)); got[0].Changed {
				t.Errorf("%s: a hint changed it to %+v", status, f.runOne(n))
			}
		}
	})
	t.Run("also beside a DELETE of a row that is there again", func(t *testing.T) {
		running, done := f.runOf(105, store.Running, time.Time{}), f.runOf(105, store.Completed, at)
		f.enact(store.Change{Op: store.Insert, Record: running})
		got := f.apply(change(running, done), store.Change{Op: store.Delete, Old: running, HasOld: true})
		if now := f.runOne(105); !got[0].Changed || got[1].Changed || now.Status != store.Completed {
			t.Errorf("got %+v, and the run %s; want it completed by the first change", got, now.Status)
		}
	})
	t.Run("and what a webhook infers brings nothing back", func(t *testing.T) {
		running := f.runOf(110, store.Running, time.Time{})
		f.enact(store.Change{Op: store.Insert, Record: running})
		inferred := f.runOf(110, store.Running, at) // an active row with a completed_at
		if got := f.apply(change(running, inferred)); got[0].Changed {
			t.Errorf("a hint changed it to %+v", f.runOne(110))
		}
	})
}

// TestCaseAPresumedOutcomeGivesWayToWhatAWebhookShows is the same for a run that
// a sweep ended: a real outcome supersedes it, and the sweep's own update not.
func TestCaseAPresumedOutcomeGivesWayToWhatAWebhookShows(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := 1; n <= 3; n++ {
		f.begun(n)
	}
	if got := f.failStuck(); len(got) != 3 {
		t.Fatalf("FailStuck: got %+v, want the three runs", got)
	}
	presumed := f.runOne(1)
	running := presumed.Row
	running.Status, running.CompletedAt = store.Running, time.Time{}
	if got := f.apply(change(running, presumed.Row)); got[0].Changed || !f.runOne(1).Presumed {
		t.Errorf("the sweep's own update came back, and the run is %+v; want it presumed as before", f.runOne(1))
	}
	for n, other := range map[int]store.Row{
		1: {Status: store.Completed, CompletedAt: presumed.CompletedAt},               // another status
		2: {Status: store.Failed, CompletedAt: presumed.CompletedAt.Add(time.Second)}, // another time
		3: {Status: store.Cancelled, CompletedAt: presumed.CompletedAt.Add(-time.Second)},
	} {
		running, done := f.runOne(n).Row, f.runOne(n).Row
		running.Status, running.CompletedAt = store.Running, time.Time{}
		done.Status, done.CompletedAt, done.ErrorDetails = other.Status, other.CompletedAt, ""
		if got := f.apply(change(running, done)); !got[0].Changed {
			t.Errorf("run %d: the hint changed nothing", n)
		}
		if got := f.runOne(n); got.Status != other.Status || got.Presumed || got.ErrorDetails != "" {
			t.Errorf("run %d: got %+v, want it %s, for real, with nothing of the sweep's", n, got, other.Status)
		}
	}
	exact(t, f.store)
}

// TestCaseADecisionForAnotherOutcomeIsNoReOpening has the guard off, and a late
// running take back what was decided. The amendment's own webhook brings it
// back, though the run ended before that was decided.
func TestCaseADecisionForAnotherOutcomeIsNoReOpening(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.address, `update run_counter.settings set guard = 'off'`)
	for n, status := range store.Terminals {
		at := f.runOf(0, "", time.Time{}).CreatedAt.Add(time.Minute)
		was := store.Terminals[(n+1)%len(store.Terminals)]
		running, done, decided := f.runOf(n, store.Running, time.Time{}), f.runOf(n, was, at), f.runOf(n, status, at)
		f.enact(store.Change{Op: store.Insert, Record: done})
		a := store.AmendRequest{ID: done.ID, Status: status, Who: "support", Why: "a mistake", Now: at.Add(time.Hour)}
		if got, err := f.store.Amend(t.Context(), a); err != nil || got.Status != status {
			t.Fatalf("Amend: got %+v, %v; want it %s", got, err, status)
		}
		f.enact(change(decided, running))
		hint := change(done, decided)
		hint.Mark = store.MarkAmended
		if got := f.apply(hint); !got[0].Changed {
			t.Errorf("%s: the hint changed nothing", status)
		}
		if got := f.runOne(n); got.Status != status || !got.CompletedAt.Equal(at) || got.Presumed {
			t.Errorf("got %+v, want it %s as was decided", got, status)
		}
	}
	exact(t, f.store)
}

// TestCaseRowsThatAnotherSessionHoldsAreRepairedBesideOthers has a hint about
// three broken rows, of which one is held: the others are repaired at once,
// and it as soon as it is let go.
func TestCaseRowsThatAnotherSessionHoldsAreRepairedBesideOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.address, `update run_counter.settings set guard = 'off'`)
	at := f.runOf(0, "", time.Time{}).CreatedAt.Add(time.Minute)
	var changes []store.Change
	for n := 1; n <= 3; n++ {
		running := f.runOf(n, store.Running, time.Time{})
		f.enact(store.Change{Op: store.Insert, Record: running})
		changes = append(changes, change(running, f.runOf(n, store.Completed, at)))
	}
	holder := f.session()
	holder.do(`begin`, `update workflow_runs set error_details = '{"step": 7}' where id = '`+storetest.MustID('1', 2).String()+`'`)
	done := make(chan []store.ApplyResult, 1)
	go func() {
		applied, err := f.store.Apply(t.Context(), changes, time.Now())
		if err != nil {
			t.Errorf("Apply: %v", err)
		}
		done <- applied
	}()
	until(t, func() bool { return len(done) > 0 || waits(t, holder.watcher, `application_name = 'runcounter'`) })
	for n, status := range map[int]store.Status{1: store.Completed, 2: store.Running, 3: store.Completed} {
		if got := f.runOne(n); got.Status != status {
			t.Errorf("while run 2 is held, run %d is %s, want %s", n, got.Status, status)
		}
	}
	holder.do(`commit`)
	applied := need.Await(t, "the answer to the hint", done)
	for n := 1; n <= 3; n++ {
		if got := f.runOne(n); got.Status != store.Completed || len(applied) < n || !applied[n-1].Changed {
			t.Errorf("run %d is %s, and the answer %+v; want it completed, and changed", n, got.Status, applied)
		}
	}
	exact(t, f.store)
}

// TestCaseAStuckRowThatAnotherSessionHoldsIsNotWaitedFor has a sweep meet a run
// whose row a transaction of the application holds.
func TestCaseAStuckRowThatAnotherSessionHoldsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := 1; n <= 3; n++ {
		f.begun(n)
	}
	holder := f.session()
	holder.do(`begin`, `update workflow_runs set status = 'running', updated_at = now() where id = '`+storetest.MustID('1', 2).String()+`'`)
	done := make(chan []store.Repaired, 1)
	go func() {
		repaired, err := f.store.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 100})
		if err != nil {
			t.Errorf("FailStuck: %v", err)
		}
		done <- repaired
	}()
	until(t, func() bool { return len(done) > 0 || waits(t, holder.watcher, `application_name = 'runcounter'`) })
	if len(done) == 0 {
		t.Error("the sweep waits for a row that the application holds")
	}
	holder.do(`commit`)
	if repaired := need.Await(t, "the end of the sweep", done); len(repaired) != 2 {
		t.Errorf("FailStuck: got %+v, want the two runs that are not held", repaired)
	}
	for n, status := range map[int]store.Status{1: store.Failed, 2: store.Running, 3: store.Failed} {
		if got := f.runOne(n); got.Status != status {
			t.Errorf("run %d is %s, want %s", n, got.Status, status)
		}
	}
}

// TestCaseARowThatTheDatabaseRefusesDoesNotStopTheRestOfItsBatch has the
// application's own rules refuse one row of a sweep's, and one of a delivery's.
func TestCaseARowThatTheDatabaseRefusesDoesNotStopTheRestOfItsBatch(t *testing.T) {
	t.Parallel()
	bad, badToo := storetest.MustID('1', 2).String(), storetest.MustID('1', 5).String()
	trigger := func(body string) string {
		return `create function refuse() returns trigger language plpgsql as $$ begin if new.id in ('` + bad + `', '` + badToo + `') then ` + body + `; end if; return new; end $$;
create trigger refuse before update on workflow_runs for each row execute function refuse()`
	}
	for name, sql := range map[string]string{
		"a check":                `alter table workflow_runs add check (id not in ('` + bad + `', '` + badToo + `') or status in ('pending', 'running'))`,
		"a trigger that raises":  trigger(`raise exception 'not this one'`),
		"a trigger that divides": trigger(`perform 1 / (length(new.id::text) - 36)`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			pgtest.Exec(t, f.address, `update run_counter.settings set guard = 'off'`, sql)
			var changes []store.Change
			for n := 1; n <= 6; n++ {
				f.begun(n)
				if n > 3 {
					running, done := f.runOne(n).Row, f.runOne(n).Row
					done.Status, done.CompletedAt, done.DurationMS = store.Completed, time.Now(), store.MillisOf(5)
					changes = append(changes, change(running, done))
				}
			}
			if _, err := f.store.Apply(t.Context(), changes, time.Now()); err != nil {
				t.Logf("Apply: %v", err)
			}
			if _, err := f.store.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 100}); err != nil {
				t.Logf("FailStuck: %v", err)
			}
			for n, status := range map[int]store.Status{1: store.Failed, 2: store.Pending, 3: store.Failed, 4: store.Completed, 5: store.Pending, 6: store.Completed} {
				if got := f.runOne(n); got.Status != status || got.Presumed != (status == store.Failed) {
					t.Errorf("run %d is %s, presumed %v; want %s", n, got.Status, got.Presumed, status)
				}
			}
			exact(t, f.store)
		})
	}
}

// TestCaseADeadlockIsTriedAgain has the store and an application meet in a
// circle, of which the database breaks the store's half: 40P01 is an
// [store.ErrUnavailable], which the server tries again.
func TestCaseADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.begun(1)
	id := storetest.MustID('1', 1)
	// The update of a run waits twice, with the row's lock in hand: first for
	// the gate, so that the application can begin to wait for the row, and then
	// for what the application holds.
	pgtest.Exec(t, f.address, `create function wait() returns trigger language plpgsql as $$ begin
    if current_setting('application_name') = 'runcounter' then perform pg_advisory_xact_lock(1); perform pg_advisory_xact_lock(2); end if;
    return new;
end $$;
create trigger wait before update on workflow_runs for each row execute function wait()`)
	gate, application := f.session(), newSession(t, pgtest.Admin(t, f.address))
	gate.do(`select pg_advisory_lock(1)`)
	application.do(`begin`, `set local deadlock_timeout = '1h'`, `select pg_advisory_xact_lock(2)`)
	complete := func() error {
		_, err := f.store.Complete(t.Context(), store.Completion{ID: id, Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- complete() }()
	until(t, func() bool { return waits(t, gate.watcher, `application_name = 'runcounter'`) })
	application.begin(func() error {
		_, err := application.conn.Exec(t.Context(), `update workflow_runs set duration_ms = 7 where id = '`+id.String()+`'`)
		return err
	})
	gate.do(`select pg_advisory_unlock(1)`)
	if err := need.Await(t, "the end of the circle", ended); !errors.Is(err, store.ErrUnavailable) || code(err) != "40P01" {
		t.Errorf("Complete in a circle: got %v, want 40P01 as ErrUnavailable", err)
	}
	application.finish()
	application.do(`commit`)
	if err := complete(); err != nil {
		t.Errorf("Complete, tried again: %v", err)
	}
	if got := f.runOne(1); got.Status != store.Completed {
		t.Errorf("the run is %s, want completed", got.Status)
	}
}

// TestCaseWhatTheDatabaseSaysIsTranslatedByItsCode has an application's trigger
// raise each code that the contract has a word for.
func TestCaseWhatTheDatabaseSaysIsTranslatedByItsCode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.begun(1)
	pgtest.Exec(t, f.address, `create table public.raised (code text); insert into raised values ('');
create function raise() returns trigger language plpgsql as $$ begin raise exception 'as told' using errcode = (select code from public.raised); end $$;
create trigger raise before update on workflow_runs for each row execute function raise()`)
	for want, codes := range map[error][]string{
		store.ErrUnavailable: {"40001", "40P01", "55P03", "25006", "08006", "53300", "53100", "57P01", "57P03", "58030"},
		store.ErrInvalid:     {"22003", "22012", "P0001", "23514", "23502", "23503", "23P01", "23505"},
		nil:                  {"42501", "XX000"},
	} {
		for _, c := range codes {
			pgtest.Exec(t, f.address, `update raised set code = '`+c+`'`)
			_, err := f.store.Complete(t.Context(), store.Completion{ID: storetest.MustID('1', 1), Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
			if code(err) != c || !strings.Contains(fmt.Sprint(err), "as told") {
				t.Errorf("%s: got %v, want what the database said", c, err)
			}
			for _, word := range []error{store.ErrUnavailable, store.ErrInvalid, store.ErrConflict, store.ErrNotFound} {
				if is := errors.Is(word, want); errors.Is(err, word) != is {
					t.Errorf("%s: is it %q? got %v, want %v", c, word, !is, is)
				}
			}
		}
	}
}

// TestCaseARecountWaitsForAnUncommittedTRUNCATE has one that goes on to begin a
// run: a recount that waits for the table with the key's lock in hand would meet
// it in a circle.
func TestCaseARecountWaitsForAnUncommittedTRUNCATE(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1)
	pgtest.Exec(t, f.address, miscountSQL)
	f.begun(3)
	if got := f.failStuck(); len(got) != 1 {
		t.Fatalf("FailStuck: got %+v, want the run", got)
	}
	application := f.session()
	application.do(`begin`, `truncate workflow_runs`)
	var marks int
	if err := application.conn.QueryRow(t.Context(), `select count(*) from run_counter.presumed`).Scan(&marks); err != nil || marks != 0 {
		t.Errorf("%d marks are left of runs that are gone, %v", marks, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := f.store.recountLocked(t.Context(), f.db, f.key, time.Now(), noCondition)
		ended <- err
	}()
	until(t, func() bool { return waits(t, application.watcher, `application_name = 'runcounter'`) })
	application.do(`select begin_workflow_run('`+f.key.User.String()+`', '`+f.key.Ref.String()+`', p_limit => 5)`, f.insert(2), `commit`)
	if err := need.Await(t, "the end of the recount", ended); err != nil {
		t.Errorf("the recount: %v", err)
	}
	exact(t, f.store)
	if c, err := f.store.Count(t.Context(), f.key.Scope(), store.AllTime); err != nil || c.Tallies != (store.Tallies{Ended: store.Tally{Completed: 1}}) {
		t.Errorf("the count is %+v, %v; want the one run", c, err)
	}
}

// TestCaseARecountBesideATRUNCATE has one begin before the recount, and one while
// the recount waits for a fold: the table is empty for older snapshots, too.
func TestCaseARecountBesideATRUNCATE(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"that began before it": true, "that comes while it waits": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.end(1)
			if _, err := f.store.Fold(t.Context(), time.Now(), 10); err != nil {
				t.Fatal(err)
			}
			f.end(2)
			pgtest.Exec(t, f.address, miscountSQL) // or the recount finds nothing to do
			fold, truncate := f.session(), f.session()
			if before {
				truncate.do(`begin`, `truncate workflow_runs`)
			} else {
				fold.do(`begin`, `select from run_counter.keys for update`)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := f.store.Recount(t.Context(), f.key, time.Now())
				ended <- err
			}()
			until(t, func() bool { return waits(t, fold.watcher, `application_name = 'runcounter'`) })
			if before {
				truncate.do(`commit`)
			} else {
				truncate.begin(func() error {
					_, err := truncate.conn.Exec(t.Context(), `begin; truncate workflow_runs`, pgx.QueryExecModeSimpleProtocol)
					return err
				})
				fold.do(`commit`)
				until(t, func() bool { return len(truncate.done) > 0 })
				truncate.finish()
				truncate.do(`commit`)
			}
			if err := need.Await(t, "the end of the recount", ended); err != nil {
				t.Fatal(err)
			}
			// A TRUNCATE takes back what is stored, spoiled or not.
			if _, err := f.store.Recount(t.Context(), f.key, time.Now()); err != nil {
				t.Fatal(err)
			}
			exact(t, f.store)
		})
	}
}
