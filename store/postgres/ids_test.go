package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// A webhook or a call may name ids that a column of uuid can't hold: they are in
// no row, and keep nothing else from being told.
func TestCaseT4_AnIDThatIsNoUUIDIsInNoRow(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]storetest.Open{"with our migrations": open, "without": openBare} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			text, err := store.ParseID("auth0|5f7c8ec7")
			if err != nil {
				t.Fatal(err)
			}
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			key := store.KeyOf(storetest.MustID('a', 1), storetest.MustID('c', 1), store.ID{})
			ended := store.Row{ID: storetest.MustID('1', 1), User: key.User, Workflow: key.Ref, Status: store.Completed, CreatedAt: at, UpdatedAt: at, CompletedAt: at}
			b.Tell(t, at, store.Change{Op: store.Insert, Record: ended})
			for _, odd := range []store.Row{
				{ID: text, User: key.User, Workflow: key.Ref}, {ID: ended.ID, User: text, Workflow: key.Ref}, {ID: storetest.MustID('1', 2), User: key.User, Draft: text}, {ID: text, User: text, Draft: text},
			} {
				odd.Status, odd.UpdatedAt, odd.CompletedAt = store.Failed, at, at
				applied, err := b.Store.Apply(t.Context(), []store.Change{{Op: store.Insert, Record: odd}, {Op: store.Insert, Record: ended}, {Op: store.Delete, Old: odd, HasOld: true}}, at)
				if err != nil || len(applied) != 3 {
					t.Fatalf("Apply of %+v: got %+v, %v; want three answers", odd, applied, err)
				}
				for _, c := range append(applied[0].Counts, applied[1].Counts...) {
					if (c.Key == key) != (c.Count == 1) {
						t.Errorf("Apply of %+v: told that %s is %d", odd, c.Key, c.Count)
					}
				}
				begin := store.Begin{ID: odd.ID, User: odd.User, Workflow: odd.Workflow, Draft: odd.Draft, Now: at}
				if _, err := b.Store.Begin(t.Context(), begin); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), `"auth0|5f7c8ec7"`) {
					t.Errorf("Begin of %+v: got %v, want ErrInvalid that names the id", odd, err)
				}
			}
		})
	}
}
