package harness

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A Verdict is what a schedule of one engine comes to on another.
type Verdict struct {
	// Outcome is "same"; or, of the first step that went another way,
	// "blocked-by NAME", "refused CODE", or "diverged".
	Outcome string
	Step    int    // from 1; 0 for "same", and where the end alone differs
	Detail  string // what the step had come to, and what it came to here
	// Before that a lock was given back, and the server let those go on who had
	// waited for it: at once, and in an order of its own, where a model leaves
	// both to the schedule.
	Choice bool
}

func (v Verdict) String() string {
	if v.Step == 0 {
		return v.Outcome
	}
	text := fmt.Sprintf("%s at step %d (%s)", v.Outcome, v.Step, v.Detail)
	if v.Choice {
		text += ", after the server had chosen who goes on"
	}
	return text
}

const same = "same"

var codePattern = regexp.MustCompile(`^[0-9A-Z]{5}$`)

// compare holds a run to another of the same schedule, step by step.
func compare(run, there *execution) Verdict {
	for i, ev := range run.events {
		if i >= len(there.events) {
			break
		}
		other := there.events[i]
		if ev.actor == other.actor && ev.result == other.result {
			continue
		}
		v := Verdict{"diverged", i + 1, ev.result + ", there " + other.result, there.choice}
		if who, ok := strings.CutPrefix(other.result, "waits for "); ok {
			v.Outcome = "blocked-by " + who
		} else if codePattern.MatchString(other.result) {
			v.Outcome = "refused " + other.result
		}
		return v
	}
	switch {
	case run.failure.same(there.failure): // a step earlier, where a COMMIT let a statement end at once
		return Verdict{Outcome: same}
	case there.diverged != "":
		return Verdict{"diverged", len(there.events) + 1, there.diverged, there.choice}
	case len(there.events) != len(run.events):
		return Verdict{"diverged", len(there.events) + 1, "it ends there", there.choice}
	case run.failure != nil || there.failure != nil:
		return Verdict{Outcome: "diverged"}
	}
	return Verdict{Outcome: same}
}

// elsewhere is the same exploration with another setting.
func (x *explorer) elsewhere(set Option) *explorer {
	y := &explorer{t: x.t, scenario: x.scenario, settings: x.settings, home: &home{}, names: map[string]string{}, clock: x.clock, goroutine: x.goroutine, vain: x.vain, ticking: x.ticking, passed: x.passed, earlier: x.earlier}
	set(&y.settings)
	y.attentive.Store(x.attentive.Load())
	y.onClose(y.home.close)
	return y
}

// follow runs a schedule that run has followed; again where it goes another
// way, at most so many times, since the engine may have its say in the order of what one COMMIT lets go on.
func (x *explorer) follow(run *execution, without omissions, times int) (there *execution, v Verdict) {
	for range times {
		there = x.execute(&replay{steps: run.schedule()}, without, true)
		if v = compare(run, there); v.Outcome == same {
			break
		}
	}
	return there, v
}

// engines says on which engines a schedule fails.
func (x *explorer) engines(run *execution, without omissions) string {
	for _, e := range x.home.engines {
		v, ok := e.(engine.Verifier)
		if !ok {
			continue
		}
		return v.Verify(func(set engine.Setting) (fails bool, verdict string) {
			y := x.elsewhere(EngineSetting(set))
			defer y.close()
			there, v := y.follow(run, without, divergences)
			return run.failure.same(there.failure), v.String()
		})
	}
	return ""
}
