package harness

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// An Option changes how a scenario is explored.
type Option func(*settings)

type settings struct {
	plan   []Strategy
	seed   uint64
	budget int
	grain  Grain
	engine map[any]any // what engines want to find, see [engine.Setting]
	home   *home
	quiet  time.Duration // how long another process may be
}

// Grain is how much of an actor is one step.
type Grain int

const (
	// Statements makes every statement a step.
	Statements Grain = iota
	// Transactions makes a whole transaction a step, or a statement outside of
	// one. A store whose every call is one transaction is explored call by
	// call. What waits for a lock lets others go on in between.
	Transactions
)

// WithGrain sets the grain.
func WithGrain(g Grain) Option { return func(s *settings) { s.grain = g } }

// WithStrategies explores by these strategies, one after the other.
func WithStrategies(plan ...Strategy) Option { return func(s *settings) { s.plan = plan } }

// Seed is the seed of what is sampled. The same seed gives the same schedules.
func Seed(seed uint64) Option { return func(s *settings) { s.seed = seed } }

// Budget is how many schedules the default plan may run for all orders, 10,000
// without it, and four times as many as for each strategy that follows where
// they don't suffice.
func Budget(n int) Option { return func(s *settings) { s.budget = n } }

// Share lets several explorations of a test use the same databases, which have
// to be set up alike: making one costs more than a hundred schedules.
func Share(t testing.TB) Option {
	h := &home{}
	t.Cleanup(h.close)
	return func(s *settings) { s.home = h }
}

// EngineSetting is for the engines of this module, whose packages make an Option
// of it.
func EngineSetting(set engine.Setting) Option {
	return func(s *settings) {
		all := map[any]any{set.Key: set.Value} // another exploration may have the others
		for key, value := range s.engine {
			if key != set.Key {
				all[key] = value
			}
		}
		s.engine = all
	}
}

// home is where the databases live.
type home struct {
	resources interner
	engines   []engine.Engine
	unsteady  bool // one of them has its say in the order
	idle      []*worker
	closers   []func()
}

func (h *home) onClose(do func()) { h.closers = append(h.closers, do) }

func (h *home) close() {
	for _, w := range h.idle {
		close(w.in)
	}
	for _, do := range slices.Backward(h.closers) {
		do()
	}
}

// A Strategy says which schedules are tried.
type Strategy struct {
	name      string
	kind      strategyKind
	bound     int
	schedules int
}

type strategyKind int

const (
	kindExhaustive strategyKind = iota
	kindPlain
	kindBounded
	kindRandom
	kindPCT
	kindReplay
)

// Exhaustive tries all orders that matter, at most n schedules (0: no limit),
// leaving out those that sleep sets show to be equivalent.
func Exhaustive(n int) Strategy {
	return Strategy{"all orders", kindExhaustive, -1, n}
}

// Plain tries every single order, at most n schedules: what the reduction is
// held against.
func Plain(n int) Strategy { return Strategy{"all orders, unreduced", kindPlain, -1, n} }

// Preemptions tries all orders with at most so many preemptions, at most n
// schedules: an actor is preempted where it could have gone on.
func Preemptions(bound, n int) Strategy {
	return Strategy{"all orders up to " + plural(bound, "preemption"), kindBounded, bound, n}
}

// Random samples n schedules: at every step, each actor has the same chance.
func Random(n int) Strategy { return Strategy{"random", kindRandom, 0, n} }

// PCT samples n schedules by probabilistic concurrency testing at a depth: how
// many orderings of two steps it takes to see the bug.
func PCT(depth, n int) Strategy {
	return Strategy{fmt.Sprintf("PCT(%d)", depth), kindPCT, depth, n}
}

// Replay runs one schedule alone, as -harness.replay does.
func Replay(schedule string) Strategy { return Strategy{schedule, kindReplay, 0, 1} }

func (s Strategy) String() string { return s.name }
