package harness

import "math/bits"

// A footprint says what a step touches that another actor's step can notice.
// Two steps that touch nothing of each other's may be swapped without anybody
// seeing a difference, which is what the reduced search rests on; the
// self-check in the tests holds it to that.
//
// A resource is what an engine makes of it: SQLite's write lock, what is
// published of a table, a row of the model. The zero footprint is a step that
// is nobody else's business.
type footprint struct {
	reads, writes resources
	adds          resources // what others of them add to without noticing each other
	shows         resources // tables of which what is committed changes, for [Sim.Always]
	calls         bool      // a recorded call begins
	returns       bool      // a recorded call ends
	everything    bool      // nothing can be said of it
}

// resources is a set of interned resources. What doesn't fit any more shares
// the last one, which makes steps dependent that need not be: the search grows,
// and stays right.
type resources uint64

const sharedResource = 63

func (f footprint) local() bool {
	return !f.everything && !f.calls && !f.returns && f.reads|f.writes|f.adds|f.shows == 0
}

// and is the footprint of what does both.
func (f footprint) and(g footprint) footprint {
	return footprint{reads: f.reads | g.reads, writes: f.writes | g.writes, adds: f.adds | g.adds, shows: f.shows | g.shows,
		calls: f.calls || g.calls, returns: f.returns || g.returns, everything: f.everything || g.everything}
}

// dependent reports whether the order of two steps can matter.
func dependent(a, b footprint) bool {
	switch {
	case a.everything || b.everything:
		return true
	case a.calls && b.returns || a.returns && b.calls:
		return true // which of two calls was over before the other began
	}
	return a.writes&(b.reads|b.writes|b.adds)|b.writes&(a.reads|a.adds)|a.adds&b.reads|b.adds&a.reads != 0
}

// watched are the tables that oracles read which are asked after every step.
// Two steps that change them are not swapped, since what is committed between
// them is another thing then, although neither of them can tell.
type watched struct {
	tables resources
	grown  bool // since the search began
}

func (w *watched) dependent(a, b footprint) bool {
	return w != nil && a.shows&w.tables != 0 && b.shows&w.tables != 0
}

// looked notes what an oracle has read. One that reads no table may look at
// what actors leave in variables, after any step that changes one.
func (w *watched) looked(at resources) {
	if at == 0 {
		at = ^resources(0)
	}
	w.grown = w.grown || at&^w.tables != 0
	w.tables |= at
}

// an interner gives the resources of a test their bits, in the order in which
// they first appear. They are the same in every schedule.
type interner struct {
	bits map[string]resources
}

func (n *interner) of(name string) resources {
	if r, ok := n.bits[name]; ok {
		return r
	}
	if n.bits == nil {
		n.bits = map[string]resources{}
	}
	r := resources(1) << min(len(n.bits), sharedResource)
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
