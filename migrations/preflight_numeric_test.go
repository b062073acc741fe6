package migrations

import (
	"testing"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestAShortNumericStopsOnlyThoseWhoWriteIt: a duration is written by what counts, unless
// the database generates it, and only read by what sends.
func TestAShortNumericStopsOnlyThoseWhoWriteIt(t *testing.T) {
	t.Parallel()
	catalog := func(duration watched.CatalogColumn) watched.Catalog {
		duration.Name, duration.Type = "duration_ms", "numeric"
		return watched.Catalog{Schema: "public", Name: "workflow_runs", Kind: "r", Unique: [][]string{{"id"}}, Columns: []watched.CatalogColumn{
			{Name: "id", Type: "uuid", Declared: "uuid", NotNull: true}, {Name: "user_id", Type: "uuid", Declared: "uuid"}, {Name: "workflow_id", Type: "uuid", Declared: "uuid"},
			{Name: "status", Type: "text", Declared: "text"}, {Name: "completed_at", Type: "timestamptz", Declared: "timestamp with time zone"}, duration,
		}}
	}
	for _, tt := range []struct {
		name     string
		duration watched.CatalogColumn
		counts   bool
	}{
		{"of any length", watched.CatalogColumn{Declared: "numeric"}, true},
		{"of ten digits", watched.CatalogColumn{Declared: "numeric(10,0)"}, true},
		{"of ten digits and a fraction", watched.CatalogColumn{Declared: "numeric(12,2)"}, true},
		{"of nine digits and a fraction", watched.CatalogColumn{Declared: "numeric(12,3)"}, false},
		{"of nine digits, generated", watched.CatalogColumn{Declared: "numeric(12,3)", Generated: true}, true},
		{"of nine digits, in a domain", watched.CatalogColumn{Declared: "public.millis", Domain: true, Base: "numeric(9,0)"}, false},
	} {
		c := catalog(tt.duration)
		if faults := understood(c, forCounting, watched.Overrides{}); (len(faults) == 0) != tt.counts {
			t.Errorf("%s: got %v by what counts, want understood %v", tt.name, faults, tt.counts)
		}
		if faults := understood(c, forSending, watched.Overrides{}); len(faults) != 0 {
			t.Errorf("%s: got %v by what sends, want it understood", tt.name, faults)
		}
	}
}
