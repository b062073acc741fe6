package view

import (
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// Audit lists the counts that are wrong with the runs behind them, and what is not
// counted.
func Audit(a store.FullAudit, moved store.Partitions, source bool) string {
	repair := "Correct them with: runcounter recount --all-drifting"
	if moved.Moved() {
		repair = moved.Sentence()
	}
	var p page
	audited := store.Quantity(int64(a.Keys), "key", "keys") + " audited"
	if len(a.Drifts) == 0 {
		p.print("%s: every count equals the runs behind it.\n", audited)
	} else {
		p.table(driftTable(a.Drifts))
		for _, cause := range a.Causes {
			p.print("\n%s: %s\n", cause.Drift.Key, cause.Cause)
			for _, r := range cause.Runs {
				if r.Ended() {
					p.print("  run %s  %s  %s\n", r.ID.Shown(), orNull(r.Status), api.Instant(r.CompletedAt))
				}
			}
			p.print("  all of it: %s\n", explainLine(cause.Drift.Key))
		}
		p.print("\n%s, %d of them wrong. %s\n", audited, len(a.Drifts), repair)
	}
	if len(a.Totals) > 0 {
		p.table(driftTable(a.Totals))
		p.print("\n%s of all users together, as run_counter.totals has them. %s\n", store.Quantity(int64(len(a.Totals)), "count is wrong", "counts are wrong"), repair)
	}
	for _, odd := range []struct {
		n    int64
		what string
	}{
		{a.Health.NoKey, "with neither a workflow nor a draft, or without a user: not counted"},
		{a.Health.UnknownStatus, "with an unknown status: not counted"},
		{a.Health.EndedTooSoon, "that ended before they started: counted, but their times are wrong"},
	} {
		if odd.n > 0 {
			p.print("%s %s.\n", store.Quantity(odd.n, "run", "runs"), odd.what)
		}
	}
	p.odd(a, source)
	if n := a.Health.DeadLetters; n > 0 {
		p.print("%s could not be read: see runcounter dead-letters list.\n", store.Quantity(n, "change or delivery", "changes or deliveries"))
	}
	return p.String()
}

// odd names the first odd runs, with what each needs.
func (p *page) odd(a store.FullAudit, source bool) {
	for _, r := range a.Odd {
		p.needs(r, source)
	}
	if len(a.Odd) > 0 {
		p.print("runcounter runs --odd lists them all.\n")
	}
}

// needs names an odd run, with what is odd about it and what to do.
func (p *page) needs(r store.ListedRun, source bool) {
	for _, need := range r.Needs(source) {
		p.print("  run %s  %s\n", r.ID.Shown(), need)
	}
}

// Recounted lists the counts that were wrong.
func Recounted(done []store.RecountResult) string {
	var changed []store.Drift
	for _, r := range done {
		if r.Changed() {
			changed = append(changed, store.Drift{Key: r.Key, Stored: r.Before, Actual: r.After})
		}
	}
	if len(done) == 1 && done[0].Before == (store.Tallies{}) && done[0].After == (store.Tallies{}) {
		return "No run of " + done[0].Key.String() + " has ended, and no count is kept of it: check the ids.\n"
	}
	if len(changed) == 0 {
		return "Every count was right; nothing was changed.\n"
	}
	var p page
	p.table(driftTable(changed))
	p.print("\nRecounted %s.\n", store.Quantity(int64(len(changed)), "key", "keys"))
	return p.String()
}
