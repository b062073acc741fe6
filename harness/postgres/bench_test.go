package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// BenchmarkWire is what a statement of an actor costs over pgx, and what it does
// on the same connection when no actor runs.
func BenchmarkWire(b *testing.B) {
	const statements = 2_000
	config := Config{Address: pgtest.Database(b), Setup: func(address string) error {
		pgtest.Exec(b, address, `drop table if exists counters`, `create table counters (id int primary key, n int)`, `insert into counters values (1, 0)`)
		return nil
	}}
	run := func(ctx context.Context, pool *pgxpool.Pool) time.Duration {
		start := time.Now()
		for range statements {
			if _, err := pool.Exec(ctx, `select n from counters where id = $1`, pgx.QueryExecModeCacheStatement, 1); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(start)
	}
	var bare, gated time.Duration
	for range b.N {
		r := harness.Explore(b, func(s *harness.Sim) {
			db := New(s, config)
			pool := gatedPool(b, db)
			s.OnEnd(pool.Close)
			bare += run(context.Background(), pool)
			s.Go("actor", func(ctx context.Context) error {
				gated += run(ctx, pool)
				return nil
			})
		})
		if r.Failure != nil {
			b.Fatal(r.Report)
		}
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N*statements) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(each(gated), "µs/statement")
	b.ReportMetric(each(bare), "µs/bare")
}
