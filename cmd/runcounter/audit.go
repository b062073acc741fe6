package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:      "audit",
		Category:  groupMend,
		Usage:     "compares every count with the runs behind it",
		UsageText: "runcounter audit [flags]",
		Description: `It writes nothing. The exit code is 1 where a count is wrong, which should never
happen; runcounter recount --all-drifting mends it. Where all are right, the count
of each workflow and draft over all users is compared with those of its users. It
also reports what is not counted: runs without a user, or without a workflow and
draft, and runs with an unknown status.

Examples:
  runcounter audit
  runcounter audit --json || runcounter recount --all-drifting`,
		Flags:  []cli.Flag{descriptionFlag(), databaseFlag(), jsonFlag()},
		Action: action(audit),
	}
}

// healthJSON is what else deserves a look.
type healthJSON struct {
	Active        int64 `json:"active"`
	NoKey         int64 `json:"without_key"`
	UnknownStatus int64 `json:"unknown_status"`
	EndedTooSoon  int64 `json:"ended_too_soon"`
	Ledger        int64 `json:"ledger_rows"`
	DeadLetters   int64 `json:"dead_letters"`
}

func audit(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(0, cmd); err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error {
		if err := mustStore(db); err != nil {
			return err
		}
		keys, drifts, err := auditAll(ctx, db)
		if err != nil {
			return err
		}
		health, err := db.Health(ctx)
		if err != nil {
			return err
		}
		causes, err := causesOf(ctx, db, drifts)
		if err != nil {
			return err
		}
		var totals []store.Drift
		if len(drifts) == 0 { // else they say nothing yet
			if totals, err = db.AuditTotals(ctx, false); err != nil {
				return err
			}
		}
		partitions, err := db.partitions(ctx)
		if err != nil {
			return err
		}
		if cmd.Bool("json") {
			err = printJSON(cmd.Root().Writer, struct {
				Keys     int         `json:"keys"`
				Drifting int         `json:"drifting"`
				Drifts   []driftJSON `json:"drifts"`
				Causes   []causeJSON `json:"causes"`
				Totals   []driftJSON `json:"totals"`
				Health   healthJSON  `json:"health"`
			}{keys, len(drifts), driftsJSON(drifts), causesJSON(causes), driftsJSON(totals), healthJSON(health)})
		} else {
			err = printAudit(cmd, keys, drifts, causes, totals, health, mendBy(partitions))
		}
		if err == nil && len(drifts)+len(totals) > 0 {
			err = answerNo(nil)
		}
		return err
	})
}

// mendBy says what mends drift.
func mendBy(p store.Partitions) string {
	if p.Moved() {
		return p.Sentence()
	}
	return "Mend them with: runcounter recount --all-drifting"
}

// mustStore refuses to compare the stored counts of a source that has none:
// that each of them is right would be true, and no answer.
func mustStore(db backend) error {
	if !db.direct {
		return nil
	}
	return answerNo(errors.New("there are no stored counts to audit: the database has no migrations of Run Counter, " +
		"so each count is counted when it is asked for; runcounter migrate up makes them"))
}

// For so many wrong counts an audit lists the runs behind them, and so many of
// each; runcounter explain goes on from there.
const (
	maxCauses   = 20
	runsOfCause = 10
)

// causesOf looks up how the first wrong counts come about.
func causesOf(ctx context.Context, db backend, drifts []store.Drift) ([]store.KeyHistory, error) {
	var causes []store.KeyHistory
	for _, d := range drifts[:min(len(drifts), maxCauses)] {
		h, err := db.KeyHistory(ctx, d.Key, runsOfCause)
		if err != nil {
			return nil, err
		}
		if h.Drift.Stored != h.Drift.Actual { // else a second process mended it meanwhile
			causes = append(causes, h)
		}
	}
	return causes, nil
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

// auditAll compares all keys, a page in one snapshot.
func auditAll(ctx context.Context, db store.Maintainer) (keys int, drifts []store.Drift, err error) {
	for after := (store.Key{}); ; {
		found, err := db.Audit(ctx, store.Audit{After: after, Max: 1000})
		if err != nil {
			return 0, nil, err
		}
		keys += found.Keys
		drifts = append(drifts, found.Drifts...)
		if after = found.Next; after.IsZero() {
			return keys, drifts, nil
		}
	}
}

func printAudit(cmd *cli.Command, keys int, drifts []store.Drift, causes []store.KeyHistory, totals []store.Drift, h store.Health, mend string) error {
	var b strings.Builder
	audited := quantity(int64(keys), "key", "keys") + " audited"
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
				fmt.Fprintf(&b, "  run %s  %s  %s\n", r.ID.Shown(), orNull(r.Status), instant(r.CompletedAt))
			}
			fmt.Fprintf(&b, "  all of it: %s\n", explainLine(cause.Drift.Key))
		}
		fmt.Fprintf(&b, "\n%s, %d of them wrong. %s\n", audited, len(drifts), mend)
	}
	if len(totals) > 0 {
		if err := printTable(&b, driftTable(totals)); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n%s of all users together, as run_counter.totals has them. %s\n", quantity(int64(len(totals)), "count is wrong", "counts are wrong"), mend)
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
			fmt.Fprintf(&b, "%s %s.\n", quantity(odd.n, "run", "runs"), odd.what)
		}
	}
	if h.DeadLetters > 0 {
		fmt.Fprintf(&b, "%s could not be read: see runcounter dead-letters list.\n", quantity(h.DeadLetters, "change or delivery", "changes or deliveries"))
	}
	_, err := io.WriteString(cmd.Root().Writer, b.String())
	return err
}
