package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/watched"
)

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
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
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
		table := w.Schema + "." + w.Table
		return show(cmd, struct {
			URL    string `json:"url"`
			Table  string `json:"table"`
			Secret string `json:"secret"`
		}{w.URL, table, made.Secret}, fmt.Sprintf(`The webhook of %s sends to %s

Its receiver knows it by this secret, beside those that it has already:

  export RUNCOUNTER_WEBHOOK_SECRET='%s'

%sThen see what becomes of the calls: runcounter webhook status
`, table, w.URL, made.Secret, mirrorNeeds(made.Table)))
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
		return badUsage("--timezone and --times say that the table has times of two kinds, and which column is of which has to be read from the table: use runcounter webhook install")
	}
	text, err := w.Script()
	if err != nil {
		return err
	}
	_, err = io.WriteString(cmd.Root().Writer, text)
	return err
}
