package harness

import (
	"math/rand/v2"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// easy returns an actor whose next step no other can notice: it may go
// at once, since no order with it can matter.
func easy(run *execution, ready []*actor) *actor {
	var found *actor
	for _, a := range ready {
		o := a.next()
		faulty := run.sim.budget > 0 && len(o.Faults) > 0
		if a.id < 0 || !o.Foot.Local() || faulty {
			continue
		}
		if a == run.last {
			return a
		}
		if found == nil {
			found = a
		}
	}
	return found
}

// A node is one decision of the exhaustive search.
type node struct {
	values  int // of a choice; 0 for a pick
	value   int
	fault   bool
	ready   actorSet
	asleep  actorSet // trying them leads to a trace that was seen
	tried   actorSet
	current int
	last    int  // who went before, or -1
	spent   int  // preemptions before
	aloft   bool // a statement waits for a lock: what lets it go on does what it does, too
	foots   []engine.Footprint
}

// clockID is the place of the clock in sets of actors.
const clockID = maxActors - 1

func placeOf(a *actor) int {
	if a.id < 0 {
		return clockID
	}
	return a.id
}

// exhaustive tries all orders, depth first: by replaying the decisions up to
// the deepest one that leaves something to try.
//
// With reduce it skips what sleep sets show to be the same order of dependent
// steps as one that it has seen (Godefroid, 1996). With a bound it tries only
// orders with so many preemptions, and does not reduce, since both together
// would lose some.
type exhaustive struct {
	reduce    bool
	plain     bool                             // don't even let local steps go first: for the self-check
	bound     int                              // of preemptions; less than 0: none
	dependent func(a, b engine.Footprint) bool // nil: dependent
	watched   *watched                         // what oracles look at
	noFaults  bool                             // faults do not happen
	start     *replay                          // what comes before: for the point of no return
	stack     []node
	depth     int
	pruned    bool // the bound left something out
}

func (e *exhaustive) pick(run *execution, ready []*actor) *actor {
	if e.before() {
		return e.start.pick(run, ready)
	}
	if e.start != nil {
		e.start.within = nil
	}
	if !e.plain {
		if a := easy(run, ready); a != nil {
			return a
		}
	}
	if e.depth == len(e.stack) {
		e.stack = append(e.stack, e.newNode(run, ready))
	}
	n := &e.stack[e.depth]
	if n.values > 0 {
		run.diverged = "a choice came where an actor was picked before: the scenario does not do the same twice"
		return nil
	}
	if e.changed(n, ready) {
		run.diverged = "other actors could go on before: the scenario does not do the same twice"
		return nil
	}
	if n.current < 0 {
		n.current = e.next(n)
		if n.current < 0 {
			return nil
		}
	}
	for _, a := range ready {
		if placeOf(a) == n.current {
			e.depth++
			return a
		}
	}
	panic("harness: an actor that is ready is not found")
}

// changed reports whether an actor could go on when the node was made, and
// can't now. (Those that were found to be waiting have been taken out of it.)
func (e *exhaustive) changed(n *node, ready []*actor) bool {
	left := n.ready
	for _, a := range ready {
		left = left.without(placeOf(a))
	}
	return left != 0
}

func (e *exhaustive) newNode(run *execution, ready []*actor) node {
	n := node{current: -1, last: -1, foots: make([]engine.Footprint, len(run.sim.actors))}
	if e.start != nil && run.last != nil {
		n.last = placeOf(run.last)
	}
	for _, a := range ready {
		n.ready = n.ready.with(placeOf(a))
	}
	for _, a := range run.sim.actors {
		if !a.done {
			n.foots[a.id] = a.next().Foot
		}
		if _, state := a.underway(); state != grounded {
			n.aloft = true
		}
	}
	faulty := false // what happened is not what was to happen
	for i := len(e.stack) - 1; i >= 0; i-- {
		p := &e.stack[i]
		if p.values > 0 {
			faulty = faulty || p.fault && p.value > 0
			continue
		}
		// Of the decisions: what no other actor can notice goes without one.
		n.spent, n.last = p.spent, p.current
		if p.current != p.last && p.last >= 0 && p.ready.has(p.last) {
			n.spent++
		}
		if e.reduce && !faulty && !p.aloft && p.current != clockID {
			dependent := dependent
			if e.dependent != nil {
				dependent = e.dependent
			}
			(p.asleep | p.tried).without(p.current).each(func(other int) bool {
				if other != clockID && !dependent(p.foots[other], p.foots[p.current]) && !e.watched.dependent(p.foots[other], p.foots[p.current]) {
					n.asleep = n.asleep.with(other)
				}
				return true
			})
		}
		break
	}
	return n
}

// next returns whom to try next at a node, or -1. It goes on with the actor
// that went last, so that what is tried first has few switches.
func (e *exhaustive) next(n *node) int {
	left := n.ready &^ n.asleep &^ n.tried
	if n.last >= 0 && left.has(n.last) {
		return n.last
	}
	if e.bound >= 0 && n.last >= 0 && n.ready.has(n.last) && n.spent >= e.bound {
		e.pruned = e.pruned || left != 0
		return -1
	}
	found := -1
	left.each(func(i int) bool { found = i; return false })
	return found
}

// before reports whether the search hasn't begun yet.
func (e *exhaustive) before() bool { return e.start != nil && e.start.at < len(e.start.steps) }

func (e *exhaustive) blocked(run *execution, a *actor) {
	if e.start != nil && e.start.within != nil {
		e.start.blocked(run, a)
		return
	}
	for e.depth > 0 {
		e.depth--
		n := &e.stack[e.depth]
		if n.values > 0 {
			continue // the faults that it might have met before it had to wait
		}
		if n.current != placeOf(a) {
			e.depth++ // it went without a decision
			return
		}
		n.ready = n.ready.without(n.current)
		n.current = -1
		e.stack = e.stack[:e.depth+1]
		return
	}
}

func (e *exhaustive) choose(run *execution, n int, fault bool) int {
	if e.start != nil && (e.before() || e.start.within != nil) {
		return e.start.choose(run, n, fault)
	}
	if fault && e.noFaults {
		return 0
	}
	if e.depth == len(e.stack) {
		e.stack = append(e.stack, node{values: n, fault: fault})
	}
	d := &e.stack[e.depth]
	e.depth++
	if d.values != n {
		run.diverged = "a choice had another number of values before: the scenario does not do the same twice"
		return 0
	}
	return d.value
}

// rewind prepares the same schedule once more.
func (e *exhaustive) rewind() {
	e.depth = 0
	if e.start != nil {
		e.start.rewind()
	}
}

// again prepares the next schedule. It reports false when all were tried.
func (e *exhaustive) again() bool {
	e.rewind()
	for len(e.stack) > 0 {
		n := &e.stack[len(e.stack)-1]
		if n.values > 0 {
			if n.value++; n.value < n.values {
				return true
			}
		} else {
			if n.current >= 0 {
				n.tried = n.tried.with(n.current)
			}
			if n.current = e.next(n); n.current >= 0 {
				return true
			}
		}
		e.stack = e.stack[:len(e.stack)-1]
	}
	return false
}

// random picks any actor that is ready, each with the same chance.
type random struct {
	rand *rand.Rand
}

// faultOdds is the chance of a fault where one can happen, one in so many.
const faultOdds = 12

func (r *random) pick(run *execution, ready []*actor) *actor {
	if a := easy(run, ready); a != nil {
		return a
	}
	return ready[r.rand.IntN(len(ready))]
}

func (r *random) blocked(*execution, *actor) {}

func (r *random) choose(_ *execution, n int, fault bool) int {
	if fault && r.rand.IntN(faultOdds) > 0 {
		return 0
	}
	return r.rand.IntN(n)
}

// pct is probabilistic concurrency testing (Burckhardt and others, 2010): the
// ready actor with the highest priority goes, and at depth-1 moments the one
// that would go is put last. A bug of that depth is found with a chance of at
// least 1 in actors × steps^(depth-1), however long the program is.
type pct struct {
	random
	depth    int
	length   int // how many picks a schedule has
	picks    int
	changes  map[int]int // at which pick, to which priority
	priority map[int]int
}

func newPCT(r *rand.Rand, depth, length int) *pct {
	p := &pct{random: random{rand: r}, depth: depth, length: max(length, 1), changes: map[int]int{}, priority: map[int]int{}}
	for i := range depth - 1 {
		p.changes[r.IntN(p.length)] = i
	}
	return p
}

func (p *pct) pick(run *execution, ready []*actor) *actor {
	if a := easy(run, ready); a != nil {
		return a
	}
	best := p.highest(ready)
	if low, ok := p.changes[p.picks]; ok {
		p.priority[best.id] = low - p.depth
		best = p.highest(ready)
	}
	p.picks++
	return best
}

func (p *pct) highest(ready []*actor) *actor {
	var best *actor
	for _, a := range ready {
		if _, ok := p.priority[a.id]; !ok {
			p.priority[a.id] = p.rand.IntN(1 << 30)
		}
		if best == nil || p.priority[a.id] > p.priority[best.id] {
			best = a
		}
	}
	return best
}
