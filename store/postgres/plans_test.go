package postgres

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestEachIndexIsReadByWhatItIsFor, and by that alone, in the plans that functions keep:
// also where ids are texts, of which an index holds those that fit.
func TestEachIndexIsReadByWhatItIsFor(t *testing.T) {
	t.Parallel()
	const texts = `alter table workflow_runs alter user_id type text, alter workflow_id type text`
	for name, alter := range map[string]string{
		"uuids": `select 1`, "uuids without drafts": `alter table workflow_runs drop draft_id`,
		"texts": texts + `, alter draft_id type text`, "texts without drafts": texts + `, drop draft_id`,
		"texts, and runs known by text": texts + `, alter draft_id type text, alter id drop default, alter id type text`,
		"users known by text":           `alter table workflow_runs alter user_id type varchar(300)`,
		"workflows known by text":       `alter table workflow_runs alter workflow_id type text, alter draft_id type text`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, alter)
			yes := true
			sourcetest.Migrate(t, address, func(m *migrations.Migrator) error {
				m.SetWindows(migrations.Windows{User: &yes, Workflow: &yes})
				return m.Up()
			})
			s := mustOpen(t, address, Options{})
			db, err := s.features(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			fill := func(what, column string) {
				pgtest.Exec(t, address, strings.NewReplacer("USER", db.user, "REF", db.ref, "ID", db.id, "COLUMN", column).Replace(`insert into workflow_runs (id, user_id, COLUMN, status, completed_at)
select gen_random_uuid()::text::ID, u::USER, f::REF, `+what+` from generate_series(1, 1000) as n, unnest(array['`+ada+`', '`+bob+`']) as u, unnest(array['`+adaFlow+`', '`+bobFlow+`']) as f
 union all select gen_random_uuid()::text::ID, u::USER, f::REF, `+what+` from generate_series(1, 100) as n, (select '`+ada+`' union all select gen_random_uuid()::text from generate_series(1, 10)) as u (u),
       (select '`+adaFlow+`' union all select gen_random_uuid()::text from generate_series(1, 10)) as f (f)`))
			}
			for _, kind := range db.table.Kinds() {
				fill(`'completed', timestamptz '2026-01-01' + n * interval '1 hour'`, map[bool]string{true: "draft_id", false: "workflow_id"}[kind == store.KindDraft])
			}
			pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status) select gen_random_uuid(), md5(n::text)::uuid, '`+adaFlow+`', 'running' from generate_series(1, 2000) as n;
insert into workflow_runs (id, user_id, workflow_id, status) select gen_random_uuid(), '`+ada+`', '`+adaFlow+`', 'running' from generate_series(1, 20)`)
			pgtest.Vacuum(t, address, "workflow_runs")
			q, _, err := runsQuery(db, store.RunQuery{State: store.EndedRuns, User: sourcetest.MustParse(t, ada), Limit: 10}, func(listedRuns) string { return "r.id" }, true)
			if err != nil {
				t.Fatal(err)
			}
			without := mustOpen(t, pgtest.With(t, address, "enable_seqscan", "off"), Options{}) // the user has a fifth of the runs
			if plan := strings.Join(explained(t, without, q), "\n"); strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Index Scan on run_counter_") {
				t.Errorf("a user's ended runs are read by\n%s", plan)
			}
			for _, tt := range indexReads(db) {
				scans := scansOf(t, address, tt.query)
				if got, there := scans[tt.index]; !there || got > tt.most || len(scans) > 1 {
					t.Errorf("%s reads %v, want no more than %d rows of %s", tt.name, scans, tt.most, tt.index)
				}
			}
		})
	}
}

type indexRead struct {
	name, query, index string
	most               int
}

// indexReads are what is read of runs: by which index, alone where it says so, and at
// most how many of its rows.
func indexReads(db features) (reads []indexRead) {
	user, ref := "'"+ada+"'::"+db.user, "'"+adaFlow+"'::"+db.ref
	within := ` and r.ended and ` + db.table.Within("r", "timestamptz '2026-01-02'", "timestamptz '2026-01-04'")
	from := ` from ` + db.keyed("open", "slot_user") + ` as r where `
	const only = "Index Only Scan using "
	for _, kind := range db.table.Kinds() {
		all := map[store.Kind]map[string]string{
			store.KindWorkflow: {"ended": "run_counter_ended", "user": "run_counter_user_windows", "all": "run_counter_workflow_windows"},
			store.KindDraft:    {"ended": "run_counter_ended_draft", "user": "run_counter_user_draft_windows", "all": "run_counter_draft_windows"},
		}[kind]
		count := `select r.status, count(*)` + from
		reads = append(reads,
			indexRead{string(kind) + ": a key's window", count + db.table.OfKey(kind, user, ref) + within + ` group by 1`, only + all["ended"], 96},
			indexRead{string(kind) + ": a user's window", count + db.table.OfKey(kind, user, "") + within + ` group by 1`, only + all["user"], 624},
			indexRead{string(kind) + ": a window over all users", count + db.table.OfKey(kind, "", ref) + within + ` group by 1`, only + all["all"], 624},
			indexRead{string(kind) + ": a key's last run", `select r.completed_at` + from + db.table.OfKey(kind, user, ref) + ` and r.ended order by r.end_order desc limit 1`, only + all["ended"], 1},
			indexRead{string(kind) + ": a key, of all time", count + db.table.OfKey(kind, user, ref) + ` and r.ended group by 1`, only + all["ended"], 1100},
		)
	}
	open := only + "run_counter_open"
	if db.table.Type(watched.User) == "text" || db.table.Type(watched.Workflow) == "text" {
		open = "Bitmap Index Scan on run_counter_open" // where it does not have the texts themselves
	}
	return append(reads, indexRead{"a user's open runs", `select count(*)` + from + `r.slot_user = ` + user + ` and r.ref_id is not null and r.open`, open, 20})
}

// scansOf runs a query by the plan that is made for any parameters, and returns the
// scans of runs in it, with how many rows each read.
func scansOf(t *testing.T, address, query string) map[string]int {
	t.Helper()
	conn := sourcetest.MustConnect(t, address)
	if _, err := conn.Exec(t.Context(), `set plan_cache_mode = force_generic_plan; set max_parallel_workers_per_gather = 0`); err != nil {
		t.Fatal(err)
	}
	for n, value := range []string{ada, adaFlow} { // as parameters
		query = strings.ReplaceAll(query, "'"+value+"'", "$"+strconv.Itoa(n+1)+"::text")
	}
	if _, err := conn.Exec(t.Context(), `prepare q (text, text) as `+query); err != nil {
		t.Fatalf("%v: %s", err, query)
	}
	scans := map[string]int{}
	for _, line := range sourcetest.Texts(t, conn, fmt.Sprintf(`explain (analyze, costs off, timing off) execute q ('%s', '%s')`, ada, adaFlow)) {
		before, after, there := strings.Cut(line, "(actual rows=")
		if !there || !strings.Contains(before, "Scan") || strings.Contains(before, "Bitmap Heap Scan") {
			continue
		}
		number, _, _ := strings.Cut(after, " ")
		rows, err := strconv.ParseFloat(number, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		name, _, _ := strings.Cut(strings.TrimLeft(before, "-> "), " on workflow_runs")
		scans[strings.TrimSpace(name)] += int(rows)
	}
	return scans
}
