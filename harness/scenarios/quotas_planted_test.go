package scenarios

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// call is one thing that happens at the same time as others in the world of limits. ready
// tells the oracles of it, before the schedule begins.
type call struct {
	name  string
	ready func(y quotas, w *moments) func(ctx context.Context, s *session) error
	with  []harness.ActorOption
}

func calls(name string, do func(ctx context.Context, y quotas, s *session) error, with ...harness.ActorOption) call {
	return call{name, func(y quotas, _ *moments) func(ctx context.Context, s *session) error {
		return func(ctx context.Context, s *session) error { return do(ctx, y, s) }
	}, with}
}

// starts begins a run under a limit of its key, one of its user, or both.
func starts(run int64, of whose, key, user, from int64, with ...harness.ActorOption) call {
	return call{fmt.Sprintf("begins %d", run), func(y quotas, w *moments) func(ctx context.Context, s *session) error {
		a := w.begins(run, boundsOf(of, key, user, from)...)
		return func(ctx context.Context, s *session) error {
			began, err := y.begin(ctx, s, run, of, key, user, from)
			if err == nil {
				w.tell(a, began)
			}
			return err
		}
	}, with}
}

func finishing(run, as, at int64, with ...harness.ActorOption) call {
	return calls(fmt.Sprintf("completes %d", run), func(ctx context.Context, y quotas, s *session) error { return y.complete(ctx, s, run, as, at) }, with...)
}

// giving gives runs by an idempotency key, with which another call gives no more.
func giving(k int64, of whose, runs int64) call {
	return call{"grants", func(y quotas, w *moments) func(ctx context.Context, s *session) error {
		w.gives[[2]int64{of.user, k}] = runs
		return func(ctx context.Context, s *session) error { return y.grant(ctx, s, k, of, runs) }
	}, nil}
}

// reading asks for a number, of which said is the truth.
func reading(name string, ask func(ctx context.Context, y quotas, s *session) (any, error), said func(m moment) any) call {
	return call{name, func(y quotas, w *moments) func(ctx context.Context, s *session) error {
		return func(ctx context.Context, s *session) error {
			got, err := ask(ctx, y, s)
			if err == nil {
				w.read(fmt.Sprint(got), func(m moment) string { return fmt.Sprint(said(m)) })
			}
			return err
		}
	}, nil}
}

func counting1(of whose) call {
	return reading("counts", func(ctx context.Context, y quotas, s *session) (any, error) { return y.count(ctx, s, of) },
		func(m moment) any { return m.counted(of, 0, math.MaxInt64) })
}

func billing1(of whose, from, to int64) call {
	return reading("bills", func(ctx context.Context, y quotas, s *session) (any, error) { return y.window(ctx, s, of, from, to) },
		func(m moment) any { return m.counted(of, from, to) })
}

func asks(b bound) call {
	return reading("asks what is left", func(ctx context.Context, y quotas, s *session) (any, error) {
		used, granted, err := y.allowance(ctx, s, b)
		return [2]int64{used, granted}, err
	}, func(m moment) any { return [2]int64{m.used(b, anyRun), m.granted(b, false)} })
}

// given is a grant that there is from the beginning.
func given(of whose, runs, at int64) row { return row{of.user, int64(1), of.flow, runs, at, false} }

// sold is a world of limits, with what happens in it.
type sold struct {
	grants   []row
	presumed bool // run 1 has been given an end in October
	faults   []harness.Fault
	calls    []call
	ends     func(s *harness.Sim, m func() moment)
}

func (x sold) scene(y system) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := pg.NewReadCommitted(s, x.world(y.quotas), x.faults...)
		w := y.quotas.laws(s, db)
		for i, c := range x.calls {
			do, session := c.ready(y.quotas, w), db.Session()
			s.Go(fmt.Sprintf("%s · %d", c.name, i+1), func(ctx context.Context) error { return do(ctx, session) }, c.with...)
		}
		if x.ends != nil {
			x.ends(s, func() moment { return y.quotas.moment(db) })
		}
	}
}

func (x sold) world(y quotas) []pg.Table {
	w := y.world(x.grants...)
	for i := range w {
		if !x.presumed {
			break
		}
		switch t := &w[i]; t.Name {
		case "runs":
			t.Rows[0][status], t.Rows[0][completedAt] = failed, int64(95)
		case "ledger":
			t.Rows = append(t.Rows, row{int64(1), int64(1), int64(1)})
		case "months":
			t.Rows = append(t.Rows, row{int64(1), int64(1), int64(0), int64(1)})
		case "presumed":
			t.Rows = []row{{int64(1), int64(95)}}
		}
	}
	return w
}

// allBegin wants every call to have begun its run.
func allBegin(s *harness.Sim, m func() moment) {
	s.Eventually("what was granted is used, and used once", func() error {
		if n := m().used(bound{of: user1}, isNew); n != 2 {
			return fmt.Errorf("%d runs have begun; two were granted, and two asked for", n)
		}
		return nil
	})
}

// givenOnce compares what was given with what was asked for.
func (w *moments) givenOnce() error {
	asked := map[int64]int64{}
	for k, runs := range w.gives {
		asked[k[0]] += runs
	}
	for _, g := range w.all[0].grants {
		asked[g.of.user] += g.runs
	}
	for _, g := range w.all[len(w.all)-1].grants {
		if asked[g.of.user] -= g.runs; asked[g.of.user] < 0 {
			return errors.New("more was granted than was asked for")
		}
	}
	return nil
}

var quotaBugs = []bug{
	{"a user's limit whose counted and active runs are read by two statements, while a run of another workflow ends", func(y *system) { y.quotas.begin = beginLocking(allOf, usageInTwo) },
		sold{calls: []call{starts(5, key11, 9, 3, 0), finishing(2, completed, 100)}}.scene, "above a limit", false},
	{"a user's limit whose active runs are read before the counted ones, so that one that ends is in both", func(y *system) { y.quotas.begin = beginLocking(allOf, usageActiveFirst) },
		sold{calls: []call{starts(5, key11, 9, 4, 0), finishing(2, completed, 100)}}.scene, "no slot", false},
	{"a user's limit that is checked under the lock of one key", func(y *system) { y.quotas.begin = beginLocking(keyAlone, usage) },
		sold{calls: []call{starts(5, key11, 9, 4, 0), starts(6, key12, 9, 4, 0)}}.scene, "above a limit", false},
	{"two limits whose locks are taken in the order in which they are named", func(y *system) { y.quotas.begin = beginLocking(asNamed, usage) },
		sold{calls: []call{starts(5, key11, 9, 4, 0), starts(6, key11, 9, 4, 0)}}.scene, "", false},
	{"an allowance that is read by two statements", func(y *system) { y.quotas.allowance = allowanceInTwo },
		sold{calls: []call{asks(bound{of: user1, most: 3}), finishing(2, completed, 100)}}.scene, "one snapshot", false},
	{"a window that is read by two statements", func(y *system) { y.quotas.window = windowInTwo },
		sold{presumed: true, calls: []call{billing1(user1, 1, math.MaxInt64), finishing(1, completed, 100)}}.scene, "one snapshot", false},
	{"a grant that is looked up before it is given", func(y *system) { y.quotas.grant, y.quotas.grantedTwice = grantLookingFirst, true },
		sold{calls: []call{giving(7, user1, 2), giving(7, user1, 2)}}.scene, "granted once", false},
	{"a grant with a new idempotency key at each try, after a COMMIT whose outcome is unknown", func(y *system) { y.quotas.grant = grantDrawing },
		sold{faults: []harness.Fault{harness.LostBefore, harness.LostAfter}, calls: []call{giving(7, user1, 2), starts(5, key11, 0, 3, 0)}}.scene, "granted once", false},
	{"a grant that is used up by runs which are counted as well", func(y *system) { y.quotas.begin = beginLocking(allOf, usageAbsorbing) },
		sold{grants: []row{given(user1, 2, present)}, calls: []call{starts(5, key11, 0, 3, 0), starts(6, key12, 0, 3, 0)}, ends: allBegin}.scene, "used once", false},
	{"a grant that is used in two months", func(y *system) { y.quotas.begin = beginLocking(allOf, usageOfAllGrants) },
		sold{grants: []row{given(user1, 1, 60)}, calls: []call{starts(5, key11, 0, 2, november), finishing(2, completed, 100)}}.scene, "above a limit", false},
	{"a late completion that is counted in the month in which its run was last heard of", func(y *system) { y.quotas.window, y.quotas.complete = windowByMonths, completeByMonths(itsLastSign) },
		sold{calls: []call{billing1(user1, 1, november), finishing(1, completed, 100)}}.scene, "one snapshot", false},
	{"a presumed end in October that stays there when its run ends in November", func(y *system) { y.quotas.window, y.quotas.complete = windowByMonths, completeByMonths(itsEnd) },
		sold{presumed: true, calls: []call{billing1(user1, november, math.MaxInt64), finishing(1, completed, 100)}}.scene, "one snapshot", false},
	{"a hand-over between users whose months begin on other days", func(y *system) { y.quotas.window, y.quotas.handOver = windowByMonths, handOverByMonths },
		sold{calls: []call{billing1(user2, billing[2], math.MaxInt64), calls("hands over 3", func(ctx context.Context, y quotas, s *session) error { return y.handOver(ctx, s, 3, 2) })}}.scene, "one snapshot", false},
	{"a recount that sets a workflow's total", func(y *system) { y.quotas.recount = recountSetting },
		sold{calls: []call{
			calls("recounts user 1", func(ctx context.Context, y quotas, s *session) error { return y.recount(ctx, s, key11) }),
			calls("folds user 2", func(ctx context.Context, y quotas, s *session) error { return y.fold(ctx, s, whose{2, 1}) }),
		}}.scene, "law 1", false},
}
