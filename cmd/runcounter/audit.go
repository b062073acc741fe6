package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:      "audit",
		Category:  groupMend,
		Usage:     "compares every count with the runs behind it",
		UsageText: "runcounter audit [flags]",
		Description: `It writes nothing. The exit code is 1 where a count is wrong, which should never
happen; runcounter recount --all-drifting mends it. It also reports what is not
counted: runs without a workflow or draft, and runs with an unknown status.

Examples:
  runcounter audit
  runcounter audit --json || runcounter recount --all-drifting`,
		Flags:  []cli.Flag{databaseFlag(), jsonFlag()},
		Action: action(audit),
	}
}

// healthJSON is what else deserves a look.
type healthJSON struct {
	Active        int64 `json:"active"`
	NoKey         int64 `json:"without_key"`
	UnknownStatus int64 `json:"unknown_status"`
	EndedTooSoon  int64 `json:"ended_too_soon"`
	Ledger        int64 `json:"ledger_rows"`
	DeadLetters   int64 `json:"dead_letters"`
}

func audit(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(0, cmd); err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db database) error {
		keys, drifts, err := auditAll(ctx, db)
		if err != nil {
			return err
		}
		health, err := db.Health(ctx)
		if err != nil {
			return err
		}
		if cmd.Bool("json") {
			err = printJSON(cmd.Root().Writer, struct {
				Keys     int         `json:"keys"`
				Drifting int         `json:"drifting"`
				Drifts   []driftJSON `json:"drifts"`
				Health   healthJSON  `json:"health"`
			}{keys, len(drifts), driftsJSON(drifts), healthJSON(health)})
		} else {
			err = printAudit(cmd, keys, drifts, health)
		}
		if err == nil && len(drifts) > 0 {
			err = answerNo(nil)
		}
		return err
	})
}

// auditAll compares all keys, a page in one snapshot.
func auditAll(ctx context.Context, db store.Store) (keys int, drifts []store.Drift, err error) {
	for after := (store.Key{}); ; {
		found, err := db.Audit(ctx, store.Audit{After: after, Max: 1000})
		if err != nil {
			return 0, nil, err
		}
		keys += found.Keys
		drifts = append(drifts, found.Drifts...)
		if after = found.Next; after.IsZero() {
			return keys, drifts, nil
		}
	}
}

func printAudit(cmd *cli.Command, keys int, drifts []store.Drift, h sqlite.Health) error {
	var b strings.Builder
	audited := quantity(int64(keys), "key", "keys") + " audited"
	if len(drifts) == 0 {
		b.WriteString(audited + ": every count equals the runs behind it.\n")
	} else {
		if err := printTable(&b, driftTable(drifts)); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n%s, %d of them wrong. Mend them with: runcounter recount --all-drifting\n", audited, len(drifts))
	}
	for _, odd := range []struct {
		n    int64
		what string
	}{
		{h.NoKey, "with neither a workflow nor a draft: not counted"},
		{h.UnknownStatus, "with an unknown status: not counted"},
		{h.EndedTooSoon, "that ended before they started: counted, but their times are wrong"},
	} {
		if odd.n > 0 {
			fmt.Fprintf(&b, "%s %s.\n", quantity(odd.n, "run", "runs"), odd.what)
		}
	}
	if h.DeadLetters > 0 {
		fmt.Fprintf(&b, "%s could not be read, and are kept in the table dead_letters.\n", quantity(h.DeadLetters, "delivery", "deliveries"))
	}
	_, err := io.WriteString(cmd.Root().Writer, b.String())
	return err
}
