package view

import (
	"cmp"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// Allowance lists how far limits are used, and says how many runs may begin.
func Allowance(a api.Allowance) string {
	rows := [][]string{{"LIMIT OF", "MOST", "SINCE", "GRANTED", "COUNTED", "ACTIVE", "LEFT"}}
	for _, u := range a.Limits {
		rows = append(rows, []string{string(u.Scope), decimal(u.Max), u.From.String(), decimal(u.Granted), decimal(u.Counted), decimal(u.Active), decimal(u.Remaining)})
	}
	var p page
	p.table(rows)
	p.print("\n%s can still begin.\n", store.Quantity(a.Remaining, "run", "runs"))
	return p.String()
}

// Granted says what was given.
func Granted(r store.GrantResult) string {
	g, text := r.Grant, "Granted"
	if !r.Created {
		text = "This was granted before, at " + api.Instant(g.GrantedAt).String() + ":"
	}
	until := ""
	if !g.ExpiresAt.IsZero() {
		until = ", until " + api.Instant(g.ExpiresAt).String()
	}
	var p page
	p.print("%s %s to %s%s. It is grant %d.\n", text, store.Quantity(g.Runs, "run", "runs"), OneLine(g.Of.String()), until, g.Seq)
	if !g.RevokedAt.IsZero() {
		p.print("It was revoked at %s by %s, and stays so.\n", api.Instant(g.RevokedAt), OneLine(g.RevokedBy))
	}
	return p.String()
}

// Grants lists a page of grants, and says how to ask for the next.
func Grants(grants []store.Grant, next *int64, now time.Time) string {
	if len(grants) == 0 {
		return "Nothing was granted.\n"
	}
	rows := [][]string{{"NUMBER", "USER", "KIND", "ID", "RUNS", "GRANTED", "EXPIRES", "BY", "WHY", "STATE"}}
	for _, g := range grants {
		state := "stands"
		switch {
		case !g.RevokedAt.IsZero():
			state = "revoked by " + g.RevokedBy + ": " + g.RevokedWhy
		case !g.Stands(now):
			state = "expired"
		}
		rows = append(rows, []string{
			decimal(g.Seq), cell(g.Of.User), cmp.Or(string(g.Of.Kind), "-"), cell(g.Of.Ref), decimal(g.Runs), api.Instant(g.GrantedAt).String(), api.Instant(g.ExpiresAt).String(),
			OneLine(g.Who), OneLine(g.Why), OneLine(state),
		})
	}
	var p page
	p.table(rows)
	if next != nil {
		p.print("\nThere are more: --before %d goes on.\n", *next)
	}
	return p.String()
}

// Revoked says who ended a grant.
func Revoked(g store.Grant) string {
	var p page
	p.print("Grant %d of %s to %s is revoked, at %s by %s: %s\n",
		g.Seq, store.Quantity(g.Runs, "run", "runs"), OneLine(g.Of.String()), api.Instant(g.RevokedAt), OneLine(g.RevokedBy), OneLine(g.RevokedWhy))
	return p.String()
}
