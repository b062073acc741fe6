package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// manyRuns are 40,000 ended runs of 4,000 users, some of drafts, and 400 active ones.
const manyRuns = `set session_replication_role = replica;
insert into workflow_runs (id, user_id, workflow_id, draft_id, status, created_at, started_at, completed_at)
select ('10000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, ('0a000000-0000-4000-8000-' || lpad(to_hex(i % 4000), 12, '0'))::uuid,
       case when i % 5 > 0 then '0c000000-0000-4000-8000-000000000001'::uuid end, case when i % 5 = 0 then '0d000000-0000-4000-8000-000000000001'::uuid end,
       case when i % 100 = 0 then 'running' else 'completed' end, t, t - interval '1 second', case when i % 100 > 0 then t + interval '1 minute' end
  from (select i, timestamptz '2026-01-01' + i * interval '1 second' as t from generate_series(0, 39999) as i) as n;
analyze workflow_runs`

// TestListsOfRunsAreFoundByIndexes: what the console asks of a big table looks through
// the runs of a state, and of ended ones through those of a user.
func TestListsOfRunsAreFoundByIndexes(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	pgtest.Exec(t, address, manyRuns)
	s := mustOpen(t, address, Options{})
	user := storetest.MustID(0x0a, 17)
	for name, c := range map[string]struct {
		q     store.RunQuery
		index []string
	}{
		"active":                         {store.RunQuery{State: store.ActiveRuns}, []string{"run_counter_open"}},
		"active of a user":               {store.RunQuery{State: store.ActiveRuns, User: user}, []string{"run_counter_open"}},
		"odd":                            {store.RunQuery{State: store.OddRuns}, []string{"run_counter_odd"}},
		"odd of a status":                {store.RunQuery{State: store.OddRuns, Status: "on hold"}, []string{"run_counter_odd"}},
		"ended of a user":                {store.RunQuery{State: store.EndedRuns, User: user}, []string{"run_counter_ended", "run_counter_ended_draft"}},
		"ended of a user since a moment": {store.RunQuery{State: store.EndedRuns, User: user, In: store.Window{From: time.Unix(0, 0)}}, []string{"run_counter_ended", "run_counter_ended_draft"}},
	} {
		c.q.Limit = 51
		err := s.attempt(t.Context(), func(db features) error {
			q, _, err := runsQuery(db, c.q, func(l listedRuns) string { return rowSQL + `, ` + l.at }, true)
			if err != nil {
				return err
			}
			plan := strings.Join(explained(t, s, q), "\n")
			for _, index := range c.index {
				if !strings.Contains(plan, index+" ") && !strings.Contains(plan, index+"\n") {
					t.Errorf("%s: %s is not used:\n%s", name, index, plan)
				}
			}
			if strings.Contains(plan, "Seq Scan on workflow_runs") {
				t.Errorf("%s reads the table:\n%s", name, plan)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAListThatTakesTooLongSaysSo, and is not tried again: the table is locked, as by an
// ALTER, for longer than the query is given.
func TestAListThatTakesTooLongSaysSo(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	s := mustOpen(t, address, Options{})
	q := store.RunQuery{State: store.ActiveRuns, Limit: 1, Within: 50 * time.Millisecond}
	if _, err := s.SearchRuns(t.Context(), q); err != nil { // which reads the table's description
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `begin; lock table workflow_runs in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SearchRuns(t.Context(), q); !errors.Is(err, store.ErrTooSlow) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("SearchRuns: got %v, want %v", err, store.ErrTooSlow)
	}
	if _, err := s.CountRuns(t.Context(), q); !errors.Is(err, store.ErrTooSlow) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("CountRuns: got %v, want %v", err, store.ErrTooSlow)
	}
	if _, err := conn.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	if n, err := s.CountRuns(t.Context(), q); err != nil || n != 0 { // its connection is as it was
		t.Errorf("afterwards: got %d, %v", n, err)
	}
}
