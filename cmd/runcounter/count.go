package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func countCommand() *cli.Command {
	return &cli.Command{
		Name:      "count",
		Category:  groupAsk,
		Usage:     "prints how many runs of a workflow or draft count",
		UsageText: "runcounter count --user ID [--workflow ID | --draft ID] [flags]\nruncounter count (--workflow ID | --draft ID) [flags]",
		Description: `Without a workflow or draft it lists all counts of the user; without a user it
counts those of all users together. The count is exact at the moment of asking;
which runs count is the policy of the database.

Examples:
  runcounter count --user 11111111-1111-4111-8111-111111111111
  runcounter count --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa --json
  runcounter count --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa`,
		Flags:  []cli.Flag{userFlag(), workflowFlag(), draftFlag(), descriptionFlag(), databaseFlag(), jsonFlag()},
		Action: action(0, count),
	}
}

func count(ctx context.Context, cmd *cli.Command) error {
	o, err := ownerOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error {
		key, err := o.total(ctx, db)
		if err == nil && key.IsZero() {
			key, err = o.key(ctx, db)
		}
		if err != nil {
			return err
		}
		policy, err := db.Policy(ctx)
		if err != nil {
			return err
		}
		if !key.IsZero() {
			c, err := db.Count(ctx, key.Scope(), store.AllTime)
			if err != nil {
				return err
			}
			c.Key = key
			return show(cmd, api.CountOf(c), view.Counts([]store.Count{c}, policy))
		}
		counts, err := store.AllUserCounts(ctx, db, o.user)
		if err != nil {
			return err
		}
		return show(cmd, struct {
			User   store.ID    `json:"user_id"`
			Counts []api.Count `json:"counts"`
		}{o.user, api.CountsOf(counts)}, view.Counts(counts, policy))
	})
}
