package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/backfill"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Category:  groupRun,
		Usage:     "fills the mirror with runs that it was not told of",
		UsageText: "runcounter import --from ADDRESS [flags]\nruncounter import [FILE] [flags]     without a file, or with -: standard input",
		Description: `It is safe to import twice, and while webhooks arrive. Rows and lines that can't
be read are reported and the rest goes on; the exit code is 1 then.

With --from it reads the table of a live PostgreSQL database, as any role that
may select. Turn the webhook on first: it brings what changes during the import,
in either order, and in the end the mirror has what the table has. After Ctrl-C,
a lost connection or a crash, run the same command again; it resumes. --restart
begins anew, which also brings what lost webhooks would have told meanwhile. It
brings no deletions: a run that was deleted without a webhook stays. In the table
it changes nothing; where the role may write to run_counter_webhook, it marks the
lost calls of our own webhook as recovered. The password can be left to
PGPASSWORD or ~/.pgpass.

Without --from each line is a run: a whole row of workflow_runs as a JSON object.

Examples:
  runcounter import --from "$SUPABASE_DB_URL"
  psql "$SUPABASE_DB_URL" -Atc \
    'select to_jsonb(r) from workflow_runs r' | runcounter import
  psql "$SUPABASE_DB_URL" -c \
    'copy (select to_jsonb(r) from workflow_runs r) to stdout' | runcounter import --copy`,
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "from", Category: flagsWhat, Usage: "the `ADDRESS` to read from: postgres://USER:PASSWORD@HOST:5432/NAME"},
			&cli.BoolFlag{Name: "restart", Category: flagsWhat, Usage: "with --from: begin anew where an import was stopped"},
			&cli.BoolFlag{Name: "copy", Category: flagsWhat, Usage: "the lines come from COPY in its text format, which doubles backslashes"},
			tableFlag(flagsWhat, "the table or view that --from reads, as `SCHEMA.TABLE`"),
		}, overrideFlags(claimFlag()), []cli.Flag{leaseFlag(), databaseFlag(), jsonFlag()}),
		Action: action(1, importRuns),
	}
}

func importRuns(ctx context.Context, cmd *cli.Command) (err error) {
	if isPostgres(cmd.String("database-url")) {
		return badUsage("a PostgreSQL database has its runs in public.workflow_runs already: runcounter migrate up counts them; import is for a mirror, --database-url sqlite:PATH")
	}
	if cmd.IsSet("from") {
		return importFromDatabase(ctx, cmd)
	}
	if cmd.Bool("restart") {
		return badUsage("--restart is for an import --from ADDRESS; one from a file begins anew each time")
	}
	decoder, err := decoderOf(cmd)
	if err != nil {
		return err
	}
	in, err := openArgument(cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	db, err := openStore(ctx, cmd)
	if err != nil {
		return err
	}
	bar := newBar(cmd.Root().ErrWriter, 0, false, 0, time.Now)
	lines := backfill.Lines{To: db, Rows: decoder, Copied: cmd.Bool("copy"), Now: time.Now, Progress: func(done backfill.LinesResult) {
		bar.say(func() string { return fmt.Sprintf("%d lines read, %d runs imported", done.Lines, done.Runs) })
	}}
	done, err := lines.Import(ctx, in)
	bar.clear()
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("%w; %s had been imported by then: import again, it is safe", err, store.Quantity(int64(done.Runs), "run", "runs"))
	}
	return reportLines(cmd, done)
}
