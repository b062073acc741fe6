package harness

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// Actors are goroutines: a mutex that one of them takes must be its own to give
// back. One runs at a time, and hands over at its gates.
//
// An actor may wait for more than the database: a mutex, a channel, a group, a
// connection of a full pool. Then it comes to no gate, and only the runtime can
// tell: [explorer.still] reads the states of all goroutines that this
// exploration has started. An actor that is found so is away, until a step of
// another lets it arrive at its next gate.
//
// What one actor can hold another up with lies in memory, and no engine knows
// of it. So from the first wait of that kind on, an exploration is attentive: an
// actor's start is a step, and so is going on with an answer, apart from the
// statement that got it. These steps depend on each other, so that every order
// in which actors come to a mutex is tried.

// A worker is a goroutine that runs one actor after the other: its stack has
// grown by then to what a statement needs.
type worker struct {
	id   uint64
	in   chan struct{} // go on
	out  chan signal
	body func()
	gone bool // its actor left by runtime.Goexit
}

// A signal is what the scheduler hears of a worker.
type signal int8

const (
	atGate signal = iota
	returned
	look   // what it does: it has said nothing for a moment
	atDoor // it has come back by itself, see [actor.door]
)

func newWorker() *worker {
	w := &worker{in: make(chan struct{}), out: make(chan signal, 2)}
	ready := make(chan struct{})
	go func() {
		id, leave := engine.Stay()
		defer leave()
		w.id = id
		close(ready)
		defer func() {
			if w.gone {
				w.out <- returned
			}
		}()
		for range w.in {
			w.gone = true
			w.body()
			w.body, w.gone = nil, false
			w.out <- returned
		}
	}()
	<-ready
	return w
}

// A stack is what the runtime tells of a goroutine.
type stack struct {
	id, parent uint64
	state      string // such as "chan receive"
	creator    string // the function that started it
	where      string // the first place that is not the standard library's
	inside     bool   // that is the engine's, or this package's
}

// parked reports whether it waits for another goroutine, or for time. What waits
// for a lock of the engine's own does not, nor for the runtime's ("semacquire",
// where another reads the stacks): who has it may be of another test.
func (s *stack) parked() bool {
	if s.inside && strings.HasPrefix(s.state, "sync.") {
		return false
	}
	for _, state := range []string{"chan ", "select", "sync."} {
		if strings.HasPrefix(s.state, state) {
			return true
		}
	}
	return false
}

// timed reports whether the clock of the machine may let it go on.
func (s *stack) timed() bool {
	return strings.HasPrefix(s.state, "select") || strings.HasPrefix(s.state, "chan receive")
}

func (s *stack) String() string {
	if s.where == "" {
		return s.state
	}
	return s.state + " at " + s.where
}

// stacks are those of all goroutines, at one moment.
func (x *explorer) stacks() map[uint64]*stack {
	for {
		n := runtime.Stack(x.stackText, true)
		if n < len(x.stackText) {
			return parseStacks(string(x.stackText[:n]), x.packages())
		}
		x.stackText = make([]byte, max(1<<16, 2*len(x.stackText)))
	}
}

// packages begin the names of functions that are an engine's.
func (x *explorer) packages() (names []string) {
	if x.home == nil { // it looks for a goroutine's origin alone
		return nil
	}
	for _, e := range x.home.engines {
		names = append(names, e.Traits().Packages...)
	}
	return names
}

func parseStacks(text string, engines []string) map[uint64]*stack {
	all := map[uint64]*stack{}
	for part := range strings.SplitSeq(text, "\n\n") {
		head, rest, _ := strings.Cut(part, "\n")
		number, state, ok := strings.Cut(strings.TrimPrefix(head, "goroutine "), " [")
		if !ok {
			continue
		}
		state, _, _ = strings.Cut(state, "]")
		state, _, _ = strings.Cut(state, ",")
		s := &stack{state: state}
		s.id, _ = strconv.ParseUint(number, 10, 64)
		s.read(rest, engines)
		all[s.id] = s
	}
	return all
}

// read takes the lines that follow a goroutine's first: two for each call.
func (s *stack) read(text string, engines []string) {
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		call, place := lines[i], strings.TrimSpace(lines[i+1])
		place, _, _ = strings.Cut(place, " +0x")
		if by, ok := strings.CutPrefix(call, "created by "); ok {
			s.creator, call, _ = strings.Cut(by, " in goroutine ")
			s.parent, _ = strconv.ParseUint(call, 10, 64)
			return
		}
		if s.where == "" && !standard(call) {
			s.where = place[strings.LastIndexByte(place, '/')+1:]
			s.inside = strings.HasPrefix(call, ownPackage) && !strings.Contains(place, "_test.go:") ||
				slices.ContainsFunc(engines, func(begin string) bool { return strings.HasPrefix(call, begin) })
		}
	}
}

const ownPackage = "github.com/edgaze-ai/runcounter/harness."

// roots are where the standard library's import paths begin, as far as a
// goroutine waits below them. A module's may have no dot either.
var roots = map[string]bool{
	"bufio": true, "compress": true, "context": true, "crypto": true, "database": true, "encoding": true, "fmt": true, "internal": true, "io": true, "iter": true,
	"log": true, "maps": true, "net": true, "os": true, "reflect": true, "runtime": true, "slices": true, "sort": true, "strings": true, "sync": true, "syscall": true,
	"testing": true, "time": true,
}

// standard reports whether a function is the standard library's.
func standard(call string) bool {
	root, _, _ := strings.Cut(call, ".")
	root, _, _ = strings.Cut(root, "/")
	return roots[root]
}

// descends reports whether a goroutine was started by one of those that begin
// an exploration, or by what they started. Where the one in between is gone, the
// answer is yes: rather one too many is waited for; but for what waits outside of
// the process, as who has started a server does. Those that were there before
// it are none of its.
func (x *explorer) descends(all map[uint64]*stack, s *stack) bool {
	orphan := s
	for range 100 {
		if x.at(s.id) != nil || s.parent == x.goroutine {
			return true
		}
		if x.earlier[s.id] {
			return false
		}
		parent := all[s.parent]
		if parent == nil {
			return s.parent > x.goroutine && orphan.state != "syscall" && orphan.state != "IO wait"
		}
		s = parent
	}
	return false
}

// before returns the goroutines that there are.
func (x *explorer) before() map[uint64]bool {
	earlier := map[uint64]bool{}
	for id := range x.stacks() {
		earlier[id] = true
	}
	return earlier
}

// still reports whether all goroutines of this exploration wait for each other,
// or for the clock; and returns their stacks.
func (x *explorer) still() (all map[uint64]*stack, still bool) {
	all = x.stacks()
	for id, s := range all {
		if id != x.goroutine && !s.parked() && x.descends(all, s) {
			return all, false
		}
	}
	return all, true
}

// startWorker gives an actor a goroutine, until its function has returned.
func (a *actor) startWorker(body func()) {
	h := a.sim.x.home
	if n := len(h.idle); n > 0 {
		a.worker, h.idle = h.idle[n-1], h.idle[:n-1]
	} else {
		a.worker = newWorker()
	}
	a.worker.body = body
	a.sim.x.workers.Store(a.worker.id, a)
}

// yield hands over to the scheduler, until the actor is chosen.
func (a *actor) yield() {
	a.worker.out <- atGate
	<-a.worker.in
}

// returned takes back the goroutine of an actor whose function is over.
func (a *actor) returned() {
	a.done, a.away = true, nil
	if !a.worker.gone {
		a.sim.x.home.idle = append(a.sim.x.home.idle, a.worker)
	}
	a.sim.x.workers.Delete(a.worker.id)
	a.worker = nil
}

// hear takes what a worker has said, and reports whether its actor is at its next
// gate, or has returned.
func (a *actor) hear() (arrived bool) {
	for {
		select {
		case said := <-a.worker.out:
			if a.heard(said) {
				return true
			}
		default:
			return false
		}
	}
}

func (a *actor) heard(said signal) (arrived bool) {
	switch said {
	case look:
		return false
	case returned:
		a.returned()
	case atDoor:
		a.behindDoor = true
	}
	a.goAway(nil)
	return true
}

// goAway notes where an actor is that is at no gate; nil where it is back.
func (a *actor) goAway(where *stack) {
	a.away = where
	a.apart.Store(where != nil)
}

// door holds an actor up that was away and wants to use a database: whatever let it
// go on, it must not do so beside the actor whose turn it is.
func (a *actor) door() {
	a.worker.out <- atDoor
	<-a.worker.in
}

// enter lets an actor that stands at the door go on, to its gate.
func (a *actor) enter() {
	if a.behindDoor {
		a.resume()
	}
}

// longWait is how long goroutines that neither wait nor come to a gate may
// compute before the test is given up.
const longWait = 30 * time.Second

// land waits until an actor that was let go on stands at its next gate, has
// returned, or is away.
func (a *actor) land() {
	x := a.sim.x
	if !x.attentive.Load() && !a.sim.outside {
		x.landing.Store(a.worker)
		said := <-a.worker.out
		x.landing.Store(nil)
		if a.heard(said) {
			return
		}
	}
	start := time.Now()
	var before *stack
	for round := 0; ; round++ {
		if a.hear() {
			if !a.behindDoor {
				return
			}
			a.behindDoor = false // it had been taken for away
			a.worker.in <- struct{}{}
		}
		switch {
		case a.flies():
			a.pause(min(300*time.Microsecond<<min(round, 3), 2*time.Millisecond)) // most answers come at once
			if a.hear() || a.heldUp(start) {
				return
			}
		case x.live(): // what waits there may wait for its connection, whose reader no actor is
			if a.remote != nil && time.Since(start) > x.settings.quiet {
				a.quiet()
			}
			if time.Since(start) > longWait {
				all, _ := x.still()
				x.patient(start, all)
			}
			a.pause(min(time.Duration(round+1)*100*time.Microsecond, 2*time.Millisecond))
		case round < 10:
			runtime.Gosched()
		default:
			all, still := x.still()
			if s := all[a.worker.id]; still && len(a.worker.out) == 0 {
				if before != nil && *before == *s { // and was a moment ago
					a.goAway(s)
					all, still := x.still() // the clock may have let it go on before it was known to be away
					if now := all[a.worker.id]; still && len(a.worker.out) == 0 && *now == *s {
						return
					}
					a.goAway(nil)
				}
				before = s
				a.pause(50 * time.Microsecond)
				continue
			}
			before = nil
			x.patient(start, all)
			if round < 50 {
				runtime.Gosched()
			} else {
				a.pause(time.Millisecond)
			}
		}
	}
}

// pause waits for a moment, or for the actor.
func (a *actor) pause(d time.Duration) {
	select {
	case said := <-a.worker.out:
		a.worker.out <- said // for the one who asked
	case <-time.After(d):
	}
}

// patient ends the test where something has computed, or waited for the
// network, for too long.
func (x *explorer) patient(start time.Time, all map[uint64]*stack) {
	if time.Since(start) < longWait {
		return
	}
	var busy []string
	for id, s := range all {
		if id != x.goroutine && !s.parked() && x.descends(all, s) {
			busy = append(busy, fmt.Sprintf("goroutine %d, %s", id, s))
		}
	}
	x.abandoned = true
	for id, s := range all {
		if x.at(id) != nil && s.parked() {
			busy = append(busy, fmt.Sprintf("the actor %s, %s", x.at(id).name, s))
		}
	}
	slices.Sort(busy)
	x.t.Fatalf("harness: for %s no actor has come to a statement: %s", longWait, strings.Join(busy, "; "))
}

// settle waits until the last step has let go on whom it lets go on.
func (r *execution) settle() {
	start := time.Now()
	for r.contexts.expected() || r.anyAway() {
		all, still := r.x.still()
		if still {
			r.contexts.closed()
			if r.arrivals(all) {
				continue // who has come may have let others go on
			}
			break
		}
		r.x.patient(start, all)
		runtime.Gosched()
	}
	r.admit()
}

// arrivals looks which of those that were away stand at a gate now.
func (r *execution) arrivals(all map[uint64]*stack) (some bool) {
	for _, a := range r.sim.actors {
		alive := !r.ending && a.dead.get() == nil
		if a.away == nil || a.ticks() && alive {
			continue
		}
		place := a.away.String()
		if a.hear() {
			some = true
			r.x.wasAt(place, alive)
			a.enter()
		} else {
			a.away = all[a.worker.id]
		}
	}
	return some
}

func (r *execution) anyAway() bool {
	for _, a := range r.sim.actors {
		if a.away != nil {
			return true
		}
	}
	return false
}

// takeDown ends all actors: their statements fail, then their contexts end, and
// what they hold they give back on their way. Who waits for ever after that
// stays behind.
func (r *execution) takeDown(cancel context.CancelFunc) {
	for _, a := range r.sim.actors {
		if a.worker != nil {
			a.die(errStopped)
		}
	}
	r.killAll()
	cancel()
	r.killAll()
}

func (r *execution) killAll() {
	for again := true; again; {
		again = false
		r.settle()
		for _, a := range slices.Clone(r.sim.actors) {
			if a.worker != nil && a.away == nil {
				a.kill(errStopped)
				again = true
			}
		}
	}
}
