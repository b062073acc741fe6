package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/edgaze-ai/runcounter/store"
)

// printJSON writes one value for a program, with the keys of the HTTP API.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// printTable writes aligned columns; the first row is the head. A cell that
// would break its line, or move the terminal, is quoted.
func printTable(w io.Writer, rows [][]string) error {
	aligned := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		row := slices.Clone(row)
		for i, cell := range row {
			if strings.ContainsFunc(cell, unicode.IsControl) {
				row[i] = strconv.Quote(cell)
			}
		}
		if _, err := io.WriteString(aligned, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	return aligned.Flush()
}

// keyJSON names whose count it is.
type keyJSON struct {
	User     store.ID `json:"user_id"`
	Workflow store.ID `json:"workflow_id"`
	Draft    store.ID `json:"draft_id"`
}

func keyJSONOf(k store.Key) keyJSON { return keyJSON{k.User, k.Workflow(), k.Draft()} }

// keyFlags names a key as a command line does.
func keyFlags(key store.Key) string {
	var flags []string
	if key.User != store.Absent {
		flags = append(flags, "--user "+shellWord(key.User.String()))
	}
	if key.Kind != store.KindAll {
		flags = append(flags, "--"+string(key.Kind)+" "+shellWord(key.Ref.String()))
	}
	return strings.Join(flags, " ")
}

// cell is an id in a table for people.
func cell(id store.ID) string {
	return cmp.Or(id.String(), "-")
}

// shellWord writes a text as one word of a shell.
func shellWord(text string) string {
	const bare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@"
	switch {
	case strings.Trim(text, bare) == "":
		return text
	case strings.ContainsFunc(text, unicode.IsControl):
		quoted := strconv.Quote(text) // whose escapes are those of $'…'
		return "$'" + strings.ReplaceAll(quoted[1:len(quoted)-1], "'", `\'`) + "'"
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// driftJSON is a key whose count is, or was, wrong.
type driftJSON struct {
	keyJSON
	Stored store.Tallies `json:"stored"`
	Actual store.Tallies `json:"actual"`
}

func driftsJSON(drifts []store.Drift) []driftJSON {
	all := make([]driftJSON, 0, len(drifts))
	for _, d := range drifts {
		all = append(all, driftJSON{keyJSONOf(d.Key), d.Stored, d.Actual})
	}
	return all
}

// driftTable lists what is stored, what the runs say, and the difference, for
// each status in which they differ.
func driftTable(drifts []store.Drift) [][]string {
	rows := [][]string{{"USER", "KIND", "ID", "STATUS", "STORED", "ACTUAL", "DIFFERENCE"}}
	for _, d := range drifts {
		stored, actual := numbers(d.Stored), numbers(d.Actual)
		for i, name := range tallyNames {
			if stored[i] != actual[i] {
				rows = append(rows, []string{
					cell(d.Key.User), string(d.Key.Kind), cell(d.Key.Ref), name,
					decimal(stored[i]), decimal(actual[i]), fmt.Sprintf("%+d", stored[i]-actual[i]),
				})
			}
		}
	}
	return rows
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

var tallyNames = [...]string{
	"completed", "failed", "cancelled", "timeout",
	"presumed completed", "presumed failed", "presumed cancelled", "presumed timeout",
}

func numbers(t store.Tallies) [len(tallyNames)]int64 {
	e, p := t.Ended, t.Presumed
	return [...]int64{e.Completed, e.Failed, e.Cancelled, e.Timeout, p.Completed, p.Failed, p.Cancelled, p.Timeout}
}
