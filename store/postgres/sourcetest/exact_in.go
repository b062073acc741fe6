package sourcetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// ExactInSQL makes the function exact_in of a statement such as [ExactSQL]: for a scope and
// a window it compares what the functions of ours count, and what is stored, with the
// runs. It is one statement, and so of one snapshot, which those that are STABLE look
// with: one that read the runs of a window in two statements, or with a snapshot of
// its own, would differ where a run ends meanwhile.
func ExactInSQL(table watched.Table, exact string) string {
	runs, _, _ := strings.Cut(exact, "), stored as (")
	args := `p_user::` + table.Type(watched.User) + `, p_kind, p_ref::` + table.Type(watched.Workflow) + `, p_from, p_to`
	const scope = `(p_user is null or user_id::text = p_user) and (p_kind is null or kind = p_kind) and (p_ref is null or ref_id::text = p_ref)`
	return `create or replace function exact_in(p_user text, p_kind text, p_ref text, p_from timestamptz, p_to timestamptz) returns setof text language plpgsql as $exact$
begin
    return query` + runs + `
), actual as (
    select status, presumed, count(*) as n
      from runs
     where ` + scope + ` and (p_from is null or ended_at >= p_from) and (p_to is null or ended_at < p_to)
     group by 1, 2
), counted as (
    select t.status, t.presumed, t.n from run_counter.tallies_in(` + args + `) as t where p_from is not null or p_to is not null
     union all
    select k.status, k.presumed, k.n from ` + watched.Stored() + ` as k where p_from is null and p_to is null and p_user is not null and ` + scope + `
     union all
    select k.status, k.presumed, k.n from run_counter.totals as k where p_from is null and p_to is null and p_user is null and kind = p_kind and ref_id::text = p_ref
     union all
    select k.status, k.presumed, k.n from run_counter.ledger as k where p_from is null and p_to is null and p_user is null and kind = p_kind and ref_id::text = p_ref
), wrong as (
    select status, presumed, sum(n) as n
      from (select * from counted union all select status, presumed, -n from actual) as b
     group by 1, 2
    having sum(n) <> 0
), count as (
    select run_counter.count_in(` + args + `) as is_now,
           (select coalesce(sum(a.n), 0) from actual as a
             where (s.policy like 'terminal%' or a.status in ('completed', 'failed')) and not (s.policy like '%-except-presumed' and a.presumed)) as should
      from run_counter.settings as s
     where p_ref is not null or p_kind is null -- SQL has no count of a user's runs of one kind
)
select format('counted minus actual: %s %s%s', n, status, case when presumed then ' presumed' else '' end) from wrong
 union all
select format('SQL counts %s, want %s', is_now, should) from count where is_now <> should;
end $exact$`
}

// ExactIn fails the test if what is counted of a scope in a window is not its runs, as
// the function of [ExactInSQL] finds.
func ExactIn(t testing.TB, in Querier, of store.Scope, w store.Window) {
	t.Helper()
	bound := func(at time.Time) any {
		if at.IsZero() {
			return nil
		}
		return at
	}
	kind := any(nil)
	if of.Kind != "" {
		kind = string(of.Kind)
	}
	w = w.Instants()
	rows, err := in.Query(context.WithoutCancel(t.Context()), `select exact_in($1::text, $2::text, $3::text, $4::timestamptz, $5::timestamptz)`, idArg(of.User), kind, idArg(of.Ref), bound(w.From), bound(w.To))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Errorf("count %s from %v to %v: %v", of, w.From, w.To, err)
	}
	for _, text := range wrong {
		t.Errorf("law 1: %s from %v to %v: %s", of, w.From, w.To, text)
	}
}
