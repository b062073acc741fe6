package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store/backfill"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/webhook"
)

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
	mark, resumed, err := backfill.Resume(ctx, db.mirror, table.Identity(), cmd.Bool("restart"))
	if err != nil {
		return err
	}
	if resumed {
		fmt.Fprintf(errs, "Going on after %s of the import begun at %s; --restart begins anew.\n", quantity(mark.Taken, "row", "rows"), instant(mark.BegunAt))
	}
	total, counted, err := table.Rows(ctx)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	var reading postgres.Reading // an import that goes on began too long ago to say what it has read
	if mark.After == "" {
		if reading, err = table.Begin(ctx); err != nil {
			return fmt.Errorf("--from: %w", err)
		}
	}
	bar := newBar(errs, total, counted, mark.Taken, time.Now)
	done, err := backfill.Table{From: table, Name: name, To: db.mirror, Rows: decoder, Now: time.Now, Progress: bar.show}.Import(ctx, mark, reading)
	bar.end(done.AllRows())
	return reportImport(cmd, done, err)
}

// reportImport prints the result of an import, also of one that an error stopped.
func reportImport(cmd *cli.Command, done backfill.TableResult, stopped error) error {
	var err error
	if cmd.Bool("json") {
		err = printJSON(cmd.Root().Writer, done)
	} else {
		err = printImport(cmd.Root().Writer, cmd.Root().ErrWriter, done)
	}
	if stopped != nil {
		taken := quantity(done.AllRows(), "row", "rows")
		if errors.Is(stopped, context.Canceled) {
			return answerNo(errors.Join(fmt.Errorf("stopped after %s: the same command goes on there, with --restart it begins anew", taken), err))
		}
		return errors.Join(fmt.Errorf("%w; %s had been taken by then: the same command goes on there, with --restart it begins anew", stopped, taken), err)
	}
	if err != nil {
		return err
	}
	if bad := done.AllBad(); bad > 0 {
		return answerNo(fmt.Errorf("%s could not be read; the others were imported", quantity(bad, "row", "rows")))
	}
	if done.RowSecurity && done.AllRows() == 0 {
		return answerNo(fmt.Errorf("no row of %s is visible to this role: row-level security hides them, or there are none", done.Table))
	}
	return nil
}

func printImport(out, errs io.Writer, done backfill.TableResult) error {
	for _, bad := range done.Reasons {
		fmt.Fprintf(errs, "row %s: %s\n", bad.ID, bad.Reason)
	}
	if !done.Done {
		return nil
	}
	rate := float64(done.Rows) / max(done.Seconds, 0.001)
	_, err := fmt.Fprintf(out, "Imported %s from %s, of which %d said something new, in %.1f s (%.0f rows/s).\n",
		quantity(done.Runs, "run", "runs"), done.From, done.Changed, done.Seconds, rate)
	if err == nil && done.Mended > 0 {
		_, err = fmt.Fprintf(out, "It mended %s of the webhook.\n", quantity(done.Mended, "lost call", "lost calls"))
	}
	return err
}
