package store_test

import (
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

func TestAFullAuditExplainsWhatIsWrongAndARecountCorrectsIt(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	m.mustInsert(t, 1, 3, store.Completed)
	m.mustSpoil(t, 2)
	a, err := store.AuditAll(t.Context(), m, m)
	if err != nil || !a.Wrong() || a.Keys != 3 || len(a.Drifts) != 1 || a.Drifts[0].Key.Ref != sweepID(2) {
		t.Fatalf("got %+v, %v; want one of three counts wrong", a, err)
	}
	if len(a.Causes) != 1 || a.Causes[0].Drift != a.Drifts[0] || a.Causes[0].Cause == "" || len(a.Causes[0].Runs) != 1 {
		t.Errorf("its cause: got %+v, want one with the run behind it", a.Causes)
	}
	if a.Totals != nil {
		t.Errorf("totals %+v are compared while a count is wrong", a.Totals)
	}
	done, err := store.RecountDrifting(t.Context(), m, time.Now)
	if err != nil || len(done) == 0 || done[0].Key != a.Drifts[0].Key || done[0].Before != a.Drifts[0].Stored || done[0].After != a.Drifts[0].Actual {
		t.Errorf("got %+v, %v; want the count as its run has it", done, err)
	}
	if a, err = store.AuditAll(t.Context(), m, m); err != nil || a.Wrong() {
		t.Errorf("afterwards: got %+v, %v; want nothing wrong", a, err)
	}
}
