package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func countCommand() *cli.Command {
	return &cli.Command{
		Name:      "count",
		Category:  groupAsk,
		Usage:     "prints how many runs of a workflow or draft count",
		UsageText: "runcounter count --user ID [--workflow ID | --draft ID] [flags]\nruncounter count (--workflow ID | --draft ID) [flags]",
		Description: `Without a workflow or draft it lists all counts of the user; without a user it
counts those of all users together. The count is exact at the moment of asking;
which runs count is the policy of the database.

Examples:
  runcounter count --user 11111111-1111-4111-8111-111111111111
  runcounter count --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa --json
  runcounter count --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa`,
		Flags:  []cli.Flag{userFlag(), workflowFlag(), draftFlag(), descriptionFlag(), databaseFlag(), jsonFlag()},
		Action: action(count),
	}
}

func count(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(0, cmd); err != nil {
		return err
	}
	o, err := ownerOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error {
		key, err := o.total(ctx, db)
		ask := db.Total
		if err == nil && key.IsZero() {
			key, err = o.key(ctx, db)
			ask = db.Count
		}
		if err != nil {
			return err
		}
		if !key.IsZero() {
			c, err := ask(ctx, key)
			if err != nil {
				return err
			}
			c.Key = key
			if cmd.Bool("json") {
				return printJSON(cmd.Root().Writer, api.CountOf(c))
			}
			return printCounts(ctx, cmd, db, []store.Count{c})
		}
		counts, err := userCounts(ctx, db, o.user)
		if err != nil {
			return err
		}
		if !cmd.Bool("json") {
			return printCounts(ctx, cmd, db, counts)
		}
		all := make([]api.Count, 0, len(counts))
		for _, c := range counts {
			all = append(all, api.CountOf(c))
		}
		return printJSON(cmd.Root().Writer, struct {
			User   store.ID    `json:"user_id"`
			Counts []api.Count `json:"counts"`
		}{o.user, all})
	})
}

// userCounts pages through all keys of a user.
func userCounts(ctx context.Context, db backend, user store.ID) ([]store.Count, error) {
	const page = 1000
	var all []store.Count
	var after store.Key
	for {
		counts, err := store.UserCounts(ctx, db, user, after, page)
		if err != nil {
			return nil, err
		}
		all = append(all, counts...)
		if len(counts) < page {
			return all, nil
		}
		after = counts[page-1].Key
	}
}

func printCounts(ctx context.Context, cmd *cli.Command, db backend, counts []store.Count) error {
	out := cmd.Root().Writer
	if len(counts) == 0 {
		_, err := fmt.Fprintln(out, "No run of this user has ended yet, as far as this database has heard.")
		return err
	}
	policy, err := db.Policy(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"KIND", "ID", "COUNT", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "LAST RUN"}}
	for _, c := range counts {
		t := c.Tallies.Ended
		rows = append(rows, []string{
			string(c.Key.Kind), cell(c.Key.Ref), decimal(c.Count),
			decimal(t.Completed), decimal(t.Failed), decimal(t.Cancelled), decimal(t.Timeout),
			api.Instant(c.LastRunAt).String(),
		})
	}
	if counts[0].Key.User.IsZero() { // of a total it is not known when the last one ended
		for i, row := range rows {
			rows[i] = row[:len(row)-1]
		}
	}
	if err := printTable(out, rows); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\nThe count follows the policy %q: %s.\n", policy, countsWhich(policy))
	return err
}

func countsWhich(p store.Policy) string {
	text := "completed and failed runs count"
	if p.Terminal {
		text = "completed, failed, cancelled and timed-out runs count"
	}
	if p.ExceptPresumed {
		text += ", those that a sweep presumed ended don't"
	}
	return text
}
