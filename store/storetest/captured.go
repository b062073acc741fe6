package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	everyOrder = 5000 // a scenario with more orders than this is sampled
	atLeast    = 200  // a scenario with few orders has each tried several times, with other duplicates
	together   = 32   // orders whose deliveries are mixed, and cut into batches as one
)

// sampled returns the number of orders that are tried where there are too many: 500, or 5,000 in CI where
// RUNCOUNTER_SEEDS doesn't ask for less.
func sampled() int {
	if os.Getenv("CI") != "" && os.Getenv("RUNCOUNTER_SEEDS") == "" {
		return everyOrder
	}
	return 500
}

// capturedAt is the time at which the captured requests are received: after all that they
// tell, and well within every limit.
var capturedAt = time.Date(2026, 11, 22, 20, 36, 0, 0, time.UTC)

// scenario is an entry of testdata/webhooks/scenarios.json.
type scenario struct {
	Name     string
	Requests []string
	Runs     []wantRun
	Counts   []wantCount
}

type wantRun struct {
	ID          store.ID     `json:"id"`
	Deleted     bool         `json:"deleted"`
	User        store.ID     `json:"user_id"`
	Workflow    store.ID     `json:"workflow_id"`
	Draft       store.ID     `json:"draft_id"`
	Status      store.Status `json:"status"`
	CompletedAt time.Time    `json:"completed_at"`
	Duration    *int64       `json:"duration_ms"`
	Counted     bool         `json:"counted"`
}

type wantCount struct {
	User     store.ID `json:"user_id"`
	Workflow store.ID `json:"workflow_id"`
	Draft    store.ID `json:"draft_id"`
	Count    int64    `json:"count"`
	store.Tally
}

// Captured delivers each scenario of testdata/webhooks in every order (a
// sample of them beyond 5,000), each request one to three times, cut into
// batches anywhere, and compares runs and counts with what scenarios.json
// says. decode is the webhook's, and returns nothing for a request that is to
// be ignored.
//
// One store serves all orders: each has the ids of its runs, users, workflows
// and drafts to itself. Orders arrive mixed, so that a batch holds parts of
// several.
func Captured(t *testing.T, open func(testing.TB) store.Store, decode func(body []byte) ([]store.Change, error)) {
	dir := capturedDir(t)
	for _, sc := range readScenarios(t, dir) {
		t.Run(sc.Name, func(t *testing.T) {
			requests := sc.decode(t, dir, decode)
			s := open(t)
			r := rand.New(rand.NewPCG(1, uint64(len(requests))))
			space := uint32(1)
			for orders := range slices.Chunk(ordersOf(r, len(requests)), together) {
				deliverOrders(t, s, r, requests, orders, space)
				for i, order := range orders {
					sc.check(t, s, space+uint32(i), order)
				}
				space += uint32(len(orders))
			}
		})
	}
}

// decode reads the requests of a scenario.
func (sc scenario) decode(t *testing.T, dir string, decode func(body []byte) ([]store.Change, error)) [][]store.Change {
	t.Helper()
	requests := make([][]store.Change, len(sc.Requests))
	for i, name := range sc.Requests {
		body, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if requests[i], err = decode(body); err != nil {
			t.Fatalf("decode %s: %v", name, err)
		}
	}
	return requests
}

// deliverOrders applies the requests once for each order, in ids of its own:
// the orders mixed with each other, in batches of any length.
func deliverOrders(t *testing.T, s store.Store, r *rand.Rand, requests [][]store.Change, orders [][]int, space uint32) {
	t.Helper()
	queues := make([][]store.Change, len(orders))
	var turns []int
	for i, order := range orders {
		for _, n := range repeated(r, order) {
			for _, c := range requests[n] {
				queues[i] = append(queues[i], shiftChange(c, space+uint32(i)))
				turns = append(turns, i)
			}
		}
	}
	r.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	var arrived []store.Change
	for _, i := range turns {
		arrived, queues[i] = append(arrived, queues[i][0]), queues[i][1:]
	}
	a := Adversary{Rand: r, InOrder: true, MaxBatch: 1 << r.IntN(9)}
	for _, batch := range a.Deliver(arrived) {
		if _, err := s.Apply(context.Background(), batch, capturedAt); err != nil {
			t.Fatalf("apply %d changes of the orders %v: %v", len(batch), orders, err)
		}
	}
	applied, err := s.Apply(context.Background(), arrived, capturedAt)
	if err != nil {
		t.Fatalf("apply everything again: %v", err)
	}
	for i, a := range applied {
		if a.Changed {
			t.Fatalf("a change that was known changed something again, in one of the orders %v: %+v", orders, arrived[i])
		}
	}
}

// check compares one order's runs and counts with the scenario.
func (sc scenario) check(t *testing.T, s store.Store, space uint32, order []int) {
	t.Helper()
	ctx := context.Background()
	for _, want := range sc.Runs {
		got, err := s.Run(ctx, shift(want.ID, space))
		if want.Deleted {
			if !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("order %v: run %s was deleted; got %+v, error %v", order, want.ID, got, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("order %v: run %s: %v", order, want.ID, err)
		}
		if diff := cmp.Diff(want.run(space), outcomeAndKey(got)); diff != "" {
			t.Fatalf("order %v: run %s (-want +got):\n%s", order, want.ID, diff)
		}
	}
	for _, want := range sc.Counts {
		key := store.KeyOf(shift(want.User, space), shift(want.Workflow, space), shift(want.Draft, space))
		got, err := s.Count(ctx, key.Scope(), store.AllTime)
		if err != nil {
			t.Fatalf("order %v: count of %s: %v", order, key, err)
		}
		got.LastRunAt = time.Time{} // the runs' own times are compared above
		if diff := cmp.Diff(store.Count{Key: key, Count: want.Count, Tallies: store.Tallies{Ended: want.Tally}}, got); diff != "" {
			t.Fatalf("order %v (-want +got):\n%s", order, diff)
		}
	}
}

// run returns the wanted run as it stands in a space of ids.
func (w wantRun) run(space uint32) store.Run {
	r := store.Run{Counted: w.Counted, Row: store.Row{
		ID: shift(w.ID, space), User: shift(w.User, space), Workflow: shift(w.Workflow, space), Draft: shift(w.Draft, space),
		Status: w.Status, CompletedAt: store.Instant(w.CompletedAt),
	}}
	if w.Duration != nil {
		r.DurationMS = store.MillisOf(*w.Duration)
	}
	return r
}

// outcomeAndKey leaves the columns that a scenario speaks of.
func outcomeAndKey(r store.Run) store.Run {
	return store.Run{Presumed: r.Presumed, Counted: r.Counted, Row: store.Row{
		ID: r.ID, User: r.User, Workflow: r.Workflow, Draft: r.Draft,
		Status: r.Status, CompletedAt: r.CompletedAt, DurationMS: r.DurationMS,
	}}
}

// shift moves an id into a space of its own.
func shift(id store.ID, space uint32) store.ID {
	if !id.IsZero() {
		moved, err := store.ParseID(fmt.Sprintf("%08x", space) + id.String()[8:])
		if err != nil {
			panic(err) // those of the captures are UUIDs
		}
		return moved
	}
	return id
}

func shiftChange(c store.Change, space uint32) store.Change {
	for _, r := range [...]*store.Row{&c.Record, &c.Old} {
		r.ID, r.User = shift(r.ID, space), shift(r.User, space)
		r.Workflow, r.Draft = shift(r.Workflow, space), shift(r.Draft, space)
	}
	return c
}

// repeated delivers each request one to three times. It comes first in the
// order that is given; its duplicates fall anywhere after that.
func repeated(r *rand.Rand, order []int) []int {
	all := slices.Clone(order)
	for _, n := range order {
		for range r.IntN(3) {
			first := slices.Index(all, n)
			all = slices.Insert(all, first+1+r.IntN(len(all)-first), n)
		}
	}
	return all
}

// ordersOf returns every order of n requests, or a sample.
func ordersOf(r *rand.Rand, n int) [][]int {
	total := 1
	for i := 2; i <= n && total <= everyOrder; i++ {
		total *= i
	}
	if total > everyOrder {
		orders := make([][]int, sampled())
		for i := range orders {
			orders[i] = r.Perm(n)
		}
		return orders
	}
	orders := [][]int{{}}
	for i := range n {
		var longer [][]int
		for _, o := range orders {
			for at := range len(o) + 1 {
				longer = append(longer, slices.Insert(slices.Clone(o), at, i))
			}
		}
		orders = longer
	}
	return slices.Repeat(orders, 1+atLeast/len(orders))
}

func readScenarios(t *testing.T, dir string) []scenario {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "scenarios.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []scenario
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatalf("scenarios.json: %v", err)
	}
	if err := everyRequestIsTold(dir, all); err != nil {
		t.Fatal(err)
	}
	return all
}

// everyRequestIsTold returns an error for a captured request that no scenario
// speaks of.
func everyRequestIsTold(dir string, all []scenario) error {
	files, err := filepath.Glob(filepath.Join(dir, "[0-9]*.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Base(f)
		if !slices.ContainsFunc(all, func(sc scenario) bool { return slices.Contains(sc.Requests, name) }) {
			return fmt.Errorf("scenarios.json does not say what %s leads to: add it to a scenario", name)
		}
	}
	return nil
}

// capturedDir finds the captured requests from whichever package the test runs
// in: they stand beside go.mod.
func capturedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "webhooks")
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("there is no go.mod above the directory of the test")
		}
		dir = parent
	}
}
