package backfill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

// PageSize is the number of rows that one statement reads from the live database: few
// enough that it takes a moment, and that an import that goes on after a kill -9 reads
// little twice.
const PageSize = 4 * BatchSize

// Marks keep how far the import of each source has come.
type Marks interface {
	ImportMark(ctx context.Context, source string) (sqlite.ImportMark, bool, error)
	KeepImportMark(ctx context.Context, source string, m sqlite.ImportMark) error
	DropImportMark(ctx context.Context, source string) error
}

// Mirror is the store that is filled; [sqlite.Store] is one.
type Mirror interface {
	Applier
	Marks
	// Heard reports whether the mirror ever received a webhook of our own.
	Heard(ctx context.Context) (bool, error)
}

// BadRow is a row that is not a run.
type BadRow struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// TableResult is the result of an import from a live database.
type TableResult struct {
	Done        bool     `json:"done"` // false if it was stopped, and goes on the next time
	From        string   `json:"from"`
	Table       string   `json:"table"`
	RowsBefore  int64    `json:"rows_before"` // taken before it was stopped
	BadBefore   int64    `json:"bad_before"`
	Rows        int64    `json:"rows"` // read this time
	Runs        int64    `json:"runs"`
	Changed     int64    `json:"changed"` // said something new
	Bad         int64    `json:"bad"`
	Reasons     []BadRow `json:"bad_rows"`     // the first hundred
	Recovered   int64    `json:"recovered"`    // lost calls and statements of the webhook
	RowSecurity bool     `json:"row_security"` // a policy decides which rows were seen
	Seconds     float64  `json:"seconds"`
}

// AllRows is the number of rows taken, before the import was stopped and since.
func (r TableResult) AllRows() int64 { return r.RowsBefore + r.Rows }

// AllBad is the number of rows that were no runs, before and since.
func (r TableResult) AllBad() int64 { return r.BadBefore + r.Bad }

// Table imports the rows of a live table into a mirror, page by page.
type Table struct {
	From     *postgres.Table
	Name     string // the table's, for people
	To       Mirror
	Rows     RowReader
	Now      func() time.Time
	Progress func(rows int64) // after each batch; all rows, those before included

	done TableResult
}

// Resume returns the mark at which an import of the source was stopped, and whether
// there is one. Without one, or with restart, the mark is the table's beginning.
func Resume(ctx context.Context, marks Marks, source string, restart bool) (sqlite.ImportMark, bool, error) {
	if restart {
		if err := marks.DropImportMark(ctx, source); err != nil {
			return sqlite.ImportMark{}, false, err
		}
	}
	mark, found, err := marks.ImportMark(ctx, source)
	if err != nil || !found {
		return sqlite.ImportMark{BegunAt: time.Now()}, false, err
	}
	return mark, true, nil
}

// Import imports all rows after the mark, which moves along with every batch and is
// dropped at the end. If the role sees every row and each could be read, the losses of
// the table's webhook that reading covers are then marked as recovered; an import that
// was resumed passes the zero Reading, since it began too long ago.
//
// The result says how far the import came, also beside an error: a context that is
// cancelled stops it between two batches, and the next one goes on there.
//
// The table is read while others write it, each page as of another moment. A
// row that is changed or deleted before its page is read, is read as it is by
// then; one that is changed afterwards reaches the mirror by webhook. Either
// may come first, and the merge makes the same of both orders: what was read
// never outweighs a webhook that saw the run end, and never brings back a
// deleted run.
func (t Table) Import(ctx context.Context, mark sqlite.ImportMark, reading postgres.Reading) (TableResult, error) {
	begun := t.Now()
	t.done = TableResult{
		From: t.From.Where(), Table: t.Name, RowSecurity: t.From.Hidden(), Reasons: []BadRow{},
		RowsBefore: mark.Taken, BadBefore: mark.Bad,
	}
	err := t.takePages(ctx, mark)
	if err == nil && !t.done.RowSecurity && t.done.AllBad() == 0 {
		err = t.markRecovered(ctx, reading)
	}
	t.done.Seconds = t.Now().Sub(begun).Seconds()
	return t.done, err
}

// markRecovered tells the webhook of the table that its mirror has caught up. A mirror
// that never heard of it is not its mirror, but a file for a trial.
func (t *Table) markRecovered(ctx context.Context, reading postgres.Reading) error {
	heard, err := t.To.Heard(ctx)
	if err != nil || !heard {
		return err
	}
	t.done.Recovered, err = t.From.Recovered(ctx, reading)
	return err
}

func (t *Table) takePages(ctx context.Context, mark sqlite.ImportMark) error {
	for {
		page, err := store.Retry(ctx, func(ctx context.Context) ([]postgres.Record, error) {
			return t.From.Page(ctx, mark.After, PageSize)
		})
		if err != nil {
			return fmt.Errorf("read from %s: %w", t.done.From, err)
		}
		err = t.takePage(ctx, page, &mark)
		if err == nil && len(page) < PageSize {
			t.done.Done = true
			return t.To.DropImportMark(ctx, t.From.Identity())
		}
		if mark.After != "" { // kept after Ctrl-C as well, in the middle of a page
			err = errors.Join(err, t.To.KeepImportMark(context.WithoutCancel(ctx), t.From.Identity(), mark))
		}
		if err != nil {
			return err
		}
	}
}

// takePage imports a page, and moves the mark with each batch.
func (t *Table) takePage(ctx context.Context, page []postgres.Record, mark *sqlite.ImportMark) error {
	for batch := range slices.Chunk(page, BatchSize) {
		if err := t.takeBatch(ctx, batch); err != nil {
			return err
		}
		mark.After = batch[len(batch)-1].ID
		mark.Taken, mark.Bad = t.done.AllRows(), t.done.AllBad()
		t.Progress(mark.Taken)
	}
	return nil
}

// takeBatch imports rows in one transaction.
func (t *Table) takeBatch(ctx context.Context, records []postgres.Record) error {
	changes := make([]store.Change, 0, len(records))
	var bad []BadRow
	for _, r := range records {
		row, err := t.Rows.Row(bytes.NewReader(r.JSON))
		if err != nil {
			bad = append(bad, BadRow{r.ID, err.Error()})
			continue
		}
		changes = append(changes, unchanged(row))
	}
	applied, err := store.Retry(ctx, func(ctx context.Context) ([]store.ApplyResult, error) {
		return t.To.Apply(ctx, changes, store.Instant(t.Now()))
	})
	if err != nil {
		return fmt.Errorf("write to the mirror: %w", err)
	}
	t.done.Changed += int64(countChanged(applied))
	t.done.Rows += int64(len(records))
	t.done.Runs += int64(len(changes))
	t.done.Bad += int64(len(bad))
	t.done.Reasons = append(t.done.Reasons, bad[:min(len(bad), maxReasons-len(t.done.Reasons))]...)
	return nil
}
