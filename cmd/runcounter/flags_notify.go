package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/webhook/notify"
)

func notifyFlags() []cli.Flag {
	return []cli.Flag{
		noneFlag("notify-url", flagsLog, "post to this `URL` when what doctor finds turns, and when a user nears a limit", "RUNCOUNTER_NOTIFY_URL"),
		noneFlag("notify-secret", flagsWho, "the `SECRET` that signs what is posted there: whsec_ and base64; several separated by commas each sign", "RUNCOUNTER_NOTIFY_SECRET"),
		&cli.IntFlag{
			Name: "notify-share", Category: flagsLog, Value: store.NearShare, Sources: cli.EnvVars("RUNCOUNTER_NOTIFY_SHARE"),
			Usage: "the share of a limit from which on it is posted, 80 to 100 `PERCENT`",
		},
	}
}

// notifyOf reads them; nil where nothing is to be notified.
func notifyOf(cmd *cli.Command, db backend) (*notify.Settings, error) {
	s := &notify.Settings{
		URL: cmd.String("notify-url"), Secrets: notify.SplitSecrets(cmd.String("notify-secret")), Share: cmd.Int("notify-share"), Where: db.where,
		Examine: func(ctx context.Context) (report.Report, error) { return diagnose(ctx, cmd) },
	}
	if s.URL == "" {
		return nil, nil //nolint:nilnil // there is nothing to notify, and no error
	}
	if err := s.Validate(); err != nil {
		return nil, badUsage("--notify-url: %w", err)
	}
	return s, nil
}
