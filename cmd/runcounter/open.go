package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
)

// database is what the commands need of a backend.
type database interface {
	webhook.Store
	Policy(ctx context.Context) (store.Policy, error)
	SetPolicy(ctx context.Context, p store.Policy) error
	Health(ctx context.Context) (sqlite.Health, error)
	Close() error
}

// openStore opens the database that --database-url names, and creates it where
// it is missing. It is the one place that knows which backends there are.
func openStore(ctx context.Context, cmd *cli.Command) (db database, where string, err error) {
	path, err := sqlitePath(cmd.String("database-url"))
	if err != nil {
		return nil, "", err
	}
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return nil, "", err
	}
	return s, path, nil
}

// withStore does a command's work on a database that exists. To create one
// here would answer every question with 0 in the wrong folder.
func withStore(ctx context.Context, cmd *cli.Command, do func(db database) error) error {
	if err := mustExist(cmd); err != nil {
		return err
	}
	db, _, err := openStore(ctx, cmd)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

func mustExist(cmd *cli.Command) error {
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

// sqlitePath returns the file that an address names, as an absolute path.
// Errors never repeat the address, which may hold a password.
func sqlitePath(address string) (string, error) {
	if address == "" {
		address = defaultDatabase
	}
	scheme, path, found := strings.Cut(address, ":")
	switch {
	case found && (scheme == "postgres" || scheme == "postgresql"):
		return "", badUsage("DATABASE_URL names a PostgreSQL database, and this build keeps its counts in SQLite only: " +
			"set DATABASE_URL=sqlite:runcounter.db for this program, and let the database's webhook send it the changes")
	case !found || scheme != "sqlite":
		return "", badUsage("DATABASE_URL is not an address that this build knows: write sqlite:PATH, such as sqlite:runcounter.db or sqlite:/data/runcounter.db")
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
