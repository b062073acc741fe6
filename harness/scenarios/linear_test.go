package scenarios

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

// told is what a caller who wants a run to end is answered. A nil answer is
// one that never came: the call may have taken effect.
type told struct {
	won    bool
	stands string // the outcome, where the answer names it
}

// firstWins is a run that ends once: its state is the outcome, its input the
// one that is asked for, or nothing where the run is only looked at.
var firstWins = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		was, asked := state.(string), input.(string)
		answer, answered := output.(told)
		is := was
		if was == "" {
			is = asked
		}
		switch {
		case !answered:
			return true, is
		case answer.stands != "" && answer.stands != is, asked == "" && answer.stands != was:
			return false, is
		}
		return answer.won == (was == "" && asked != ""), is
	},
}

// counter is a user who has one ended run, and ends others: its state is the
// set of those, its input the run to end, or 0 where the count is read. The
// output of both is the count.
var counter = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		ended := state.(uint64)
		if run := input.(int); run > 0 {
			ended |= 1 << run
		}
		n, answered := output.(int64)
		return !answered || n == int64(1+bits.OnesCount64(ended)), ended
	},
}

// linear is a scenario whose calls are held to a model, right or wrong.
type linear struct {
	name  string
	wrong bool
	scene func(*harness.Sim)
}

// ending has three callers who want run 1 to end, each in its own way, and one
// who looks at it.
func ending(ask func(ctx context.Context, st *sqlite.Store, status store.Status, minute int) (told, error)) func(*harness.Sim) {
	return func(s *harness.Sim) {
		m := newMirror(s)
		h := s.Linearizable("the first outcome wins", firstWins)
		for i, status := range []store.Status{store.Completed, store.Failed} {
			m.calls(h, string(status), fmt.Sprintf("%s@%d", status, 7+i), func(ctx context.Context, st *sqlite.Store) (any, error) {
				return ask(ctx, st, status, 7+i)
			})
		}
		m.calls(h, "looks", "", func(ctx context.Context, st *sqlite.Store) (any, error) {
			run, err := st.Run(ctx, runID(1))
			if err != nil || !run.Ended() {
				return told{}, err
			}
			return told{false, stands(run)}, err
		})
	}
}

// calls has an actor with a store of its own make one call.
func (m *mirror) calls(h *harness.History, name string, input any, do func(ctx context.Context, st *sqlite.Store) (any, error)) {
	st, err := m.open()
	if err != nil {
		panic(err)
	}
	m.sim.Go(name, func(ctx context.Context) error {
		return h.Call(input, func() (any, bool, error) {
			out, err := do(ctx, st)
			return out, false, err
		})
	})
}

func stands(run store.Run) string {
	return fmt.Sprintf("%s@%d", run.Status, int(run.CompletedAt.Sub(noon).Minutes()))
}

func asked(status store.Status, minute int) store.Completion {
	return store.Completion{ID: runID(1), Outcome: store.Outcome{Status: status}, Now: after(minute)}
}

func completeOnSQLite(ctx context.Context, st *sqlite.Store, status store.Status, minute int) (told, error) {
	r, err := st.Complete(ctx, asked(status, minute))
	return told{r.Won, stands(r.Run)}, err
}

// completeByALook tells who has won by a look before.
func completeByALook(ctx context.Context, st *sqlite.Store, status store.Status, minute int) (told, error) {
	was, err := st.Run(ctx, runID(1))
	if err != nil {
		return told{}, err
	}
	r, err := st.Complete(ctx, asked(status, minute))
	return told{!was.Ended(), stands(r.Run)}, err
}

// completeSayingItsOwn tells a loser the outcome that they asked for.
func completeSayingItsOwn(ctx context.Context, st *sqlite.Store, status store.Status, minute int) (told, error) {
	r, err := st.Complete(ctx, asked(status, minute))
	return told{r.Won, fmt.Sprintf("%s@%d", status, minute)}, err
}

// countingOnSQLite has run 1 end while a reader counts twice, and an administrator
// has run 3, which is counted, be one that failed.
func countingOnSQLite(count func(ctx context.Context, m *mirror, st *sqlite.Store) (int64, error)) func(*harness.Sim) {
	return func(s *harness.Sim) {
		m := newMirror(s)
		h := s.Linearizable("a count is that of the runs that have ended", counter)
		m.calls(h, "completes 1", 1, func(ctx context.Context, st *sqlite.Store) (any, error) {
			r, err := st.Complete(ctx, asked(store.Completed, 7))
			return r.Count.Count, err
		})
		office, err := m.open()
		if err != nil {
			panic(err)
		}
		s.Go("amends", func(ctx context.Context) error {
			_, err := office.Amend(ctx, store.AmendRequest{ID: runID(3), Status: store.Failed, Who: "support", Why: "it had", Now: after(7)})
			return err
		})
		st, err := m.open()
		if err != nil {
			panic(err)
		}
		s.Go("reads", func(ctx context.Context) error {
			for range 2 {
				err := h.Call(0, func() (any, bool, error) {
					n, err := count(ctx, m, st)
					return n, false, err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func countOnSQLite(ctx context.Context, _ *mirror, st *sqlite.Store) (int64, error) {
	c, err := st.Count(ctx, keyAda.Scope(), store.AllTime)
	return c.Count, err
}

// countOnSQLiteInTwo reads those that completed and those that failed by two
// statements.
func countOnSQLiteInTwo(ctx context.Context, m *mirror, _ *sqlite.Store) (total int64, err error) {
	db := m.db.Open()
	for _, status := range []store.Status{store.Completed, store.Failed} {
		var n int64
		err = errors.Join(err, db.QueryRowContext(ctx, `select coalesce(sum(n), 0) from counts where user_id = ? and status = ?`, ada.String(), string(status)).Scan(&n))
		total += n
	}
	return total, err
}

// endingOnModel has two callers who want run 1 to end, each in its own way,
// on the model.
func endingOnModel(y system) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := pg.NewReadCommitted(s, world())
		h := s.Linearizable("the first outcome wins", firstWins)
		for i, as := range []int64{completed, failed} {
			session := db.Session()
			s.Go(fmt.Sprintf("ends as %d", as), func(ctx context.Context) error {
				return h.Call(fmt.Sprint(as), func() (any, bool, error) {
					won, err := y.complete(ctx, session, 1, as, 90+int64(i))
					return told{won: won}, false, err
				})
			})
		}
	}
}

// countingOnModel has run 1 end while a reader counts twice, and the ledger is
// folded, on the model.
func countingOnModel(y system) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := pg.NewReadCommitted(s, world())
		h := s.Linearizable("a count is that of the runs that have ended", counter)
		worker, reader, folder := db.Session(), db.Session(), db.Session()
		s.Go("completes 1", func(ctx context.Context) error {
			return h.Call(1, func() (any, bool, error) {
				_, err := y.complete(ctx, worker, 1, completed, 90)
				return nil, false, err // which says nothing of the count
			})
		})
		s.Go("reads", func(ctx context.Context) error {
			for range 2 {
				err := h.Call(0, func() (any, bool, error) {
					n, err := y.count(ctx, reader, 1)
					return n, false, err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		s.Go("folds", func(ctx context.Context) error { return y.fold(ctx, folder, 1) })
	}
}

// with returns the system with a planted bug.
func with(plant func(y *system)) system {
	y := ours()
	plant(&y)
	return y
}

var linears = []linear{
	{"completions on SQLite", false, ending(completeOnSQLite)},
	{"completions that say who won by a look before", true, ending(completeByALook)},
	{"completions that tell a loser what they asked for", true, ending(completeSayingItsOwn)},
	{"counts on SQLite", false, countingOnSQLite(countOnSQLite)},
	{"counts read by two statements on SQLite", true, countingOnSQLite(countOnSQLiteInTwo)},
	{"completions on the model", false, endingOnModel(ours())},
	{"completions that decide before they lock", true, endingOnModel(with(func(y *system) { y.complete = completeLookingFirst }))},
	{"counts on the model", false, countingOnModel(ours())},
	{"counts read by two statements on the model", true, countingOnModel(with(func(y *system) { y.count = countInTwo }))},
}

// TestCallsAreLinearizable holds what callers are answered to one order of
// their calls, and finds each wrong version by just that.
func TestCallsAreLinearizable(t *testing.T) {
	t.Parallel()
	budget := 2000
	if need.Raced {
		budget = 100
	}
	for _, l := range linears {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			r := harness.Explore(t, l.scene, harness.WithStrategies(harness.Exhaustive(budget), harness.Random(budget/10)))
			switch f := r.Failure; {
			case !l.wrong && f != nil:
				t.Errorf("a false alarm:\n%s", r.Report)
			case !l.wrong && !r.Covered[0].Complete && !need.Raced:
				t.Errorf("not all orders: %s", r)
			case l.wrong && (f == nil || f.Kind != "linearizable"):
				t.Errorf("not found: %s\n%v", r, r.Report)
			case l.wrong:
				t.Logf("found after %d schedules: %s", r.After, f.Message)
			default:
				t.Log(r)
			}
		})
	}
}
