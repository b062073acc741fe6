package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// stuckRuns are those that the next sweep ends or repairs: no state of a run, since they
// are told by the time and the limits.
const stuckRuns = "stuck"

func runsCommand() *cli.Command {
	return &cli.Command{
		Name:      "runs",
		Category:  groupAsk,
		Usage:     "lists runs: those that are odd, active, ended, presumed, superseded or stuck",
		UsageText: "runcounter runs [--odd | --state STATE] [--user ID] [--status STATUS] [--from TIME] [--to TIME] [flags]",
		Description: `Odd runs are in no count, or their times contradict each other: without a user,
without a workflow and draft, with an unknown status, or ended before they
started. Each is printed with what it needs.

  active      have not ended, and take a slot of a limit; latest created first
  ended       latest ended first; name a user, whose runs an index finds
  presumed    were ended by a sweep alone
  superseded  were ended by a sweep once, and really since
  stuck       what the next sweep will end or repair; runcounter sweep does it

Examples:
  runcounter runs --odd
  runcounter runs --state active --status pending --oldest
  runcounter runs --state ended --user 11111111-1111-4111-8111-111111111111 --json`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "odd", Category: flagsWhat, Usage: "as --state odd"},
			&cli.StringFlag{Name: "state", Category: flagsWhat, DefaultText: "active", Usage: "those in a `STATE`: active, ended, presumed, superseded, odd or stuck"},
			userFlag(),
			&cli.StringFlag{Name: "status", Category: flagsWhat, DefaultText: "any", Usage: "those with a `STATUS`"},
			fromFlag("those whose time in the list is a `TIME` or later"),
			&cli.StringFlag{Name: "to", Category: flagsWhat, DefaultText: "all time", Usage: "those whose time is before a `TIME`"},
			&cli.BoolFlag{Name: "oldest", Category: flagsWhat, Usage: "the earliest first"},
			&cli.StringFlag{Name: "after", Category: flagsWhat, Usage: "those behind a `PLACE`, which the end of a page names"},
			&cli.IntFlag{Name: "max", Category: flagsWhat, Value: 50, Usage: "list at most `N` of them"},
			stuckFlag(), leaseFlag(), descriptionFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(0, runs),
	}
}

func runs(ctx context.Context, cmd *cli.Command) error {
	q, stuck, err := runsOf(cmd)
	if err != nil {
		return err
	}
	limits, err := limitsOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error {
		if stuck {
			return listStuck(ctx, cmd, db, limits, q.Limit)
		}
		limit := q.Limit
		q.Limit++ // one more says whether there is a next page
		found, err := db.SearchRuns(ctx, q)
		if errors.Is(err, store.ErrTooSlow) {
			return failed(errors.New("no index carries this list, and it took longer than " + q.Within.String() + ": name a user with --user, or a shorter time with --from and --to"))
		}
		if err != nil {
			return err
		}
		var next *string
		if len(found) > limit {
			found = found[:limit]
			place := api.CursorText(found[limit-1].Cursor())
			next = &place
		}
		return show(cmd, api.RunPage{State: q.State, Runs: api.ListedRunsOf(q.State, found, db.source), Next: next}, view.Runs(q.State, found, next, db.source))
	})
}

func listStuck(ctx context.Context, cmd *cli.Command, db backend, limits store.Limits, limit int) error {
	found, err := db.FailStuck(ctx, store.FailStuck{Now: store.Instant(time.Now()), Limits: limits, Max: limit + 1, DryRun: true})
	if err != nil {
		return err
	}
	more := len(found) > limit
	if more {
		found = found[:limit]
	}
	return show(cmd, struct {
		State string         `json:"state"`
		Runs  []api.StuckRun `json:"runs"`
		More  bool           `json:"more"`
	}{stuckRuns, api.StuckRunsOf(found), more}, view.Stuck(found, more))
}
