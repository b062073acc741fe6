package scenarios

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/store"
)

// wrongDeals are what applications do with limits of their own accord, on the product's
// stores: what the oracles of limits are for, on each of them.
var wrongDeals = []struct {
	name   string
	deals  []deal
	oracle string
}{
	{"a begin without limits, by an earlier look at what is left", []deal{
		takeBy(beginsByALook, "begins", 5, keyAda, 9, 3, 0),
		takeBy(beginsByALook, "begins on another workflow", 6, keyTrim, 9, 3, 0),
	}, "never above a limit"},
	{"a begin that is refused by two looks, while a run ends", []deal{
		takeBy(refusedByTwoLooks, "begins", 5, keyAda, 9, 3, 0),
		dealList[slices.Index(dealNames(), "complete on another workflow")],
	}, "no slot of a limit is left"},
	{"what is left, by two looks, while a run ends", []deal{
		ask("asks what is left", leftByTwoLooks, whatIsLeft),
		dealList[slices.Index(dealNames(), "complete on another workflow")],
	}, "an answer is that of one snapshot"},
	{"a grant without an idempotency key, given by each of two processes", []deal{
		giveBy("grants", "", store.Key{User: ada}), giveBy("grants", "", store.Key{User: ada}),
	}, "what was asked for is granted once"},
}

// beginsByALook checks the limits, and then begins.
func beginsByALook(ctx context.Context, st granting, b store.Begin) (bool, error) {
	usages, err := st.Allowance(ctx, store.AllowanceRequest{User: b.User, Workflow: b.Workflow, Limits: b.Limits, Now: b.Now})
	if err != nil || slices.ContainsFunc(usages, store.Usage.Full) {
		return false, err
	}
	b.Limits = nil
	return begins(ctx, st, b)
}

// refusedByTwoLooks adds the active runs of one look to the ended ones of the next.
func refusedByTwoLooks(ctx context.Context, st granting, b store.Begin) (bool, error) {
	active, err := allowance(ctx, st, b.Limits)
	if err != nil {
		return false, err
	}
	usages, err := allowance(ctx, st, b.Limits)
	if err != nil {
		return false, err
	}
	for i := range usages {
		if usages[i].Active = active[i].Active; usages[i].Full() {
			return false, nil
		}
	}
	return begins(ctx, st, b)
}

func leftByTwoLooks(ctx context.Context, st granting) (any, error) {
	counted, err := allowance(ctx, st, leftLimits)
	if err != nil {
		return nil, err
	}
	active, err := allowance(ctx, st, leftLimits)
	if err != nil {
		return nil, err
	}
	var got []int64
	for i, u := range active {
		got = append(got, u.Granted, counted[i].Counted+u.Active)
	}
	return got, nil
}

// foundWrong explores the wrong deals, and wants each to be found by its oracle.
func foundWrong(t *testing.T, scenario func(list ...deal) func(*harness.Sim)) {
	t.Helper()
	for _, wrong := range wrongDeals {
		r := harness.Explore(t, scenario(wrong.deals...), harness.WithStrategies(harness.Preemptions(2, 0)))
		if f := r.Failure; f == nil || !strings.Contains(f.Oracle, wrong.oracle) {
			t.Errorf("%s: not found by %q: %s\n%v", wrong.name, wrong.oracle, r, r.Report)
			continue
		}
		t.Logf("%s: found after %d schedules", wrong.name, r.After)
	}
}

func TestWrongDealsAreFoundOnSQLite(t *testing.T) {
	t.Parallel()
	foundWrong(t, soldAtOnce)
}

func TestWrongDealsAreFoundOnPostgreSQL(t *testing.T) {
	t.Parallel()
	c := newSoldSource(t)
	foundWrong(t, func(list ...deal) func(*harness.Sim) { return c.soldAtOnce(t, list...) })
}
