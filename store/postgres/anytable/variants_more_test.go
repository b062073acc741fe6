package anytable

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestCaseT6_JSONThatCannotBeLookedInto: a json takes escapes that a jsonb does
// not, and that raise where it is looked into; a text takes anything.
func TestCaseT6_JSONThatCannotBeLookedInto(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	for name, details := range map[string]string{
		"json, a NUL": `{"m":"a\u0000b"}`, "json, half a pair": `{"m":"\ud800"}`, "json, a key twice": `{"m":2,"a":1,"m":1}`,
		"text, half a pair": `{"m":"\ud800"}`, "text, words": `boom: "x" \ größer`, "text, nothing": ``,
	} {
		typ, _, _ := strings.Cut(name, ",")
		t.Run(name, func(t *testing.T) {
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, `alter table workflow_runs alter error_details type `+typ+`, alter state_snapshot type `+typ)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
			s := mustOpen(t, address, postgres.Options{})
			sweep := func() {
				t.Helper()
				if r, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{}); err != nil || r.Unwritable > 0 {
					t.Fatalf("a sweep: %+v, %v", r, err)
				}
			}
			const first, second = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
			silent := func(id string) string {
				return `insert into workflow_runs (id, user_id, workflow_id, status, created_at, error_details) values ('` + id + `', '` + ada + `', '` + adaFlow + `', 'running', now() - interval '1 day', '` + details + `')`
			}
			pgtest.Exec(t, address, silent(first), silent(second))
			sweep() // presumes them failed
			sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'failed' and error_details::text = '`+details+`'`, "2")
			pgtest.Exec(t, address, `update workflow_runs set status = 'completed' where id = '`+first+`'`)
			sourcetest.MustBe(t, address, `select public.complete_workflow_run('`+second+`', 'completed')`, "t")
			sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'completed' and error_details::text = '`+details+`'`, "2")
			sourcetest.ExactAt(t, address)
			pgtest.Exec(t, address, `delete from workflow_runs`, silent(first), silent(second), `update workflow_runs set error_details = null`)
			sweep()
			sourcetest.MustBe(t, address, `select count(*) from workflow_runs where error_details::json ->> 'code' = 'stuck'`, "2")
			pgtest.Exec(t, address, `update workflow_runs set status = 'completed' where id = '`+first+`'`)
			sourcetest.MustBe(t, address, `select public.complete_workflow_run('`+second+`', 'failed', null, '{"n": 1}', '"boom"')`, "t")
			sourcetest.MustBe(t, address, `select string_agg(concat_ws(' ', coalesce(error_details::text, 'none'), state_snapshot), ', ' order by id) from workflow_runs`,
				map[string]string{"json": `none, "boom" {"n": 1}`, "text": `none, boom {"n": 1}`}[typ])
			sourcetest.ExactAt(t, address)
		})
	}
}

// TestCaseT10_APresumedRunKeepsItsKeyWhenDraftsComeOrGo: what all is made anew for
// counts a presumed run under another key.
func TestCaseT10_APresumedRunKeepsItsKeyWhenDraftsComeOrGo(t *testing.T) {
	t.Parallel()
	const run, adaDraft = "00000000-0000-4000-8000-000000000001", "d1000000-0000-4000-8000-000000000001"
	for name, tt := range map[string]struct{ before, after string }{
		"they go":   {"", `alter table workflow_runs drop column draft_id cascade`},
		"they come": {`alter table workflow_runs drop column draft_id`, `alter table workflow_runs add draft_id uuid; update workflow_runs set draft_id = '` + adaDraft + `'`},
	} {
		t.Run(name, func(t *testing.T) {
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, tt.before)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
			draft := [2]string{}
			if tt.before == "" {
				draft = [2]string{", draft_id", ", '" + adaDraft + "'"}
			}
			pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, created_at`+draft[0]+`)
values ('`+run+`', '`+ada+`', '`+adaFlow+`', 'running', now() - interval '1 day'`+draft[1]+`)`)
			if _, err := sourcetest.SweeperOf(mustOpen(t, address, postgres.Options{})).Sweep(t.Context(), store.SweepOptions{}); err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, address, tt.after)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
			sourcetest.ExactAt(t, address)
			pgtest.Exec(t, address, `update workflow_runs set status = 'completed' where id = '`+run+`'`)
			sourcetest.ExactAt(t, address)
		})
	}
}
