package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestAWrongTotalIsRepairedOnce has two repairers find the same difference, of which the
// second waits for the first; without the lock both add it.
func TestAWrongTotalIsRepairedOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lock  string
		wrong int
	}{"ours": {lockTotalsSQL + ";", 0}, "without its lock": {"", 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.end(1)
			f.mustFold()
			pgtest.Exec(t, f.address, `update run_counter.totals set n = n + 5`)
			first, second := f.session(), f.session()
			first.do(`begin`)
			if tt.lock != "" {
				first.do(tt.lock)
			}
			f.end(2)
			f.mustFold() // which waits for no repairer
			first.do(repairTotalsSQL)
			second.begin(func() error {
				_, err := second.conn.Exec(t.Context(), `begin;`+tt.lock+repairTotalsSQL+`; commit`, pgx.QueryExecModeSimpleProtocol)
				return err
			})
			first.do(`commit`)
			second.finish()
			if got := f.drifts(); got != tt.wrong {
				t.Errorf("%d totals are wrong, want %d", got, tt.wrong)
			}
		})
	}
}

// TestTheStoresAuditOfTotalsWaitsForAnother is the same order through the store.
func TestTheStoresAuditOfTotalsWaitsForAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1)
	f.mustFold()
	pgtest.Exec(t, f.address, `update run_counter.totals set n = n + 5`)
	first := f.session()
	first.do(`begin`, lockTotalsSQL, repairTotalsSQL)
	ended := make(chan error, 1)
	var wrong []store.Drift
	go func() {
		var err error
		wrong, err = f.store.AuditTotals(t.Context(), true)
		ended <- err
	}()
	until(t, func() bool { return waits(t, first.watcher, `application_name = 'runcounter'`) })
	first.do(`commit`)
	if err := need.Await(t, "the end of the audit", ended); err != nil || len(wrong) > 0 {
		t.Errorf("got %+v, %v; want nothing left to repair", wrong, err)
	}
	exact(t, f.store)
}

// TestFoldsOfAWorkflowDoNotWaitForEachOther has the fold of one user's runs wait to
// commit, and another's go on; with one shard it waits.
func TestFoldsOfAWorkflowDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		setup, patience string
		waits           bool
	}{
		"ours": {`select 1`, "20s", false},
		"with one shard": {`create function one() returns trigger language plpgsql as $$ begin new.shard := 0; return new; end $$;
			create trigger a before insert on run_counter.totals for each row execute function one()`, "50ms", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.end(1)
			pgtest.Exec(t, f.address, tt.setup, strings.NewReplacer(f.key.User.String(), bob).Replace(f.insert(2)))
			fold := func(s *session, key store.Key) error {
				_, err := s.conn.Exec(t.Context(), f.db.foldSQL(), f.db.keyArrays([]store.Key{key})...)
				return err
			}
			first, second := f.session(), f.session()
			for second.conn.PgConn().PID()%8 == first.conn.PgConn().PID()%8 {
				second = f.session()
			}
			first.do(`begin`)
			second.do(`set lock_timeout = '` + tt.patience + `'`)
			if err := fold(first, f.key); err != nil {
				t.Fatal(err)
			}
			if err := fold(second, store.KeyOf(sourcetest.MustParse(t, bob), f.key.Ref, store.ID{})); busy(err) != tt.waits || !tt.waits && err != nil {
				t.Errorf("the fold of another user's runs: %v; want it to wait: %t", err, tt.waits)
			}
			first.do(`commit`)
			exact(t, f.store)
		})
	}
}

// TestTotalsThatAddUpToNothingGo has runs come and go through two shards.
func TestTotalsThatAddUpToNothingGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1)
	f.mustFold()
	pgtest.Exec(t, f.address, `update run_counter.totals set shard = (shard + 1) % 8`, `delete from workflow_runs`)
	f.mustFold()
	sourcetest.MustBe(t, f.address, `select count(*) || ' ' || sum(n) from run_counter.totals`, "2 0")
	if wrong, err := f.store.AuditTotals(t.Context(), true); err != nil || len(wrong) > 0 {
		t.Errorf("AuditTotals: got %+v, %v", wrong, err)
	}
	sourcetest.MustBe(t, f.address, `select count(*) from run_counter.totals`, "0")
}

// TestAKeyIsFoundWithoutTheRestOfItsWorkflow has statistics of a ledger that held one
// user's runs alone: PostgreSQL takes any index then that begins like a workflow.
func TestAKeyIsFoundWithoutTheRestOfItsWorkflow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		setup string
		reads bool
	}{
		"ours":                     {`select 1`, false},
		"with an index without it": {`drop index run_counter.ledger_ref; create index ledger_ref on run_counter.ledger (kind, ref_id)`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			many := func(user string) string {
				return `insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n)
select ` + user + `, 'workflow', '` + f.key.Ref.String() + `', 'completed', false, 0 from generate_series(1, 5000)`
			}
			pgtest.Exec(t, f.address, tt.setup, many(`'`+f.key.User.String()+`'::uuid`), `vacuum analyze run_counter.ledger`, many(`gen_random_uuid()`))
			keys := make([]store.Key, 100)
			for i := range keys {
				keys[i] = store.KeyOf(storetest.MustID('b', i), f.key.Ref, store.ID{})
			}
			planned := f.session()
			planned.do(`set enable_seqscan = off`) // which of the indexes is the question
			rows, err := planned.conn.Query(t.Context(), `explain (analyze, costs off, timing off) select t.n from `+f.db.keysSQL()+` join `+watched.StoredOf("k")+` as t on true`, f.db.keyArrays(keys)...)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			if plan := strings.Join(lines, "\n"); strings.Contains(plan, "Removed by Filter") != tt.reads {
				t.Errorf("got the plan\n%s\nwant it to read other users' rows: %t", plan, tt.reads)
			}
		})
	}
}

func (f *fixture) mustFold() {
	f.Helper()
	if _, err := f.store.Fold(f.Context(), time.Now(), 1000); err != nil {
		f.Fatal(err)
	}
}

// TestTotalsThroughAllThatHappensToATable follows one through TRUNCATE, detach and up
// again, and asks the function, which is the server's alone.
func TestTotalsThroughAllThatHappensToATable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	of := store.TotalOf(f.key.Ref, store.ID{})
	mustBeTotal := func(when string, want int64) {
		t.Helper()
		exact(t, f.store)
		if got, err := f.store.Count(t.Context(), of.Scope(), store.AllTime); err != nil || got.Count != want {
			t.Errorf("%s: the total is %d, %v; want %d", when, got.Count, err, want)
		}
	}
	f.end(1)
	f.end(2)
	f.mustFold()
	f.end(3)
	mustBeTotal("with a run to fold", 3)
	sourcetest.MustBe(t, f.address, `select get_workflow_run_count(p_workflow_id => '`+of.Ref.String()+`')`, "3")
	sourcetest.MustBe(t, f.address, `select get_workflow_run_count(p_draft_id => '`+of.Ref.String()+`')`, "0")
	pgtest.Exec(t, f.address, `truncate workflow_runs`)
	mustBeTotal("after TRUNCATE", 0)
	f.mustFold()
	mustBeTotal("after its fold", 0)
	f.end(4)
	f.mustFold()
	pgtest.Exec(t, f.address, `select run_counter.detach()`)
	f.end(5)
	sourcetest.Migrate(t, f.address, (*migrations.Migrator).Up)
	mustBeTotal("after detach and up", 2)
	pgtest.Exec(t, f.address, `update run_counter.totals set n = n + 7`, mustScript(t, "20260101000002_fill_counts"))
	mustBeTotal("after the fill, which sets it", 2)
	f.end(6)
	f.mustFold()
	mustBeTotal("after a fold", 3)
}
