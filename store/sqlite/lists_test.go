package sqlite

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestListsOfRunsAreFoundByIndexes(t *testing.T) {
	t.Parallel()
	s := mustOpen(t)
	user := storetest.MustID(0x0a, 17)
	for name, c := range map[string]struct {
		q    store.RunQuery
		plan string
	}{
		"active":                      {store.RunQuery{State: store.ActiveRuns}, "workflow_runs_active"},
		"active of a user":            {store.RunQuery{State: store.ActiveRuns, User: user}, "workflow_runs_active (user_id=?)"},
		"odd":                         {store.RunQuery{State: store.OddRuns}, "workflow_runs_odd"},
		"odd of a user":               {store.RunQuery{State: store.OddRuns, User: user}, "workflow_runs_odd"},
		"presumed":                    {store.RunQuery{State: store.PresumedRuns}, "workflow_runs_presumed"},
		"presumed, since a moment":    {store.RunQuery{State: store.PresumedRuns, In: store.Window{From: time.Unix(1, 0)}}, "workflow_runs_presumed (completed_at>?)"},
		"ended of a user":             {store.RunQuery{State: store.EndedRuns, User: user}, "workflow_runs_ended (user_id=?)"},
		"ended of a user in a status": {store.RunQuery{State: store.EndedRuns, User: user, Status: store.Failed}, "workflow_runs_ended (user_id=?)"},
	} {
		c.q.Limit = 51
		text, args, err := runsIn(c.q, true)
		if err != nil {
			t.Fatal(err)
		}
		if plan := planOf(t, s.reader, text, args...); !strings.Contains(plan, c.plan) {
			t.Errorf("%s is not found by %s:\n%s", name, c.plan, plan)
		}
	}
}

func TestAListThatTakesTooLongSaysSo(t *testing.T) {
	t.Parallel()
	s := mustOpen(t)
	q := store.RunQuery{State: store.ActiveRuns, Limit: 1, Within: 1}
	if _, err := s.SearchRuns(t.Context(), q); !errors.Is(err, store.ErrTooSlow) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("SearchRuns: got %v, want %v", err, store.ErrTooSlow)
	}
	if _, err := s.CountRuns(t.Context(), q); !errors.Is(err, store.ErrTooSlow) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("CountRuns: got %v, want %v", err, store.ErrTooSlow)
	}
}
