package harness

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A schedule is every decision of one run, in order: who went, and what was
// chosen within that step. It reads w3r1w~2: three steps of w, one of r, one
// of w in which the first choice was 2. A choice of 0 is not written where
// nothing else follows it. c is the clock; what the scenario chose before any
// actor ran stands at the beginning, as -~1.
type schedule []decision

type decision struct {
	letter  string // of the actor; "-" for the scenario itself
	choices []int
}

func (r *execution) schedule() schedule { return r.scheduleOf(func(*event) bool { return true }) }

// scheduleWithout is the schedule without the steps of an operation.
func (r *execution) scheduleWithout(op opPlace) schedule {
	return r.scheduleOf(func(ev *event) bool {
		place, within := ev.place()
		return !within || place != op
	})
}

// scheduleOf is the schedule of the steps that are kept.
func (r *execution) scheduleOf(keep func(*event) bool) schedule {
	var s schedule
	if c := trim(r.setup); len(c) > 0 {
		s = append(s, decision{"-", c})
	}
	for i := range r.events {
		ev := &r.events[i]
		if !keep(ev) {
			continue
		}
		letter := r.x.clock.letter
		if ev.actor >= 0 {
			letter = r.sim.actors[ev.actor].letter
		}
		s = append(s, decision{letter, trim(ev.choices)})
	}
	return s
}

func trim(choices []int) []int {
	for len(choices) > 0 && choices[len(choices)-1] == 0 {
		choices = choices[:len(choices)-1]
	}
	return choices
}

func (s schedule) String() string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteString(s[i].letter)
		if len(s[i].choices) > 0 || s[i].letter == "-" {
			for _, c := range s[i].choices {
				fmt.Fprintf(&b, "~%d", c)
			}
			continue
		}
		n := 1
		for i+1 < len(s) && s[i+1].letter == s[i].letter && len(s[i+1].choices) == 0 {
			n++
			i++
		}
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

// leftOut is what follows a schedule that was tried without a part of its
// scenario: !b is without the actor b, !w.2 without the second operation of w.
// With !* its starts and goings on are steps, see [worker]; with !^ the machine's
// clock lets actors go on, see [execution.tick].
func (r *execution) leftOut() string {
	var b strings.Builder
	if r.x.attentive.Load() {
		b.WriteString("!" + attentive)
	}
	if len(r.x.ticking) > 0 {
		b.WriteString("!" + ticking)
	}
	for _, a := range r.sim.actors {
		if r.without.actors.has(a.id) {
			b.WriteString("!" + a.letter)
			continue
		}
		for i := range a.ops {
			if r.without.ops[opPlace{a.id, i}] {
				fmt.Fprintf(&b, "!%s.%d", a.letter, i+1)
			}
		}
	}
	return b.String()
}

// leaveOut reads what [execution.leftOut] wrote. An actor that a schedule names
// and that isn't there need not be left out.
func (r *execution) leaveOut(follow *replay) {
	for _, part := range follow.without {
		letter, op, isOp := strings.Cut(part, ".")
		n, err := strconv.Atoi(op)
		at := slices.IndexFunc(r.sim.actors, func(a *actor) bool { return a.letter == follow.letter(letter) })
		switch {
		case at < 0 && follow.name(letter) != letter:
		case at < 0, isOp && err != nil:
			r.diverged = "there is no " + part + " to leave out"
		case isOp:
			if r.without.ops == nil {
				r.without.ops = map[opPlace]bool{}
			}
			r.without.ops[opPlace{at, n - 1}] = true
		default:
			r.without.actors = r.without.actors.with(at)
		}
	}
}

// parseReplay reads a schedule and what it leaves out, and what a file says
// below of whom its letters are.
func parseReplay(text string) (*replay, error) {
	line, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	parts := strings.Split(strings.TrimSpace(line), "!")
	steps, err := parseSchedule(parts[0])
	r := &replay{steps: steps, without: parts[1:]}
	says := func(word string) bool {
		at := slices.Index(r.without, word)
		if at >= 0 {
			r.without = slices.Delete(r.without, at, at+1)
		}
		return at >= 0
	}
	r.attentive, r.ticking = says(attentive), says(ticking)
	if second, _, _ := strings.Cut(rest, "\n"); err == nil && strings.HasPrefix(second, castBegins) {
		r.cast, err = parseCast(second)
	}
	return r, err
}

const attentive, ticking = "*", "^"

// parseSchedule reads what [schedule.String] wrote.
func parseSchedule(text string) (schedule, error) {
	var s schedule
	runes := []rune(strings.TrimSpace(text))
	digits := func(i int) (n, next int, ok bool) {
		next = i
		for next < len(runes) && runes[next] >= '0' && runes[next] <= '9' {
			next++
		}
		n, err := strconv.Atoi(string(runes[i:next]))
		return n, next, err == nil
	}
	for i := 0; i < len(runes); {
		letter := string(runes[i])
		if runes[i] == '~' || runes[i] >= '0' && runes[i] <= '9' {
			return nil, fmt.Errorf("the schedule %q has no actor at place %d; it reads like w3r1w~2", text, i+1)
		}
		i++
		if i < len(runes) && runes[i] == '~' {
			d := decision{letter: letter}
			for i < len(runes) && runes[i] == '~' {
				n, next, ok := digits(i + 1)
				if !ok || n > 1<<20 {
					return nil, fmt.Errorf("the schedule %q lacks a number at place %d; it reads like w3r1w~2", text, i+2)
				}
				d.choices = append(d.choices, n)
				i = next
			}
			s = append(s, d)
			continue
		}
		n, next, ok := digits(i)
		if !ok || n < 1 || len(s)+n > maxSteps || letter == "-" { // an actor's turns in a row are written as one number
			return nil, fmt.Errorf("the schedule %q lacks a number of steps at place %d; it reads like w3r1w~2", text, i+1)
		}
		i = next
		for range n {
			s = append(s, decision{letter: letter})
		}
	}
	return s, nil
}

// switches counts how often another actor goes that need not have: the
// preemptions and the turns that were forced.
func (s schedule) switches() int {
	n := 0
	for i := 1; i < len(s); i++ {
		if s[i].letter != s[i-1].letter && s[i-1].letter != "-" {
			n++
		}
	}
	return n
}

// faults counts the faults that happened.
func (r *execution) faults() int {
	n := r.habits
	for _, ev := range r.events {
		if ev.fault != NoFault {
			n++
		}
	}
	return n
}

// replay follows a schedule. Strict, it gives up where the schedule can't be
// followed; loose, it goes on as well as it can: that is how a schedule with a
// part left out is tried.
type replay struct {
	steps     schedule
	loose     bool
	without   []string // parts of the scenario, see [execution.leftOut]
	cast      []member // whom its letters are, where it says so
	letters   map[string]string
	at        int
	taken     int // steps that were followed
	choice    int
	within    *decision // whose choices are being asked for
	attentive bool
	ticking   bool
}

func (r *replay) rewind() { r.at, r.taken, r.choice, r.within = 0, 0, 0, nil }

func (r *replay) pick(run *execution, ready []*actor) *actor {
	r.within = nil
	for r.at < len(r.steps) {
		d := &r.steps[r.at]
		r.at++
		if d.letter == "-" {
			continue
		}
		for _, a := range ready {
			if a.letter == r.letter(d.letter) {
				r.taken++
				r.within, r.choice = d, 0
				return a
			}
		}
		for _, a := range run.sim.actors {
			if a.letter == r.letter(d.letter) && a.away != nil && a.away.timed() && r.ticking { // as it was found then
				run.x.ticking[a.name] = true
				r.taken++
				r.within, r.choice = d, 0
				return a
			}
		}
		if !r.loose {
			run.diverged = fmt.Sprintf("step %d of the schedule is one of %s, who can't go on there", len(run.events)+1, r.name(d.letter))
			return nil
		}
	}
	r.within = nil
	for _, a := range ready { // go on without a switch that the schedule does not ask for
		if a == run.last {
			return a
		}
	}
	return ready[0]
}

func (r *replay) blocked(run *execution, a *actor) {
	if !r.loose && r.within != nil {
		run.diverged = fmt.Sprintf("step %d of the schedule is one of %s, who has to wait there", len(run.events)+1, r.name(r.within.letter))
	}
}

func (r *replay) choose(run *execution, n int, _ bool) int {
	d := r.within
	if a := run.sim.current.Load(); a == nil || a.event == nil {
		if len(r.steps) == 0 || r.steps[0].letter != "-" {
			return 0
		}
		d = &r.steps[0]
	}
	if d == nil || r.choice >= len(d.choices) {
		return 0
	}
	v := d.choices[r.choice]
	r.choice++
	if v >= n {
		if !r.loose {
			run.diverged = fmt.Sprintf("the schedule chooses %d of %d", v, n)
		}
		return 0
	}
	return v
}
