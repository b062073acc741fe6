package watched

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
)

// statuses gives the table's words their meaning.
func (d *describer) statuses() {
	status, there := d.report.Table.Column(Status)
	if !there {
		return
	}
	column, _ := d.catalog.Column(status.Name)
	known, only, fold := wordsOf(d.catalog, column), allowed(d.catalog, column), d.report.Table.fold
	for _, theirs := range slices.Sorted(maps.Keys(d.overrides.Statuses)) {
		if len(column.Labels) > 0 && !slices.Contains(column.Labels, theirs) {
			d.refuse("--status %s=%s: %s has no label %q; they are %s", theirs, d.overrides.Statuses[theirs], column.Declared, theirs, strings.Join(column.Labels, ", "))
		}
		for other, meaning := range d.overrides.Statuses {
			if other < theirs && fold(other) == fold(theirs) && meaning != d.overrides.Statuses[theirs] {
				d.refuse("--status %s=%s and --status %s=%s give one word of %s two meanings: give it one", other, meaning, theirs, d.overrides.Statuses[theirs], column.Name)
			}
		}
	}
	if d.overrides.AnyCase && len(column.Labels) > 0 {
		d.refuse("--any-case is for texts, and each label of %s is known: say what it means with --status", column.Declared)
	}
	for _, one := range ours {
		d.report.Table.Statuses = append(d.report.Table.Statuses, d.words(one, column.Labels, only, known)...)
	}
	if len(only) > 0 && d.report.Table.theirs(store.Status.Terminal) == "" {
		d.refuse("none of %s means that a run has ended: say which does with --status THEIRS=OURS, such as %s", strings.Join(only, ", "), example(only))
	}
	for _, theirs := range known {
		if d.mapped(theirs) || store.Status(fold(theirs)).Known() {
			continue
		}
		d.report.Unmapped = append(d.report.Unmapped, theirs)
		if guess := guessStatus(theirs); guess != "" {
			d.report.Guessed.Statuses[theirs] = guess
		}
	}
}

// guard decides what the guard does where the operator has not said it.
func (d *describer) guard() {
	t := &d.report.Table
	switch {
	case d.overrides.Guard != "":
		t.Guard = d.overrides.Guard
	case slices.ContainsFunc(t.Statuses, func(w Word) bool { return t.fold(w.Theirs) != string(w.Ours) }):
		t.Guard = GuardReports
		d.note("the guard would only list outcomes that are overwritten, since statuses have other words than Run Counter's and an application may reuse a row for a retry: --guard on keeps the first outcome")
	default:
		t.Guard = GuardOn
	}
}

// example is a mapping that may be meant, for a table where nothing ends a run.
func example(labels []string) string {
	for _, theirs := range labels {
		if guess := guessStatus(theirs); guess.Terminal() {
			return theirs + "=" + string(guess)
		}
	}
	return labels[len(labels)-1] + "=" + string(store.Completed)
}

// words are those of the table for a status of ours. Ours itself is written where
// the table is known to allow it, and else what the operator has named.
func (d *describer) words(one store.Status, labels, only, known []string) (words []Word) {
	for _, theirs := range slices.Sorted(maps.Keys(d.overrides.Statuses)) {
		if d.overrides.Statuses[theirs] == one && (len(labels) == 0 || slices.Contains(labels, theirs)) {
			words = append(words, Word{theirs, one})
		}
	}
	// An enum has a word or has it not, and so has a check that lists them; any other
	// text can be any.
	means := func(word string) bool { return d.report.Table.fold(word) == string(one) }
	if d.mapped(string(one)) || len(only) > 0 && !slices.ContainsFunc(only, means) {
		return words
	}
	if i := slices.IndexFunc(known, means); i >= 0 {
		return slices.Insert(words, 0, Word{known[i], one})
	}
	return append(words, Word{string(one), one})
}

// mapped reports whether the operator has said what a word of the table means.
func (d *describer) mapped(word string) bool {
	fold := d.report.Table.fold
	for theirs := range d.overrides.Statuses {
		if fold(theirs) == fold(word) {
			return true
		}
	}
	return false
}

// times notes a zone that may have to be said.
func (d *describer) times() {
	note := d.report.Table.ZoneNote(d.catalog.Zone)
	if note == "" {
		return
	}
	if d.overrides.Zone == "" {
		d.report.Guessed.Zone = d.catalog.Zone
	}
	d.note("%s", note)
}

// ZoneNote says that the database is in another zone than the table's times are
// read in; "" where it is not, or none of them is without zone.
func (t Table) ZoneNote(database string) string {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Kind == Timestamp })
	if i < 0 || database == "" || database == t.Zone || isUTC(database) && isUTC(t.Zone) {
		return ""
	}
	return fmt.Sprintf("%s has no time zone and is read as %s, but the database is in %s, and what now() writes there is that zone's time: say which it is with --timezone",
		t.Columns[i].Name, t.Zone, database)
}

func isUTC(zone string) bool { return slices.Contains([]string{"UTC", "Etc/UTC", "GMT"}, zone) }
