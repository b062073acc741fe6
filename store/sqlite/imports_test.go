package sqlite

import (
	"testing"
	"time"
)

func TestImportMarksStandApart(t *testing.T) {
	s, ctx := mustOpen(t), t.Context()
	look := func(source string, want ImportMark, wantFound bool) {
		t.Helper()
		if got, found, err := s.ImportMark(ctx, source); got != want || found != wantFound || err != nil {
			t.Errorf("%s: got %+v, %t, %v; want %+v, %t", source, got, found, err, want, wantFound)
		}
	}
	begun := time.Date(2026, 1, 31, 12, 0, 0, 1000, time.UTC)
	one := ImportMark{BegunAt: begun, After: "00000000-0000-4000-8000-000000000001", Taken: 1}
	two := ImportMark{BegunAt: begun, After: "00000000-0000-4000-8000-000000000009", Taken: 9, Bad: 2}
	look("a", ImportMark{}, false)
	for _, keep := range []struct {
		source string
		mark   ImportMark
	}{{"a", one}, {"b", one}, {"a", two}} {
		if err := s.KeepImportMark(ctx, keep.source, keep.mark); err != nil {
			t.Fatal(err)
		}
	}
	look("a", two, true)
	look("b", one, true)
	for range 2 {
		if err := s.DropImportMark(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	look("a", ImportMark{}, false)
	look("b", one, true)
}
