package webhook

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/jsonscan"
)

// rowReader reads one row.
type rowReader struct {
	path    string // record or old_record; empty for a bare row
	row     store.Row
	present bool
	held    int               // bytes that its ids took
	seen    uint              // bits by column
	problem *BadDelivery      // the first that was met
	columns map[string]string // those of the decoder
	ids     *lastIDs          // of the rows before, and this one
}

// The columns that are read.
const (
	colID = iota
	colUser
	colWorkflow
	colDraft
	colStatus
	colCreated
	colStarted
	colCompleted
	colUpdated
	colDuration
	colDetails
	colLease
)

var columnNames = [...]string{
	"id", "user_id", "workflow_id", "draft_id", "status", "created_at", "started_at", "completed_at", "updated_at",
	"duration_ms", "error_details",
}

// read takes a row, or null. What is wrong with a column is held back in
// problem; the error is for broken JSON and for r.
func (t *rowReader) read(s *jsonscan.Scanner, d Decoder) error {
	if c, err := s.Next(); err != nil {
		return err
	} else if c != '{' {
		text, _, err := s.Capture(maxShown)
		if err == nil && string(text) != "null" {
			t.problem = &BadDelivery{Path: cmp.Or(t.path, "the row"), Value: show(text), Detail: "not an object; send the row's columns as one"}
		}
		return err
	}
	t.present, t.columns = true, d.Columns
	if d.absent("user_id") {
		t.row.User, t.seen = store.Absent, t.seen|1<<colUser
	}
	if d.absent("workflow_id") {
		t.row.Workflow = store.Absent
	}
	return s.Object(func(key []byte) error {
		col, name := d.column(key)
		if col < 0 {
			return s.SkipValue()
		}
		text, size, err := s.Capture(maxValue)
		if err != nil {
			return err
		}
		value, detail := "", "stands in the row twice; send it once"
		if t.seen&(1<<col) == 0 {
			value, detail = t.column(s, d, col, text, size)
			if col == colStatus {
				t.row.Status = d.status(t.row.Status)
			}
		} else if col == colID {
			t.row.ID = store.ID{} // it is neither
		}
		t.seen |= 1 << col
		if detail != "" && t.problem == nil {
			t.problem = t.bad(name, detail)
			t.problem.Value = value
		}
		return nil
	})
}

// status is a status of the table in our words; one that means nothing is what it is.
func (d *Decoder) status(theirs store.Status) store.Status {
	if d.AnyCase {
		theirs = theirs.Lowered()
	}
	if ours, mapped := d.Statuses[string(theirs)]; mapped {
		return ours
	}
	return theirs
}

// column returns which column a key names, and what the table calls it; -1 for
// one that is not read.
func (d *Decoder) column(key []byte) (col int, name string) {
	switch ours, named := d.Columns[string(key)]; {
	case named:
		return slices.Index(columnNames[:], ours), ours
	case d.Columns == nil:
		if col = slices.Index(columnNames[:], string(key)); col >= 0 {
			return col, columnNames[col]
		}
	}
	if d.LeaseColumn != "" && string(key) == d.LeaseColumn {
		return colLease, d.LeaseColumn
	}
	return -1, ""
}

// bad returns the error for a column.
func (t *rowReader) bad(column, detail string) *BadDelivery {
	for theirs, ours := range t.columns {
		if ours == column {
			column = theirs
			break
		}
	}
	if t.path != "" {
		column = t.path + "." + column
	}
	return &BadDelivery{Path: column, Detail: detail}
}

// requireID holds that a row says which run it is.
func (t *rowReader) requireID() *BadDelivery {
	switch {
	case !t.row.ID.IsZero():
		return nil
	case t.problem != nil:
		return t.problem
	}
	return t.bad("id", "is missing or null; send the row's id")
}

// requireColumns returns what is wrong with a row that has to be whole: it can be read,
// and says which run it is, whose, and in what state. A run
// may have no user (a guest's, or its user was deleted), where the row says so.
func (t *rowReader) requireColumns() *BadDelivery {
	switch {
	case t.problem != nil:
		return t.problem
	case !t.present:
		return &BadDelivery{Path: cmp.Or(t.path, "the row"), Detail: "is null; send the row's columns as one object"}
	case t.row.ID.IsZero():
		return t.requireID()
	case t.seen&(1<<colUser) == 0:
		return t.bad("user_id", "is missing; send whose run it is, or null where it has no user")
	case t.row.Status == "":
		return t.bad("status", "is missing or null; send the row's status")
	}
	return nil
}

// requireTime holds that a run that has ended says when: [store.Repair] has to take
// one of these for it.
func (t *rowReader) requireTime() *BadDelivery {
	r := t.row
	if r.Status.Terminal() && r.CompletedAt.IsZero() && r.UpdatedAt.IsZero() && r.CreatedAt.IsZero() {
		return t.bad("completed_at", fmt.Sprintf(
			"is missing, and so are updated_at and created_at: nothing says when this %s run ended; send one of them", r.Status))
	}
	return nil
}

// column reads the value of a column from its text, of which at most maxValue
// bytes are there, and returns what is wrong with it: Value and Detail of a
// [BadDelivery].
func (t *rowReader) column(s *jsonscan.Scanner, d Decoder, col int, text []byte, size int64) (shown, detail string) {
	if string(text) == "null" {
		return "", ""
	}
	if col <= colDraft {
		return t.id(s, col, text, size)
	}
	if col == colDetails {
		t.row.ErrorDetails, detail = readDetails(text, size)
		return "", detail
	}
	if size > maxValue {
		return "", fmt.Sprintf("is longer than %d bytes; send what the column holds", maxValue)
	}
	if col == colDuration {
		if t.row.DurationMS, detail = readMillis(text); detail != "" {
			return show(text), detail
		}
		return "", ""
	}
	if to := t.time(col); to != nil && store.IsInteger(text) {
		if *to, detail = readCount(text, d.Unit); detail != "" {
			return show(text), detail
		}
		return "", ""
	}
	value, isString := []byte(nil), text[0] == '"'
	if isString {
		if value, isString = s.Unquote(text); !isString {
			return "", notUnicode
		}
	}
	if !isString {
		return show(text), "not a string; send what the database's webhooks send"
	}
	if to := t.time(col); to != nil {
		*to, detail = readTime(value, d.Zone)
	} else {
		t.row.Status, detail = readStatus(value)
	}
	if detail != "" {
		return show(text), detail
	}
	return "", ""
}

// time is the place of a column that is a time, nil for another.
func (t *rowReader) time(col int) *time.Time {
	switch r := &t.row; {
	case col == colLease:
		return &r.LeaseAt
	case col >= colCreated && col <= colUpdated:
		return [...]*time.Time{&r.CreatedAt, &r.StartedAt, &r.CompletedAt, &r.UpdatedAt}[col-colCreated]
	}
	return nil
}

// id reads one of the four ids. A text that can't be one leaves the run without
// that user, workflow or draft, and so in no count, rather than without its
// outcome. Without an id of its own there is no run to speak of.
func (t *rowReader) id(s *jsonscan.Scanner, col int, text []byte, size int64) (shown, detail string) {
	value, valid := text, true
	switch quoted := text[0] == '"'; {
	case !quoted && !store.IsInteger(text):
		return show(text), "neither a string nor a whole number; send what the database's webhooks send"
	case quoted && size <= maxValue:
		value, valid = s.Unquote(text)
	}
	id, held, err := t.ids.id(col, value)
	switch {
	case valid && err == nil:
		*[...]*store.ID{&t.row.ID, &t.row.User, &t.row.Workflow, &t.row.Draft}[col] = id
		t.held += held
	case col == colID && !valid:
		return "", notUnicode
	case col == colID:
		return show(text), fmt.Sprintf("%v; send the row's id, which has 1 to %d bytes", err, store.MaxID)
	}
	return "", ""
}

// lastIDs are the ids that were read last, by column.
type lastIDs [colDraft + 1]store.ID

// id returns the ID of a text, and how much memory it took. Most rows have ids
// of the row before: these take none.
func (l *lastIDs) id(col int, text []byte) (id store.ID, held int, err error) {
	if last := l[col]; len(text) > 0 && string(text) == last.String() {
		return last, 0, nil
	}
	if id, err = store.ParseID(string(text)); err == nil {
		l[col] = id
	}
	return id, len(text), err
}

const notUnicode = "is not valid Unicode: it holds a broken byte or half a surrogate pair; send UTF-8"

// maxShown bounds how much of a value an error repeats, in bytes.
const maxShown = 64
