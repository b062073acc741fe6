package view

import (
	"cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// Counts lists counts, and which runs the policy counts.
func Counts(counts []store.Count, policy store.Policy) string {
	if len(counts) == 0 {
		return "No run of this user has ended yet, as far as this database has heard.\n"
	}
	rows := [][]string{{"KIND", "ID", "COUNT", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "LAST RUN"}}
	for _, c := range counts {
		t := c.Tallies.Ended
		rows = append(rows, []string{
			string(c.Key.Kind), cell(c.Key.Ref), decimal(c.Count),
			decimal(t.Completed), decimal(t.Failed), decimal(t.Cancelled), decimal(t.Timeout),
			api.Instant(c.LastRunAt).String(),
		})
	}
	if counts[0].Key.User.IsZero() { // of a total it is not known when the last one ended
		for i, row := range rows {
			rows[i] = row[:len(row)-1]
		}
	}
	var p page
	p.table(rows)
	p.print("\nThe count follows the policy %q: %s.\n", policy, countsWhich(policy))
	return p.String()
}

func countsWhich(p store.Policy) string {
	text := "completed and failed runs count"
	if p.Terminal {
		text = "completed, failed, cancelled and timed-out runs count"
	}
	if p.ExceptPresumed {
		text += ", those that a sweep presumed ended don't"
	}
	return text
}

// Completed says whether a call ended its run, and what stands.
func Completed(r store.CompleteResult) string {
	text := "This call ended the run:"
	if !r.Won {
		text = "Lost: the run had ended already, and nothing was changed. It stands as"
	}
	var p page
	p.print("%s %s at %s.\nThe count of %s is %d.\n", text, r.Run.Status, api.Instant(r.Run.CompletedAt), r.Run.Key(), r.Count.Count)
	return p.String()
}

// Answer says what a receiver answered to a delivery.
func Answer(a webhook.Answer) string {
	var p page
	p.print("Received %d, changed %d, ignored %d.\n", a.Received, a.Changed, a.Ignored)
	for _, r := range a.Refused {
		p.print("Change %d was refused: %s\n", r.Change, OneLine(r.Reason))
	}
	if len(a.Counts) == 0 {
		return p.String()
	}
	rows := [][]string{{"USER", "KIND", "ID", "COUNT"}}
	for _, c := range a.Counts {
		if c.Workflow.IsZero() && c.Draft.IsZero() { // null where the table has no column for it
			c.Workflow = store.Absent
		}
		key := store.KeyOf(cmp.Or(c.User, store.Absent), c.Workflow, c.Draft)
		rows = append(rows, []string{cell(key.User), string(key.Kind), cell(key.Ref), decimal(c.Count)})
	}
	p.table(rows)
	return p.String()
}
