package harness

import (
	"math/rand/v2"
	"slices"
)

// minimise looks for the shortest schedule with the same failure: with fewer
// faults, without whole actors, without whole operations, with fewer switches,
// in this order. What it came to is in the minimiser.
func (x *explorer) minimise(run *execution) *minimiser {
	m := &minimiser{x: x, want: run.failure, best: run, without: run.without}
	m.orderly = m.passes(m.without)
	for m.faults() || m.fewerFaults() || m.actors() || m.ops() || m.switches() {
	}
	if m.sought = !m.open; m.fewerFaults() { // there are fewer orders by now
		for m.actors() || m.ops() || m.switches() {
		}
	}
	return m
}

// How many replays, and steps of them, the minimiser spends at most.
const (
	patience      = 3_000
	patienceSteps = 50 * patience
)

func (m *minimiser) tired() bool { return m.replays >= patience || m.steps >= patienceSteps }

type minimiser struct {
	x       *explorer
	want    *Failure
	best    *execution
	without omissions
	replays int
	steps   int  // of all replays
	bounded bool // the fewest preemptions are known
	sought  bool // fewer faults were looked for
	open    bool // not every schedule with fewer faults was tried
	orderly bool // the whole scenario passes where no actor is preempted
}

// passes reports whether some order without a fault, in which no actor is
// preempted, passes. Where the whole scenario has one and a part of it has
// none, an oracle asks for what was left out, and its failure is another one.
func (m *minimiser) passes(without omissions) bool {
	search := &exhaustive{bound: 0, noFaults: true}
	for range 24 {
		m.replays++
		run := m.x.execute(search, without, false)
		if !run.aborted && run.failure == nil && run.diverged == "" {
			return true
		}
		if !search.again() {
			break
		}
	}
	return false
}

// leaveOut is try, for a part of the scenario.
func (m *minimiser) leaveOut(s schedule, without omissions) bool {
	best, before := m.best, m.without
	if !m.try(&replay{steps: s, loose: true}, without) {
		return false
	}
	if m.orderly && !m.passes(without) {
		m.best, m.without = best, before
		return false
	}
	return true
}

// try runs a schedule as well as it can be followed, and keeps what still
// fails alike, with no more faults.
func (m *minimiser) try(c chooser, without omissions) bool {
	if m.tired() {
		return false
	}
	m.replays++
	run := m.x.execute(c, without, false)
	m.steps += len(run.events)
	if !run.failure.same(m.want) || run.diverged != "" || run.faults() > m.best.faults() {
		return false
	}
	m.best, m.without = run, without
	return true
}

func (m *minimiser) faults() bool {
	s := m.best.schedule()
	for i := range s {
		for j, c := range s[i].choices {
			if c == 0 {
				continue
			}
			t := slices.Clone(s)
			t[i].choices = slices.Clone(s[i].choices)
			t[i].choices[j] = 0
			if m.try(&replay{steps: t, loose: true}, m.without) {
				return true
			}
		}
	}
	return false
}

// fewerFaults searches again, with fewer faults: the schedule that was found
// says nothing of those whose order is another. It does so before parts of the
// scenario are left out that fewer faults may need, and where that could not try
// all of them, once more afterwards.
func (m *minimiser) fewerFaults() bool {
	if m.sought {
		return false
	}
	m.sought = true
	effort := faultEffort
	if m.x.live() {
		effort /= 10 // a schedule on a server takes milliseconds
	}
	for most := range m.best.faults() {
		all := &exhaustive{reduce: true, bound: -1, dependent: m.x.dependent, watched: &m.x.watched}
		found, complete := m.search(all, most, effort)
		if found {
			return true
		}
		if complete {
			continue
		}
		m.open = true
		for bound := range 3 {
			if found, _ = m.search(&exhaustive{bound: bound}, most, effort/4); found {
				return true
			}
		}
		for i := range effort / 4 {
			c := newPCT(rand.New(rand.NewPCG(m.x.settings.seed, uint64(i))), 3, len(m.best.events))
			if m.try(&fewFaults{c, most}, m.without) {
				return true
			}
		}
	}
	return false
}

// faultEffort is how many schedules of each number of faults are tried.
const faultEffort = 400

// search tries at most n schedules with at most so many faults, and reports
// whether one fails alike, and whether there are no more.
func (m *minimiser) search(e *exhaustive, faults, n int) (found, complete bool) {
	for range n {
		if m.tired() {
			return false, false
		}
		if m.try(&fewFaults{e, faults}, m.without) {
			return true, false
		}
		if !e.again() {
			return false, !e.pruned
		}
	}
	return false, false
}

// fewFaults chooses as another does, until so many faults have happened.
type fewFaults struct {
	chooser
	left int
}

func (f *fewFaults) choose(run *execution, n int, fault bool) int {
	if !fault {
		return f.chooser.choose(run, n, false)
	}
	if f.left == 0 {
		return 0
	}
	v := f.chooser.choose(run, n, true)
	if v > 0 {
		f.left--
	}
	return v
}

func (m *minimiser) actors() bool {
	for _, a := range m.best.sim.actors {
		if a.needed || m.without.actors.has(a.id) || len(m.best.sim.actors)-m.without.actors.len() <= 1 {
			continue
		}
		w := omissions{m.without.actors.with(a.id), m.without.ops}
		if m.leaveOut(m.best.schedule(), w) {
			return true
		}
	}
	return false
}

func (m *minimiser) ops() bool {
	for _, a := range m.best.sim.actors {
		for i := range a.ops {
			place := opPlace{a.id, i}
			if m.without.ops[place] || m.without.actors.has(a.id) {
				continue
			}
			w := omissions{m.without.actors, map[opPlace]bool{place: true}}
			for p := range m.without.ops {
				w.ops[p] = true
			}
			if m.leaveOut(m.best.scheduleWithout(place), w) {
				return true
			}
		}
	}
	return false
}

// switches raises the number of preemptions from 0: the first schedule that
// fails has the fewest. Where that takes too long, blocks of the schedule are
// merged.
func (m *minimiser) switches() bool {
	if !m.bounded {
		m.bounded = true
		now := m.best.preemptions()
		for bound := range now {
			search := &exhaustive{bound: bound}
			for range patience / (2 * now) {
				if m.try(&fewFaults{search, m.best.faults()}, m.without) {
					return true
				}
				if m.tired() || !search.again() {
					break
				}
			}
		}
	}
	s := m.best.schedule()
	had := s.switches()
	for i := 1; i < len(s); i++ {
		if s[i].letter == s[i-1].letter {
			continue
		}
		// Move the block that starts here behind, or before, its neighbour.
		end := i
		for end < len(s) && s[end].letter == s[i].letter {
			end++
		}
		next := end
		for next < len(s) && s[next].letter != s[i].letter {
			next++
		}
		if next == len(s) {
			continue
		}
		t := slices.Concat(s[:i], s[end:next], s[i:end], s[next:])
		if t.switches() >= had {
			continue
		}
		before := m.best
		if m.try(&replay{steps: t, loose: true}, m.without) {
			if m.best.schedule().switches() < had {
				return true
			}
			m.best = before
		}
	}
	return false
}

// preemptions is at most how often an actor was left that could have gone on:
// every switch counts.
func (r *execution) preemptions() int { return r.schedule().switches() }
