package console

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/webhook/internal/cached"
)

const (
	// verdictFor is the time for which a verdict is used, and askFor that of what is
	// asked of the database for it: with beatEvery an open page shows a cause within 5 s.
	verdictFor = time.Second
	askFor     = 2 * time.Second
	// askWithin bounds one question.
	askWithin = 2 * time.Second
	// askShare is the part of the time that may be spent on one: where it is slow, its
	// answer is good for longer.
	askShare = 10
	// doctorFor is the time for which what doctor has found is used, and mendedFor
	// that where something failed, which an operator may be mending.
	doctorFor    = 5 * time.Minute
	mendedFor    = 30 * time.Second
	doctorWithin = 2 * time.Minute
	// stuckGrace is the time that sweeps have to end a run that is silent for longer
	// than its limit; stuckFor is how far back their growth is looked at.
	stuckGrace = 2 * time.Minute
	stuckFor   = 10 * time.Minute
	maxStuck   = 1000
	// policyFor is the time for which the policy is used that the overview names.
	policyFor = 5 * time.Second
)

// look is what the verdict is made from, as it was asked for last.
type look struct {
	verdict  cached.Answer[verdict]
	webhooks cached.Answer[store.Deliveries]
	stuck    cached.Answer[int]

	mu        sync.Mutex
	counts    []stuckAt // of the last stuckFor
	doctor    []report.Finding
	due       time.Time // when doctor is due
	examining chan struct{}
}

// verdict says what is wrong now. It asks the database for little, and seldom, whoever
// looks.
func (c *Console) verdict() verdict {
	v, _ := c.look.verdict.Get(c.cfg.Now, verdictFor, 0, func() (verdict, error) { return judge(c.sight()), nil })
	return v
}

// sight gathers what the verdict is made from. Where the database is away, it is asked
// nothing more.
func (c *Console) sight() sight {
	c.observe()
	now := c.cfg.Now()
	_, _, streak := c.arrivals.waiting(store.ActivityStep)
	s := sight{
		now: now, started: c.started, away: c.cfg.Away(), degraded: c.cfg.Degraded(), streak: streak,
		sweeps: c.cfg.Swept != nil && c.cfg.Sweeps, swept: c.swept(), presumes: c.presumes(), doctor: c.examine(now),
	}
	if s.away != "" {
		s.webhooks = s.swept.Report.Webhooks
		return s
	}
	s.webhooks = c.webhooks()
	s.stuck = c.unended(now)
	s.health, _ = c.cfg.Health() // without it nothing is said of what it counts
	hour, _ := c.activity(spans[0])
	for _, a := range hour {
		s.hour = s.hour.Plus(a)
	}
	return s
}

// webhooks are the calls of the watched table's webhooks; those of a mirror are not
// Watched.
func (c *Console) webhooks() store.Deliveries {
	if c.cfg.Webhooks == nil {
		return c.swept().Report.Webhooks
	}
	d, err := c.look.webhooks.Get(c.cfg.Now, askFor, askShare, func() (store.Deliveries, error) {
		ctx, cancel := context.WithTimeout(context.Background(), askWithin)
		defer cancel()
		return c.cfg.Webhooks(ctx)
	})
	if err != nil {
		return c.swept().Report.Webhooks
	}
	return d
}

// presumes reports whether sweeps end silent runs.
func (c *Console) presumes() bool { return len(c.cfg.Limits) > 0 }

// unended counts the runs that sweeps should have ended, and returns how many they were in
// the last minutes.
func (c *Console) unended(now time.Time) []stuckAt {
	limits := c.cfg.Limits
	if !c.presumes() {
		limits = store.DefaultLimits()
	}
	n, err := c.look.stuck.Get(c.cfg.Now, askFor, askShare, func() (int, error) {
		ctx, cancel := context.WithTimeout(context.Background(), askWithin)
		defer cancel()
		found, err := c.cfg.Store.Suspects(ctx, store.FailStuck{Now: store.Instant(now.Add(-stuckGrace)), Limits: limits, Max: maxStuck})
		return len(found), err
	})
	c.look.mu.Lock()
	defer c.look.mu.Unlock()
	c.look.counts = slices.DeleteFunc(c.look.counts, func(one stuckAt) bool { return now.Sub(one.at) > stuckFor || now.Before(one.at) })
	if last := len(c.look.counts) - 1; err == nil && (last < 0 || c.look.counts[last].runs != n) {
		c.look.counts = append(c.look.counts, stuckAt{now, n})
	}
	return slices.Clone(c.look.counts)
}

// examine returns what doctor has found, and has it look again where that is old. It waits
// for nothing: doctor takes its time.
func (c *Console) examine(now time.Time) []report.Finding {
	if c.cfg.Doctor == nil {
		return nil
	}
	c.look.mu.Lock()
	defer c.look.mu.Unlock()
	ctx := c.cfg.Streams.Context()
	if now.Before(c.look.due) || c.look.examining != nil || ctx.Err() != nil {
		return c.look.doctor
	}
	done := make(chan struct{})
	c.look.examining = done
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(ctx, doctorWithin)
		defer cancel()
		c.keep(c.cfg.Doctor(ctx))
		c.look.verdict.Forget() // it waits for those who hold both locks
	}()
	return c.look.doctor
}

// keep keeps what doctor has found.
func (c *Console) keep(found []report.Finding) {
	c.look.mu.Lock()
	defer c.look.mu.Unlock()
	c.look.examining, c.look.doctor = nil, found
	good := doctorFor
	if slices.ContainsFunc(found, func(f report.Finding) bool { return f.Status == report.Failure }) {
		good = mendedFor
	}
	c.look.due = c.cfg.Now().Add(good)
}

// examined is closed when no doctor is at work.
func (c *Console) examined() <-chan struct{} {
	c.look.mu.Lock()
	defer c.look.mu.Unlock()
	if c.look.examining != nil {
		return c.look.examining
	}
	return closed()
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
