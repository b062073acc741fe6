package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/backfill"
)

// reportImport prints the result of an import, also of one that an error stopped.
func reportImport(cmd *cli.Command, done backfill.TableResult, stopped error) error {
	var err error
	if cmd.Bool("json") {
		err = printJSON(cmd.Root().Writer, done)
	} else {
		err = printImport(cmd.Root().Writer, cmd.Root().ErrWriter, done)
	}
	if stopped != nil {
		taken := store.Quantity(done.AllRows(), "row", "rows")
		if errors.Is(stopped, context.Canceled) {
			return failed(errors.Join(fmt.Errorf("stopped after %s: the same command goes on there, with --restart it begins anew", taken), err))
		}
		return errors.Join(fmt.Errorf("%w; %s had been taken by then: the same command goes on there, with --restart it begins anew", stopped, taken), err)
	}
	if err != nil {
		return err
	}
	if bad := done.AllBad(); bad > 0 {
		return failed(fmt.Errorf("%s could not be read; the others were imported", store.Quantity(bad, "row", "rows")))
	}
	if done.RowSecurity && done.AllRows() == 0 {
		return failed(fmt.Errorf("no row of %s is visible to this role: row-level security hides them, or there are none", done.Table))
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
		store.Quantity(done.Runs, "run", "runs"), done.From, done.Changed, done.Seconds, rate)
	if err == nil && done.Recovered > 0 {
		_, err = fmt.Fprintf(out, "It recovered %s of the webhook.\n", store.Quantity(done.Recovered, "lost call", "lost calls"))
	}
	return err
}
