package sourcetest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// ExactSQL compares both sides of law 1 for all keys in one statement, and so
// in one snapshot.
const ExactSQL = `
with runs as (
    select r.user_id, case when r.draft_id is null then 'workflow' else 'draft' end as kind, coalesce(r.draft_id, r.workflow_id) as ref_id, r.status::text as status, r.completed_at as ended_at,
           exists (select from run_counter.presumed as p where p.run_id = r.id and p.ended_at = r.completed_at and p.status = r.status::text) as presumed
      from workflow_runs as r
     where extract(year from r.completed_at at time zone 'UTC') between 2 and 9998 and r.status::text in ('completed', 'failed', 'cancelled', 'timeout')
       and octet_length(r.user_id::text) between 1 and 255 and octet_length(r.id::text) between 1 and 255
       and coalesce(r.draft_id, r.workflow_id) is not null
), stored as (
    select user_id, kind, ref_id, status, presumed, n from run_counter.counts
     union all
    select user_id, kind, ref_id, status, presumed, n from run_counter.ledger
     union all
    select user_id, kind, ref_id, status, presumed, -1 from runs
), summed as (
    select user_id, kind, ref_id, status, presumed, sum(n) as n
      from stored
     group by user_id, kind, ref_id, status, presumed
)
select format('user %s, %s %s: stored minus actual: %s %s%s', user_id, kind, ref_id, n, status, case when presumed then ' presumed' else '' end)
  from summed
 where n <> 0
 union all
select format('all users, %s %s: total minus counts: %s %s%s', kind, ref_id, sum(n), status, case when presumed then ' presumed' else '' end)
  from (select kind, ref_id, status, presumed, n from run_counter.totals union all select kind, ref_id, status, presumed, -n from run_counter.counts) as t
 group by kind, ref_id, status, presumed
having sum(n) <> 0`

// theirsSQL reads a table of other names and words without a word from package watched.
const theirsSQL = `select "run's id" as id, org_id as user_id, flow as workflow_id, draft as draft_id, "order" as completed_at,
    (array['completed', 'failed', 'cancelled', 'timeout'])[array_position(array['it''s over', 'error', 'canceled', 'timed_out'], state::text)] as status from workflow_runs`

// Querier is a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, text string, args ...any) (pgx.Rows, error)
}

// Exact fails the test where law 1 does not hold in one snapshot of a database.
func Exact(t testing.TB, in Querier) {
	t.Helper()
	Complain(t, Texts(t, in, exactText(t, in)))
}

// ExactAt is [Exact] in a session of its own.
func ExactAt(t testing.TB, address string) {
	t.Helper()
	conn, err := pgx.Connect(context.WithoutCancel(t.Context()), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	Exact(t, conn)
}

// Complain fails the test for each key that is wrong.
func Complain(t testing.TB, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Errorf("law 1: %s", w)
	}
}

// Texts returns the rows of a query, each a text.
func Texts(t testing.TB, in Querier, text string) []string {
	t.Helper()
	rows, err := in.Query(context.WithoutCancel(t.Context()), text)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// exactText is ExactSQL for the table that is there.
func exactText(t testing.TB, in Querier) string {
	t.Helper()
	text := ExactSQL
	columns := Texts(t, in, `select attname::text from pg_attribute where attrelid = 'public.workflow_runs'::regclass and attnum > 0`)
	has := func(column string) bool { return slices.Contains(columns, column) }
	switch {
	case has("org_id"):
		text = strings.ReplaceAll(text, "from workflow_runs as r", "from ("+theirsSQL+") as r")
	case !has("workflow_id"):
		text = strings.NewReplacer("case when r.draft_id is null then 'workflow' else 'draft' end", "'all'", "coalesce(r.draft_id, r.workflow_id)", "''").Replace(text)
	case !has("draft_id"):
		text = strings.ReplaceAll(text, "r.draft_id", "null")
	}
	if !has("org_id") && !has("user_id") {
		text = strings.NewReplacer("select r.user_id,", "select '' as user_id,", "octet_length(r.user_id::text) between 1 and 255 and ", "").Replace(text)
	}
	for _, id := range []string{"r.draft_id", "r.workflow_id"} { // a text that is no key
		text = strings.ReplaceAll(text, id, "(case when octet_length("+id+"::text) between 1 and 255 then "+id+" end)")
	}
	// A time that is no timestamptz is read here by other means than ours.
	if moment := Texts(t, in, `select case when atttypid <> 'timestamp'::regtype
        then format('(case when r.completed_at / %1$s between -62104060800 and 253370764799 then to_timestamp(r.completed_at / %1$s) end)', case s.times when 'seconds' then '1.0' else '1000.0' end)
        else format('(case when extract(year from r.completed_at) between 2 and 9998 then r.completed_at at time zone %L end)', s.described ->> 'timezone') end
   from pg_attribute, (select described -> 'said' ->> 'times' as times, described from run_counter.settings) as s
 where attrelid = 'public.workflow_runs'::regclass and attname = 'completed_at' and atttypid in ('timestamp'::regtype, 'bigint'::regtype, 'integer'::regtype)`); len(moment) > 0 {
		text = strings.ReplaceAll(text, "r.completed_at", moment[0])
	}
	return text
}
