package view

import (
	"cmp"
	"fmt"

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
