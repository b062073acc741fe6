package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/backfill"
)

// reportLines prints the result of an import of lines. Its error makes the exit code 1
// if a line was not read, or there was none.
func reportLines(cmd *cli.Command, done backfill.LinesResult) error {
	if !cmd.Bool("json") {
		for _, bad := range done.Reasons {
			fmt.Fprintf(cmd.Root().ErrWriter, "line %d: %s\n", bad.Line, bad.Reason)
		}
	}
	if err := show(cmd, done, fmt.Sprintf("Imported %s, of which %d said something new.\n", store.Quantity(int64(done.Runs), "run", "runs"), done.Changed)); err != nil {
		return err
	}
	if done.Lines == 0 {
		return failed(errors.New("there was nothing to import: the file, or standard input, has no line with a run"))
	}
	if done.Bad > 0 {
		return failed(fmt.Errorf("%s could not be read; the others were imported", store.Quantity(int64(done.Bad), "line", "lines")))
	}
	return nil
}

// reportTable prints the result of an import of a table, also of one that an error
// stopped.
func reportTable(cmd *cli.Command, done backfill.TableResult, stopped error) error {
	text := ""
	if !cmd.Bool("json") {
		for _, bad := range done.Reasons {
			fmt.Fprintf(cmd.Root().ErrWriter, "row %s: %s\n", bad.ID, bad.Reason)
		}
	}
	if done.Done {
		text = fmt.Sprintf("Imported %s from %s, of which %d said something new, in %.1f s (%.0f rows/s).\n",
			store.Quantity(done.Runs, "run", "runs"), done.From, done.Changed, done.Seconds, float64(done.Rows)/max(done.Seconds, 0.001))
		if done.Recovered > 0 {
			text += fmt.Sprintf("It recovered %s of the webhook.\n", store.Quantity(done.Recovered, "lost call", "lost calls"))
		}
	}
	err := show(cmd, done, text)
	taken, again := store.Quantity(done.AllRows(), "row", "rows"), "the same command goes on there, with --restart it begins anew"
	switch {
	case errors.Is(stopped, context.Canceled):
		return failed(errors.Join(fmt.Errorf("stopped after %s: %s", taken, again), err))
	case stopped != nil:
		return errors.Join(fmt.Errorf("%w; %s had been taken by then: %s", stopped, taken, again), err)
	case err != nil:
		return err
	case done.AllBad() > 0:
		return failed(fmt.Errorf("%s could not be read; the others were imported", store.Quantity(done.AllBad(), "row", "rows")))
	case done.RowSecurity && done.AllRows() == 0:
		return failed(fmt.Errorf("no row of %s is visible to this role: row-level security hides them, or there are none", done.Table))
	}
	return nil
}
