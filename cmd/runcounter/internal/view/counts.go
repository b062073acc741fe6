package view

import (
	"cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// Counts lists the counts of a user, and which runs the policy counts.
func Counts(counts []store.Count, policy store.Policy) string {
	if len(counts) == 0 {
		return "No run of this user has ended yet, as far as this database has heard.\n"
	}
	rows := [][]string{{"KIND", "ID", "COUNT", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "LAST RUN"}}
	for _, c := range counts {
		rows = append(rows, append(countCells(c), api.Instant(c.LastRunAt).String()))
	}
	var p page
	p.table(rows)
	p.print("\nThe count follows the policy %q: %s.\n", policy, countsWhich(policy))
	return p.String()
}

// Count prints the count of a scope in a window, whose parts are those of its key.
func Count(c store.Count, in store.Window, policy store.Policy) string {
	if _, one := c.Key.Scope().Key(); one && in == store.AllTime {
		return Counts([]store.Count{c}, policy)
	}
	var p page
	p.table([][]string{
		{"KIND", "ID", "COUNT", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PRESUMED"},
		append(countCells(c), decimal(c.Tallies.Presumed.Total())),
	})
	if in != store.AllTime {
		from, to := "at any time", ""
		if !in.From.IsZero() {
			from = "at " + api.Instant(in.From).String() + " or later"
		}
		if !in.To.IsZero() {
			to = " and before " + api.Instant(in.To).String()
		}
		p.print("\nOf the runs that ended %s%s.", from, to)
	}
	p.print("\nThe count follows the policy %q: %s.\n", policy, countsWhich(policy))
	return p.String()
}

// countCells are the kind, the id and the numbers of a count.
func countCells(c store.Count) []string {
	t := c.Tallies.Ended
	return []string{
		cmp.Or(string(c.Key.Kind), "any"), cell(c.Key.Ref), decimal(c.Count),
		decimal(t.Completed), decimal(t.Failed), decimal(t.Cancelled), decimal(t.Timeout),
	}
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
