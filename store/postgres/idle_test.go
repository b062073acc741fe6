package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// everyChange calls do with a change of each kind: each status before and after,
// with and without completed_at, an old row or none.
func everyChange(do func(name string, c store.Change)) {
	at := func(s int) time.Time { return time.Date(2026, 1, 1, 12, 0, s, 0, time.UTC) }
	rows := []store.Row{}
	for _, status := range []store.Status{store.Pending, store.Running, store.Cancelling, store.Completed, store.Failed, store.Cancelled, store.Timeout, "paused"} {
		for _, completed := range []time.Time{{}, at(5), at(9)} {
			rows = append(rows, store.Row{
				ID: storetest.MustID('a', 1), User: storetest.MustID('b', 1), Workflow: storetest.MustID('c', 1),
				Status: status, CreatedAt: at(0), UpdatedAt: at(9), CompletedAt: completed,
			})
		}
	}
	show := func(r store.Row) string { return fmt.Sprintf("%s ended %s", r.Status, r.CompletedAt.Format("05")) }
	for _, now := range rows {
		do("INSERT of "+show(now), store.Change{Op: store.Insert, Record: now})
		do("UPDATE to "+show(now), store.Change{Op: store.Update, Record: now})
		do("DELETE of "+show(now), store.Change{Op: store.Delete, Old: now, HasOld: true})
		for _, old := range rows {
			do("UPDATE of "+show(old)+" to "+show(now), store.Change{Op: store.Update, Record: now, Old: old, HasOld: true})
		}
	}
}

// What is in order by the rule is what a look at the row finds nothing to do for,
// whether its outcome is presumed or not. What shows another outcome than the
// row's is never in order, whatever the row is by now.
func TestCaseD11_NothingIsToBeDoneForAChangeInOrder(t *testing.T) {
	rules := hooks{repair: store.Repair, presume: store.Presume}
	idle, busy := 0, 0
	everyChange(func(name string, c store.Change) {
		if !store.InOrder(c) {
			busy++
			return
		}
		idle++
		l := snapshot{claims: claimsOf([]store.Change{c}, time.Now()), hooks: rules}
		for _, presumed := range []bool{false, true} {
			f := found{row: c.Record, presumed: presumed && c.Record.Ended()}
			if c.Op == store.Delete {
				continue
			}
			if r, needed := l.plan(f); needed {
				t.Errorf("%s, presumed %t, is called in order, and would be repaired as %s", name, presumed, r.reason)
			}
		}
		if c.HasOld && c.Old.Ended() && c.Op == store.Update && (c.Record.Status != c.Old.Status || !c.Record.CompletedAt.Equal(c.Old.CompletedAt)) {
			t.Errorf("%s is called in order: it shows an outcome that the row has lost", name)
		}
	})
	if idle < 100 || busy < 100 {
		t.Errorf("%d changes are in order and %d are not: nothing is shown", idle, busy)
	}
}

func TestCaseD11_AStoreIsIdleWhileItsGuardIsSeenToBeOn(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	change := store.Change{Op: store.Insert, Record: store.Row{ID: storetest.MustID('a', 1), User: storetest.MustID('b', 1), Workflow: storetest.MustID('c', 1), Status: store.Running}}
	pgtest.Exec(t, address, `create table public.workflow_runs (id uuid primary key, user_id uuid not null, workflow_id uuid, status text, started_at timestamptz,
    completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz, updated_at timestamptz)`)
	s := mustOpen(t, address, Options{})
	want := func(when string, want bool) {
		t.Helper()
		if got := s.Idle(change); got != want {
			t.Errorf("%s: idle %t, want %t", when, got, want)
		}
	}
	ping := func() {
		t.Helper()
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want("without the migrations", false)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	ping()
	want("with them", true)
	overwritten := change
	overwritten.Op, overwritten.HasOld, overwritten.Old = store.Update, true, change.Record
	overwritten.Old.Status, overwritten.Old.CompletedAt = store.Completed, time.Now()
	if s.Idle(overwritten) {
		t.Error("a change that shows a lost outcome is idle")
	}
	for _, step := range []struct{ off, on string }{
		{`update run_counter.settings set guard = 'off'`, `update run_counter.settings set guard = 'on'`},
		{`alter table workflow_runs disable trigger zzzz_run_counter_guard`, `alter table workflow_runs enable trigger zzzz_run_counter_guard`},
		{`alter table workflow_runs disable trigger zzzz_run_counter_guard_insert`, `alter table workflow_runs enable always trigger zzzz_run_counter_guard_insert`},
		{`alter table workflow_runs enable replica trigger zzzz_run_counter_guard`, `alter table workflow_runs enable trigger zzzz_run_counter_guard`},
	} {
		pgtest.Exec(t, address, step.off)
		ping()
		want(step.off, false)
		pgtest.Exec(t, address, step.on)
		if _, err := s.Deliveries(t.Context(), time.Now()); err != nil { // as each sweep asks
			t.Fatal(err)
		}
		want(step.on, true)
	}
	s.readGuard(t.Context(), features{installed: true}, time.Now().Add(-guardKnownFor))
	want("seen too long ago", false)
	ping()
	sourcetest.Migrate(t, address, (*migrations.Migrator).Down)
	ping()
	want("the migrations are gone", false)
}
