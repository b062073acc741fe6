package main

import (
	"errors"
	"os"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// usageTable is the use of --table where deliveries are read.
const usageTable = "the table of the runs, as `SCHEMA.TABLE`; changes of others are ignored"

// watchedFlag names the table where it is set up.
func watchedFlag() cli.Flag { return tableFlag(flagsWhat, "the table of the runs, as `SCHEMA.TABLE`") }

func columnFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "column", Category: flagsWhat, Usage: "which column plays a role, as `ROLE=NAME`, such as user=org_id; without NAME none does"}
}

// tableFlag names the watched table.
func tableFlag(category, usage string) cli.Flag {
	return &cli.StringFlag{Name: "table", Category: category, Value: watched.DefaultTable, Usage: usage, Sources: cli.EnvVars("RUNCOUNTER_TABLE")}
}

// overrideFlags returns the flags that describe the watched table, beside its name; more
// come before --description.
func overrideFlags(more ...cli.Flag) []cli.Flag {
	return slices.Concat([]cli.Flag{
		columnFlag(),
		&cli.StringSliceFlag{Name: "status", Category: flagsWhat, Usage: "what a status of the table means, as `THEIRS=OURS`, such as canceled=cancelled"},
		&cli.BoolFlag{Name: "any-case", Category: flagsWhat, Usage: "a status is the same in capitals and in small letters, as one of citext is"},
		&cli.StringFlag{Name: "timezone", Category: flagsWhat, DefaultText: "UTC", Usage: "the `ZONE` of timestamps without zone, such as Europe/Berlin"},
		&cli.StringFlag{Name: "times", Category: flagsWhat, Usage: "what times that are integers count since 1970: `UNIT` is milliseconds or seconds"},
	}, more, []cli.Flag{descriptionFlag()})
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

func descriptionFlag() cli.Flag {
	return &cli.StringFlag{Name: "description", Category: flagsWhat, Usage: "a JSON `FILE` that says the same; flags go before it", Sources: cli.EnvVars("RUNCOUNTER_DESCRIPTION")}
}

func overridesOf(cmd *cli.Command) (watched.Overrides, error) {
	said := watched.Overrides{AnyCase: cmd.Bool("any-case")}
	for _, flag := range []struct {
		name string
		many bool // --status is one text to send and complete, which say another thing by it
		set  func(string) error
	}{
		{"table", false, said.SetTable}, {"timezone", false, said.SetZone}, {"times", false, said.SetTimes}, {"guard", false, said.SetGuard},
		{"claim", false, said.SetClaim}, {"column", true, said.SetColumn}, {"status", true, said.SetStatus},
	} {
		var values []string
		if flag.many {
			values = cmd.StringSlice(flag.name)
		} else if cmd.IsSet(flag.name) {
			values = []string{cmd.String(flag.name)}
		}
		for _, value := range values {
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
