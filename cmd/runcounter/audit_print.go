package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// healthJSON is what else deserves a look.
type healthJSON struct {
	Active        int64 `json:"active"`
	NoKey         int64 `json:"without_key"`
	UnknownStatus int64 `json:"unknown_status"`
	EndedTooSoon  int64 `json:"ended_too_soon"`
	Ledger        int64 `json:"ledger_rows"`
	DeadLetters   int64 `json:"dead_letters"`
}

// causeJSON is the likely cause of one wrong count, with runs behind it.
type causeJSON struct {
	keyJSON
	Cause string    `json:"likely_cause"`
	Runs  []runJSON `json:"runs"`
}

func causesJSON(causes []store.KeyHistory) []causeJSON {
	all := make([]causeJSON, 0, len(causes))
	for _, h := range causes {
		all = append(all, causeJSON{keyJSONOf(h.Drift.Key), h.Cause, keyHistoryJSONOf(h).Runs})
	}
	return all
}

func printAudit(cmd *cli.Command, keys int, drifts []store.Drift, causes []store.KeyHistory, totals []store.Drift, h store.Health, repair string) error {
	var b strings.Builder
	audited := store.Quantity(int64(keys), "key", "keys") + " audited"
	if len(drifts) == 0 {
		b.WriteString(audited + ": every count equals the runs behind it.\n")
	} else {
		if err := printTable(&b, driftTable(drifts)); err != nil {
			return err
		}
		for _, cause := range causes {
			fmt.Fprintf(&b, "\n%s: %s\n", cause.Drift.Key, cause.Cause)
			for _, r := range cause.Runs {
				if !r.Ended() {
					continue
				}
				fmt.Fprintf(&b, "  run %s  %s  %s\n", r.ID.Shown(), orNull(r.Status), api.Instant(r.CompletedAt))
			}
			fmt.Fprintf(&b, "  all of it: %s\n", explainLine(cause.Drift.Key))
		}
		fmt.Fprintf(&b, "\n%s, %d of them wrong. %s\n", audited, len(drifts), repair)
	}
	if len(totals) > 0 {
		if err := printTable(&b, driftTable(totals)); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n%s of all users together, as run_counter.totals has them. %s\n", store.Quantity(int64(len(totals)), "count is wrong", "counts are wrong"), repair)
	}
	for _, odd := range []struct {
		n    int64
		what string
	}{
		{h.NoKey, "with neither a workflow nor a draft, or without a user: not counted"},
		{h.UnknownStatus, "with an unknown status: not counted"},
		{h.EndedTooSoon, "that ended before they started: counted, but their times are wrong"},
	} {
		if odd.n > 0 {
			fmt.Fprintf(&b, "%s %s.\n", store.Quantity(odd.n, "run", "runs"), odd.what)
		}
	}
	if h.DeadLetters > 0 {
		fmt.Fprintf(&b, "%s could not be read: see runcounter dead-letters list.\n", store.Quantity(h.DeadLetters, "change or delivery", "changes or deliveries"))
	}
	_, err := io.WriteString(cmd.Root().Writer, b.String())
	return err
}

// repairBy says what repairs drift.
func repairBy(p store.Partitions) string {
	if p.Moved() {
		return p.Sentence()
	}
	return "Correct them with: runcounter recount --all-drifting"
}
