package watched

import (
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
)

// Status returns a row's status in our words, as text; one that means nothing stays as
// it is.
func (t Table) Status(row string) string {
	status := t.statusText(row)
	var whens strings.Builder
	for _, w := range t.Statuses {
		if word := t.fold(w.Theirs); word != string(w.Ours) {
			fmt.Fprintf(&whens, " when %s then %s", Literal(word), Literal(string(w.Ours)))
		}
	}
	if whens.Len() == 0 {
		return status
	}
	return "(case " + status + whens.String() + " else " + status + " end)" // PL/pgSQL's IF ends at a bare then
}

// statusText is a row's status as it is, as text; where its case says nothing, in
// small letters.
func (t Table) statusText(row string) string {
	if c, _ := t.Column(Status); c.Kind == AnyCase {
		return "lower(" + t.Col(row, Status) + `::text collate "C")`
	} else if c.Kind == Enum || padded(c) {
		return t.Col(row, Status) + "::text"
	}
	return t.Col(row, Status)
}

// fold is a word of the table as [Table.statusText] has it.
func (t Table) fold(word string) string {
	if c, _ := t.Column(Status); c.Kind == AnyCase {
		return string(store.Status(word).Lowered())
	}
	return word
}

// Spelled is a row's status as it is compared with what it was: one that is spelled
// otherwise is the same where its case says nothing.
func (t Table) Spelled(row string) string {
	if c, _ := t.Column(Status); c.Kind == AnyCase {
		return t.statusText(row)
	}
	return t.Col(row, Status)
}

// padded reports a char, whose values are filled up with blanks.
func padded(c Column) bool { return strings.HasPrefix(c.Type, "character(") }

// compared is a row's status as it is compared with the table's words. In a
// trigger an enum is text: a constant that is no label any more, since the
// application has renamed it, would raise in each of its writes. The index and the
// select of runs compare labels, since an index takes nothing else.
func (t Table) compared(row string) string {
	if c, _ := t.Column(Status); row == "new" || row == "old" || c.Kind == AnyCase {
		return t.statusText(row)
	}
	return t.Base(row, Status)
}

// words are the table's words for statuses.
func (t Table) words(which func(store.Status) bool) (words []string) {
	for _, w := range t.Statuses {
		if which(w.Ours) {
			words = append(words, t.fold(w.Theirs))
		}
	}
	return words
}

// theirs are these words as a list of SQL; "" where there is none.
func (t Table) theirs(which func(store.Status) bool) string {
	words := t.words(which)
	for i, word := range words {
		words[i] = Literal(word)
	}
	return strings.Join(words, ", ")
}

// one is the condition that a row's status is one of those.
func (t Table) one(row string, which func(store.Status) bool) string {
	words := t.theirs(which)
	switch {
	case words == "":
		return "false"
	case row == "new" || row == "old": // a WHEN is parsed by each statement, and an array is one constant
		return t.compared(row) + " = any (" + array(t.words(which)) + ")"
	}
	return t.compared(row) + " in (" + words + ")"
}

// array writes a constant of several texts.
func array(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
	}
	return Literal("{"+strings.Join(quoted, ",")+"}") + "::text[]"
}

// Terminal is the condition that a row's status is terminal. It is null where
// there is no status.
func (t Table) Terminal(row string) string { return t.one(row, store.Status.Terminal) }

// Active is the condition that a row's status is active.
func (t Table) Active(row string) string { return t.one(row, store.Status.Active) }

// Ended is the condition that a row is that of a run which has ended.
func (t Table) Ended(row string) string {
	return t.Dated(row) + " and " + t.Terminal(row)
}

// MayHaveEnded is Ended as an index has it: there may be ends among these rows that
// can't be times.
func (t Table) MayHaveEnded(row string) string {
	return t.Col(row, CompletedAt) + " is not null and " + t.Terminal(row)
}

// Open is the condition that a row is that of a run which has not ended, whatever
// its status is: it takes a slot of a limit.
func (t Table) Open(row string) string {
	return t.Undated(row) + " or " + t.unlike(row, store.Status.Terminal)
}

// unlike is the condition that a row's status is none of those, or null.
func (t Table) unlike(row string, which func(store.Status) bool) string {
	words := t.theirs(which)
	if words == "" {
		return "true"
	}
	status := t.compared(row)
	return status + " is null or " + status + " not in (" + words + ")"
}

// Odd is the condition that a row is that of a run which is not counted, or looks
// wrong, and is reported.
func (t Table) Odd(row string) string {
	odd := t.isMissing(row, User) + " or " + t.isMissing(row, Workflow)
	if t.Has(Draft) {
		odd += " and " + t.isMissing(row, Draft)
	}
	odd += " or " + t.unlike(row, store.Status.Known)
	if t.Has(StartedAt) {
		odd += " or " + t.tooSoon(row)
	}
	return strings.Join(append([]string{odd}, t.noTimes(row)...), " or ")
}

// tooSoon is TooSoon of a row whose times can all be times.
func (t Table) tooSoon(row string) string {
	end, _ := t.Column(CompletedAt)
	if start, _ := t.Column(StartedAt); start.Kind == end.Kind && end.Kind != Timestamp {
		return t.Col(row, CompletedAt) + " < " + t.Col(row, StartedAt)
	}
	return t.TooSoon(row)
}

// TooSoon is the condition that a row's run ended before it had started.
func (t Table) TooSoon(row string) string {
	return t.Moment(row, CompletedAt) + " < " + t.Moment(row, StartedAt)
}
