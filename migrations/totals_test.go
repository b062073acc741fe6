package migrations

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestTheTotalsOfAnEarlierFunctionAreCompared(t *testing.T) {
	const wrong = `language sql as $$ select count(*)::%s from public.workflow_runs as r where r.user_id = p_user_id and r.workflow_id = p_workflow_id $$`
	for _, c := range []struct {
		name, function string
		want           *Totals
	}{
		{"there was none", `select 1`, nil},
		{
			"it counted runs that have not ended",
			`create function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns bigint ` + fmt.Sprintf(wrong, "bigint"),
			&Totals{Function: "get_user_workflow_run_count(uuid,uuid)", Compared: 2, Different: []Total{{User: alice, Kind: "workflow", Ref: flow, Old: 5, New: 3}}},
		},
		{
			"its parameters stand in another order",
			`create function public.get_user_workflow_run_count(p_draft_id uuid, p_workflow_id uuid, p_user_id uuid) returns integer ` + fmt.Sprintf(wrong, "integer"),
			&Totals{Function: "get_user_workflow_run_count(uuid,uuid,uuid)", Compared: 2, Different: []Total{{User: alice, Kind: "workflow", Ref: flow, Old: 5, New: 3}}},
		},
		{
			"it returned a table",
			`create function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns table (total bigint) ` + fmt.Sprintf(wrong, "bigint"),
			&Totals{Function: "get_user_workflow_run_count(uuid,uuid)", Compared: 2, Different: []Total{{User: alice, Kind: "workflow", Ref: flow, Old: 5, New: 3}}},
		},
		{
			"case T19: it counted all that has ended",
			`create function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns bigint ` + fmt.Sprintf(wrong, "bigint") +
				`; create or replace function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns bigint language sql as
$$ select count(*) from public.workflow_runs as r where r.user_id = p_user_id and r.workflow_id = p_workflow_id and r.completed_at is not null $$`,
			&Totals{Function: "get_user_workflow_run_count(uuid,uuid)", Compared: 2, Different: []Total{{User: alice, Kind: "workflow", Ref: flow, Old: 4, New: 3}}, Keeps: "terminal"},
		},
		{
			"it always failed",
			`create function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns bigint language plpgsql as $$ begin raise 'it is broken'; end $$`,
			&Totals{Function: "get_user_workflow_run_count(uuid,uuid)", Failed: 2, Failure: "it is broken"},
		},
		{
			"it wrote something",
			`create table public.log (n integer); create function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns bigint language plpgsql as $$ begin insert into public.log values (1); return 1; end $$`,
			&Totals{Function: "get_user_workflow_run_count(uuid,uuid)", Failed: 2, Failure: "cannot execute INSERT in a read-only transaction"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := pgtest.Supabase(t)
			pgtest.Exec(t, address, tableWithDrafts, aliceHasThree,
				`insert into public.workflow_runs (user_id, draft_id, status) values ('`+bob+`', '`+draft+`', 'running')`, c.function)
			m := mustPostgres(t, address)
			for range 2 {
				if err := m.Up(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, m.Totals()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				c.want = nil // the second time, it is ours
			}
		})
	}
}

// TestCaseT19_UpSetsThePolicyThatKeepsTheOldNumbers, and finds it no more.
func TestCaseT19_UpSetsThePolicyThatKeepsTheOldNumbers(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts, aliceHasThree,
		`create function public.get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns bigint language sql as
$$ select count(*) from public.workflow_runs as r where r.user_id = p_user_id and r.workflow_id = p_workflow_id and r.completed_at is not null $$`)
	m := mustPostgres(t, address)
	m.SetPolicy("terminal")
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	want := &Totals{Function: "get_user_workflow_run_count(uuid,uuid)", Compared: 1}
	if diff := cmp.Diff(want, m.Totals()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	mustCount(t, address, "4")
	mustUp(t, address) // which is told of none, and leaves it
	mustCount(t, address, "4")
}
