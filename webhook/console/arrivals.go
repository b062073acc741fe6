package console

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
)

const (
	// observeEvery is the time between two looks at the server's totals.
	observeEvery = time.Second
	// asleepFor is the time between two looks after which the process was not watching.
	asleepFor = 30 * time.Second
	// recordWithin bounds the time to record activity.
	recordWithin = 10 * time.Second
	// maxUnsaved bounds the minutes that wait for a database which takes none.
	maxUnsaved = 24 * 60
	// streakFor is the time for which refusals in a row count as going on.
	streakFor = 5 * time.Minute
)

// streak is the deliveries since the last one that was applied.
type streak struct {
	refused, strangers, failed int64 // strangers are among the refused
	last                       time.Time
}

func (s streak) length() int64 { return s.refused + s.failed }

// arrivals turn the totals of a server, which only grow, into minutes.
type arrivals struct {
	mu      sync.Mutex
	totals  webhook.Totals
	lost    int64
	told    bool
	seen    time.Time        // when the totals were looked at last
	since   time.Time        // from when on that was done without a gap
	unsaved []store.Activity // by minute, in order
	streak  streak
}

// observe takes the totals of a moment in.
func (a *arrivals) observe(now time.Time, t webhook.Totals, lag time.Duration, lost int64, told bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() || now.Before(a.seen) || now.Sub(a.seen) > asleepFor {
		a.since = now
	}
	a.seen = now
	grown := func(now, before float64) int64 { return int64(now - before) }
	failed := grown(t.Failed, a.totals.Failed)
	d := store.Activity{
		At: now.Truncate(store.ActivityStep), Since: a.since,
		Deliveries: grown(t.Deliveries, a.totals.Deliveries), Failed: failed, Refused: grown(t.Refused, a.totals.Refused) - failed,
		Changes: grown(t.Changed, a.totals.Changed), Duplicates: grown(t.Unchanged, a.totals.Unchanged), OutOfOrder: grown(t.OutOfOrder, a.totals.OutOfOrder),
		Lag: lag,
	}
	if told { // what was lost before the first word of it is not news
		if a.told {
			d.Lost = max(0, lost-a.lost)
		}
		a.lost, a.told = lost, true
	}
	if d.Deliveries > d.Refused+d.Failed {
		a.streak = streak{}
	} else if d.Deliveries > 0 {
		a.streak.refused += d.Refused
		a.streak.failed += d.Failed
		a.streak.strangers += grown(t.Strangers, a.totals.Strangers)
		a.streak.last = now
	}
	a.totals = t
	if !d.Quiet() {
		a.unsaved = last(merge(a.unsaved, d), maxUnsaved)
	}
}

// merge adds activity to minutes or steps that are in order.
func merge(minutes []store.Activity, more ...store.Activity) []store.Activity {
	for _, d := range more {
		i, found := slices.BinarySearchFunc(minutes, d.At, func(a store.Activity, at time.Time) int { return a.At.Compare(at) })
		if found {
			minutes[i] = minutes[i].Plus(d)
		} else {
			minutes = slices.Insert(minutes, i, d)
		}
	}
	return minutes
}

func last[T any](all []T, most int) []T { return all[max(0, len(all)-most):] }

// record hands the minutes over to a log. Those that it does not take wait for the next
// time.
func (a *arrivals) record(ctx context.Context, log store.ActivityLog) error {
	a.mu.Lock()
	minutes := slices.Clone(a.unsaved)
	a.mu.Unlock()
	if len(minutes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	if err := log.RecordActivity(ctx, minutes...); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	later := a.unsaved
	a.unsaved = nil
	for _, d := range later { // what was observed meanwhile
		if i := slices.IndexFunc(minutes, func(m store.Activity) bool { return m.At.Equal(d.At) }); i >= 0 {
			d = less(d, minutes[i])
		}
		if !d.Quiet() {
			a.unsaved = append(a.unsaved, d)
		}
	}
	return nil
}

// less takes from a minute what was recorded of it.
func less(d, recorded store.Activity) store.Activity {
	d.Deliveries -= recorded.Deliveries
	d.Refused -= recorded.Refused
	d.Failed -= recorded.Failed
	d.Changes -= recorded.Changes
	d.Duplicates -= recorded.Duplicates
	d.OutOfOrder -= recorded.OutOfOrder
	if d.Lost == recorded.Lost {
		d.Lost = 0 // a log keeps the greatest
	}
	if d.Lag == recorded.Lag {
		d.Lag = 0
	}
	return d
}

// waiting returns what is not recorded yet, in steps, from when on this instance has
// watched, and the refusals in a row.
func (a *arrivals) waiting(step time.Duration) (steps []store.Activity, since time.Time, s streak) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.unsaved {
		d.At = d.At.Truncate(step)
		steps = merge(steps, d)
	}
	return steps, a.since, a.streak
}

// memory is an [store.ActivityLog] of one process, for a database that keeps none.
type memory struct {
	mu      sync.Mutex
	minutes []store.Activity
}

// RecordActivity implements [store.ActivityLog].
func (m *memory) RecordActivity(_ context.Context, minutes ...store.Activity) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.minutes = last(merge(m.minutes, minutes...), int(store.KeepActivity/store.ActivityStep))
	return nil
}

// Activity implements [store.ActivityLog].
func (m *memory) Activity(_ context.Context, from, to time.Time, step time.Duration) (steps []store.Activity, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.minutes {
		if !d.At.Before(from) && d.At.Before(to) {
			d.At = d.At.Truncate(step)
			steps = merge(steps, d)
		}
	}
	return steps, nil
}

// observe looks at the server's totals now.
func (c *Console) observe() {
	t := c.cfg.Totals()
	lost, told := t.Lost, t.Told
	if w := c.swept().Report.Webhooks; w.Watched {
		lost, told = w.Unrecovered(), true
	}
	c.arrivals.observe(c.cfg.Now(), t, c.cfg.TakeLag(), lost, told)
}

// record writes what was observed down, and says once when that fails and when it works
// again.
func (c *Console) record(ctx context.Context) {
	err := c.arrivals.record(ctx, c.log)
	for i := range c.past {
		c.past[i].Forget()
	}
	if (err == nil) == (c.unrecorded == nil) {
		return
	}
	if c.unrecorded = err; err != nil {
		c.cfg.Log.Warn("what arrives can't be recorded for the charts; it is kept in memory for a day", "error", err)
	} else {
		c.cfg.Log.Info("what arrives is recorded again")
	}
}

// Watch observes what arrives, and records it each minute, until the context ends.
func (c *Console) Watch(ctx context.Context) {
	defer close(c.watched)
	tick := time.NewTicker(observeEvery)
	defer tick.Stop()
	minute := c.cfg.Now().Truncate(store.ActivityStep)
	for {
		c.observe()
		if now := c.cfg.Now().Truncate(store.ActivityStep); !now.Equal(minute) {
			minute = now
			c.record(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close records what arrived last, after the context of Watch has ended. It waits no longer than
// its own context.
func (c *Console) Close(ctx context.Context) {
	for _, ended := range [...]<-chan struct{}{c.watched, c.examined(), c.businessRead()} {
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
	c.observe()
	c.record(ctx)
}

// activity returns what arrived in a span, in its steps and in order, and from when on this
// instance has watched.
func (c *Console) activity(s span) (steps []store.Activity, since time.Time) {
	now := c.cfg.Now()
	kept, err := c.past[s.index].Get(c.cfg.Now, s.good, askShare, func() ([]store.Activity, error) {
		ctx, cancel := context.WithTimeout(context.Background(), askWithin)
		defer cancel()
		return c.log.Activity(ctx, s.from(now), s.to(now), s.step)
	})
	if err != nil {
		kept = nil // a chart with gaps is better than no page
	}
	steps, since, _ = c.arrivals.waiting(s.step)
	steps = merge(steps, kept...)
	return slices.DeleteFunc(steps, func(a store.Activity) bool { return cmp.Less(a.At.Unix(), s.from(now).Unix()) }), since
}
