package postgres

import (
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// benchRuns are 200,000 ended runs of 20,000 keys, written where triggers don't
// run.
const benchRuns = `set session_replication_role = replica;
insert into workflow_runs (id, user_id, workflow_id, status, created_at, completed_at)
select ('10000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, ('0a000000-0000-4000-8000-' || lpad(to_hex(i % 20000), 12, '0'))::uuid,
       '0c000000-0000-4000-8000-000000000001', 'completed', t, t + interval '1 minute'
  from (select i, timestamptz '2026-01-01' + i * interval '1 second' as t from generate_series(0, 199999) as i) as n;
analyze workflow_runs`

// BenchmarkLists asks for what the console and live counts ask, with a tenth of
// the keys in the ledger as well, 5,000 presumed runs and 5,000 superseded ones.
func BenchmarkLists(b *testing.B) {
	address := sourcetest.Installed(b)
	pgtest.Exec(b, address, benchRuns, `set session_replication_role = replica;
insert into run_counter.counts select user_id, 'workflow', workflow_id, 'completed', false, count(*) from workflow_runs group by 1, 3;
insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n)
select user_id, kind, ref_id, 'completed', false, 0 from run_counter.counts where user_id::text like '%7';
insert into run_counter.presumed (run_id, user_id, kind, ref_id, status, ended_at)
select id, user_id, 'workflow', workflow_id, status, completed_at from workflow_runs where right(id::text, 1) = '1' and mod(extract(epoch from completed_at)::bigint, 3) = 0;
insert into run_counter.repairs (run_id, kind, first_at, was, last_at, status, completed_at)
select id, 'stuck', created_at, 'running', completed_at, 'failed', completed_at from workflow_runs where right(id::text, 2) in ('22', '33', '44', '55', '66', '77');
analyze`)
	b.Run("with our migrations", func(b *testing.B) { benchLists(b, mustOpen(b, address, Options{}), true) })
	b.Run("through a pooler", func(b *testing.B) { benchLists(b, mustOpen(b, pgtest.Pooler(b, address), Options{}), true) })
	bare := openBare(b)
	s, _ := bare.Store.(*Store)
	for _, text := range []string{`alter table workflow_runs disable trigger count_write`, benchRuns[len(`set session_replication_role = replica;`) : len(benchRuns)-len(";\nanalyze workflow_runs")], `analyze workflow_runs`} {
		if _, err := s.pool.Exec(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("without them, and without an index", func(b *testing.B) { benchLists(b, s, false) })
	if _, err := s.pool.Exec(b.Context(), `create index on workflow_runs (user_id, workflow_id)`); err != nil {
		b.Fatal(err)
	}
	b.Run("without them, with an index", func(b *testing.B) { benchLists(b, s, false) })
}

func benchLists(b *testing.B, s *Store, installed bool) {
	keys := make([]store.Key, 1000)
	for i := range keys {
		keys[i] = store.KeyOf(storetest.MustID(0x0a, i*17), storetest.MustID(0x0c, 1), store.ID{})
	}
	search := func(q store.CountQuery) func() (int, error) {
		return func() (int, error) { all, err := s.SearchCounts(b.Context(), q); return len(all), err }
	}
	runs := func(state store.RunState) func() (int, error) {
		return func() (int, error) {
			all, err := s.SearchRuns(b.Context(), store.RunQuery{State: state, Limit: 50})
			return len(all), err
		}
	}
	for _, c := range []struct {
		name string
		ask  func() (int, error)
		ours bool
	}{
		{"counts of 1,000 keys", func() (int, error) { all, err := s.CountsOf(b.Context(), keys); return len(all), err }, false},
		{"a page of 100 counts", search(store.CountQuery{After: keys[500], Limit: 100}), false},
		{"a page of 100 counts of a workflow", search(store.CountQuery{After: keys[500], Ref: keys[0].Ref, Limit: 100}), false},
		{"a page of 50 presumed runs", runs(store.PresumedRuns), true},
		{"a page of 50 superseded runs", runs(store.SupersededRuns), true},
	} {
		if c.ours && !installed {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if n, err := c.ask(); err != nil || n == 0 {
					b.Fatalf("got %d, %v", n, err)
				}
			}
		})
	}
}
