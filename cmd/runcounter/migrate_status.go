package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
)

func printStatus(cmd *cli.Command, m *migrations.Migrator) error {
	s, err := m.Status()
	if err != nil {
		return err
	}
	out := cmd.Root().Writer
	totals := m.Totals()
	if cmd.Bool("json") {
		return printJSON(out, struct {
			Version uint        `json:"version"`
			Latest  uint        `json:"latest"`
			Dirty   bool        `json:"dirty"`
			Said    []string    `json:"notes,omitempty"`
			Earlier *totalsJSON `json:"earlier_function,omitempty"`
		}{s.Version, s.Latest, s.Dirty, m.Said(), totalsJSONOf(totals)})
	}
	verdict := "up to date"
	switch {
	case s.GoingDown:
		verdict = "a migrate down was interrupted: runcounter migrate up undoes it, and keeps the runs that are still there; runcounter migrate down --yes finishes it"
	case s.Dirty:
		verdict = "a migration was interrupted; runcounter migrate up runs it again"
	case s.Version == 0:
		verdict = "empty; runcounter migrate up applies it"
	case s.Version < s.Latest:
		verdict = "runcounter migrate up applies what is missing"
	case s.Version > s.Latest:
		verdict = "made by a newer runcounter: run that one"
	}
	if _, err := fmt.Fprintf(out, "The schema has version %d of %d: %s.\n", s.Version, s.Latest, verdict); err != nil {
		return err
	}
	for _, one := range m.Said() {
		if _, err := fmt.Fprintf(out, "It %s.\n", one); err != nil {
			return err
		}
	}
	if totals == nil {
		return nil
	}
	return printTotals(out, totals)
}

type totalJSON struct {
	User string `json:"user_id"`
	Kind string `json:"kind"`
	Ref  string `json:"ref_id"`
	Old  int64  `json:"old"`
	New  int64  `json:"new"`
}

type totalsJSON struct {
	Function  string      `json:"function"`
	Compared  int         `json:"compared"`
	Different []totalJSON `json:"different"`
	Failed    int         `json:"failed"`
	Failure   string      `json:"failure"`
	More      bool        `json:"more"`
	Keeps     string      `json:"policy_that_keeps_them,omitempty"`
}

func totalsJSONOf(t *migrations.Totals) *totalsJSON {
	if t == nil {
		return nil
	}
	j := totalsJSON{Function: t.Function, Compared: t.Compared, Different: []totalJSON{}, Failed: t.Failed, Failure: t.Failure, More: t.More, Keeps: t.Keeps}
	for _, d := range t.Different {
		j.Different = append(j.Different, totalJSON(d))
	}
	return &j
}

// totalsShown is how many keys are listed, of which all are counted.
const totalsShown = 20

// printTotals tells what the function counted that was replaced: its users will
// ask why a number has changed.
func printTotals(out io.Writer, t *migrations.Totals) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nAn earlier %s was there, and comes back by migrate down.\n", t.Function)
	keys := store.Quantity(int64(t.Compared), "key", "keys")
	if t.More {
		keys = "the first " + keys
	}
	if t.Failed > 0 || t.Failure != "" {
		fmt.Fprintf(&b, "It failed for %s: %s.\n", store.Quantity(int64(t.Failed), "key", "keys"), t.Failure)
	}
	if t.Compared > 0 && len(t.Different) == 0 {
		fmt.Fprintf(&b, "It counted the same for %s.\n", keys)
	}
	if len(t.Different) > 0 {
		fmt.Fprintf(&b, "It counted differently for %d of %s:\n\n", len(t.Different), keys)
		rows := [][]string{{"USER", "KIND", "OF", "OLD", "NEW"}}
		for _, d := range t.Different[:min(len(t.Different), totalsShown)] {
			rows = append(rows, []string{d.User, d.Kind, d.Ref, decimal(d.Old), decimal(d.New)})
		}
		if err := printTable(&b, rows); err != nil {
			return err
		}
		if n := len(t.Different) - totalsShown; n > 0 {
			fmt.Fprintf(&b, "... and %d more: --json lists all\n", n)
		}
		if t.Keeps != "" {
			fmt.Fprintf(&b, "\nUnder the policy %[1]s all of them are as they were: runcounter migrate up --policy %[1]s sets it.\n", t.Keeps)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
