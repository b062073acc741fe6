package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Category:  groupAsk,
		Usage:     "says what happened to a run, or how a count comes about",
		UsageText: "runcounter explain RUN-ID [flags]\nruncounter explain --user ID (--workflow ID | --draft ID) [flags]",
		Description: `Of a run it tells whether it is counted, why, and what was done to it: repairs
by a sweep, decisions of administrators. Of a count it tells both sides, what
is stored and what the runs say, the runs behind it, and every recount.

Examples:
  runcounter explain 10000000-0000-4000-8000-000000000001
  runcounter explain --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa`,
		Flags: []cli.Flag{
			userFlag(), workflowFlag(), draftFlag(),
			&cli.IntFlag{Name: "runs", Category: flagsWhat, Value: 20, Usage: "list at most `N` runs behind a count"},
			descriptionFlag(), databaseFlag(), jsonFlag(),
		},
		Action: action(explain),
	}
}

func explain(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(1, cmd); err != nil {
		return err
	}
	if text := cmd.Args().First(); text != "" {
		if cmd.IsSet("user") || cmd.IsSet("workflow") || cmd.IsSet("draft") {
			return badUsage("name a run, or a count with --user and --workflow or --draft, but not both")
		}
		id, err := store.ParseID(text)
		if err != nil {
			return badUsage("the run's id %q is %w: write it as the table has it", text, err)
		}
		return withStore(ctx, cmd, func(db backend) error { return explainRun(ctx, cmd, db, id) })
	}
	if !cmd.IsSet("user") && !cmd.IsSet("workflow") {
		return badUsage("say what to explain: runcounter explain RUN-ID, or --user with --workflow or --draft")
	}
	o, err := ownerOf(cmd)
	if err != nil {
		return err
	}
	return withStore(ctx, cmd, func(db backend) error {
		key, err := o.key(ctx, db)
		if err == nil && key.IsZero() {
			err = badUsage("say which of the user's counts: add --workflow or --draft; runcounter count --user lists them")
		}
		if err != nil {
			return err
		}
		return explainKey(ctx, cmd, db, key)
	})
}

type runJSON struct {
	ID store.ID `json:"run_id"`
	keyJSON
	Status      store.Status `json:"status"`
	CreatedAt   instant      `json:"created_at"`
	StartedAt   instant      `json:"started_at"`
	UpdatedAt   instant      `json:"updated_at"`
	CompletedAt instant      `json:"completed_at"`
	Duration    store.Millis `json:"duration_ms"`
	Presumed    bool         `json:"presumed"`
	Counted     bool         `json:"counted"`
	Verdict     string       `json:"verdict"`
}

func runJSONOf(r store.Run, p store.Policy) runJSON {
	return runJSON{
		r.ID, keyJSON{r.User, r.Workflow, r.Draft}, r.Status, instant(r.CreatedAt), instant(r.StartedAt), instant(r.UpdatedAt),
		instant(r.CompletedAt), r.DurationMS, r.Presumed, r.Counted, r.Verdict(p),
	}
}

type repairLogJSON struct {
	Reason      store.Reason `json:"reason"`
	Times       int          `json:"times"`
	First       instant      `json:"first_at"`
	Last        instant      `json:"last_at"`
	Was         store.Status `json:"was"`
	Status      store.Status `json:"status"`
	CompletedAt instant      `json:"completed_at"`
}

type amendmentLogJSON struct {
	At             instant      `json:"at"`
	Who            string       `json:"who"`
	Why            string       `json:"why"`
	Was            store.Status `json:"was"`
	WasCompletedAt instant      `json:"was_completed_at"`
	Status         store.Status `json:"status"`
}

func explainRun(ctx context.Context, cmd *cli.Command, db backend, id store.ID) error {
	h, err := db.History(ctx, id)
	if err != nil {
		return err
	}
	if !h.Found && h.DeletedAt.IsZero() && len(h.Repairs)+len(h.Amendments) == 0 {
		return answerNo(fmt.Errorf("run %s: %w; was it deleted, or is this another database?", id.Shown(), store.ErrNotFound))
	}
	if !cmd.Bool("json") {
		_, err := io.WriteString(cmd.Root().Writer, runText(id, h))
		return err
	}
	out := struct {
		Found      bool               `json:"found"`
		DeletedAt  instant            `json:"deleted_at"`
		Policy     string             `json:"policy"`
		Run        *runJSON           `json:"run"`
		Count      *countJSON         `json:"count"`
		Repairs    []repairLogJSON    `json:"repairs"`
		Amendments []amendmentLogJSON `json:"amendments"`
	}{Found: h.Found, DeletedAt: instant(h.DeletedAt), Policy: h.Policy.String(), Repairs: []repairLogJSON{}, Amendments: []amendmentLogJSON{}}
	if h.Found {
		run, count := runJSONOf(h.Run, h.Policy), countJSONOf(h.Count)
		out.Run = &run
		if !h.Count.Key.IsZero() {
			out.Count = &count
		}
	}
	for _, l := range h.Repairs {
		out.Repairs = append(out.Repairs, repairLogJSON{l.Reason, l.Times, instant(l.First), instant(l.Last), l.Was, l.Status, instant(l.CompletedAt)})
	}
	for _, l := range h.Amendments {
		out.Amendments = append(out.Amendments, amendmentLogJSON{instant(l.At), l.Who, l.Why, l.Was, instant(l.WasCompletedAt), l.Status})
	}
	return printJSON(cmd.Root().Writer, out)
}

// runText is a run's history for a person.
func runText(id store.ID, h store.History) string {
	var b strings.Builder
	switch {
	case h.Found:
		fmt.Fprintf(&b, "Run %s of %s\n%s\n\n", id.Shown(), h.Run.Key(), h.Run.Verdict(h.Policy))
	case !h.DeletedAt.IsZero():
		fmt.Fprintf(&b, "Run %s was deleted, which was heard of at %s.\nNot counted: nothing brings a deleted run back.\n\n", id.Shown(), instant(h.DeletedAt))
	default:
		fmt.Fprintf(&b, "Run %s is not there any more: it was deleted.\nNot counted.\n\n", id.Shown())
	}
	r := h.Run
	for _, e := range []struct {
		at   instant
		what string
	}{
		{instant(r.CreatedAt), "created"},
		{instant(r.StartedAt), "started"},
		{instant(r.UpdatedAt), "last written, as updated_at says"},
		{instant(r.LeaseAt), "last sign of life in the lease column"},
		{instant(r.CompletedAt), "ended " + string(r.Status) + took(r)},
	} {
		if e.at != (instant{}) {
			fmt.Fprintf(&b, "%s  %s\n", e.at, e.what)
		}
	}
	for _, l := range h.Repairs {
		verb := "repaired"
		if l.Reason == store.GaveWay || l.Reason == store.WouldKeep {
			verb = "overwritten"
		}
		fmt.Fprintf(&b, "%s  %s: %s; it was %s and became %s as of %s", instant(l.Last), verb, reasonText(l.Reason), orNull(l.Was), l.Status, instant(l.CompletedAt))
		if l.Times > 1 {
			fmt.Fprintf(&b, " (%d times since %s)", l.Times, instant(l.First))
		}
		b.WriteString("\n")
	}
	for _, l := range h.Amendments {
		fmt.Fprintf(&b, "%s  amended by %s: %s; it was %s and became %s\n", instant(l.At), l.Who, l.Why, orNull(l.Was), l.Status)
	}
	if key := h.Count.Key; !key.IsZero() {
		fmt.Fprintf(&b, "\nThe count that it belongs to is %d. How that comes about:\n  %s\n", h.Count.Count, explainLine(key))
	}
	return b.String()
}

func took(r store.Run) string {
	if !r.DurationMS.Valid {
		return ""
	}
	return fmt.Sprintf(", after %d ms", r.DurationMS.MS)
}

func orNull(s store.Status) string {
	if s == "" {
		return "without a status"
	}
	return string(s)
}

func reasonText(r store.Reason) string {
	if words, ok := reasons[r]; ok {
		return words
	}
	return string(r)
}

func explainLine(key store.Key) string {
	return "runcounter explain " + keyFlags(key)
}

func explainKey(ctx context.Context, cmd *cli.Command, db backend, key store.Key) error {
	limit := cmd.Int("runs")
	if limit < 0 || limit > 10_000 {
		return badUsage("--runs must be between 0 and 10000")
	}
	h, err := db.KeyHistory(ctx, key, limit)
	if err != nil {
		return err
	}
	wrong := h.Drift.Stored != h.Drift.Actual
	if cmd.Bool("json") {
		err = printJSON(cmd.Root().Writer, keyHistoryJSONOf(h))
	} else {
		var text string
		if text, err = keyText(h); err == nil {
			_, err = io.WriteString(cmd.Root().Writer, text)
		}
	}
	if err == nil && wrong {
		return answerNo(nil)
	}
	return err
}

type recountLogJSON struct {
	At     instant       `json:"at"`
	Before store.Tallies `json:"before"`
	After  store.Tallies `json:"after"`
}

type keyHistoryJSON struct {
	Count    countJSON        `json:"count"`
	Policy   string           `json:"policy"`
	Drift    driftJSON        `json:"compared"`
	Cause    string           `json:"likely_cause"`
	Ledger   int64            `json:"ledger_rows"`
	Active   int64            `json:"active"`
	Runs     []runJSON        `json:"runs"`
	Recounts []recountLogJSON `json:"recounts"`
}

func keyHistoryJSONOf(h store.KeyHistory) keyHistoryJSON {
	j := keyHistoryJSON{
		Count: countJSONOf(h.Count), Policy: h.Policy.String(), Drift: driftsJSON([]store.Drift{h.Drift})[0],
		Cause: h.Cause, Ledger: h.Ledger, Active: h.Active, Runs: []runJSON{}, Recounts: []recountLogJSON{},
	}
	for _, r := range h.Runs {
		j.Runs = append(j.Runs, runJSONOf(r, h.Policy))
	}
	for _, l := range h.Recounts {
		j.Recounts = append(j.Recounts, recountLogJSON{instant(l.At), l.Before, l.After})
	}
	return j
}

// keyText is how a count comes about, for a person.
func keyText(h store.KeyHistory) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "The count of %s is %d, under the policy %s.\n\n", h.Drift.Key, h.Count.Count, h.Policy)
	stored, actual := numbers(h.Drift.Stored), numbers(h.Drift.Actual)
	rows := [][]string{{"STATUS", "STORED", "RUNS", "COUNTED"}}
	for i, name := range tallyNames {
		if stored[i] == 0 && actual[i] == 0 {
			continue
		}
		rows = append(rows, []string{name, decimal(stored[i]), decimal(actual[i]), countedText(h.Policy, name)})
	}
	if len(rows) > 1 {
		if err := printTable(&b, rows); err != nil {
			return "", err
		}
	}
	if h.Drift.Stored != h.Drift.Actual {
		fmt.Fprintf(&b, "\nWRONG: what is stored differs from the runs. %s\nMend it with: runcounter recount %s\n",
			h.Cause, keyFlags(h.Drift.Key))
	} else {
		b.WriteString("What is stored equals the runs behind it.\n")
	}
	fmt.Fprintf(&b, "Runs that have not ended, and count when they do: %d. Ledger rows to be folded: %d.\n", h.Active, h.Ledger)
	for _, l := range h.Recounts {
		fmt.Fprintf(&b, "%s  recounted: %s\n", instant(l.At), differences(l.Before, l.After))
	}
	if len(h.Runs) == 0 {
		return b.String(), nil
	}
	b.WriteString("\n")
	rows = [][]string{{"RUN", "STATUS", "COMPLETED AT", "COUNTED"}}
	for _, r := range h.Runs {
		rows = append(rows, []string{r.ID.String(), orNull(r.Status), instant(r.CompletedAt).String(), countedWord(r)})
	}
	err := printTable(&b, rows)
	return b.String(), err
}

func countedWord(r store.Run) string {
	switch {
	case r.Counted && r.Presumed:
		return "yes, presumed"
	case r.Counted:
		return "yes"
	}
	return "no"
}

// countedText says whether the policy counts a line of the table.
func countedText(p store.Policy, name string) string {
	status, presumed := strings.CutPrefix(name, "presumed ")
	if presumed {
		if p.ExceptPresumed {
			return "left out"
		}
		return "among them"
	}
	if p.Counts(store.Status(status), false) {
		return "yes"
	}
	return "no"
}

// differences prints what a recount changed: completed 7 instead of 9.
func differences(before, after store.Tallies) string {
	var parts []string
	b, a := numbers(before), numbers(after)
	for i, name := range tallyNames {
		if a[i] != b[i] {
			parts = append(parts, name+" "+strconv.FormatInt(a[i], 10)+" instead of "+strconv.FormatInt(b[i], 10))
		}
	}
	return strings.Join(parts, ", ")
}
