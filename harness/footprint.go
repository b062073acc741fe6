package harness

import (
	"math/bits"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// dependent reports whether the order of two steps can matter.
func dependent(a, b engine.Footprint) bool {
	switch {
	case a.Everything || b.Everything:
		return true
	case a.Calls && b.Returns || a.Returns && b.Calls:
		return true // which of two calls was over before the other began
	}
	return a.Writes&(b.Reads|b.Writes|b.Adds)|b.Writes&(a.Reads|a.Adds)|a.Adds&b.Reads|b.Adds&a.Reads != 0
}

// sharedResource is the bit of those that don't fit, see [engine.Resources].
const sharedResource = 63

// watched are the tables that oracles read which are asked after every step.
// Two steps that change them are not swapped, since what is committed between
// them is another thing then, although neither of them can tell.
type watched struct {
	tables engine.Resources
	grown  bool // since the search began
}

func (w *watched) dependent(a, b engine.Footprint) bool {
	return w != nil && a.Shows&w.tables != 0 && b.Shows&w.tables != 0
}

// looked notes what an oracle has read. One that reads no table may look at
// what actors leave in variables, after any step that changes one.
func (w *watched) looked(at engine.Resources) {
	if at == 0 {
		at = ^engine.Resources(0)
	}
	w.grown = w.grown || at&^w.tables != 0
	w.tables |= at
}

// An interner gives the resources of a test their bits, in the order in which
// they first appear. They are the same in every schedule.
type interner struct {
	bits map[string]engine.Resources
}

func (n *interner) of(name string) engine.Resources {
	if r, ok := n.bits[name]; ok {
		return r
	}
	if n.bits == nil {
		n.bits = map[string]engine.Resources{}
	}
	r := engine.Resources(1) << min(len(n.bits), sharedResource)
	n.bits[name] = r
	return r
}

// actorSet is a set of actors, by their places in the order of [Sim.Go].
type actorSet uint64

const maxActors = 64

func (s actorSet) has(i int) bool         { return s&(1<<i) != 0 }
func (s actorSet) with(i int) actorSet    { return s | 1<<i }
func (s actorSet) without(i int) actorSet { return s &^ (1 << i) }
func (s actorSet) len() int               { return bits.OnesCount64(uint64(s)) }
func (s actorSet) each(do func(i int) bool) {
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		if !do(bits.TrailingZeros64(rest)) {
			return
		}
	}
}
