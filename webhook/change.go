package webhook

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/jsonscan"
)

// changeReader reads one change object. Its keys come in any order: in
// jsonb's, the shortest first, the record stands before the schema. What is
// wrong with a row is therefore held back until it is known to be of the
// watched table.
type changeReader struct {
	seen        uint // bits by field
	op          store.Op
	other       bool // of a type that says nothing of a row
	schema      string
	table       string
	record, old rowReader
	version     int64
	mark        store.Mark
	broken      *BadDelivery // of the object itself, whatever its table; the first that was met
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

// none takes what stands where a change object should.
func (e *changeReader) none(s *jsonscan.Scanner) error {
	text, _, err := s.Capture(maxShown)
	if err == nil {
		e.broken = &BadDelivery{Path: "the change", Value: show(text),
			Detail: `not an object; send {"type", "schema", "table", "record", "old_record"}, or an array of those`}
	}
	return err
}

// read takes the value of one key. The error is for broken JSON and for r: what
// is wrong with the change is held back, so that the next one can be read.
func (e *changeReader) read(s *jsonscan.Scanner, key []byte, d Decoder) error {
	f := slices.Index(fieldNames[:], string(key))
	if f < 0 {
		return s.SkipValue()
	}
	if e.seen&(1<<f) != 0 {
		e.breaks(fieldNames[f], "", "stands in the change object twice; send it once")
		return s.SkipValue()
	}
	e.seen |= 1 << f
	switch f {
	case fieldType:
		name, err := e.readName(s, "type")
		e.op = store.Op(name)
		e.other = e.op != store.Insert && e.op != store.Update && e.op != store.Delete
		return err
	case fieldSchema:
		name, err := e.readName(s, "schema")
		e.schema = name
		return err
	case fieldTable:
		name, err := e.readName(s, "table")
		e.table = name
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
func (e *changeReader) readName(s *jsonscan.Scanner, path string) (string, error) {
	text, size, err := s.Capture(maxName)
	if err != nil {
		return "", err
	}
	if size > maxName {
		e.breaks(path, "", fmt.Sprintf("is longer than %d bytes; send a name such as PostgreSQL allows", maxName))
		return "", nil
	}
	if text[0] == '"' {
		if name, ok := s.Unquote(text); ok {
			return string(name), nil
		}
	}
	e.breaks(path, show(text), "not a string of valid Unicode; send it as the database's webhooks do")
	return "", nil
}

func (e *changeReader) readVersion(s *jsonscan.Scanner) error {
	text, _, err := s.Capture(maxShown)
	if err != nil || string(text) == "null" {
		return err
	}
	var malformed error
	if e.version, malformed = strconv.ParseInt(string(text), 10, 64); malformed != nil || e.version <= 0 {
		e.holdBack("version", show(text), "not a whole number above 0; send what the sequence gave, or leave it out")
	}
	return nil
}

// readMark takes the evidence. A string that is none of the marks is passed
// over: a newer trigger may say more than we know of.
func (e *changeReader) readMark(s *jsonscan.Scanner) error {
	text, size, err := s.Capture(maxName)
	switch {
	case err != nil || string(text) == "null":
		return err
	case text[0] != '"':
		e.holdBack("evidence", show(text), `not a string; send "presumed", "superseding" or "amended", or leave it out`)
	case size <= maxName: // no mark is longer
		name, _ := s.Unquote(text)
		for _, known := range [...]store.Mark{store.MarkPresumed, store.MarkSuperseding, store.MarkAmended} {
			if string(name) == string(known) {
				e.mark = known
			}
		}
	}
	return nil
}

// breaks notes what is wrong with the object itself: it can't be said whose
// change it is.
func (e *changeReader) breaks(path, value, detail string) {
	if e.broken == nil {
		e.broken = &BadDelivery{Path: path, Value: value, Detail: detail}
	}
}

// holdBack keeps what is wrong with a value until the change is known to be of
// the watched table: what is wrong with another's is none of ours.
func (e *changeReader) holdBack(path, value, detail string) {
	if e.problem == nil {
		e.problem = &BadDelivery{Path: path, Value: value, Detail: detail}
	}
}

// change returns what was read, and whether it is of the watched table.
func (e *changeReader) change(d Decoder) (c store.Change, ours bool, bad *BadDelivery) {
	if e.broken != nil {
		return c, false, e.broken
	}
	for f, name := range fieldNames[:fieldTable+1] {
		if e.seen&(1<<f) == 0 {
			return c, false, &BadDelivery{Path: name, Detail: "is missing; send type, schema and table with every change"}
		}
	}
	if e.other || !d.watches(e.schema, e.table) {
		return c, false, nil
	}
	if bad = cmp.Or(e.problem, e.shape()); bad == nil {
		if e.op == store.Delete {
			bad = e.old.requireID()
		} else {
			bad = cmp.Or(e.record.requireColumns(), e.record.requireTime(), e.keepsID())
		}
	}
	if bad != nil {
		return c, false, bad
	}
	c = store.Change{Op: e.op, Record: e.record.row, Version: e.version, Mark: e.mark}
	// The record is whole. An old row that is not is taken as absent: some
	// publishers send the primary key alone, and what can't be read of it by
	// now was set right by this change.
	if c.HasOld = e.op == store.Delete || e.old.present && e.old.requireColumns() == nil; c.HasOld {
		c.Old = e.old.row
	}
	return c, true, nil
}

// looksLikeRun reports whether a change of a table that is not watched holds
// what only a run has.
func (e *changeReader) looksLikeRun() bool {
	return !e.other && (e.record.requireColumns() == nil || e.old.requireColumns() == nil)
}

// keepsID holds that an UPDATE is of one run.
func (e *changeReader) keepsID() *BadDelivery {
	was, is := e.old.row.ID, e.record.row.ID
	if was.IsZero() || was == is {
		return nil
	}
	return &BadDelivery{Path: "old_record.id", Value: was.String() + ", while record.id is " + is.String(),
		Detail: "another than record.id; a run keeps its id: delete the one and insert the other"}
}

// shape holds that the rows are there which the type of the change needs, and
// no other.
func (e *changeReader) shape() *BadDelivery {
	for _, t := range [...]*rowReader{&e.record, &e.old} {
		if !t.present && t.problem != nil {
			return t.problem
		}
	}
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
