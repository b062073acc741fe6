package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
)

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
		if err != nil {
			return err
		}
		return show(cmd, struct {
			Rotating bool   `json:"rotating"`
			Secret   string `json:"secret,omitempty"`
		}{secret != "", secret}, text)
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
		return show(cmd, struct {
			Removed bool `json:"removed"`
		}{true}, "The webhook and its secret are gone. What was queued is still sent.\n")
	})
}
