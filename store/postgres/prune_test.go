package postgres

import (
	"testing"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestAKeyWithARunInTheLedgerIsNotPruned: a run that ends between the fold of its
// key and the pruning is in neither the counts nor open.
func TestAKeyWithARunInTheLedgerIsNotPruned(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, bareTable)
	migrate(t, address, (*migrations.Migrator).Up)
	s := mustOpen(t, address, Options{})
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'completed', now())`,
		`insert into run_counter.keys values ('`+bob+`', 'workflow', '`+bobFlow+`')`)
	err := s.attempt(t.Context(), func(have schema) error {
		keys := have.keyArrays([]store.Key{{User: mustParse(t, bob), Kind: store.KindWorkflow, Ref: mustParse(t, bobFlow)}})
		return s.commit(t.Context(), query{text: have.pruneKeysSQL(), args: keys})
	})
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, address, `select count(*) from run_counter.keys`, "1")
}
