package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

func migrateCommand() *cli.Command {
	return &cli.Command{
		Name:      "migrate",
		Category:  groupRun,
		Usage:     "brings the database to this program's schema, or away from it",
		UsageText: "runcounter migrate up | down | status | print [flags]",
		Description: `  up      applies what is missing
  down    takes everything back: a mirror forgets all runs and counts; a
          PostgreSQL database keeps its runs, and gets back what was there before
  status  prints where the database stands
  print   prints the SQL for the kind of database that --database-url names:
          postgres: prints a script for Supabase's SQL editor, without a look
          at any table, or for the one in --description, a file with what
          runcounter table --json printed; the address of a server has its table
          looked at first

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
			&cli.BoolFlag{Name: "yes", Category: flagsWhat, Usage: "say that down is meant"},
			jsonFlag(),
		}, overrideFlags()...),
		Action: action(migrate),
	}
}

func migrate(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(1, cmd); err != nil {
		return err
	}
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

// migratePrint looks at the table first where the address names a server.
func migratePrint(ctx context.Context, cmd *cli.Command) error {
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
		var looked tableReport
		if err := json.Unmarshal(text, &looked); err == nil && len(looked.Table.Columns) > 0 {
			if looked.Refused != "" {
				return looked.Table, answerNo(errors.New(looked.Refused))
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
	return t, nil
}

func migrateUp(ctx context.Context, cmd *cli.Command) error {
	if isPostgres(cmd.String("database-url")) {
		said, err := overridesOf(cmd)
		if err != nil {
			return err
		}
		policy := cmd.String("policy")
		if policy != "" {
			if _, err := store.ParsePolicy(policy); err != nil {
				return badUsage("--policy: %w", err)
			}
		}
		return withMigrator(ctx, cmd, func(m *migrations.Migrator) error {
			m.Override(said)
			m.SetPolicy(policy)
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
	return withMigrator(ctx, cmd, func(m *migrations.Migrator) error { return printStatus(cmd, m) })
}

func migrateDown(ctx context.Context, cmd *cli.Command) error {
	if !cmd.Bool("yes") {
		if isPostgres(cmd.String("database-url")) {
			return badUsage("migrate down drops the counts, and the record of repairs and of administrators' decisions; the runs stay: add --yes if that is meant")
		}
		return badUsage("migrate down deletes all runs and counts of the database: add --yes if that is meant")
	}
	return withMigrator(ctx, cmd, func(m *migrations.Migrator) error {
		if err := m.Down(); err != nil {
			return err
		}
		return printStatus(cmd, m)
	})
}

// withMigrator works on a database as it is: nothing is migrated by opening it.
func withMigrator(ctx context.Context, cmd *cli.Command, do func(*migrations.Migrator) error) error {
	if address := cmd.String("database-url"); isPostgres(address) {
		m, err := migrations.Postgres(ctx, address)
		if errors.Is(err, migrations.ErrAddress) {
			return badUsage("DATABASE_URL is %w", err)
		}
		if err != nil {
			return err
		}
		err = do(m)
		if errors.Is(err, migrations.ErrAddress) {
			err = badUsage("DATABASE_URL is %w", err)
		}
		return errors.Join(err, m.Close())
	}
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
	totals := m.Totals()
	if cmd.Bool("json") {
		return printJSON(out, struct {
			Version uint        `json:"version"`
			Latest  uint        `json:"latest"`
			Dirty   bool        `json:"dirty"`
			Said    []string    `json:"notes,omitempty"`
			Earlier *totalsJSON `json:"earlier_function,omitempty"`
		}{s.Version, s.Latest, s.Dirty, m.Said(), totalsJSONOf(totals)})
	}
	verdict := "up to date"
	switch {
	case s.GoingDown:
		verdict = "a migrate down was interrupted: runcounter migrate up undoes it, and keeps the runs that are still there; runcounter migrate down --yes finishes it"
	case s.Dirty:
		verdict = "a migration was interrupted; runcounter migrate up runs it again"
	case s.Version == 0:
		verdict = "empty; runcounter migrate up applies it"
	case s.Version < s.Latest:
		verdict = "runcounter migrate up applies what is missing"
	case s.Version > s.Latest:
		verdict = "made by a newer runcounter: run that one"
	}
	if _, err := fmt.Fprintf(out, "The schema has version %d of %d: %s.\n", s.Version, s.Latest, verdict); err != nil {
		return err
	}
	for _, one := range m.Said() {
		if _, err := fmt.Fprintf(out, "It %s.\n", one); err != nil {
			return err
		}
	}
	if totals == nil {
		return nil
	}
	return printTotals(out, totals)
}

type totalJSON struct {
	User string `json:"user_id"`
	Kind string `json:"kind"`
	Ref  string `json:"ref_id"`
	Old  int64  `json:"old"`
	New  int64  `json:"new"`
}

type totalsJSON struct {
	Function  string      `json:"function"`
	Compared  int         `json:"compared"`
	Different []totalJSON `json:"different"`
	Failed    int         `json:"failed"`
	Failure   string      `json:"failure"`
	More      bool        `json:"more"`
	Keeps     string      `json:"policy_that_keeps_them,omitempty"`
}

func totalsJSONOf(t *migrations.Totals) *totalsJSON {
	if t == nil {
		return nil
	}
	j := totalsJSON{Function: t.Function, Compared: t.Compared, Different: []totalJSON{}, Failed: t.Failed, Failure: t.Failure, More: t.More, Keeps: t.Keeps}
	for _, d := range t.Different {
		j.Different = append(j.Different, totalJSON(d))
	}
	return &j
}

// totalsShown is how many keys are listed, of which all are counted.
const totalsShown = 20

// printTotals tells what the function counted that was replaced: its users will
// ask why a number has changed.
func printTotals(out io.Writer, t *migrations.Totals) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nAn earlier %s was there, and comes back by migrate down.\n", t.Function)
	keys := quantity(int64(t.Compared), "key", "keys")
	if t.More {
		keys = "the first " + keys
	}
	if t.Failed > 0 || t.Failure != "" {
		fmt.Fprintf(&b, "It failed for %s: %s.\n", quantity(int64(t.Failed), "key", "keys"), t.Failure)
	}
	if t.Compared > 0 && len(t.Different) == 0 {
		fmt.Fprintf(&b, "It counted the same for %s.\n", keys)
	}
	if len(t.Different) > 0 {
		fmt.Fprintf(&b, "It counted differently for %d of %s:\n\n", len(t.Different), keys)
		rows := [][]string{{"USER", "KIND", "OF", "OLD", "NEW"}}
		for _, d := range t.Different[:min(len(t.Different), totalsShown)] {
			rows = append(rows, []string{d.User, d.Kind, d.Ref, decimal(d.Old), decimal(d.New)})
		}
		if err := printTable(&b, rows); err != nil {
			return err
		}
		if n := len(t.Different) - totalsShown; n > 0 {
			fmt.Fprintf(&b, "... and %d more: --json lists all\n", n)
		}
		if t.Keeps != "" {
			fmt.Fprintf(&b, "\nUnder the policy %[1]s all of them are as they were: runcounter migrate up --policy %[1]s sets it.\n", t.Keeps)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
