package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store/doctor"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/webhook"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Category:  groupMaintain,
		Usage:     "checks an installation, and says what is wrong and how to fix it",
		UsageText: "runcounter doctor [--strict] [flags]",
		Description: `It changes nothing, and works without a running server. Each line is ok, a WARNING
or a FAILURE with its fix: connection, role, migrations, functions, triggers and
the order in which they fire, the guard, webhooks and lost calls, counts, stuck
runs, the ledger, old snapshots, clocks, and the configuration that serve would
have with the same environment.

The exit code is 1 where something fails; warnings alone leave it at 0, or make
it 1 with --strict. What the role of DATABASE_URL may not read is a warning.

Examples:
  runcounter doctor
  runcounter doctor --json | jq -r '.checks[] | select(.status != "ok") | .fix'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "strict", Category: flagsWhat, Usage: "exit with 1 for warnings too"},
			databaseFlag(), listenFlag(), portFlag(), secretFlag(), keyFlag(), policyFlag(), leaseFlag(), stuckFlag(), jsonFlag(),
		},
		Action: action(0, runDoctor),
	}
}

func runDoctor(ctx context.Context, cmd *cli.Command) error {
	r, err := diagnose(ctx, cmd)
	if err != nil {
		return err
	}
	return printReport(cmd, r, cmd.Bool("strict"))
}

// diagnose examines the installation that the flags name.
func diagnose(ctx context.Context, cmd *cli.Command) (report.Report, error) {
	if isPostgres(cmd.String("database-url")) {
		source, err := openInspected(ctx, cmd)
		if err != nil {
			return report.Report{}, err
		}
		defer source.DB.Close()
		return source.Examine(ctx), nil
	}
	path, err := sqlitePath(cmd.String("database-url"))
	if err != nil {
		return report.Report{}, err
	}
	return doctor.Mirror(ctx, path, doctorConfig(cmd, false)), nil
}

// openInspected opens the source of --database-url for doctor to look at.
func openInspected(ctx context.Context, cmd *cli.Command) (*doctor.Source, error) {
	return doctor.OpenSource(ctx, cmd.String("database-url"), doctorConfig(cmd, true))
}

// doctorConfig returns the configuration that serve would have by the same flags and
// environment.
func doctorConfig(cmd *cli.Command, source bool) doctor.Config {
	secrets, secretErr := webhook.ParseSecrets(cmd.String("webhook-secret"))
	keys, keyErr := keysOf(cmd)
	return doctor.Config{
		Listen: listenOf(cmd), Policy: cmd.String("count-policy"), LeaseColumn: cmd.String("lease-column"),
		StuckAfter: cmd.String("stuck-after"), Presumes: presumes(cmd, source),
		WebhookSecret: doctor.Credential{Set: !secrets.IsZero(), Err: secretErr},
		APIKey:        doctor.Credential{Set: len(keys) > 0, Err: keyErr},
	}
}

// printReport prints a report. Its error makes the exit code 1 if a check failed or,
// if strict, warned.
func printReport(cmd *cli.Command, r report.Report, strict bool) error {
	if err := show(cmd, r, r.Text()); err != nil {
		return err
	}
	if r.Failures > 0 || r.Warnings > 0 && strict {
		return failed(nil)
	}
	return nil
}
