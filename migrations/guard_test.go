package migrations

import (
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestTheGuardReportsWhereStatusesHaveOtherWords, unless the operator has said
// something else, which stands: whether by a flag or by hand, and whatever is
// altered later. What it does is said where it only reports.
func TestTheGuardReportsWhereStatusesHaveOtherWords(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts)
	done := map[string]store.Status{"done": store.Completed}
	for _, step := range []struct {
		name, before string
		given        watched.Overrides
		want, said   string
	}{
		{"nothing is said", ``, watched.Overrides{}, "on", ""},
		{"a word", ``, watched.Overrides{Statuses: done}, "report", "since statuses have other words than Run Counter's, and some applications retry a run in the same row: runcounter migrate up --guard on keeps them"},
		{"on", ``, watched.Overrides{Guard: watched.GuardOn}, "on", ""},
		{"nothing more", ``, watched.Overrides{}, "on", ""},
		{"another word", ``, watched.Overrides{Statuses: map[string]store.Status{"over": store.Failed}}, "on", ""},
		{"off by hand", `update run_counter.settings set guard = 'off'`, watched.Overrides{}, "off", ""},
		{"the table is altered", `alter table workflow_runs alter duration_ms type bigint`, watched.Overrides{}, "off", ""},
		{"on again", ``, watched.Overrides{Guard: watched.GuardOn}, "on", ""},
		{"report", ``, watched.Overrides{Guard: watched.GuardReports}, "report", "as was said: runcounter"},
		{"it is altered again", `alter table workflow_runs alter duration_ms type integer`, watched.Overrides{}, "report", "as was said: runcounter"},
	} {
		if step.before != "" {
			pgtest.Exec(t, address, step.before)
		}
		m := mustPostgres(t, address)
		m.Override(step.given)
		if err := m.Up(); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, address, `select guard from run_counter.settings`); !slices.Equal(got, []string{step.want}) {
			t.Errorf("%s: the guard is %s, want %s", step.name, got, step.want)
		}
		if got := strings.Join(m.Said(), "\n"); !strings.Contains(got, step.said) || step.said == "" && got != "" {
			t.Errorf("%s: up says %q, want %q", step.name, got, step.said)
		}
	}
	other := pgtest.Database(t)
	script, err := PrintPostgres(watched.Made(watched.GuardReports))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ by, want string }{{script, "report"}, {`update run_counter.settings set guard = 'on'`, "on"}, {script, "on"}} {
		pgtest.Exec(t, other, step.by)
		if got := ask(t, other, `select guard from run_counter.settings`); !slices.Equal(got, []string{step.want}) {
			t.Errorf("by a script: the guard is %s, want %s", got, step.want)
		}
	}
}
