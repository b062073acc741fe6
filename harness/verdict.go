package harness

import (
	"slices"
	"strings"
	"sync"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
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

// watchers are the databases of this schedule to which something may come beside the
// steps.
func (r *execution) watchers() (list []engine.Watcher) {
	for _, e := range r.x.home.engines[:r.sim.databases] {
		if w, ok := e.(engine.Watcher); ok {
			list = append(list, w)
		}
	}
	return list
}

// actorsRun says that only actors run from now on.
func (r *execution) actorsRun() {
	for _, w := range r.watchers() {
		w.ActorsRun()
	}
}

// aside asks the scenario between two steps.
func (r *execution) aside(do func()) {
	list := r.watchers()
	for _, w := range list {
		w.ActorsRan()
	}
	do()
	for _, w := range list {
		w.ActorsRun()
	}
}

// actorsEnd says that all steps of the schedule are done.
func (r *execution) actorsEnd() {
	for _, w := range r.watchers() {
		r.unwatched = !w.Ends() || r.unwatched
	}
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
