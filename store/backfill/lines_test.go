package backfill_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/backfill"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
)

const run1 = `{"id":"00000000-0000-4000-8000-000000000001","user_id":"u","workflow_id":"w","status":"completed","completed_at":"2026-01-31T12:00:00Z","updated_at":"2026-01-31T12:00:00Z","error_details":{"a":"b"}}`

func lines(t *testing.T) backfill.Lines {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "mirror.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return backfill.Lines{
		To: db, Rows: webhook.Decoder{Schema: "public", Table: "workflow_runs"},
		Now: time.Now, Progress: func(backfill.LinesResult) {},
	}
}

func TestLinesThatAreNoRunsStopNoOther(t *testing.T) {
	t.Parallel()
	l := lines(t)
	const file = "\n" + run1 + "\nno run\n\n" + run1 + "\n" + `{"id":true}`
	for _, changed := range []int{1, 0} { // the second import says nothing new
		got, err := l.Import(t.Context(), strings.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Reasons {
			if got.Reasons[i].Reason == "" {
				t.Errorf("line %d has no reason", got.Reasons[i].Line)
			}
			got.Reasons[i].Reason = ""
		}
		want := backfill.LinesResult{Lines: 4, Runs: 2, Changed: changed, Bad: 2, Reasons: []backfill.BadLine{{Line: 3}, {Line: 6}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	run, err := l.To.(store.Store).Run(t.Context(), store.UUID([16]byte{6: 0x40, 8: 0x80, 15: 1}))
	if err != nil || run.Status != store.Completed {
		t.Errorf("the mirror has %q, %v; want the run as its line has it", run.Status, err)
	}
}

func TestBadLinesAreCountedBeyondThoseThatAreListed(t *testing.T) {
	t.Parallel()
	got, err := lines(t).Import(t.Context(), strings.NewReader(strings.Repeat("no run\n", 150)))
	if err != nil || got.Bad != 150 || len(got.Reasons) != 100 {
		t.Errorf("got %d bad lines, %d listed, %v; want 150 and 100", got.Bad, len(got.Reasons), err)
	}
}

// The text format of COPY doubles the backslashes of a JSON value.
func TestLinesOfCopy(t *testing.T) {
	t.Parallel()
	l := lines(t)
	line := strings.Replace(run1, `"b"`, `"\\"b\\""`, 1)
	if got, err := l.Import(t.Context(), strings.NewReader(line)); err != nil || got.Bad != 1 {
		t.Errorf("not as COPY: got %+v, %v, want a bad line", got, err)
	}
	l.Copied = true
	if got, err := l.Import(t.Context(), strings.NewReader(line)); err != nil || got.Runs != 1 {
		t.Errorf("as COPY: got %+v, %v, want one run", got, err)
	}
}

// An import that a reader ends in the middle says how far it came.
func TestAnImportThatIsCutSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	for n := range backfill.BatchSize {
		fmt.Fprintln(&file, strings.Replace(run1, "000000000001", fmt.Sprintf("%012d", n), 1))
	}
	cut := errors.New("cut")
	got, err := lines(t).Import(t.Context(), &cutReader{strings.NewReader(file.String()), cut})
	if !errors.Is(err, cut) || got.Runs != backfill.BatchSize {
		t.Errorf("got %d runs, %v; want %d and the reader's error", got.Runs, err, backfill.BatchSize)
	}
}

// cutReader ends with an error in place of EOF.
type cutReader struct {
	*strings.Reader
	err error
}

func (r *cutReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil {
		err = r.err
	}
	return n, err
}

var _ backfill.Mirror = (*sqlite.Store)(nil)
var _ backfill.Applier = store.Store(nil)
