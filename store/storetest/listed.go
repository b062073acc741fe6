package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Listed holds a store to what it says of each run and key by itself: after a
// history with a bit of everything, pages of any size of any list must add up
// to that. bare says that the store is a source without our migrations, whose
// logs are empty.
func Listed(t *testing.T, open Open, bare bool) {
	for name, test := range map[string]func(l *listing){
		"the lists hold what is known of each run and key, in pages of any size":    wholeInPages,
		"the counts of a thousand keys are of one snapshot while runs change hands": oneSnapshot,
		"an empty store lists nothing":                                              emptyLists,
		"runs that nobody dated come last, and once":                                undatedLast,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			s := &script{TB: t, Backend: b, ctx: t.Context()}
			test(&listing{s, bare, nil})
		})
	}
}

type listing struct {
	*script
	bare  bool
	known []store.ID
}

// chaos makes a history with a bit of everything: runs of a source that does
// right and wrong, presumed outcomes and what superseded them, amendments,
// recounts, a fold in the middle, and keys that are in the ledger alone.
func (l *listing) chaos() {
	l.Helper()
	source := &Source{Rand: rand.New(rand.NewPCG(7, 7)), Space: 1 << 40, Runs: 12, Guarded: true, UpdatedAt: Moves}
	for _, c := range source.Steps(80) {
		if !slices.Contains(l.known, c.ID()) {
			l.known = append(l.known, c.ID())
		}
		l.Deliver(l, source.Now(), c)
	}
	keys := []store.Key{adaResize, adaSketch, bobResize}
	for n := range 24 {
		l.begins(n, keys[n%3])
	}
	began := l.known[len(l.known)-24:]
	l.failStuck(time.Hour)
	for n, id := range began[:14] {
		if l.bare {
			break // without marks nothing supersedes
		}
		switch n % 7 {
		case 0, 1, 2:
			l.complete(id, store.Completed, time.Hour+time.Duration(n/3)*time.Second)
		case 3:
			l.amend(id, store.Cancelled, 2*time.Hour)
		case 4:
			l.amend(id, store.Running, 2*time.Hour+time.Duration(n)*time.Second)
		}
	}
	l.fold()
	if !l.bare {
		for i, key := range keys[:2] {
			l.Corrupt(l, key, int64(i+1))
			if _, err := l.Store.Recount(l.ctx, key, at(3*time.Hour)); err != nil {
				l.Fatal(err)
			}
		}
		gone := l.run(began[1]).Row
		l.Deliver(l, at(4*time.Hour), deleted(gone))
	}
	fresh := store.KeyOf(bob, MustID('c', 9), store.ID{})
	for n := 24; n < 36; n++ {
		id := l.begins(n, []store.Key{fresh, adaResize}[n%2])
		if n%3 == 0 {
			l.complete(id, store.Failed, 5*time.Hour)
		}
	}
}

// begins creates a run, three of them at each second.
func (l *listing) begins(n int, key store.Key) store.ID {
	l.Helper()
	b := l.begin(store.Begin{ID: MustID('7', n), User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Now: at(time.Duration(n/3) * time.Second)})
	l.known = append(l.known, b.Run.ID)
	return b.Run.ID
}

// expected returns the runs that the lists should hold.
type expected struct {
	counts  []store.Count
	states  map[store.RunState][]store.ListedRun
	repairs []store.ListedRepair
	decided map[store.ID]int
}

func byPlace(a, b store.Cursor) int {
	return cmp.Or(b.At.Compare(a.At), b.ID.Compare(a.ID))
}

// expect asks for each run and key by itself.
func (l *listing) expect() expected {
	l.Helper()
	e := expected{states: map[store.RunState][]store.ListedRun{}, decided: map[store.ID]int{}}
	keys := map[store.Key]bool{}
	for _, id := range l.known {
		h, err := l.Store.History(l.ctx, id)
		if err != nil {
			l.Fatal(err)
		}
		var swept time.Time
		for _, r := range h.Repairs {
			e.repairs = append(e.repairs, store.ListedRepair{ID: id, RepairLog: r})
			if (r.Reason == store.Stuck || r.Reason == store.Overwritten) && r.Last.After(swept) {
				swept = r.Last
			}
		}
		if n := len(h.Amendments); n > 0 {
			e.decided[id] = n
		}
		if !h.Found {
			continue
		}
		run := h.Run
		run.Snapshot = ""
		add := func(state store.RunState, at time.Time) {
			e.states[state] = append(e.states[state], store.ListedRun{Run: run, At: at})
		}
		if run.Odd() {
			add(store.OddRuns, run.CreatedAt)
		}
		if run.Ended() {
			add(store.EndedRuns, run.CompletedAt)
		}
		switch {
		case !run.Ended():
			add(store.ActiveRuns, run.CreatedAt)
		case run.Presumed:
			add(store.PresumedRuns, run.CompletedAt)
		case !swept.IsZero():
			add(store.SupersededRuns, swept)
		}
		if key := run.Key(); !key.IsZero() && !keys[key] {
			keys[key] = true
			if c := l.count(key); c.Tallies != (store.Tallies{}) {
				e.counts = append(e.counts, c)
			}
		}
	}
	slices.SortFunc(e.counts, func(a, b store.Count) int { return a.Key.Compare(b.Key) })
	for _, runs := range e.states {
		slices.SortFunc(runs, func(a, b store.ListedRun) int { return byPlace(a.Cursor(), b.Cursor()) })
	}
	slices.SortFunc(e.repairs, func(a, b store.ListedRepair) int {
		return cmp.Or(byPlace(a.Cursor(), b.Cursor()), cmp.Compare(a.Reason, b.Reason))
	})
	return e
}

// pages asks for pages until one is empty, and fails where one is too long.
func pages[T any](l *listing, most int, page func(last *T) ([]T, error)) (all []T) {
	l.Helper()
	for {
		var last *T
		if len(all) > 0 {
			last = &all[len(all)-1]
		}
		more, err := page(last)
		switch {
		case err != nil:
			l.Fatal(err)
		case len(more) == 0:
			return all
		case len(more) > most:
			l.Fatalf("a page of at most %d holds %d", most, len(more))
		case len(all) > 10_000:
			l.Fatal("the pages have no end")
		}
		all = append(all, more...)
	}
}

// searched pages through counts.
func (l *listing) searched(q store.CountQuery) []store.Count {
	l.Helper()
	all := pages(l, q.Limit, func(last *store.Count) ([]store.Count, error) {
		if last != nil {
			q.After = last.Key
		}
		return l.Store.SearchCounts(l.ctx, q)
	})
	// Whose runs are gone may be there until it is pruned.
	return slices.DeleteFunc(all, func(c store.Count) bool { return c.Tallies == store.Tallies{} })
}

func same[T any](l *listing, size int, what string, got, want []T) {
	l.Helper()
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		l.Errorf("%s in pages of %d (-want +got):\n%s", what, size, diff)
	}
}

func wholeInPages(l *listing) {
	l.chaos()
	want := l.expect()
	l.enough(want)
	for _, size := range []int{1, 2, 3, 5, 8, 13, 1000} {
		same(l, size, "counts", l.searched(store.CountQuery{Limit: size}), want.counts)
		for _, q := range []store.CountQuery{{User: bob}, {Ref: resize}, {User: ada, Ref: sketch}, {User: MustID('f', 1)}} {
			q.Limit = size
			same(l, size, fmt.Sprintf("counts of user %s, ref %s", q.User, q.Ref), l.searched(q), slices.DeleteFunc(slices.Clone(want.counts), func(c store.Count) bool {
				return !q.User.IsZero() && c.Key.User != q.User || !q.Ref.IsZero() && c.Key.Ref != q.Ref
			}))
		}
		for _, state := range []store.RunState{store.ActiveRuns, store.EndedRuns, store.PresumedRuns, store.SupersededRuns, store.OddRuns} {
			for _, q := range filtered(want.states[state]) {
				q.State, q.Limit = state, size
				l.wantRuns(q, want.states[state])
			}
		}
		const reasons = 3 // that a run can have at one place
		same(l, size, "repairs", pages(l, reasons*size, func(last *store.ListedRepair) ([]store.ListedRepair, error) {
			var after store.Cursor
			if last != nil {
				after = last.Cursor()
			}
			return l.Store.Repairs(l.ctx, after, size)
		}), want.repairs)
		l.wantLogs(size, want)
	}
}

// filtered returns queries with each filter alone and several at once, whose windows end
// and begin at times of the runs.
func filtered(runs []store.ListedRun) []store.RunQuery {
	if len(runs) == 0 {
		return []store.RunQuery{{}}
	}
	middle, early := runs[len(runs)/2].At, runs[len(runs)*3/4].At
	return []store.RunQuery{
		{},
		{Oldest: true},
		{User: bob},
		{User: bob, Oldest: true},
		{User: MustID('f', 1)},
		{Status: store.Completed},
		{Status: store.Running},
		{Status: "no status"},
		{In: store.Window{From: middle}},
		{In: store.Window{To: middle}},
		{In: store.Window{From: early, To: middle}, Oldest: true},
		{User: ada, Status: store.Failed, In: store.Window{From: early}, Within: time.Minute},
	}
}

// wantRuns compares the pages and the number of a query's runs with those of its state.
func (l *listing) wantRuns(q store.RunQuery, runs []store.ListedRun) {
	l.Helper()
	want := slices.DeleteFunc(slices.Clone(runs), func(r store.ListedRun) bool {
		return !q.User.IsZero() && r.User != q.User || q.Status != "" && r.Status != q.Status || !q.In.Contains(r.At)
	})
	if q.Oldest {
		slices.Reverse(want)
	}
	what := fmt.Sprintf("%s runs of user %q, status %q, in %v, oldest %v", q.State, q.User, q.Status, q.In, q.Oldest)
	same(l, q.Limit, what, pages(l, q.Limit, func(last *store.ListedRun) ([]store.ListedRun, error) {
		q := q
		if last != nil {
			q.After = last.Cursor()
		}
		return l.Store.SearchRuns(l.ctx, q)
	}), want)
	if n, err := l.Store.CountRuns(l.ctx, q); err != nil || n != min(len(want), q.Limit) {
		l.Errorf("the number of %s up to %d: got %d, %v; want %d", what, q.Limit, n, err, min(len(want), q.Limit))
	}
	if n := len(want) / 2; n > 0 {
		q.After, q.Limit = want[n-1].Cursor(), 1000
		if got, err := l.Store.CountRuns(l.ctx, q); err != nil || got != len(want)-n {
			l.Errorf("the number of %s behind %d of them: got %d, %v; want %d", what, n, got, err, len(want)-n)
		}
	}
}

// enough fails the test where the history lacks something to list.
func (l *listing) enough(e expected) {
	l.Helper()
	if len(e.counts) < 5 || len(e.states[store.ActiveRuns]) < 5 {
		l.Fatalf("the history has %d counts, %d active runs; want more", len(e.counts), len(e.states[store.ActiveRuns]))
	}
	if l.bare {
		return
	}
	if len(e.states[store.PresumedRuns]) < 5 || len(e.states[store.SupersededRuns]) < 5 || len(e.repairs) < 5 || len(e.decided) < 3 {
		l.Fatalf("the history has %d presumed and %d superseded runs, %d repairs, %d amended runs; want more",
			len(e.states[store.PresumedRuns]), len(e.states[store.SupersededRuns]), len(e.repairs), len(e.decided))
	}
}

// wantLogs compares decisions and recounts with what each run and key says.
func (l *listing) wantLogs(size int, e expected) {
	l.Helper()
	decisions := pages(l, size, func(last *store.Amendment) ([]store.Amendment, error) {
		var before int64
		if last != nil {
			before = last.Seq
		}
		return l.Store.Amendments(l.ctx, before, size)
	})
	found := map[store.ID]int{}
	for i, d := range decisions {
		found[d.ID]++
		if i > 0 && d.Seq >= decisions[i-1].Seq {
			l.Errorf("decision %d comes after %d", d.Seq, decisions[i-1].Seq)
		}
		if h, err := l.Store.History(l.ctx, d.ID); err != nil || !slices.Contains(h.Amendments, d.AmendmentLog) {
			l.Errorf("the decision %+v is none of %+v (%v)", d, h.Amendments, err)
		}
	}
	if diff := gocmp.Diff(e.decided, found, cmpopts.EquateEmpty()); diff != "" {
		l.Errorf("decisions per run in pages of %d (-want +got):\n%s", size, diff)
	}
	recounts := pages(l, size, func(last *store.ListedRecount) ([]store.ListedRecount, error) {
		var before int64
		if last != nil {
			before = last.Seq
		}
		return l.Store.Recounts(l.ctx, before, size)
	})
	var keys []store.Key
	for _, r := range recounts {
		keys = append(keys, r.Key)
		if h, err := l.Store.KeyHistory(l.ctx, r.Key, 1); err != nil || !slices.Contains(h.Recounts, r.RecountLog) {
			l.Errorf("the recount %+v is none of %+v (%v)", r, h.Recounts, err)
		}
	}
	want := []store.Key{adaSketch, adaResize}
	if l.bare {
		want = nil
	}
	same(l, size, "recounts", keys, want)
}

// oneSnapshot hands ended runs over between two keys, beside folds and
// recounts. Who reads the keys in two snapshots sees a run twice, or never.
func oneSnapshot(l *listing) {
	const runs, rounds = 5, 60
	var rows []store.Row
	for n := range runs {
		r := row(MustID('2', n), adaResize, store.Completed, time.Second, time.Second)
		rows = append(rows, r)
		l.Deliver(l, at(time.Minute), inserted(r))
	}
	keys := make([]store.Key, 1000)
	for i := range keys {
		keys[i] = store.KeyOf(MustID('e', i), resize, store.ID{})
	}
	keys[0], keys[501], keys[999] = adaResize, adaResize, bobResize

	done := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		defer close(done)
		for n := range rounds {
			for i, old := range rows {
				moved := old
				moved.User, moved.UpdatedAt = []store.ID{bob, ada}[n%2], at(time.Duration(2+n)*time.Second)
				l.Deliver(l, at(time.Hour), updated(old, moved))
				rows[i] = moved
			}
		}
	})
	others.Go(func() {
		for {
			if _, err := l.Store.Fold(l.ctx, at(time.Hour), 2); err != nil {
				l.Errorf("Fold: %v", err)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	reads, moves := 0, map[int64]bool{}
	for reading := true; reading; reads++ {
		select {
		case <-done:
			reading = false
		default:
		}
		counts, err := l.Store.CountsOf(l.ctx, keys)
		if err != nil || len(counts) != len(keys) {
			l.Fatalf("CountsOf: got %d counts, %v; want %d", len(counts), err, len(keys))
		}
		moves[counts[0].Count] = true
		if a, b := counts[0].Count, counts[999].Count; a+b != runs || counts[501] != counts[0] {
			l.Fatalf("law 1: after %d reads, %d + %d runs are counted, want %d; the same key asked again: %+v", reads, a, b, runs, counts[501])
		}
	}
	others.Wait()
	if len(moves) < 2 {
		l.Errorf("no read of %d saw a run move", reads)
	}
	counts, err := l.Store.CountsOf(l.ctx, keys)
	if err != nil {
		l.Fatal(err)
	}
	for i, key := range keys {
		one := l.count(key)
		one.LastRunAt = time.Time{}
		if counts[i] != one {
			l.Fatalf("CountsOf: got %+v for key %d, Count says %+v", counts[i], i, one)
		}
	}
}

// undatedLast lists rows whose created_at an application left out.
func undatedLast(l *listing) {
	for n := range 6 {
		r := row(MustID('6', n), bobResize, store.Running, time.Second, 0)
		if n%2 == 0 {
			r.CreatedAt = time.Time{}
		}
		l.Deliver(l, at(time.Minute), inserted(r))
	}
	for _, size := range []int{1, 2, 3, 4, 10} {
		var got []store.ID
		for _, r := range pages(l, size, func(last *store.ListedRun) ([]store.ListedRun, error) {
			q := store.RunQuery{State: store.ActiveRuns, Limit: size}
			if last != nil {
				q.After = last.Cursor()
			}
			return l.Store.SearchRuns(l.ctx, q)
		}) {
			got = append(got, r.ID)
		}
		same(l, size, "active runs", got, []store.ID{
			MustID('6', 5), MustID('6', 3), MustID('6', 1), MustID('6', 4), MustID('6', 2), MustID('6', 0)})
	}
}

func emptyLists(l *listing) {
	for what, n := range map[string]func() (int, error){
		"counts": func() (int, error) {
			a, err := l.Store.SearchCounts(l.ctx, store.CountQuery{Limit: 9})
			return len(a), err
		},
		"repairs":   func() (int, error) { a, err := l.Store.Repairs(l.ctx, store.Cursor{}, 9); return len(a), err },
		"decisions": func() (int, error) { a, err := l.Store.Amendments(l.ctx, 0, 9); return len(a), err },
		"recounts":  func() (int, error) { a, err := l.Store.Recounts(l.ctx, 0, 9); return len(a), err },
		"letters": func() (int, error) {
			a, err := l.Store.DeadLetters(l.ctx, store.DeadLetterQuery{Limit: 9})
			return len(a), err
		},
	} {
		if n, err := n(); n != 0 || err != nil {
			l.Errorf("%s of an empty store: got %d, %v; want none", what, n, err)
		}
	}
}
