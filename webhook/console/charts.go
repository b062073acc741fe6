package console

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/live"
)

const (
	// sampleEvery is the time between two samples, and samples the number that are
	// kept: those of an hour.
	sampleEvery = 10 * time.Second
	samples     = 360
	// bars is the number of bars of a chart: one a minute.
	bars = 60
)

// sample holds the totals of a moment. All but ledger only grow.
type sample struct {
	at time.Time
	webhook.Totals
	ledger, drifting float64
}

// past is the samples of the last hour. It costs 30 KB, whatever happens.
type past struct {
	mu   sync.Mutex
	kept []sample // in order
}

func (p *past) add(s sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = append(p.kept, s)
	if len(p.kept) > samples {
		p.kept = append(p.kept[:0], p.kept[len(p.kept)-samples:]...)
	}
}

// sample reads the totals as they are now.
func (c *Console) sample() sample {
	s := sample{at: c.cfg.Now(), Totals: c.cfg.Totals(), drifting: float64(c.swept().Drifting)}
	if h, err := c.cfg.Health(); err == nil { // a chart with a gap is better than none
		s.ledger = float64(h.Ledger)
	}
	return s
}

// Watch samples the totals for the charts until the context ends.
func (c *Console) Watch(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		c.past.add(c.sample())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// chart shows one figure over the last hour.
type chart struct {
	Name string
	Now  string
	Most string
	Unit string
	Bars []bar
}

// bar is one minute, in the units of the chart: 4 wide, 40 high.
type bar struct{ X, Y, Height float64 }

// Label says the chart in words.
func (c chart) Label() string {
	return fmt.Sprintf("%s in the last hour: now %s%s, at most %s%s in a minute", c.Name, c.Now, c.Unit, c.Most, c.Unit)
}

// charts draws the last hour.
func (p *past) charts(now time.Time) []chart {
	p.mu.Lock()
	kept := append([]sample(nil), p.kept...)
	p.mu.Unlock()
	rate := func(value func(sample) float64) func(a, b sample) float64 {
		return func(a, b sample) float64 { return max(0, value(b)-value(a)) / b.at.Sub(a.at).Seconds() }
	}
	per := " a second"
	return []chart{
		draw("Deliveries", per, kept, now, rate(func(s sample) float64 { return s.Deliveries })),
		draw("Refused", per, kept, now, rate(func(s sample) float64 { return s.Refused })),
		draw("Duplicates", per, kept, now, rate(func(s sample) float64 { return s.Unchanged })),
		draw("Out of order", per, kept, now, rate(func(s sample) float64 { return s.OutOfOrder })),
		draw("Lag", " s", kept, now, func(a, b sample) float64 {
			if b.LagCount <= a.LagCount {
				return 0
			}
			return (b.LagSeconds - a.LagSeconds) / (b.LagCount - a.LagCount)
		}),
		draw("Ledger rows", "", kept, now, func(_, b sample) float64 { return b.ledger }),
		draw("Drift found", "", kept, now, func(a, b sample) float64 { return max(0, b.drifting-a.drifting) }),
	}
}

// draw returns the chart of a value that is computed for each minute from the
// samples at its two ends.
func draw(name, unit string, kept []sample, now time.Time, value func(a, b sample) float64) chart {
	var minutes [bars]float64
	end := now.Truncate(time.Minute).Add(time.Minute)
	for i := range minutes {
		from := end.Add(time.Duration(i-bars) * time.Minute)
		var first, last *sample
		for j := range kept {
			if at := kept[j].at; at.Before(from) {
				first = &kept[j]
			} else if at.Before(from.Add(time.Minute)) {
				if first == nil {
					first = &kept[j]
				}
				last = &kept[j]
			}
		}
		if first != nil && last != nil && last.at.After(first.at) {
			minutes[i] = value(*first, *last)
		}
	}
	most := 0.0
	for _, v := range minutes {
		most = max(most, v)
	}
	c := chart{Name: name, Unit: unit, Now: figure(minutes[bars-1]), Most: figure(most)}
	for i, v := range minutes {
		if v > 0 {
			height := max(1, 40*v/most)
			c.Bars = append(c.Bars, bar{float64(4 * i), 40 - math.Round(10*height)/10, math.Round(10*height) / 10})
		}
	}
	return c
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
	}
	return fmt.Sprintf("%.0f", v)
}

// numbersEvery is the time between two updates of the numbers on an open page.
const numbersEvery = 2 * time.Second

// events answers GET /console/events: with ?key=USER/KIND/REF that count
// whenever it changes, else the numbers of the overview.
func (c *Console) events(f *fiber.Ctx, who session) error {
	var topics []live.Topic
	if text := f.Query("key"); text != "" {
		key, err := parseKeyPath(text)
		if err != nil {
			return err
		}
		topics = append(topics, live.CountOf(key))
	}
	return c.cfg.Streams.Serve(f, store.ID{}, topics, func(out *live.Writer, sub *live.Subscription) {
		c.push(out, sub, len(topics) == 0, who.Expires)
	})
}

// push writes events until the reader is gone, the session has ended, or the server
// shuts down.
func (c *Console) push(out *live.Writer, sub *live.Subscription, numbers bool, expires time.Time) {
	out.Text("retry: 2000\n\n")
	tick := time.NewTicker(numbersEvery)
	defer tick.Stop()
	for out.Err() == nil && (expires.IsZero() || c.cfg.Now().Before(expires)) {
		select {
		case <-sub.Changed():
			for _, state := range sub.Take() {
				out.Event("message", answer.Encode(map[string]any{"count": state.Count.Count}))
			}
		case <-tick.C:
			if numbers {
				out.Event("message", answer.Encode(c.numbers()))
			} else {
				out.Text(": still here\n\n")
			}
		case <-out.Displaced():
			return
		case <-out.Closed():
			return
		}
		out.Flush()
	}
}

// numbers are those of the overview, by the names that its elements have.
func (c *Console) numbers() map[string]any {
	n := map[string]any{"streams": c.cfg.Streams.Open()}
	if h, err := c.cfg.Health(); err == nil {
		n["active"], n["ledger"], n["letters"] = h.Active, h.Ledger, h.DeadLetters
		n["nokey"], n["unknown"], n["toosoon"] = h.NoKey, h.UnknownStatus, h.EndedTooSoon
	}
	for _, chart := range c.past.charts(c.cfg.Now()) {
		n["chart "+chart.Name] = chart.Now + chart.Unit
	}
	return n
}
