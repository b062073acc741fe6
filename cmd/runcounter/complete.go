package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func completeCommand() *cli.Command {
	return &cli.Command{
		Name:      "complete",
		Category:  groupAsk,
		Usage:     "ends a run, unless it has ended already",
		UsageText: "runcounter complete RUN-ID --status STATUS [flags]",
		Description: `The first outcome wins. To lose is a result and not an error: the exit code is 0,
won is false, and the outcome that stands is printed. It is safe to try again.

Examples:
  runcounter complete 00000000-0000-4000-8000-000000000001 --status completed
  runcounter complete 00000000-0000-4000-8000-000000000001 --status failed \
    --duration-ms 4210 --error-details '{"code":"NODE_ERROR"}' --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "status", Category: flagsWhat, Usage: "the outcome, a `STATUS`: completed, failed, cancelled or timeout"},
			&cli.Int64Flag{Name: "duration-ms", Category: flagsWhat, DefaultText: "from the run's start", Usage: "how long the run took, in `MS`"},
			&cli.StringFlag{Name: "error-details", Category: flagsWhat, Usage: "what went wrong, as `JSON`"},
			&cli.StringFlag{Name: "state-snapshot", Category: flagsWhat, Usage: "the final state, as `JSON`"},
			descriptionFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(1, complete),
	}
}

func complete(ctx context.Context, cmd *cli.Command) error {
	completion, err := completionOf(cmd, time.Now())
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error {
		result, err := db.Complete(ctx, completion)
		if err != nil {
			return fmt.Errorf("complete run %s: %w", completion.ID.Shown(), err)
		}
		return show(cmd, api.CompletedRunOf(result), view.Completed(result))
	})
}

func completionOf(cmd *cli.Command, now time.Time) (store.Completion, error) {
	c := store.Completion{Now: store.Instant(now)}
	if !cmd.Args().Present() {
		return c, badUsage("say which run: runcounter complete RUN-ID --status STATUS")
	}
	id, err := store.ParseID(cmd.Args().First())
	if err != nil {
		return c, badUsage("the run's id %q is %w: write it as the table has it", cmd.Args().First(), err)
	}
	status, err := oneOf(cmd, "status", "completed", "failed", "cancelled", "timeout")
	if err != nil {
		return c, err
	}
	c.ID, c.Outcome.Status = id, store.Status(status)
	for name, into := range map[string]*store.JSON{"error-details": &c.Outcome.ErrorDetails, "state-snapshot": &c.Outcome.Snapshot} {
		text := cmd.String(name)
		if text != "" && !json.Valid([]byte(text)) {
			return c, badUsage("--%s is not JSON: quote it for the shell, such as --%s '{\"code\":\"NODE_ERROR\"}'", name, name)
		}
		if text != "null" {
			*into = store.JSON(text)
		}
	}
	if cmd.IsSet("duration-ms") {
		if cmd.Int64("duration-ms") < 0 {
			return c, badUsage("--duration-ms must be 0 or more")
		}
		c.Outcome.DurationMS = store.MillisOf(cmd.Int64("duration-ms"))
	}
	return c, nil
}
