package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// migratePrint looks at the table first where the address names a server.
func migratePrint(ctx context.Context, cmd *cli.Command) error {
	if cmd.IsSet("totals-for") {
		return badUsage("what is printed leaves as it is who may ask for totals: run migrate up --totals-for, or update run_counter.settings set totals_for = 'users' and then select run_counter.settle_totals_for()")
	}
	var text string
	var err error
	switch address := cmd.String("database-url"); {
	case !isPostgres(address):
		text = migrations.PrintSQLite()
	case strings.TrimRight(address, ":/") == "postgres" || strings.TrimRight(address, ":/") == "postgresql":
		var t watched.Table
		if t, err = unseenTable(cmd); err == nil {
			text, err = migrations.PrintPostgres(t)
		}
	default:
		var said watched.Overrides
		if said, err = overridesOf(cmd); err != nil {
			return err
		}
		err = withMigrator(ctx, cmd, func(m *migrations.Migrator) (err error) {
			w := windowsOf(cmd)
			said.UserWindows, said.WorkflowWindows = w.User, w.Workflow
			m.Override(said)
			text, err = m.Print()
			return err
		})
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(cmd.Root().Writer, text)
	return err
}

// unseenTable is the one that is printed for without a server: that which runcounter
// table has looked at, where --description names what it printed, else the one that
// the migrations make.
func unseenTable(cmd *cli.Command) (watched.Table, error) {
	if name := cmd.String("description"); name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return watched.Table{}, badUsage("--description: %w", err)
		}
		if looked, ok := migrations.ReadTableReport(text); ok {
			if looked.Refused != "" {
				return looked.Table, failed(errors.New(looked.Refused))
			}
			return looked.Table, nil
		}
	}
	said, err := overridesOf(cmd)
	if err != nil {
		return watched.Table{}, err
	}
	t := watched.Made(said.Guard)
	if said.Guard = ""; len(said.Args()) > 0 {
		return t, badUsage("%s says something of a table that has to be looked at: name its database with --database-url postgres://USER:PASSWORD@HOST:5432/NAME, or let runcounter table --json look at it, and name the file with what it printed by --description", strings.Join(said.Args(), " "))
	}
	t.Fingerprint = ""
	w := windowsOf(cmd)
	t.Said.UserWindows, t.Said.WorkflowWindows = w.User, w.Workflow
	return t, nil
}
