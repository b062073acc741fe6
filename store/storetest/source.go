package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// SourceChaos holds a source to the laws while a simulated application writes
// its table, right and wrong, and the webhooks of that arrive as hints: 30 %
// of them twice, 20 % never, in any order. Folds, recounts and audits go on
// beside it.
//
// guarded says that the source keeps law 2 for every writer. Then the table is
// compared with what a guard must make of the application's writes; else the first of
// two outcomes can't be known, and the other laws are held.
//
// The seeds of one worker share a store: four of them, or more, since a store costs as
// much as a seed. A table without a workflow is each seed's own.
func SourceChaos(t *testing.T, open Open, guarded bool, seeds uint64) {
	parallel := min(4, (seeds+3)/4)
	for worker := range parallel {
		t.Run(fmt.Sprintf("seeds %d mod %d", worker, parallel), func(t *testing.T) {
			t.Parallel()
			b := open(t)
			for seed := worker; seed < seeds && !t.Failed(); seed += parallel {
				if seed > worker && b.Absent.Workflow {
					b = open(t) // the seeds would share the one total
				}
				SourceChaosSeed(t, b, guarded, seed)
			}
		})
	}
}

// SourceChaosSeed is one seed of [SourceChaos].
func SourceChaosSeed(t testing.TB, b Backend, guarded bool, seed uint64) {
	t.Helper()
	c := newChaos(t, b, seed)
	c.source.Guarded, c.source.KeepsTime = false, false // what the application asks for, whatever the table makes of it
	table := &table{rows: map[store.ID]*tableRow{}, guarded: guarded}

	sent := b.changes(c.source.Steps(60))
	c.live(sent, table)
	c.wantTable("after a burst", table)

	// Law 3: once faults stop, one full sweep leaves nothing inconsistent.
	c.sweep()
	c.wantConsistent(table)
	c.learnPresumed(table)
	c.wantTable("after a sweep", table)

	// Real outcomes that come late supersede the presumed ones.
	c.live(b.changes(c.source.Steps(30)), table)
	c.wantTable("after a burst that followed a sweep", table)
	c.sweep()
	c.wantConsistent(table)
	c.Exact(t)
	c.wantQuiet(sent)
	if t.Failed() {
		t.Logf("seed %d: guarded=%v, source %s", seed, guarded, profile(c.source))
	}
}

// live has an application write changes, several runs at a time, while hints
// of those that are committed arrive.
func (c *chaos) live(changes []store.Change, table *table) {
	c.Helper()
	hints := &mailbox{rand: rand.New(rand.NewPCG(c.seed, 3))}
	perRun := map[store.ID][]store.Change{}
	var order []store.ID
	for _, change := range changes {
		table.write(change)
		if perRun[change.ID()] == nil {
			order = append(order, change.ID())
		}
		perRun[change.ID()] = append(perRun[change.ID()], change)
	}
	var application, receivers, others sync.WaitGroup
	work := make(chan []store.Change)
	for range chaosWriters / 2 {
		application.Go(func() {
			for one := range work {
				for _, change := range one {
					c.Write(c, change)
					hints.post(change)
				}
			}
		})
	}
	stop := make(chan struct{})
	others.Go(func() { c.disturb(stop) })
	for range chaosWriters / 2 {
		receivers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if batch := hints.some(8); len(batch) > 0 {
					if _, err := c.Store.Apply(c.Context(), batch, c.source.Now()); err != nil {
						c.errorf("Apply: %v", err)
					}
				}
				c.Exact(c)
			}
		})
	}
	for _, id := range order {
		work <- perRun[id]
	}
	close(work)
	application.Wait()
	close(stop)
	receivers.Wait()
	others.Wait()
	for _, batch := range (Adversary{Rand: c.rand, Duplicates: 0.3, Loss: 0.2, MaxBatch: 8}).Deliver(changes) {
		if _, err := c.Store.Apply(c.Context(), batch, c.source.Now()); err != nil {
			c.errorf("Apply: %v", err)
		}
		c.Exact(c)
	}
}

// mailbox holds the hints of what is committed.
type mailbox struct {
	mu      sync.Mutex
	rand    *rand.Rand
	changes []store.Change
}

func (m *mailbox) post(c store.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes = append(m.changes, c)
}

// some returns a few of them, in any order, and leaves them for others.
func (m *mailbox) some(n int) (batch []store.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range min(n, len(m.changes)) {
		batch = append(batch, m.changes[m.rand.IntN(len(m.changes))])
	}
	return batch
}

// table is the model of a guarded table to which an application writes: a
// model that shares no code with the store's rules.
type table struct {
	guarded bool
	rows    map[store.ID]*tableRow
}

type tableRow struct {
	row      store.Row
	deleted  bool
	presumed bool // a sweep has ended it, provisionally
	dated    bool // completed_at is known to the model; else the guard's clock wrote it
}

func (t *table) write(c store.Change) {
	if c.Op == store.Delete {
		t.rows[c.Old.ID].deleted = true
		return
	}
	was := t.rows[c.Record.ID]
	now := &tableRow{row: c.Record, dated: !c.Record.CompletedAt.IsZero()}
	switch {
	case was == nil:
	case was.row.Ended() && was.presumed && now.row.Status.Terminal():
		if now.row.CompletedAt.Equal(was.row.CompletedAt) {
			now.dated = false // it says nothing of its own about when
			if now.row.Status == was.row.Status {
				now.presumed, now.dated = true, true
			}
		}
	case was.row.Ended():
		now.row.Status, now.row.CompletedAt = was.row.Status, was.row.CompletedAt
		now.presumed, now.dated = was.presumed, was.dated
	}
	if t.guarded && now.row.Status.Terminal() && now.row.CompletedAt.IsZero() {
		now.row.CompletedAt = endOfDays
	}
	t.rows[c.Record.ID] = now
}

// endOfDays stands for a time that the guard's clock wrote.
var endOfDays = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// wantTable compares the table with the model, and counts with the table.
func (c *chaos) wantTable(what string, t *table) {
	c.Helper()
	c.wantWindows(what, slices.Collect(maps.Keys(t.rows)), chaosWindows)
	if !t.guarded {
		return
	}
	want := map[store.ID]Mirrored{}
	for id, w := range t.rows {
		if w.deleted {
			continue
		}
		got, err := c.Store.Run(c.Context(), id)
		if err != nil {
			c.errorf("law 2: %s: run %s: %v", what, id, err)
			continue
		}
		want[id] = Mirrored{Row: w.row, Presumed: w.presumed}
		same := got.Status == w.row.Status && got.Key() == w.row.Key() && got.Presumed == w.presumed &&
			got.CompletedAt.IsZero() == w.row.CompletedAt.IsZero() && (!w.dated || got.CompletedAt.Equal(w.row.CompletedAt))
		if !same {
			c.errorf("law 2: %s: run %s is %s at %v of %s (presumed %v), want %s at %v of %s (presumed %v)", what, id,
				got.Status, got.CompletedAt, got.Key(), got.Presumed, w.row.Status, w.row.CompletedAt, w.row.Key(), w.presumed)
		}
	}
	c.wantTallies(what, want)
}

// learnPresumed takes over what a sweep presumed.
func (c *chaos) learnPresumed(t *table) {
	for id, w := range t.rows {
		got, err := c.Store.Run(c.Context(), id)
		if err == nil && !w.deleted && got.Presumed {
			w.row.Status, w.row.CompletedAt, w.presumed, w.dated = got.Status, got.CompletedAt, true, true
		}
	}
}

// wantConsistent looks for runs that a full sweep should not have left so.
func (c *chaos) wantConsistent(t *table) {
	c.Helper()
	for id := range t.rows {
		r, err := c.Store.Run(c.Context(), id)
		if err != nil {
			continue // deleted: wantTable knows
		}
		if r.Status.Active() || r.Status.Terminal() && r.CompletedAt.IsZero() {
			c.errorf("law 3: a full sweep left run %s %s at %v", id, r.Status, r.CompletedAt)
		}
	}
}

// wantQuiet applies hints to a table that is as it should be (law 5).
func (c *chaos) wantQuiet(changes []store.Change) {
	c.Helper()
	if _, err := c.Store.Apply(c.Context(), changes, c.source.Now()); err != nil {
		c.errorf("Apply: %v", err)
	}
	before := c.Written(c)
	again, err := c.Store.Apply(c.Context(), changes, c.source.Now())
	if err != nil {
		c.errorf("Apply again: %v", err)
	}
	for i, a := range again {
		if a.Changed {
			c.errorf("laws 4 and 5: a hint that was applied before changed something: %+v", changes[i])
		}
	}
	if after := c.Written(c); after != before {
		c.errorf("law 5: hints that were applied before wrote %d times", after-before)
	}
}

// CapturedSource is [Captured] for a source: the requests' changes are made to
// the table in their true order, and then the requests arrive as hints, in
// sampled orders, each one to three times, in batches cut anywhere.
func CapturedSource(t *testing.T, open Open, decode func(body []byte) ([]store.Change, error)) {
	dir := capturedDir(t)
	b := open(t)
	space := uint32(1)
	for _, sc := range readScenarios(t, dir) {
		t.Run(sc.Name, func(t *testing.T) {
			requests := sc.decode(t, dir, decode)
			r := rand.New(rand.NewPCG(2, uint64(len(requests))))
			orders := ordersOf(r, len(requests))
			r.Shuffle(len(orders), func(i, j int) { orders[i], orders[j] = orders[j], orders[i] })
			for orders := range slices.Chunk(orders[:min(len(orders), sampled()/5)], together) {
				for i := range orders {
					enactAll(t, b, sc, requests, space+uint32(i))
				}
				deliverOrders(t, b.Store, r, requests, orders, space)
				for i, order := range orders {
					sc.checkSource(t, b.Store, space+uint32(i), order)
				}
				space += uint32(len(orders))
				b.Exact(t)
			}
		})
	}
}

// enactAll makes the changes of the requests in the order in which they were
// captured, each run's first from the row that it shows as old.
func enactAll(t *testing.T, b Backend, sc scenario, requests [][]store.Change, space uint32) {
	t.Helper()
	known := map[store.ID]bool{}
	order := make([]int, len(requests))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		if sc.Requests[i] < sc.Requests[j] {
			return -1
		}
		return 1
	})
	for _, i := range order {
		for _, c := range requests[i] {
			c = shiftChange(c, space)
			if id := c.ID(); !known[id] {
				known[id] = true
				if c.Op != store.Insert {
					b.Write(t, inserted(c.Old))
				}
			}
			b.Write(t, c)
		}
	}
}

// checkSource compares with what the scenario says. Where a request ended a
// run without saying when, the guard's clock did.
func (sc scenario) checkSource(t *testing.T, s store.Store, space uint32, order []int) {
	t.Helper()
	dated := sc
	dated.Runs = slices.Clone(sc.Runs)
	for i, want := range dated.Runs {
		if want.Deleted {
			continue
		}
		got, err := s.Run(t.Context(), shift(want.ID, space))
		if err != nil {
			t.Fatalf("order %v: run %s: %v", order, want.ID, err)
		}
		if !got.CompletedAt.IsZero() && time.Since(got.CompletedAt) < time.Hour {
			dated.Runs[i].CompletedAt = got.CompletedAt
			dated.Runs[i].Duration = nil
			if got.DurationMS.Valid {
				ms := int64(got.DurationMS.MS)
				dated.Runs[i].Duration = &ms
			}
		}
	}
	dated.check(t, s, space, order)
}
