package anytable

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// hex draws a text that PostgreSQL can't compress: of 6,000 bytes it can stand in no
// index, and in a table of text it can.
func hex(r *rand.Rand, n int) string {
	const digits = "0123456789abcdef"
	text := make([]byte, n)
	for i := range text {
		text[i] = digits[r.IntN(len(digits))]
	}
	return string(text)
}

// windowed applies the migrations with both of the optional indexes.
func windowed(m *migrations.Migrator) error {
	yes := true
	m.SetWindows(migrations.Windows{User: &yes, Workflow: &yes})
	return m.Up()
}

// longTables are tables whose ids are texts of any length, and the columns of ids that
// no index of the application holds.
var longTables = []struct {
	name, alter string
	columns     []string
}{
	{"of drafts", longIDs + `, alter user_id type text, alter workflow_id type text, alter draft_id type text`, []string{"user_id", "workflow_id", "draft_id"}},
	{"without drafts", longIDs + `, alter user_id type text, alter workflow_id type text, drop draft_id`, []string{"user_id", "workflow_id"}},
	{"of workflows that are texts, and users that are none", `alter table workflow_runs alter user_id drop not null, alter workflow_id type text, alter draft_id type text`, []string{"workflow_id", "draft_id"}},
	{"of users that are texts, and workflows that are none", longIDs + `, alter user_id type text`, []string{"user_id"}},
	{"of users alone", longIDs + `, alter user_id type text, drop workflow_id, drop draft_id`, []string{"user_id"}},
	{"of workflows alone", `alter table workflow_runs alter workflow_id type text, drop draft_id, drop user_id`, []string{"workflow_id"}},
	{"of workflows and drafts alone", `alter table workflow_runs alter workflow_id type text, alter draft_id type text, drop user_id`, []string{"workflow_id", "draft_id"}},
}

const longIDs = `alter table workflow_runs alter id drop default, alter id type text, alter user_id drop not null`

func longSaid(alter string) watched.Overrides {
	said := watched.Overrides{Columns: map[watched.Role]string{}}
	for column, role := range map[string]watched.Role{"user_id": watched.User, "workflow_id": watched.Workflow, "draft_id": watched.Draft} {
		if strings.Contains(alter, "drop "+column) {
			said.Columns[role] = ""
		}
	}
	return said
}

// TestCaseLaw8_AnIDThatNoIndexCanHold is written as it is without us: by an INSERT of a
// run in any state, by an UPDATE, and before our indexes were built. Runs with such an
// id have no key, but for one whose other id is its key.
func TestCaseLaw8_AnIDThatNoIndexCanHold(t *testing.T) {
	t.Parallel()
	for _, tt := range longTables {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 6000))
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, tt.alter)
			writes := func(when string) {
				for _, column := range tt.columns {
					for n, status := range []string{"pending", "running", "completed", "queued"} {
						id := fmt.Sprintf("00000000-0000-4000-8000-%04d%08d", r.IntN(10000), n)
						own := func(role, value string) string {
							if strings.Contains(tt.alter, "drop "+role) {
								return ""
							}
							return fmt.Sprintf("update workflow_runs set %s = '%s' where id = '%s'; ", role, value, id)
						}
						pgtest.Exec(t, address, fmt.Sprintf(`insert into workflow_runs (id, status, %s) values ('%s', '%s', '%s')`, column, id, status, hex(r, 6000)),
							own("user_id", ada)+own("workflow_id", adaFlow)+own("draft_id", bobFlow),
							fmt.Sprintf(`update workflow_runs set %s = '%s' where id = '%s'`, column, hex(r, 6000), id),
							fmt.Sprintf(`update workflow_runs set status = 'failed', completed_at = now() where id = '%s'`, id),
							fmt.Sprintf(`update workflow_runs set %s = '%s' where id = '%s'`, column, hex(r, 6000), id))
						if t.Failed() {
							t.Fatalf("%s, of a run that is %s, %s", column, status, when)
						}
					}
				}
			}
			writes("before migrate up")
			said := longSaid(tt.alter)
			sourcetest.Migrate(t, address, func(m *migrations.Migrator) error {
				m.Override(said)
				return windowed(m)
			})
			writes("after migrate up")
			sourcetest.ExactAt(t, address)
			s := mustOpen(t, address, postgres.Options{})
			if audited, err := s.Audit(t.Context(), store.Audit{Max: 100}); err != nil || len(audited.Drifts) > 0 {
				t.Errorf("an audit: got %+v, %v; want all keys right", audited, err)
			}
			if swept, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{Full: true}); err != nil || swept.Unwritable > 0 {
				t.Errorf("a full sweep: got %+v, %v", swept, err)
			}
		})
	}
}

// TestCaseLaw8_ARunsIDThatFillsItsOwnIndex leaves no room in ours for anything beside it.
func TestCaseLaw8_ARunsIDThatFillsItsOwnIndex(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(2, 2690))
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, longTables[0].alter)
	sourcetest.Migrate(t, address, windowed)
	for _, guard := range []watched.Guard{watched.GuardOn, watched.GuardReports, watched.GuardOff} {
		id := hex(r, 2690)
		pgtest.Exec(t, address, fmt.Sprintf(`update run_counter.settings set guard = '%s', hardening = false`, guard),
			`insert into workflow_runs (id, user_id, workflow_id, status) values ('`+id+`', 'u', 'w', 'completed')`,
			`update workflow_runs set status = 'running', completed_at = null where id = '`+id+`'`,
			`update workflow_runs set status = 'failed', completed_at = now() where id = '`+id+`'`,
			`update workflow_runs set status = 'completed' where id = '`+id+`'`)
	}
	s := mustOpen(t, address, postgres.Options{})
	for range 2 {
		if swept, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{Full: true}); err != nil || swept.Unwritable > 0 {
			t.Errorf("a full sweep: got %+v, %v", swept, err)
		}
	}
	pgtest.Exec(t, address, `delete from workflow_runs`)
	sourcetest.ExactAt(t, address)
}

// TestRunsOfAnotherIDThatIsTooLongAreCounted, and take their slots: a draft's run may name a
// workflow that is no key.
func TestRunsOfAnotherIDThatIsTooLongAreCounted(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 6000))
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, longTables[0].alter)
	sourcetest.Migrate(t, address, windowed)
	long := "'" + hex(r, 6000) + "'"
	for n, ids := range []string{`'u', 'w', null`, `'u', 'w', ` + long, `'u', ` + long + `, 'd'`, `'u', 'w', 'd'`, `'u', ` + long + `, null`, `'u', null, ` + long, long + `, 'w', null`} {
		pgtest.Exec(t, address, fmt.Sprintf(`insert into workflow_runs (id, user_id, workflow_id, draft_id, status) values ('ended %d', %s, 'completed'), ('open %d', %[2]s, 'running')`, n, ids, n))
	}
	s := mustOpen(t, address, postgres.Options{})
	id := func(text string) store.ID { return sourcetest.MustParse(t, text) }
	since := store.Window{From: time.Now().Add(-time.Hour)}
	for _, of := range []store.Scope{
		{User: id("u"), Kind: store.KindWorkflow, Ref: id("w")}, {User: id("u"), Kind: store.KindDraft, Ref: id("d")},
		{Kind: store.KindWorkflow, Ref: id("w")}, {Kind: store.KindDraft, Ref: id("d")},
		{User: id("u"), Kind: store.KindWorkflow}, {User: id("u"), Kind: store.KindDraft}, {User: id("u")},
	} {
		want := int64(2)
		if of == (store.Scope{User: id("u")}) {
			want = 4
		}
		for _, in := range []store.Window{store.AllTime, since} {
			if c, err := s.Count(t.Context(), of, in); err != nil || c.Count != want {
				t.Errorf("%s in %s: got %d, %v; want %d", of, in, c.Count, err, want)
			}
		}
	}
	for call, want := range map[string]string{
		`get_workflow_run_count('u', p_from => now() - interval '1 hour')`:                           "4",
		`get_workflow_run_count('u', 'w', p_from => now() - interval '1 hour')`:                      "2",
		`get_workflow_run_count(p_draft_id => 'd', p_from => now() - interval '1 hour')`:             "2",
		`get_workflow_run_count(` + long + `, p_from => now() - interval '1 hour')`:                  "0",
		`get_workflow_run_count(` + long + `, 'w', p_from => now() - interval '1 hour')`:             "0",
		`get_workflow_run_count('u', ` + long + `, p_from => now() - interval '1 hour')`:             "0",
		`get_workflow_run_count(p_workflow_id => ` + long + `, p_from => '2026-01-01'::timestamptz)`: "0",
	} {
		sourcetest.MustBe(t, address, `select `+call, want)
	}
	sourcetest.MustBe(t, address, `select string_agg(scope || ' ' || counted || ' ' || active, ', ' order by scope) from get_workflow_run_allowance('u', 'w', p_limit => 9, p_user_limit => 9)`, "key 2 2, user 4 4")
	sourcetest.MustBe(t, address, `select string_agg(scope || ' ' || counted || ' ' || active, ', ' order by scope) from get_workflow_run_allowance('u', p_draft_id => 'd', p_limit => 9, p_user_limit => 9, p_from => now() - interval '1 hour')`, "key 2 2, user 4 4")
}
