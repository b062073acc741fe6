package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store/postgres"
)

// refuseEmpty refuses a flag or an argument that is given and empty: it is a
// variable that is not set ("$UNSET"), and to go on as if it had been left out
// would do something that was not meant. An empty variable of the environment
// is none.
func refuseEmpty(cmd *cli.Command) error {
	for _, text := range cmd.Args().Slice() {
		if strings.TrimSpace(text) == "" {
			return badUsage("an argument is empty: is a variable not set? Leave it out, or give it a value")
		}
	}
	for _, f := range cmd.Flags {
		flag, ok := f.(*cli.StringFlag)
		if ok && flag.IsSet() && len(flag.Sources.Chain) == 0 && strings.TrimSpace(cmd.String(flag.Name)) == "" {
			return badUsage("--%s is empty: is a variable not set? Leave it out, or give it a value", flag.Name)
		}
	}
	return nil
}

// settleDatabase reads the address that --database-url names, for all commands
// that have it: an empty one is refused, and what other tools have put into it
// is left out. It returns what to call the database, or nothing where a command
// names it itself or needs none.
func settleDatabase(cmd *cli.Command) (where string, err error) {
	const name = "database-url"
	if !hasFlag(cmd, name) {
		return "", nil
	}
	address := strings.TrimSpace(cmd.String(name))
	if address == "" {
		return "", badUsage("--database-url, or DATABASE_URL, is empty: is a variable not set? Name the database, such as sqlite:runcounter.db or postgres://USER:PASSWORD@HOST:5432/NAME, "+
			"or leave both out for %s", defaultDatabase)
	}
	if isPostgres(address) {
		if err := dropForeign(cmd, name); err != nil {
			return "", err
		}
		where = postgres.DescribeAddress(address)
	} else {
		path, err := sqlitePath(address)
		if err != nil {
			return "", err
		}
		where = "sqlite:" + path
	}
	if cmd.Name == "serve" || cmd.Name == "doctor" || cmd.Args().First() == "print" {
		return "", nil // the log of serve and the first line of doctor name it, and print needs none
	}
	return where, nil
}

// dropForeign leaves out what other tools have put into an address of
// PostgreSQL, and says so.
func dropForeign(cmd *cli.Command, name string) error {
	clean, dropped := postgres.Clean(cmd.String(name))
	if len(dropped) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(cmd.Root().ErrWriter, "runcounter: the address of the database has parameters of other tools, which are left out: %s\n", strings.Join(dropped, ", ")); err != nil {
		return err
	}
	return cmd.Set(name, clean)
}

func hasFlag(cmd *cli.Command, name string) bool {
	for _, f := range cmd.Flags {
		for _, known := range f.Names() {
			if known == name {
				return true
			}
		}
	}
	return false
}
