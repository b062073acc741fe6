package doctor

import (
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

func schemaFindings(s postgres.Schema) []report.Finding {
	const fix = "runcounter migrate up"
	at := migrationsFinding(s.Version, s.Latest, s.Dirty, fix)
	if s.Version == 0 && !s.Dirty {
		at.Text += ": counts are counted each time, and nothing keeps the first outcome but our own calls"
	}
	if at.Status != report.OK {
		return []report.Finding{at}
	}
	var found []report.Finding
	again := "runcounter migrate down --yes, then runcounter migrate up: the runs stay, the counts are made anew"
	if len(s.MissingTables) > 0 {
		found = append(found, fail(again, "all are applied, and these tables of schema run_counter are gone: %s", few(s.MissingTables)))
	}
	if len(s.Altered) > 0 {
		found = append(found, fail(fix, "workflow_runs was altered since they were applied: %s", strings.Join(s.Altered, "; ")))
	}
	if s.Zone != "" {
		found = append(found, warn("runcounter migrate up --timezone ZONE", "%s", s.Zone))
	}
	if len(s.BadIndexes) > 0 {
		found = append(found, warn("runcounter migrate print shows how to make them; drop a half-built one first",
			"these indexes on workflow_runs are missing or half built, and everything is slow without them: %s", few(s.BadIndexes)))
	}
	return orOK(found, "%s", at.Text)
}

// partitionFindings returns none for a table that is plain.
func partitionFindings(p store.Partitions) (found []report.Finding) {
	if len(p.Gone) > 0 {
		found = append(found, fail("", "%s", p.Sentence()))
	} else if p.Moved() {
		found = append(found, warn("", "%s", p.Sentence()))
	}
	if what := p.UntoldSentence(); what != "" {
		found = append(found, warn("", "%s", what))
	}
	if len(p.IDs) == 0 {
		return found
	}
	return orOK(found, "%s, whose runs are in the counts; a TRUNCATE of one is counted", store.Quantity(int64(len(p.IDs)), "partition", "partitions"))
}

func (t Thresholds) ledgerFinding(l postgres.Ledger) report.Finding {
	rows := store.Quantity(l.Rows, "row", "rows")
	if l.Rows > postgres.MaxLedger {
		rows = fmt.Sprintf("more than %d rows", postgres.MaxLedger)
	}
	const fix = "runcounter serve folds it with each sweep: is it running? runcounter sweep does it once"
	switch {
	case l.Rows == 0:
		return passed("empty: all is folded")
	case l.Rows > t.LongLedger:
		return warn(fix, "%s to fold, the oldest of %s ago: counts are exact, and reading them gets slower", rows, roughly(l.Oldest))
	case l.Oldest > t.OldLedger:
		return warn(fix, "%s to fold, the oldest of %s ago: no sweep folds", rows, roughly(l.Oldest))
	}
	return passed("%s to fold, the oldest of %s ago", rows, roughly(l.Oldest))
}

func (t Thresholds) holderFindings(all []postgres.Holder, blind bool) (found []report.Finding) {
	for _, h := range all {
		switch h.Kind {
		case "session":
			found = append(found, warn("let it end, or end it: select pg_terminate_backend("+h.Name+")",
				"session %s (%s) has been %s, with a snapshot of %s ago: no dead row goes away, and new indexes wait", h.Name, h.Who, h.Does, roughly(h.For)))
		case "prepared transaction":
			found = append(found, warn("commit prepared or rollback prepared '"+strings.ReplaceAll(h.Name, "'", "''")+"'",
				"prepared transaction %s of %s has been open for %s: no dead row goes away", h.Name, h.Who, roughly(h.For)))
		default:
			found = append(found, warn("start who reads it, or: select pg_drop_replication_slot('"+strings.ReplaceAll(h.Name, "'", "''")+"')",
				"%s %s (%s) is %s: it keeps old rows or write-ahead log, until the disk is full", h.Kind, h.Name, h.Who, h.Does))
		}
	}
	if blind {
		found = append(found, warn("grant pg_read_all_stats to the role of DATABASE_URL; Supabase's postgres has it", "not checked: the role may not see what other roles' sessions do"))
	}
	return orOK(found, "none is older than %s", roughly(t.OldSnapshot))
}
