package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

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
		return failed(nil)
	}
	return err
}

type recountLogJSON struct {
	At     api.Instant   `json:"at"`
	Before store.Tallies `json:"before"`
	After  store.Tallies `json:"after"`
}

type keyHistoryJSON struct {
	Count    api.Count        `json:"count"`
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
		Count: api.CountOf(h.Count), Policy: h.Policy.String(), Drift: driftsJSON([]store.Drift{h.Drift})[0],
		Cause: h.Cause, Ledger: h.Ledger, Active: h.Active, Runs: []runJSON{}, Recounts: []recountLogJSON{},
	}
	for _, r := range h.Runs {
		j.Runs = append(j.Runs, runJSONOf(r, h.Policy))
	}
	for _, l := range h.Recounts {
		j.Recounts = append(j.Recounts, recountLogJSON{api.Instant(l.At), l.Before, l.After})
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
		fmt.Fprintf(&b, "\nWRONG: what is stored differs from the runs. %s\nCorrect it with: runcounter recount %s\n",
			h.Cause, keyFlags(h.Drift.Key))
	} else {
		b.WriteString("What is stored equals the runs behind it.\n")
	}
	fmt.Fprintf(&b, "Runs that have not ended, and count when they do: %d. Ledger rows to be folded: %d.\n", h.Active, h.Ledger)
	for _, l := range h.Recounts {
		fmt.Fprintf(&b, "%s  recounted: %s\n", api.Instant(l.At), differences(l.Before, l.After))
	}
	if len(h.Runs) == 0 {
		return b.String(), nil
	}
	b.WriteString("\n")
	rows = [][]string{{"RUN", "STATUS", "COMPLETED AT", "COUNTED"}}
	for _, r := range h.Runs {
		rows = append(rows, []string{r.ID.String(), orNull(r.Status), api.Instant(r.CompletedAt).String(), countedWord(r)})
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
