package webhook

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// TestCaseT9_TimesAreReadAsTheirTableHasThem: without an offset in its zone, and
// integers as what they count.
func TestCaseT9_TimesAreReadAsTheirTableHasThem(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	zoned := Decoder{Schema: "public", Table: "workflow_runs", Zone: berlin}
	millis := Decoder{Schema: "public", Table: "workflow_runs", Unit: time.Millisecond, LeaseColumn: "beat"}
	seconds := Decoder{Schema: "public", Table: "workflow_runs", Unit: time.Second}
	for _, tt := range []struct {
		decoder     Decoder
		value, want string // as completed_at has it, and as it is meant
	}{
		{Decoder{}, `"2026-01-01T10:00:00"`, "2026-01-01T10:00:00Z"},
		{zoned, `"2026-01-01T10:00:00"`, "2026-01-01T09:00:00Z"},
		{zoned, `"2026-07-01 10:00:00.123456"`, "2026-07-01T08:00:00.123456Z"},
		{zoned, `"2026-10-25T02:30:00"`, "2026-10-25T01:30:00Z"}, // an hour that comes twice
		{zoned, `"2026-03-29T02:30:00"`, "2026-03-29T01:30:00Z"}, // and one that never comes
		{zoned, `"2026-01-01T10:00:00+00:00"`, "2026-01-01T10:00:00Z"},
		{zoned, `"0001-01-01T00:00:00"`, "0001-01-01T00:00:00Z"},
		{zoned, `"9999-12-31T23:59:59"`, "0001-01-01T00:00:00Z"},
		{millis, `1769904000001`, "2026-02-01T00:00:00.001Z"},
		{millis, `0`, "1970-01-01T00:00:00Z"},
		{millis, `-1`, "1969-12-31T23:59:59.999Z"},
		{millis, `253370764799999`, "9998-12-31T23:59:59.999Z"},
		{millis, `253370764800000`, "0001-01-01T00:00:00Z"}, // none
		{millis, `-62135596800000`, "0001-01-01T00:00:00Z"},
		{millis, `9223372036854775808`, "0001-01-01T00:00:00Z"},
		{seconds, `1769904000`, "2026-02-01T00:00:00Z"},
		{seconds, `1769904000001`, "0001-01-01T00:00:00Z"},
	} {
		row, err := tt.decoder.Row(strings.NewReader(`{"id": 1, "user_id": 1, "workflow_id": 1, "status": "running", "beat": 1769904000001, "completed_at": ` + tt.value + `}`))
		if got := row.CompletedAt.Format(time.RFC3339Nano); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.value, got, err, tt.want)
		}
		if tt.decoder.LeaseColumn != "" && row.LeaseAt.UnixMilli() != 1769904000001 {
			t.Errorf("%s: a lease: got %s", tt.value, row.LeaseAt)
		}
	}
	var bad *BadDelivery
	_, err = zoned.Row(strings.NewReader(`{"id": 1, "user_id": 1, "workflow_id": 1, "status": "running", "completed_at": 1769904000001}`))
	if !errors.As(err, &bad) || !strings.Contains(bad.Error(), "say it with --times milliseconds or --times seconds") {
		t.Errorf("an integer of which nobody has said what it counts: got %v, want it refused with what to say", err)
	}
}

// TestCaseT5_TheBlanksOfACharAreNoPartOfAStatus, as they are none where its table is
// counted.
func TestCaseT5_TheBlanksOfACharAreNoPartOfAStatus(t *testing.T) {
	row, err := runs.Row(strings.NewReader(`{"id": 1, "user_id": 1, "workflow_id": 1, "status": "completed   ", "completed_at": "2026-01-01T10:00:00+00:00"}`))
	if err != nil || row.Status != store.Completed {
		t.Errorf("got %+v, %v; want it completed", row, err)
	}
}
