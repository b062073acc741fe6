package scenarios

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// What follows is the world of limits on the product's stores. Minutes since noon are the
// time of its moments; a month begins at turn.
const (
	turn  = 60
	today = 119
)

var (
	trim    = storetest.MustID('c', 2)
	keyTrim = store.KeyOf(ada, trim, store.ID{})
	keyBob  = store.KeyOf(bob, resize, store.ID{})

	users     = map[string]int64{ada.String(): 1, bob.String(): 2}
	workflows = map[string]int64{resize.String(): 1, trim.String(): 2}
)

// granting is a backend whose limits grants raise.
type granting interface {
	backend
	store.Granter
}

// soldBefore leaves ada's runs 1 and 2 active, one of them silent since the last month, 3
// ended in that, and one of bob's, 4, ended in this; and a grant of one run to ada.
func soldBefore(st granting) error {
	ctx := context.Background()
	for n, b := range []struct {
		key    store.Key
		minute int
	}{{keyAda, 0}, {keyTrim, 118}, {keyAda, 0}, {keyBob, 50}} {
		if _, err := st.Begin(ctx, store.Begin{ID: runID(n + 1), User: b.key.User, Workflow: b.key.Ref, Now: after(b.minute)}); err != nil {
			return err
		}
	}
	if _, err := st.Start(ctx, runID(1), after(1)); err != nil {
		return err
	}
	for run, minute := range map[int]int{3: 2, 4: 61} {
		if _, err := st.Complete(ctx, completion(run, store.Completed, minute)); err != nil {
			return err
		}
	}
	_, err := st.Grant(ctx, grantOf(store.Key{User: ada}, "before"))
	return err
}

func completion(run int, status store.Status, minute int) store.Completion {
	return store.Completion{ID: runID(run), Outcome: store.Outcome{Status: status}, Now: after(minute)}
}

func grantOf(of store.Key, idempotencyKey string) store.GrantRequest {
	return store.GrantRequest{User: of.User, Workflow: of.Ref, Runs: 1, Who: "support", Why: "a bad week", IdempotencyKey: idempotencyKey, Now: after(today)}
}

// deal is what a process does in the world of limits. tell tells the oracles of it, before
// the schedule begins. sql is what an application does on PostgreSQL instead.
type deal struct {
	name string
	tell func(w *moments) func(ctx context.Context, st granting) error
	sql  string
	with []harness.ActorOption
}

func deals(name string, do func(ctx context.Context, st granting) error) deal {
	return deal{name: name, tell: func(*moments) func(context.Context, granting) error { return do }}
}

// beginning is how a process begins a run under limits.
type beginning func(ctx context.Context, st granting, b store.Begin) (began bool, err error)

func begins(ctx context.Context, st granting, b store.Begin) (bool, error) {
	r, err := st.Begin(ctx, b)
	return !r.LimitReached, err
}

// take begins a run under a limit of its key and one of its user.
func take(name string, run int, key store.Key, ofKey, ofUser int64, from int, with ...harness.ActorOption) deal {
	return takeBy(begins, name, run, key, ofKey, ofUser, from, with...)
}

func takeBy(begin beginning, name string, run int, key store.Key, ofKey, ofUser int64, from int, with ...harness.ActorOption) deal {
	var since time.Time
	if from > 0 {
		since = after(from)
	}
	limits := []store.Limit{{Scope: store.KeyLimit, Max: ofKey, From: since}, {Scope: store.UserLimit, Max: ofUser, From: since}}
	of := whose{users[key.User.String()], workflows[key.Ref.String()]}
	return deal{name: name, with: with, tell: func(w *moments) func(ctx context.Context, st granting) error {
		a := w.begins(int64(run), bound{of, ofKey, int64(from)}, bound{whose{user: of.user}, ofUser, int64(from)})
		return func(ctx context.Context, st granting) error {
			began, err := begin(ctx, st, store.Begin{ID: runID(run), User: key.User, Workflow: key.Ref, Limits: limits, IdempotencyKey: fmt.Sprint("run ", run), Now: after(today)})
			if err == nil {
				w.tell(a, began)
			}
			return err
		}
	}}
}

func give(name string, of store.Key) deal { return giveBy(name, name, of) }

// giveBy gives a run that is to be given once, however many give it under that name.
func giveBy(name, idempotencyKey string, of store.Key) deal {
	return deal{name: name, tell: func(w *moments) func(ctx context.Context, st granting) error {
		w.gives[[2]int64{users[of.User.String()], int64(len(name))}] = 1
		return func(ctx context.Context, st granting) error {
			_, err := st.Grant(ctx, grantOf(of, idempotencyKey))
			return err
		}
	}}
}

// ask reads something, of which said is the truth.
func ask(name string, do func(ctx context.Context, st granting) (any, error), said func(m moment) any) deal {
	return deal{name: name, tell: func(w *moments) func(ctx context.Context, st granting) error {
		return func(ctx context.Context, st granting) error {
			got, err := do(ctx, st)
			if err == nil {
				w.read(fmt.Sprint(got), func(m moment) string { return fmt.Sprint(said(m)) })
			}
			return err
		}
	}}
}

func askCount(name string, of store.Scope, in store.Window, said func(m moment) any) deal {
	return ask(name, func(ctx context.Context, st granting) (any, error) {
		c, err := st.Count(ctx, of, in)
		return c.Tallies.Ended.Total(), err
	}, said)
}

// forever is later than all times.
const forever = 1 << 40

var dealList = []deal{
	take("begin under both limits", 5, keyAda, 3, 4, 0),
	take("begin under both limits on another workflow", 6, keyTrim, 2, 4, 0),
	take("begin in the window", 7, keyAda, 2, 3, turn),
	give("grant to the user", store.Key{User: ada}),
	give("grant to a key", keyAda),
	deals("revoke", func(ctx context.Context, st granting) error {
		_, err := st.RevokeGrant(ctx, store.RevokeRequest{Seq: 1, Who: "support", Why: "a mistake", Now: after(today)})
		return err
	}),
	deals("complete", func(ctx context.Context, st granting) error {
		_, err := st.Complete(ctx, completion(1, store.Completed, today))
		return err
	}),
	deals("complete on another workflow", func(ctx context.Context, st granting) error {
		_, err := st.Complete(ctx, completion(2, store.Completed, today))
		return err
	}),
	deals("complete late", func(ctx context.Context, st granting) error {
		c := completion(1, store.Failed, today)
		c.Outcome.CompletedAt = after(turn - 1)
		_, err := st.Complete(ctx, c)
		return err
	}),
	deals("sweep", func(ctx context.Context, st granting) error {
		_, err := st.FailStuck(ctx, store.FailStuck{Now: after(today + 1), Limits: store.DefaultLimits(), Max: 10})
		return err
	}),
	deals("fold", func(ctx context.Context, st granting) error { _, err := st.Fold(ctx, after(today), 100); return err }),
	deals("recount", func(ctx context.Context, st granting) error {
		_, err := st.Recount(ctx, keyAda, after(today))
		return err
	}),
	deals("re-open", func(ctx context.Context, st granting) error {
		_, err := st.Amend(ctx, store.AmendRequest{ID: runID(3), Status: store.Running, Who: "support", Why: "it goes on", Now: after(today)})
		return err
	}),
	webhooked("hand over", bySource["hand over"], store.Change{Op: store.Update, HasOld: true, Old: row1(store.Running, time.Time{}, after(1)), Record: func() store.Row {
		r := row1(store.Running, time.Time{}, after(6))
		r.User = bob
		return r
	}()}),
	webhooked("delete", bySource["delete"], store.Change{Op: store.Delete, HasOld: true, Old: row1(store.Running, time.Time{}, after(1))}),
	askCount("count a user", store.Scope{User: ada}, store.AllTime, func(m moment) any { return m.counted(user1, 0, forever) }),
	askCount("count a workflow", store.ScopeOf(store.ID{}, resize, store.ID{}), store.AllTime, func(m moment) any { return m.counted(flow1, 0, forever) }),
	askCount("count in a window", store.Scope{User: ada}, store.Window{From: after(turn)}, func(m moment) any { return m.counted(user1, turn, forever) }),
	ask("ask what is left", func(ctx context.Context, st granting) (any, error) {
		usages, err := allowance(ctx, st, leftLimits)
		var got []int64
		for _, u := range usages {
			got = append(got, u.Granted, u.Counted+u.Active)
		}
		return got, err
	}, whatIsLeft),
	take("begin, crash and restart", 8, keyAda, 3, 4, 0, harness.Restarts()),
}

var leftLimits = []store.Limit{{Scope: store.UserLimit, Max: 4}, {Scope: store.KeyLimit, Max: 3, From: after(turn)}}

func allowance(ctx context.Context, st granting, limits []store.Limit) ([]store.Usage, error) {
	return st.Allowance(ctx, store.AllowanceRequest{User: ada, Workflow: resize, Limits: limits, Now: after(today)})
}

// whatIsLeft is how leftLimits are used.
func whatIsLeft(m moment) any {
	var said []int64
	for _, b := range []bound{{of: user1}, {of: key11, from: turn}} {
		said = append(said, m.granted(b, false), m.used(b, anyRun))
	}
	return said
}

func webhooked(name, sql string, change store.Change) deal {
	d := deals(name, func(ctx context.Context, st granting) error { return apply(change)(ctx, st) })
	d.sql = sql
	return d
}

func dealNames() (names []string) {
	for _, d := range dealList {
		names = append(names, d.name)
	}
	return names
}

// numbered is the n of [runID].
func numbered(run string) (int64, error) {
	for n := 1; n <= 9; n++ {
		if runID(n).String() == run {
			return int64(n), nil
		}
	}
	return 0, errors.New("no run is called " + run)
}

// minuteOf is a time in microseconds as minutes since noon.
func minuteOf(micros int64) int64 { return (micros - noon.UnixMicro()) / time.Minute.Microseconds() }

// scan reads one row of what is held.
func (m *moment) scan(kind, id, of, ref string, at, runs int64, marked bool) error {
	w := whose{users[of], workflows[ref]}
	if at != 0 {
		at = minuteOf(at)
	}
	if kind == "grant" {
		m.grants = append(m.grants, gave{w, runs, at, marked})
		return nil
	}
	n, err := numbered(id)
	m.runs = append(m.runs, ran{n, w.user, w.flow, marked, at})
	return err
}
