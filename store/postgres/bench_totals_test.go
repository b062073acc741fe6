package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// BenchmarkTotal asks for a workflow's count over 100,000 users, beside a hundred
// others, and for the sum of its users' counts; and has runs end with the index by
// which the ledger's rows of a workflow are found, and without it.
func BenchmarkTotal(b *testing.B) {
	address := pgtest.Database(b)
	benchMigrate(b, address, migrations.Windows{})
	pgtest.Exec(b, address, `
insert into run_counter.counts
select gen_random_uuid(), 'workflow', ('c0000000-0000-4000-8000-' || lpad(to_hex(case when n % 2 = 0 then 1 else 2 + n % 100 end), 12, '0'))::uuid, 'completed', false, 1
  from generate_series(1, 200000) as n`, sourcetest.TotalsAgainSQL, `vacuum analyze run_counter.counts, run_counter.totals`)
	s := mustOpen(b, address, Options{})
	of := store.TotalOf(storetest.MustID(0xc0, 1), store.ID{})
	report := func(name string, d time.Duration) {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(d.Microseconds())/1000, "ms")
		})
	}
	sum := func(name string) {
		report(name, medianOf(b, 21, func() error {
			var n int64
			return s.pool.QueryRow(b.Context(), `select sum(n) from (select n from run_counter.counts where kind = 'workflow' and ref_id = $1::uuid
 union all select n from run_counter.ledger where kind = 'workflow' and ref_id = $1::uuid) as k`, of.Ref.String()).Scan(&n)
		}))
	}
	for _, unfolded := range []int{0, 1000, 100_000} {
		if unfolded > 0 {
			pgtest.Exec(b, address, fmt.Sprintf(`insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n)
select gen_random_uuid(), 'workflow', ('c0000000-0000-4000-8000-' || lpad(to_hex(1 + n %% 100), 12, '0'))::uuid, 'completed', false, 1 from generate_series(1, %d) as n`, unfolded), `vacuum analyze run_counter.ledger`)
		}
		report(fmt.Sprintf("total/unfolded=%d", unfolded), medianOf(b, 201, func() error { _, err := s.Count(b.Context(), of.Scope(), store.AllTime); return err }))
		report(fmt.Sprintf("total-in-sql/unfolded=%d", unfolded), medianOf(b, 201, func() error {
			var n int64
			return s.pool.QueryRow(b.Context(), `select get_workflow_run_count(p_workflow_id => $1::uuid)`, of.Ref.String()).Scan(&n)
		}))
		sum(fmt.Sprintf("sum/unfolded=%d", unfolded))
	}
	report("audit-of-totals", medianOf(b, 5, func() error {
		wrong, err := s.AuditTotals(b.Context(), true)
		if len(wrong) > 0 {
			b.Errorf("wrong: %+v", wrong)
		}
		return err
	}))
	pgtest.Exec(b, address, `create index counts_ref on run_counter.counts (kind, ref_id)`, `analyze run_counter.counts`)
	sum("sum-by-an-index/unfolded=100000")

	var addresses []string
	for _, setup := range []string{`select 1`, `drop index run_counter.ledger_ref`} {
		one := sourcetest.Installed(b)
		pgtest.Exec(b, one, setup)
		addresses = append(addresses, one)
	}
	medians(b, "us/run", []string{"with-the-index", "without"}, func(i int) float64 {
		const runs = 20_000
		return float64(once(b, func() error {
			pgtest.Exec(b, addresses[i], fmt.Sprintf(`insert into workflow_runs (id, user_id, workflow_id, status, completed_at)
select gen_random_uuid(), gen_random_uuid() as user_id, 'c0000000-0000-4000-8000-000000000001', 'completed', now() from generate_series(1, %d)`, runs))
			return nil
		}).Microseconds()) / runs
	})
}
