package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// TestCaseARowThatHasEndedAndSaysNotWhenIsDated has the guard off, and the end
// of runs written without a time, by each status: a sweep and a hint date them by
// their last sign of life, for real. One of which nothing says when is left, and
// fills no batch.
func TestCaseARowThatHasEndedAndSaysNotWhenIsDated(t *testing.T) {
	t.Parallel()
	for name, repair := range map[string]func(f *fixture, r store.Row){
		"by a sweep": func(f *fixture, r store.Row) {
			got, err := f.store.FailStuck(f.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 1})
			if err != nil || len(got) != 1 || got[0].Reason != store.NoTime || got[0].Before.ID != r.ID {
				f.Errorf("FailStuck: got %+v, %v; want the row %+v", got, err, r)
			}
		},
		"by a hint": func(f *fixture, r store.Row) {
			if got := f.apply(store.Change{Op: store.Insert, Record: r}); !got[0].Changed || len(got[0].Counts) != 1 || got[0].Counts[0].Tallies.Ended.Total() == 0 {
				f.Errorf("Apply: got %+v, want it changed, and counted", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.TB = t
			pgtest.Exec(t, f.address, `update run_counter.settings set guard = 'off'; alter table workflow_runs alter created_at drop not null, alter updated_at drop not null`)
			for n, status := range store.Terminals {
				never := f.runOf(10*n, status, time.Time{})
				never.CreatedAt, never.UpdatedAt = time.Time{}, time.Time{}
				updated := f.runOf(10*n+1, status, time.Time{})
				updated.UpdatedAt = updated.CreatedAt.Add(time.Minute)
				created := f.runOf(10*n+2, status, time.Time{})
				created.CreatedAt, created.UpdatedAt = created.StartedAt.Add(time.Minute), time.Time{}
				for _, r := range []store.Row{never, updated, created} {
					f.enact(store.Change{Op: store.Insert, Record: r})
				}
				for m, r := range []store.Row{updated, created} {
					repair(f, r)
					if got := f.runOne(10*n + m + 1); got.Status != status || got.Presumed || !got.CompletedAt.Equal(r.StartedAt.Add(time.Minute)) || got.DurationMS != store.MillisOf(60_000) {
						t.Errorf("got %+v, want it ended as of a minute after its start, for real", got)
					}
				}
				if got := f.runOne(10 * n); !got.CompletedAt.IsZero() {
					t.Errorf("got %+v, want it left as it is", got)
				}
			}
			exact(t, f.store)
		})
	}
}

// TestCaseAPresumedRunTakesItsMarkAlongWhoseverItBecomes hands presumed runs
// from each kind of key to each other, and to none.
func TestCaseAPresumedRunTakesItsMarkAlongWhoseverItBecomes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	user, other := f.key.User.String(), storetest.MustID('b', 2).String()
	ref := f.key.Ref.String() // of a workflow and of a draft
	keys := []string{
		`user_id = '` + user + `', workflow_id = '` + ref + `', draft_id = null`,
		`user_id = '` + user + `', workflow_id = null, draft_id = '` + ref + `'`,
		`user_id = '` + user + `', workflow_id = null, draft_id = null`,
		`user_id = '` + other + `', workflow_id = '` + ref + `', draft_id = '` + storetest.MustID('d', 1).String() + `'`,
		`user_id = '` + other + `', workflow_id = '` + ref + `', draft_id = null`,
	}
	f.begun(1)
	if got := f.failStuck(); len(got) != 1 {
		t.Fatalf("FailStuck: got %+v, want the run", got)
	}
	for i := range keys {
		for j := range keys {
			for _, set := range []string{keys[i], keys[j]} {
				pgtest.Exec(t, f.address, `update workflow_runs set `+set)
				if got := f.runOne(1); !got.Presumed || got.Status != store.Failed {
					t.Errorf("from %s to %s: got %+v, want it presumed as before", keys[i], keys[j], got)
				}
				exact(t, f.store)
			}
		}
	}
	pgtest.Exec(t, f.address, `update workflow_runs set `+keys[1])
	if r, err := f.store.Complete(t.Context(), store.Completion{ID: storetest.MustID('1', 1), Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()}); err != nil || !r.Won ||
		r.Count.Tallies != (store.Tallies{Ended: store.Tally{Completed: 1}}) {
		t.Errorf("Complete: got %+v, %v; want it won, and counted for the draft alone", r, err)
	}
	exact(t, f.store)
}

// TestCaseARecountRepairsMarksThatHandsLeftBehind has rows and marks written with
// the triggers off, so that they disagree in each way that there is.
func TestCaseARecountRepairsMarksThatHandsLeftBehind(t *testing.T) {
	t.Parallel()
	for name, hand := range map[string]string{
		"the run is gone":           `delete from workflow_runs`,
		"it ended at another time":  `update workflow_runs set completed_at = completed_at + interval '1 second'`,
		"it ended otherwise":        `update workflow_runs set status = 'completed'`,
		"it is nobody's":            `alter table workflow_runs alter column user_id drop not null; update workflow_runs set user_id = null`,
		"it is of no workflow":      `update workflow_runs set workflow_id = null`,
		"it is another user's":      `update workflow_runs set user_id = '` + bob + `'`,
		"it is another workflow's":  `update workflow_runs set workflow_id = '` + bobFlow + `'`,
		"it is the draft's":         `update workflow_runs set draft_id = workflow_id, workflow_id = null`,
		"it goes on":                `update workflow_runs set status = 'running', completed_at = null`,
		"the mark is another's":     `update run_counter.presumed set user_id = '` + bob + `'`,
		"the mark is gone":          `delete from run_counter.presumed`,
		"the mark is of a draft":    `update run_counter.presumed set kind = 'draft'`,
		"the mark is of no key":     `update run_counter.presumed set kind = null, ref_id = null`,
		"the mark has another time": `update run_counter.presumed set ended_at = ended_at + interval '1 second'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.begun(1)
			if got := f.failStuck(); len(got) != 1 {
				t.Fatalf("FailStuck: got %+v, want the run", got)
			}
			pgtest.Exec(t, f.address, `begin; set local session_replication_role = replica; `+hand+`; commit`)
			sweeper := &store.Sweeper{Store: f.store, Source: f.store, Now: func() time.Time { return time.Now().Add(-48 * time.Hour) }} // audits alone
			sweep := func() {
				t.Helper()
				for _, last := range []bool{false, true} {
					if r, err := sweeper.Sweep(t.Context(), store.SweepOptions{Full: true}); err != nil || last && r.Drifting != 0 {
						t.Errorf("a sweep, the last %v: %+v, %v; want no error, and no drift in the end", last, r, err)
					}
				}
				exact(t, f.store)
			}
			sweep()
			if kept := strings.HasPrefix(name, "it is "); kept && !f.runOne(1).Presumed {
				t.Errorf("the run is %+v, want its outcome presumed as before, whoever has it", f.runOne(1))
			}
			// Nothing is left by which what comes next goes wrong for good.
			pgtest.Exec(t, f.address, `update workflow_runs set status = 'cancelled', completed_at = now()`, `update workflow_runs set user_id = '`+ada+`'`, `delete from workflow_runs`)
			sweep()
			var marks int
			if sourcetest.MustScan(t, f.address, `select count(*) from run_counter.presumed`, &marks); marks != 0 {
				t.Errorf("%d marks are left of a run that is gone", marks)
			}
		})
	}
}

// TestCaseTheViewAndTheFunctionsCountUnderThePolicyInForce compares what SQL says
// with what the store says.
func TestCaseTheViewAndTheFunctionsCountUnderThePolicyInForce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	n := 0
	insert := func(status string, completed string, times int) {
		for range times {
			n++
			pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at, updated_at) values ('`+storetest.MustID('1', n).String()+`', '`+
				f.key.User.String()+`', '`+f.key.Ref.String()+`', '`+status+`', `+completed+`, now() - interval '1 day')`)
		}
	}
	for i, status := range store.Terminals {
		insert(string(status), `now()`, 1<<i)
	}
	insert("running", "null", 2)
	insert("cancelling", "null", 5)
	insert("pending", `now() - interval '1 day'`, 3)
	if got := f.failStuck(); len(got) != 10 {
		t.Fatalf("FailStuck: got %d, want 10", len(got))
	}
	pgtest.Exec(t, f.address, `insert into workflow_runs (user_id, workflow_id, draft_id, status, completed_at) values ('`+
		f.key.User.String()+`', '`+f.key.Ref.String()+`', '`+f.key.Ref.String()+`', 'completed', now() + interval '1 hour')`) // the draft's
	for range 2 {
		for _, name := range []string{"outcomes", "terminal", "outcomes-except-presumed", "terminal-except-presumed"} {
			pgtest.Exec(t, f.address, `update run_counter.settings set policy = '`+name+`'`)
			want, err := f.store.Count(t.Context(), f.key.Scope(), store.AllTime)
			if err != nil {
				t.Fatal(err)
			}
			var view, function, completed, failed, other, total int64
			var last time.Time
			sourcetest.MustScan(t, f.address, `select counted_count, get_user_workflow_run_count(user_id, workflow_id, draft_id), completed_count, failed_count, other_terminal_count, total_count, last_run_at
  from workflow_run_counts where workflow_id is not null`, &view, &function, &completed, &failed, &other, &total, &last)
			if e := want.Tallies.Ended; view != want.Count || function != want.Count || completed != e.Completed || failed != e.Failed ||
				other != e.Cancelled+e.Timeout || total != e.Completed+e.Failed+e.Cancelled+e.Timeout || !last.Equal(want.LastRunAt) {
				t.Errorf("%s: the view says %d (%d completed, %d failed, %d other, %d, last %v) and the function %d, want %+v",
					name, view, completed, failed, other, total, last, function, want)
			}
		}
		if _, err := f.store.Fold(t.Context(), time.Now(), 100); err != nil {
			t.Fatal(err)
		}
	}
}
