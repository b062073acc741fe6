package doctor

import (
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
)

func migrationsFinding(version, latest uint, dirty bool, fix string) report.Finding {
	switch {
	case dirty:
		return fail(fix, "migration %d was interrupted", version)
	case version == 0:
		return fail(fix, "none is applied")
	case version > latest:
		return fail("run the newer runcounter", "the schema has version %d, made by a newer program: this one knows %d", version, latest)
	case version < latest:
		return fail(fix, "the schema has version %d of %d", version, latest)
	}
	return passed("version %d of %d", version, latest)
}

// The bounds of a check of either kind of database.
const (
	sample   = 500  // counts that are compared with the runs behind them
	maxStuck = 1000 // stuck runs that are counted
)

func driftFinding(all store.AuditResult) report.Finding {
	if n := len(all.Drifts); n > 0 {
		return fail("runcounter audit shows them and their likely cause, runcounter recount --all-drifting corrects them",
			"%d of %s compared with the runs behind them are wrong, such as that of %s", n, store.Quantity(int64(all.Keys), "count", "counts"), all.Drifts[0].Key)
	}
	return passed("%s compared with the runs behind them: exact", store.Quantity(int64(all.Keys), "count", "counts"))
}

func (c Config) stuckFinding(stuck []store.Repaired) report.Finding {
	n := len(stuck)
	if n == 0 {
		return passed("none")
	}
	many := store.Quantity(int64(n), "run", "runs")
	if n == maxStuck {
		many = "at least " + many
	}
	fix := "runcounter serve ends them within a minute: is it running? runcounter sweep --dry-run shows them, and runcounter sweep names those that the database refuses to write"
	if !c.Presumes {
		fix = "say how long a run may be silent with RUNCOUNTER_STUCK_AFTER, since nothing ends them without it; runcounter sweep --dry-run shows them"
	}
	return warn(fix,
		"%s silent for longer than the limit, or at odds with their completed_at, such as %s", many, stuck[0].Before.ID.Shown())
}

func runFindings(h store.Health) []report.Finding {
	var found []report.Finding
	for _, odd := range []struct {
		n         int64
		what, fix string
	}{
		{h.NoKey, "with neither a workflow nor a draft, or without a user: not counted", "give each a user_id, and a workflow_id or a draft_id; a guest's run may stay so; runcounter runs --odd lists them, and the console at /runs?state=odd"},
		{h.UnknownStatus, "with an unknown status: not counted, never ended, and each takes a slot of a limit", "use pending, running, cancelling, completed, failed, cancelled or timeout, or give it a meaning with --status THEIRS=OURS: a source by migrate up, a mirror by serve; runcounter runs --odd lists them, and the console at /runs?state=odd"},
		{h.EndedTooSoon, "that ended before they started: counted, but their times are wrong", "check which clock the application writes; runcounter runs --odd lists them, and the console at /runs?state=odd"},
	} {
		if odd.n > 0 {
			found = append(found, warn(odd.fix, "%s %s", store.Quantity(odd.n, "run", "runs"), odd.what))
		}
	}
	return orOK(found, "%d active, none that is odd", h.Active)
}

func deadLettersFinding(h store.Health) report.Finding {
	if h.DeadLetters == 0 {
		return passed("none")
	}
	return warn("runcounter dead-letters list says what was wrong with them; correct the sender, then runcounter dead-letters replay --all, or drop", "%s authenticated and could not be read", store.Quantity(h.DeadLetters, "change or delivery was", "changes or deliveries were"))
}
