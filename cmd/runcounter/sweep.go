package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func sweepCommand() *cli.Command {
	return &cli.Command{
		Name:      "sweep",
		Category:  groupMaintain,
		Usage:     "ends stuck runs and corrects counts once, as serve does all the time",
		UsageText: "runcounter sweep [--dry-run] [--full] [--partitions] [flags]",
		Description: `A run that was silent for longer than its limit is presumed failed, or cancelled
where it was cancelling; a real outcome that comes later supersedes that. The
ledger is folded into the counts, and counts are compared with the runs behind
them and corrected: 1,000 keys, or all with --full. On PostgreSQL it also
reports the webhooks of the last 15 minutes, and ends no silent run until
--stuck-after is set: where there are any before that, it prints them, writes
nothing, and exits with 1. It exits with 1, too, where the database refuses to end one.

Where partitions of the table were attached, detached or dropped, counts that this
changed stay as they are, and the exit code is 1, until --partitions counts the
runs that are there.

Examples:
  runcounter sweep --dry-run
  runcounter sweep --full --stuck-after pending=5m,running=30m`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Category: flagsWhat, Usage: "write nothing, and print what a sweep would do"},
			&cli.BoolFlag{Name: "full", Category: flagsWhat, Usage: "audit every key instead of 1,000"},
			&cli.BoolFlag{Name: "partitions", Category: flagsWhat, Usage: "correct, too, what partitions that came or went have changed; audits every key"},
			stuckFlag(), leaseFlag(), descriptionFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(0, sweep),
	}
}

func sweep(ctx context.Context, cmd *cli.Command) error {
	limits, err := limitsOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error {
		s := db.sweeper(limits)
		options := store.SweepOptions{DryRun: cmd.Bool("dry-run"), Full: cmd.Bool("full"), Partitions: cmd.Bool("partitions")}
		rehearse := !presumes(cmd, db.source) && !options.DryRun
		if rehearse {
			dry, err := s.Sweep(ctx, store.SweepOptions{DryRun: true})
			if err != nil {
				return err
			}
			if rehearse = dry.Repairs() > 0; !rehearse {
				s.Limits = store.Limits{} // nor those that fall silent meanwhile
			}
		}
		options.DryRun = options.DryRun || rehearse
		// What was done is printed even where a step failed.
		report, err := s.Sweep(ctx, options)
		if rehearse {
			err = errors.Join(err, failed(errors.New("no limit for silent runs is set, so nothing was written: "+
				"set it with --stuck-after or RUNCOUNTER_STUCK_AFTER, such as --stuck-after pending=5m,running=30m")))
		}
		if report.Unwritable > 0 {
			err = errors.Join(err, failed(fmt.Errorf("the database refused to write %s, which stay stuck: read the reason beside each, "+
				"correct the row or the trigger of the application, and sweep again", store.Quantity(int64(report.Unwritable), "run", "runs"))))
		}
		if report.Altered != "" {
			err = errors.Join(err, failed(errors.New(report.Altered)))
		}
		for _, sentence := range report.PartitionSentences() {
			err = errors.Join(err, failed(errors.New(sentence)))
		}
		return errors.Join(err, show(cmd, api.SweepOf(report), view.Sweep(report)))
	})
}
