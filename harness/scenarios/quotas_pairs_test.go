package scenarios

import (
	"context"
	"math"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/internal/need"
)

// quotaCalls are what can happen at the same time in the world of limits: user 1 has
// three runs, and may have four and what is granted.
var quotaCalls = []call{
	named("begin under both limits", starts(5, key11, 3, 4, 0)),
	named("begin under both limits on another workflow", starts(6, key12, 2, 4, 0)),
	named("begin in the window", starts(7, key11, 2, 3, november)),
	named("grant to the user", giving(7, user1, 1)),
	named("grant to a key", giving(8, key11, 1)),
	named("revoke", calls("", func(ctx context.Context, y quotas, s *session) error { return y.revoke(ctx, s, 1, 1) })),
	named("complete", finishing(1, completed, 100)),
	named("complete on another workflow", finishing(2, completed, 100)),
	named("complete late", finishing(1, completed, 94)),
	named("sweep", calls("", func(ctx context.Context, y quotas, s *session) error { return y.sweep(ctx, s) })),
	named("fold", calls("", func(ctx context.Context, y quotas, s *session) error { return y.fold(ctx, s, key11) })),
	named("fold another user", calls("", func(ctx context.Context, y quotas, s *session) error { return y.fold(ctx, s, whose{2, 1}) })),
	named("recount", calls("", func(ctx context.Context, y quotas, s *session) error { return y.recount(ctx, s, key11) })),
	named("re-open", calls("", func(ctx context.Context, y quotas, s *session) error { return y.reopen(ctx, s, 3) })),
	named("hand over", calls("", func(ctx context.Context, y quotas, s *session) error { return y.handOver(ctx, s, 1, 2) })),
	named("delete", calls("", func(ctx context.Context, y quotas, s *session) error { return y.remove(ctx, s, 3) })),
	named("count a user", counting1(user1)),
	named("count a workflow", counting1(flow1)),
	named("count in a window", billing1(user1, november, math.MaxInt64)),
	named("ask what is left", asks(bound{of: user1, most: 4})),
	named("begin, crash and restart", starts(8, key11, 3, 4, 0, harness.Restarts())),
}

// quotaBegins are as many as stand first.
const quotaBegins = 3

func named(name string, c call) call {
	c.name = name
	return c
}

// quotaScene begins with a grant of one run to user 1, given in November.
func quotaScene(list ...call) func(*harness.Sim) {
	return sold{grants: []row{given(user1, 1, present)}, calls: list}.scene(ours())
}

func quotaNames() (names []string) {
	for _, c := range quotaCalls {
		names = append(names, c.name)
	}
	return names
}

// TestEveryPairOfLimits runs any two calls at once, in all orders that matter.
func TestEveryPairOfLimits(t *testing.T) {
	quotaPairs.each(t, quotaNames(), !need.Raced, func(t *testing.T, i int, shared harness.Option) (total int) {
		for j := i; j < len(quotaCalls); j++ {
			if leftOut(i + j) {
				continue
			}
			total += passes(t, quotaCalls[i].name+" and "+quotaCalls[j].name, quotaScene(quotaCalls[i], quotaCalls[j]), shared, harness.Exhaustive(0))
		}
		return total
	})
}

// TestEveryTripleOfLimits runs any begin under limits beside any two calls at once, in all
// orders of their statements with at most two preemptions.
func TestEveryTripleOfLimits(t *testing.T) {
	quotaTriples.each(t, quotaNames()[:quotaBegins], wholeTriples(t), func(t *testing.T, i int, shared harness.Option) (total int) {
		triples(i, len(quotaCalls), func(n, j, k int) {
			if leftOutOfTriples(n) {
				return
			}
			total += passes(t, quotaCalls[i].name+", "+quotaCalls[j].name+" and "+quotaCalls[k].name,
				quotaScene(quotaCalls[i], quotaCalls[j], quotaCalls[k]), shared, harness.Preemptions(2, 0))
		})
		return total
	})
}

var (
	quotaPairs = schedules{ // 7,730
		"begin under both limits":                     439,
		"begin under both limits on another workflow": 519,
		"begin in the window":                         419,
		"grant to the user":                           85,
		"grant to a key":                              79,
		"revoke":                                      56,
		"complete":                                    620,
		"complete on another workflow":                751,
		"complete late":                               542,
		"sweep":                                       906,
		"fold":                                        328,
		"fold another user":                           1198,
		"recount":                                     284,
		"re-open":                                     544,
		"hand over":                                   216,
		"delete":                                      306,
		"count a user":                                17,
		"count a workflow":                            16,
		"count in a window":                           21,
		"ask what is left":                            20,
		"begin, crash and restart":                    364,
	}
	quotaTriples = schedules{ // 372,802
		"begin under both limits":                     130199,
		"begin under both limits on another workflow": 130519,
		"begin in the window":                         112084,
	}
)
