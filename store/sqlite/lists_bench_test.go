package sqlite

import (
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// BenchmarkLists asks a database of 500,000 ended runs of 50,000 keys for what the console and live counts ask.
func BenchmarkLists(b *testing.B) {
	s := mustOpen(b)
	for _, text := range []string{
		`insert into workflow_runs (id, user_id, workflow_id, status, created_at, completed_at, evidence)
		 with recursive n (i) as (select 0 union all select i + 1 from n where i < 499999)
		 select printf('10000000-0000-4000-8000-%012x', i), printf('0a000000-0000-4000-8000-%012x', i % 50000), '0c000000-0000-4000-8000-000000000001',
		        'completed', i, i + 60, iif(i % 200 = 0, 1, 4) from n`,
		`insert into counts select user_id, kind, ref_id, status, evidence = 1, count(*) from workflow_runs group by 1, 2, 3, 4, 5`,
	} {
		if _, err := s.writer.ExecContext(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
	keys := make([]store.Key, 1000)
	for i := range keys {
		keys[i] = store.KeyOf(storetest.MustID(0x0a, i*37), storetest.MustID(0x0c, 1), store.ID{})
	}
	listsBench(b, s, keys)
}

func listsBench(b *testing.B, s *Store, keys []store.Key) {
	for _, c := range []struct {
		name string
		ask  func() (int, error)
	}{
		{"counts of 1,000 keys", func() (int, error) { all, err := s.CountsOf(b.Context(), keys); return len(all), err }},
		{"a page of 100 counts", func() (int, error) {
			all, err := s.SearchCounts(b.Context(), store.CountQuery{After: keys[500], Limit: 100})
			return len(all), err
		}},
		{"a page of 100 counts of a workflow", func() (int, error) {
			all, err := s.SearchCounts(b.Context(), store.CountQuery{After: keys[500], Ref: keys[0].Ref, Limit: 100})
			return len(all), err
		}},
		{"a page of 50 presumed runs", func() (int, error) {
			all, err := s.SearchRuns(b.Context(), store.RunQuery{State: store.PresumedRuns, Limit: 50})
			return len(all), err
		}},
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
