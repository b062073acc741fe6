package harness

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

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
		r.faults(), plural(r.From, "step"), plural(r.Replays, "replay"), r.Again, r.Of)
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
	if r.Fix != "" {
		fmt.Fprintf(&b, "<p class=\"why\"><strong>Fix, usually.</strong> %s.</p>\n", esc(r.Fix))
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
