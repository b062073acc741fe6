package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

type repairJSON struct {
	ID          store.ID     `json:"run_id"`
	Was         store.Status `json:"was"`
	Becomes     store.Status `json:"becomes"`
	CompletedAt api.Instant  `json:"completed_at"`
	Reason      store.Reason `json:"reason"`
}

type refusedJSON struct {
	ID      store.ID     `json:"run_id"`
	User    store.ID     `json:"user_id"`
	Was     store.Status `json:"was"`
	Refused string       `json:"reason"`
}

type sweepJSON struct {
	DryRun   bool         `json:"dry_run"`
	Full     bool         `json:"full"`
	Repaired int          `json:"repaired"`
	Repairs  []repairJSON `json:"repairs"`
	// Unwritable rows stay as they are, since the database refuses the repair.
	Unwritable int           `json:"unwritable"`
	Refused    []refusedJSON `json:"refused"`
	Folded     int           `json:"folded"`
	Audited    int           `json:"audited"`
	Drifting   int           `json:"drifting"`
	Corrected  int           `json:"corrected"`
	Drifts     []driftJSON   `json:"drifts"`
	Totals     []driftJSON   `json:"totals"`   // of workflows, that were not the sum of their users' counts
	Webhooks   *callsJSON    `json:"webhooks"` // null where it could not be read
	// Partitions came or went, and changed the counts of so many keys that stay as they are.
	NewPartitions  []string `json:"new_partitions"`
	GonePartitions []string `json:"gone_partitions"`
	Withheld       int      `json:"withheld"`
}

// callsJSON is what became of the webhooks of a while.
type callsJSON struct {
	Minutes    int                  `json:"minutes"` // of the while
	Calls      map[store.Fate]int64 `json:"calls"`
	Queued     int64                `json:"queued"`
	Oldest     float64              `json:"oldest_waiting_seconds"`
	Worker     *bool                `json:"worker_up"` // null where it can't be seen
	Failed     int64                `json:"failed_statements"`
	Complaints []complaintJSON      `json:"complaints"`
}

type complaintJSON struct {
	Kind    string `json:"kind"`
	Finding string `json:"finding"`
	Example string `json:"example"`
	Fix     string `json:"fix"`
}

func callsJSONOf(d store.Deliveries) *callsJSON {
	if !d.Watched {
		return nil
	}
	j := callsJSON{
		Minutes: int(d.Window.Minutes()), Calls: map[store.Fate]int64{}, Queued: d.Queued, Oldest: d.Oldest.Seconds(), Failed: d.Failed, Complaints: []complaintJSON{},
	}
	for _, fate := range store.Fates {
		j.Calls[fate] = d.Calls[fate]
	}
	if d.Worker != store.WorkerUnseen {
		up := d.Worker == store.WorkerUp
		j.Worker = &up
	}
	for _, c := range d.Complaints() {
		j.Complaints = append(j.Complaints, complaintJSON{c.Kind, c.What, c.Why, c.Fix})
	}
	return &j
}

func sweepJSONOf(r store.SweepReport) sweepJSON {
	j := sweepJSON{
		DryRun: r.DryRun, Full: r.Full, Repaired: r.Repairs(), Repairs: []repairJSON{},
		Unwritable: r.Unwritable, Refused: []refusedJSON{},
		Folded: r.Folded, Audited: r.Audited, Drifting: r.Drifting, Corrected: r.Corrected, Drifts: driftsJSON(r.Drifts), Totals: driftsJSON(r.Totals),
		Webhooks:      callsJSONOf(r.Webhooks),
		NewPartitions: namesJSON(r.Partitions.New), GonePartitions: namesJSON(r.Partitions.Gone), Withheld: r.Withheld.Keys,
	}
	for _, one := range r.Repaired {
		j.Repairs = append(j.Repairs, repairJSON{one.Before.ID, one.Before.Status, one.After.Status, api.Instant(one.After.CompletedAt), one.Reason})
	}
	for _, one := range r.Refused {
		j.Refused = append(j.Refused, refusedJSON{one.Before.ID, one.Before.User, one.Before.Status, one.Refused})
	}
	return j
}

// namesJSON makes none an empty array.
func namesJSON(names []string) []string { return append([]string{}, names...) }

// reasons are the words for a person.
var reasons = map[store.Reason]string{
	store.NoTime:      "it had ended without a completed_at",
	store.Overwritten: "it had ended and was overwritten",
	store.GaveWay:     "the guard could not keep its outcome",
	store.WouldKeep:   "the guard only reports, or it would have kept its outcome",
	store.Stuck:       "silent for longer than its limit",
	store.OutcomeLost: "its outcome was overwritten, and a webhook still had it",
}

func printSweep(out io.Writer, r store.SweepReport) error {
	var b strings.Builder
	if len(r.Repaired) > 0 {
		rows := [][]string{{"RUN", "WAS", "BECOMES", "COMPLETED AT", "WHY"}}
		for _, one := range r.Repaired {
			rows = append(rows, []string{
				one.Before.ID.String(), string(one.Before.Status), string(one.After.Status),
				api.Instant(one.After.CompletedAt).String(), reasons[one.Reason],
			})
		}
		if err := printTable(&b, rows); err != nil {
			return err
		}
		if more := r.Repairs() - len(r.Repaired); more > 0 {
			fmt.Fprintf(&b, "... and %d more\n", more)
		}
		b.WriteString("\n")
	}
	if err := printRefused(&b, r); err != nil {
		return err
	}
	if r.Drifting+len(r.Totals) > 0 {
		if err := printTable(&b, driftTable(append(slices.Clip(r.Drifts), r.Totals...))); err != nil {
			return err
		}
		b.WriteString("\n")
	}
	repaired, keys := store.Quantity(int64(r.Repairs()), "run", "runs"), store.Quantity(int64(r.Audited), "key", "keys")
	switch {
	case r.DryRun:
		fmt.Fprintf(&b, "A sweep would repair %s. Of %s audited, %d drift. Nothing was written.\n", repaired, keys, r.Drifting)
	default:
		fmt.Fprintf(&b, "Repaired %s, folded %s, audited %s: %d drifted, %d corrected.\n",
			repaired, store.Quantity(int64(r.Folded), "ledger row", "ledger rows"), keys, r.Drifting, r.Corrected)
		b.WriteString(callsText(r.Webhooks))
	}
	if n := len(r.Totals); n > 0 {
		fmt.Fprintf(&b, "%s of all users together.\n", store.Quantity(int64(n), "count was wrong", "counts were wrong"))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// printRefused lists the rows that stay stuck, with what the database said.
func printRefused(b *strings.Builder, r store.SweepReport) error {
	if r.Unwritable == 0 {
		return nil
	}
	rows := [][]string{{"RUN", "USER", "STAYS", "SINCE THE DATABASE REFUSES IT"}}
	for _, one := range r.Refused {
		rows = append(rows, []string{one.Before.ID.String(), one.Before.User.String(), string(one.Before.Status), one.Refused})
	}
	if err := printTable(b, rows); err != nil {
		return err
	}
	if more := r.Unwritable - len(r.Refused); more > 0 {
		fmt.Fprintf(b, "... and %d more\n", more)
	}
	b.WriteString("\n")
	return nil
}

// callsText says what became of webhooks, and what is wrong with them.
func callsText(d store.Deliveries) string {
	if !d.Watched {
		return ""
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
	var b strings.Builder
	fmt.Fprintf(&b, "Calls of webhooks within %d minutes: %s.\n", int(d.Window.Minutes()), strings.Join(fates, ", "))
	for _, c := range d.Complaints() {
		what := c.What
		if c.Why != "" {
			what += ": " + c.Why
		}
		fmt.Fprintf(&b, "WARNING  %s\n         fix: %s\n", what, c.Fix)
	}
	return b.String()
}
