package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:      "audit",
		Category:  groupMaintain,
		Usage:     "compares every count with the runs behind it",
		UsageText: "runcounter audit [flags]",
		Description: `It writes nothing. The exit code is 1 where a count is wrong, which should never
happen; runcounter recount --all-drifting corrects it. Where all are right, the count
of each workflow and draft over all users is compared with those of its users. It
also reports what is not counted: runs without a user, or without a workflow and
draft, and runs with an unknown status; and says of the first twenty what each needs.
runcounter runs --odd lists them all.

Examples:
  runcounter audit
  runcounter audit --json || runcounter recount --all-drifting`,
		Flags:  []cli.Flag{descriptionFlag(), databaseFlag(), jsonFlag()},
		Action: action(0, audit),
	}
}

func audit(ctx context.Context, cmd *cli.Command) error {
	return withStore(ctx, cmd, func(db backend) error {
		if err := mustStore(db); err != nil {
			return err
		}
		found, err := store.AuditAll(ctx, db, db)
		if err != nil {
			return err
		}
		partitions, err := db.partitions(ctx)
		if err != nil {
			return err
		}
		if err := show(cmd, api.AuditOf(found, db.source), view.Audit(found, partitions, db.source)); err != nil {
			return err
		}
		if found.Wrong() {
			return failed(nil)
		}
		return nil
	})
}

// mustStore refuses to compare the stored counts of a source that has none:
// that each of them is right would be true, and no answer.
func mustStore(db backend) error {
	if !db.direct {
		return nil
	}
	return failed(errors.New("there are no stored counts to audit: the database has no migrations of Run Counter, " +
		"so each count is counted when it is asked for; runcounter migrate up makes them"))
}
