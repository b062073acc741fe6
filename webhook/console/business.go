package console

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// shownDays is the number of days that the chart of runs has.
	shownDays = 30
	// topRows is the number of rows in a list of the greatest counts and of limits.
	topRows = 8
	// businessFor is the time for which a reading is used, and businessWithin bounds
	// one question of it: on a large table it is a scan.
	businessFor    = time.Minute
	businessWithin = 5 * time.Second
	// businessSoon is how long a page waits for the first reading.
	businessSoon = 400 * time.Millisecond
	// dayHeight is that of the chart of runs, in pixels.
	dayHeight = 120
)

// business is what the runs of all users come to. What could not be read in time is nil.
type business struct {
	Days      *dayChart
	Users     []store.Count
	Workflows []store.Count
	Near      []store.NearLimit
	Late      bool // something could not be read in time
}

// dayChart shows the runs of each day by outcome.
type dayChart struct {
	Bars    []bar
	Ticks   []tick
	Legend  []legend
	Most    string
	Label   string
	Heading string
}

// legend names a colour, and how many runs have it.
type legend struct{ Class, Name, Runs string }

// outcomes are the parts of a bar, from the bottom on. Presumed ones are in none of the
// others.
var outcomes = [...]struct {
	class, name string
	of          func(t store.Tallies) int64
}{
	{"completed", "completed", func(t store.Tallies) int64 { return t.Ended.Completed - t.Presumed.Completed }},
	{"failed", "failed", func(t store.Tallies) int64 { return t.Ended.Failed - t.Presumed.Failed }},
	{"cancelled", "cancelled", func(t store.Tallies) int64 { return t.Ended.Cancelled - t.Presumed.Cancelled }},
	{"timeout", "timed out", func(t store.Tallies) int64 { return t.Ended.Timeout - t.Presumed.Timeout }},
	{"presumed", "presumed by a sweep", func(t store.Tallies) int64 {
		return t.Presumed.Completed + t.Presumed.Failed + t.Presumed.Cancelled + t.Presumed.Timeout
	}},
}

// drawDays draws the days that end with the one that is under way.
func drawDays(days []store.Day, from time.Time) *dayChart {
	var by [shownDays]store.Tallies
	var sum store.Tallies
	most := int64(0)
	for _, d := range days {
		i := int(d.At.Sub(from) / (24 * time.Hour))
		if i < 0 || i >= shownDays {
			continue
		}
		by[i], sum = by[i].Add(d.Tallies), sum.Add(d.Tallies)
		most = max(most, total(by[i]))
	}
	c := &dayChart{Most: figure(float64(most))}
	c.Heading = store.Quantity(total(sum), "run has ended", "runs have ended") + fmt.Sprintf(" in %d days", shownDays)
	c.Label = c.Heading
	for _, o := range outcomes {
		n := o.of(sum)
		c.Legend = append(c.Legend, legend{o.class, o.name, figure(float64(n))})
		c.Label += fmt.Sprintf(", %d %s", n, o.name)
	}
	const width = 100.0 / shownDays
	for i, t := range by {
		day := from.AddDate(0, 0, i)
		if day.Weekday() == time.Monday {
			if x := width * (float64(i) + 0.4); x > 3 && x < 97 {
				c.Ticks = append(c.Ticks, tick{percent(x), day.Format("2 Jan")})
			}
		}
		x, wide := percent(width*float64(i)), percent(width*0.8)
		says := fmt.Sprintf("%s: %d", day.Format("Mon 2 Jan"), total(t))
		if total(t) == 0 {
			c.Bars = append(c.Bars, bar{x, wide, pixels(dayHeight - zeroHeight), pixels(zeroHeight), "zero", says})
			continue
		}
		for _, o := range outcomes {
			if n := o.of(t); n > 0 {
				says += fmt.Sprintf(", %d %s", n, o.name)
			}
		}
		y := float64(dayHeight)
		for _, o := range outcomes {
			if n := o.of(t); n > 0 {
				height := float64(dayHeight) * float64(n) / float64(most)
				y -= height
				c.Bars = append(c.Bars, bar{x, wide, pixels(y), pixels(height), o.class, says})
			}
		}
	}
	return c
}

func total(t store.Tallies) int64 {
	return t.Ended.Completed + t.Ended.Failed + t.Ended.Cancelled + t.Ended.Timeout
}

// asked is what of the business was read last.
type asked struct {
	mu      sync.Mutex
	last    *business
	due     time.Time
	reading chan struct{} // closed when the reading that is under way has ended
}

// business returns what was read last, and has it read again where that is old. It waits
// for the first reading alone, and not for long: on a large table it is a scan. It is nil
// where nothing was read yet.
func (c *Console) business() *business {
	last, reading := c.readBusiness()
	if last != nil || reading == nil {
		return last
	}
	soon := time.NewTimer(businessSoon)
	defer soon.Stop()
	select {
	case <-reading:
	case <-soon.C:
	}
	c.asked.mu.Lock()
	defer c.asked.mu.Unlock()
	return c.asked.last
}

// readBusiness begins a reading where it is due.
func (c *Console) readBusiness() (last *business, reading <-chan struct{}) {
	c.asked.mu.Lock()
	defer c.asked.mu.Unlock()
	began, ctx := c.cfg.Now(), c.cfg.Streams.Context()
	if c.cfg.Statistics == nil || c.asked.reading != nil || began.Before(c.asked.due) || ctx.Err() != nil {
		return c.asked.last, c.asked.reading
	}
	done := make(chan struct{})
	c.asked.reading = done
	go func() {
		defer close(done)
		b := c.askBusiness(ctx, began.UTC())
		c.asked.mu.Lock()
		defer c.asked.mu.Unlock()
		now := c.cfg.Now()
		c.asked.last, c.asked.reading = b, nil
		c.asked.due = now.Add(max(businessFor, askShare*now.Sub(began)))
	}()
	return c.asked.last, done
}

// askBusiness reads all of it.
func (c *Console) askBusiness(ctx context.Context, now time.Time) *business {
	b := &business{}
	bounded := func(ask func(ctx context.Context) error) {
		ctx, cancel := context.WithTimeout(ctx, businessWithin)
		defer cancel()
		b.Late = ask(ctx) != nil || b.Late
	}
	from := now.Truncate(24*time.Hour).AddDate(0, 0, 1-shownDays)
	bounded(func(ctx context.Context) error {
		days, err := c.cfg.Statistics.Days(ctx, from, from.AddDate(0, 0, shownDays))
		if err == nil {
			b.Days = drawDays(days, from)
		}
		return err
	})
	bounded(func(ctx context.Context) (err error) {
		b.Users, err = c.cfg.Statistics.Greatest(ctx, store.TopUsers, topRows)
		return err
	})
	bounded(func(ctx context.Context) (err error) {
		b.Workflows, err = c.cfg.Statistics.Greatest(ctx, store.TopWorkflows, topRows)
		return err
	})
	bounded(func(ctx context.Context) (err error) {
		b.Near, err = c.cfg.Reader.NearLimits(ctx, store.Instant(now), topRows)
		return err
	})
	return b
}

// businessRead is closed when none is being read.
func (c *Console) businessRead() <-chan struct{} {
	c.asked.mu.Lock()
	defer c.asked.mu.Unlock()
	if c.asked.reading != nil {
		return c.asked.reading
	}
	return closed()
}
