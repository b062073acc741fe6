package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func countCommand() *cli.Command {
	return &cli.Command{
		Name:     "count",
		Category: groupAsk,
		Usage:    "prints how many runs of a workflow, draft or user count",
		UsageText: "runcounter count --user ID [--workflow ID | --draft ID] [--from TIME] [--to TIME] [flags]\n" +
			"runcounter count (--workflow ID | --draft ID) [--from TIME] [--to TIME] [flags]",
		Description: `Without a workflow or draft it lists all counts of the user; without a user it
counts those of all users together. --from and --to count the runs that ended in a
window; of a user, and of all users together, that needs an index, which migrate up
makes with --user-windows or --workflow-windows. With --kind, --from or --to a
user's runs are one count. It is exact at the moment of asking; which runs count is
the policy of the database.

Examples:
  runcounter count --user 11111111-1111-4111-8111-111111111111
  runcounter count --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa --json
  runcounter count --user 11111111-1111-4111-8111-111111111111 \
    --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z
  runcounter count --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa`,
		Flags: []cli.Flag{
			userFlag(), workflowFlag(), draftFlag(),
			&cli.StringFlag{Name: "kind", Category: flagsWhat, DefaultText: "all", Usage: "of a user's runs, those of a `KIND`: workflow or draft"},
			fromFlag("the runs that ended at a `TIME` or later"),
			&cli.StringFlag{Name: "to", Category: flagsWhat, DefaultText: "all time", Usage: "the runs that ended before a `TIME`"},
			descriptionFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(0, count),
	}
}

func count(ctx context.Context, cmd *cli.Command) error {
	o, err := ownerOf(cmd)
	if err != nil {
		return err
	}
	in, kind, err := windowOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error {
		of, err := scopeOf(ctx, db, o, kind)
		if err != nil {
			return err
		}
		policy, err := db.Policy(ctx)
		if err != nil {
			return err
		}
		if of.OfUser() && kind == "" && in == store.AllTime {
			return listCounts(ctx, cmd, db, of.User, policy)
		}
		c, err := db.Count(ctx, of, in)
		if err != nil {
			return err
		}
		c.Key = store.Key(of)
		return show(cmd, api.ScopedCountOf(c, of, in), view.Count(c, in, policy))
	})
}

// windowOf reads the flags by which one count of a user is made of their counts.
func windowOf(cmd *cli.Command) (in store.Window, kind store.Kind, err error) {
	if in.From, err = timeOf(cmd, "from"); err != nil {
		return in, kind, err
	}
	if in.To, err = timeOf(cmd, "to"); err != nil {
		return in, kind, err
	}
	if cmd.String("kind") != "" {
		text, err := oneOf(cmd, "kind", string(store.KindWorkflow), string(store.KindDraft))
		if err != nil {
			return in, kind, err
		}
		kind = store.Kind(text)
	}
	return in, kind, in.Validate()
}

// scopeOf returns whose runs the flags name, in a table that may have no users or no
// workflows.
func scopeOf(ctx context.Context, db database, o owner, kind store.Kind) (store.Scope, error) {
	o, err := o.in(ctx, db)
	if err != nil {
		return store.Scope{}, err
	}
	of := store.ScopeOf(o.user, o.workflow, o.draft)
	switch {
	case kind != "" && !of.OfUser():
		return of, badUsage("--kind is for a count of all runs of a user: leave it out, or leave out --workflow and --draft")
	case kind != "":
		of.Kind = kind
	}
	if of.User.IsZero() && o.workflow == store.Absent {
		return of, badUsage("say whose: add --user ID")
	}
	return of, nil
}

// listCounts lists the counts of a user, one for each workflow and draft.
func listCounts(ctx context.Context, cmd *cli.Command, db backend, user store.ID, policy store.Policy) error {
	counts, err := store.AllUserCounts(ctx, db, user)
	if err != nil {
		return err
	}
	return show(cmd, struct {
		User   store.ID    `json:"user_id"`
		Counts []api.Count `json:"counts"`
	}{user, api.CountsOf(counts)}, view.Counts(counts, policy))
}
