package sqlite

import (
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestCaseT20_ASilentRunWithoutAUserIsEndedAsAnyOther(t *testing.T) {
	s := mustOpen(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	guest := store.Row{ID: storetest.MustID('2', 1), Workflow: storetest.MustID('c', 1), Status: store.Running, CreatedAt: at, UpdatedAt: at}
	if _, err := s.Apply(t.Context(), []store.Change{{Op: store.Insert, Record: guest}}, at); err != nil {
		t.Fatal(err)
	}
	got, err := s.FailStuck(t.Context(), store.FailStuck{Now: at.Add(time.Hour), Limits: store.DefaultLimits(), Max: 10})
	if err != nil || len(got) != 1 || got[0].Before.ID != guest.ID || !got[0].After.CompletedAt.Equal(at.Add(5*time.Minute)) {
		t.Errorf("FailStuck: got %+v, %v; want the run, five minutes after its last sign of life", got, err)
	}
}
