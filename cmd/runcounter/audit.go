package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:      "audit",
		Category:  groupMaintain,
		Usage:     "compares every count with the runs behind it",
		UsageText: "runcounter audit [flags]",
		Description: `It writes nothing. The exit code is 1 where a count is wrong, which should never
happen; runcounter recount --all-drifting corrects it. Where all are right, the count
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
			err = printAudit(cmd, keys, drifts, causes, totals, health, repairBy(partitions))
		}
		if err == nil && len(drifts)+len(totals) > 0 {
			err = failed(nil)
		}
		return err
	})
}

// mustStore refuses to compare the stored counts of a source that has none:
// that each of them is right would be true, and no answer.
func mustStore(db backend) error {
	if !db.direct {
		return nil
	}
	return failed(errors.New("there are no stored counts to audit: the database has no migrations of Run Counter, " +
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
		if h.Drift.Stored != h.Drift.Actual { // else a second process repaired it meanwhile
			causes = append(causes, h)
		}
	}
	return causes, nil
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
