package engine

// A Footprint says what a step touches that another actor's step can notice.
// Two steps that touch nothing of each other's may be swapped and no actor
// sees a difference, which is what the reduced search rests on; the
// self-check in the tests holds it to that.
//
// A resource is what an engine makes of it: SQLite's write lock, what is
// published of a table, a row of the model. The zero Footprint is a step that
// no other actor can notice.
type Footprint struct {
	Reads, Writes Resources
	Adds          Resources // what others of them add to without noticing each other
	Shows         Resources // tables of which what is committed changes, for oracles
	Calls         bool      // a recorded call begins
	Returns       bool      // a recorded call ends
	Everything    bool      // nothing can be said of it
}

// Resources is a set of interned resources. What doesn't fit any more shares
// the last one, which makes steps dependent that need not be: the search grows,
// and stays right.
type Resources uint64

// Local reports whether no other actor can notice the step.
func (f Footprint) Local() bool {
	return !f.Everything && !f.Calls && !f.Returns && f.Reads|f.Writes|f.Adds|f.Shows == 0
}

// And is the footprint of what does both.
func (f Footprint) And(g Footprint) Footprint {
	return Footprint{Reads: f.Reads | g.Reads, Writes: f.Writes | g.Writes, Adds: f.Adds | g.Adds, Shows: f.Shows | g.Shows,
		Calls: f.Calls || g.Calls, Returns: f.Returns || g.Returns, Everything: f.Everything || g.Everything}
}
