package postgres

import (
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestADurationOfNumericIsReadInWholeMilliseconds, and none that is written stops a
// reader.
func TestADurationOfNumericIsReadInWholeMilliseconds(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, sourcetest.Installed(t), Options{})
	for value, want := range map[string]store.Millis{
		"0":             store.MillisOf(0),
		"12.999":        store.MillisOf(12),
		"120.0":         store.MillisOf(120),
		"1e3":           store.MillisOf(1000),
		"2147483647.9":  store.MillisOf(store.MaxMillis),
		"2147483648":    store.MillisOf(store.MaxMillis),
		"1e400":         store.MillisOf(store.MaxMillis),
		"Infinity":      store.MillisOf(store.MaxMillis),
		"-0.5":          {MS: -1, Valid: true},
		"-1e400":        {MS: -store.MaxMillis, Valid: true},
		"-Infinity":     {MS: -store.MaxMillis, Valid: true},
		"NaN":           {},
		"4.99999999999": store.MillisOf(4),
	} {
		var got store.Millis
		if err := s.pool.QueryRow(t.Context(), fmt.Sprintf(`select '%s'::numeric`, value)).Scan((*millis)(&got)); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", value, got, want)
		}
	}
	got := store.MillisOf(1)
	if err := s.pool.QueryRow(t.Context(), `select null::numeric`).Scan((*millis)(&got)); err != nil || got.Valid {
		t.Errorf("null: got %+v (%v), want null", got, err)
	}
}
