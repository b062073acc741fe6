package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/watched"
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
		Flags: append(overrideFlags(), databaseFlag(), jsonFlag()),
		Action: action(func(ctx context.Context, cmd *cli.Command) error {
			if err := atMost(0, cmd); err != nil {
				return err
			}
			if !isPostgres(cmd.String("database-url")) {
				return badUsage("a mirror has a table of its own: name the PostgreSQL database with --database-url postgres://USER:PASSWORD@HOST:5432/NAME")
			}
			overrides, err := overridesOf(cmd)
			if err != nil {
				return err
			}
			return withMigrator(ctx, cmd, func(m *migrations.Migrator) error { return printTableReport(cmd, m, overrides) })
		}),
	}
}

// overrideFlags are what an operator says of the watched table.
func overrideFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "table", Category: flagsWhat, Value: watched.DefaultTable, Usage: "the table of the runs, as `SCHEMA.TABLE`", Sources: cli.EnvVars("RUNCOUNTER_TABLE")},
		columnFlag(),
		statusFlag(),
		anyCaseFlag(),
		zoneFlag(),
		timesFlag(),
		guardFlag(),
		claimFlag(),
		descriptionFlag(),
	}
}

func claimFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "claim", Category: flagsWhat, DefaultText: "sub where users are counted, and none for organisations",
		Usage: "by which `CLAIM` of their token signed-in users are known: sub, org_id, or o.id for the id in o; none for no token",
	}
}

func guardFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "guard", Category: flagsRules, DefaultText: "what was said before; else on, or report where statuses have other words than ours",
		Usage: "what the guard does with an outcome that is overwritten: `MODE` is on (keeps it), report (lists it, for retries in the same row) or off",
	}
}

func columnFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "column", Category: flagsWhat, Usage: "which column plays a role, as `ROLE=NAME`, such as user=org_id; without NAME none does"}
}

func statusFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "status", Category: flagsWhat, Usage: "what a status of the table means, as `THEIRS=OURS`, such as canceled=cancelled"}
}

func anyCaseFlag() cli.Flag {
	return &cli.BoolFlag{Name: "any-case", Category: flagsWhat, Usage: "a status is the same in capitals and in small letters, as one of citext is"}
}

func zoneFlag() cli.Flag {
	return &cli.StringFlag{Name: "timezone", Category: flagsWhat, DefaultText: "UTC", Usage: "the `ZONE` of timestamps without zone, such as Europe/Berlin"}
}

func timesFlag() cli.Flag {
	return &cli.StringFlag{Name: "times", Category: flagsWhat, Usage: "what times that are integers count since 1970: `UNIT` is milliseconds or seconds"}
}

func descriptionFlag() cli.Flag {
	return &cli.StringFlag{Name: "description", Category: flagsWhat, Usage: "a JSON `FILE` that says the same; flags go before it", Sources: cli.EnvVars("RUNCOUNTER_DESCRIPTION")}
}

func overridesOf(cmd *cli.Command) (watched.Overrides, error) {
	said := watched.Overrides{AnyCase: cmd.Bool("any-case")}
	for _, flag := range []struct {
		name string
		set  func(string) error
	}{{"table", said.SetTable}, {"timezone", said.SetZone}, {"times", said.SetTimes}, {"guard", said.SetGuard}, {"claim", said.SetClaim}} {
		if cmd.IsSet(flag.name) {
			if err := flag.set(cmd.String(flag.name)); err != nil {
				return said, badUsage("--%s: %w", flag.name, err)
			}
		}
	}
	for _, flag := range []struct {
		name string
		set  func(string) error
	}{{"column", said.SetColumn}, {"status", said.SetStatus}} {
		for _, value := range cmd.StringSlice(flag.name) {
			if err := flag.set(value); err != nil {
				return said, badUsage("--%s: %w", flag.name, err)
			}
		}
	}
	name := cmd.String("description")
	if name == "" {
		return said, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return said, badUsage("--description: %w", err)
	}
	written, err := watched.ReadOverrides(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return said, badUsage("--description %s: %w", name, err)
	}
	return said.Over(written), nil
}

// tableReport is what runcounter table prints as JSON.
type tableReport struct {
	watched.Report
	Refused string `json:"refused,omitempty"` // what migrate up says
}

func printTableReport(cmd *cli.Command, m *migrations.Migrator, given watched.Overrides) error {
	m.Override(given)
	o, err := m.Overrides()
	if err != nil {
		return err
	}
	schema, name := o.SchemaAndName()
	catalog, there, err := m.Catalog(schema, name)
	if err != nil {
		return err
	}
	if !there {
		return failed(fmt.Errorf("the database has no table %s.%s: name another with --table SCHEMA.TABLE; runcounter migrate up makes %s where there is none", schema, name, watched.DefaultTable))
	}
	report := watched.Describe(catalog, o)
	refused := ""
	if err := m.Check(); errors.Is(err, migrations.ErrTable) {
		refused = err.Error()
	} else if err != nil {
		return err
	}
	out := cmd.Root().Writer
	switch {
	case cmd.Bool("json"):
		err = printJSON(out, tableReport{report, refused})
	case refused != "":
		_, err = fmt.Fprintf(out, "%s\nmigrate up refuses it: %s\n", report.Text(), refused)
	default:
		_, err = fmt.Fprintf(out, "%s\nmigrate up takes it as it is.\n", report.Text())
	}
	if err == nil && refused != "" {
		err = failed(nil)
	}
	return err
}
