package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/webhook/console"
)

// console returns the settings of the pages: what they show and do beyond the store.
func (s settings) console(cmd *cli.Command, db backend, sweeper *store.Sweeper) *console.Settings {
	all := &console.Settings{
		Where: db.where, Source: db.source, Limits: sweeper.Limits, Role: cmd.String("console-role"),
		Doctor: func(ctx context.Context) []report.Finding {
			r, err := diagnose(ctx, cmd)
			if err != nil {
				return []report.Finding{doctor.NotChecked("", err)}
			}
			return r.Checks
		},
		Sweep: func(ctx context.Context, full bool) (store.SweepReport, error) {
			return sweeper.Sweep(ctx, store.SweepOptions{Full: full})
		},
		Swept: sweeper.Status, Statistics: db,
	}
	all.Names = db.names
	if !db.direct {
		all.Activity = db
	}
	if db.asked != nil {
		all.Webhooks = func(ctx context.Context) (store.Deliveries, error) { return db.asked.Deliveries(ctx, time.Now()) }
	}
	return all
}
