package harness

import (
	"fmt"
	"strings"
)

// A stretch is a transaction as it happened, or a statement outside of one; or
// all that an actor did.
type stretch struct {
	actor      int
	whole      bool // it is all that an actor did, in more than one transaction
	accesses   []touch
	statements []said
	ended      int // how many transactions
}

// touch is a read or a write of something shared, at the step where it took
// effect: a write of a transaction is seen when it commits.
type touch struct {
	what  string
	write bool
	step  int
	own   bool // a read that is part of the write, as that of n in set n = n + 1
}

// said is a statement by its text.
type said struct {
	wording
	step         int
	text, answer string
	idle         bool // it found no row to write
	obscure      bool // it may have written, or read, more than its wording tells
}

// why tells the cycle of reads and writes behind a failure: two transactions
// of which each has to come before the other, and the anomaly that it is. Where
// no two transactions form one, two actors may: what one of them should have
// done in one transaction.
func (r *execution) why() (anomaly string, lines []string) {
	for _, whole := range []bool{false, true} {
		all := r.stretches(whole)
		for _, find := range []func(a, b *stretch) (string, edge, edge, bool){lostUpdate, skew, stale, anyCycle} {
			for i := range all {
				for j := range all {
					if all[i].actor == all[j].actor {
						continue
					}
					if name, first, second, ok := find(&all[i], &all[j]); ok {
						return name, r.tell(name, &all[i], &all[j], first, second)
					}
				}
			}
		}
	}
	return "", nil
}

// tell puts a cycle into words.
func (r *execution) tell(name string, a, b *stretch, first, second edge) []string {
	one, other := r.sim.actors[a.actor].name, r.sim.actors[b.actor].name
	what := "transactions"
	if a.whole || b.whole {
		what = "actors, whose statements are not in one transaction,"
	}
	begin := ""
	if name != "" {
		begin = name + ": "
	}
	return []string{
		fmt.Sprintf("%s%s read %s at step %d, before %s wrote it at step %d (rw),", begin, one, first.what, first.from, other, first.to),
		fmt.Sprintf("and %s %s at step %d what %s had %s at step %d: %s (%s)",
			one, verb(second.toWrite), second.to, other, past(second.fromWrite), second.from, second.what, second.kind()),
		fmt.Sprintf("so no order of the two %s explains both", what),
	}
}

// stretches returns the transactions, or the actors as a whole.
func (r *execution) stretches(whole bool) (all []stretch) {
	open := map[int]int{}
	for i, ev := range r.accesses() {
		if ev.actor < 0 {
			continue
		}
		at, ok := open[ev.actor]
		if !ok {
			at = len(all)
			all = append(all, stretch{actor: ev.actor})
			open[ev.actor] = at
		}
		s := &all[at]
		w := wordingOf(ev.text)
		it := said{w, i + 1, ev.text, ev.result, r.idle(ev.result), w.obscure(ev.text)}
		s.statements = append(s.statements, it)
		for _, a := range ev.reads {
			own := w.table == plain(a.what) && w.verb != "select" && !w.selects
			s.accesses = append(s.accesses, touch{a.what, false, i + 1, own})
		}
		for _, a := range ev.writes {
			idle := it.idle && it.writes(a.what) // it has looked, and that is all
			s.accesses = append(s.accesses, touch{a.what, !idle, i + 1, idle})
		}
		if ev.ends {
			if s.ended++; !whole {
				delete(open, ev.actor)
			}
		}
		s.whole = whole && s.ended > 1
	}
	return all
}

// accesses returns the steps with what they read and wrote. Where the engine
// records neither, they are those of statements whose text is plain: a write
// counts when its transaction ends, and not at all where that is rolled back.
func (r *execution) accesses() []event {
	events := make([]event, len(r.events))
	copy(events, r.events)
	for _, ev := range events {
		if len(ev.reads)+len(ev.writes) > 0 {
			return events
		}
	}
	open := map[int][]access{}
	for i := range events {
		ev := &events[i]
		w := wordingOf(ev.text)
		refused := codePattern.MatchString(ev.result) || strings.HasPrefix(ev.result, "fails")
		if w.table != "" && !refused {
			if w.verb != "insert" {
				ev.reads = []access{{w.table}}
			}
			if w.verb != "select" {
				open[ev.actor] = append(open[ev.actor], access{w.table})
			}
		}
		if ev.ends {
			if !refused && !strings.HasPrefix(ev.text, "rollback") && ev.result != "rollback" {
				ev.writes = open[ev.actor]
			}
			delete(open, ev.actor)
		}
	}
	return events
}

// idle reports whether the answer to a statement that writes says that it found
// no row. That of a terse engine doesn't tell; what it has written is noted.
func (r *execution) idle(answer string) bool {
	return strings.HasSuffix(answer, " 0") && !strings.HasPrefix(answer, "reads") || answer == "ok" && !r.sim.traits().Terse
}

// plain is the name of a table without its schema.
func plain(table string) string {
	return strings.ToLower(table[strings.LastIndexByte(table, '.')+1:])
}

// anyCycle is a stale read of the first, and something else that puts the second
// before it: best, that it wrote after the other had, by what it read before.
func anyCycle(a, b *stretch) (name string, first, second edge, ok bool) {
	if first, ok = before(a, b, staleRead); !ok {
		return "", first, second, false
	}
	second, ok = before(b, a, func(edge) bool { return true })
	return "", first, second, ok
}

func staleRead(e edge) bool { return !e.fromWrite && e.toWrite }

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
	own                bool // the read is part of its actor's write
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
			e := edge{x.what, x.step, y.step, x.write, y.write, x.own || y.own}
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
