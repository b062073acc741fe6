package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

func webhookAcknowledge(ctx context.Context, cmd *cli.Command) error {
	return withWebhook(ctx, cmd, func(s *migrations.WebhookSwitch) error {
		n, err := s.Acknowledge()
		if err != nil {
			return err
		}
		text := "No loss was known, so there was nothing to acknowledge.\n"
		if n > 0 {
			text = fmt.Sprintf("%s acknowledged: nothing names them any more.\n", store.Quantity(n, "lost call or statement is", "lost calls and statements are"))
		}
		return show(cmd, struct {
			Acknowledged int64 `json:"acknowledged"`
		}{n}, text)
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
