package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestContract(t *testing.T) { storetest.Run(t, open) }

func TestCaseT4_ContractWithOtherIDs(t *testing.T) {
	for _, ids := range []storetest.OtherIDs{storetest.TextIDs, storetest.BigintIDs} {
		t.Run(ids.Name, func(t *testing.T) { storetest.Run(t, ids.Open(open)) })
	}
}

func TestLetters(t *testing.T) { storetest.Letters(t, open) }

func open(t testing.TB) storetest.Backend { return backend(t, mustOpen(t)) }

func mustOpen(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "runs.db"), Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func backend(t testing.TB, s *Store) storetest.Backend {
	ctx := context.WithoutCancel(t.Context())
	exec := func(t testing.TB, text string, args ...any) {
		t.Helper()
		if _, err := s.writer.ExecContext(ctx, text, args...); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return storetest.Backend{
		Store: s,
		Tell: func(t testing.TB, received time.Time, changes ...store.Change) []store.Applied {
			t.Helper()
			applied, err := s.Apply(ctx, changes, received)
			if err != nil {
				t.Fatalf("Apply: %v", err)
			}
			return applied
		},
		Exact: func(t testing.TB) {
			t.Helper()
			exact(t, s)
		},
		Spoil: func(t testing.TB, key store.Key, by int64) {
			t.Helper()
			exec(t, `insert into counts (user_id, kind, ref_id, completed) values (?1, ?2, ?3, ?4)
			             on conflict (user_id, kind, ref_id) do update set completed = completed + ?4`, append(keyArgs(key), by)...)
		},
		Forget: func(t testing.TB, key store.Key) {
			t.Helper()
			for _, table := range []string{"counts", "ledger"} {
				exec(t, `delete from `+table+` where user_id = ? and kind = ? and ref_id = ?`, keyArgs(key)...)
			}
		},
		SetPolicy: func(t testing.TB, p store.Policy) {
			t.Helper()
			if err := s.SetPolicy(ctx, p); err != nil {
				t.Fatal(err)
			}
		},
		Written: func(t testing.TB) int64 {
			t.Helper()
			var n int64
			if err := s.writer.QueryRowContext(ctx, `select total_changes()`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
}

// exact compares both sides of law 1 in one statement, and so in one snapshot.
func exact(t testing.TB, s *Store) {
	t.Helper()
	rows, err := s.reader.QueryContext(context.WithoutCancel(t.Context()), `
with stored as (
    select user_id || ' ' || kind || ' ' || ref_id as key, completed, failed, cancelled, timeout,
           presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout
      from counts
     union all
    select user_id || ' ' || kind || ' ' || ref_id, completed, failed, cancelled, timeout,
           presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout
      from ledger
), runs as (
    select user_id || ' ' || case when draft_id is not null then 'draft ' || draft_id when workflow_id = '' then 'all ' else 'workflow ' || workflow_id end as key, status,
           evidence = 1 as presumed
      from workflow_runs
     where completed_at is not null and user_id is not null and coalesce(draft_id, workflow_id) is not null
)
select *
  from (select key, sum(completed) as a, sum(failed) as b, sum(cancelled) as c, sum(timeout) as d,
               sum(presumed_completed) as e, sum(presumed_failed) as f, sum(presumed_cancelled) as g, sum(presumed_timeout) as h
          from (select * from stored
                 union all
                select key, -(status = 'completed'), -(status = 'failed'), -(status = 'cancelled'), -(status = 'timeout'),
                       -(status = 'completed' and presumed), -(status = 'failed' and presumed), -(status = 'cancelled' and presumed), -(status = 'timeout' and presumed)
                  from runs)
         group by key)
 where (a, b, c, d, e, f, g, h) is not (0, 0, 0, 0, 0, 0, 0, 0)`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var d [8]int64
		if err := rows.Scan(&key, &d[0], &d[1], &d[2], &d[3], &d[4], &d[5], &d[6], &d[7]); err != nil {
			t.Fatal(err)
		}
		t.Errorf("law 1: %s: stored minus actual: completed, failed, cancelled and timeout, and these presumed: %v", key, d)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestChaos(t *testing.T) { storetest.MirrorChaos(t, open, storetest.Seeds()) }

func TestListed(t *testing.T) { storetest.Listed(t, open, false) }
