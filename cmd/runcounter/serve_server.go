package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/internal/pgroots"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/server"
)

const (
	// admissionTimeout bounds how long a delivery waits for a slot of a mirror, whose
	// sender doesn't retry. Supabase gives up after 5 s unless told otherwise.
	admissionTimeout = 4 * time.Second
	// sourceWorkers is the number of batches of hints that are processed at once.
	sourceWorkers = 2
)

// open waits for a PostgreSQL server that is not there yet: the machines of a
// deployment start in any order, and a platform gives up on a process that
// ends again and again.
func (s settings) open(ctx context.Context, cmd *cli.Command) (backend, error) {
	for pause := time.Second; ; pause = min(2*pause, 15*time.Second) {
		db, err := openStore(ctx, cmd)
		if err == nil || !errors.Is(err, store.ErrUnavailable) || errors.Is(err, pgroots.ErrCertificate) || !isPostgres(cmd.String("database-url")) {
			return db, err
		}
		s.log.Warn("the database can't be reached, trying again", "in", pause.String(), "error", err)
		select {
		case <-ctx.Done():
			return backend{}, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// newServer makes the server of a database. It reads what the database says of its
// table, keeps the decoder for that in the settings, and sets the policy that was asked
// for.
func (s *settings) newServer(ctx context.Context, cmd *cli.Command, db backend) (*server.Server, error) {
	var err error
	if s.decoder, err = decoderFor(ctx, cmd, db); err != nil {
		return nil, err
	}
	if s.users != nil {
		claim, err := claimFor(ctx, cmd, db)
		if err != nil {
			return nil, err
		}
		s.users.CountBy(claim)
	}
	if s.policy != nil {
		if err := db.SetPolicy(ctx, *s.policy); err != nil {
			return nil, fmt.Errorf("set the count policy: %w", err)
		}
	}
	sweeper := db.sweeper(s.limits)
	sweeper.Log = s.log
	if !presumes(cmd, db.source) {
		sweeper.Limits, sweeper.Rehearse = store.Limits{}, s.limits
	}
	config := server.Config{
		Store: db, Reader: db, Letters: db, Grants: db, Totals: s.totals, Secrets: s.secrets, APIKeys: s.keys, ClientHeader: s.client, Users: s.users, Origins: s.origins, Decoder: s.decoder, AdmissionTimeout: admissionTimeout,
		Loopback: s.address.IP.IsLoopback(), Log: s.log, Sweeper: sweeper, SweepEvery: s.every, Mirror: !db.source, Connections: db.Connections, Notices: db,
	}
	if config.Notify, err = notifyOf(cmd, db); err != nil {
		return nil, err
	}
	config.Console = s.console(cmd, db, sweeper)
	if db.source {
		config.AdmissionTimeout = 0 // the sweep finds what a refused delivery would have told
		config.Workers = sourceWorkers
		config.Idle = db.idle
		config.Degraded = func() []string { return directText(ctx, db.database) }
	}
	srv, err := server.New(config)
	if err != nil {
		return nil, badUsage("%w", err)
	}
	return srv, nil
}

// monitor serves metrics and readiness at the address that is for them, where there is
// one, until the server ends.
func (s settings) monitor(srv *server.Server) error {
	if s.metrics == nil {
		return nil
	}
	apart, err := net.ListenTCP("tcp", s.metrics)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --metrics-listen", err)
	}
	s.log.Info("metrics and readiness without a key", "address", apart.Addr().String(), "url", baseOf(apart.Addr()))
	go func() {
		if err := srv.Monitor(apart); err != nil {
			s.log.Error("the listener of the metrics has ended", "error", err)
		}
	}()
	return nil
}
