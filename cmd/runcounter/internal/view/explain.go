package view

import (
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// KeyHistory explains a count.
func KeyHistory(h store.KeyHistory) string {
	var p page
	p.print("The count of %s is %d, under the policy %s.\n\n", h.Drift.Key, h.Count.Count, h.Policy)
	stored, actual := numbers(h.Drift.Stored), numbers(h.Drift.Actual)
	rows := [][]string{{"STATUS", "STORED", "RUNS", "COUNTED"}}
	for i, name := range tallyNames {
		if stored[i] != 0 || actual[i] != 0 {
			rows = append(rows, []string{name, decimal(stored[i]), decimal(actual[i]), countedText(h.Policy, name)})
		}
	}
	if len(rows) > 1 {
		p.table(rows)
	}
	if h.Drift.Wrong() {
		p.print("\nWRONG: what is stored differs from the runs. %s\nCorrect it with: runcounter recount %s\n", h.Cause, keyFlags(h.Drift.Key))
	} else {
		p.print("What is stored equals the runs behind it.\n")
	}
	p.print("Runs that have not ended, and count when they do: %d. Ledger rows to be folded: %d.\n", h.Active, h.Ledger)
	for _, l := range h.Recounts {
		p.print("%s  recounted: %s\n", api.Instant(l.At), differences(l.Before, l.After))
	}
	if len(h.Runs) == 0 {
		return p.String()
	}
	p.print("\n")
	rows = [][]string{{"RUN", "STATUS", "COMPLETED AT", "COUNTED"}}
	for _, r := range h.Runs {
		counted := "no"
		switch {
		case r.Counted && r.Presumed:
			counted = "yes, presumed"
		case r.Counted:
			counted = "yes"
		}
		rows = append(rows, []string{r.ID.String(), orNull(r.Status), api.Instant(r.CompletedAt).String(), counted})
	}
	p.table(rows)
	return p.String()
}

// countedText says whether the policy counts a line of the table.
func countedText(p store.Policy, name string) string {
	status, presumed := strings.CutPrefix(name, "presumed ")
	switch {
	case presumed && p.ExceptPresumed:
		return "left out"
	case presumed:
		return "among them"
	case p.Counts(store.Status(status), false):
		return "yes"
	}
	return "no"
}

// differences prints what a recount changed: completed 7 instead of 9.
func differences(before, after store.Tallies) string {
	var parts []string
	b, a := numbers(before), numbers(after)
	for i, name := range tallyNames {
		if a[i] != b[i] {
			parts = append(parts, fmt.Sprintf("%s %d instead of %d", name, a[i], b[i]))
		}
	}
	return strings.Join(parts, ", ")
}
