package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
)

func migrateCommand() *cli.Command {
	return &cli.Command{
		Name:      "migrate",
		Category:  groupRun,
		Usage:     "brings the database to this program's schema, or away from it",
		UsageText: "runcounter migrate up | down | status | print [flags]",
		Description: `  up      applies what is missing
  down    takes everything back: a mirror forgets all runs and counts; a
          PostgreSQL database keeps its runs, and gets back what was there before.
          Where there are grants, decisions about outcomes or presumed outcomes,
          it needs --drop-records, since nothing brings them back
  status  prints where the database stands
  print   prints the SQL for the kind of database that --database-url names:
          postgres: prints a script for Supabase's SQL editor, without reading
          any table, or for the one in --description, a file with what
          runcounter table --json printed; the address of a server has its table
          read first

up and print refuse a workflow_runs that is not understood yet, and change
nothing: the sentence names each column at fault, and what helps. --column and
--status say what the columns and the statuses of the application mean; the
database keeps that, so a later up needs them no more. runcounter table shows
what was found.

A SQLite file is brought up by every command that opens it. A PostgreSQL
database is changed by migrate up alone, as the owner of its workflow_runs, over
the direct connection or a pooler in session mode (Supabase: port 5432). Its
writers go on: a lock that is not had within two seconds is tried for again.

Examples:
  runcounter migrate status
  DATABASE_URL=$SUPABASE_DB_URL runcounter migrate up
  runcounter migrate up --column user=org_id --status succeeded=completed
  runcounter migrate print --database-url postgres: > runcounter.sql
  runcounter migrate down --yes`,
		Flags: append([]cli.Flag{
			databaseFlag(),
			&cli.StringFlag{
				Name: "policy", Category: flagsRules, DefaultText: "what the database says, at first outcomes",
				Usage:   "with up: which runs count, a `POLICY`: outcomes (completed, failed) or terminal (all)",
				Sources: cli.EnvVars("RUNCOUNTER_COUNT_POLICY"),
			},
			totalsFlag("with up, on PostgreSQL: which roles may ask for a workflow's count over all users, `WHO` is keys (service_role), users (authenticated, too) or everyone", "what the database says, at first keys"),
			&cli.BoolFlag{Name: "user-windows", Category: flagsRules, DefaultText: "as before, at first none", Usage: "with up: an index for a user's runs in a window; --user-windows=false drops it"},
			&cli.BoolFlag{Name: "workflow-windows", Category: flagsRules, DefaultText: "as before, at first none", Usage: "with up: an index for a workflow's runs over all users in a window"},
			&cli.BoolFlag{Name: "yes", Category: flagsWhat, Usage: "say that down is meant"},
			&cli.BoolFlag{Name: "drop-records", Category: flagsWhat, Usage: "say that down may drop grants, decisions and presumed outcomes, which nothing brings back"},
			jsonFlag(), watchedFlag(),
		}, overrideFlags(guardFlag(), claimFlag())...),
		Action: action(1, migrate),
	}
}

func migrate(ctx context.Context, cmd *cli.Command) error {
	switch cmd.Args().First() {
	case "up":
		return migrateUp(ctx, cmd)
	case "down":
		return migrateDown(ctx, cmd)
	case "status":
		return withMigrator(ctx, cmd, func(m *migrations.Migrator) error { return printStatus(cmd, m) })
	case "print":
		return migratePrint(ctx, cmd)
	}
	return badUsage("say what to do: runcounter migrate up, down, status or print")
}
