package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
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
lost calls of our own webhook as mended. The password can be left to PGPASSWORD
or ~/.pgpass.

Without --from each line is a run: a whole row of workflow_runs as a JSON object.

Examples:
  runcounter import --from "$SUPABASE_DB_URL"
  psql "$SUPABASE_DB_URL" -Atc \
    'select to_jsonb(r) from workflow_runs r' | runcounter import
  psql "$SUPABASE_DB_URL" -c \
    'copy (select to_jsonb(r) from workflow_runs r) to stdout' | runcounter import --copy`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Category: flagsWhat, Usage: "the `ADDRESS` to read from: postgres://USER:PASSWORD@HOST:5432/NAME"},
			&cli.BoolFlag{Name: "restart", Category: flagsWhat, Usage: "with --from: begin anew where an import was stopped"},
			&cli.BoolFlag{Name: "copy", Category: flagsWhat, Usage: "the lines come from COPY in its text format, which doubles backslashes"},
			importTableFlag(), columnFlag(), statusFlag(), anyCaseFlag(), zoneFlag(), timesFlag(), claimFlag(), descriptionFlag(), leaseFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(importRuns),
	}
}

const (
	// importBatch is how many runs one transaction takes: enough to spread the
	// cost of the commit, few enough that webhooks get their turn.
	importBatch = 500
	// badShown is how many bad lines are shown, of which all are counted.
	badShown = 100
)

// badLine is a line that is not a run.
type badLine struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// imported is what came of an import.
type imported struct {
	Lines   int       `json:"lines"` // blank ones left out
	Runs    int       `json:"runs"`
	Changed int       `json:"changed"`
	Bad     int       `json:"bad"`
	Reasons []badLine `json:"bad_lines"`
}

// importer reads lines into a store.
type importer struct {
	store    store.Store
	decoder  webhook.Decoder
	copied   bool // COPY's text format
	now      func() time.Time
	progress func(imported)

	done  imported
	batch []store.Change
}

func importRuns(ctx context.Context, cmd *cli.Command) (err error) {
	if err := atMost(1, cmd); err != nil {
		return err
	}
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
	in := cmd.Root().Reader
	if name := cmd.Args().First(); name != "" && name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return badUsage("%w: name a file, or - for standard input", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		in = file
	}
	db, err := openStore(ctx, cmd)
	if err != nil {
		return err
	}
	i := importer{
		store: db, decoder: decoder, copied: cmd.Bool("copy"),
		now: time.Now, progress: progressOn(cmd.Root().ErrWriter), done: imported{Reasons: []badLine{}},
	}
	if err := errors.Join(i.read(ctx, in), db.Close()); err != nil {
		return fmt.Errorf("%w; %s had been imported by then: import again, it is safe", err, quantity(int64(i.done.Runs), "run", "runs"))
	}
	return i.print(cmd)
}

// read imports all lines. A line that is not a run is noted, an error of the
// database ends it.
func (i *importer) read(ctx context.Context, in io.Reader) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("read line %d: %w", number, err)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			i.add(number, text)
		}
		if len(i.batch) >= importBatch || err == io.EOF {
			if flushed := i.flush(ctx); flushed != nil {
				return fmt.Errorf("import up to line %d: %w", number, flushed)
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// add takes a line into the batch, or notes what is wrong with it.
func (i *importer) add(number int, text []byte) {
	i.done.Lines++
	if i.copied {
		text = bytes.ReplaceAll(text, []byte(`\\`), []byte(`\`))
	}
	row, err := i.decoder.Row(bytes.NewReader(text))
	if err != nil {
		i.done.Bad++
		if len(i.done.Reasons) < badShown {
			i.done.Reasons = append(i.done.Reasons, badLine{number, err.Error()})
		}
		return
	}
	i.batch = append(i.batch, asSeen(row))
}

// asSeen takes a row as one that was seen as it is: unchanged, so that it never
// outweighs a webhook that saw the run end.
func asSeen(row store.Row) store.Change {
	return store.Change{Op: store.Update, Record: row, Old: row, HasOld: true}
}

func (i *importer) flush(ctx context.Context) error {
	if len(i.batch) == 0 {
		return nil
	}
	applied, err := i.store.Apply(ctx, i.batch, store.Instant(i.now()))
	if err != nil {
		return err
	}
	for _, a := range applied {
		if a.Changed {
			i.done.Changed++
		}
	}
	i.done.Runs += len(i.batch)
	i.batch = i.batch[:0]
	i.progress(i.done)
	return nil
}

// progressOn prints how far the import is: on a terminal in one line that
// moves, elsewhere in a line every ten seconds.
func progressOn(w io.Writer) func(imported) {
	terminal := isTerminal(w)
	every, format := 10*time.Second, "%d lines read, %d runs imported\n"
	if terminal {
		every, format = 200*time.Millisecond, "\r%d lines read, %d runs imported\x1b[K\r"
	}
	last := time.Now()
	return func(done imported) {
		if time.Since(last) < every {
			return
		}
		last = time.Now()
		if _, err := fmt.Fprintf(w, format, done.Lines, done.Runs); err != nil {
			return // an import goes on without a watcher
		}
	}
}

func (i *importer) print(cmd *cli.Command) error {
	if cmd.Bool("json") {
		if err := printJSON(cmd.Root().Writer, i.done); err != nil {
			return err
		}
	} else {
		for _, bad := range i.done.Reasons {
			if _, err := fmt.Fprintf(cmd.Root().ErrWriter, "line %d: %s\n", bad.Line, bad.Reason); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(cmd.Root().Writer, "Imported %s, of which %d said something new.\n",
			quantity(int64(i.done.Runs), "run", "runs"), i.done.Changed); err != nil {
			return err
		}
	}
	if i.done.Lines == 0 {
		return answerNo(errors.New("there was nothing to import: the file, or standard input, has no line with a run"))
	}
	if i.done.Bad > 0 {
		return answerNo(fmt.Errorf("%s could not be read; the others were imported", quantity(int64(i.done.Bad), "line", "lines")))
	}
	return nil
}
