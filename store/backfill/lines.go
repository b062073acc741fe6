package backfill

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// BatchSize is the number of runs that one transaction takes: enough to spread
	// the cost of the commit, few enough that webhooks get their turn.
	BatchSize = 500
	// maxReasons bounds the bad lines or rows that are listed; all are counted.
	maxReasons = 100
)

// RowReader reads one row of the table from its JSON.
type RowReader interface {
	Row(r io.Reader) (store.Row, error)
}

// Applier takes changes, as [store.Store] does.
type Applier interface {
	Apply(ctx context.Context, changes []store.Change, received time.Time) ([]store.ApplyResult, error)
}

// BadLine is a line that is not a run.
type BadLine struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// LinesResult is the result of an import of lines.
type LinesResult struct {
	Lines   int       `json:"lines"` // blank ones left out
	Runs    int       `json:"runs"`
	Changed int       `json:"changed"` // said something new
	Bad     int       `json:"bad"`
	Reasons []BadLine `json:"bad_lines"` // the first hundred
}

// Lines imports runs from text with a JSON object a line.
type Lines struct {
	To       Applier
	Rows     RowReader
	Copied   bool // the lines come from COPY's text format, which doubles backslashes
	Now      func() time.Time
	Progress func(LinesResult) // after each batch

	done  LinesResult
	batch []store.Change
}

// Import reads in to its end. A line that is not a run is noted in the result and
// skipped; an error of the reader or the store ends the import, and the result says
// how far it came.
func (l Lines) Import(ctx context.Context, in io.Reader) (LinesResult, error) {
	l.done.Reasons = []BadLine{}
	err := l.read(ctx, in)
	return l.done, err
}

func (l *Lines) read(ctx context.Context, in io.Reader) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("read line %d: %w", number, err)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			l.add(number, text)
		}
		if len(l.batch) >= BatchSize || err == io.EOF {
			if flushed := l.flush(ctx); flushed != nil {
				return fmt.Errorf("import up to line %d: %w", number, flushed)
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// add puts a line into the batch, or notes what is wrong with it.
func (l *Lines) add(number int, text []byte) {
	l.done.Lines++
	if l.Copied {
		text = bytes.ReplaceAll(text, []byte(`\\`), []byte(`\`))
	}
	row, err := l.Rows.Row(bytes.NewReader(text))
	if err != nil {
		l.done.Bad++
		if len(l.done.Reasons) < maxReasons {
			l.done.Reasons = append(l.done.Reasons, BadLine{number, err.Error()})
		}
		return
	}
	l.batch = append(l.batch, unchanged(row))
}

func (l *Lines) flush(ctx context.Context) error {
	if len(l.batch) == 0 {
		return nil
	}
	applied, err := l.To.Apply(ctx, l.batch, store.Instant(l.Now()))
	if err != nil {
		return err
	}
	l.done.Changed += countChanged(applied)
	l.done.Runs += len(l.batch)
	l.batch = l.batch[:0]
	l.Progress(l.done)
	return nil
}

// unchanged returns the change that says a row was seen as it is, so that it never
// outweighs a webhook that saw the run end.
func unchanged(row store.Row) store.Change {
	return store.Change{Op: store.Update, Record: row, Old: row, HasOld: true}
}

func countChanged(applied []store.ApplyResult) (n int) {
	for _, a := range applied {
		if a.Changed {
			n++
		}
	}
	return n
}
