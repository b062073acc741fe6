package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/watched"
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
           mended; it exits with 1 if a check fails. If neither serve nor sweep
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
		Flags: []cli.Flag{
			databaseFlag(),
			&cli.StringFlag{Name: "url", Category: flagsWhat, Usage: "the `URL` of the receiver; without a path, it gets " + migrations.ReceiverPath},
			&cli.DurationFlag{Name: "timeout", Category: flagsWhat, Value: 5 * time.Second, Usage: "the `DURATION` that pg_net waits for an answer, 1s to 1m"},
			&cli.BoolFlag{Name: "finish", Category: flagsWhat, Usage: "of rotate: the receiver knows the second secret, drop the first"},
			&cli.BoolFlag{Name: "cancel", Category: flagsWhat, Usage: "of rotate: drop the second secret"},
			&cli.BoolFlag{Name: "yes", Category: flagsWhat, Usage: "say that remove is meant"},
			tableFlag(), leaseFlag(), columnFlag(), statusFlag(), anyCaseFlag(), zoneFlag(), timesFlag(), descriptionFlag(), jsonFlag(),
		},
		Action: action(webhookAction),
	}
}

func webhookAction(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(1, cmd); err != nil {
		return err
	}
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

// webhookOf reads what the webhook shall be.
func webhookOf(cmd *cli.Command) (migrations.Webhook, error) {
	table, err := decoderOf(cmd)
	if err != nil {
		return migrations.Webhook{}, err
	}
	if cmd.String("url") == "" {
		return migrations.Webhook{}, badUsage("say where to: add --url https://HOST, where runcounter serve can be reached from the database")
	}
	said, err := overridesOf(cmd)
	if err != nil {
		return migrations.Webhook{}, err
	}
	if table.LeaseColumn != "" {
		said = watched.Overrides{Columns: map[watched.Role]string{watched.Lease: table.LeaseColumn}}.Over(said)
	}
	w, err := migrations.Webhook{URL: cmd.String("url"), Timeout: cmd.Duration("timeout"), Schema: table.Schema, Table: table.Table, Said: said}.Check()
	if err != nil {
		return w, badUsage("%w", err)
	}
	return w, nil
}

// withWebhook works on the webhook of the database that is told of.
func withWebhook(ctx context.Context, cmd *cli.Command, do func(*migrations.WebhookSwitch) error) error {
	if err := mustBePostgres(cmd); err != nil {
		return err
	}
	s, err := migrations.OpenWebhook(ctx, cmd.String("database-url"))
	if errors.Is(err, migrations.ErrAddress) {
		return badUsage("DATABASE_URL is %w", err)
	}
	if err != nil {
		return err
	}
	err = do(s)
	if errors.Is(err, migrations.ErrRotation) || errors.Is(err, migrations.ErrSealed) {
		err = answerNo(err)
	}
	return errors.Join(err, s.Close())
}

func mustBePostgres(cmd *cli.Command) error {
	if isPostgres(cmd.String("database-url")) {
		return nil
	}
	return badUsage("a webhook is installed in the PostgreSQL database of the runs: name it with --database-url postgres://USER:PASSWORD@HOST:5432/NAME")
}

func webhookInstall(ctx context.Context, cmd *cli.Command) error {
	w, err := webhookOf(cmd)
	if err != nil {
		return err
	}
	return withWebhook(ctx, cmd, func(s *migrations.WebhookSwitch) error {
		if !cmd.IsSet("table") {
			if w.Schema, w.Table, err = s.Watched(); err != nil {
				return err
			}
		}
		made, err := s.Install(w)
		if errors.Is(err, migrations.ErrSealed) {
			return fmt.Errorf("the webhook is there, but %w", err)
		}
		if err != nil {
			return err
		}
		if cmd.Bool("json") {
			return printJSON(cmd.Root().Writer, struct {
				URL    string `json:"url"`
				Table  string `json:"table"`
				Secret string `json:"secret"`
			}{w.URL, w.Schema + "." + w.Table, made.Secret})
		}
		_, err = fmt.Fprintf(cmd.Root().Writer, `The webhook of %s.%s sends to %s

Its receiver knows it by this secret, beside those that it has already:

  export RUNCOUNTER_WEBHOOK_SECRET='%s'

%sThen look what becomes of the calls: runcounter webhook status
`, w.Schema, w.Table, w.URL, made.Secret, mirrorNeeds(made.Table))
		return err
	})
}

// mirrorNeeds says how a mirror is told of a table that is not called as ours.
func mirrorNeeds(told watched.Overrides) string {
	args := told.Args()
	if len(args) == 0 {
		return ""
	}
	return `A receiver that counts in this database knows the table's names and words. One
that is a mirror is told of them:

  runcounter serve ` + strings.Join(args, " \\\n    ") + "\n\n"
}

func webhookPrint(cmd *cli.Command) error {
	w, err := webhookOf(cmd)
	if err != nil {
		return err
	}
	if w.Said.Zone != "" && w.Said.Times != "" {
		return badUsage("--timezone and --times say that the table has times of two kinds, and which column is of which has to be looked at: use runcounter webhook install")
	}
	text, err := w.Script()
	if err != nil {
		return err
	}
	_, err = io.WriteString(cmd.Root().Writer, text)
	return err
}

func webhookRotate(ctx context.Context, cmd *cli.Command) error {
	if cmd.Bool("finish") && cmd.Bool("cancel") {
		return badUsage("a rotation is finished or taken back: leave out --finish or --cancel")
	}
	return withWebhook(ctx, cmd, func(s *migrations.WebhookSwitch) error {
		var secret string
		var err error
		text := "Requests are signed with the second secret alone. The receiver can forget the first.\n"
		switch {
		case cmd.Bool("finish"):
			err = s.FinishRotation()
		case cmd.Bool("cancel"):
			text = "Requests are signed with the first secret alone.\n"
			err = s.CancelRotation()
		default:
			secret, err = s.Rotate()
			text = fmt.Sprintf(`Requests are signed with two secrets from now on. This is the second:

  %[1]s

Give it to the receiver, in place of the first or beside it, and restart that:

  export RUNCOUNTER_WEBHOOK_SECRET='%[1]s'

Then drop the first: runcounter webhook rotate --finish
`, secret)
		}
		switch {
		case err != nil:
			return err
		case cmd.Bool("json"):
			return printJSON(cmd.Root().Writer, struct {
				Rotating bool   `json:"rotating"`
				Secret   string `json:"secret,omitempty"`
			}{secret != "", secret})
		}
		_, err = io.WriteString(cmd.Root().Writer, text)
		return err
	})
}

func webhookRemove(ctx context.Context, cmd *cli.Command) error {
	if !cmd.Bool("yes") {
		return badUsage("webhook remove ends the deliveries and drops the secret: add --yes if that is meant")
	}
	return withWebhook(ctx, cmd, func(s *migrations.WebhookSwitch) error {
		if err := s.Remove(); err != nil {
			return err
		}
		if cmd.Bool("json") {
			return printJSON(cmd.Root().Writer, struct {
				Removed bool `json:"removed"`
			}{true})
		}
		_, err := io.WriteString(cmd.Root().Writer, "The webhook and its secret are gone. What was queued is still sent.\n")
		return err
	})
}

func webhookAcknowledge(ctx context.Context, cmd *cli.Command) error {
	return withWebhook(ctx, cmd, func(s *migrations.WebhookSwitch) error {
		n, err := s.Acknowledge()
		if errors.Is(err, migrations.ErrWebhook) {
			return answerNo(err)
		}
		if err != nil {
			return err
		}
		if cmd.Bool("json") {
			return printJSON(cmd.Root().Writer, struct {
				Acknowledged int64 `json:"acknowledged"`
			}{n})
		}
		text := "No loss was known, so there was nothing to acknowledge.\n"
		if n > 0 {
			text = fmt.Sprintf("%s acknowledged: nothing names them any more.\n", quantity(n, "lost call or statement is", "lost calls and statements are"))
		}
		_, err = io.WriteString(cmd.Root().Writer, text)
		return err
	})
}

// webhookStatus prints those of doctor's checks that concern webhooks. First it
// settles what is known of calls, since perhaps no sweep does.
func webhookStatus(ctx context.Context, cmd *cli.Command) error {
	if err := mustBePostgres(cmd); err != nil {
		return err
	}
	source, err := openInspected(ctx, cmd)
	if err != nil {
		return err
	}
	defer source.DB.Close()
	if _, err := source.DB.Link(ctx); err != nil {
		return err
	}
	if err := postgres.Settle(ctx, cmd.String("database-url")); err != nil {
		fmt.Fprintf(cmd.Root().ErrWriter, "What became of calls could not be written down: %v\n", err)
	}
	return printReport(cmd, source.ExamineWebhook(ctx), false)
}
