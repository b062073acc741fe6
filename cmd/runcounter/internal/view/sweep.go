package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// Sweep says what a sweep did, or would.
func Sweep(r store.SweepReport) string {
	var p page
	list := func(rows [][]string, all int) {
		if len(rows) == 1 {
			return
		}
		p.table(rows)
		if more := all - len(rows) + 1; more > 0 {
			p.print("... and %d more\n", more)
		}
		p.print("\n")
	}
	list(repairTable(r.Repaired), r.Repairs())
	rows := [][]string{{"RUN", "USER", "STAYS", "SINCE THE DATABASE REFUSES IT"}}
	for _, one := range r.Refused {
		rows = append(rows, []string{one.Before.ID.String(), one.Before.User.String(), string(one.Before.Status), one.Refused})
	}
	list(rows, r.Unwritable)
	if r.Drifting+len(r.Totals) > 0 {
		p.table(driftTable(append(slices.Clip(r.Drifts), r.Totals...)))
		p.print("\n")
	}
	repaired, keys := store.Quantity(int64(r.Repairs()), "run", "runs"), store.Quantity(int64(r.Audited), "key", "keys")
	if r.DryRun {
		p.print("A sweep would repair %s. Of %s audited, %d drift. Nothing was written.\n", repaired, keys, r.Drifting)
	} else {
		p.print("Repaired %s, folded %s, audited %s: %d drifted, %d corrected.\n",
			repaired, store.Quantity(int64(r.Folded), "ledger row", "ledger rows"), keys, r.Drifting, r.Corrected)
		p.deliveries(r.Webhooks)
	}
	if n := len(r.Totals); n > 0 {
		p.print("%s of all users together.\n", store.Quantity(int64(n), "count was wrong", "counts were wrong"))
	}
	return p.String()
}

// repairTable lists what was done to runs, or would be.
func repairTable(repaired []store.Repaired) [][]string {
	rows := [][]string{{"RUN", "WAS", "BECOMES", "COMPLETED AT", "WHY"}}
	for _, one := range repaired {
		rows = append(rows, []string{
			one.Before.ID.String(), string(one.Before.Status), string(one.After.Status),
			api.Instant(one.After.CompletedAt).String(), reasons[one.Reason],
		})
	}
	return rows
}

// deliveries says what became of webhooks, and what is wrong with them.
func (p *page) deliveries(d store.Deliveries) {
	if !d.Watched {
		return
	}
	var fates []string
	for _, fate := range store.Fates {
		if n := d.Calls[fate]; n > 0 {
			fates = append(fates, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(fate), "_", " ")))
		}
	}
	if len(fates) == 0 {
		fates = []string{"none"}
	}
	p.print("Calls of webhooks within %d minutes: %s.\n", int(d.Window.Minutes()), strings.Join(fates, ", "))
	for _, c := range d.Complaints() {
		what := c.What
		if c.Why != "" {
			what += ": " + c.Why
		}
		p.print("WARNING  %s\n         fix: %s\n", what, c.Fix)
	}
}
