package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// openStore opens the database that --database-url names. A SQLite file is
// created and migrated where that is missing; a PostgreSQL database, which is the
// application's, is changed by runcounter migrate up alone. It is the one place
// that knows which backends there are.
func openStore(ctx context.Context, cmd *cli.Command) (backend, error) {
	address := cmd.String("database-url")
	if isPostgres(address) {
		return openPostgres(ctx, cmd, address)
	}
	path, err := sqlitePath(address)
	if err != nil {
		return backend{}, err
	}
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return backend{}, err
	}
	return backend{database: s, where: path, mirror: s}, nil
}

func openPostgres(ctx context.Context, cmd *cli.Command, address string) (backend, error) {
	said, err := overridesOf(cmd)
	if err != nil {
		return backend{}, err
	}
	options := postgres.Options{LeaseColumn: cmd.String("lease-column"), Said: said}
	if policy, err := policyOf(cmd, "count-policy"); err != nil {
		return backend{}, err
	} else if policy != nil {
		options.Policy = *policy
	}
	s, err := postgres.Open(ctx, address, options)
	if err != nil {
		return backend{}, err
	}
	if err := sameTable(ctx, cmd, s); err != nil {
		return backend{}, errors.Join(err, s.Close())
	}
	installed, err := s.Installed(ctx)
	if err != nil {
		return backend{}, errors.Join(err, s.Close())
	}
	return backend{database: s, where: s.Where(), source: true, direct: !installed, asked: s, names: s, idle: s.Idle, table: s.Table}, nil
}

// sameTable refuses a --table that is not the one whose runs the database counts.
func sameTable(ctx context.Context, cmd *cli.Command, s *postgres.Store) error {
	if !cmd.IsSet("table") {
		return nil
	}
	var said watched.Overrides
	if err := said.SetTable(strings.TrimSpace(cmd.String("table"))); err != nil {
		return badUsage("--table: %w", err)
	}
	t, err := s.Table(ctx)
	if err == nil && t.String() != said.Table {
		err = badUsage("--table %s: the database counts the runs of %s, and runcounter migrate up --table says which", said.Table, t)
	}
	return err
}

// withStore does a command's work on a database that exists. To create one
// here would answer every question with 0 in the wrong folder.
func withStore(ctx context.Context, cmd *cli.Command, do func(db backend) error) error {
	if err := mustExist(cmd); err != nil {
		return err
	}
	db, err := openStore(ctx, cmd)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}
