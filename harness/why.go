package harness

import (
	"fmt"
)

// A stretch is a transaction as it happened, or a statement outside of one.
type stretch struct {
	actor    int
	accesses []touch
}

// touch is a read or a write of something shared, at the step where it took
// effect: a write of a transaction is seen when it commits.
type touch struct {
	what  string
	write bool
	step  int
}

// why tells the cycle of reads and writes behind a failure: two transactions
// of which each has to come before the other. Where no two transactions form
// one, two actors may: what one of them should have done in one transaction.
func (r *execution) why() []string {
	for _, whole := range []bool{false, true} {
		what := "transactions"
		if whole {
			what = "actors, whose statements are not in one transaction,"
		}
		// Who wrote, after the other had, by what it read before, comes first.
		for _, wrote := range []bool{true, false} {
			if found := r.cycle(r.stretches(whole), what, wrote); found != nil {
				return found
			}
		}
	}
	return nil
}

// stretches returns the transactions, or the actors as a whole.
func (r *execution) stretches(whole bool) (all []stretch) {
	open := map[int]int{}
	for i, ev := range r.events {
		if ev.actor < 0 {
			continue
		}
		at, ok := open[ev.actor]
		if !ok {
			at = len(all)
			all = append(all, stretch{actor: ev.actor})
			open[ev.actor] = at
		}
		for _, a := range ev.reads {
			all[at].accesses = append(all[at].accesses, touch{a.what, false, i + 1})
		}
		for _, a := range ev.writes {
			all[at].accesses = append(all[at].accesses, touch{a.what, true, i + 1})
		}
		if ev.ends && !whole {
			delete(open, ev.actor)
		}
	}
	return all
}

// cycle looks for two stretches with a stale read of the first, and something
// else that puts the second before it.
func (r *execution) cycle(all []stretch, what string, wrote bool) []string {
	for i := range all {
		for j := range all {
			if all[i].actor == all[j].actor {
				continue
			}
			first, ok := before(&all[i], &all[j], func(e edge) bool { return !e.fromWrite && e.toWrite })
			if !ok {
				continue
			}
			second, ok := before(&all[j], &all[i], func(e edge) bool { return !wrote || e.toWrite && e.to > first.to })
			if !ok {
				continue
			}
			a, b := r.sim.actors[all[i].actor].name, r.sim.actors[all[j].actor].name
			return []string{
				fmt.Sprintf("%s read %s at step %d, before %s wrote it at step %d (rw),", a, first.what, first.from, b, first.to),
				fmt.Sprintf("and %s %s at step %d what %s had %s at step %d: %s (%s)",
					a, verb(second.toWrite), second.to, b, past(second.fromWrite), second.from, second.what, second.kind()),
				fmt.Sprintf("so no order of the two %s explains both", what),
			}
		}
	}
	return nil
}

func past(write bool) string {
	if write {
		return "written"
	}
	return "read"
}

type edge struct {
	what               string
	from, to           int
	fromWrite, toWrite bool
}

func (e edge) kind() string {
	return map[[2]bool]string{{true, true}: "ww", {true, false}: "wr", {false, true}: "rw"}[[2]bool{e.fromWrite, e.toWrite}]
}

func verb(write bool) string {
	if write {
		return "wrote"
	}
	return "read"
}

// before returns a pair of accesses that puts a before b: the same thing, a
// first, at least one of them a write, both where there are such, and as is
// wanted.
func before(a, b *stretch, wanted func(edge) bool) (found edge, ok bool) {
	for _, x := range a.accesses {
		for _, y := range b.accesses {
			e := edge{x.what, x.step, y.step, x.write, y.write}
			if x.what != y.what || !x.write && !y.write || x.step >= y.step || !wanted(e) {
				continue
			}
			if x.write && y.write {
				return e, true
			}
			if !ok {
				found, ok = e, true
			}
		}
	}
	return found, ok
}
