package console

import (
	"fmt"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
)

// fault is one thing that is wrong, or needs a look.
type fault struct {
	Bad  bool // runs or counts suffer at this moment
	What string
	Fix  string // a command or what else mends it; may be empty
	Href string // of the page where more is to be seen, or where it is mended
	Page string // its name
}

// verdict is all that is wrong, the worst first.
type verdict struct{ Faults []fault }

// Level is good, warn or bad.
func (v verdict) Level() string {
	switch {
	case len(v.Faults) == 0:
		return "good"
	case v.Faults[0].Bad:
		return "bad"
	}
	return "warn"
}

// Line says it in a line.
func (v verdict) Line() string {
	bad := int64(0)
	for _, f := range v.Faults {
		if f.Bad {
			bad++
		}
	}
	look := int64(len(v.Faults)) - bad
	switch {
	case len(v.Faults) == 0:
		return "All is well."
	case bad == 0:
		return store.Quantity(look, "thing needs a look.", "things need a look.")
	case look == 0:
		return store.Quantity(bad, "thing is wrong.", "things are wrong.")
	}
	return store.Quantity(bad, "thing is wrong", "things are wrong") + ", and " + store.Quantity(look, "needs a look.", "need a look.")
}

// sight is what a verdict is made from.
type sight struct {
	now      time.Time
	started  time.Time // of the server
	away     string    // why the database can't be used, empty where it can
	degraded []string  // of the settings, and of what was sent
	streak   streak
	hour     store.Activity // what arrived in it
	sweeps   bool           // the server has a sweeper
	swept    store.SweepStatus
	webhooks store.Deliveries
	presumes bool // sweeps end silent runs
	stuck    []stuckAt
	health   store.Health
	doctor   []report.Finding
}

// stuckAt is the number of runs that sweeps should have ended by a moment and have not.
type stuckAt struct {
	at   time.Time
	runs int
}

const (
	// manyRefused deliveries in a row, and none that was taken between, are more than a
	// stranger's try.
	manyRefused = 3
	// sweepStalled is the time without a sweep that went well after which nothing ends
	// runs, as the alert RunCounterSweepStalled has it.
	sweepStalled = 10 * time.Minute
	// longLedger is that of the alert RunCounterLedgerLong.
	longLedger = 20_000
	// driftFor is the time for which drift that was corrected is told.
	driftFor = 24 * time.Hour
)

// judge says what is wrong.
func judge(s sight) verdict {
	var all []fault
	if s.away != "" {
		all = append(all, fault{Bad: true, What: "Not ready: " + s.away, Href: "/doctor", Page: "Doctor"})
	}
	all = append(all, s.arriving()...)
	for _, c := range s.webhooks.Complaints() {
		all = append(all, fault{Bad: c.Now, What: c.What + ".", Fix: c.Fix, Href: "#webhook", Page: "The webhook"})
	}
	all = append(all, s.sweeping()...)
	all = append(all, s.stuckRuns()...)
	all = append(all, s.held()...)
	for _, what := range s.degraded {
		all = append(all, fault{What: what})
	}
	all = append(all, s.found()...)
	slices.SortStableFunc(all, func(a, b fault) int {
		switch {
		case a.Bad == b.Bad:
			return 0
		case a.Bad:
			return -1
		}
		return 1
	})
	return verdict{all}
}

// arriving judges what arrives here.
func (s sight) arriving() (all []fault) {
	if n := s.streak.length(); n >= manyRefused && s.now.Sub(s.streak.last) < streakFor {
		f := fault{Bad: true, What: fmt.Sprintf("Each of the last %d deliveries was refused.", n), Fix: store.FateUnreadable.Fix(), Href: "/dead-letters", Page: "Dead letters"}
		switch {
		case s.streak.strangers == n:
			f.What = fmt.Sprintf("Each of the last %d deliveries was refused: none had a secret that fits.", n)
			f.Fix, f.Href, f.Page = store.FateUnauthorised.Fix(), "/doctor", "Doctor"
		case s.streak.failed == n:
			f.What = fmt.Sprintf("Each of the last %d deliveries failed: the database or the program could not take it.", n)
			f.Fix, f.Href, f.Page = "read the log of serve", "/doctor", "Doctor"
		}
		return []fault{f}
	}
	h := s.hour
	if h.Refused*20 >= h.Deliveries && h.Refused > 0 { // 5 %
		all = append(all, fault{
			What: fmt.Sprintf("%d of %s in the last hour were refused.", h.Refused, store.Quantity(h.Deliveries, "delivery", "deliveries")),
			Fix:  "the log of serve says why", Href: "#charts", Page: "When",
		})
	}
	if h.Failed*100 >= h.Deliveries && h.Failed > 0 { // as the alert RunCounterDeliveriesRefused has it
		all = append(all, fault{
			What: fmt.Sprintf("%d of %s in the last hour failed: the database or the program could not take them.", h.Failed, store.Quantity(h.Deliveries, "delivery", "deliveries")),
			Fix:  "the log of serve says why", Href: "#charts", Page: "When",
		})
	}
	return all
}

// sweeping judges the sweeps.
func (s sight) sweeping() (all []fault) {
	st, r := s.swept, s.swept.Report
	add := func(bad bool, what, fix string) {
		all = append(all, fault{Bad: bad, What: what, Fix: fix, Href: "/sweep", Page: "Sweep"})
	}
	last := st.LastSuccess
	if last.IsZero() {
		last = s.started
	}
	switch ago := s.now.Sub(last); {
	case s.sweeps && ago > sweepStalled:
		add(true, fmt.Sprintf("No sweep has gone well for %s: silent runs don't end, and the ledger grows.", roughly(ago)), "the log of serve says why")
	case st.Err != nil:
		add(false, "The last sweep failed. The next one tries again.", "the log of serve says why")
	}
	const fix = "runcounter audit --full shows them and their likely cause"
	switch d := st.LastDrift; {
	case r.Drifting > 0, d.Drifting > d.Corrected && s.now.Sub(d.At) < driftFor:
		add(true, fmt.Sprintf("Drift was found: %s differed from the runs behind them, and %d were corrected.", store.Quantity(int64(d.Drifting), "count", "counts"), d.Corrected), fix)
	case d.Drifting > 0 && s.now.Sub(d.At) < driftFor:
		add(false, fmt.Sprintf("Drift was found and corrected %s ago in %s. It should never happen.", roughly(s.now.Sub(d.At)), store.Quantity(int64(d.Drifting), "count", "counts")), fix)
	}
	if r.Unwritable > 0 {
		add(false, fmt.Sprintf("The database refuses to end %s.", store.Quantity(int64(r.Unwritable), "run that is stuck", "runs that are stuck")), "runcounter sweep names them with the reason")
	}
	if r.Altered != "" {
		add(true, "The watched table was altered: "+r.Altered, "runcounter migrate up")
	}
	if r.Partitions.Moved() {
		add(false, fmt.Sprintf("Partitions came or went, and %d counts differ from the runs that are there.", r.Withheld.Keys), "runcounter sweep says how to correct them")
	}
	if n := len(r.Partitions.Untold); n > 0 {
		add(false, fmt.Sprintf("A TRUNCATE of one of %d partitions alone is not counted until an audit finds it.", n), "runcounter doctor says why")
	}
	return all
}

// stuckRuns judges the runs that are silent for too long.
func (s sight) stuckRuns() []fault {
	if len(s.stuck) == 0 {
		return nil
	}
	now, least := s.stuck[len(s.stuck)-1].runs, s.stuck[0].runs
	for _, one := range s.stuck {
		least = min(least, one.runs)
	}
	if now == 0 {
		return nil
	}
	runs := store.Quantity(int64(now), "run is", "runs are")
	if now == maxStuck {
		runs = fmt.Sprintf("At least %d runs are", now)
	}
	f := fault{Bad: now > least, What: runs + " silent for longer than the limit, and no sweep has ended them.", Fix: "runcounter sweep names those that the database refuses to write", Href: "/runs?state=stuck", Page: "Stuck runs"}
	if f.Bad {
		f.What = fmt.Sprintf("%s silent for longer than the limit, %d more than within the last %s, and no sweep has ended them.", runs, now-least, roughly(stuckFor))
	}
	if !s.presumes {
		// A run may well be silent for as long as this application likes.
		f.Bad, f.What = false, runs+" silent for longer than five minutes, and nothing ends them, since no limit is set."
		f.Fix = "say how long a run may be silent: RUNCOUNTER_STUCK_AFTER=pending=5m,running=30m,cancelling=10m"
	}
	return []fault{f}
}

// held judges what the database holds.
func (s sight) held() (all []fault) {
	h := s.health
	for _, one := range []struct {
		n                     int64
		one, more, href, page string
		fix                   string
	}{
		{h.DeadLetters, "delivery could not be read.", "deliveries could not be read.", "/dead-letters", "Dead letters", "correct the sender, then replay or drop them"},
		{h.UnknownStatus, "run has an unknown status, is not counted, and takes a slot of a limit.", "runs have an unknown status, are not counted, and take slots of limits.", "/runs?state=odd", "Odd runs", "give the status a meaning with --status THEIRS=OURS"},
		{h.NoKey, "run has neither a workflow nor a draft, or no user, and is not counted.", "runs have neither a workflow nor a draft, or no user, and are not counted.", "/runs?state=odd", "Odd runs", ""},
		{h.EndedTooSoon, "run ended before it started.", "runs ended before they started.", "/runs?state=odd", "Odd runs", "check which clock the application writes"},
	} {
		if one.n > 0 {
			all = append(all, fault{What: store.Quantity(one.n, one.one, one.more), Fix: one.fix, Href: one.href, Page: one.page})
		}
	}
	if h.Ledger > longLedger {
		all = append(all, fault{What: fmt.Sprintf("%d ledger rows wait to be folded: counts are exact, and get slower.", h.Ledger), Fix: "an old transaction may hold them back: runcounter doctor", Href: "/sweep", Page: "Sweep"})
	}
	return all
}

// judgedLive are doctor's checks that the verdict itself makes, with what is newer.
var judgedLive = []string{"dead letters", "runs", "stuck runs", "deliveries", "secrets", "listen"}

// found is what doctor complains of.
func (s sight) found() (all []fault) {
	for _, f := range s.doctor {
		if f.Status == report.OK || slices.Contains(judgedLive, f.Check) || f.Check == "limits" && f.Status == report.Warning {
			continue
		}
		all = append(all, fault{Bad: f.Status == report.Failure, What: "Doctor, of the " + f.Check + ": " + f.Text + ".", Fix: f.Fix, Href: "/doctor", Page: "Doctor"})
	}
	return all
}

// roughly prints a length of time by its largest unit.
func roughly(d time.Duration) string {
	switch {
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return "a minute"
}
