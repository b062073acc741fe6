package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// BenchmarkWebhookTrigger is what a webhook costs the user's writes: the life
// of a run in three commits, with a state_snapshot of 8 KB that three more
// commits rewrite on the way, and a statement that changes a thousand runs; on
// the bare table, a second bare one as control, with Supabase's own webhook and
// with ours. pg_net's queue is filled, and nobody sends.
func BenchmarkWebhookTrigger(b *testing.B) {
	names := []string{"bare", "bare-again", "supabase", "ours"}
	server := pgtest.NewServer(b)
	var addresses []string
	for _, name := range names {
		address := server.Database(b)
		pgtest.Exec(b, address, `
create table workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, draft_id uuid, status text, started_at timestamptz,
    completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now());
create index on workflow_runs (user_id, workflow_id)`)
		pgtest.InstallNet(b, address)
		pgtest.InstallVault(b, address)
		switch name {
		case "supabase":
			pgtest.InstallHooks(b, address)
			pgtest.Exec(b, address, `create trigger hook after insert or update or delete on workflow_runs for each row execute function
supabase_functions.http_request('https://counter.example/webhooks/workflow-runs', 'POST', '{"Content-Type": "application/json", "Authorization": "Bearer secret"}', '{}', '5000')`)
		case "ours":
			s, err := migrations.OpenWebhook(b.Context(), address)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := s.Install(migrations.Webhook{URL: "https://counter.example", Timeout: 5 * time.Second, Schema: "public", Table: "workflow_runs"}); err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
		addresses = append(addresses, address)
	}
	clean := func(i int) {
		pgtest.Exec(b, addresses[i], `truncate net.http_request_queue, workflow_runs`, `checkpoint`)
	}
	pools := make([][]*pgx.Conn, len(names))
	for i, address := range addresses {
		pools[i] = benchConnections(b, address)
	}
	n := 0
	b.Run("lives", func(b *testing.B) {
		medians(b, "runs/s", names, func(i int) float64 {
			clean(i)
			n += 1 << 20
			return lives(b, pools[i], 10_000, n, liveWithSnapshots)
		})
	})
	b.Run("a-thousand-at-once", func(b *testing.B) {
		medians(b, "statements/s", names, func(i int) float64 {
			clean(i)
			conn := pools[i][0]
			done, begun := 0, time.Now()
			for time.Since(begun) < 1200*time.Millisecond {
				for _, text := range []string{
					`insert into workflow_runs (id, user_id, workflow_id, status) select gen_random_uuid(), 'a0000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-000000000001', 'running' from generate_series(1, 1000)`,
					`update workflow_runs set status = 'completed', completed_at = now() where status = 'running'`,
				} {
					if _, err := conn.Exec(context.WithoutCancel(b.Context()), text); err != nil {
						b.Fatal(err)
					}
					done++
				}
			}
			return float64(done) / time.Since(begun).Seconds()
		})
	})
}

// liveWithSnapshots is the life of a run that keeps its state on the way.
func liveWithSnapshots(ctx context.Context, conn *pgx.Conn, id, user string, _ int) error {
	if _, err := conn.Exec(ctx, `insert into workflow_runs (id, user_id, workflow_id, status) values ($1, $2, 'c0000000-0000-4000-8000-000000000001', 'pending')`, id, user); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `update workflow_runs set status = 'running', started_at = now(), updated_at = now() where id = $1`, id); err != nil {
		return err
	}
	for step := range 3 {
		if _, err := conn.Exec(ctx, `update workflow_runs set state_snapshot = jsonb_build_object('step', $2::integer, 'state', (select string_agg(md5(random()::text), '') from generate_series(1, 256))), updated_at = now() where id = $1`, id, step); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, `update workflow_runs set status = 'completed', completed_at = now(), updated_at = now() where id = $1`, id)
	return err
}
