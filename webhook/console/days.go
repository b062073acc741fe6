package console

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// daysShown bounds the days of a count's chart, and daysWithin the time for them: each
	// is a count in a window, which an index answers.
	daysShown  = 30
	daysWithin = 2 * time.Second
	// runsLooked is the number of a count's latest runs among which those that do not
	// count are looked for, and uncountedShown of these.
	runsLooked     = 200
	uncountedShown = 10
	// daysHeight is the height of the chart, in its own units.
	daysHeight = 60
)

// day is a bar of a count's chart. Lengths are texts, in the chart's own units.
type day struct {
	At      time.Time
	Title   string
	X       int
	Counted dayBar
	Other   dayBar // ended runs that don't count, above
	counted int64
	ended   int64
}

type dayBar struct{ Y, Height string }

// days is the chart of the days of a count, in UTC.
type days struct {
	Days    []day
	Most    int64 // ended runs in a day
	Counted int64
	Ended   int64
	Partly  bool // the earliest ones took too long
}

// Width is that of the chart.
func (d days) Width() int { return 10 * len(d.Days) }

// From and To are the first day and the last.
func (d days) From() string { return d.Days[0].At.Format(time.DateOnly) }
func (d days) To() string   { return d.Days[len(d.Days)-1].At.Format(time.DateOnly) }

// daysOf counts the runs of a key that ended on each of the last days, the latest first,
// until its time is over.
func (c *Console) daysOf(ctx context.Context, h store.KeyHistory) (d days, err error) {
	today := c.cfg.Now().UTC().Truncate(24 * time.Hour)
	if last := h.Count.LastRunAt; last.Before(today.AddDate(0, 0, 1-daysShown)) {
		return d, nil // none ended in them
	}
	bounded, cancel := context.WithTimeout(ctx, daysWithin)
	defer cancel()
	all := make([]day, daysShown)
	for i := daysShown - 1; i >= 0; i-- {
		from := today.AddDate(0, 0, i+1-daysShown)
		n, err := c.cfg.Store.Count(bounded, h.Count.Key.Scope(), store.Window{From: from, To: from.AddDate(0, 0, 1)})
		if err != nil && bounded.Err() != nil && ctx.Err() == nil {
			d.Partly = true
			all = all[i+1:]
			break
		}
		if err != nil {
			return d, err
		}
		all[i] = day{At: from, counted: n.Count, ended: n.Tallies.Ended.Total()}
	}
	d.draw(all)
	return d, nil
}

// draw gives the days their bars.
func (d *days) draw(all []day) {
	for _, one := range all {
		d.Most = max(d.Most, one.ended)
		d.Counted, d.Ended = d.Counted+one.counted, d.Ended+one.ended
	}
	for i := range all {
		one := &all[i]
		one.X = 10 * i
		one.Title = fmt.Sprintf("%s: %d counted of %s", one.At.Format(time.DateOnly), one.counted, store.Quantity(one.ended, "ended run", "ended runs"))
		counted, ended := d.height(one.counted), d.height(one.ended)
		one.Counted = dayBar{units(daysHeight - counted), units(counted)}
		one.Other = dayBar{units(daysHeight - ended), units(ended - counted)}
	}
	d.Days = all
}

func (d *days) height(n int64) float64 {
	return float64(daysHeight) * float64(n) / float64(max(d.Most, 1))
}

func units(n float64) string { return strconv.FormatFloat(n, 'f', 1, 64) }

// uncounted are the latest ended runs of a count that it does not have, with why.
func uncounted(h store.KeyHistory) (runs []store.Run) {
	for _, r := range h.Runs {
		if !r.Counted && r.Ended() && len(runs) < uncountedShown {
			runs = append(runs, r)
		}
	}
	return runs
}
