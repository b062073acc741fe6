package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Category:  groupAsk,
		Usage:     "says what happened to a run, or how a count comes about",
		UsageText: "runcounter explain RUN-ID [flags]\nruncounter explain --user ID (--workflow ID | --draft ID) [flags]",
		Description: `Of a run it tells whether it is counted, why, and what was done to it: repairs
by a sweep, decisions of administrators. Of a count it tells both sides, what
is stored and what the runs say, the runs behind it, and every recount.

Examples:
  runcounter explain 10000000-0000-4000-8000-000000000001
  runcounter explain --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa`,
		Flags: []cli.Flag{
			userFlag(), workflowFlag(), draftFlag(),
			&cli.IntFlag{Name: "runs", Category: flagsWhat, Value: 20, Usage: "list at most `N` runs behind a count"},
			descriptionFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(1, explain),
	}
}

func explain(ctx context.Context, cmd *cli.Command) error {
	if text := cmd.Args().First(); text != "" {
		if cmd.IsSet("user") || cmd.IsSet("workflow") || cmd.IsSet("draft") {
			return badUsage("name a run, or a count with --user and --workflow or --draft, but not both")
		}
		id, err := store.ParseID(text)
		if err != nil {
			return badUsage("the run's id %q is %w: write it as the table has it", text, err)
		}
		return withStore(ctx, cmd, func(db backend) error { return explainRun(ctx, cmd, db, id) })
	}
	if !cmd.IsSet("user") && !cmd.IsSet("workflow") {
		return badUsage("say what to explain: runcounter explain RUN-ID, or --user with --workflow or --draft")
	}
	o, err := ownerOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error { return explainKey(ctx, cmd, db, o) })
}

func explainRun(ctx context.Context, cmd *cli.Command, db backend, id store.ID) error {
	h, err := db.History(ctx, id)
	if err != nil {
		return err
	}
	if !h.Found && h.DeletedAt.IsZero() && len(h.Repairs)+len(h.Amendments) == 0 {
		return failed(fmt.Errorf("run %s: %w; was it deleted, or is this another database?", id.Shown(), store.ErrNotFound))
	}
	return show(cmd, api.HistoryOf(h), view.History(id, h))
}

func explainKey(ctx context.Context, cmd *cli.Command, db backend, o owner) error {
	key, err := o.key(ctx, db)
	if err == nil && key.IsZero() {
		err = badUsage("say which of the user's counts: add --workflow or --draft; runcounter count --user lists them")
	}
	if err != nil {
		return err
	}
	limit := cmd.Int("runs")
	if limit < 0 || limit > 10_000 {
		return badUsage("--runs must be between 0 and 10000")
	}
	h, err := db.KeyHistory(ctx, key, limit)
	if err != nil {
		return err
	}
	err = show(cmd, api.KeyHistoryOf(h), view.KeyHistory(h))
	if err == nil && h.Drift.Wrong() {
		err = failed(nil)
	}
	return err
}
