package webhook

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// sampleEvery is how often the metrics are looked at for the pictures, and
	// samples how many looks are kept: those of an hour.
	sampleEvery = 10 * time.Second
	samples     = 360
	// bars is how many a picture has: one a minute.
	bars = 60
)

// sample is what the metrics said at a moment. All but the last two only grow.
type sample struct {
	at                             time.Time
	deliveries, refused, unchanged float64
	disordered, lagSum, lagCount   float64
	ledger, drifting               float64
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

// sampleOf reads the metrics.
func sampleOf(g prometheus.Gatherer, at time.Time) sample {
	s := sample{at: at}
	families, err := g.Gather()
	if err != nil {
		return s // a picture with a gap is better than none
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			switch family.GetName() {
			case "runcounter_deliveries_total":
				s.deliveries += m.GetCounter().GetValue()
				if labelOf(m) != "applied" {
					s.refused += m.GetCounter().GetValue()
				}
			case "runcounter_changes_total":
				if labelOf(m) == "unchanged" {
					s.unchanged += m.GetCounter().GetValue()
				}
			case "runcounter_changes_out_of_order_total":
				s.disordered += m.GetCounter().GetValue()
			case "runcounter_delivery_lag_seconds":
				s.lagSum += m.GetHistogram().GetSampleSum()
				s.lagCount += float64(m.GetHistogram().GetSampleCount())
			case "runcounter_database_rows":
				if labelOf(m) == "ledger_rows" {
					s.ledger = m.GetGauge().GetValue()
				}
			case "runcounter_drifting_keys_total":
				s.drifting = m.GetCounter().GetValue()
			}
		}
	}
	return s
}

func labelOf(m *dto.Metric) string {
	if len(m.GetLabel()) != 1 {
		return ""
	}
	return m.GetLabel()[0].GetValue()
}

// watchPast looks at the metrics until the server is closed.
func (c *console) watchPast(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		c.past.add(sampleOf(c.metrics.registry, c.Server.cfg.Now()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// chart is one picture.
type chart struct {
	Name string
	Now  string
	Most string
	Unit string
	Bars []bar
}

// bar is one minute, in the units of the picture: 4 wide, 40 high.
type bar struct{ X, Y, Height float64 }

// Label says the picture in words.
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
		draw("Deliveries", per, kept, now, rate(func(s sample) float64 { return s.deliveries })),
		draw("Refused", per, kept, now, rate(func(s sample) float64 { return s.refused })),
		draw("Duplicates", per, kept, now, rate(func(s sample) float64 { return s.unchanged })),
		draw("Out of order", per, kept, now, rate(func(s sample) float64 { return s.disordered })),
		draw("Lag", " s", kept, now, func(a, b sample) float64 {
			if b.lagCount <= a.lagCount {
				return 0
			}
			return (b.lagSum - a.lagSum) / (b.lagCount - a.lagCount)
		}),
		draw("Ledger rows", "", kept, now, func(_, b sample) float64 { return b.ledger }),
		draw("Drift found", "", kept, now, func(a, b sample) float64 { return max(0, b.drifting-a.drifting) }),
	}
}

// draw makes a picture of what value says of each minute, by the samples at
// its two ends.
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

// numbersEvery is how often a page that is open is told the numbers anew.
const numbersEvery = 2 * time.Second

// events answers GET /console/events: with ?key=USER/KIND/REF that count
// whenever it changes, else the numbers of the overview.
func (c *console) events(f *fiber.Ctx, who session) error {
	var keys []store.Key
	if text := f.Query("key"); text != "" {
		key, err := keyNamed(text)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	return c.openStream(f, store.ID{}, keys, func(out *eventWriter, sub *subscription) {
		c.tell(out, sub, len(keys) == 0, who.Expires)
	})
}

func (c *console) tell(out *eventWriter, sub *subscription, numbers bool, expires time.Time) {
	out.text("retry: 2000\n\n")
	tick := time.NewTicker(numbersEvery)
	defer tick.Stop()
	for out.err == nil && (expires.IsZero() || c.Server.cfg.Now().Before(expires)) {
		select {
		case <-sub.changed:
			for _, count := range sub.take() {
				out.event("message", encode(map[string]any{"count": count.Count}))
			}
		case <-tick.C:
			if numbers {
				out.event("message", encode(c.numbers()))
			} else {
				out.text(": still here\n\n")
			}
		case <-out.at.over:
			return
		case <-c.hub.ctx.Done():
			return
		}
		out.flush()
	}
}

// numbers are those of the overview, by the names that its elements have.
func (c *console) numbers() map[string]any {
	n := map[string]any{"streams": c.streams.open()}
	if h, err := c.Health(); err == nil {
		n["active"], n["ledger"], n["letters"] = h.Active, h.Ledger, h.DeadLetters
		n["nokey"], n["unknown"], n["toosoon"] = h.NoKey, h.UnknownStatus, h.EndedTooSoon
	}
	for _, chart := range c.past.charts(c.Server.cfg.Now()) {
		n["chart "+chart.Name] = chart.Now + chart.Unit
	}
	return n
}
