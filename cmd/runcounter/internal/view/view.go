// Package view prints what commands have found for a person: sentences, tables, and
// lines for a shell. Each function returns a text that ends a line. What a program reads
// instead is in webhook/api. It may import store, migrations and webhook, and no
// backend. Begin reading at [Audit].
package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/edgaze-ai/runcounter/store"
)

// page is a text that grows.
type page struct{ strings.Builder }

func (p *page) print(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// table adds aligned columns; the first row is the head. A cell that would break its
// line, or move the terminal, is quoted.
func (p *page) table(rows [][]string) {
	aligned := tabwriter.NewWriter(p, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		row := slices.Clone(row)
		for i, cell := range row {
			if strings.ContainsFunc(cell, unicode.IsControl) {
				row[i] = strconv.Quote(cell)
			}
		}
		fmt.Fprintln(aligned, strings.Join(row, "\t"))
	}
	if err := aligned.Flush(); err != nil {
		panic(err) // a strings.Builder takes everything
	}
}

// cell is an id in a table.
func cell(id store.ID) string { return cmp.Or(id.String(), "-") }

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func orNull(s store.Status) string { return cmp.Or(string(s), "without a status") }

// OneLine keeps a sender's text from moving about on a terminal.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

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

func explainLine(key store.Key) string { return "runcounter explain " + keyFlags(key) }

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

var tallyNames = [...]string{
	"completed", "failed", "cancelled", "timeout",
	"presumed completed", "presumed failed", "presumed cancelled", "presumed timeout",
}

func numbers(t store.Tallies) [len(tallyNames)]int64 {
	e, p := t.Ended, t.Presumed
	return [...]int64{e.Completed, e.Failed, e.Cancelled, e.Timeout, p.Completed, p.Failed, p.Cancelled, p.Timeout}
}
