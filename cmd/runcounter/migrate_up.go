package main

import (
	"context"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/migrations"
)

// printStatus says where the database stands, with what a migration has just done.
func printStatus(cmd *cli.Command, m *migrations.Migrator) error {
	s, err := m.Status()
	if err != nil {
		return err
	}
	totals := m.Totals()
	if totals != nil {
		totals.Different = append([]migrations.Total{}, totals.Different...) // never null in JSON
	}
	return show(cmd, struct {
		migrations.Status
		Notes   []string           `json:"notes,omitempty"`
		Earlier *migrations.Totals `json:"earlier_function,omitempty"`
	}{s, m.Said(), totals}, view.Schema(s, m.Said(), totals))
}

// windowsOf reads which indexes of windows are to be made or dropped.
func windowsOf(cmd *cli.Command) (w migrations.Windows) {
	for name, into := range map[string]**bool{"user-windows": &w.User, "workflow-windows": &w.Workflow} {
		if cmd.IsSet(name) {
			said := cmd.Bool(name)
			*into = &said
		}
	}
	return w
}

func migrateUp(ctx context.Context, cmd *cli.Command) error {
	totals, err := totalsOf(cmd, "")
	if err != nil {
		return err
	}
	if totals != "" && !isPostgres(cmd.String("database-url")) {
		return badUsage("--totals-for is for roles of PostgreSQL: a mirror's serve has a flag of that name")
	}
	if isPostgres(cmd.String("database-url")) {
		said, err := overridesOf(cmd)
		if err != nil {
			return err
		}
		if _, err := policyOf(cmd, "policy"); err != nil {
			return err
		}
		return withMigrator(ctx, cmd, func(m *migrations.Migrator) error {
			m.Override(said)
			m.SetPolicy(cmd.String("policy"))
			m.SetWindows(windowsOf(cmd))
			m.SetTotalsFor(string(totals))
			if err := m.Up(); err != nil {
				return err
			}
			if err := printStatus(cmd, m); err != nil || cmd.Bool("json") {
				return err
			}
			_, err := io.WriteString(cmd.Root().Writer, "\nBefore an ALTER of the table that PostgreSQL refuses: select run_counter.detach(); and after it, migrate up.\n")
			return err
		})
	}
	db, err := openStore(ctx, cmd) // which creates the file, and migrates it
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	return withMigrator(ctx, cmd, func(m *migrations.Migrator) error {
		m.SetWindows(windowsOf(cmd))
		if err := m.Up(); err != nil {
			return err
		}
		return printStatus(cmd, m)
	})
}

func migrateDown(ctx context.Context, cmd *cli.Command) error {
	if !cmd.Bool("yes") {
		if isPostgres(cmd.String("database-url")) {
			return badUsage("migrate down drops the counts, and the record of repairs and of administrators' decisions; the runs stay: add --yes if that is meant")
		}
		return badUsage("migrate down deletes all runs and counts of the database: add --yes if that is meant")
	}
	return withMigrator(ctx, cmd, func(m *migrations.Migrator) error {
		if !cmd.Bool("drop-records") {
			kept, err := m.Kept(ctx)
			if err != nil {
				return err
			}
			if lost := kept.String(); lost != "" {
				return badUsage("migrate down drops what nothing brings back: %s: add --drop-records if that is meant", lost)
			}
		}
		if err := m.Down(); err != nil {
			return err
		}
		return printStatus(cmd, m)
	})
}
