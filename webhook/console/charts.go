package console

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// span is a time that the charts show, up to now.
type span struct {
	Name  string // in an address
	Title string
	index int
	step  time.Duration // of a bar
	bars  int
	tick  time.Duration // between two times of the axis
	clock string        // how these are written
	Per   string        // names a bar
	good  time.Duration // for which a reading of it is used
}

var spans = [...]span{
	{"hour", "Hour", 0, time.Minute, 60, 10 * time.Minute, "15:04", "a minute", 5 * time.Second},
	{"day", "Day", 1, 15 * time.Minute, 96, 4 * time.Hour, "15:04", "15 minutes", 15 * time.Second},
	{"week", "Week", 2, 2 * time.Hour, 84, 24 * time.Hour, "Mon 2", "2 hours", time.Minute},
}

// spanNamed returns the span of a name, the hour for any other.
func spanNamed(name string) span {
	for _, s := range spans {
		if s.Name == name {
			return s
		}
	}
	return spans[0]
}

// to returns the end of the step that is under way, and from the beginning of the first
// one.
func (s span) to(now time.Time) time.Time   { return now.UTC().Truncate(s.step).Add(s.step) }
func (s span) from(now time.Time) time.Time { return s.to(now).Add(-time.Duration(s.bars) * s.step) }

// timeline is the charts of a span, on one axis.
type timeline struct {
	Span   span
	Spans  []span
	Panels []panel
	Ticks  []tick
	Sum    store.Activity
	Gaps   bool // some of it is a time that no instance has seen
	Memory bool // nothing is kept in the database
}

// panel shows one figure. Widths are in percent of it, heights in pixels.
type panel struct {
	Name, Now, Most, Label string
	Class                  string // of what is above 0
	Bars                   []bar
}

type bar struct {
	X, Width  string
	Y, Height string
	Class     string // zero where nothing happened, gap where no instance watched
	Says      string
}

type tick struct{ X, Text string }

const (
	panelHeight = 46
	// zeroHeight makes a bar of nothing visible, so that it differs from no data.
	zeroHeight = 1.5
)

func percent(v float64) string {
	return strconv.FormatFloat(math.Round(1000*v)/1000, 'f', -1, 64) + "%"
}

func pixels(v float64) string { return strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64) }

// draw makes the charts of a span from what happened in it. Since is from when on this
// instance has watched.
func draw(s span, now time.Time, steps []store.Activity, since time.Time) timeline {
	from := s.from(now)
	at := make([]store.Activity, s.bars)
	seen := make([]bool, s.bars)
	place := func(t time.Time) int { return int(math.Floor(float64(t.Sub(from)) / float64(s.step))) }
	t := timeline{Span: s, Spans: spans[:]}
	for _, a := range steps {
		i := place(a.At)
		if i < 0 || i >= s.bars {
			continue
		}
		at[i] = at[i].Plus(a)
		for j := max(0, min(i, place(a.Since))); j <= i; j++ {
			seen[j] = true
		}
		lost := t.Sum.Lost + a.Lost
		t.Sum = t.Sum.Plus(a)
		t.Sum.Lost = lost
	}
	if !since.IsZero() {
		for j := max(0, place(since)); j < s.bars; j++ {
			seen[j] = true
		}
	}
	count := func(of func(store.Activity) int64) func(store.Activity) float64 {
		return func(a store.Activity) float64 { return float64(of(a)) }
	}
	number := func(n int64) string { return figure(float64(n)) }
	t.Panels = []panel{
		s.panel("Deliveries", "", from, at, seen, number(t.Sum.Deliveries), figure, count(func(a store.Activity) int64 { return a.Deliveries })),
		s.panel("Refused", "wrong", from, at, seen, number(t.Sum.Refused+t.Sum.Failed), figure, count(func(a store.Activity) int64 { return a.Refused + a.Failed })),
		s.panel("Lost on the way", "wrong", from, at, seen, number(t.Sum.Lost), figure, count(func(a store.Activity) int64 { return a.Lost })),
		s.panel("Greatest lag", "", from, at, seen, took(t.Sum.Lag.Seconds()), took, func(a store.Activity) float64 { return a.Lag.Seconds() }),
	}
	for i := range seen {
		t.Gaps = t.Gaps || !seen[i]
	}
	for mark := from.Truncate(s.tick).Add(s.tick); mark.Before(s.to(now)); mark = mark.Add(s.tick) {
		x := 100 * float64(mark.Sub(from)) / float64(time.Duration(s.bars)*s.step)
		if x > 3 && x < 97 { // or the text would leave the chart
			t.Ticks = append(t.Ticks, tick{percent(x), mark.Format(s.clock)})
		}
	}
	return t
}

// panel draws the bars of one figure.
func (s span) panel(name, class string, from time.Time, at []store.Activity, seen []bool, now string, says func(float64) string, value func(store.Activity) float64) panel {
	most := 0.0
	for _, a := range at {
		most = max(most, value(a))
	}
	p := panel{Name: name, Now: now, Most: says(most), Class: class}
	p.Label = fmt.Sprintf("%s in the last %s: %s, at most %s in %s", name, s.Name, p.Now, p.Most, s.Per)
	width := 100 / float64(s.bars)
	for i := 0; i < s.bars; i++ {
		begins := from.Add(time.Duration(i) * s.step)
		b := bar{X: percent(width * float64(i)), Width: percent(width * 0.8)}
		v := value(at[i])
		switch {
		case !seen[i]:
			n := 1
			for ; i+1 < s.bars && !seen[i+1]; i++ {
				n++
			}
			b.Width, b.Y, b.Height, b.Class = percent(width*float64(n)), "0", pixels(panelHeight), "gap"
			b.Says = s.between(begins, n) + ": no data"
		case v == 0:
			b.Y, b.Height, b.Class, b.Says = pixels(panelHeight-zeroHeight), pixels(zeroHeight), "zero", s.between(begins, 1)+": "+says(0)
		default:
			height := max(3, panelHeight*v/most)
			b.Y, b.Height, b.Class, b.Says = pixels(panelHeight-height), pixels(height), class, s.between(begins, 1)+": "+says(v)
		}
		p.Bars = append(p.Bars, b)
	}
	return p
}

// between says when n bars are.
func (s span) between(from time.Time, n int) string {
	to := from.Add(time.Duration(n) * s.step)
	if s.step == time.Minute && n == 1 {
		return from.Format("15:04")
	}
	if from.YearDay() == to.Add(-1).YearDay() {
		return from.Format("2 Jan 15:04") + "–" + to.Format("15:04")
	}
	return from.Format("2 Jan 15:04") + " – " + to.Format("2 Jan 15:04")
}

// took prints a number of seconds in the largest unit that tells it well.
func took(seconds float64) string {
	switch {
	case seconds >= 2*3600:
		return figure(math.Round(seconds/3600)) + " h"
	case seconds >= 120:
		return figure(math.Round(seconds/60)) + " min"
	}
	return figure(seconds) + " s"
}

// figure prints a number as short as it can be read.
func figure(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.01:
		return "<0.01"
	case v < 10 && v != math.Trunc(v):
		return fmt.Sprintf("%.2f", v)
	case v >= 10_000 && v == math.Trunc(v):
		return grouped(int64(v))
	}
	return fmt.Sprintf("%.0f", v)
}

// grouped prints a number with a narrow space between thousands.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}
