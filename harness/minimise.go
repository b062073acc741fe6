package harness

import "slices"

// minimise looks for the shortest schedule with the same failure: with fewer
// faults, without whole actors, without whole operations, with fewer switches,
// in this order. It returns that run, what it leaves out, and how many replays
// it took.
func (x *explorer) minimise(run *execution) (*execution, omissions, int) {
	m := &minimiser{x: x, want: run.failure, best: run, without: run.without}
	m.orderly = m.passes(m.without)
	for m.faults() || m.actors() || m.ops() || m.switches() {
	}
	return m.best, m.without, m.replays
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
	orderly bool // the whole scenario passes where nobody is preempted
}

// passes reports whether some order without a fault, in which nobody is
// preempted, passes. Where the whole scenario has one and a part of it has
// none, an oracle asks for what was left out, and its failure is another one.
func (m *minimiser) passes(without omissions) bool {
	search := &exhaustive{bound: 0, noFaults: true}
	for range 24 {
		m.replays++
		m.x.alive.Add(1)
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
// fails alike.
func (m *minimiser) try(c chooser, without omissions) bool {
	if m.tired() {
		return false
	}
	m.replays++
	m.x.alive.Add(1)
	run := m.x.execute(c, without, false)
	m.steps += len(run.events)
	if !run.failure.same(m.want) || run.diverged != "" {
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
			search := &exhaustive{bound: bound, noFaults: m.best.faults() == 0}
			for range patience / (2 * now) {
				if m.try(search, m.without) {
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
