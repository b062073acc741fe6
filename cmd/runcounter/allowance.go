package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func allowanceCommand() *cli.Command {
	return &cli.Command{
		Name:     "allowance",
		Category: groupAsk,
		Usage:    "prints how many more runs may begin under a limit",
		UsageText: "runcounter allowance --user ID (--workflow ID | --draft ID) --limit N [--user-limit N] [--from TIME] [flags]\n" +
			"runcounter allowance --user ID --user-limit N [--from TIME] [flags]",
		Description: `It reads what a begin with the same limits would look at, and reserves nothing:
the runs that count, those that are active, and what was granted on top.

Examples:
  runcounter allowance --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa --limit 10
  runcounter allowance --user 11111111-1111-4111-8111-111111111111 \
    --user-limit 50 --from 2026-11-01T00:00:00Z`,
		Flags: []cli.Flag{
			userFlag(), workflowFlag(), draftFlag(),
			&cli.Int64Flag{Name: "limit", Category: flagsWhat, DefaultText: "none", Usage: "the most runs of the workflow or draft, `N`"},
			&cli.Int64Flag{Name: "user-limit", Category: flagsWhat, DefaultText: "none", Usage: "the most runs of the user, drafts included, `N`"},
			fromFlag("the limits count the runs that ended at a `TIME` or later"),
			descriptionFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(0, allowance),
	}
}

func allowance(ctx context.Context, cmd *cli.Command) error {
	o, err := ownerOf(cmd)
	if err != nil {
		return err
	}
	asked := store.AllowanceRequest{Now: store.Instant(time.Now())}
	from, err := timeOf(cmd, "from")
	if err != nil {
		return err
	}
	for name, scope := range map[string]store.LimitScope{"limit": store.KeyLimit, "user-limit": store.UserLimit} {
		if !cmd.IsSet(name) {
			continue
		}
		if cmd.Int64(name) < 0 {
			return badUsage("--%s must be 0 or more", name)
		}
		asked.Limits = append(asked.Limits, store.Limit{Scope: scope, Max: cmd.Int64(name), From: from})
	}
	if len(asked.Limits) == 0 {
		return badUsage("say which limit: add --limit N, that of the workflow or draft, or --user-limit N, that of all runs of the user")
	}
	if len(asked.Limits) == 2 && asked.Limits[0].Scope == store.UserLimit {
		asked.Limits[0], asked.Limits[1] = asked.Limits[1], asked.Limits[0]
	}
	return withStore(ctx, cmd, func(db backend) error {
		if o, err = o.in(ctx, db); err != nil {
			return err
		}
		switch {
		case o.user.IsZero():
			return badUsage("say whose: add --user ID")
		case asked.Limits[0].Scope == store.KeyLimit && o.ofAll():
			return badUsage("--limit is that of a workflow or draft: add --workflow ID or --draft ID, or say --user-limit")
		}
		asked.User, asked.Workflow, asked.Draft = o.user, o.workflow, o.draft
		usages, err := db.Allowance(ctx, asked)
		if err != nil {
			return err
		}
		a := api.AllowanceOf(usages)
		return show(cmd, a, view.Allowance(a))
	})
}
