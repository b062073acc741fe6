package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// Seeds returns how many seeds a chaos test tries: RUNCOUNTER_SEEDS, else 100,
// or 1,000 in CI.
func Seeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("RUNCOUNTER_SEEDS"), 10, 32); err == nil && n > 0 {
		return n
	}
	if os.Getenv("CI") != "" {
		return 1000
	}
	return 100
}

// MirrorChaos holds a mirror to the laws while 16 writers deliver what a
// hostile network made of random lifecycles: 30 % duplicates, 20 % loss, full
// reordering, batches cut anywhere; folds, recounts and audits go on beside
// them. Each seed is a source of its own behaviour in a store of its own.
func MirrorChaos(t *testing.T, open Open, seeds uint64) {
	const parallel = 4
	for worker := range uint64(parallel) {
		t.Run(fmt.Sprintf("seeds %d mod %d", worker, parallel), func(t *testing.T) {
			t.Parallel()
			for seed := worker; seed < seeds && !t.Failed(); seed += parallel {
				ChaosSeed(t, open(t), seed)
			}
		})
	}
}

// ChaosSeed is one seed of [MirrorChaos].
func ChaosSeed(t testing.TB, b Backend, seed uint64) {
	t.Helper()
	c := newChaos(t, b, seed)
	if seed%3 == 2 {
		c.source.Guarded, c.source.Marked = true, true
	}
	sent := b.changes(c.source.Steps(60))
	if seed%6 == 5 { // and the plain webhook was never removed
		sent = append(sent, Plain(sent)...)
	}
	received, lost := c.split(sent)

	// Laws 1, 4 and 5 hold after every batch, whatever else goes on.
	c.deliver(received)
	c.wantMirror("all that was received", received)

	// Law 3: once faults stop, one full sweep leaves nothing inconsistent.
	c.sweep()
	c.wantSwept(received)

	// A real outcome that comes late supersedes the presumed one, and what was
	// lost comes in the end.
	c.deliver(lost)
	c.wantMirror("what had been lost, after a sweep", sent)
	c.wantFirstOutcomes()
	c.Exact(t)
	if t.Failed() {
		t.Logf("seed %d: source %+v", seed, profile(c.source))
	}
}

type chaos struct {
	testing.TB
	Backend
	seed   uint64
	rand   *rand.Rand
	source *Source
}

func newChaos(t testing.TB, b Backend, seed uint64) *chaos {
	t.Helper()
	if b.Windows != nil {
		b.Windows(t)
	}
	r := rand.New(rand.NewPCG(seed, 1))
	return &chaos{TB: t, Backend: b, seed: seed, rand: r, source: &Source{
		Rand: rand.New(rand.NewPCG(seed, 2)), Space: seed, Runs: 12,
		Guarded: r.IntN(3) == 0, KeepsTime: r.IntN(3) == 0,
		UpdatedAt: Stamps(r.IntN(4)), Versions: r.IntN(3) == 0,
	}}
}

func profile(s *Source) string {
	return fmt.Sprintf("guarded=%v keepsTime=%v updatedAt=%v versions=%v marked=%v", s.Guarded, s.KeepsTime, s.UpdatedAt, s.Versions, s.Marked)
}

func (c *chaos) errorf(format string, args ...any) {
	c.Helper()
	c.Errorf("seed %d: %s", c.seed, fmt.Sprintf(format, args...))
}

// split decides what is lost for now.
func (c *chaos) split(sent []store.Change) (received, lost []store.Change) {
	for _, change := range sent {
		if c.rand.Float64() < 0.2 {
			lost = append(lost, change)
		} else {
			received = append(received, change)
		}
	}
	return received, lost
}

const chaosWriters = 16

// chaosWindows is how many windows a look at the store draws.
const chaosWindows = 12

// deliver has 16 writers apply the changes, with duplicates, out of order.
func (c *chaos) deliver(changes []store.Change) {
	c.Helper()
	batches := make(chan []store.Change)
	var writers, others sync.WaitGroup
	for range chaosWriters {
		writers.Go(func() {
			for batch := range batches {
				c.apply(batch)
			}
		})
	}
	stop := make(chan struct{})
	others.Go(func() { c.disturb(stop) })
	for _, batch := range (Adversary{Rand: c.rand, Duplicates: 0.3, MaxBatch: 8}).Deliver(changes) {
		batches <- batch
	}
	close(batches)
	writers.Wait()
	close(stop)
	others.Wait()
}

// apply delivers one batch and looks at the laws right after it.
func (c *chaos) apply(batch []store.Change) {
	if _, err := c.Store.Apply(c.Context(), batch, c.source.Now()); err != nil {
		c.errorf("Apply: %v", err)
		return
	}
	c.Exact(c)
	again, err := c.Store.Apply(c.Context(), batch, c.source.Now())
	if err != nil {
		c.errorf("Apply again: %v", err)
	}
	for i, a := range again {
		if a.Changed {
			c.errorf("laws 4 and 5: change %d of a batch that was applied before changed something: %+v", i, batch[i])
		}
	}
}

// disturb does what goes on in the background, until it is told to stop, and
// at least once.
func (c *chaos) disturb(stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(c.seed, 4))
	for {
		c.lookInto(r)
		if _, err := c.Store.Fold(c.Context(), c.source.Now(), 5); err != nil {
			c.errorf("Fold: %v", err)
		}
		page, err := c.Store.Audit(c.Context(), store.Audit{Max: 100})
		if err != nil {
			c.errorf("Audit: %v", err)
		}
		for _, d := range page.Drifts {
			c.errorf("law 1: an audit in the middle found %+v", d)
		}
		if wrong, err := c.Store.AuditTotals(c.Context(), true); err != nil || len(wrong) > 0 {
			c.errorf("law 1: an audit in the middle found the totals %+v, %v", wrong, err)
		}
		key := c.row(store.Row{ID: c.source.id('r', 0), User: c.source.id('u', 0), Workflow: c.source.id('w', 0)}).Key()
		if r, err := c.Store.Recount(c.Context(), key, c.source.Now()); err != nil || r.Changed() {
			c.errorf("law 1: a recount in the middle changed %+v, %v", r, err)
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// wantMirror compares the store with the reference model: real outcomes, keys,
// tombstones and counts. Outcomes that a sweep presumed stand where the model
// knows none.
func (c *chaos) wantMirror(what string, received []store.Change) {
	c.Helper()
	want := Mirror(received)
	for id, m := range want {
		got, err := c.Store.Run(c.Context(), id)
		switch {
		case m.Deleted:
			if err == nil {
				c.errorf("law 4: %s: run %s is %s, want it deleted", what, id, got.Status)
			}
			continue
		case err != nil:
			c.errorf("%s: run %s: %v", what, id, err)
			continue
		case got.Key() != m.Row.Key():
			c.errorf("law 4: %s: run %s is that of %s, want %s", what, id, got.Key(), m.Row.Key())
		}
		if m.Row.Ended() && !m.Presumed || !got.Presumed {
			if got.Status != m.Row.Status || !got.CompletedAt.Equal(m.Row.CompletedAt) || got.Presumed != m.Presumed {
				c.errorf("law 4: %s: run %s is %s at %v (presumed %v), want %s at %v (presumed %v)", what, id,
					got.Status, got.CompletedAt, got.Presumed, m.Row.Status, m.Row.CompletedAt, m.Presumed)
			}
		}
	}
	c.wantTallies(what, want)
	c.wantWindows(what, slices.Collect(maps.Keys(want)), chaosWindows)
}

// wantTallies compares the counts of runs that really ended.
func (c *chaos) wantTallies(what string, want map[store.ID]Mirrored) {
	c.Helper()
	certain := maps.Clone(want)
	maps.DeleteFunc(certain, func(_ store.ID, m Mirrored) bool { return m.Presumed })
	tallies := Tally(certain)
	totals := map[store.Key]store.Tally{}
	keys := map[store.Key]bool{}
	for _, m := range want {
		if key := m.Row.Key(); !key.IsZero() {
			keys[key] = true
		}
	}
	for key := range keys {
		got, err := c.Store.Count(c.Context(), key.Scope(), store.AllTime)
		if err != nil {
			c.errorf("Count: %v", err)
		}
		e, p := got.Tallies.Ended, got.Tallies.Presumed
		sure := store.Tally{Completed: e.Completed - p.Completed, Failed: e.Failed - p.Failed, Cancelled: e.Cancelled - p.Cancelled, Timeout: e.Timeout - p.Timeout}
		if sure != tallies[key].Ended {
			c.errorf("law 1: %s: %s counts %+v, want %+v", what, key, sure, tallies[key].Ended)
		}
		of := store.TotalOf(key.Workflow(), key.Draft())
		totals[of] = totals[of].Add(e)
	}
	for of, want := range totals {
		if got, err := c.Store.Count(c.Context(), of.Scope(), store.AllTime); err != nil || got.Tallies.Ended != want {
			c.errorf("law 1: %s: %s counts %+v, %v, want %+v", what, of, got.Tallies.Ended, err, want)
		}
	}
}

// sweep is one full sweep, an hour after the last sign of life.
func (c *chaos) sweep() {
	c.Helper()
	sweeper := store.Sweeper{Store: c.Store, Source: c.Source, Now: func() time.Time { return c.source.Now().Add(time.Hour) }}
	for i, what := range []string{"the sweep", "a second sweep"} {
		r, err := sweeper.Sweep(c.Context(), store.SweepOptions{Full: true})
		if err != nil {
			c.errorf("%s: %v", what, err)
		}
		if r.Drifting > 0 {
			c.errorf("law 1: %s found drift: %+v", what, r.Drifts)
		}
		if i == 1 && r.Repairs() > 0 {
			c.errorf("law 3: %s still repaired %+v", what, r.Repaired)
		}
	}
}

// wantSwept looks for runs that a full sweep should not have left so.
func (c *chaos) wantSwept(received []store.Change) {
	c.Helper()
	for id := range Mirror(received) {
		r, err := c.Store.Run(c.Context(), id)
		if err != nil {
			continue // deleted: wantMirror knows
		}
		if r.Status.Active() || r.Status.Terminal() != !r.CompletedAt.IsZero() {
			c.errorf("law 3: a full sweep left run %s %s at %v", id, r.Status, r.CompletedAt)
		}
	}
}

// wantFirstOutcomes compares with the source itself, where it keeps the first
// outcome: after everything has arrived, the mirror has the source's rows. A
// run that goes on there may have been presumed to have ended here.
func (c *chaos) wantFirstOutcomes() {
	c.Helper()
	if !c.source.Guarded {
		return
	}
	for _, row := range c.source.Rows() {
		got, err := c.Store.Run(c.Context(), row.ID)
		if err != nil {
			c.errorf("law 2: run %s: %v", row.ID, err)
			continue
		}
		if !row.Ended() && got.Ended() && !got.Presumed {
			c.errorf("law 2: run %s is %s at %v, but goes on, %s", row.ID, got.Status, got.CompletedAt, row.Status)
		}
		if row.Ended() && (got.Status != row.Status || !got.CompletedAt.Equal(row.CompletedAt)) {
			c.errorf("law 2: run %s is %s at %v, but first ended %s at %v", row.ID, got.Status, got.CompletedAt, row.Status, row.CompletedAt)
		}
	}
}

// Watch runs a test and returns what it complained of, without failing t: with
// a guard switched off, a suite that stays green is the failure. Where the test
// is skipped, so is t: nothing was tried.
func Watch(t testing.TB, test func(t testing.TB)) []string {
	w := &watcher{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(w)
	}()
	<-done
	if t.Skipped() {
		t.SkipNow() //nolint:forbidigo // the test has skipped itself, in its goroutine: this ends ours
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.said)
}

// watcher is a testing.TB that keeps complaints to itself.
type watcher struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (w *watcher) say(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, s)
}

func (w *watcher) Failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.said) > 0
}

func (w *watcher) Error(args ...any)                 { w.say(fmt.Sprintln(args...)) }
func (w *watcher) Errorf(format string, args ...any) { w.say(fmt.Sprintf(format, args...)) }
func (w *watcher) Fail()                             { w.say("failed") }
func (w *watcher) FailNow()                          { w.Fail(); runtime.Goexit() }
func (w *watcher) Fatal(args ...any)                 { w.Error(args...); runtime.Goexit() }
func (w *watcher) Fatalf(format string, args ...any) { w.Errorf(format, args...); runtime.Goexit() }
func (w *watcher) Logf(string, ...any)               {}
