package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	lite "github.com/edgaze-ai/runcounter/harness/sqlite"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

var (
	ada    = storetest.MustID('a', 1)
	bob    = storetest.MustID('b', 1)
	resize = storetest.MustID('c', 1)
	noon   = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	keyAda = store.KeyOf(ada, resize, store.ID{})
)

func runID(n int) store.ID { return storetest.MustID('1', n) }

func after(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

// mirror is the product's SQLite store below the harness: every actor has one
// of its own on the same file, as processes have. The oracles look by SQL of
// their own.
type mirror struct {
	sim  *harness.Sim
	db   *lite.Database
	look *sql.DB
}

func newMirror(s *harness.Sim) *mirror {
	m := &mirror{sim: s, db: lite.New(s, lite.Config{WAL: true, Setup: func(path string, _ *sql.DB) error {
		st, err := sqlite.Open(context.Background(), path, sqlite.Options{Volatile: true})
		if err != nil {
			return err
		}
		return errors.Join(begun(st), st.Close())
	}})}
	m.look = m.db.Open()
	m.look.SetMaxOpenConns(1)
	return m
}

// backend is what the programs of the scenarios call, on either engine.
type backend interface {
	store.Store
	store.Maintainer
}

// begun leaves run 1 running, run 2 pending, and run 3 completed.
func begun(st backend) error {
	ctx := context.Background()
	limit := int64(10)
	for n := 1; n <= 3; n++ {
		if _, err := st.Begin(ctx, store.Begin{ID: runID(n), User: ada, Workflow: resize, Limits: store.UpTo(limit), Now: noon}); err != nil {
			return err
		}
	}
	if _, err := st.Start(ctx, runID(1), after(1)); err != nil {
		return err
	}
	_, err := st.Complete(ctx, store.Completion{ID: runID(3), Outcome: store.Outcome{Status: store.Completed}, Now: after(2)})
	return err
}

func (m *mirror) open() (*sqlite.Store, error) {
	st, err := sqlite.Open(context.Background(), m.db.Path(), sqlite.Options{KeepSchema: true, Connector: m.db.Connector})
	if err == nil {
		m.sim.OnEnd(func() { _ = st.Close() })
	}
	return st, err
}

// act is one thing that a process does with the store.
type act struct {
	name string
	do   func(ctx context.Context, st backend) error
	with []harness.ActorOption
}

func row1(status store.Status, at time.Time, updated time.Time) store.Row {
	return store.Row{ID: runID(1), User: ada, Workflow: resize, Status: status, CreatedAt: noon, StartedAt: after(1), UpdatedAt: updated, CompletedAt: at}
}

var webhookDone = []store.Change{{Op: store.Update, HasOld: true, Old: row1(store.Running, time.Time{}, after(1)), Record: row1(store.Completed, after(8), after(8))}}

func apply(changes ...store.Change) func(ctx context.Context, st backend) error {
	return func(ctx context.Context, st backend) error {
		_, err := st.Apply(ctx, changes, after(9))
		return err
	}
}

func ends(status store.Status, minute int) func(ctx context.Context, st backend) error {
	return func(ctx context.Context, st backend) error {
		_, err := st.Complete(ctx, store.Completion{ID: runID(1), Outcome: store.Outcome{Status: status}, Now: after(minute)})
		return err
	}
}

var acts = []act{
	{"begin", func(ctx context.Context, st backend) error {
		limit := int64(4)
		_, err := st.Begin(ctx, store.Begin{ID: runID(4), User: ada, Workflow: resize, Limits: store.UpTo(limit), IdempotencyKey: "again", Now: after(7)})
		return err
	}, nil},
	{"start", func(ctx context.Context, st backend) error {
		_, err := st.Start(ctx, runID(2), after(7))
		return err
	}, nil},
	{"complete", ends(store.Completed, 7), nil},
	{"complete differently", ends(store.Failed, 7), nil},
	{"late running", apply(store.Change{Op: store.Update, HasOld: true, Old: row1(store.Pending, time.Time{}, noon), Record: row1(store.Running, time.Time{}, after(10))}), nil},
	{"hand over", apply(store.Change{Op: store.Update, HasOld: true, Old: row1(store.Running, time.Time{}, after(1)), Record: func() store.Row {
		r := row1(store.Running, time.Time{}, after(6))
		r.User = bob
		return r
	}()}), nil},
	{"delete", apply(store.Change{Op: store.Delete, HasOld: true, Old: row1(store.Running, time.Time{}, after(1))}), nil},
	{"amend", func(ctx context.Context, st backend) error {
		_, err := st.Amend(ctx, store.AmendRequest{ID: runID(3), Status: store.Cancelled, Who: "an administrator", Why: "a refund", Now: after(7)})
		return err
	}, nil},
	{"deliver", apply(webhookDone...), nil},
	{"deliver again", func(ctx context.Context, st backend) error {
		if err := apply(webhookDone...)(ctx, st); err != nil {
			return err
		}
		return apply(webhookDone...)(ctx, st)
	}, nil},
	{"sweep", func(ctx context.Context, st backend) error {
		_, err := st.FailStuck(ctx, store.FailStuck{Now: after(30), Limits: store.DefaultLimits(), Max: 10})
		return err
	}, nil},
	{"fold", func(ctx context.Context, st backend) error {
		_, err := st.Fold(ctx, after(7), 100)
		return err
	}, nil},
	{"recount", func(ctx context.Context, st backend) error {
		_, err := st.Recount(ctx, keyAda, after(7))
		return err
	}, nil},
	{"audit", func(ctx context.Context, st backend) error {
		a, err := st.Audit(ctx, store.Audit{Max: 10})
		if err == nil && len(a.Drifts) > 0 {
			err = fmt.Errorf("the audit found %+v", a.Drifts)
		}
		return err
	}, nil},
	{"crash and restart", ends(store.Completed, 7), []harness.ActorOption{harness.Restarts()}},
}

// answered takes ErrNotFound for an answer and no failure: the run was deleted.
func answered(err error) error {
	if err != nil && strings.Contains(err.Error(), store.ErrNotFound.Error()) {
		return nil
	}
	return err
}

// atOnce runs acts at the same time on the product's store, and then holds
// what they left to the laws of the end.
func atOnce(list ...act) func(*harness.Sim) {
	ends := endings{}
	return func(s *harness.Sim) {
		m := newMirror(s)
		m.laws()
		told := make([]bool, len(list))
		for i, a := range list {
			st, err := m.open()
			if err != nil {
				panic(err)
			}
			s.Go(fmt.Sprintf("%s %d", a.name, i+1), func(ctx context.Context) error {
				err := a.do(ctx, st)
				told[i] = err == nil
				return answered(err)
			}, a.with...)
		}
		ends.hold(s, func() string { return fmt.Sprint(told) + m.contents() }, []law{
			{"law 6: what was answered is there", func() error { return m.durable(list, told) }},
			{"law 4: a webhook that arrives again changes nothing", m.deliversAgain},
			{"law 3: one full sweep leaves nothing to do", m.settled},
			{"law 5: what is already true is not written", m.quiet},
		})
	}
}

// TestEveryPairOnSQLite runs any two acts at once on the product's SQLite
// store, in all orders of their statements that matter.
func TestEveryPairOnSQLite(t *testing.T) {
	pairSchedulesOnSQLite.each(t, actNames(), !need.Raced, func(t *testing.T, i int, shared harness.Option) (total int) {
		for j := i; j < len(acts); j++ {
			if leftOut(i + j) {
				continue
			}
			total += passes(t, acts[i].name+" and "+acts[j].name, atOnce(acts[i], acts[j]), shared, harness.Exhaustive(most()))
		}
		return total
	})
}

// TestEveryTripleOnSQLite runs any three acts at once, in all orders of their
// statements that matter, which are fewer than those with two preemptions:
// SQLite's writers take turns.
func TestEveryTripleOnSQLite(t *testing.T) {
	tripleSchedulesOnSQLite.each(t, actNames(), wholeTriples(t), func(t *testing.T, i int, shared harness.Option) (total int) {
		triples(i, len(acts), func(n, j, k int) {
			if leftOutOfTriples(n) {
				return
			}
			total += passes(t, acts[i].name+", "+acts[j].name+" and "+acts[k].name,
				atOnce(acts[i], acts[j], acts[k]), shared, harness.Exhaustive(most()))
		})
		return total
	})
}

func actNames() (names []string) {
	for _, a := range acts {
		names = append(names, a.name)
	}
	return names
}

var (
	pairSchedulesOnSQLite = schedules{ // 455
		"begin":                42,
		"start":                40,
		"complete":             38,
		"complete differently": 36,
		"late running":         34,
		"hand over":            32,
		"delete":               29,
		"amend":                28,
		"deliver":              26,
		"deliver again":        43,
		"sweep":                43,
		"fold":                 17,
		"recount":              15,
		"audit":                12,
		"crash and restart":    20,
	}
	tripleSchedulesOnSQLite = schedules{ // 14,968
		"begin":                1808,
		"start":                1658,
		"complete":             1461,
		"complete differently": 1333,
		"late running":         1254,
		"hand over":            1123,
		"delete":               932,
		"amend":                916,
		"deliver":              778,
		"deliver again":        1749,
		"sweep":                1316,
		"fold":                 238,
		"recount":              178,
		"audit":                110,
		"crash and restart":    114,
	}
)
