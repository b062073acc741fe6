package harness

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A Report is the story of one failure. It names nothing that differs between
// two runs: no times of day, no addresses, and ids renamed in the order of
// their appearance.
type Report struct {
	Test     string
	Failure  Failure
	Schedule schedule
	Steps    []Step
	Actors   []string
	Switches int
	Faults   int
	Open     bool // not every schedule with fewer faults was tried
	From     int  // steps of the schedule that was found
	Replays  int  // spent on making it shorter
	Again    int  // of Of, how often it failed again in the same way
	Of       int
	NoReturn int // the first step after which every continuation fails; 0 if unknown
	Why      []string
	Anomaly  string // its name, where there is a certain one: "lost update"
	Fix      string // what usually helps against it
	Explored string
	Engines  string // verdicts of other engines, where there are any
	Diverged string // where a rerun went another way
	Saved    string
	Left     string // what the minimiser left out
	without  string // the same, for the schedule
	cast     string // whom its letters are
	grain    Grain
}

// A Step is one line of the timeline.
type Step struct {
	Actor  int // its column; -1 for the clock
	Text   string
	Result string
	Fault  string
	State  string
}

// report shortens a failure, tries it three times more, and tells it.
func (x *explorer) report(result *Result, found *execution) *Report {
	x.reporting = true
	m := x.minimise(found)
	minimal, without := m.best, m.without
	s := minimal.schedule()
	r := &Report{
		Test: x.t.Name(), Schedule: s, From: len(found.events), Replays: m.replays, Of: 3, Open: m.open && minimal.faults() > 0,
		grain: x.settings.grain,
	}
	defer func() {
		result.Unexplored = x.notExplored()
		r.Explored = result.explored()
	}()
	r.without, r.cast = minimal.leftOut(), minimal.cast()
	var trace string
	var first *execution
	for range r.Of {
		clear(x.names)
		run := x.execute(&replay{steps: s}, without, true)
		switch text := run.trace(); {
		case !run.failure.same(found.failure):
			if r.Diverged = run.diverged; r.Diverged == "" {
				r.Diverged = "the same schedule ended otherwise"
			}
		case trace == "":
			trace, r.Again = text, 1
			r.fill(run, without)
			first = run
		case trace == text:
			r.Again++
		default:
			r.Diverged = firstDifference(trace, text)
		}
	}
	if r.Again == 0 {
		r.Failure, r.Steps = *found.failure, nil
		return r
	}
	r.Engines = x.engines(first, without)
	if k := found.failure.Kind; k != "linearizable" && k != "livelock" && k != "unscheduled" {
		r.NoReturn = x.noReturn(minimal, without)
	}
	return r
}

// fill takes over what a run in detail shows.
func (r *Report) fill(run *execution, without omissions) {
	r.Failure = *run.failure
	r.Failure.Message = run.sim.x.rename(r.Failure.Message)
	r.Switches, r.Faults = r.Schedule.switches(), run.faults()
	columns := make([]int, len(run.sim.actors))
	var left []string
	for i, a := range run.sim.actors {
		if without.actors.has(i) {
			left = append(left, a.name)
			continue
		}
		columns[i] = len(r.Actors)
		r.Actors = append(r.Actors, a.name)
	}
	if n := len(without.ops); n > 0 {
		left = append(left, plural(n, "operation"))
	}
	r.Left = strings.Join(left, ", ")
	shown := make([]string, len(run.sim.shows))
	for _, ev := range run.events {
		step := Step{Actor: -1, Text: engine.Clip(run.sim.x.rename(ev.text), 1000), Result: ev.result, Fault: ev.fault.String()}
		if ev.actor >= 0 {
			step.Actor = columns[ev.actor]
		}
		var changed []string
		for i, now := range ev.show {
			now = run.sim.x.rename(now)
			switch {
			case shown[i] == "":
				changed = append(changed, run.sim.shows[i].name+" "+now)
			case shown[i] != now:
				changed = append(changed, run.sim.shows[i].name+" "+shown[i]+"→"+now)
			}
			shown[i] = now
		}
		step.State = strings.Join(changed, ", ")
		r.Steps = append(r.Steps, step)
	}
	if r.Failure.Kind != "unscheduled" { // whose reads and writes are not all known
		r.Anomaly, r.Why = run.why()
		r.Fix = fix(r.Anomaly, run.sim.traits())
	}
}

// noReturn is the first step after which every continuation that was tried
// fails, whatever its order.
func (x *explorer) noReturn(run *execution, without omissions) int {
	const tries = 300
	s := run.schedule()
	at := len(s)
	for i := len(s) - 1; i >= 0; i-- {
		if s[i].letter == "-" {
			break
		}
		search := &exhaustive{reduce: true, bound: -1, watched: &x.watched, noFaults: true, start: &replay{steps: s[:i]}}
		for range tries {
			again := x.execute(search, without, false)
			if !again.aborted && again.failure == nil {
				return at
			}
			if !search.again() {
				break
			}
		}
		at = i
	}
	return 0
}

// trace is everything that one run can be told from another by.
func (r *execution) trace() string {
	var b strings.Builder
	for _, ev := range r.events {
		fmt.Fprintf(&b, "%d %s → %s %s %s\n", ev.actor, ev.text, ev.result, ev.fault, strings.Join(ev.show, ", "))
	}
	if r.failure != nil {
		fmt.Fprintf(&b, "%s %s %s\n", r.failure.Kind, r.failure.Oracle, r.sim.x.rename(r.failure.Message))
	}
	return b.String()
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range as {
		if i >= len(bs) || as[i] != bs[i] {
			other := "its end"
			if i < len(bs) {
				other = bs[i]
			}
			return fmt.Sprintf("at step %d: %q, and then %q", i+1, as[i], other)
		}
	}
	return "it went on for longer"
}

var idPattern = regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`)

// rename gives ids short names, in the order in which they first appear.
func (x *explorer) rename(text string) string {
	if len(text) < 36 {
		return text
	}
	return idPattern.ReplaceAllStringFunc(text, func(id string) string {
		name, ok := x.names[id]
		if !ok {
			name = fmt.Sprintf("id%d", len(x.names)+1)
			x.names[id] = name
		}
		return name
	})
}

const (
	columnWidth = 54
	maxLines    = 25
)

// String is the report as text, the verdict first, in at most 25 lines.
func (r *Report) String() string {
	var b strings.Builder
	line := func(label, text string) { fmt.Fprintf(&b, "  %-9s %s\n", label, text) }
	line("VIOLATED", r.verdict())
	if r.Again == 0 {
		line("FLAKY", "it did not happen again: "+r.Diverged)
		line("EXPLORED", r.Explored)
		return b.String()
	}
	again := fmt.Sprintf("reproduced %d of %d", r.Again, r.Of)
	if r.Diverged != "" {
		again += " (" + engine.Clip(r.Diverged, 80) + ")"
	}
	line("MINIMAL", fmt.Sprintf("%s, %s, %s   from %s in %s; %s",
		plural(len(r.Steps), "step"), plural(r.Switches, "switch"), r.faults(), plural(r.From, "step"), plural(r.Replays, "replay"), again))
	if r.Left != "" {
		line("WITHOUT", r.Left)
	}
	r.timeline(&b)
	for i, why := range r.Why {
		label := "WHY"
		if i > 0 {
			label = ""
		}
		line(label, why)
	}
	if r.Fix != "" {
		line("FIX", "usually: "+r.Fix)
	}
	if r.Engines != "" {
		line("ENGINES", r.Engines)
	}
	line("EXPLORED", r.Explored)
	replay := r.command()
	if r.Saved != "" {
		replay += "   saved " + r.Saved
	}
	line("REPLAY", replay)
	return b.String()
}

// command runs the schedule alone, in a shell.
func (r *Report) command() string {
	test := strings.ReplaceAll(regexp.QuoteMeta(r.Test), "/", "$/^")
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	schedule := r.Schedule.String()
	if r.without != "" { // ! is history in some shells
		schedule = quote(schedule + r.without)
	}
	return fmt.Sprintf("go test -run %s -harness.replay=%s", quote("^"+test+"$"), schedule)
}

// faults is how many faults the schedule has, and whether fewer might do.
func (r *Report) faults() string {
	if r.Open {
		return plural(r.Faults, "fault") + " (not every schedule with fewer was tried)"
	}
	return plural(r.Faults, "fault")
}

func (r *Report) verdict() string {
	f := r.Failure
	switch f.Kind {
	case "always", "eventually":
		return fmt.Sprintf("%s %q    %s", f.Kind, f.Oracle, f.Message)
	case "error":
		return fmt.Sprintf("%s returned an error    %s", f.Oracle, engine.Clip(f.Message, 300))
	case "panic":
		return fmt.Sprintf("%s panicked    %s", f.Oracle, engine.Clip(f.Message, 1500))
	case "linearizable":
		return fmt.Sprintf("linearizability of %q    %s", f.Oracle, f.Message)
	}
	return f.Kind + "    " + f.Message
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "ch") {
		what += "e"
	}
	return thousands(n) + " " + what + "s"
}

// timeline draws a column for each actor and one for what the scenario shows.
func (r *Report) timeline(b *strings.Builder) {
	widths := make([]int, len(r.Actors))
	for i, name := range r.Actors {
		widths[i] = len([]rune(name))
	}
	cells := make([]string, len(r.Steps))
	for i, s := range r.Steps {
		cells[i] = s.cell()
		if s.Actor >= 0 {
			widths[s.Actor] = min(max(widths[s.Actor], len([]rune(cells[i]))), columnWidth)
		}
	}
	fmt.Fprintf(b, "  %3s ", "#")
	for i, name := range r.Actors {
		fmt.Fprintf(b, " %-*s ", widths[i], name)
	}
	b.WriteString(" state\n")
	shown := r.visible()
	gap := false
	for i, s := range r.Steps {
		if !shown[i] {
			if !gap {
				fmt.Fprintf(b, "  %3s\n", "…")
			}
			gap = true
			continue
		}
		gap = false
		var line strings.Builder
		fmt.Fprintf(&line, "  %3d ", i+1)
		for c := range r.Actors {
			text := ""
			if c == s.Actor || s.Actor < 0 && c == 0 {
				text = engine.Clip(cells[i], columnWidth)
			}
			fmt.Fprintf(&line, " %-*s ", widths[c], text)
		}
		line.WriteString(" " + s.State)
		if i+1 == r.Failure.Step {
			line.WriteString(" ✗")
		}
		if i+1 == r.NoReturn {
			line.WriteString("   ← point of no return")
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	if r.Failure.Step == 0 {
		b.WriteString("      ✗ at the end\n")
	}
}

// visible says which steps to print where there are too many: the first, those
// around a switch, and the last.
func (r *Report) visible() []bool {
	room := maxLines - 8 - len(r.Why)
	if r.Fix != "" {
		room--
	}
	shown := make([]bool, len(r.Steps))
	if len(r.Steps) <= room {
		for i := range shown {
			shown[i] = true
		}
		return shown
	}
	var order []int
	for i := len(r.Steps) - 1; i >= 0; i-- {
		if i == len(r.Steps)-1 || i+1 == r.NoReturn || i == 0 || r.Steps[i].Fault != "" {
			order = append(order, i)
		}
	}
	for i := len(r.Steps) - 1; i > 0; i-- {
		if r.Steps[i].Actor != r.Steps[i-1].Actor {
			order = append(order, i, i-1)
		}
	}
	for i := len(r.Steps) - 1; i >= 0; i-- {
		order = append(order, i)
	}
	left := room - 3 // and the gaps
	for _, i := range order {
		if !shown[i] && left > 0 {
			shown[i] = true
			left--
		}
	}
	return shown
}

func (s Step) cell() string {
	room := columnWidth - len([]rune(s.Fault)) - min(len([]rune(s.Result)), columnWidth/2)
	text := engine.Clip(s.Text, max(room-3, columnWidth/3))
	if s.Fault != "" {
		text += " ⚡" + s.Fault
	}
	if s.Result != "" {
		text += " → " + s.Result
	}
	return text
}
