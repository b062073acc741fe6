package main

import (
	"context"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
)

func webhookCommand() *cli.Command {
	return &cli.Command{
		Name:      "webhook",
		Category:  groupRun,
		Usage:     "installs a signed webhook in the database, and reports lost calls",
		UsageText: "runcounter webhook install | print | status | acknowledge | rotate | remove [flags]",
		Description: `  install  makes triggers on workflow_runs that send its changes to --url, signed,
           and prints the secret for the receiver's RUNCOUNTER_WEBHOOK_SECRET.
           A second install updates the triggers and keeps the secret
  print    prints the SQL of install for Supabase's SQL editor; it holds no secret
  status   checks it, and reports the last calls and all losses that are not
           recovered; it exits with 1 if a check fails. If neither serve nor sweep
           runs on the database, run it every hour
  acknowledge
           forgets the losses that status reports, since the receiver needs none
           of them: the mirror has the changes, or the runs are counted here. An
           import into the mirror does so by itself, except for deleted runs
  rotate   makes a second secret and signs with both; --finish drops the first
           once the receiver knows the second, --cancel drops the second
  remove   takes all of it away, its secret too

It needs Supabase's pg_net and Vault, and none of Run Counter's migrations: the
receiver may be a mirror elsewhere. --database-url names the database of the
table. A webhook of Supabase's own beside it does no harm, and the application's
statements never fail because of it.

Examples:
  runcounter webhook install --url https://counter.example.com
  runcounter webhook print --url https://counter.example.com > webhook.sql
  runcounter webhook rotate           # then tell the receiver, then:
  runcounter webhook rotate --finish`,
		Flags: slices.Concat([]cli.Flag{
			databaseFlag(),
			&cli.StringFlag{Name: "url", Category: flagsWhat, Usage: "the `URL` of the receiver; without a path, it gets " + migrations.ReceiverPath},
			&cli.DurationFlag{Name: "timeout", Category: flagsWhat, Value: 5 * time.Second, Usage: "the `DURATION` that pg_net waits for an answer, 1s to 1m"},
			&cli.BoolFlag{Name: "finish", Category: flagsWhat, Usage: "of rotate: the receiver knows the second secret, drop the first"},
			&cli.BoolFlag{Name: "cancel", Category: flagsWhat, Usage: "of rotate: drop the second secret"},
			&cli.BoolFlag{Name: "yes", Category: flagsWhat, Usage: "say that remove is meant"},
			tableFlag(flagsRules, usageTable), leaseFlag(),
		}, overrideFlags(), []cli.Flag{jsonFlag()}),
		Action: action(1, webhookAction),
	}
}

func webhookAction(ctx context.Context, cmd *cli.Command) error {
	switch cmd.Args().First() {
	case "install":
		return webhookInstall(ctx, cmd)
	case "print":
		return webhookPrint(cmd)
	case "status":
		return webhookStatus(ctx, cmd)
	case "acknowledge":
		return webhookAcknowledge(ctx, cmd)
	case "rotate":
		return webhookRotate(ctx, cmd)
	case "remove":
		return webhookRemove(ctx, cmd)
	}
	return badUsage("say what to do: runcounter webhook install, print, status, acknowledge, rotate or remove")
}
