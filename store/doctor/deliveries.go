package doctor

import (
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

// deliveryFindings judges what became of webhooks' calls. What is so of the newest
// call makes a failure, what was so before it a warning.
func deliveryFindings(d postgres.Deliveries) (found []report.Finding) {
	if !d.Watched {
		return []report.Finding{passed("no pg_net, which would send them")}
	}
	if d.Blind {
		found = append(found, warn("grant pg_read_all_stats to the role of DATABASE_URL; Supabase's postgres has it", "not checked: the role may not see whether pg_net's worker runs"))
	}
	for _, c := range d.Complaints() {
		finding := c.What
		if c.Why != "" {
			finding += ": " + c.Why
		}
		switch {
		case c.Kind == store.ComplaintStatements: // the line of the webhook says so
		case c.Now:
			found = append(found, fail(c.Fix, "%s", finding))
		default:
			found = append(found, warn(c.Fix, "%s", finding))
		}
	}
	switch {
	case !d.Net:
		return orOK(found, "no pg_net, which would send them")
	case d.Known() == 0:
		return orOK(found, "none in the last hours, for which pg_net remembers them")
	}
	return orOK(found, "the last %s arrived, the newest %s ago%s", d.Whose(), roughly(d.NewestAgo), waiting(d))
}

func waiting(d postgres.Deliveries) string {
	if d.Calls[store.FateWaiting] == 0 {
		return ""
	}
	return fmt.Sprintf("; %s, the oldest for %s", store.Quantity(d.Calls[store.FateWaiting], "waits", "wait"), roughly(d.Oldest))
}
