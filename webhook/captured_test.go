package webhook

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// The captured requests lead to what their table says in every order, each
// delivered one to three times, cut into batches anywhere.
func TestCapturedRequestsInEveryOrder(t *testing.T) {
	need.NoRaceDetector(t) // one goroutine, and much SQL
	t.Parallel()
	open := func(t testing.TB) store.Store {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "captured.db"), sqlite.Options{Volatile: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	storetest.Captured(t, open, func(body []byte) ([]store.Change, error) {
		d, err := Decoder{Schema: "public", Table: "workflow_runs"}.Decode(bytes.NewReader(body))
		return d.Changes, err
	})
}
