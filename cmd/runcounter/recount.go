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

func recountCommand() *cli.Command {
	return &cli.Command{
		Name:      "recount",
		Category:  groupMaintain,
		Usage:     "sets a count from the runs behind it",
		UsageText: "runcounter recount --user ID (--workflow ID | --draft ID) [flags]\nruncounter recount --all-drifting [flags]",
		Description: `A count that was right stays as it is, and nothing is written. What was changed
is kept in the table recounts for 90 days.

Examples:
  runcounter recount --all-drifting
  runcounter recount --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa`,
		Flags: []cli.Flag{
			userFlag(), workflowFlag(), draftFlag(),
			&cli.BoolFlag{Name: "all-drifting", Category: flagsWhat, Usage: "recount every key that an audit finds wrong"},
			databaseFlag(), jsonFlag(),
		},
		Action: action(0, recount),
	}
}

var errWhichCount = badUsage("say which count: add --workflow ID or --draft ID, or recount --all-drifting")

func recount(ctx context.Context, cmd *cli.Command) error {
	all := cmd.Bool("all-drifting")
	var o owner
	if all {
		if cmd.IsSet("user") || cmd.IsSet("workflow") || cmd.IsSet("draft") {
			return badUsage("--all-drifting finds the keys by itself: leave out --user, --workflow and --draft")
		}
	} else {
		var err error
		if o, err = ownerOf(cmd); err != nil {
			return err
		}
		if o.ofAll() && mustExist(cmd) != nil { // with a database it depends on the table
			return errWhichCount
		}
	}
	return withStore(ctx, cmd, func(db backend) (err error) {
		if err := mustStore(db); err != nil {
			return err
		}
		var done []store.RecountResult
		if all {
			done, err = recountAll(ctx, db)
		} else {
			done, err = recountOne(ctx, db, o)
		}
		if err != nil {
			return err
		}
		return show(cmd, api.RecountedOf(done), view.Recounted(done))
	})
}

func recountOne(ctx context.Context, db backend, o owner) ([]store.RecountResult, error) {
	key, err := o.key(ctx, db)
	if err == nil && key.IsZero() {
		err = errWhichCount
	}
	if err != nil {
		return nil, err
	}
	r, err := db.Recount(ctx, key, time.Now())
	return []store.RecountResult{r}, err
}

func recountAll(ctx context.Context, db backend) ([]store.RecountResult, error) {
	partitions, err := db.partitions(ctx)
	if err != nil {
		return nil, err
	}
	if partitions.Moved() {
		return nil, failed(errors.New(partitions.Sentence()))
	}
	return store.RecountDrifting(ctx, db, time.Now)
}
