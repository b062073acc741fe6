package harness

import (
	"slices"
	"strings"
	"sync"
)

// caveats is what an exploration must not claim: what happened inside
// something that it can't look into, and what happened although no step was
// scheduled for it. An engine tells of both from any goroutine.
type caveats struct {
	mu     sync.Mutex
	inside map[string]bool
	strays []string
}

// unexplored notes something whose inside is not explored, such as "the
// function public.begin_run": whatever it does is one step. The verdict names
// it. An engine says so whenever it meets the thing, and not only when it first
// compiles a statement: databases outlive an exploration, see [Share].
func (x *explorer) unexplored(what string) {
	x.caveats.mu.Lock()
	defer x.caveats.mu.Unlock()
	if x.caveats.inside == nil {
		x.caveats.inside = map[string]bool{}
	}
	x.caveats.inside[what] = true
}

// notExplored returns what was noted, sorted: the order in which an engine
// meets it hangs on the schedules.
func (x *explorer) notExplored() []string {
	x.caveats.mu.Lock()
	defer x.caveats.mu.Unlock()
	var names []string
	for name := range x.caveats.inside {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// unscheduled fails the schedule: what ran is not what was scheduled, as the
// sentence says. It outweighs any other failure of the schedule, whose story
// would be told by the wrong steps. One that comes when the schedule is over
// fails the next one, and the last of them the exploration.
func (x *explorer) unscheduled(sentence string) {
	x.caveats.mu.Lock()
	defer x.caveats.mu.Unlock()
	x.caveats.strays = append(x.caveats.strays, sentence)
}

// stray takes the first sentence that [explorer.unscheduled] was given.
func (x *explorer) stray() (sentence string, ok bool) {
	x.caveats.mu.Lock()
	defer x.caveats.mu.Unlock()
	if len(x.caveats.strays) == 0 {
		return "", false
	}
	sentence = x.caveats.strays[0]
	x.caveats.strays = nil
	return sentence, true
}

// strayed reports whether something ran that was not scheduled, and fails the
// schedule then.
func (r *execution) strayed() bool {
	sentence, ok := r.x.stray()
	if ok {
		r.failure = &Failure{Kind: "unscheduled", Message: sentence, Step: len(r.events)}
		r.diverged, r.aborted = "", false
	}
	return ok
}

// butFor is the part of a verdict that names what was not explored.
func butFor(names []string) string {
	if len(names) == 0 {
		return ""
	}
	list := names[0]
	if last := len(names) - 1; last > 0 {
		list = strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return ", but for what happens inside " + list
}
