package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// waitsOrEnds returns when a call waits for a lock or has ended.
func (f *fixture) waitsOrEnds(watcher *pgx.Conn, call chan error) {
	f.Helper()
	until(f, func() bool {
		select {
		case err := <-call:
			call <- err
			return true
		default:
		}
		return waits(f, watcher, `application_name = 'runcounter'`)
	})
}

// TestCaseT29_AKeyThatAnOpenTransactionMadeIsLeftOut has an application begin
// the first run of a key and stay open. Folds and recounts of all others go on.
func TestCaseT29_AKeyThatAnOpenTransactionMadeIsLeftOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.address, `delete from run_counter.keys`)
	app := f.session()
	app.do(`begin`, `select begin_workflow_run('`+f.key.User.String()+`', '`+f.key.Ref.String()+`', p_limit => 5)`)
	f.end(1) // which is the first of the ledger
	other := store.KeyOf(storetest.MustID('b', 1), f.key.Ref, store.ID{})
	pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status) values ('`+storetest.MustID('3', 1).String()+`', '`+
		other.User.String()+`', '`+other.Ref.String()+`', 'completed')`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, want := range []int{1, 0} { // in one call of a row, and nothing is left that could be had
		if got, err := f.store.Fold(ctx, time.Now(), 1); err != nil || got != want {
			t.Errorf("Fold: got %d, %v; want %d", got, err, want)
		}
	}
	var left string
	if err := app.watcher.QueryRow(t.Context(), `select string_agg(user_id::text, ' ') from run_counter.ledger`).Scan(&left); err != nil || left != f.key.User.String() {
		t.Errorf("the ledger has %s, %v; want the key that is held alone", left, err)
	}
	if _, err := f.store.recountLocked(ctx, f.db, f.key, time.Now(), noCondition); !errors.Is(translate(err), store.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("a recount of the key that is held: got %v, want ErrUnavailable", err)
	}
	if _, err := f.store.recountLocked(ctx, f.db, other, time.Now(), noCondition); err != nil {
		t.Errorf("a recount of another: %v", err)
	}
	app.do(`commit`)
	if got, err := f.store.Fold(ctx, time.Now(), 10); err != nil || got != 1 {
		t.Errorf("Fold after it: got %d, %v; want 1", got, err)
	}
	exact(t, f.store)
}

// TestCaseT35_ARecountKeepsAMarkThatAWriterMakesGood has a recount meet a mark
// that was left behind, while a sweep is about to make it good.
func TestCaseT35_ARecountKeepsAMarkThatAWriterMakesGood(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1) // another run of the key
	id := f.run(1)
	pgtest.Exec(t, f.address, `insert into run_counter.presumed (run_id, ended_at, user_id, kind, ref_id, status) values ('`+id+`', '2020-01-01', '`+
		f.key.User.String()+`', 'workflow', '`+f.key.Ref.String()+`', 'failed')`)
	sweep := f.session()
	sweep.do(`begin`, `update workflow_runs set status = 'failed', completed_at = '2026-01-01' where id = '`+id+`'`,
		`insert into run_counter.presumed as p (run_id, ended_at, user_id, kind, ref_id, status) values ('`+id+`', '2026-01-01', '`+
			f.key.User.String()+`', 'workflow', '`+f.key.Ref.String()+`', 'failed') on conflict (run_id) do update set ended_at = excluded.ended_at`)
	recounted := make(chan error, 1)
	go func() {
		_, err := f.store.recountLocked(t.Context(), f.db, f.key, time.Now(), noCondition)
		recounted <- err
	}()
	f.waitsOrEnds(sweep.watcher, recounted)
	sweep.do(`commit`)
	if err := need.Await(t, "the end of the recount", recounted); err != nil {
		t.Fatal(err)
	}
	run, err := f.store.Run(t.Context(), storetest.MustID('1', 1))
	if err != nil || !run.Presumed {
		t.Errorf("the run is %+v, %v; want it presumed", run, err)
	}
	if _, err := f.store.recountLocked(t.Context(), f.db, f.key, time.Now(), noCondition); err != nil {
		t.Fatal(err)
	}
	exact(t, f.store)
}

// TestCasesT36_WhatIsReadTogetherIsOfOneMoment holds a reader up between its
// statements, at one of our tables, while a run ends.
func TestCasesT36_WhatIsReadTogetherIsOfOneMoment(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		table string // which the later of its statements read
		read  func(f *fixture) (counts []int64, err error)
	}{
		"the history of a key": {"run_counter.presumed", func(f *fixture) ([]int64, error) {
			h, err := f.store.KeyHistory(f.Context(), f.key, 10)
			return []int64{h.Count.Count, h.Drift.Stored.Ended.Total(), h.Drift.Actual.Ended.Total(), int64(len(h.Runs)), h.Ledger}, err
		}},
		"the history of a run": {"run_counter.repairs", func(f *fixture) ([]int64, error) {
			h, err := f.store.History(f.Context(), storetest.MustID('2', 1))
			return []int64{h.Count.Count, int64(len(h.Amendments)) + 1}, err
		}},
		"a count and its last run": {"public.workflow_runs", func(f *fixture) ([]int64, error) {
			c, err := f.store.Count(f.Context(), f.key.Scope(), store.AllTime)
			n := int64(1)
			if c.LastRunAt.After(c.LastRunAt.Truncate(time.Hour)) { // the second ended on no full hour
				n = 2
			}
			return []int64{c.Count, n}, err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ('`+
				storetest.MustID('2', 1).String()+`', '`+f.key.User.String()+`', '`+f.key.Ref.String()+`', 'completed', '2026-01-01 12:00+00')`)
			lock := f.session()
			lock.do(`begin`, `lock table `+tt.table+` in access exclusive mode`)
			var counts []int64
			read := make(chan error, 1)
			go func() {
				var err error
				counts, err = tt.read(f)
				read <- err
			}()
			f.waitsOrEnds(lock.watcher, read)
			lock.do(f.insert(2), `insert into run_counter.amendments (run_id, at, who, why, status) values ('`+storetest.MustID('2', 1).String()+`', now(), 'a', 'b', 'failed')`,
				`commit`)
			if err := need.Await(t, "the end of the reading", read); err != nil {
				t.Fatal(err)
			}
			for _, n := range counts {
				if n != counts[0] {
					t.Fatalf("it reads %v: of several moments", counts)
				}
			}
		})
	}
}

// TestCaseT30_ATruncateInRepeatableReadIsRepairedByTheNextSweep has a run end
// between a transaction's snapshot and its TRUNCATE. The sweep audits a key at a
// time, and this is the second.
func TestCaseT30_ATruncateInRepeatableReadIsRepairedByTheNextSweep(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sweeper := &store.Sweeper{Store: f.store, Source: f.store, Slice: 1}
	first := `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + storetest.MustID('3', 1).String() + `', '` +
		storetest.MustID('0', 1).String() + `', '` + f.key.Ref.String() + `', 'completed')`
	old := f.session()
	old.do(`begin isolation level repeatable read`, `select count(*) from workflow_runs`)
	f.end(1)
	old.do(`truncate workflow_runs`, `commit`)
	pgtest.Exec(t, f.address, first)
	if got := f.drifts(); got != 1 {
		t.Fatalf("%d keys drift, want the one that the TRUNCATE could not see", got)
	}
	if r, err := sweeper.Sweep(t.Context(), store.SweepOptions{DryRun: true}); err != nil || !r.Full || r.Drifting != 1 {
		t.Errorf("a dry sweep: %+v, %v; want it to find the one", r, err)
	}
	for _, want := range []struct{ full, repaired bool }{{true, true}, {false, false}} {
		r, err := sweeper.Sweep(t.Context(), store.SweepOptions{})
		if err != nil || r.Full != want.full || (r.Corrected == 1) != want.repaired {
			t.Errorf("a sweep: %+v, %v; want full %v, and repaired %v", r, err, want.full, want.repaired)
		}
	}
	exact(t, f.store)
	pgtest.Exec(t, f.address, `truncate workflow_runs`)
	if event, err := f.store.AuditDue(t.Context()); err != nil || event != 0 {
		t.Errorf("after a TRUNCATE in READ COMMITTED: got %d, %v; want no audit due", event, err)
	}
	exact(t, f.store)
}

// TestKeysAreLockedInTheOrderOfTheirBytes: a database whose locale sorts text
// otherwise would have two folds make the same keys in two orders.
func TestKeysAreLockedInTheOrderOfTheirBytes(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	config.Database += "_by_locale"
	pgtest.Exec(t, address, `create database `+config.Database+` template template0 locale_provider icu icu_locale 'en-US'`)
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		pgtest.Exec(t, address, `drop database `+config.Database)
	})
	db := features{user: "text", ref: "text"}
	rows, err := conn.Query(t.Context(), `select user_id || ref_id from `+db.keysSQL()+` order by user_id, kind, ref_id`,
		[]string{"a", "B", "a", "a"}, []string{"workflow", "workflow", "workflow", "draft"}, []string{"b", "a", "B", "c"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if diff := cmp.Diff([]string{"Ba", "ac", "aB", "ab"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
