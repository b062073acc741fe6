package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
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
		Action: action(recount),
	}
}

type recountedJSON struct {
	keyJSON
	Before  store.Tallies `json:"before"`
	After   store.Tallies `json:"after"`
	Changed bool          `json:"changed"`
}

var errWhichCount = badUsage("say which count: add --workflow ID or --draft ID, or recount --all-drifting")

func recount(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(0, cmd); err != nil {
		return err
	}
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
	return withStore(ctx, cmd, func(db backend) error {
		if err := mustStore(db); err != nil {
			return err
		}
		var keys []store.Key
		if !all {
			key, err := o.key(ctx, db)
			if err == nil && key.IsZero() {
				err = errWhichCount
			}
			if err != nil {
				return err
			}
			keys = []store.Key{key}
		} else {
			partitions, err := db.partitions(ctx)
			if err != nil {
				return err
			}
			if partitions.Moved() {
				return failed(errors.New(partitions.Sentence()))
			}
			_, drifts, err := auditAll(ctx, db)
			if err != nil {
				return err
			}
			keys = keys[:0]
			for _, d := range drifts {
				keys = append(keys, d.Key)
			}
		}
		var done []store.RecountResult
		for _, k := range keys {
			r, err := db.Recount(ctx, k, time.Now())
			if err != nil {
				return err
			}
			done = append(done, r)
		}
		if all {
			totals, err := db.AuditTotals(ctx, true)
			if err != nil {
				return err
			}
			for _, d := range totals {
				done = append(done, store.RecountResult{Key: d.Key, Before: d.Stored, After: d.Actual})
			}
		}
		return printRecounted(cmd, done)
	})
}

func printRecounted(cmd *cli.Command, done []store.RecountResult) error {
	out := cmd.Root().Writer
	if cmd.Bool("json") {
		rows := []recountedJSON{}
		for _, r := range done {
			rows = append(rows, recountedJSON{keyJSONOf(r.Key), r.Before, r.After, r.Changed()})
		}
		return printJSON(out, struct {
			Recounted []recountedJSON `json:"recounted"`
		}{rows})
	}
	var changed []store.Drift
	for _, r := range done {
		if r.Changed() {
			changed = append(changed, store.Drift{Key: r.Key, Stored: r.Before, Actual: r.After})
		}
	}
	if len(changed) == 0 {
		_, err := fmt.Fprintln(out, "Every count was right; nothing was changed.")
		return err
	}
	if err := printTable(out, driftTable(changed)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nRecounted %s.\n", store.Quantity(int64(len(changed)), "key", "keys"))
	return err
}
