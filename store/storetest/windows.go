package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// DrawnWindows returns how many windows [Windows] draws: RUNCOUNTER_WINDOWS, else 1,000.
func DrawnWindows() int {
	if n, err := strconv.Atoi(os.Getenv("RUNCOUNTER_WINDOWS")); err == nil && n > 0 {
		return n
	}
	return 1000
}

// windowsOfAHistory is how many windows Windows draws of one history.
const windowsOfAHistory = 50

// Windows compares counts in drawn windows with the runs behind them, which are those of
// drawn histories: days long, with midnights and turns of summer time, hand-overs,
// deletions, late and presumed ends.
func Windows(t *testing.T, open Open, windows int) {
	const parallel = 4
	histories := uint64(max(windows/windowsOfAHistory, parallel))
	for worker := range uint64(parallel) {
		t.Run(fmt.Sprintf("histories %d mod %d", worker, parallel), func(t *testing.T) {
			t.Parallel()
			b := open(t)
			for seed := worker; seed < histories && !t.Failed(); seed += parallel {
				if seed > worker && (b.Absent.Workflow || b.Write == nil) {
					b = open(t)
				}
				windowsOf(t, b, seed)
			}
		})
	}
}

// historyStarts are days before a month, a year or summer time turns.
var historyStarts = []time.Time{
	time.Date(2025, 12, 29, 0, 0, 0, 0, time.UTC), time.Date(2026, 2, 26, 12, 0, 0, 0, time.UTC),
	time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC),
}

func windowsOf(t testing.TB, b Backend, seed uint64) {
	t.Helper()
	c := newChaos(t, b, seed)
	c.source.Begins = historyStarts[seed%uint64(len(historyStarts))]
	c.source.Stride = time.Duration(1+c.rand.IntN(12)) * time.Hour
	c.source.Runs = 24
	ids := map[store.ID]bool{}
	for half := range 2 {
		changes := b.changes(c.source.Steps(60))
		b.Deliver(t, c.source.Now(), changes...)
		for _, change := range changes {
			ids[change.ID()] = true
		}
		if half == 0 && seed%2 == 0 {
			c.sweep()
		}
		c.wantWindows("a drawn history", slices.Collect(maps.Keys(ids)), windowsOfAHistory/2)
	}
	c.Exact(t)
}

// wantWindows compares the counts and usages of drawn scopes in drawn windows with the
// runs behind them, one by one.
func (c *chaos) wantWindows(what string, ids []store.ID, n int) {
	c.Helper()
	var runs, keyed []store.Run
	slices.SortFunc(ids, store.ID.Compare) // a seed draws the same again
	for _, id := range ids {
		if r, err := c.Store.Run(c.Context(), id); err == nil { // else it was deleted
			if runs = append(runs, r); !r.Key().IsZero() {
				keyed = append(keyed, r)
			}
		}
	}
	if len(keyed) == 0 {
		return
	}
	for range n {
		var of store.Scope
		for drawn := false; !drawn; {
			of, drawn = c.drawScope(c.rand, keyed[c.rand.IntN(len(keyed))].Key())
		}
		in := drawWindow(c.rand, runs)
		if c.Windows == nil {
			if _, one := of.Key(); !one {
				in = store.AllTime
			}
		}
		got, err := c.Store.Count(c.Context(), of, in)
		wanted, active := talliesIn(runs, of, in)
		if err != nil || got.Tallies != wanted || got.Count != wanted.Ended.Completed+wanted.Ended.Failed {
			c.errorf("law 1: %s: %s from %v to %v counts %d, %+v, %v; want %+v", what, of, in.From, in.To, got.Count, got.Tallies, err, wanted)
		}
		c.wantUsage(what, of, store.Window{From: in.From}, runs, active)
	}
}

// lookInto compares the count of a drawn scope in a drawn window with its runs, in one
// snapshot, while all else goes on.
func (c *chaos) lookInto(r *rand.Rand) {
	if c.ExactIn == nil {
		return
	}
	row := store.Row{ID: c.source.id('r', 0), User: c.source.id('u', r.IntN(3)), Workflow: c.source.id('w', r.IntN(2))}
	if r.IntN(3) == 0 {
		row.Workflow, row.Draft = store.ID{}, c.source.id('d', r.IntN(2))
	}
	of, ok := c.drawScope(r, c.row(row).Key())
	if !ok {
		return
	}
	now := c.source.Now()
	some := func() time.Time {
		if r.IntN(4) == 0 {
			return time.Time{}
		}
		return now.Add(-time.Duration(r.Int64N(int64(2 * time.Minute))))
	}
	in := store.Window{From: some(), To: some()}
	if in.Validate() != nil {
		in.From, in.To = in.To, in.From
	}
	c.ExactIn(c, of, in)
}

// wantUsage compares what an allowance says of a user or a key.
func (c *chaos) wantUsage(what string, of store.Scope, in store.Window, runs []store.Run, active int64) {
	c.Helper()
	key, one := of.Key()
	l := store.Limit{Scope: store.KeyLimit, Max: 1, From: in.From}
	switch {
	case !one && (of.User.IsZero() || of.Kind != ""):
		return
	case !one:
		l.Scope, key = store.UserLimit, store.Key{User: of.User}
	}
	counted, _ := talliesIn(runs, of, in)
	got, err := c.Store.Allowance(c.Context(), store.AllowanceRequest{
		User: of.User, Workflow: key.Workflow(), Draft: key.Draft(), Limits: []store.Limit{l}, Now: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	if err != nil || len(got) != 1 || got[0].Counted != counted.Ended.Completed+counted.Ended.Failed || got[0].Active != active {
		c.errorf("law 1: %s: the usage of %s since %v is %+v, %v; want %+v and %d active", what, of, in.From, got, err, counted.Ended, active)
	}
}

// drawScope draws a scope that a key belongs to, and false where there is none that is
// of one seed alone.
func (c *chaos) drawScope(r *rand.Rand, key store.Key) (of store.Scope, ok bool) {
	switch r.IntN(5) {
	case 0:
		of = store.Scope{User: key.User}
	case 1:
		of = store.Scope{User: key.User, Kind: key.Kind}
	case 2, 3:
		of = store.Scope{Kind: key.Kind, Ref: key.Ref}
	case 4:
		of = key.Scope()
	}
	return of, !key.IsZero() && (!c.Absent.User || !of.Ref.IsZero())
}

// drawWindow draws a window around the ends of runs: at them and beside them, at
// midnights of some zone, within a day, open and far away.
func drawWindow(r *rand.Rand, runs []store.Run) store.Window {
	bound := func() time.Time {
		end := runs[r.IntN(len(runs))].CompletedAt
		if end.IsZero() {
			end = historyStarts[r.IntN(len(historyStarts))]
		}
		switch r.IntN(9) {
		case 0, 1:
			return time.Time{}
		case 2:
			return time.Date([]int{2, 9998}[r.IntN(2)], 1, 1, 0, 0, 0, 0, time.UTC)
		case 3, 4:
			zone := time.FixedZone("", (r.IntN(53)-24)*30*60)
			y, m, d := end.In(zone).Date()
			return time.Date(y, m, d+r.IntN(3)-1, 0, 0, 0, 0, zone)
		case 5, 6:
			return end
		case 7:
			return end.Add(time.Duration(r.IntN(3)-1) * time.Microsecond)
		}
		return end.Add(time.Duration(r.Int64N(int64(48*time.Hour))) - 24*time.Hour)
	}
	w := store.Window{From: bound(), To: bound()}
	if w.Validate() != nil {
		w.From, w.To = w.To, w.From
	}
	return w
}

// talliesIn counts runs one by one, and those of a scope that are active. It shares no
// code with the contract's rules.
func talliesIn(runs []store.Run, of store.Scope, in store.Window) (t store.Tallies, active int64) {
	for _, r := range runs {
		key := r.Key()
		if key.Kind == "" || of.User != (store.ID{}) && key.User != of.User ||
			of.Kind != "" && key.Kind != of.Kind || of.Ref != (store.ID{}) && key.Ref != of.Ref {
			continue
		}
		if r.CompletedAt.IsZero() || !slices.Contains(store.Terminals[:], r.Status) {
			active++
			continue
		}
		end := r.CompletedAt.UnixMicro()
		if !in.From.IsZero() && end < in.From.UnixMicro() || !in.To.IsZero() && end >= in.To.UnixMicro() {
			continue
		}
		one := store.Tallies{Ended: tallyOf(r.Status)}
		if r.Presumed {
			one.Presumed = one.Ended
		}
		t = t.Add(one)
	}
	return t, active
}
