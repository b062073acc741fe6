package harness

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
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
	From     int // steps of the schedule that was found
	Replays  int // spent on making it shorter
	Again    int // of Of, how often it failed again in the same way
	Of       int
	NoReturn int // the first step after which every continuation fails; 0 if unknown
	Why      []string
	Explored string
	Engines  string // verdicts of other engines, where there are any
	Diverged string // where a rerun went another way
	Saved    string
	Left     string // what the minimiser left out
	without  string // the same, for the schedule
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
	minimal, without, replays := x.minimise(found)
	s := minimal.schedule()
	r := &Report{
		Test: x.t.Name(), Schedule: s, From: len(found.events), Replays: replays, Of: 3,
		Explored: result.String(), grain: x.settings.grain,
	}
	r.Explored = strings.TrimSuffix(r.Explored, ", 1 failing")
	if len(result.Covered) == 0 {
		r.Explored = "the schedule of " + result.Found + " alone"
	}
	r.without = minimal.leftOut()
	var trace string
	var first *execution
	for range r.Of {
		clear(x.names)
		run := x.execute(&replay{steps: s}, without, true)
		x.alive.Add(1)
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
	if k := found.failure.Kind; k != "linearizable" && k != "livelock" {
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
		step := Step{Actor: -1, Text: clip(run.sim.x.rename(ev.text), 1000), Result: ev.result, Fault: ev.fault.String()}
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
	r.Why = run.why()
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
		search := &exhaustive{reduce: true, bound: -1, noFaults: true, start: &replay{steps: s[:i]}}
		for range tries {
			x.alive.Add(1)
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
		again += " (" + clip(r.Diverged, 80) + ")"
	}
	line("MINIMAL", fmt.Sprintf("%s, %s, %s   from %s in %s; %s",
		plural(len(r.Steps), "step"), plural(r.Switches, "switch"), plural(r.Faults, "fault"), plural(r.From, "step"), plural(r.Replays, "replay"), again))
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

func (r *Report) verdict() string {
	f := r.Failure
	switch f.Kind {
	case "always", "eventually":
		return fmt.Sprintf("%s %q    %s", f.Kind, f.Oracle, f.Message)
	case "error":
		return fmt.Sprintf("%s returned an error    %s", f.Oracle, clip(f.Message, 300))
	case "panic":
		return fmt.Sprintf("%s panicked    %s", f.Oracle, clip(f.Message, 1500))
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
				text = clip(cells[i], columnWidth)
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
	text := clip(s.Text, max(room-3, columnWidth/3))
	if s.Fault != "" {
		text += " ⚡" + s.Fault
	}
	if s.Result != "" {
		text += " → " + s.Result
	}
	return text
}

// HTML draws the report as one page that needs nothing else: the verdict and
// its reason, and the timeline with a lane for each actor. On a narrow screen
// the lanes become one column, in which each turn names its actor.
func (r *Report) HTML() string {
	var b strings.Builder
	esc := html.EscapeString
	what, message, _ := strings.Cut(r.verdict(), "    ")
	fmt.Fprintf(&b, `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s fails</title>
<style>%s</style>
<p class="test">%s</p>
<h1>Violated: %s</h1>
<pre class="message">%s</pre>
`, esc(r.Test), htmlStyle, esc(r.Test), esc(what), esc(message))
	size := fmt.Sprintf("%s, %s, %s; from %s in %s; reproduced %d of %d", plural(len(r.Steps), "step"), plural(r.Switches, "switch"),
		plural(r.Faults, "fault"), plural(r.From, "step"), plural(r.Replays, "replay"), r.Again, r.Of)
	if r.Left != "" {
		size += "; without " + r.Left
	}
	if r.Diverged != "" {
		size += "; a rerun went another way: " + r.Diverged
	}
	fmt.Fprintf(&b, "<p class=\"size\">%s.</p>\n", esc(size))
	if len(r.Why) > 0 {
		fmt.Fprintf(&b, "<p class=\"why\"><strong>Why.</strong> %s.</p>\n", esc(strings.Join(r.Why, " ")))
	}
	if len(r.Steps) > 0 {
		r.htmlTimeline(&b)
	}
	b.WriteString("<dl>\n")
	items := [][2]string{
		{"Engines", r.Engines}, {"Explored", r.Explored},
		{"Replay", r.command()},
	}
	for _, item := range slices.DeleteFunc(items, func(i [2]string) bool { return i[1] == "" }) {
		fmt.Fprintf(&b, "<dt>%s</dt><dd><code class=\"%s\">%s</code></dd>\n", item[0], strings.ToLower(item[0]), esc(item[1]))
	}
	b.WriteString("</dl>\n</html>\n")
	return b.String()
}

func (r *Report) htmlTimeline(b *strings.Builder) {
	hues := [...]int{214, 152, 276, 32, 188, 318, 92, 246} // none of them the red of what went wrong
	fmt.Fprintf(b, "<div class=\"scroll\"><table style=\"min-width: %drem\">\n<thead><tr><th class=\"n\">#</th>", 18+12*len(r.Actors))
	for i, name := range r.Actors {
		fmt.Fprintf(b, `<th class="lane" style="--hue: %d">%s</th>`, hues[i%len(hues)], html.EscapeString(name))
	}
	b.WriteString("<th class=\"state\">state</th></tr></thead>\n<tbody>\n")
	for i, s := range r.Steps {
		class, mark := "", ""
		if i == 0 || r.Steps[i-1].Actor != s.Actor {
			class = "turn"
		}
		switch {
		case i+1 == r.Failure.Step:
			class, mark = class+" end", " ✗"
		case r.Failure.Step == 0 && i == len(r.Steps)-1:
			class, mark = class+" end", " ✗ at the end"
		}
		fmt.Fprintf(b, `<tr class="%s"><td class="n">%d</td>`, strings.TrimSpace(class), i+1)
		if s.Actor < 0 {
			fmt.Fprintf(b, `<td class="clock" colspan="%d">%s</td>`, max(len(r.Actors), 1), html.EscapeString(s.Text))
		}
		for c, name := range r.Actors {
			switch {
			case s.Actor == c:
				fmt.Fprintf(b, `<td class="on" style="--hue: %d"><span class="who">%s</span>%s</td>`, hues[c%len(hues)], html.EscapeString(name), s.html())
			case s.Actor >= 0:
				b.WriteString(`<td class="off"></td>`)
			}
		}
		fmt.Fprintf(b, `<td class="state">%s`, html.EscapeString(s.State))
		if mark != "" {
			fmt.Fprintf(b, `<span class="mark">%s</span>`, mark)
		}
		b.WriteString("</td></tr>\n")
		if i+1 == r.NoReturn && i < len(r.Steps)-1 {
			fmt.Fprintf(b, "<tr class=\"rule\"><td></td><td colspan=\"%d\">point of no return: from here on, every order that was tried fails</td></tr>\n", len(r.Actors)+1)
		}
	}
	b.WriteString("</tbody></table></div>\n")
}

// html is what a step did, and what came of it.
func (s Step) html() string {
	text := "<code>" + html.EscapeString(s.Text) + "</code>"
	if s.Fault != "" {
		text += ` <span class="fault">⚡ ` + html.EscapeString(s.Fault) + "</span>"
	}
	switch {
	case strings.HasPrefix(s.Result, "waits"):
		text += ` <span class="waits">` + html.EscapeString(s.Result) + "</span>"
	case strings.HasPrefix(s.Result, "reads"):
		text += ` <code class="result reads">→ ` + html.EscapeString(s.Result) + "</code>"
	case s.Result != "":
		text += ` <code class="result">→ ` + html.EscapeString(s.Result) + "</code>"
	}
	return text
}

const htmlStyle = `
:root { color-scheme: light dark; --ink: #1c2024; --dim: #667078; --paper: #fff; --line: #e3e7eb;
  --bad: #c4242b; --bad-soft: #fdecec; --wait: #96600a; --lane-s: 64%; --lane-l: 34%; --tint: 7%; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #949da6; --paper: #15181b; --line: #2c3237;
  --bad: #ff7b7f; --bad-soft: #3a1d20; --wait: #e0ad5b; --lane-s: 58%; --lane-l: 66%; --tint: 11%; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto; max-width: 88rem; padding: 2rem 1.5rem 4rem; }
code, pre { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.test { color: var(--dim); margin: 0; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; line-height: 1.3; color: var(--bad); margin: .1rem 0 .5rem; }
.message { font-size: 15px; border-left: 4px solid var(--bad); background: var(--bad-soft); padding: .5rem .8rem; }
.size { color: var(--dim); margin: .6rem 0 1.4rem; }
.why { max-width: 62rem; margin: 0 0 1.6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; table-layout: fixed; width: 100%; }
th { text-align: left; font-weight: 600; padding: .4rem .7rem; border-bottom: 2px solid var(--line); }
th.lane { color: hsl(var(--hue) var(--lane-s) var(--lane-l)); border-bottom-color: currentColor; }
td { padding: .35rem .7rem; vertical-align: top; }
tr.turn td { border-top: 1px solid var(--line); }
.n { width: 2.6rem; color: var(--dim); text-align: right; font-variant-numeric: tabular-nums; padding-left: 0; }
.state { width: 15rem; } td.state { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
td.on { --lane: hsl(var(--hue) var(--lane-s) var(--lane-l)); border-left: 3px solid var(--lane); background: color-mix(in srgb, var(--lane) var(--tint), transparent); }
.who { display: none; } .result { color: var(--dim); } .result.reads { color: inherit; font-weight: 700; } .waits { color: var(--wait); font-weight: 600; }
.fault { color: var(--bad); font-weight: 600; } .clock { color: var(--dim); text-align: center; font-style: italic; }
tr.end td { background: var(--bad-soft); } tr.end td.n, .mark { color: var(--bad); font-weight: 700; }
tr.end .state { border-right: 4px solid var(--bad); }
tr.rule td { color: var(--bad); font-size: 13px; padding: .3rem .7rem; border-top: 2px dashed var(--bad); border-bottom: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.2rem; margin: 1.8rem 0 0; }
dt { color: var(--dim); } dd { margin: 0; min-width: 0; } .replay { user-select: all; }
@media (max-width: 46rem) {
  body { padding: 1.2rem .9rem 3rem; } h1 { font-size: 1.2rem; }
  table, tbody { display: block; } thead, td.off, tr td.state:empty { display: none; }
  .scroll table { min-width: 0 !important; }
  tr { display: grid; grid-template-columns: 2.2rem 1fr; } tr td { border-top: 0 !important; }
  td.n { width: auto; padding: .35rem .5rem .35rem 0; } td.state { grid-column: 2; width: auto; padding-top: 0; }
  tr.end .state { border-right: 0; }
  tr.turn { margin-top: .7rem; } tr.turn .who { display: block; font-weight: 600; color: var(--lane); }
  tr.rule td:first-child { display: none; } tr.rule td { grid-column: 1 / -1; border-top: 2px dashed var(--bad) !important; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .7rem; }
}
`
