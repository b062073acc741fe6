package postgres

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// The rows of cases/tables.md that a source alone can have.

// rowOf is a row of the watched table as JSON has it.
func rowOf(t testing.TB, address, id string) map[string]any {
	t.Helper()
	var text string
	mustScan(t, address, `select to_jsonb(r) from workflow_runs as r where id = '`+id+`'`, &text)
	var row map[string]any
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		t.Fatal(err)
	}
	return row
}

// mustScan reads one row.
func mustScan(t testing.TB, address, sql string, to ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql).Scan(to...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

const (
	oneRun = "00000000-0000-4000-8000-0000000000c1"
	oneKey = `'` + ada + `', '` + adaFlow + `'`
)

func TestCaseT20_ArgumentsThatAreNullLeaveWhatIsThere(t *testing.T) {
	t.Parallel()
	installed, bare := mustInstall(t), pgtest.Database(t)
	pgtest.Exec(t, bare, bareTable)
	exec := func(sql string) func(string) { return func(address string) { pgtest.Exec(t, address, sql) } }
	complete := func(address string) {
		got, err := mustOpen(t, address, Options{}).Complete(t.Context(), store.Completion{ID: mustParse(t, oneRun), Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
		if err != nil || !got.Won {
			t.Errorf("Complete: got %+v, %v; want it won", got, err)
		}
	}
	for _, tt := range []struct {
		name, address string
		complete      func(address string)
	}{
		{"complete_workflow_run_and_get_count", installed, exec(`do $$ begin perform public.complete_workflow_run_and_get_count('` + oneRun + `', 'completed', null, null, null); end $$`)},
		{"complete_workflow_run", installed, exec(`do $$ begin perform public.complete_workflow_run('` + oneRun + `', 'completed'); end $$`)},
		{"Complete", installed, complete},
		{"Complete without migrations", bare, complete},
		{"an UPDATE that supersedes a presumed outcome", installed, func(address string) {
			f := store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10}
			if got, err := mustOpen(t, address, Options{}).FailStuck(t.Context(), f); err != nil || len(got) != 1 {
				t.Fatalf("FailStuck: got %+v, %v; want the run", got, err)
			}
			exec(`update workflow_runs set status = 'completed'`)(address)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pgtest.Exec(t, tt.address, `delete from workflow_runs; insert into workflow_runs (id, user_id, workflow_id, status, started_at, created_at, updated_at, duration_ms, error_details, state_snapshot)
values ('`+oneRun+`', `+oneKey+`, 'running', now() - interval '1 hour', now() - interval '1 hour', now() - interval '1 hour', 777, '{"warnings": 3}', '{"nodes": 1}')`)
			tt.complete(tt.address)
			got := rowOf(t, tt.address, oneRun)
			for column, want := range map[string]any{
				"status": "completed", "duration_ms": 777.0, "error_details": map[string]any{"warnings": 3.0}, "state_snapshot": map[string]any{"nodes": 1.0},
			} {
				if diff := cmp.Diff(want, got[column]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", column, diff)
				}
			}
		})
	}
}
