package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store/postgres"
)

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

// mustExist refuses a SQLite file that is not there.
func mustExist(cmd *cli.Command) error {
	if isPostgres(cmd.String("database-url")) {
		return nil // to connect is to see
	}
	path, err := sqlitePath(cmd.String("database-url"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no database at %s: name it with DATABASE_URL or --database-url, or make one with runcounter serve or runcounter import", path)
	} else if err != nil {
		return err
	}
	return nil
}

func isPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres:") || strings.HasPrefix(address, "postgresql:")
}

// sqlitePath returns the file that an address names, as an absolute path.
// Errors never repeat the address, which may hold a password.
func sqlitePath(address string) (string, error) {
	if address == "" {
		address = defaultDatabase
	}
	scheme, path, found := strings.Cut(address, ":")
	switch {
	case !found || scheme != "sqlite":
		return "", badUsage("DATABASE_URL is not an address that this build knows: write sqlite:PATH, such as sqlite:runcounter.db, or postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full")
	}
	path = strings.TrimPrefix(path, "//")
	switch {
	case path == "" || strings.HasSuffix(path, "/"):
		return "", badUsage("DATABASE_URL names no file: write sqlite:PATH, such as sqlite:runcounter.db")
	case strings.Contains(path, "?"):
		return "", badUsage("DATABASE_URL takes no parameters: leave out what stands from the ? on")
	case strings.Contains(path, ":memory:"):
		return "", badUsage("counts have to outlive the program, so a database in memory is not allowed: name a file, such as sqlite:runcounter.db")
	}
	return filepath.Abs(path)
}
