package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestCaseWithoutMigrationsAWorkflowAndADraftOfOneIdAreCountedApart, by every way
// of counting that there is without migrations.
func TestCaseWithoutMigrationsAWorkflowAndADraftOfOneIdAreCountedApart(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable)
	s := mustOpen(t, address, Options{})
	user, ref := sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow)
	keys := []store.Key{store.KeyOf(user, ref, store.ID{}), store.KeyOf(user, store.ID{}, ref)}
	var last [2]store.ID
	n := 0
	for i, key := range keys {
		for count := range int64(3*i + 1) {
			n++
			last[i] = storetest.MustID('1', n)
			if _, err := s.Begin(t.Context(), store.Begin{ID: last[i], User: user, Workflow: key.Workflow(), Draft: key.Draft(), Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
			got, err := s.Complete(t.Context(), store.Completion{ID: last[i], Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
			if err != nil || !got.Won || got.Count.Key != key || got.Count.Count != count+1 {
				t.Errorf("Complete run %d of %s: got %+v, %v; want it won", count+1, key, got, err)
			}
		}
	}
	for i, key := range keys {
		if got, err := s.Count(t.Context(), store.TotalOf(key.Workflow(), key.Draft()).Scope(), store.AllTime); err != nil || got.Count != int64(3*i+1) {
			t.Errorf("the total of %s: got %+v, %v; want %d", key, got, err, 3*i+1)
		}
	}
	counts, err := s.CountsOf(t.Context(), keys)
	if err != nil || len(counts) != 2 {
		t.Fatalf("CountsOf: got %+v, %v", counts, err)
	}
	for i, key := range keys {
		want := int64(3*i + 1)
		if counts[i].Key != key || counts[i].Count != want {
			t.Errorf("CountsOf: got %+v, want %d of %s", counts[i], want, key)
		}
		if c, err := s.Count(t.Context(), key.Scope(), store.AllTime); err != nil || c.Count != want {
			t.Errorf("Count: got %+v, %v; want %d of %s", c, err, want, key)
		}
		r, err := s.Run(t.Context(), last[i])
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Apply(t.Context(), []store.Change{change(r.Row, r.Row)}, time.Now())
		if err != nil || len(got[0].Counts) != 1 || got[0].Counts[0].Key != key || got[0].Counts[0].Count != want {
			t.Errorf("Apply: got %+v, %v; want %d of %s", got, err, want, key)
		}
	}
}

// TestCaseATableWithoutDraftsIsAuditedAndRecounted has the migrations on a table
// that lacks the column.
func TestCaseATableWithoutDraftsIsAuditedAndRecounted(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, strings.Replace(sourcetest.BareTable, "draft_id uuid,", "", 1))
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	s := mustOpen(t, address, Options{})
	if db, err := s.features(t.Context()); err != nil || db.has(watched.Draft) {
		t.Fatalf("the table has drafts: %+v, %v", db, err)
	}
	users := []string{ada, bob}
	for i, user := range users {
		insert := `insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values (gen_random_uuid(), '` + user + `', '` + adaFlow + `', `
		for range i + 1 {
			for _, status := range store.Terminals {
				pgtest.Exec(t, address, insert+`'`+string(status)+`', now())`)
			}
		}
		pgtest.Exec(t, address, insert+`'running', now() - interval '1 day')`)
	}
	if got, err := s.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10}); err != nil || len(got) != 2 {
		t.Fatalf("FailStuck: got %+v, %v; want the two runs", got, err)
	}
	wantDrifts := func(want int) {
		t.Helper()
		var a store.Audit
		drifts, seen := 0, 0
		for a.Max = 1; ; {
			page, err := s.Audit(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			drifts, seen = drifts+len(page.Drifts), seen+page.Keys
			if a.After = page.Next; a.After.IsZero() {
				break
			}
		}
		if drifts != want || seen != 2 {
			t.Errorf("%d of %d keys drift, want %d of 2", drifts, seen, want)
		}
	}
	for range 2 {
		wantDrifts(0)
		for i, user := range users {
			key, n := store.KeyOf(sourcetest.MustParse(t, user), sourcetest.MustParse(t, adaFlow), store.ID{}), int64(i+1)
			want := store.Tallies{Ended: store.Tally{Completed: n, Failed: n + 1, Cancelled: n, Timeout: n}, Presumed: store.Tally{Failed: 1}}
			if c, err := s.Count(t.Context(), key.Scope(), store.AllTime); err != nil || c.Tallies != want {
				t.Errorf("Count: got %+v, %v; want %+v", c, err, want)
			}
			pgtest.Exec(t, address, `insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n) values ('`+user+`', 'workflow', '`+adaFlow+`', 'timeout', false, 7)`)
			wantDrifts(1)
			if r, err := s.Recount(t.Context(), key, time.Now()); err != nil || !r.Changed() || r.After != want {
				t.Errorf("Recount: got %+v, %v; want %+v", r, err, want)
			}
		}
		if _, err := s.Fold(t.Context(), time.Now(), 100); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCaseWhatNoProgramCanShowIsRead has times for never, which are none, and a
// column of longer durations than ours.
func TestCaseWhatNoProgramCanShowIsRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.address, `alter table workflow_runs alter column duration_ms type bigint`)
	for n, tt := range []struct {
		started, completed, duration string
		want                         store.Row
	}{
		{`'-infinity'`, `'infinity'`, `3000000000`, store.Row{DurationMS: store.Millis{MS: 1<<31 - 1, Valid: true}}},
		{`'infinity'`, `'-infinity'`, `-3000000000`, store.Row{DurationMS: store.Millis{MS: -(1<<31 - 1), Valid: true}}},
		{`null`, `'2026-01-02 03:04:05.678901+00'`, `null`, store.Row{CompletedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)}},
	} {
		pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status, started_at, completed_at, duration_ms) values ('`+storetest.MustID('1', n).String()+`', '`+
			f.key.User.String()+`', '`+f.key.Ref.String()+`', 'completed', `+tt.started+`, `+tt.completed+`, `+tt.duration+`)`)
		if got := f.runOne(n); !got.StartedAt.Equal(tt.want.StartedAt) || !got.CompletedAt.Equal(tt.want.CompletedAt) || got.DurationMS != tt.want.DurationMS {
			t.Errorf("started %s, completed %s, took %s: got %+v, want %+v", tt.started, tt.completed, tt.duration, got.Row, tt.want)
		}
	}
	exact(t, f.store)
}

// TestCaseWithoutMigrationsARowThatATriggerKeepsOpenIsNamed has a trigger of the
// application take back what a sweep writes.
func TestCaseWithoutMigrationsARowThatATriggerKeepsOpenIsNamed(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `
create function goes_on() returns trigger language plpgsql as $$ begin new.status := old.status; return new; end $$;
create trigger goes_on before update on workflow_runs for each row when (old.user_id = '`+bob+`') execute function goes_on();
insert into workflow_runs (id, user_id, workflow_id, status, updated_at)
select gen_random_uuid(), n.who::uuid, '`+adaFlow+`', 'running', now() - interval '1 day' from (values ('`+ada+`'), ('`+bob+`')) as n (who)`)
	s := mustOpen(t, address, Options{})
	got, err := s.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10})
	if err != nil || len(got) != 2 {
		t.Fatalf("FailStuck: got %+v, %v; want the two runs", got, err)
	}
	for _, r := range got {
		if kept := r.Before.User.String() == bob; kept != (r.Refused != "") {
			t.Errorf("got %+v; want the run that a trigger keeps open refused, and the other ended", r)
		}
	}
}

// TestCaseAViewIsWorkedOnByDirectQueries: without migrations there may be a view,
// whose columns are those of a table.
func TestCaseAViewIsWorkedOnByDirectQueries(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, strings.Replace(sourcetest.BareTable, "workflow_runs", "runs", 1), `create view workflow_runs as select * from runs`)
	s := mustOpen(t, address, Options{})
	db, err := s.features(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	runs := strings.ReplaceAll(db.rows("state_snapshot"), "null::timestamptz::timestamptz as lease_at", "")
	if strings.Contains(runs, "null::") {
		t.Errorf("a column of the view is taken for missing: %s", runs)
	}
}
