package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
)

func tableCommand() *cli.Command {
	return &cli.Command{
		Name:      "table",
		Category:  groupRun,
		Usage:     "shows what would be watched, and what keeps it from that",
		UsageText: "runcounter table [flags]",
		Description: `It reads the catalog of a PostgreSQL database, as any role, and changes nothing:
which column plays which role and is read as which type, which roles no column
plays and what is lost by that, which statuses have no meaning yet, and what
keeps migrate up from taking the table. It prints the whole command with every
mapping that could be guessed: check each. migrate up takes the same flags, and
the last line says whether it takes the table.

The roles are id, user, workflow, draft, status, created_at, started_at,
updated_at, lease, completed_at, duration_ms, error_details and state_snapshot.

The exit code is 1 where migrate up would refuse the table.

Examples:
  runcounter table --database-url "$SUPABASE_DB_URL"
  runcounter table --table app.job_runs --column user=org_id \
    --status succeeded=completed --timezone Europe/Berlin
  runcounter table --description table.json`,
		Flags: slices.Concat([]cli.Flag{watchedFlag()}, overrideFlags(guardFlag(), claimFlag()), []cli.Flag{databaseFlag(), jsonFlag()}),
		Action: action(0, func(ctx context.Context, cmd *cli.Command) error {
			if !isPostgres(cmd.String("database-url")) {
				return badUsage("a mirror has a table of its own: name the PostgreSQL database with --database-url postgres://USER:PASSWORD@HOST:5432/NAME")
			}
			overrides, err := overridesOf(cmd)
			if err != nil {
				return err
			}
			return withMigrator(ctx, cmd, func(m *migrations.Migrator) error {
				m.Override(overrides)
				r, err := m.Report()
				if err != nil {
					return err
				}
				if err := show(cmd, r, r.Text()); err != nil || r.Refused == "" {
					return err
				}
				return failed(nil)
			})
		}),
	}
}
