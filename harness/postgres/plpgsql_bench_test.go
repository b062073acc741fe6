package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// BenchmarkGates is what a step in a function costs, and what the same statement
// costs there on the same connection when no actor runs.
func BenchmarkGates(b *testing.B) {
	const statements = 1_000
	config := Config{Address: pgtest.Database(b), StepInto: []string{"*"}, Setup: func(address string) error {
		pgtest.Exec(b, address, `drop table if exists counters`, `create table counters (id int primary key, n int)`, `insert into counters values (1, 0)`,
			`create or replace function reads(times int) returns void language plpgsql as $$ begin for i in 1..times loop perform n from counters where id = 1; end loop; end $$`)
		return nil
	}}
	run := func(ctx context.Context, pool *pgxpool.Pool) time.Duration {
		start := time.Now()
		if _, err := pool.Exec(ctx, `select reads($1)`, statements); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	var bare, gated time.Duration
	for range b.N {
		r := harness.Explore(b, func(s *harness.Sim) {
			pool := gatedPool(b, New(s, config))
			s.OnEnd(pool.Close)
			bare += run(context.Background(), pool)
			s.Go("actor", func(ctx context.Context) error {
				gated += run(ctx, pool)
				return nil
			})
		})
		if r.Failure != nil || r.Steps != statements+1 {
			b.Fatal(r, r.Report)
		}
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N*statements) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(each(gated), "µs/step")
	b.ReportMetric(each(bare), "µs/bare")
}
