package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"
)

const (
	defaultListen = "127.0.0.1:8080"
	// finishIn bounds the time of a stop. A delivery that is not committed
	// by then was not answered either.
	finishIn = 30 * time.Second
	// defaultDrain is the part of it before the listener closes, where
	// others than this machine are served: a proxy that asks /readyz each few
	// seconds sends nothing more here by then. longestDrain leaves a third of it
	// for what was accepted.
	defaultDrain = 5 * time.Second
	longestDrain = 20 * time.Second
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Category:  groupRun,
		Usage:     "receives webhooks, answers the API, and sweeps",
		UsageText: "runcounter serve [flags]",
		Description: `Point the database webhook of workflow_runs at POST /webhooks/workflow-runs, or at
POST /functions/v1/run-counter in place of an Edge Function. The counts are at
GET /v1/counts, the console at /, health at /livez and /readyz, and metrics at
/metrics. With SUPABASE_URL a signed-in user of that project may read their own
counts, with the access token that their browser has, and watch them at
/v1/counts/stream.

On SQLite it is a mirror: it knows only the changes that it receives, and
runcounter import brings the earlier runs. On PostgreSQL the table is the truth,
webhooks are hints to check, and no silent run is ended until --stuck-after is set.

SIGINT or SIGTERM finishes accepted requests and ends with exit code 0; a second
one ends at once. For the time of --drain, /readyz answers 503 while requests are
still served, so that a proxy sends new ones elsewhere. With an API key set,
/metrics and the sentences of /readyz need it too.

Examples:
  runcounter serve
  export RUNCOUNTER_WEBHOOK_SECRET=$(openssl rand -base64 32)
  export RUNCOUNTER_API_KEY=$(openssl rand -base64 32)
  runcounter serve --listen :8080 --database-url sqlite:/data/runcounter.db`,
		Flags: slices.Concat(userFlags(), []cli.Flag{
			listenFlag(), portFlag(), metricsFlag(), drainFlag(), databaseFlag(), secretFlag(), keyFlag(), clientFlag(), policyFlag(),
			tableFlag(flagsRules, usageTable), partitionsFlag(),
		}, overrideFlags(claimFlag()), []cli.Flag{
			leaseFlag(), stuckFlag(),
			&cli.DurationFlag{Name: "sweep-every", Category: flagsRules, Value: 30 * time.Second, Usage: "the `DURATION` between two sweeps", Sources: cli.EnvVars("RUNCOUNTER_SWEEP_EVERY")},
			&cli.StringFlag{Name: "log-level", Category: flagsLog, Value: "info", Usage: "the `LEVEL` from which on to log: debug, info, warn or error", Sources: cli.EnvVars("RUNCOUNTER_LOG_LEVEL")},
			&cli.StringFlag{Name: "log-format", Category: flagsLog, DefaultText: "text on a terminal or on loopback, else json", Usage: "the `FORMAT` of the log: text or json", Sources: cli.EnvVars("RUNCOUNTER_LOG_FORMAT")},
		}, notifyFlags()),
		Action: action(0, serve),
	}
}

func serve(ctx context.Context, cmd *cli.Command) (err error) {
	s, err := settingsOf(cmd)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := s.open(ctx, cmd)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // told to stop before it had begun
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	srv, err := s.newServer(ctx, cmd, db)
	if err != nil {
		return err
	}
	listener, err := net.ListenTCP("tcp", s.address) // what was checked, not the name that led to it
	if err != nil {
		return errors.Join(fmt.Errorf("%w: choose another address with --listen or PORT", err), srv.Shutdown(ctx))
	}
	if err := s.monitor(srv); err != nil {
		return errors.Join(err, listener.Close(), srv.Shutdown(ctx))
	}
	s.announce(cmd.Root().ErrWriter, listener.Addr(), db)
	err = srv.Run(ctx, listener, s.drain, finishIn, func() {
		stop() // from here on a signal ends the process at once
		s.log.Info("stopping: finishing what was accepted; a second signal ends it at once", "drain", s.drain.String())
	})
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}
