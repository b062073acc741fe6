package sqlite

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// planOf returns how SQLite carries out a query.
func planOf(t testing.TB, q querier, text string, args ...any) string {
	t.Helper()
	var plan strings.Builder
	err := each(t.Context(), q, "explain", "explain query plan "+text, args, func(rows *sql.Rows) error {
		var id, parent, unused int
		var detail string
		err := rows.Scan(&id, &parent, &unused, &detail)
		plan.WriteString(detail + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

// TestWindowsAreReadFromTheirIndex holds what a count in a window costs: what lies between
// its bounds in an index, and, but for a key, no row of the table.
func TestWindowsAreReadFromTheirIndex(t *testing.T) {
	t.Parallel()
	s := mustOpen(t)
	mustIndexWindows(t, s, true)
	user, workflow := storetest.MustID('a', 1), storetest.MustID('c', 1)
	for want, of := range map[string]store.Scope{
		"USING INDEX workflow_runs_ended (user_id=? AND kind=? AND ref_id=? AND completed_at":         store.KeyOf(user, workflow, store.ID{}).Scope(),
		"USING COVERING INDEX workflow_runs_user_windows (user_id=? AND completed_at":                 {User: user},
		"USING COVERING INDEX workflow_runs_workflow_windows (<expr>=? AND <expr>=? AND completed_at": store.ScopeOf(store.ID{}, workflow, store.ID{}),
	} {
		for _, in := range []store.Window{{From: now}, {To: now}, {From: now, To: now.Add(time.Hour)}} {
			by, w, err := windowRuns(t.Context(), s.reader, of, in)
			if err != nil {
				t.Fatal(err)
			}
			if got := planOf(t, s.reader, windowSQL(by, w), w.args...); !strings.Contains(got, "SEARCH workflow_runs "+want) || strings.Contains(got, "TEMP") {
				t.Errorf("%s: got the plan\n%s, want %s", of, got, want)
			}
			w.countsUnder(store.Policy{ExceptPresumed: true})
			got := planOf(t, s.reader, `select count(*) from (select 1 from workflow_runs`+by+w.String()+` limit ?)`, append(w.args, 1)...)
			if !strings.Contains(got, want) {
				t.Errorf("%s, up to a limit: got the plan\n%s, want %s", of, got, want)
			}
		}
	}
	for _, of := range []store.Scope{{User: user}, {User: user, Kind: store.KindDraft}} {
		w := ofScope(of)
		w.add("completed_at is null")
		if got := planOf(t, s.reader, `select count(*) from workflow_runs`+w.String(), w.args...); !strings.Contains(got, "USING INDEX workflow_runs_active (user_id=?") {
			t.Errorf("the active runs of %s: got the plan\n%s", of, got)
		}
	}
	if got := planOf(t, s.reader, standingSQL, "", 1); !strings.Contains(got, "SEARCH grants USING INDEX grants_") {
		t.Errorf("the grants of a user: got the plan\n%s", got)
	}
}

// BenchmarkScopes asks a database of 1,000,000 ended runs, half of which are one user's
// on 500 workflows in an hour, and the others' 100,000 users' on one.
func BenchmarkScopes(b *testing.B) {
	s := mustOpen(b)
	mustIndexWindows(b, s, true)
	for _, text := range []string{
		`insert into workflow_runs (id, user_id, workflow_id, status, created_at, completed_at, evidence)
		 with recursive n (i) as (select 0 union all select i + 1 from n where i < 499999)
		 select printf('10000000-0000-4000-8000-%012x', i), '0a000000-0000-4000-8000-000000000001', printf('0c000000-0000-4000-8000-%012x', 1 + i % 500),
		        'completed', i, i * 1000, 4 from n`,
		`insert into workflow_runs (id, user_id, workflow_id, status, created_at, completed_at, evidence)
		 with recursive n (i) as (select 0 union all select i + 1 from n where i < 499999)
		 select printf('20000000-0000-4000-8000-%012x', i), printf('0b000000-0000-4000-8000-%012x', i % 100000), '0c000000-0000-4000-8000-000000000999',
		        'completed', i, i * 1000, 4 from n`,
		`insert into counts select user_id, kind, ref_id, status, 0, count(*) from workflow_runs group by 1, 2, 3, 4`,
		`insert into totals select kind, ref_id, status, presumed, sum(n) from counts group by 1, 2, 3, 4`,
	} {
		if _, err := s.writer.ExecContext(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
	at := func(run int) time.Time { return time.UnixMicro(int64(run) * 1000) }
	user, workflow := store.Scope{User: storetest.MustID(0x0a, 1)}, store.Scope{Kind: store.KindWorkflow, Ref: storetest.MustID(0x0c, 0x999)}
	scan := func(where string, args ...any) func() (int64, error) {
		return func() (n int64, err error) {
			err = s.reader.QueryRowContext(b.Context(), `select count(*) from workflow_runs where completed_at is not null and status in ('completed', 'failed') and `+where, args...).Scan(&n)
			return n, err
		}
	}
	count := func(of store.Scope, in store.Window) func() (int64, error) {
		return func() (int64, error) { c, err := s.Count(b.Context(), of, in); return c.Count, err }
	}
	begin := func(since time.Time) func() (int64, error) {
		limits := []store.Limit{{Scope: store.KeyLimit, Max: 10, From: since}, {Scope: store.UserLimit, Max: 500, From: since}}
		return func() (int64, error) {
			r, err := s.Begin(b.Context(), store.Begin{ID: store.NewID(), User: user.User, Workflow: storetest.MustID(0x0c, 1), Limits: limits, Now: at(500_000)})
			if !r.LimitReached {
				b.Fatalf("got %+v, want the limit reached", r)
			}
			return r.Usages[0].Counted, err
		}
	}
	for _, c := range []struct {
		name string
		ask  func() (int64, error)
	}{
		{"a user of 500 keys", count(user, store.AllTime)},
		{"a user of 500 keys, by count(*)", scan(`user_id = ?`, user.User.String())},
		{"a workflow of 100,000 users", count(workflow, store.AllTime)},
		{"a workflow of 100,000 users, by count(*)", scan(`kind = 'workflow' and ref_id = ?`, workflow.Ref.String())},
		{"a user's window of 10,000 runs", count(user, store.Window{From: at(0), To: at(10_000)})},
		{"a user's window of 100,000 runs", count(user, store.Window{From: at(0), To: at(100_000)})},
		{"a workflow's window of 10,000 runs", count(workflow, store.Window{From: at(0), To: at(10_000)})},
		{"a begin under two limits", begin(time.Time{})},
		{"a begin under two limits of a window of 500,000 runs", begin(at(0))},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if n, err := c.ask(); err != nil || n == 0 {
					b.Fatalf("got %d, %v", n, err)
				}
			}
		})
	}
}
