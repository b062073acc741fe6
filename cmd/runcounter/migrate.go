package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
)

func migrateCommand() *cli.Command {
	return &cli.Command{
		Name:      "migrate",
		Category:  groupRun,
		Usage:     "brings the database to this program's schema, or away from it",
		UsageText: "runcounter migrate up | down | status | print [flags]",
		Description: `  up      applies what is missing; serve and the other commands do so by themselves
  down    takes everything back: the database forgets all runs and counts
  status  prints where the database stands
  print   prints the SQL, and needs no database

Examples:
  runcounter migrate status
  runcounter migrate down --yes`,
		Flags: []cli.Flag{
			databaseFlag(),
			&cli.BoolFlag{Name: "yes", Category: flagsWhat, Usage: "say that down may delete all runs and counts"},
			jsonFlag(),
		},
		Action: action(migrate),
	}
}

func migrate(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(1, cmd); err != nil {
		return err
	}
	switch cmd.Args().First() {
	case "up":
		db, _, err := openStore(ctx, cmd)
		if err != nil {
			return err
		}
		if err := db.Close(); err != nil {
			return err
		}
		return withMigrator(cmd, func(m *migrations.Migrator) error { return printStatus(cmd, m) })
	case "down":
		if !cmd.Bool("yes") {
			return badUsage("migrate down deletes all runs and counts of the database: add --yes if that is meant")
		}
		return withMigrator(cmd, func(m *migrations.Migrator) error {
			if err := m.Down(); err != nil {
				return err
			}
			return printStatus(cmd, m)
		})
	case "status":
		return withMigrator(cmd, func(m *migrations.Migrator) error { return printStatus(cmd, m) })
	case "print":
		text, err := migrations.PrintSQLite()
		if err != nil {
			return err
		}
		_, err = io.WriteString(cmd.Root().Writer, text)
		return err
	}
	return badUsage("say what to do: runcounter migrate up, down, status or print")
}

// withMigrator works on a database as it is: nothing is migrated by opening it.
func withMigrator(cmd *cli.Command, do func(*migrations.Migrator) error) error {
	if err := mustExist(cmd); err != nil {
		return err
	}
	path, err := sqlitePath(cmd.String("database-url"))
	if err != nil {
		return err
	}
	address := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(5000)&_pragma=foreign_keys(on)"}
	db, err := sql.Open("sqlite", address.String()) // the driver that store/sqlite registers
	if err != nil {
		return err
	}
	m, err := migrations.SQLite(db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return errors.Join(do(m), m.Close())
}

func printStatus(cmd *cli.Command, m *migrations.Migrator) error {
	s, err := m.Status()
	if err != nil {
		return err
	}
	out := cmd.Root().Writer
	if cmd.Bool("json") {
		return printJSON(out, struct {
			Version uint `json:"version"`
			Latest  uint `json:"latest"`
			Dirty   bool `json:"dirty"`
		}{s.Version, s.Latest, s.Dirty})
	}
	verdict := "up to date"
	switch {
	case s.Dirty:
		verdict = "a migration was interrupted; runcounter migrate up runs it again"
	case s.Version == 0:
		verdict = "empty; runcounter migrate up applies it"
	case s.Version < s.Latest:
		verdict = "runcounter migrate up applies what is missing"
	case s.Version > s.Latest:
		verdict = "made by a newer runcounter: run that one"
	}
	_, err = fmt.Fprintf(out, "The schema has version %d of %d: %s.\n", s.Version, s.Latest, verdict)
	return err
}
