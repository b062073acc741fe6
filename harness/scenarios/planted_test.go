package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/internal/need"
)

// A scene is a scenario with its oracles, for the system as it is and for one
// with a planted bug in it.
type scene func(y system) func(*harness.Sim)

// beside runs deeds at the same time in the usual world.
func beside(list ...deed) scene {
	return func(y system) func(*harness.Sim) { return together(y, list...) }
}

func does(name string, do func(ctx context.Context, y system, s *session) error, with ...harness.ActorOption) deed {
	return deed{name, do, with}
}

func completes(run, as, at int64, with ...harness.ActorOption) deed {
	return does(fmt.Sprintf("completes %d", run), func(ctx context.Context, y system, s *session) error {
		_, err := y.complete(ctx, s, run, as, at)
		return err
	}, with...)
}

var (
	folds    = does("fold", func(ctx context.Context, y system, s *session) error { return y.fold(ctx, s, 1) })
	recounts = does("recount", func(ctx context.Context, y system, s *session) error { return y.recount(ctx, s, 1) })
	sweeps   = does("sweep", func(ctx context.Context, y system, s *session) error { return y.sweep(ctx, s) })
	hands    = does("hands over", func(ctx context.Context, y system, s *session) error { return y.handOver(ctx, s, 1, 2) })
	removes  = does("deletes", func(ctx context.Context, y system, s *session) error { return y.remove(ctx, s, 1) })
	delivers = does("delivers", func(ctx context.Context, y system, s *session) error { return y.deliver(ctx, s, 1, failed, 80) })
)

// in runs deeds at once in a world of their own, under laws 1 and 2.
func in(world func() []pg.Table, list ...deed) scene { return on(nil, world, list...) }

// unsure is in, on a server whose connections break during COMMIT.
func unsure(world func() []pg.Table, list ...deed) scene {
	return on([]harness.Fault{harness.LostBefore, harness.LostAfter}, world, list...)
}

func on(faults []harness.Fault, world func() []pg.Table, list ...deed) scene {
	return func(y system) func(*harness.Sim) {
		return func(s *harness.Sim) {
			db := pg.NewReadCommitted(s, world(), faults...)
			laws(s, db)
			for i, d := range list {
				session := db.Session()
				s.Go(fmt.Sprintf("%s %d", d.name, i+1), func(ctx context.Context) error { return d.do(ctx, y, session) }, d.with...)
			}
		}
	}
}

// counted is a world in which everything is in the counts, and the ledger is
// empty.
func counted() []pg.Table {
	w := world()
	w[1].Rows = []row{{int64(1), int64(1)}}
	w[2].Rows = nil
	return w
}

// uncounted is one in which the key of runs 4 and 5 has no row in counts.
func uncounted() []pg.Table {
	w := counted()
	w[0].Rows = append(w[0].Rows, row{int64(5), int64(2), running, nil, int64(99)})
	return w
}

// presumedWorld is one in which a sweep has given run 1 an outcome.
func presumedWorld() []pg.Table {
	w := world()
	w[0].Rows[0] = row{int64(1), int64(1), failed, int64(15), int64(10)}
	w[2].Rows = append(w[2].Rows, row{int64(1), int64(1)})
	w[3].Rows = []row{{int64(1), int64(15)}}
	return w
}

// zeros is one in which user 2 has a row of zeros.
func zeros() []pg.Table {
	w := counted()
	w[1].Rows = append(w[1].Rows, row{int64(2), int64(0)})
	return w
}

var twoOfAKey = in(counted, completes(1, completed, 90), completes(2, completed, 91))

// limits lets two calls begin a run where one slot is left.
func limits(y system) func(*harness.Sim) {
	return func(s *harness.Sim) { limited(s, y) }
}

// limitsWhileOneEnds has a run of the key end beside them (case T27).
func limitsWhileOneEnds(y system) func(*harness.Sim) {
	return func(s *harness.Sim) {
		session := limited(s, y).Session()
		s.Go("ends 2", func(ctx context.Context) error {
			_, err := y.complete(ctx, session, 2, completed, 90)
			return err
		})
	}
}

// limited has two calls begin a run where one slot of four is left.
func limited(s *harness.Sim, y system) *pg.ReadCommitted {
	db := pg.NewReadCommitted(s, world())
	laws(s, db)
	taken := func() (n int) {
		for _, r := range db.Rows("runs") {
			if r[user] == int64(1) {
				n++
			}
		}
		return n
	}
	s.Always("no more runs than the limit", func() error {
		if n := taken(); n > 4 {
			return fmt.Errorf("user 1 has %d runs, and may have 4", n)
		}
		return nil
	})
	s.Eventually("no slot of the limit is left", func() error {
		if n := taken(); n < 4 {
			return fmt.Errorf("user 1 has %d runs, and two calls asked for the fourth", n)
		}
		return nil
	})
	for i := range int64(2) {
		session := db.Session()
		s.Go(fmt.Sprintf("begins %d", i+5), func(ctx context.Context) error {
			_, err := y.begin(ctx, session, i+5, 1, 4)
			return err
		})
	}
	return db
}

// reads has a reader beside a fold: the count is 1 all the time.
func reads(y system) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := pg.NewReadCommitted(s, world())
		laws(s, db)
		folder, reader := db.Session(), db.Session()
		s.Go("fold", func(ctx context.Context) error { return y.fold(ctx, folder, 1) })
		s.Go("reader", func(ctx context.Context) error {
			n, err := y.count(ctx, reader, 1)
			if err == nil && n != 1 {
				err = fmt.Errorf("it read %d, and the count is 1 all the time", n)
			}
			return err
		})
	}
}

// finishes has a worker that ends a run and must find it ended and counted.
func finishes(y system) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := pg.NewReadCommitted(s, world())
		laws(s, db)
		worker, other := db.Session(), db.Session()
		s.Go("worker", func(ctx context.Context) error {
			_, err := y.complete(ctx, worker, 2, completed, 90)
			return err
		}, harness.Needed())
		s.Go("fold", func(ctx context.Context) error { return y.fold(ctx, other, 1) })
		s.Eventually("a run whose worker has finished has ended", func() error {
			for _, r := range db.Rows("runs") {
				if r[id] == int64(2) && !ended(r) {
					return errors.New("run 2 is " + outcomeOf(r))
				}
			}
			return nil
		})
	}
}

// crossing hands a run of each user to the other.
func crossing(y system) func(*harness.Sim) {
	return in(world,
		does("hands 3 to 2", func(ctx context.Context, y system, s *session) error { return y.handOver(ctx, s, 3, 2) }),
		does("hands 4 to 1", func(ctx context.Context, y system, s *session) error { return y.handOver(ctx, s, 4, 1) }))(y)
}

// bug is one planted bug.
type bug struct {
	name   string
	plant  func(y *system)
	scene  scene
	oracle string // part of the name of what must fail

	onSQLite bool
}

func counting(how func(ctx context.Context, s *session, of int64) error) func(*system) {
	return func(y *system) { *y = completing(*y, how) }
}

var bugs = []bug{
	{"a counter that is read, and then written", counting(readModifyWrite), twoOfAKey, "law 1", false},
	{"an upsert with (select count(*))", counting(upsertCount), twoOfAKey, "law 1", false},
	{"an update with a subselect", counting(updateWithSubselect), twoOfAKey, "law 1", false},
	{"lock and count in one statement", counting(lockAndCountAtOnce), twoOfAKey, "law 1", false},
	{"an advisory lock in the same statement", counting(advisoryAtOnce), twoOfAKey, "law 1", false},
	{"a lock on a row that is missing", counting(lockMissingRow), in(uncounted, completes(4, completed, 90), completes(5, completed, 91)), "law 1", false},
	{"a completion without a guard on the status", func(y *system) { y.complete = completeUnguarded }, beside(completes(1, completed, 90), completes(1, failed, 91)), "law", false},
	{"completed_at of the first and status of the last, as in the old complete_workflow_run_and_get_count", func(y *system) { y.complete = completeKeepingTime },
		in(counted, completes(1, completed, 90), completes(1, failed, 91)), "law 2", false},
	{"a count stored without a lock, as in the old complete_workflow_run_and_get_count", func(y *system) { y.complete = completeKeepingTime }, twoOfAKey, "law 1", false},
	{"a function that always raises, as the old complete_workflow_run", func(y *system) { y.complete = completeRaising }, finishes, "has ended", false},
	{"a completion that decides before it locks", func(y *system) { y.complete = completeLookingFirst }, beside(completes(1, completed, 90), completes(1, failed, 91)), "law", false},
	{"a presumed outcome that is counted again", func(y *system) { y.complete = completePostingAlways }, in(presumedWorld, completes(1, completed, 90), folds), "law 1", false},
	{"a ledger written in a transaction of its own", func(y *system) { y.complete = completeThenPost }, beside(completes(1, completed, 90), folds), "law 1", false},
	{"a retry of what is not idempotent, after a COMMIT whose outcome is unknown", func(y *system) { y.complete = completeRetrying }, unsure(world, completes(1, completed, 90), folds), "law 1", false},
	{"a late running without the guard", func(y *system) { y.late = lateUnguarded },
		beside(completes(1, completed, 90), does("late running", func(ctx context.Context, y system, s *session) error { return y.late(ctx, s, 1) })), "", false},
	{"a user who sets their own run back, as the old policies let them", func(y *system) { y.late = lateReopening },
		beside(completes(1, completed, 90), does("late running", func(ctx context.Context, y system, s *session) error { return y.late(ctx, s, 1) })), "law", false},
	{"a run inserted ended keeps completed_at null, as in the old system", func(y *system) { y.insert = insertWithoutTime },
		beside(does("inserts", func(ctx context.Context, y system, s *session) error { return y.insert(ctx, s, 7, 1, completed) }), folds), "completed_at", false},
	{"a hand-over that tells the new key alone", func(y *system) { y.handOver = handOverNewKeyAlone }, beside(completes(1, completed, 90), hands), "law 1", false},
	{"a hand-over by what it read before it waited", func(y *system) { y.handOver = handOverLookingFirst }, beside(completes(1, completed, 90), hands), "law 1", false},
	{"two locks in two orders", func(y *system) { y.handOver = handOverTwoLocks }, crossing, "", false},
	{"a delete that gives back what it read before it waited", func(y *system) { y.remove = removeLookingFirst }, beside(completes(1, completed, 90), removes), "law 1", false},
	{"a webhook's outcome restored by an earlier look", func(y *system) { y.deliver = deliverUnguarded }, beside(completes(1, completed, 90), delivers), "law", false},
	{"a reaper that selects, and then updates without a guard", func(y *system) { y.sweep = sweepUnguarded }, beside(completes(1, completed, 90), sweeps), "law", false},
	{"a fold that deletes what it did not sum", func(y *system) { y.fold = foldDeletingMore }, beside(completes(1, completed, 90), folds), "law 1", false},
	{"a fold that takes the ledger before the key", func(y *system) { y.fold = foldLedgerFirst }, beside(folds, recounts), "", false},
	{"a fold that reads the count, and then writes it", func(y *system) { y.fold = foldUnlocked }, beside(folds, folds), "law 1", false},
	{"a fold that commits the sum before it deletes", func(y *system) { y.fold = foldInTwo }, beside(folds, does("audit", func(ctx context.Context, y system, s *session) error { return y.audit(ctx, s) })), "law 1", false},
	{"a recount without the key's lock", func(y *system) { y.recount = recountUnlocked }, beside(completes(1, completed, 90), folds, recounts), "", false},
	{"a recount that drops the ledger in one statement and counts in the next", func(y *system) { y.recount = recountInTwo }, beside(completes(1, completed, 90), recounts), "law 1", false},
	{"a prune by an earlier look", func(y *system) { y.prune = pruneByAnEarlierLook },
		in(zeros, completes(4, completed, 90),
			does("fold", func(ctx context.Context, y system, s *session) error { return y.fold(ctx, s, 2) }),
			does("prune", func(ctx context.Context, y system, s *session) error { return y.prune(ctx, s, 2) })), "law 1", false},
	{"a count read by two statements", func(y *system) { y.count = countInTwo }, reads, "reader", false},
	{"a limit that is checked before the start", func(y *system) { y.begin = beginUnlocked }, limits, "limit", false},
	{"a limit that is counted by two statements, while a run ends", func(y *system) { y.begin = beginInTwo }, limitsWhileOneEnds, "limit", false},
	{"a limit that forgets the active runs", func(y *system) { y.begin = beginCountingEnded }, limits, "limit", false},
	{"a count that is pushed by webhooks, deduplicated by a look before", func(y *system) { y.receive = receiveLookingFirst }, pushed, "counted once", false},
	{"a webhook that is marked as seen before it is counted", func(y *system) { y.receive = receiveMarkingFirst }, pushedByACrasher, "counted once", false},
	{"a window of seen webhooks that is too short", func(y *system) { y.receive, y.forget = receiveOnce, forgetSeen }, pushed, "counted once", false},
	{"a cursor on a sequence, that misses a late commit", func(y *system) { y.poll = pollBySequence }, polled, "each event", false},
	{"a cursor on updated_at, that misses a late commit", func(y *system) { y.poll = pollByTime }, polled, "each event", false},
}

// budgets are what each strategy may spend on a bug. A schedule on SQLite
// costs as much as five on the model.
func (b bug) budgets() []harness.Strategy {
	n := 2000
	if b.onSQLite {
		n = 150
	}
	if need.Raced {
		n = 20
	}
	return []harness.Strategy{harness.Exhaustive(10 * n), harness.Preemptions(2, 10*n), harness.Random(n), harness.PCT(3, n)}
}

// raisesNoAlarm explores the correct code in the same scene.
func (b bug) raisesNoAlarm(t *testing.T) {
	t.Helper()
	for _, strategy := range b.budgets() {
		if r := harness.Explore(t, b.scene(ours()), harness.WithStrategies(strategy)); r.Failure != nil {
			t.Errorf("a false alarm on the correct code:\n%s", r.Report)
		}
	}
}

// TestTheReadmeSaysHowManyBugsArePlanted keeps its number right.
func TestTheReadmeSaysHowManyBugsArePlanted(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("# %d planted bugs", len(bugs)+len(quotaBugs)+len(miniBugs)); !strings.Contains(string(readme), want) {
		t.Errorf("README.md doesn't say %q", want)
	}
}

// TestPlantedBugs finds every planted bug by the oracle that the correct code
// passes in the same scene with the same budgets.
func TestPlantedBugs(t *testing.T) {
	t.Parallel()
	board := []string{fmt.Sprintf("%-86s %10s %10s %8s %8s  %-44s %5s %8s", "planted bug", "all orders", "≤2 preempt", "random", "PCT(3)", "oracle", "steps", "switches")}
	for _, b := range slices.Concat(bugs, quotaBugs, miniBugs) {
		t.Run(b.name, func(t *testing.T) {
			y := ours()
			b.plant(&y)
			line := fmt.Sprintf("%-86s", b.name)
			var first *harness.Result
			for _, strategy := range b.budgets() {
				r := harness.Explore(t, b.scene(y), harness.WithStrategies(strategy))
				after := "-"
				if r.Failure != nil {
					after = fmt.Sprint(r.After)
					if first == nil {
						first = r
					}
				}
				line += fmt.Sprintf(" %10s", after)
			}
			if first == nil {
				t.Fatal("not found")
			}
			if first.Found != b.budgets()[0].String() {
				t.Errorf("not found among all orders, but by %s", first.Found)
			}
			f := first.Report.Failure
			if !strings.Contains(f.Oracle+" "+f.Kind, b.oracle) || first.Report.Again != 3 {
				t.Errorf("found by %s %q, reproduced %d of 3; want %q\n%s", f.Kind, f.Oracle, first.Report.Again, b.oracle, first.Report)
			}
			line += fmt.Sprintf("  %-44s %5d %8d", f.Kind+" "+f.Oracle, len(first.Report.Steps), first.Report.Switches)
			board = append(board, line)
			if !b.onSQLite { // whose few scenes stand below
				b.raisesNoAlarm(t)
			}
		})
	}
	for _, strategy := range (bug{}).budgets() { // the count beside the wrong ones
		y := completing(ours(), makeLockCount)
		if r := harness.Explore(t, twoOfAKey(y), harness.WithStrategies(strategy)); r.Failure != nil {
			t.Errorf("a false alarm on a count under the key's lock:\n%s", r.Report)
		}
	}
	for _, scene := range []scene{delivered(handedOver), delivered(overwritten), delivered(deleted), resent, resentUnsure} {
		bug{scene: scene, onSQLite: true}.raisesNoAlarm(t)
	}
	if len(bugs) < 25 {
		t.Errorf("%d planted bugs, want at least 25", len(bugs))
	}
	t.Log("\n" + strings.Join(board, "\n"))
}
