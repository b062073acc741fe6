package view

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// reasons are the reasons for repairs in words.
var reasons = map[store.Reason]string{
	store.NoTime:      "it had ended without a completed_at",
	store.Overwritten: "it had ended and was overwritten",
	store.GaveWay:     "the guard could not keep its outcome",
	store.WouldKeep:   "the guard only reports, or it would have kept its outcome",
	store.Stuck:       "silent for longer than its limit",
	store.OutcomeLost: "its outcome was overwritten, and a webhook still had it",
}

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

// History explains a run.
func History(id store.ID, h store.History) string {
	var p page
	switch {
	case h.Found:
		p.print("Run %s of %s\n%s\n\n", id.Shown(), h.Run.Key(), h.Run.Verdict(h.Policy))
	case !h.DeletedAt.IsZero():
		p.print("Run %s was deleted, which was heard of at %s.\nNot counted: nothing brings a deleted run back.\n\n", id.Shown(), api.Instant(h.DeletedAt))
	default:
		p.print("Run %s is not there any more: it was deleted.\nNot counted.\n\n", id.Shown())
	}
	r, took := h.Run, ""
	if r.DurationMS.Valid {
		took = fmt.Sprintf(", after %d ms", r.DurationMS.MS)
	}
	for _, e := range []struct {
		at   api.Instant
		what string
	}{
		{api.Instant(r.CreatedAt), "created"},
		{api.Instant(r.StartedAt), "started"},
		{api.Instant(r.UpdatedAt), "last written, as updated_at says"},
		{api.Instant(r.LeaseAt), "last sign of life in the lease column"},
		{api.Instant(r.CompletedAt), "ended " + string(r.Status) + took},
	} {
		if e.at != (api.Instant{}) {
			p.print("%s  %s\n", e.at, e.what)
		}
	}
	for _, l := range h.Repairs {
		verb := "repaired"
		if l.Reason == store.GaveWay || l.Reason == store.WouldKeep {
			verb = "overwritten"
		}
		p.print("%s  %s: %s; it was %s and became %s as of %s", api.Instant(l.Last), verb, cmp.Or(reasons[l.Reason], string(l.Reason)), orNull(l.Was), l.Status, api.Instant(l.CompletedAt))
		if l.Times > 1 {
			p.print(" (%d times since %s)", l.Times, api.Instant(l.First))
		}
		p.print("\n")
	}
	for _, l := range h.Amendments {
		p.print("%s  amended by %s: %s; it was %s and became %s\n", api.Instant(l.At), l.Who, l.Why, orNull(l.Was), l.Status)
	}
	if key := h.Count.Key; !key.IsZero() {
		p.print("\nThe count that it belongs to is %d. How that comes about:\n  %s\n", h.Count.Count, explainLine(key))
	}
	return p.String()
}
