package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// MaxChanges is how many changes one delivery may hold.
	MaxChanges = 10_000

	// A delivery beyond either of these is large: more than a trigger sends,
	// and worth a place of its own before more of it is read.
	manyChanges = 64
	muchMemory  = 128 << 10 // bytes

	// A large delivery beyond either of these is huge: more than our own
	// trigger sends, which puts up to 500 changes into a request and, for a
	// statement of many rows, many requests at once.
	mostChanges = 512
	mostMemory  = 512 << 10 // bytes

	// maxRetained is how much one delivery may hold in memory once it is
	// decoded, in bytes: room for MaxChanges, or for a thousand with the
	// longest error_details.
	maxRetained = 16 << 20

	// maxValue bounds what is kept of one column, in bytes of JSON text.
	maxValue = 8 << 10
	// maxStatus bounds a status, in bytes.
	maxStatus = 256
	// maxName bounds the text of the type, of the table's names and of a mark.
	maxName = 512
)

// ErrTooMuch is the error for a delivery that would take too much memory.
var ErrTooMuch = fmt.Errorf("the delivery holds more than %d MB of error_details; send it in several deliveries", maxRetained>>20)

// ErrTooManyChanges is the error for a delivery of more than [MaxChanges].
var ErrTooManyChanges = fmt.Errorf("the delivery holds more than %d changes; send them in several deliveries", MaxChanges)

// Decoder reads what senders deliver. It keeps the columns on which anything
// depends, passes over all others without keeping them, and reads numbers of
// any precision.
type Decoder struct {
	// Schema and Table name the table that is watched. Changes of others are
	// ignored, whatever shape their rows have.
	Schema, Table string
	// LeaseColumn is a lease or heartbeat column, read into Row.LeaseAt; none
	// where empty.
	LeaseColumn string
	// Large, where set, is called once, when a delivery turns out to hold more
	// than 64 changes or to retain more than 128 KiB. Its error ends the
	// decoding, and is returned as it is.
	Large func() error
	// Huge is called likewise, beyond 512 changes or 512 KiB.
	Huge func() error
}

// Delivery is what one request brings. It retains nothing of the body.
type Delivery struct {
	Changes  []store.Change // those of the watched table, in order
	Received int            // all changes in the request
	Ignored  int            // those of other tables and of other types
}

// BadDelivery is the error for a body that can't be read.
type BadDelivery struct {
	Index  int    // which change in the array, from 0; -1 outside an array
	Path   string // what is wrong, such as record.id; empty for the JSON itself
	Detail string // what is wrong with it, and what to send
}

// Error returns one sentence for the sender.
func (b *BadDelivery) Error() string {
	sentence := b.Detail
	if b.Path != "" {
		sentence = b.Path + " " + sentence
	}
	if b.Index >= 0 {
		sentence = "change " + strconv.Itoa(b.Index) + ": " + sentence
	}
	return sentence
}

// Decode reads one change object, or an array of them, to the end of r: type,
// schema, table, record and old_record, as the database's webhooks send them,
// and what our own trigger adds, the version and the evidence, which becomes
// the Mark of the change. All other keys are passed over.
//
// The errors are *[BadDelivery] for what can't be read, [ErrTooManyChanges], [ErrTooMuch],
// those of d.Large and d.Huge, and those of r, wrapped.
func (d Decoder) Decode(r io.Reader) (Delivery, error) {
	s := newScanner(r)
	defer s.release()
	b := batch{Decoder: d}
	c, err := s.start()
	index := -1
	if err == nil && c == '[' {
		err = s.array(func() error { index++; return b.change(s) })
	} else if err == nil {
		err = b.change(s)
	}
	if err == nil {
		index, err = -1, s.finish()
	}
	if err != nil {
		return Delivery{}, placed(err, index)
	}
	return b.delivery, nil
}

// Row reads one bare record, to the end of r. The errors are those of
// [Decoder.Decode].
func (d Decoder) Row(r io.Reader) (store.Row, error) {
	s := newScanner(r)
	defer s.release()
	t := tuple{}
	_, err := s.start()
	if err == nil {
		err = t.read(s, d)
	}
	if err == nil {
		err = s.finish()
	}
	if err == nil {
		err = cmp.Or(t.problem, t.lacks(true), t.undated()).asError()
	}
	if err != nil {
		return store.Row{}, placed(err, -1)
	}
	return t.row, nil
}

// placed says in which change of the array an error is.
func placed(err error, index int) error {
	var bad *BadDelivery
	if errors.As(err, &bad) {
		bad.Index = index
		return bad
	}
	var broken *syntaxError
	if errors.As(err, &broken) {
		return &BadDelivery{Index: index, Detail: broken.Error()}
	}
	return err
}

// asError keeps a nil pointer from becoming an error.
func (b *BadDelivery) asError() error {
	if b == nil {
		return nil
	}
	return b
}

// batch is a delivery while it is read.
type batch struct {
	Decoder
	delivery Delivery
	retained int // bytes
	large    bool
	huge     bool
}

// changeSize is what one change retains beside its strings, in bytes.
var changeSize = int(reflect.TypeFor[store.Change]().Size())

// change takes the next change object and adds it to the delivery.
func (b *batch) change(s *scanner) error {
	if b.delivery.Received++; b.delivery.Received > MaxChanges {
		return ErrTooManyChanges
	}
	if c, err := s.next(); err != nil {
		return err
	} else if c != '{' {
		text, _, err := s.capture(maxShown)
		if err != nil {
			return err
		}
		return &BadDelivery{Path: "the change", Detail: "is " + show(text) +
			`, not an object; send {"type", "schema", "table", "record", "old_record"}, or an array of those`}
	}
	e := event{record: tuple{path: "record"}, old: tuple{path: "old_record"}}
	if err := s.object(func(key []byte) error { return e.read(s, key, b.Decoder) }); err != nil {
		return err
	}
	change, ours, bad := e.change()
	if bad != nil {
		return bad
	}
	if !ours {
		b.delivery.Ignored++
		return nil
	}
	b.delivery.Changes = append(b.delivery.Changes, change)
	for _, row := range [...]*store.Row{&change.Record, &change.Old} {
		b.retained += len(row.ErrorDetails) + len(row.Status)
	}
	if b.retained += changeSize; b.retained > maxRetained {
		return ErrTooMuch
	}
	if err := b.grown(&b.large, b.Large, manyChanges, muchMemory); err != nil {
		return err
	}
	return b.grown(&b.huge, b.Huge, mostChanges, mostMemory)
}

// grown asks, once, whether there is room for a delivery beyond a size.
func (b *batch) grown(asked *bool, ask func() error, changes, bytes int) error {
	if ask == nil || *asked || len(b.delivery.Changes) <= changes && b.retained <= bytes {
		return nil
	}
	*asked = true
	return ask()
}

// event is one change object while it is read. Its keys come in any order: in
// jsonb's, the shortest first, the record stands before the schema. What is
// wrong with a row is therefore held back until it is known to be of the
// watched table.
type event struct {
	seen        uint // bits by field
	op          store.Op
	other       bool // of another table, or of a type that says nothing of a row
	record, old tuple
	version     int64
	mark        store.Mark
	problem     *BadDelivery // of the version or the mark, the first that was met
}

// The keys of a change object that are read.
const (
	fieldType = iota
	fieldSchema
	fieldTable
	fieldRecord
	fieldOld
	fieldVersion
	fieldEvidence
)

var fieldNames = [...]string{"type", "schema", "table", "record", "old_record", "version", "evidence"}

// read takes the value of one key.
func (e *event) read(s *scanner, key []byte, d Decoder) error {
	f := slices.Index(fieldNames[:], string(key))
	if f < 0 {
		return s.skip()
	}
	if e.seen&(1<<f) != 0 {
		return &BadDelivery{Path: fieldNames[f], Detail: "stands in the change object twice; send it once"}
	}
	e.seen |= 1 << f
	switch f {
	case fieldType:
		name, err := readName(s, "type")
		e.op = store.Op(name)
		e.other = e.other || e.op != store.Insert && e.op != store.Update && e.op != store.Delete
		return err
	case fieldSchema:
		name, err := readName(s, "schema")
		e.other = e.other || name != d.Schema
		return err
	case fieldTable:
		name, err := readName(s, "table")
		e.other = e.other || name != d.Table
		return err
	case fieldVersion:
		return e.readVersion(s)
	case fieldEvidence:
		return e.readMark(s)
	case fieldRecord:
		return e.record.read(s, d)
	}
	return e.old.read(s, d)
}

// readName takes the type or one of the table's names.
func readName(s *scanner, path string) (string, error) {
	text, size, err := s.capture(maxName)
	if err != nil {
		return "", err
	}
	if size > maxName {
		return "", &BadDelivery{Path: path, Detail: fmt.Sprintf("is longer than %d bytes; send a name such as PostgreSQL allows", maxName)}
	}
	if text[0] == '"' {
		if name, ok := s.unquote(text); ok {
			return string(name), nil
		}
	}
	return "", &BadDelivery{Path: path, Detail: "is " + show(text) + ", not a string of valid Unicode; send it as the database's webhooks do"}
}

func (e *event) readVersion(s *scanner) error {
	text, _, err := s.capture(maxShown)
	if err != nil || string(text) == "null" {
		return err
	}
	var malformed error
	if e.version, malformed = strconv.ParseInt(string(text), 10, 64); malformed != nil || e.version <= 0 {
		e.holdBack("version", "is "+show(text)+", not a whole number above 0; send what the sequence gave, or leave it out")
	}
	return nil
}

// readMark takes the evidence. A string that is none of the marks is passed
// over: a newer trigger may say more than we know of.
func (e *event) readMark(s *scanner) error {
	text, size, err := s.capture(maxName)
	switch {
	case err != nil || string(text) == "null":
		return err
	case text[0] != '"':
		e.holdBack("evidence", `is `+show(text)+`, not a string; send "presumed", "superseding" or "amended", or leave it out`)
	case size <= maxName: // no mark is longer
		name, _ := s.unquote(text)
		for _, known := range [...]store.Mark{store.MarkPresumed, store.MarkSuperseding, store.MarkAmended} {
			if string(name) == string(known) {
				e.mark = known
			}
		}
	}
	return nil
}

// holdBack keeps what is wrong with a value until the change is known to be of
// the watched table: what is wrong with another's is none of ours.
func (e *event) holdBack(path, detail string) {
	if e.problem == nil {
		e.problem = &BadDelivery{Path: path, Detail: detail}
	}
}

// change returns what was read, and whether it is of the watched table.
func (e *event) change() (c store.Change, ours bool, bad *BadDelivery) {
	for f, name := range fieldNames[:fieldTable+1] {
		if e.seen&(1<<f) == 0 {
			return c, false, &BadDelivery{Path: name, Detail: "is missing; send type, schema and table with every change"}
		}
	}
	if e.other {
		return c, false, nil
	}
	if bad = cmp.Or(e.problem, e.record.problem, e.old.problem, e.shape()); bad != nil {
		return c, false, bad
	}
	c = store.Change{Op: e.op, Record: e.record.row, Old: e.old.row, HasOld: e.old.present, Version: e.version, Mark: e.mark}
	if e.op == store.Delete {
		return c, true, e.old.lacks(false)
	}
	bad = cmp.Or(e.record.lacks(true), e.record.undated())
	if bad == nil && e.old.present {
		bad = e.old.lacks(true)
		if bad == nil && c.Old.ID != c.Record.ID {
			bad = &BadDelivery{Path: "old_record.id", Detail: fmt.Sprintf(
				"is %s, but record.id is %s; a run keeps its id: delete the one and insert the other", c.Old.ID, c.Record.ID)}
		}
	}
	return c, bad == nil, bad
}

// shape holds that the rows are there which the type of the change needs, and
// no other.
func (e *event) shape() *BadDelivery {
	switch {
	case e.op == store.Insert && e.old.present:
		return &BadDelivery{Path: "old_record", Detail: "is a row, but nothing stands before an INSERT; send null"}
	case e.op == store.Delete && e.record.present:
		return &BadDelivery{Path: "record", Detail: "is a row, but nothing is left by a DELETE; send null"}
	case e.op == store.Delete && !e.old.present:
		return &BadDelivery{Path: "old_record", Detail: "is missing or null; send the row that was deleted, or its id alone"}
	case e.op != store.Delete && !e.record.present:
		return &BadDelivery{Path: "record", Detail: "is missing or null; send the row as the change left it"}
	}
	return nil
}

// tuple is a row while it is read.
type tuple struct {
	path    string // record or old_record; empty for a bare row
	row     store.Row
	present bool
	seen    uint         // bits by column
	problem *BadDelivery // the first that was met
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
func (t *tuple) read(s *scanner, d Decoder) error {
	if c, err := s.next(); err != nil {
		return err
	} else if c != '{' {
		text, _, err := s.capture(maxShown)
		if err == nil && string(text) != "null" {
			t.problem = &BadDelivery{Path: cmp.Or(t.path, "the row"), Detail: "is " + show(text) + ", not an object; send the row's columns as one"}
		}
		return err
	}
	t.present = true
	return s.object(func(key []byte) error {
		col := slices.Index(columnNames[:], string(key))
		name := d.LeaseColumn
		switch {
		case col >= 0:
			name = columnNames[col]
		case name != "" && string(key) == name:
			col = colLease
		default:
			return s.skip()
		}
		text, size, err := s.capture(maxValue)
		if err != nil {
			return err
		}
		detail := "stands in the row twice; send it once"
		if t.seen&(1<<col) == 0 {
			detail = t.column(s, col, text, size)
		}
		t.seen |= 1 << col
		if detail != "" && t.problem == nil {
			t.problem = t.bad(name, detail)
		}
		return nil
	})
}

// bad returns the error for a column.
func (t *tuple) bad(column, detail string) *BadDelivery {
	if t.path != "" {
		column = t.path + "." + column
	}
	return &BadDelivery{Path: column, Detail: detail}
}

// lacks returns what is missing: a row says which run it is, and, where all of
// it must be there, whose run and in what state.
func (t *tuple) lacks(all bool) *BadDelivery {
	switch {
	case !t.present:
		return &BadDelivery{Path: cmp.Or(t.path, "the row"), Detail: "is null; send the row's columns as one object"}
	case t.row.ID.IsZero():
		return t.bad("id", "is missing, null or all zeros; send the row's id")
	case all && t.row.User.IsZero():
		return t.bad("user_id", "is missing, null or all zeros; send whose run it is")
	case all && t.row.Status == "":
		return t.bad("status", "is missing or null; send the row's status")
	}
	return nil
}

// undated holds that a run that has ended says when: [store.Repair] has to take
// one of these for it.
func (t *tuple) undated() *BadDelivery {
	r := t.row
	if r.Status.Terminal() && r.CompletedAt.IsZero() && r.UpdatedAt.IsZero() && r.CreatedAt.IsZero() {
		return t.bad("completed_at", fmt.Sprintf(
			"is missing, and so are updated_at and created_at: nothing says when this %s run ended; send one of them", r.Status))
	}
	return nil
}

// column reads the value of a column from its text, of which at most maxValue
// bytes are there, and returns what is wrong with it.
func (t *tuple) column(s *scanner, col int, text []byte, size int64) (detail string) {
	if string(text) == "null" {
		return ""
	}
	if col == colDetails {
		t.row.ErrorDetails, detail = readDetails(text, size)
		return detail
	}
	if size > maxValue {
		return fmt.Sprintf("is longer than %d bytes; send what the column holds", maxValue)
	}
	if col == colDuration {
		if t.row.DurationMS, detail = readMillis(text); detail != "" {
			return "is " + show(text) + ", " + detail
		}
		return ""
	}
	value, isString := []byte(nil), text[0] == '"'
	if isString {
		if value, isString = s.unquote(text); !isString {
			return "is not valid Unicode: it holds a broken byte or half a surrogate pair; send UTF-8"
		}
	}
	if !isString {
		return "is " + show(text) + ", not a string; send what the database's webhooks send"
	}
	switch r := &t.row; col {
	case colID, colUser, colWorkflow, colDraft:
		to := [...]*store.ID{&r.ID, &r.User, &r.Workflow, &r.Draft}[col-colID]
		id, err := store.ParseID(string(value))
		if err != nil {
			return fmt.Sprintf("is %s, %v; send the row's %s column", show(text), err, columnNames[col])
		}
		*to = id
	case colStatus:
		r.Status, detail = readStatus(value)
	case colLease:
		r.LeaseAt, detail = readTime(value)
	default:
		to := [...]*time.Time{&r.CreatedAt, &r.StartedAt, &r.CompletedAt, &r.UpdatedAt}[col-colCreated]
		*to, detail = readTime(value)
	}
	if detail != "" {
		return "is " + show(text) + ", " + detail
	}
	return ""
}

// maxShown bounds how much of a value an error repeats, in bytes.
const maxShown = 64
