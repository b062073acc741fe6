package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

// withMigrator works on a database as it is: nothing is migrated by opening it.
func withMigrator(ctx context.Context, cmd *cli.Command, do func(*migrations.Migrator) error) error {
	m, err := openMigrator(ctx, cmd)
	if err != nil {
		return err
	}
	return errors.Join(do(m), m.Close())
}

func openMigrator(ctx context.Context, cmd *cli.Command) (*migrations.Migrator, error) {
	address := cmd.String("database-url")
	if isPostgres(address) {
		return migrations.Postgres(ctx, address)
	}
	if err := mustExist(cmd); err != nil {
		return nil, err
	}
	path, err := sqlitePath(address)
	if err != nil {
		return nil, err
	}
	return sqlite.OpenMigrator(path)
}
