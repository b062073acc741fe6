package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
)

// importPage is how many rows one statement reads from the live database: few
// enough that it takes a moment, and that little is read twice by an import
// that goes on after a kill -9.
const importPage = 4 * importBatch

// importMarks keep where an import stands. They are the mirror's.
type importMarks interface {
	ImportMark(ctx context.Context, source string) (sqlite.ImportMark, bool, error)
	KeepImportMark(ctx context.Context, source string, m sqlite.ImportMark) error
	DropImportMark(ctx context.Context, source string) error
}

// rowSource is the table that is read.
type rowSource interface {
	Identity() string
	Page(ctx context.Context, after string, limit int) ([]postgres.Record, error)
}

// badRow is a row that is not a run.
type badRow struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// importedFrom is what came of an import from a live database.
type importedFrom struct {
	Done        bool     `json:"done"` // false where it was stopped, and goes on the next time
	From        string   `json:"from"`
	Table       string   `json:"table"`
	RowsBefore  int64    `json:"rows_before"` // taken before it was stopped
	BadBefore   int64    `json:"bad_before"`
	Rows        int64    `json:"rows"` // read this time
	Runs        int64    `json:"runs"`
	Changed     int64    `json:"changed"`
	Bad         int64    `json:"bad"`
	Reasons     []badRow `json:"bad_rows"`
	Mended      int64    `json:"mended"`       // lost calls and statements of the webhook
	RowSecurity bool     `json:"row_security"` // a policy decides which rows were seen
	Seconds     float64  `json:"seconds"`
}

// tableImport reads a table into a mirror, page by page.
type tableImport struct {
	from     rowSource
	to       store.Store
	marks    importMarks
	decoder  webhook.Decoder
	now      func() time.Time
	progress func(rows int64) // after each batch; all rows, those before included

	done importedFrom
}

func importFromDatabase(ctx context.Context, cmd *cli.Command) error {
	switch {
	case cmd.Args().Len() > 0 || cmd.Bool("copy"):
		return badUsage("--from reads the database itself: leave out FILE and --copy")
	case !isPostgres(cmd.String("from")):
		return badUsage("--from is %w", postgres.ErrAddress)
	}
	decoder, err := decoderOf(cmd)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err = openAndImport(ctx, cmd, decoder)
	if _, reported := errors.AsType[*exitError](err); !reported && errors.Is(err, context.Canceled) {
		return answerNo(errors.New("stopped before anything was read"))
	}
	return err
}

func openAndImport(ctx context.Context, cmd *cli.Command, decoder webhook.Decoder) error {
	if err := dropForeign(cmd, "from"); err != nil {
		return err
	}
	table, err := postgres.OpenTable(ctx, cmd.String("from"),
		postgres.TableOptions{Schema: decoder.Schema, Name: decoder.Table, LeaseColumn: decoder.LeaseColumn, Columns: decoder.Columns})
	if errors.Is(err, postgres.ErrAddress) {
		return badUsage("--from is %w", err)
	}
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer table.Close()
	db, err := openStore(ctx, cmd)
	if err != nil {
		return err
	}
	return errors.Join(importTable(ctx, cmd, table, db, decoder), db.Close())
}

// importTable says what is to be said before, imports, and says what came of it.
func importTable(ctx context.Context, cmd *cli.Command, table *postgres.Table, db backend, decoder webhook.Decoder) error {
	errs := cmd.Root().ErrWriter
	name := decoder.Schema + "." + decoder.Table
	if table.Hidden() {
		fmt.Fprintf(errs, "Row-level security holds on %s for this role: only the rows that a policy shows it are imported. The owner, and roles such as Supabase's postgres and service_role, see all.\n", name)
	}
	if lease := decoder.LeaseColumn; lease != "" && !table.Has(lease) {
		fmt.Fprintf(errs, "%s has no column %q: it is left out.\n", name, lease)
	}
	mark, err := beginFrom(ctx, cmd, table, db.marks)
	if err != nil {
		return err
	}
	total, counted, err := table.Rows(ctx)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	bar := newBar(errs, total, counted, mark.Taken, time.Now)
	i := tableImport{
		from: table, to: db, marks: db.marks, decoder: decoder, now: time.Now, progress: bar.show,
		done: importedFrom{From: table.Where(), Table: name, RowSecurity: table.Hidden(), Reasons: []badRow{}},
	}
	var reading postgres.Reading // an import that goes on began too long ago to say what it has read
	if mark.After == "" {
		if reading, err = table.Begin(ctx); err != nil {
			return fmt.Errorf("--from: %w", err)
		}
	}
	begun := time.Now()
	err = i.run(ctx, mark)
	if err == nil && !table.Hidden() && i.done.BadBefore+i.done.Bad == 0 {
		err = i.mended(ctx, table, db, reading)
	}
	i.done.Seconds = time.Since(begun).Seconds()
	bar.end(i.done.RowsBefore + i.done.Rows)
	return i.report(cmd, err)
}

// mended tells the webhook of the table that its mirror has caught up. A mirror
// that never heard of it is not its mirror, but a file for a trial.
func (i *tableImport) mended(ctx context.Context, table *postgres.Table, db backend, reading postgres.Reading) error {
	mirror, ok := db.database.(interface {
		Heard(ctx context.Context) (bool, error)
	})
	if !ok {
		return nil
	}
	heard, err := mirror.Heard(ctx)
	if err != nil || !heard {
		return err
	}
	i.done.Mended, err = table.Mended(ctx, reading)
	return err
}

// beginFrom returns where to begin: where an import that was stopped stood, or
// at the beginning.
func beginFrom(ctx context.Context, cmd *cli.Command, from rowSource, marks importMarks) (sqlite.ImportMark, error) {
	if cmd.Bool("restart") {
		if err := marks.DropImportMark(ctx, from.Identity()); err != nil {
			return sqlite.ImportMark{}, err
		}
	}
	mark, found, err := marks.ImportMark(ctx, from.Identity())
	if err != nil || !found {
		return sqlite.ImportMark{BegunAt: time.Now()}, err
	}
	_, err = fmt.Fprintf(cmd.Root().ErrWriter, "Going on after %s of the import begun at %s; --restart begins anew.\n",
		quantity(mark.Taken, "row", "rows"), instant(mark.BegunAt))
	return mark, err
}

// run imports all rows after the mark, which moves along with every page and is
// dropped at the end.
//
// The table is read while others write it, each page as of another moment. A
// row that is changed or deleted before its page is read, is read as it is by
// then; one that is changed afterwards reaches the mirror by webhook. Either
// may come first, and the merge makes the same of both orders: what was read
// never outweighs a webhook that saw the run end, and never brings back a
// deleted run.
func (i *tableImport) run(ctx context.Context, mark sqlite.ImportMark) error {
	i.done.RowsBefore, i.done.BadBefore = mark.Taken, mark.Bad
	for {
		var page []postgres.Record
		err := again(ctx, func() (err error) {
			page, err = i.from.Page(ctx, mark.After, importPage)
			return err
		})
		if err != nil {
			return fmt.Errorf("read from %s: %w", i.done.From, err)
		}
		err = i.takeAll(ctx, page, &mark)
		if err == nil && len(page) < importPage {
			i.done.Done = true
			return i.marks.DropImportMark(ctx, i.from.Identity())
		}
		if mark.After != "" { // kept after Ctrl-C as well, in the middle of a page
			err = errors.Join(err, i.marks.KeepImportMark(context.WithoutCancel(ctx), i.from.Identity(), mark))
		}
		if err != nil {
			return err
		}
	}
}

// takeAll imports a page, and moves the mark with each batch.
func (i *tableImport) takeAll(ctx context.Context, page []postgres.Record, mark *sqlite.ImportMark) error {
	for batch := range slices.Chunk(page, importBatch) {
		if err := i.take(ctx, batch); err != nil {
			return err
		}
		mark.After = batch[len(batch)-1].ID
		mark.Taken, mark.Bad = i.done.RowsBefore+i.done.Rows, i.done.BadBefore+i.done.Bad
		i.progress(mark.Taken)
	}
	return nil
}

// take imports rows in one transaction.
func (i *tableImport) take(ctx context.Context, records []postgres.Record) error {
	changes := make([]store.Change, 0, len(records))
	var bad []badRow
	for _, r := range records {
		row, err := i.decoder.Row(bytes.NewReader(r.JSON))
		if err != nil {
			bad = append(bad, badRow{r.ID, err.Error()})
			continue
		}
		changes = append(changes, asSeen(row))
	}
	var applied []store.ApplyResult
	err := again(ctx, func() (err error) {
		applied, err = i.to.Apply(ctx, changes, store.Instant(i.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("write to the mirror: %w", err)
	}
	for _, a := range applied {
		if a.Changed {
			i.done.Changed++
		}
	}
	i.done.Rows += int64(len(records))
	i.done.Runs += int64(len(changes))
	i.done.Bad += int64(len(bad))
	i.done.Reasons = append(i.done.Reasons, bad[:min(len(bad), badShown-len(i.done.Reasons))]...)
	return nil
}

// again does what may be done again, a few times while the database is not
// available: a connection is lost, webhooks keep the mirror busy.
func again(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil || try == 3 {
			return err
		}
	}
}

// report prints what came of an import, be it stopped by an error or not.
func (i *tableImport) report(cmd *cli.Command, stopped error) error {
	var err error
	if cmd.Bool("json") {
		err = printJSON(cmd.Root().Writer, i.done)
	} else {
		err = i.print(cmd.Root().Writer, cmd.Root().ErrWriter)
	}
	if stopped != nil {
		taken := quantity(i.done.RowsBefore+i.done.Rows, "row", "rows")
		if errors.Is(stopped, context.Canceled) {
			return answerNo(errors.Join(fmt.Errorf("stopped after %s: the same command goes on there, with --restart it begins anew", taken), err))
		}
		return errors.Join(fmt.Errorf("%w; %s had been taken by then: the same command goes on there, with --restart it begins anew", stopped, taken), err)
	}
	if err != nil {
		return err
	}
	if bad := i.done.BadBefore + i.done.Bad; bad > 0 {
		return answerNo(fmt.Errorf("%s could not be read; the others were imported", quantity(bad, "row", "rows")))
	}
	if i.done.RowSecurity && i.done.RowsBefore+i.done.Rows == 0 {
		return answerNo(fmt.Errorf("no row of %s is visible to this role: row-level security hides them, or there are none", i.done.Table))
	}
	return nil
}

func (i *tableImport) print(out, errs io.Writer) error {
	for _, bad := range i.done.Reasons {
		fmt.Fprintf(errs, "row %s: %s\n", bad.ID, bad.Reason)
	}
	if !i.done.Done {
		return nil
	}
	rate := float64(i.done.Rows) / max(i.done.Seconds, 0.001)
	_, err := fmt.Fprintf(out, "Imported %s from %s, of which %d said something new, in %.1f s (%.0f rows/s).\n",
		quantity(i.done.Runs, "run", "runs"), i.done.From, i.done.Changed, i.done.Seconds, rate)
	if err == nil && i.done.Mended > 0 {
		_, err = fmt.Fprintf(out, "It mended %s of the webhook.\n", quantity(i.done.Mended, "lost call", "lost calls"))
	}
	return err
}
