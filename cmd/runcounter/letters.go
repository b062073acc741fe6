package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

func deadLettersCommand() *cli.Command {
	return &cli.Command{
		Name:     "dead-letters",
		Category: groupMaintain,
		Usage:    "shows, replays and drops what could not be read",
		UsageText: "runcounter dead-letters list [flags]\nruncounter dead-letters show NUMBER [flags]\n" +
			"runcounter dead-letters replay | drop (NUMBER | --reason TEXT | --until TIME | --all) [flags]",
		Description: `A change that was authenticated but can't be read is kept by itself, and so is a
body that is not JSON: the newest 1,000, up to 1 MiB of each and 64 MiB of all,
for 30 days.

  list    prints them, latest first: when each came, and why it was refused
  show    prints one with its body
  replay  reads them with this program and applies them; those that are applied
          are dropped, those that still can't be read stay. Repeating it is safe
  drop    drops them for good

Examples:
  runcounter dead-letters list --reason status
  runcounter dead-letters show 7
  runcounter dead-letters replay --all
  runcounter dead-letters drop --until 2026-01-31T12:00:00Z`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Category: flagsWhat, Usage: "those whose reason contains `TEXT`, whatever its case"},
			&cli.StringFlag{Name: "until", Category: flagsWhat, Usage: "those received before a `TIME`"},
			&cli.StringFlag{Name: "before", Category: flagsWhat, Usage: "those with a smaller `NUMBER`: where a page ended"},
			&cli.IntFlag{Name: "max", Category: flagsWhat, Value: 100, Usage: "list at most `N` of them"},
			&cli.BoolFlag{Name: "all", Category: flagsWhat, Usage: "say that all of them are meant"},
			tableFlag(), partitionsFlag(), columnFlag(), statusFlag(), anyCaseFlag(), zoneFlag(), timesFlag(), claimFlag(), descriptionFlag(), leaseFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(deadLetters),
	}
}

func deadLetters(ctx context.Context, cmd *cli.Command) error {
	do, known := map[string]func(context.Context, *cli.Command, backend, store.DeadLetterQuery) error{
		"list": listLetters, "show": showLetter, "replay": replayLetters, "drop": dropLetters,
	}[cmd.Args().First()]
	if !known {
		return badUsage("say what to do: runcounter dead-letters list, show, replay or drop")
	}
	if err := atMost(2, cmd); err != nil {
		return err
	}
	q, err := lettersOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error { return do(ctx, cmd, db, q) })
}

// lettersOf reads which dead letters are meant, and refuses what would mean
// more of them, or others, than a person has said.
func lettersOf(cmd *cli.Command) (q store.DeadLetterQuery, err error) {
	what, text := cmd.Args().First(), cmd.Args().Get(1)
	q.Reason, q.Limit = cmd.String("reason"), cmd.Int("max")
	if q.Limit < 1 {
		return q, badUsage("--max must be 1 or more")
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

func listLetters(ctx context.Context, cmd *cli.Command, db backend, q store.DeadLetterQuery) error {
	letters, err := db.DeadLetters(ctx, q)
	if err != nil {
		return err
	}
	out := cmd.Root().Writer
	if cmd.Bool("json") {
		all := make([]api.Letter, 0, len(letters))
		for _, d := range letters {
			all = append(all, api.LetterOf(d))
		}
		return printJSON(out, struct {
			Letters []api.Letter `json:"dead_letters"`
		}{all})
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(out, "There are no such dead letters.")
		return err
	}
	rows := [][]string{{"NUMBER", "RECEIVED", "BYTES", "KEPT", "REASON"}}
	for _, d := range letters {
		rows = append(rows, []string{decimal(d.Seq), api.Instant(d.ReceivedAt).String(), decimal(d.Bytes), decimal(d.Kept), oneLine(d.Reason)})
	}
	if err := printTable(out, rows); err != nil {
		return err
	}
	if len(letters) == q.Limit {
		_, err = fmt.Fprintf(out, "\nThere may be more: --before %d goes on.\n", letters[len(letters)-1].Seq)
	}
	return err
}

// oneLine keeps a stranger's text from moving about on a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

func showLetter(ctx context.Context, cmd *cli.Command, db backend, q store.DeadLetterQuery) error {
	letters, err := db.DeadLetters(ctx, q)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		return failed(webhook.ErrNoLetter)
	}
	d, out := letters[0], cmd.Root().Writer
	if cmd.Bool("json") {
		return printJSON(out, api.LetterWithBodyOf(d, utf8.Valid))
	}
	l := api.LetterWithBodyOf(d, func(body []byte) bool { // what is printed on a terminal must not control it
		return utf8.Valid(body) && !bytes.ContainsFunc(body, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) })
	})
	kept := "all of them kept"
	if !d.Whole() {
		kept = fmt.Sprintf("the first %d kept", d.Kept)
	}
	_, err = fmt.Fprintf(out, "Dead letter %d, received at %s\nReason: %s\nBody:   %s, %s, as %s\n\n%s\n",
		d.Seq, api.Instant(d.ReceivedAt), oneLine(d.Reason), store.Quantity(d.Bytes, "byte", "bytes"), kept, l.Encoding, l.Body)
	return err
}

func replayLetters(ctx context.Context, cmd *cli.Command, db backend, q store.DeadLetterQuery) error {
	decoder, err := decoderFor(ctx, cmd, db)
	if err != nil {
		return err
	}
	results, err := replayAll(ctx, db, decoder, q)
	if errors.Is(err, webhook.ErrNoLetter) {
		return failed(err)
	}
	if err != nil {
		return fmt.Errorf("%w; %s had been replayed by then: replay again, it is safe", err, store.Quantity(int64(len(results)), "dead letter", "dead letters"))
	}
	return printReplayed(cmd, results)
}

// replayAll replays one, or page after page of those that are meant.
func replayAll(ctx context.Context, db backend, decoder webhook.Decoder, q store.DeadLetterQuery) (results []api.LetterResult, err error) {
	apply := func(ctx context.Context, changes []store.Change) ([]store.ApplyResult, error) {
		return db.Apply(ctx, changes, time.Now())
	}
	q.Limit = 100
	for {
		letters, err := db.DeadLetters(ctx, q)
		if err != nil {
			return results, err
		}
		page, err := webhook.ReplayEach(letters, func(seq int64) (webhook.Replayed, error) { return webhook.Replay(ctx, db, decoder, seq, apply) })
		for _, r := range page {
			results = append(results, api.LetterResultOf(r))
		}
		switch {
		case err != nil:
			return results, err
		case len(results) == 0 && q.Seq != 0:
			return nil, webhook.ErrNoLetter
		case len(letters) < q.Limit || q.Seq != 0:
			return results, nil
		}
		q.Before = letters[len(letters)-1].Seq
	}
}

// printReplayed says what became of them. That some stay is the answer "no".
func printReplayed(cmd *cli.Command, results []api.LetterResult) error {
	var text strings.Builder
	replayed, left := 0, 0
	for _, r := range results {
		if r.Applied && r.Reason != "" {
			replayed++
			fmt.Fprintf(&text, "%d  %s\n", r.Seq, r.Reason)
			continue
		}
		if r.Applied {
			replayed++
			fmt.Fprintf(&text, "%d  applied and dropped: %s, %d changed, %d ignored\n", r.Seq, store.Quantity(int64(r.Received), "change", "changes"), r.Changed, r.Ignored)
			continue
		}
		left++
		fmt.Fprintf(&text, "%d  stays: %s\n", r.Seq, oneLine(r.Reason))
	}
	out := cmd.Root().Writer
	var err error
	if cmd.Bool("json") {
		err = printJSON(out, struct {
			Replayed int                `json:"replayed"`
			Left     int                `json:"left"`
			Letters  []api.LetterResult `json:"dead_letters"`
		}{replayed, left, append([]api.LetterResult{}, results...)})
	} else {
		fmt.Fprintf(&text, "Replayed %s, %d stay.\n", store.Quantity(int64(replayed), "dead letter", "dead letters"), left)
		_, err = io.WriteString(out, text.String())
	}
	if err == nil && left > 0 {
		err = failed(nil)
	}
	return err
}

func dropLetters(ctx context.Context, cmd *cli.Command, db backend, q store.DeadLetterQuery) error {
	dropped, err := db.DropDeadLetters(ctx, q)
	if err != nil {
		return err
	}
	if dropped == 0 && q.Seq != 0 {
		return failed(webhook.ErrNoLetter)
	}
	if cmd.Bool("json") {
		return printJSON(cmd.Root().Writer, api.LettersDropped{Dropped: dropped})
	}
	_, err = fmt.Fprintf(cmd.Root().Writer, "Dropped %s.\n", store.Quantity(int64(dropped), "dead letter", "dead letters"))
	return err
}
