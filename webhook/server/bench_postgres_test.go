package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/webhook"
)

// perRound is how many runs a round of BenchmarkWebhooksOnPostgres has to
// itself.
const perRound = 1 << 16

// BenchmarkWebhooksOnPostgres is webhooks a second on a source, end to end over
// HTTP on loopback with 64 connections, where the server, its clients and
// PostgreSQL share the machine. They take turns for five rounds:
//
//   - own: our own trigger's webhook, signed, of a row that is in order, which
//     asks for no counts;
//   - healthy: Supabase's own, and the row is what it says, as nearly always;
//   - countless: the same, with the header Prefer: return=minimal, so that a row that
//     is in order need not be read;
//   - tenth-repaired: every tenth row has lost the outcome that the webhook
//     shows, and is repaired, once;
//   - decode-only: the same Fiber app with the same decoder, which answers
//     without having looked at anything.
//
// It reports each one's median, and the others as parts of decode-only.
func BenchmarkWebhooksOnPostgres(b *testing.B) {
	const rounds = 5
	names := []string{"decode-only", "tenth-repaired", "healthy", "own", "countless"}
	addrs := []string{serveForBench(b, decodeOnly(b)), serveForBench(b, benchSource(b, rounds, 10)), serveForBench(b, benchSource(b, rounds, 0))}
	addrs = append(addrs, addrs[2], addrs[2]) // the store of which has just been opened, and believes in its guard
	secrets := []string{"", "", "", signing, countless}
	speeds := make([][]float64, len(names))
	for round := range rounds {
		for i, name := range names {
			b.Run(fmt.Sprintf("%s/round=%d", name, round+1), func(b *testing.B) {
				n := 0
				start := time.Now()
				for ; n == 0 || time.Since(start) < time.Second && n+8192 <= perRound; n += 8192 {
					posts(b, addrs[i], path, secrets[i], 1000, uint64(round*perRound+n), 8192)
				}
				speed := float64(n) / time.Since(start).Seconds()
				speeds[i] = append(speeds[i], speed)
				b.ReportMetric(speed, "webhooks/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
	median := func(i int) float64 {
		if len(speeds[i]) == 0 {
			return 0
		}
		slices.Sort(speeds[i])
		return speeds[i][len(speeds[i])/2]
	}
	b.Run("median", func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		for i, name := range names {
			b.ReportMetric(median(i), name+"/s")
			if i > 0 {
				b.ReportMetric(median(i)/median(0), name+"/decode-only")
			}
		}
	})
}

// benchSource is a server on a PostgreSQL that holds the runs of all rounds,
// of which every so many has lost its outcome.
func benchSource(b *testing.B, rounds, lost int) *Server {
	b.Helper()
	address := pgtest.Database(b)
	m, err := migrations.Postgres(b.Context(), address)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(m.Up(), m.Close()); err != nil {
		b.Fatal(err)
	}
	s := benchServer(b)
	d, err := s.cfg.Decoder.Decode(bytes.NewReader(captured(b)))
	if err != nil {
		b.Fatal(err)
	}
	copyRuns(b, address, d.Changes[0].Record, rounds*perRound, lost)
	db, err := postgres.Open(b.Context(), address, postgres.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	secrets, err := webhook.ParseSecrets(token + "," + signing)
	if err != nil {
		b.Fatal(err)
	}
	source, err := New(Config{
		Store: db, Idle: db.Idle, Secrets: secrets, APIKeys: []string{apiKey}, Loopback: true, Workers: 2,
		Decoder: webhook.Decoder{Schema: "public", Table: "workflow_runs"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	return source
}

// copyRuns fills the table as a restore does, and then the counts.
func copyRuns(b *testing.B, address string, row store.Row, n, lost int) {
	b.Helper()
	ctx := context.WithoutCancel(b.Context())
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `set session_replication_role = replica`); err != nil {
		b.Fatal(err)
	}
	columns := []string{"id", "user_id", "workflow_id", "status", "started_at", "completed_at", "created_at", "updated_at"}
	i := 0
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"public", "workflow_runs"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if i == n {
			return nil, nil
		}
		i++
		var id, owner [16]byte
		idOf(uint64(i), &id)
		userOf(i%8192%1000, &owner) // as posts numbers them
		status, completed := any(string(row.Status)), any(row.CompletedAt)
		if lost > 0 && i%lost == 0 {
			status, completed = string(store.Running), nil
		}
		return []any{id, owner, row.Workflow.String(), status, row.StartedAt, completed, row.CreatedAt, row.UpdatedAt}, nil
	}))
	if err != nil {
		b.Fatal(err)
	}
	fold, err := postgres.Open(ctx, address, postgres.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer fold.Close()
	if _, err := (&store.Sweeper{Store: fold, Limits: store.Limits{}}).Sweep(ctx, store.SweepOptions{Full: true}); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `vacuum analyze`, pgx.QueryExecModeSimpleProtocol); err != nil {
		b.Fatal(err)
	}
}
