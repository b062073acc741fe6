package scenarios

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
)

// sentRun is a run of which the product hears by webhooks alone.
var sentRun = runID(11)

func sentRow(user store.ID, status store.Status, ended, updated int) store.Row {
	r := store.Row{ID: sentRun, User: user, Workflow: resize, Status: status, CreatedAt: noon, UpdatedAt: after(updated)}
	if ended > 0 {
		r.CompletedAt = after(ended)
	}
	return r
}

// sends are the changes of a run in the sender's order, and the row that the
// sender has in the end.
type sends struct {
	changes []store.Change
	last    store.Row // unset where it was deleted
}

// sent makes the changes of a run from its rows, one after the other.
func sent(rows ...store.Row) sends {
	s := sends{last: rows[len(rows)-1]}
	for i, r := range rows {
		switch {
		case i == 0:
			s.changes = append(s.changes, store.Change{Op: store.Insert, Record: r})
		case r.ID.IsZero():
			s.changes = append(s.changes, store.Change{Op: store.Delete, Old: rows[i-1], HasOld: true})
		default:
			s.changes = append(s.changes, store.Change{Op: store.Update, Old: rows[i-1], Record: r, HasOld: true})
		}
	}
	return s
}

var (
	sentAndHandedOver = sent(sentRow(ada, store.Pending, 0, 0), sentRow(ada, store.Completed, 3, 3), sentRow(bob, store.Completed, 3, 4))
	sentAndDeleted    = sent(sentRow(ada, store.Pending, 0, 0), sentRow(ada, store.Completed, 3, 3), store.Row{})
)

// deliveredTo has a sender with all habits of pg_net deliver to the product's
// store, each request to a process of its own, which has what it received in
// one transaction.
func deliveredTo(h sends) func(*harness.Sim) {
	ends := endings{}
	return func(s *harness.Sim) {
		m := newMirror(s)
		m.laws()
		arrived := map[int]bool{}
		requests := make([]harness.Request, len(h.changes))
		for i, c := range h.changes {
			requests[i] = harness.Request{Name: fmt.Sprintf("%s %d", c.Op, i+1), Receive: func(ctx context.Context) error {
				st, err := m.open()
				if err == nil {
					_, err = st.Apply(ctx, []store.Change{c}, after(9))
				}
				if err == nil {
					arrived[i] = true
				}
				return err
			}}
		}
		s.Deliver(requests, harness.PgNet...)
		inAnyOrder := func() error {
			state := store.State{ID: sentRun}
			for _, i := range slices.Sorted(maps.Keys(arrived)) {
				state = state.Learn(h.changes[i], after(9))
			}
			want := state.Row()
			if len(arrived) == len(h.changes) {
				want = h.last // whatever the rules say
			}
			gone := len(arrived) == 0 || !state.DeletedAt.IsZero()
			return m.has(want, gone)
		}
		ends.hold(s, func() string { return fmt.Sprint(arrived) + m.contents() }, []law{
			{"law 4: the order of deliveries doesn't matter", inAnyOrder},
			{"law 3: one full sweep leaves nothing to do", m.settled},
			{"law 5: what is already true is not written", m.quiet},
		})
		if need.Raced {
			return // a few schedules, in which nothing need get lost
		}
		s.Sometimes("everything arrived", func() bool { return len(arrived) == len(h.changes) })
		s.Sometimes("something was lost", func() bool { return len(arrived) < len(h.changes) })
	}
}

// has compares the run that was sent with what it should be.
func (m *mirror) has(want store.Row, gone bool) error {
	st, err := m.open()
	if err != nil {
		return err
	}
	got, err := st.Run(context.Background(), sentRun)
	switch {
	case gone && errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case gone || got.Status != want.Status || !got.CompletedAt.Equal(want.CompletedAt) || got.Key() != want.Key():
		return fmt.Errorf("got %s %s at %s, want %s %s at %s (deleted: %t)", got.Key(), got.Status, got.CompletedAt.Format(time.TimeOnly),
			want.Key(), want.Status, want.CompletedAt.Format(time.TimeOnly), gone)
	}
	return nil
}

// TestDeliveriesOnSQLite has the product's store receive what pg_net makes of
// a run's changes.
func TestDeliveriesOnSQLite(t *testing.T) {
	t.Parallel()
	n := 600
	if need.Raced {
		n = 40
	}
	for name, h := range map[string]sends{"handed over": sentAndHandedOver, "deleted": sentAndDeleted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := harness.Test(t, deliveredTo(h), harness.WithStrategies(harness.Exhaustive(2*n), harness.PCT(3, n/5), harness.Random(n/5)))
			if !need.Raced && r.Schedules() < n {
				t.Errorf("%d schedules, want at least %d", r.Schedules(), n)
			}
		})
	}
}
