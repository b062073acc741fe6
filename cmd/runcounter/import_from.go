package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/backfill"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
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
		return failed(errors.New("stopped before anything was read"))
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
		fmt.Fprintf(errs, "Going on after %s of the import begun at %s; --restart begins anew.\n", store.Quantity(mark.Taken, "row", "rows"), api.Instant(mark.BegunAt))
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
	return reportTable(cmd, done, err)
}
