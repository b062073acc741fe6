package main

import (
	"strconv"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
)

// maxListed is the largest number of rows that a command lists at once.
const maxListed = 1_000_000

// lettersOf reads which dead letters are meant, and refuses what would mean
// more of them, or others, than a person has said.
func lettersOf(cmd *cli.Command) (q store.DeadLetterQuery, err error) {
	what, text := cmd.Args().First(), cmd.Args().Get(1)
	q.Reason, q.Limit = cmd.String("reason"), cmd.Int("max")
	if q.Limit < 1 || q.Limit > maxListed {
		return q, badUsage("--max must be 1 or more, and at most %d", maxListed)
	}
	if until := cmd.String("until"); until != "" {
		if q.Until, err = time.Parse(time.RFC3339, until); err != nil {
			return q, badUsage("--until %q is no time such as 2026-01-31T12:00:00Z", until)
		}
	}
	for _, number := range []struct {
		name, text string
		into       *int64
	}{{"--before", cmd.String("before"), &q.Before}, {"the number", text, &q.Seq}} {
		if number.text == "" {
			continue
		}
		if *number.into, err = strconv.ParseInt(number.text, 10, 64); err != nil || *number.into < 1 {
			return q, badUsage("%s %q is no number of a dead letter: runcounter dead-letters list shows them", number.name, number.text)
		}
	}
	filtered := q.Reason != "" || !q.Until.IsZero() || q.Before != 0
	switch one, all := q.Seq != 0, cmd.Bool("all"); {
	case one && (filtered || all):
		return q, badUsage("name one by its number, or many by --reason, --until, --before or --all, but not both")
	case what == "list" && (one || all):
		return q, badUsage("list takes neither a number nor --all: it lists what --reason, --until and --before leave, and all without them")
	case what == "show" && !one:
		return q, badUsage("say which: runcounter dead-letters show NUMBER")
	case filtered && all:
		return q, badUsage("--all means all of them: leave it out, or leave out --reason, --until and --before")
	case (what == "replay" || what == "drop") && !one && !filtered && !all:
		return q, badUsage("say which: runcounter dead-letters %s NUMBER, or --reason, --until, --before or --all", what)
	}
	return q, nil
}
