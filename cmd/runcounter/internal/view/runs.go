package view

import (
	"cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// since says by which time the runs in a state are ordered.
var since = map[store.RunState]string{
	store.ActiveRuns: "CREATED", store.OddRuns: "CREATED", store.EndedRuns: "ENDED", store.PresumedRuns: "ENDED", store.SupersededRuns: "REPAIRED",
}

// Runs lists a page of the runs in a state, and says how to ask for the next. Below odd
// runs stands what each needs.
func Runs(state store.RunState, runs []store.ListedRun, next *string, source bool) string {
	if len(runs) == 0 {
		return "There are no such runs.\n"
	}
	rows := [][]string{{"RUN", "STATUS", "USER", "KIND", "ID", since[state], "COUNTED"}}
	for _, r := range runs {
		counted := "no"
		if r.Counted {
			counted = "yes"
		}
		key := r.Key()
		at := "-"
		if !r.Since().IsZero() {
			at = api.Instant(r.At).String()
		}
		rows = append(rows, []string{cell(r.ID), cmp.Or(string(r.Status), "-"), cell(r.User), cmp.Or(string(key.Kind), "-"), cell(key.Ref), at, counted})
	}
	var p page
	p.table(rows)
	if state == store.OddRuns {
		p.print("\nWhat each needs:\n")
		for _, r := range runs {
			p.needs(r, source)
		}
	}
	if next != nil {
		p.print("\nThere are more: --after %s goes on.\n", shellWord(*next))
	}
	return p.String()
}

// Stuck lists what a sweep would do now.
func Stuck(stuck []store.Repaired, more bool) string {
	if len(stuck) == 0 {
		return "No run is stuck.\n"
	}
	var p page
	p.table(repairTable(stuck))
	if more {
		p.print("\nThere are more: --max lists as many as it says.\n")
	}
	return p.String()
}
