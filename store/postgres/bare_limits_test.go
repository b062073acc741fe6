package postgres

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// TestWithoutMigrationsScopesAndLimitsAreTheSame compares counts, allowances and begins
// of one history with those of a database that has the migrations, but for what is
// presumed and granted.
func TestWithoutMigrationsScopesAndLimitsAreTheSame(t *testing.T) {
	t.Parallel()
	addresses := []string{pgtest.Database(t), pgtest.Database(t)}
	for _, address := range addresses {
		pgtest.Exec(t, address, sourcetest.BareTable, `alter table workflow_runs alter user_id drop not null`)
	}
	windows(t, addresses[1])
	pgtest.Exec(t, addresses[1], `update run_counter.settings set guard = 'off'`)
	var both []*Store
	for _, address := range addresses {
		drawEnds(t, address, rand.New(rand.NewPCG(7, 7)), func(value string) string { return value })
		both = append(both, mustOpen(t, address, Options{}))
	}
	r := rand.New(rand.NewPCG(16, 16))
	for range 200 {
		of, in := drawScope(r), drawWindow(r)
		var counts [2]store.Count
		for i, s := range both {
			var err error
			if counts[i], err = s.Count(t.Context(), of, in); err != nil {
				t.Fatalf("%s in %v: %v", of, in, err)
			}
		}
		if diff := cmp.Diff(counts[1], counts[0]); diff != "" {
			t.Fatalf("%s in %v (-with migrations +without):\n%s", of, in, diff)
		}
	}
	for n := range 60 {
		user, flow := sourcetest.MustParse(t, []string{ada, bob}[r.IntN(2)]), sourcetest.MustParse(t, []string{adaFlow, bobFlow}[r.IntN(2)])
		limits := []store.Limit{{Scope: store.UserLimit, Max: int64(r.IntN(150)), From: drawWindow(r).From}, {Scope: store.KeyLimit, Max: int64(r.IntN(80)), From: drawWindow(r).From}}[r.IntN(2):]
		var begun [2]store.BeginResult
		var left [2][]store.Usage
		for i, s := range both {
			var err error
			if left[i], err = s.Allowance(t.Context(), store.AllowanceRequest{User: user, Workflow: flow, Limits: limits, Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
			begun[i], err = s.Begin(t.Context(), store.Begin{ID: storetest.MustID('3', n), User: user, Workflow: flow, Limits: limits, Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			begun[i].Run = store.Run{}
			for u := range begun[i].Usages {
				if usage := &begun[i].Usages[u]; usage.Full() && !usage.Limit.From.IsZero() {
					usage.Counted = 0 // no more than fill it
				}
			}
		}
		if diff := cmp.Diff(left[1], left[0]); diff != "" {
			t.Fatalf("the allowance (-with migrations +without):\n%s", diff)
		}
		if diff := cmp.Diff(begun[1], begun[0]); diff != "" {
			t.Fatalf("a begin under %+v (-with migrations +without):\n%s", limits, diff)
		}
	}
}

// TestWithoutMigrationsTwoLimitsHold has 60 begins at once on five keys of a user.
func TestWithoutMigrationsTwoLimitsHold(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable)
	s := mustOpen(t, pgtest.With(t, address, "pool_max_conns", "30"), Options{})
	limits := []store.Limit{{Scope: store.KeyLimit, Max: 4}, {Scope: store.UserLimit, Max: 13, From: time.Now().Add(-time.Hour)}}
	var all sync.WaitGroup
	for n := range 60 {
		all.Go(func() {
			if _, err := s.Begin(t.Context(), store.Begin{ID: storetest.MustID('1', n), User: sourcetest.MustParse(t, ada), Workflow: storetest.MustID('c', n%5), Limits: limits, Now: time.Now()}); err != nil {
				t.Errorf("Begin: %v", err)
			}
		})
	}
	all.Wait()
	sourcetest.MustBe(t, address, `select sum(n) || ' ' || (max(n) <= 4) from (select count(*) as n from workflow_runs group by workflow_id) as k`, "13 true")
}
