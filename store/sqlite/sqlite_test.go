package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
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
	var windows sync.Once
	return storetest.Backend{
		Store: s,
		Exact: func(t testing.TB) {
			t.Helper()
			exact(t, s)
		},
		ExactIn: func(t testing.TB, of store.Scope, in store.Window) {
			t.Helper()
			exactIn(t, s, of, in)
		},
		Corrupt: func(t testing.TB, key store.Key, by int64) {
			t.Helper()
			exec(t, `insert into counts (user_id, kind, ref_id, status, presumed, n) values (?1, ?2, ?3, 'completed', 0, ?4)
			             on conflict (user_id, kind, ref_id, status, presumed) do update set n = n + ?4`, append(keyArgs(key), by)...)
			exec(t, totalAgainSQL)
		},
		CorruptTotal: func(t testing.TB, of store.Key, by int64) {
			t.Helper()
			exec(t, `insert into totals (kind, ref_id, status, presumed, n) values (?1, ?2, 'completed', 0, ?3)
			             on conflict (kind, ref_id, status, presumed) do update set n = n + ?3`, append(keyArgs(of)[1:], by)...)
		},
		Forget: func(t testing.TB, key store.Key) {
			t.Helper()
			exec(t, `delete from counts where user_id = ? and kind = ? and ref_id = ?`, keyArgs(key)...)
			exec(t, totalAgainSQL)
		},
		Windows: func(t testing.TB) {
			t.Helper()
			windows.Do(func() { mustIndexWindows(t, s, true) })
		},
		NoWindows: func(t testing.TB) {
			t.Helper()
			mustIndexWindows(t, s, false)
			windows = sync.Once{}
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

// mustIndexWindows migrates up with the indexes of windows.
func mustIndexWindows(t testing.TB, s *Store, there bool) {
	t.Helper()
	m, err := OpenMigrator(s.path)
	if err != nil {
		t.Fatal(err)
	}
	m.SetWindows(migrations.Windows{User: &there, Workflow: &there})
	if err := errors.Join(m.Up(), m.Close()); err != nil {
		t.Fatal(err)
	}
}

// totalAgainSQL makes the totals what the counts say: whatever a program misses is
// missing in both.
const totalAgainSQL = `
delete from totals;
insert into totals select kind, ref_id, status, presumed, sum(n) from counts group by 1, 2, 3, 4`

// exact compares both sides of law 1 in one statement, and so in one snapshot.
func exact(t testing.TB, s *Store) {
	t.Helper()
	rows, err := s.reader.QueryContext(context.WithoutCancel(t.Context()), `
with stored as (
    select user_id || ' ' || kind || ' ' || ref_id as key, status, presumed, n from counts
), runs as (
    select user_id || ' ' || case when draft_id is not null then 'draft ' || draft_id when workflow_id = '' then 'all ' else 'workflow ' || workflow_id end as key, status,
           evidence = 1 as presumed, -1 as n
      from workflow_runs
     where completed_at is not null and user_id is not null and coalesce(draft_id, workflow_id) is not null
)
select key, status, presumed, sum(n) from (select * from stored union all select * from runs) group by 1, 2, 3 having sum(n) <> 0
 union all
select 'all users of ' || kind || ' ' || ref_id, status, presumed, sum(n)
  from (select kind, ref_id, status, presumed, n from totals union all select kind, ref_id, status, presumed, -n from counts) group by kind, ref_id, 2, 3 having sum(n) <> 0`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key, status string
		var presumed bool
		var n int64
		if err := rows.Scan(&key, &status, &presumed, &n); err != nil {
			t.Fatal(err)
		}
		t.Errorf("law 1: %s: stored minus actual: %d %s, presumed: %t", key, n, status, presumed)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// exactIn compares the count of a scope in a window with the runs, in one snapshot.
func exactIn(t testing.TB, s *Store, of store.Scope, in store.Window) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var got, actual store.Tallies
	err := s.read(ctx, func(q querier) (err error) {
		if got, err = s.hooks.tallies(ctx, q, of, in.Instants()); err != nil {
			return err
		}
		actual, err = readTallies(ctx, q, of, `
select status, evidence = 1, count(*)
  from workflow_runs not indexed
 where completed_at is not null and user_id is not null and coalesce(draft_id, workflow_id) is not null
   and (?1 is null or user_id = ?1)
   and (?2 = '' or case when draft_id is not null then 'draft' when workflow_id = '' then 'all' else 'workflow' end = ?2)
   and (?3 is null or coalesce(draft_id, workflow_id) = ?3)
   and (?4 is null or completed_at >= ?4) and (?5 is null or completed_at < ?5)
 group by 1, 2`, []any{nullID(of.User), string(of.Kind), nullID(of.Ref), nullTime(in.From), nullTime(in.To)})
		return err
	})
	if err != nil || got != actual {
		t.Errorf("law 1: %s from %v to %v counts %+v, %v; want %+v", of, in.From, in.To, got, err, actual)
	}
}

func TestChaos(t *testing.T) {
	seeds := storetest.Seeds()
	if need.Smaller(t) {
		seeds = min(seeds, 30)
	}
	storetest.MirrorChaos(t, open, seeds)
}

func TestWindows(t *testing.T) { storetest.Windows(t, open, storetest.DrawnWindows()) }

func TestListed(t *testing.T) { storetest.Listed(t, open, false) }
