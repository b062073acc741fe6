package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestAKeyWithARunInTheLedgerIsNotPruned: a run that ends between the fold of its
// key and the pruning is in neither the counts nor open.
func TestAKeyWithARunInTheLedgerIsNotPruned(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	s := mustOpen(t, address, Options{})
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'completed', now())`,
		`insert into run_counter.keys values ('`+bob+`', 'workflow', '`+bobFlow+`')`)
	err := s.attempt(t.Context(), func(db features) error {
		keys := db.keyArrays([]store.Key{{User: sourcetest.MustParse(t, bob), Kind: store.KindWorkflow, Ref: sourcetest.MustParse(t, bobFlow)}})
		return s.commit(t.Context(), query{text: db.pruneKeysSQL(), args: keys})
	})
	if err != nil {
		t.Fatal(err)
	}
	sourcetest.MustBe(t, address, `select count(*) from run_counter.keys`, "1")
}

// TestWhatIsHeldIsPrunedLater: an application that overwrites the outcomes of two
// runs holds the first one's repair, and a fold that waited for it with the
// second's in its hands would be part of a deadlock.
func TestWhatIsHeldIsPrunedLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.address, `insert into run_counter.repairs (run_id, kind, first_at, status, last_at, completed_at) select gen_random_uuid(), 'gave_way', at, 'completed', at, now() from (values (now() - interval '1 year'), (now() - interval '2 years')) as o (at)`)
	fold := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := f.store.Fold(ctx, time.Now(), 10); err != nil {
			t.Error(err)
		}
	}
	f.inTransaction(func(tx pgx.Tx) {
		execute(t, tx, `update run_counter.repairs set times = 2 where last_at < now() - interval '18 months'`)
		fold()
		sourcetest.MustBe(t, f.address, `select count(*) from run_counter.repairs`, "1")
	})
	fold()
	sourcetest.MustBe(t, f.address, `select count(*) from run_counter.repairs`, "0")
}
