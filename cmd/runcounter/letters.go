package main

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func deadLettersCommand() *cli.Command {
	return &cli.Command{
		Name:     "dead-letters",
		Category: groupMaintain,
		Usage:    "shows, replays and drops what could not be read",
		UsageText: "runcounter dead-letters list [flags]\nruncounter dead-letters show NUMBER [flags]\n" +
			"runcounter dead-letters replay | drop (NUMBER | --reason TEXT | --until TIME | --all) [flags]",
		Description: `A change that was authenticated but can't be read is kept by itself, and so is a
body that is not JSON: the newest 1,000, up to 1 MiB of each and 64 MiB of all,
for 30 days.

  list    prints them, latest first: when each came, and why it was refused
  show    prints one with its body
  replay  reads them with this program and applies them; those that are applied
          are dropped, those that still can't be read stay. Repeating it is safe
  drop    drops them for good

Examples:
  runcounter dead-letters list --reason status
  runcounter dead-letters show 7
  runcounter dead-letters replay --all
  runcounter dead-letters drop --until 2026-01-31T12:00:00Z`,
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "reason", Category: flagsWhat, Usage: "those whose reason contains `TEXT`, whatever its case"},
			&cli.StringFlag{Name: "until", Category: flagsWhat, Usage: "those received before a `TIME`"},
			&cli.StringFlag{Name: "before", Category: flagsWhat, Usage: "those with a smaller `NUMBER`: where a page ended"},
			&cli.IntFlag{Name: "max", Category: flagsWhat, Value: 100, Usage: "list at most `N` of them"},
			&cli.BoolFlag{Name: "all", Category: flagsWhat, Usage: "say that all of them are meant"},
			tableFlag(flagsRules, usageTable), partitionsFlag(),
		}, overrideFlags(claimFlag()), []cli.Flag{leaseFlag(), databaseFlag(), jsonFlag()}),
		Action: action(2, deadLetters),
	}
}

func deadLetters(ctx context.Context, cmd *cli.Command) error {
	do, known := map[string]func(context.Context, *cli.Command, backend, store.DeadLetterQuery) error{
		"list": listLetters, "show": showLetter, "replay": replayLetters, "drop": dropLetters,
	}[cmd.Args().First()]
	if !known {
		return badUsage("say what to do: runcounter dead-letters list, show, replay or drop")
	}
	q, err := lettersOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error { return do(ctx, cmd, db, q) })
}

func listLetters(ctx context.Context, cmd *cli.Command, db backend, q store.DeadLetterQuery) error {
	q.Limit++ // one more than a page says whether there is a next one
	letters, err := db.DeadLetters(ctx, q)
	if err != nil {
		return err
	}
	letters, next := api.PageOf(letters, q.Limit-1, func(d store.DeadLetter) int64 { return d.Seq })
	return show(cmd, api.LetterPage{Letters: api.LettersOf(letters), Next: next}, view.Letters(letters, next))
}

func showLetter(ctx context.Context, cmd *cli.Command, db backend, q store.DeadLetterQuery) error {
	letters, err := db.DeadLetters(ctx, q)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		return webhook.ErrNoLetter
	}
	return show(cmd, api.LetterWithBodyOf(letters[0], utf8.Valid), view.Letter(letters[0]))
}

func dropLetters(ctx context.Context, cmd *cli.Command, db backend, q store.DeadLetterQuery) error {
	dropped, err := db.DropDeadLetters(ctx, q)
	if err != nil {
		return err
	}
	if dropped == 0 && q.Seq != 0 {
		return webhook.ErrNoLetter
	}
	return show(cmd, api.LettersDropped{Dropped: dropped}, fmt.Sprintf("Dropped %s.\n", store.Quantity(int64(dropped), "dead letter", "dead letters")))
}
