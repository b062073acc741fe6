package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func grantCommand() *cli.Command {
	return &cli.Command{
		Name:     "grant",
		Category: groupMaintain,
		Usage:    "gives a user runs on top of a limit, lists what was given, and revokes it",
		UsageText: "runcounter grant give --user ID [--workflow ID | --draft ID] --runs N --who NAME --why TEXT [flags]\n" +
			"runcounter grant list [--user ID [--workflow ID | --draft ID]] [flags]\nruncounter grant revoke NUMBER --who NAME --why TEXT [flags]",
		Description: `A grant raises a limit until it expires or is revoked. One of a workflow or draft
raises the limit of that and of its user; one of a user alone raises the user's.
It takes the place of deleting runs to refill a user's quota: the runs stay, and
so does who decided it and why.

  give    gives runs; with --idempotency-key the same command gives them once
  list    prints the grants, latest first, revoked and expired ones included
  revoke  ends a grant; what was begun under it stays begun

Examples:
  runcounter grant give --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa --runs 10 --who ada --why "refund 4711"
  runcounter grant list --user 11111111-1111-4111-8111-111111111111
  runcounter grant revoke 7 --who ada --why "given to the wrong user"`,
		Flags: []cli.Flag{
			userFlag(), workflowFlag(), draftFlag(),
			&cli.Int64Flag{Name: "runs", Category: flagsWhat, Usage: "with give: how many runs, `N`"},
			&cli.StringFlag{Name: "who", Category: flagsWhat, Usage: "the `NAME` of who decided it"},
			&cli.StringFlag{Name: "why", Category: flagsWhat, Usage: "the reason, a `TEXT`"},
			&cli.StringFlag{Name: "expires", Category: flagsWhat, DefaultText: "never", Usage: "with give: until which `TIME` it raises the limit"},
			&cli.StringFlag{Name: "idempotency-key", Category: flagsWhat, Usage: "with give: a `KEY` of the user's, with which it is given once"},
			&cli.Int64Flag{Name: "before", Category: flagsWhat, Usage: "with list: those with a smaller `NUMBER`, where a page ended"},
			&cli.IntFlag{Name: "max", Category: flagsWhat, Value: 100, Usage: "with list: at most `N` of them"},
			descriptionFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(2, grant),
	}
}

func grant(ctx context.Context, cmd *cli.Command) error {
	do, known := map[string]func(context.Context, *cli.Command) error{"give": giveGrant, "list": listGrants, "revoke": revokeGrant}[cmd.Args().First()]
	if !known {
		return badUsage("say what to do: runcounter grant give, list or revoke")
	}
	if number := cmd.Args().Get(1); number != "" && cmd.Args().First() != "revoke" {
		return badUsage("grant %s takes no number: %q", cmd.Args().First(), number)
	}
	return do(ctx, cmd)
}

func giveGrant(ctx context.Context, cmd *cli.Command) error {
	o, err := ownerOf(cmd)
	if err != nil {
		return err
	}
	now := store.Instant(time.Now())
	g := store.GrantRequest{Runs: cmd.Int64("runs"), Who: cmd.String("who"), Why: cmd.String("why"), IdempotencyKey: cmd.String("idempotency-key"), Now: now}
	if g.ExpiresAt, err = timeOf(cmd, "expires"); err != nil {
		return err
	}
	switch {
	case g.Runs < 1:
		return badUsage("say how many: add --runs N")
	case g.Who == "" || g.Why == "":
		return badUsage("a grant is kept with who decided it and why: add --who NAME and --why TEXT")
	}
	return withStore(ctx, cmd, func(db backend) error {
		if o, err = o.in(ctx, db); err != nil {
			return err
		}
		if o.user.IsZero() {
			return badUsage("say whose: add --user ID")
		}
		g.User, g.Workflow, g.Draft = o.user, o.workflow, o.draft
		made, err := db.Grant(ctx, g)
		if err != nil {
			return notGiven(g, err)
		}
		return show(cmd, api.MadeGrant{Grant: api.GrantOf(made.Grant, now), Created: made.Created}, view.Granted(made))
	})
}

// notGiven is the error of a grant, which may have been made all the same where the
// database did not answer.
func notGiven(g store.GrantRequest, err error) error {
	if g.IdempotencyKey == "" && errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("it is not known whether the runs were granted: look at runcounter grant list, and add --idempotency-key KEY, with which the command may be repeated: %w", err)
	}
	return err
}

func listGrants(ctx context.Context, cmd *cli.Command) error {
	q := store.GrantQuery{Before: cmd.Int64("before"), Limit: cmd.Int("max")}
	if q.Limit < 1 || q.Limit > maxListed || q.Before < 0 {
		return badUsage("--max and --before must be 1 or more, and --max at most %d", maxListed)
	}
	q.Limit++ // one more than a page says whether there is a next one
	of := owner{}
	if cmd.IsSet("user") || cmd.IsSet("workflow") || cmd.IsSet("draft") {
		var err error
		if of, err = ownerOf(cmd); err != nil {
			return err
		}
	}
	now := store.Instant(time.Now())
	return withStore(ctx, cmd, func(db backend) (err error) {
		if of != (owner{}) {
			if of, err = of.in(ctx, db); err != nil {
				return err
			}
			if q.Of = store.ScopeOf(of.user, of.workflow, of.draft); of.user.IsZero() {
				return badUsage("a grant is a user's: add --user ID")
			}
		}
		grants, err := db.Grants(ctx, q)
		if err != nil {
			return err
		}
		grants, next := api.PageOf(grants, q.Limit-1, func(g store.Grant) int64 { return g.Seq })
		return show(cmd, api.GrantPage{Grants: api.GrantsOf(grants, now), Next: next}, view.Grants(grants, next, now))
	})
}

func revokeGrant(ctx context.Context, cmd *cli.Command) error {
	r := store.RevokeRequest{Who: cmd.String("who"), Why: cmd.String("why"), Now: store.Instant(time.Now())}
	var err error
	if r.Seq, err = strconv.ParseInt(cmd.Args().Get(1), 10, 64); err != nil || r.Seq < 1 {
		return badUsage("say which: runcounter grant revoke NUMBER; runcounter grant list shows them")
	}
	if r.Who == "" || r.Why == "" {
		return badUsage("a grant is revoked with who decided it and why: add --who NAME and --why TEXT")
	}
	return withStore(ctx, cmd, func(db backend) error {
		g, err := db.RevokeGrant(ctx, r)
		if errors.Is(err, store.ErrNotFound) {
			return failed(fmt.Errorf("there is no grant %d; runcounter grant list shows them", r.Seq))
		}
		if err != nil {
			return err
		}
		return show(cmd, api.GrantOf(g, r.Now), view.Revoked(g))
	})
}
