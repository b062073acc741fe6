package watched

import (
	"regexp"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
)

// ours are the statuses that have a meaning, the active ones first.
var ours = []store.Status{store.Pending, store.Running, store.Cancelling, store.Completed, store.Failed, store.Cancelled, store.Timeout}

// Ours are those of our statuses, as a list of SQL.
func Ours(which func(store.Status) bool) string {
	var words []string
	for _, one := range ours {
		if which(one) {
			words = append(words, Literal(string(one)))
		}
	}
	return strings.Join(words, ", ")
}

// synonyms are words of other tables for ours. They are proposed to the operator
// and never taken by themselves: "error" may be the end of a run, or a retry.
var synonyms = map[string]store.Status{
	"queued": store.Pending, "scheduled": store.Pending, "created": store.Pending, "new": store.Pending, "enqueued": store.Pending,
	"started": store.Running, "in_progress": store.Running, "processing": store.Running, "active": store.Running,
	"waiting": store.Running, "paused": store.Running, "suspended": store.Running, "retrying": store.Running,
	"canceling": store.Cancelling, "stopping": store.Cancelling,
	"succeeded": store.Completed, "success": store.Completed, "complete": store.Completed, "done": store.Completed, "finished": store.Completed,
	"failure": store.Failed, "error": store.Failed, "errored": store.Failed, "crashed": store.Failed,
	"canceled": store.Cancelled, "aborted": store.Cancelled, "stopped": store.Cancelled, "skipped": store.Cancelled,
	"timed_out": store.Timeout, "timedout": store.Timeout, "expired": store.Timeout,
}

// guessStatus returns the status that a word may mean, and "" for none.
func guessStatus(word string) store.Status {
	folded := strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(word))
	if status := store.Status(folded); status.Known() {
		return status
	}
	return synonyms[folded]
}

// literal is a string constant of SQL, as pg_get_constraintdef writes it.
var literal = regexp.MustCompile(`'((?:[^']|'')*)'`)

// wordsOf returns the statuses that the table is known to allow: an enum's
// labels, else the constants of the checks that look at the status alone. Where
// it allows any text there are none to be known but the default.
func wordsOf(c Catalog, status CatalogColumn) []string {
	words := slices.Clone(status.Labels)
	if len(words) == 0 {
		for _, check := range c.Checks {
			if len(check.Columns) == 1 && check.Columns[0] == status.Name {
				words = append(words, literals(check.Definition)...)
			}
		}
	}
	if len(words) == 0 {
		words = literals(status.Default)
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// listing is a check that lists the words that a status may be, as
// pg_get_constraintdef writes it.
var listing = regexp.MustCompile(`^CHECK \(+(?:\w+|"(?:[^"]|"")+")\)?(?:::text)?\)? = ANY \(+ARRAY\[[^\]]*\]\)?(?:::text\[\])?\)+$`)

// allowed are the only words that a status may be: an enum's labels, or those that a
// check lists. There are none where it may be any.
func allowed(c Catalog, status CatalogColumn) []string {
	for _, check := range c.Checks {
		if len(check.Columns) == 1 && check.Columns[0] == status.Name && len(status.Labels) == 0 && listing.MatchString(check.Definition) {
			return literals(check.Definition)
		}
	}
	return status.Labels
}

func literals(sql string) (words []string) {
	for _, found := range literal.FindAllStringSubmatch(sql, -1) {
		words = append(words, strings.ReplaceAll(found[1], "''", "'"))
	}
	return words
}
