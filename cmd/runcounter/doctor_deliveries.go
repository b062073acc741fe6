package main

import (
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

// deliveryLines judges what became of webhooks' calls. What is so of the newest
// call makes a failure, what was so before it a warning.
func deliveryLines(d postgres.Deliveries) (lines []line) {
	if !d.Watched {
		return []line{fine("no pg_net, which would send them")}
	}
	if d.Blind {
		lines = append(lines, warning("grant pg_read_all_stats to the role of DATABASE_URL; Supabase's postgres has it", "can't look: the role may not see whether pg_net's worker runs"))
	}
	for _, c := range d.Complaints() {
		finding := c.What
		if c.Why != "" {
			finding += ": " + c.Why
		}
		switch {
		case c.Kind == store.ComplaintStatements: // the line of the webhook says so
		case c.Now:
			lines = append(lines, failure(c.Fix, "%s", finding))
		default:
			lines = append(lines, warning(c.Fix, "%s", finding))
		}
	}
	switch {
	case !d.Net:
		return perhaps(lines, "no pg_net, which would send them")
	case d.Known() == 0:
		return perhaps(lines, "none in the last hours, for which pg_net remembers them")
	}
	return perhaps(lines, "the last %s arrived, the newest %s ago%s", d.Whose(), rough(d.NewestAgo), waiting(d))
}

func waiting(d postgres.Deliveries) string {
	if d.Calls[store.FateWaiting] == 0 {
		return ""
	}
	return fmt.Sprintf("; %s, the oldest for %s", quantity(d.Calls[store.FateWaiting], "waits", "wait"), rough(d.Oldest))
}
