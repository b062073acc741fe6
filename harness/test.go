package harness

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

var (
	flagReplay = flag.String("harness.replay", "", "run this schedule alone, such as w3r1w2; choose its test with -run")
	flagSeed   = flag.Uint64("harness.seed", 1, "the seed of sampled schedules")
	flagTime   = flag.Duration("harness.time", 0, "sample schedules for this long after the search, in each test")
	flagHTML   = flag.String("harness.html", "", "write the timeline of a failure as a page into this folder")
	flagSave   = flag.Bool("harness.save", true, "keep failing schedules under testdata/schedules, to be run first next time")
)

// Covered is what one strategy has done.
type Covered struct {
	Strategy  Strategy
	Schedules int  // that ran to their end
	Redundant int  // that were broken off, being equivalent to others
	Diverged  int  // that could not be followed on a real server, whatever was tried
	Complete  bool // nothing was left to try
	failed    bool
}

func (c Covered) String() string {
	switch {
	case c.Strategy.kind == kindReplay:
		return "the schedule " + c.Strategy.name + " alone"
	case c.Strategy.kind == kindRandom || c.Strategy.kind == kindPCT:
		return fmt.Sprintf("sampled: %s, %s", c.Strategy, thousands(c.Schedules))
	case c.Complete:
		return fmt.Sprintf("%s, %s", plural(c.Schedules, "schedule"), c.Strategy)
	}
	end := "stopped there"
	if c.Diverged > 0 {
		end = fmt.Sprintf("and %s that the server did not follow", thousands(c.Diverged))
	}
	if c.failed {
		end = "the last of which fails"
	}
	return fmt.Sprintf("%s of %s, %s", plural(c.Schedules, "schedule"), c.Strategy, end)
}

// Result is what an exploration came to.
type Result struct {
	Covered []Covered
	Failure *Failure // nil where none was found
	Found   string   // the strategy that found it
	After   int      // how many schedules it took, over all strategies
	Report  *Report  // of the failure
	Steps   int      // of the longest schedule
	Unseen  []string // what [Sim.Sometimes] named and no schedule showed
	// Unexplored names what ran as one step whose inside the engine can't
	// schedule, such as "the function public.begin_run": it stands in every
	// verdict.
	Unexplored []string
}

// Schedules returns how many schedules ran to their end.
func (r *Result) Schedules() int {
	n := 0
	for _, c := range r.Covered {
		n += c.Schedules
	}
	return n
}

// String is the summary of a pass or a failure in a line.
func (r *Result) String() string {
	parts := make([]string, len(r.Covered))
	for i, c := range r.Covered {
		parts[i] = c.String()
	}
	failing := 0
	if r.Failure != nil {
		failing = 1
	}
	return fmt.Sprintf("%s%s, %d failing", strings.Join(parts, "; "), butFor(r.Unexplored), failing)
}

// explored is what a report says of the search.
func (r *Result) explored() string {
	if len(r.Covered) == 0 {
		return "the schedule of " + r.Found + " alone" + butFor(r.Unexplored)
	}
	return strings.TrimSuffix(r.String(), ", 1 failing")
}

// explorer lives as long as a test.
type explorer struct {
	t          testing.TB
	scenario   func(*Sim)
	settings   settings
	home       *home
	clock      *actor
	run        atomic.Pointer[execution]
	length     int // steps of the last one, to make room for as many
	closers    []func()
	names      map[string]string // of ids, in the order of their appearance
	stepping   atomic.Bool       // an actor runs
	workers    sync.Map          // actors by their goroutines
	remotes    sync.Map          // by the names of their actors, see [remote]
	functions  sync.Map          // the same by the goroutines of their functions
	steps      atomic.Int64      // that actors were let go on for
	caveats    caveats
	goroutine  uint64      // that the scenario and its oracles run on
	attentive  atomic.Bool // actors wait for more than the database, see [worker]
	abandoned  bool        // an actor does not come back
	executions int
	reporting  bool                             // something has failed
	anew       bool                             // the search is to begin again, by what it knows now
	ticking    map[string]bool                  // actors that the machine's clock lets go on, by name
	passed     map[string]bool                  // places where actors were away, and whether another let them go on
	landing    atomic.Pointer[worker]           // whose next gate the scheduler waits for
	earlier    map[uint64]bool                  // goroutines that are none of its
	stackText  []byte                           // kept for [explorer.stacks]
	vain       map[string]bool                  // places that the machine's clock does not let go on
	observe    func(*execution)                 // sees every schedule that ran to its end, in detail
	observeEnd func(*execution)                 // sees every schedule, when it has been taken down
	dependent  func(a, b engine.Footprint) bool // in place of the real one, for tests
	watched    watched
}

func (x *explorer) onClose(do func())    { x.closers = append(x.closers, do) }
func (x *explorer) current() *execution  { return x.run.Load() }
func (x *explorer) running(r *execution) { x.run.Store(r) }

// identifies reports whether this execution looks up which goroutine calls. It
// costs as much as a statement: where actors wait for nothing but the database,
// one runs at a time, and a scenario whose actors leave statements to other
// goroutines does so in the first schedules too. What a report tells was run
// with it.
func (x *explorer) identifies() bool {
	const first, oneIn = 4, 32
	x.executions++
	return x.attentive.Load() || x.reporting || x.executions <= first || x.executions%oneIn == 0
}

// Tell says for a report what came of a step.
func (a *actor) Tell(result string) {
	if a.event != nil && a.sim.run.detail {
		a.event.result = a.sim.x.rename(result)
	}
}

// Test explores a scenario and fails the test with the shortest story of what
// goes wrong. Without options it tries all orders, and where 10,000 schedules
// don't suffice, all orders with few preemptions and then samples.
//
// A failing schedule is kept under testdata/schedules and is run first the
// next time; -harness.replay runs one alone, -harness.time=1m samples longer,
// -harness.seed samples others, -harness.html=DIR draws the failure.
func Test(t testing.TB, scenario func(*Sim), options ...Option) *Result {
	t.Helper()
	x := newExplorer(t, scenario, options)
	defer x.close()
	result := &Result{}
	if x.followSaved(result) {
		x.fail(result)
		return result
	}
	if *flagReplay != "" {
		return result
	}
	x.explore(result)
	if result.Failure != nil {
		x.fail(result)
		return result
	}
	for _, name := range result.Unseen {
		t.Errorf("NEVER SEEN  sometimes %q, in %s", name, result)
	}
	t.Log(result)
	return result
}

// Explore is [Test] for those who want to look at the result: it fails nothing
// and saves nothing.
func Explore(t testing.TB, scenario func(*Sim), options ...Option) *Result {
	t.Helper()
	x := newExplorer(t, scenario, options)
	defer x.close()
	result := &Result{}
	x.explore(result)
	return result
}

func newExplorer(t testing.TB, scenario func(*Sim), options []Option) *explorer {
	id, leave := engine.Stay()
	x := &explorer{t: t, scenario: scenario, names: map[string]string{}, goroutine: id, vain: map[string]bool{}, ticking: map[string]bool{}, passed: map[string]bool{}, clock: &actor{id: -1, name: "clock", letter: "c"}}
	x.settings = settings{seed: *flagSeed, budget: 10_000, quiet: longWait}
	for _, o := range options {
		o(&x.settings)
	}
	x.onClose(leave)
	x.earlier = x.before()
	if x.home = x.settings.home; x.home == nil {
		x.home = &home{}
		x.onClose(x.home.close)
	}
	x.watch()
	return x
}

// watch has the scheduler look what an actor does that does not come to its next
// gate for a moment. Most do, and are not looked at.
func (x *explorer) watch() {
	const moment = 2 * time.Millisecond
	done := make(chan struct{})
	x.onClose(func() { close(done) })
	go func() {
		seen := int64(-1)
		for tick := time.NewTicker(moment); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
			}
			now := x.steps.Load()
			if w := x.landing.Load(); now == seen && w != nil {
				select {
				case w.out <- look:
				default:
				}
			}
			seen = now
		}
	}()
}

func (x *explorer) close() {
	for _, do := range slices.Backward(x.closers) {
		do()
	}
}

// explore runs the plan until something fails.
func (x *explorer) explore(result *Result) {
	var seen []bool
	for x.anew = true; x.anew; {
		x.anew, seen = false, nil
		*result = Result{}
		if x.search(result, &seen) {
			return
		}
	}
	for i, s := range x.sights() {
		if i >= len(seen) || !seen[i] {
			result.Unseen = append(result.Unseen, s)
		}
	}
	x.neverPassed()
	result.Unexplored = x.notExplored()
	if sentence, ok := x.stray(); ok {
		result.Failure = &Failure{Kind: "unscheduled", Message: sentence}
		result.Report = &Report{
			Test: x.t.Name(), Failure: *result.Failure, Of: 1, Explored: result.explored(),
			Diverged: "it came when the last schedule was over",
		}
	}
}

// search runs the plan, and reports whether something failed. It ends at once
// where an actor is away for the first time, or the machine's clock lets one go on:
// it is to begin anew then.
func (x *explorer) search(result *Result, seen *[]bool) (failed bool) {
	plan := x.settings.plan
	byDefault := len(plan) == 0
	if byDefault {
		n := x.settings.budget
		plan = []Strategy{Exhaustive(n), Preemptions(1, n/4), Preemptions(2, n/4), PCT(3, n/4)}
	}
	for i, strategy := range plan {
		if byDefault && i > 0 && result.Covered[0].Complete {
			break
		}
		if x.try(strategy, 0, result, seen) {
			return result.Failure != nil
		}
	}
	if *flagTime > 0 && !x.anew {
		return x.try(PCT(3, 0), *flagTime, result, seen) && result.Failure != nil
	}
	return false
}

// try runs one strategy, and reports whether that is the end of the search.
func (x *explorer) try(strategy Strategy, limit time.Duration, result *Result, seen *[]bool) bool {
	result.Covered = append(result.Covered, Covered{Strategy: strategy})
	covered := &result.Covered[len(result.Covered)-1]
	var search *exhaustive
	switch strategy.kind {
	case kindExhaustive:
		search = &exhaustive{reduce: true, bound: -1, dependent: x.dependent, watched: &x.watched}
	case kindPlain:
		search = &exhaustive{plain: true, bound: -1}
	case kindBounded:
		search = &exhaustive{bound: strategy.bound}
	}
	start := time.Now()
	again := 0 // this schedule, on a server
	for i := 0; ; i++ {
		if strategy.schedules > 0 && covered.Schedules+covered.Redundant >= strategy.schedules || limit > 0 && time.Since(start) > limit {
			return false
		}
		run := x.execute(x.chooser(strategy, search, i, result.Steps), omissions{}, x.observe != nil)
		if run.restart {
			x.attentive.Store(true)
			x.anew = true
			return true
		}
		if run.unwatched && run.failure == nil {
			x.anew = true
			return true
		}
		if run.aborted {
			covered.Redundant++
		} else if run.diverged == "" {
			covered.Schedules++
			result.Steps = max(result.Steps, len(run.events))
			for len(*seen) < len(run.seen) {
				*seen = append(*seen, false)
			}
			for i, s := range run.seen {
				(*seen)[i] = (*seen)[i] || s
			}
			if x.observe != nil {
				x.observe(run)
			}
		}
		if run.diverged != "" && x.live() && again < divergences {
			again++
			if search != nil {
				search.rewind()
			}
			continue
		}
		again = 0
		if run.diverged != "" && x.live() {
			covered.Diverged++
		} else if run.diverged != "" {
			run.fail(&Failure{Kind: "diverged", Message: run.diverged, Step: len(run.events)})
		}
		if run.failure != nil {
			result.Failure, result.Found, covered.failed = run.failure, strategy.name, true
			for _, c := range result.Covered {
				result.After += c.Schedules + c.Redundant
			}
			result.Report = x.report(result, run)
			return true
		}
		if x.watched.grown && search != nil && search.reduce && covered.Schedules+covered.Redundant > 1 {
			// An oracle has read a table for the first time: what was left out
			// until now may have been another state of it.
			x.watched.grown = false
			covered.Schedules, covered.Redundant = 0, covered.Redundant+covered.Schedules
			search = &exhaustive{reduce: true, bound: -1, dependent: x.dependent, watched: &x.watched}
			continue
		}
		x.watched.grown = false
		if search != nil && !search.again() {
			covered.Complete = (!search.pruned || strategy.kind == kindBounded) && covered.Diverged == 0
			return false
		}
	}
}

// divergences is how often a schedule that a real server did not follow is
// tried again: which of two statements comes first that one COMMIT lets go on
// is not ours to say.
const divergences = 5

// live reports whether an engine has its say in the order of steps.
func (x *explorer) live() bool { return x.home.unsteady }

func (x *explorer) chooser(strategy Strategy, search *exhaustive, i, steps int) chooser {
	switch strategy.kind {
	case kindRandom:
		return &random{rand: rand.New(rand.NewPCG(x.settings.seed, uint64(i)))}
	case kindReplay:
		follow, err := parseReplay(strategy.name)
		if err != nil {
			panic("harness: " + err.Error())
		}
		if follow.attentive {
			x.attentive.Store(true)
		}
		return follow
	case kindPCT:
		return newPCT(rand.New(rand.NewPCG(x.settings.seed, uint64(i))), strategy.bound, steps)
	}
	return search
}

// sights returns the names of what must be seen sometimes.
func (x *explorer) sights() []string {
	run := x.execute(&replay{loose: true}, omissions{}, false)
	if f := run.failure; f != nil && f.Kind == "unscheduled" {
		x.unscheduled(f.Message)
	}
	names := make([]string, len(run.sim.sometimes))
	for i, s := range run.sim.sometimes {
		names[i] = s.name
	}
	return names
}

func (x *explorer) fail(result *Result) {
	x.t.Helper()
	r := result.Report
	if *flagSave && *flagReplay == "" && r.Failure.Kind != "diverged" && r.Failure.Kind != "unscheduled" {
		r.Saved = x.save(r)
	}
	if *flagHTML != "" {
		name := filepath.Join(*flagHTML, fileName(x.t.Name())+".html")
		if err := errors.Join(os.MkdirAll(*flagHTML, 0o750), os.WriteFile(name, []byte(r.HTML()), 0o600)); err != nil {
			x.t.Errorf("write the timeline: %v", err)
		} else {
			x.t.Logf("the timeline is drawn in %s", name)
		}
	}
	x.t.Fatalf("\n%s", r)
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
