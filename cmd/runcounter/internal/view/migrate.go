package view

import (
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
)

// totalsShown bounds the keys that are listed.
const totalsShown = 20

// Schema says where a database stands, what a migration did, and what a function that it
// replaced had counted.
func Schema(s migrations.Status, notes []string, totals *migrations.Totals) string {
	var p page
	p.print("The schema has version %d of %d: %s.\n", s.Version, s.Latest, s.Verdict())
	for _, note := range notes {
		p.print("It %s.\n", note)
	}
	if totals != nil {
		p.totals(totals)
	}
	return p.String()
}

// totals says what the function counted that was replaced: its users will ask why a
// number has changed.
func (p *page) totals(t *migrations.Totals) {
	p.print("\nAn earlier %s was there, and comes back by migrate down.\n", t.Function)
	keys := store.Quantity(int64(t.Compared), "key", "keys")
	if t.More {
		keys = "the first " + keys
	}
	if t.Failed > 0 || t.Failure != "" {
		p.print("It failed for %s: %s.\n", store.Quantity(int64(t.Failed), "key", "keys"), t.Failure)
	}
	if t.Compared > 0 && len(t.Different) == 0 {
		p.print("It counted the same for %s.\n", keys)
	}
	if len(t.Different) == 0 {
		return
	}
	p.print("It counted differently for %d of %s:\n\n", len(t.Different), keys)
	rows := [][]string{{"USER", "KIND", "OF", "OLD", "NEW"}}
	for _, d := range t.Different[:min(len(t.Different), totalsShown)] {
		rows = append(rows, []string{d.User, d.Kind, d.Ref, decimal(d.Old), decimal(d.New)})
	}
	p.table(rows)
	if n := len(t.Different) - totalsShown; n > 0 {
		p.print("... and %d more: --json lists all\n", n)
	}
	if t.Keeps != "" {
		p.print("\nUnder the policy %[1]s all of them are as they were: runcounter migrate up --policy %[1]s sets it.\n", t.Keeps)
	}
}
