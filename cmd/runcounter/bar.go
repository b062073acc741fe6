package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
)

// bar shows how far a long work is: on a terminal as a bar that grows, elsewhere
// in a line every ten seconds.
type bar struct {
	w        io.Writer
	unit     string // what is counted
	terminal bool
	total    int64 // 0 where it is not known
	counted  bool  // the total is exact, for the moment in which it was counted
	before   int64 // done before this work began
	now      func() time.Time
	begun    time.Time
	last     time.Time
}

func newBar(w io.Writer, total int64, counted bool, before int64, now func() time.Time) *bar {
	begun := now()
	return &bar{w: w, unit: "rows", terminal: isTerminal(w), total: total, counted: counted, before: before, now: now, begun: begun, last: begun}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// show shows that so many rows are done, unless it did a moment ago.
func (b *bar) show(rows int64) {
	b.say(func() string { return b.line(rows) })
}

// say shows a text of the caller's in place of the bar, unless it did a moment ago.
func (b *bar) say(text func() string) {
	every := 10 * time.Second
	if b.terminal {
		every = 200 * time.Millisecond
	}
	if now := b.now(); now.Sub(b.last) >= every {
		b.last = now
		b.write(text())
	}
}

// end leaves the bar on a terminal as it was last, and goes to the next line.
func (b *bar) end(rows int64) {
	if b.terminal {
		b.write(b.line(rows))
		fmt.Fprintln(b.w)
	}
}

// clear leaves nothing of the bar on a terminal, and stays on its line.
func (b *bar) clear() {
	if b.terminal {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

func (b *bar) write(line string) {
	if b.terminal {
		fmt.Fprintf(b.w, "\r%s\x1b[K", line)
		return
	}
	fmt.Fprintf(b.w, "%s\n", line)
}

// line is at most 80 columns wide up to ten million rows.
func (b *bar) line(rows int64) string {
	const width = 16
	var s strings.Builder
	if b.total > 0 {
		done := min(float64(rows)/float64(b.total), 1)
		if b.terminal {
			full := int(done * width)
			fmt.Fprintf(&s, "[%s%s] ", strings.Repeat("=", full), strings.Repeat(" ", width-full))
		}
		about := "about "
		if b.counted {
			about = ""
		}
		fmt.Fprintf(&s, "%.0f %%, %d of %s%d %s", done*100, rows, about, max(b.total, rows), b.unit)
	} else {
		fmt.Fprintf(&s, "%d %s", rows, b.unit)
	}
	rate := float64(rows-b.before) / max(b.now().Sub(b.begun).Seconds(), 0.001)
	if rate < 1 {
		return s.String()
	}
	fmt.Fprintf(&s, ", %.0f/s", rate)
	if left := b.total - rows; left > 0 {
		fmt.Fprintf(&s, ", %s left", time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second))
	}
	return s.String()
}
