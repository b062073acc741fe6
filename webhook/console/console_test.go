package console

import (
	"testing"
	"unsafe"

	"github.com/edgaze-ai/runcounter/store"
)

func TestTheConsoleTellsStatusesApart(t *testing.T) {
	t.Parallel()
	n := store.Tally{Completed: 1, Failed: 2, Cancelled: 3, Timeout: 4}
	rows := tallyRows(store.KeyHistory{Drift: store.Drift{Stored: store.Tallies{Ended: n}, Actual: store.Tallies{Ended: n}}})
	for _, row := range rows {
		want := map[store.Status]int64{store.Completed: 1, store.Failed: 2, store.Cancelled: 3, store.Timeout: 4}[row.Status]
		if row.Stored != want || row.Actual != want {
			t.Errorf("%s: got %+v, want %d", row.Status, row, want)
		}
	}
	if len(rows) != 4 {
		t.Errorf("got %d rows", len(rows))
	}
}

// The server reuses the memory of a request, and a stream keeps its key.
func TestAKeyOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	buffer := []byte("ada/workflow/w")
	key, err := parseKeyPath(unsafe.String(unsafe.SliceData(buffer), len(buffer)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range buffer {
		buffer[i] = 0xff
	}
	if want := (store.Key{User: mustID(t, "ada"), Kind: store.KindWorkflow, Ref: mustID(t, "w")}); key != want {
		t.Errorf("got %q, want %s", key.Kind, want)
	}
}

// TestAnAddressOfACountIsReadAsItIsWritten, whatever the ids hold.
func TestAnAddressOfACountIsReadAsItIsWritten(t *testing.T) {
	for _, key := range []store.Key{
		{User: mustID(t, "*"), Kind: store.KindWorkflow, Ref: mustID(t, "*")}, {User: store.Absent, Kind: store.KindDraft, Ref: mustID(t, "–")},
		{User: mustID(t, "a/b"), Kind: store.KindAll, Ref: store.Absent},
	} {
		if got, err := parseKeyPath(keyPath(key)); err != nil || got != key {
			t.Errorf("%s: got %+v, %v; want %+v", keyPath(key), got, err, key)
		}
	}
	for _, wrong := range []string{"a/all/b", "a/workflow/*", "*/*/*"} {
		if got, err := parseKeyPath(wrong); err == nil {
			t.Errorf("%s: got %+v, want an error", wrong, got)
		}
	}
}

func mustID(t *testing.T, s string) store.ID {
	t.Helper()
	id, err := store.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
