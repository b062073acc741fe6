package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/jsonscan"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

const (
	// MaxChanges bounds the changes of one delivery.
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

	// maxRetained bounds what one delivery holds in memory once it is
	// decoded, in bytes: room for MaxChanges, or for a thousand with the
	// longest error_details.
	maxRetained = 16 << 20

	// maxRefused bounds what one delivery holds of changes that can't be read,
	// in bytes.
	maxRefused = 8 << 20

	// maxValue bounds what is kept of one column, in bytes of JSON text.
	maxValue = 8 << 10
	// maxLevels bounds how deep error_details may nest: SQLite's functions and
	// PostgreSQL's parser each have a depth of their own.
	maxLevels = 512
	// maxStatus bounds a status, in bytes.
	maxStatus = 256
	// maxName bounds the text of the type, of the table's names and of a mark.
	maxName = 512
)

// ErrTooMuch is the error for a delivery that would take too much memory.
var ErrTooMuch error = &tooLarge{fmt.Sprintf("the delivery holds more than %d MB of error_details; send it in several deliveries", maxRetained>>20)}

// ErrTooManyChanges is the error for a delivery of more than [MaxChanges].
var ErrTooManyChanges error = &tooLarge{fmt.Sprintf("the delivery holds more than %d changes; send them in several deliveries", MaxChanges)}

// tooLarge is a delivery that must come in several.
type tooLarge struct{ text string }

func (t *tooLarge) Error() string { return t.text }

// Problem says it over HTTP.
func (t *tooLarge) Problem() *problem.Problem {
	return problem.New(http.StatusRequestEntityTooLarge, t.text)
}

// Decoder reads what senders deliver. It keeps the columns on which anything
// depends, passes over all others without keeping them, and reads numbers of
// any precision.
type Decoder struct {
	// Schema and Table name the table that is watched. Changes of others are
	// ignored, whatever shape their rows have.
	Schema, Table string
	// Partitions are names of the table's partitions, as SCHEMA.TABLE, in which *
	// stands for any text: their changes are the table's.
	Partitions []string
	// Columns are the names of the table's columns, each with ours for it, such
	// as user_id for org_id, where they differ: no other column is read then.
	Columns map[string]string
	// Statuses are the table's words that mean a status of ours.
	Statuses map[string]store.Status
	// AnyCase says that a status is the same in capitals and in small letters: A to
	// Z, as in the Statuses, which have small ones.
	AnyCase bool
	// Zone is the one that times without an offset are in; nil is UTC.
	Zone *time.Location
	// Unit is the unit of integers that stand for times, since 1970: a
	// millisecond or a second. Where it is 0 they are refused.
	Unit time.Duration
	// LeaseColumn is a lease or heartbeat column, read into Row.LeaseAt; none
	// where empty.
	LeaseColumn string
	// Large, where set, is called once, when a delivery turns out to hold more
	// than 64 changes or to retain more than 128 KiB. Its error ends the
	// decoding, and is returned as it is.
	Large func() error
	// Huge is called likewise, beyond 512 changes or 512 KiB.
	Huge func() error

	remember *semaphore.Weighted // for changes that are long and may be refused; may be nil
}

// Delivery holds the changes of one request.
type Delivery struct {
	Changes  []store.Change // those of the watched table, in order
	Received int            // all changes in the request
	Ignored  int            // those of other tables and of other types
	Other    string         // the first of these tables of which a row looks like a run; empty where none does
	Refused  []Refused      // those that can't be read, in order
}

// Refused is a change that can't be read. It costs no other change.
type Refused struct {
	Index  int    // which of the request, from 0
	Reason string // a sentence for the operator, which may show a value
	Public string // the same for the sender, without one
	// Body holds this change alone, so that it can be sent by itself, or the
	// beginning of that where it is shorter than Bytes. Both are unset where
	// the change is all of the request.
	Body  []byte
	Bytes int64
}

// BadDelivery is the error for a body of which nothing can be read.
type BadDelivery struct {
	Index  int    // which change in the array, from 0; -1 outside an array
	Path   string // what is wrong, such as record.id; empty for the JSON itself
	Detail string // what is wrong with it, and what to send
	// Value is the value that Detail is about, or the beginning of it. The
	// operator is shown it and the sender is not: pg_net keeps answers where
	// every SQL role reads them. Empty where it would tell nothing.
	Value string
}

// Error returns one sentence for the operator, with the value.
func (b *BadDelivery) Error() string { return b.change() + b.reason() }

// Problem says it over HTTP, without the value.
func (b *BadDelivery) Problem() *problem.Problem {
	return problem.New(http.StatusBadRequest, b.publicText())
}

// publicText returns the sentence for the sender, without the value.
func (b *BadDelivery) publicText() string { return b.change() + b.publicReason() }

func (b *BadDelivery) change() string {
	if b.Index >= 0 {
		return "change " + strconv.Itoa(b.Index) + ": "
	}
	return ""
}

// reason is Error without which change it is about.
func (b *BadDelivery) reason() string {
	if b.Value != "" {
		return b.Path + " is " + b.Value + ", " + b.Detail
	}
	return b.publicReason()
}

func (b *BadDelivery) publicReason() string {
	switch {
	case b.Path == "":
		return b.Detail
	case b.Value != "":
		return b.Path + " is " + b.Detail
	}
	return b.Path + " " + b.Detail
}

// Decode reads one change object, or an array of them, to the end of r: type,
// schema, table, record and old_record, as the database's webhooks send them,
// and what our own trigger adds, the version and the evidence, which becomes
// the Mark of the change. All other keys are passed over.
//
// A change that can't be read costs itself alone: it is among the refused.
//
// The errors are *[BadDelivery] for what is not JSON, and with what was refused
// where that is all there is; [ErrTooManyChanges], [ErrTooMuch], those of
// d.Large and d.Huge, and those of r, wrapped.
func (d Decoder) Decode(r io.Reader) (Delivery, error) {
	s := jsonscan.New(r)
	defer s.Release()
	b := deliveryReader{Decoder: d, index: -1, record: excerpt{room: d.remember}}
	defer b.record.free()
	c, err := s.Start()
	if err == nil && c == '[' {
		err = s.Array(func() error { b.index++; return b.change(s) })
	} else if err == nil {
		err = b.change(s)
	}
	if err == nil {
		b.index, err = -1, s.Finish()
	}
	if err != nil {
		return Delivery{}, placed(err, b.index)
	}
	if b.bad != nil && len(b.delivery.Changes) == 0 && b.delivery.Ignored == 0 {
		return b.delivery, b.bad
	}
	return b.delivery, nil
}

// Row reads one bare record, to the end of r. The errors are those of
// [Decoder.Decode].
func (d Decoder) Row(r io.Reader) (store.Row, error) {
	s := jsonscan.New(r)
	defer s.Release()
	t := rowReader{ids: new(lastIDs)}
	_, err := s.Start()
	if err == nil {
		err = t.read(s, d)
	}
	if err == nil {
		err = s.Finish()
	}
	if err == nil {
		err = cmp.Or(t.requireColumns(), t.requireTime()).asError()
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
	var broken *jsonscan.SyntaxError
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

// deliveryReader reads one delivery.
type deliveryReader struct {
	Decoder
	delivery Delivery
	index    int          // of the change that is read; -1 outside an array
	bad      *BadDelivery // what is wrong with the first that was refused
	record   excerpt      // of the text of the change that is read
	ids      lastIDs
	retained int // bytes, by changes
	refused  int // bytes, by those that were refused
	large    bool
	huge     bool
}

// What one change retains beside its strings, in bytes.
var (
	changeSize  = int(reflect.TypeFor[store.Change]().Size())
	refusedSize = int(reflect.TypeFor[Refused]().Size())
)

// change takes the next change object and adds it to the delivery.
func (b *deliveryReader) change(s *jsonscan.Scanner) error {
	if b.delivery.Received++; b.delivery.Received > MaxChanges {
		return ErrTooManyChanges
	}
	c, err := s.Next()
	if err != nil {
		return err
	}
	if b.index >= 0 {
		s.RecordTo(&b.record)
	}
	e := changeReader{record: rowReader{path: "record", ids: &b.ids}, old: rowReader{path: "old_record", ids: &b.ids}}
	if c == '{' {
		err = s.Object(func(key []byte) error { return e.read(s, key, b.Decoder) })
	} else {
		err = e.none(s)
	}
	if err != nil {
		return err
	}
	switch change, ours, bad := e.change(b.Decoder); {
	case bad != nil:
		b.refuse(s, bad)
	case !ours:
		b.delivery.Ignored++
		if b.delivery.Other == "" && e.looksLikeRun() {
			b.delivery.Other = e.schema + "." + e.table
		}
	default:
		b.delivery.Changes = append(b.delivery.Changes, change)
		for _, row := range [...]*store.Row{&change.Record, &change.Old} {
			b.retained += len(row.ErrorDetails) + len(row.Status)
		}
		if b.retained += changeSize + e.record.held + e.old.held; b.retained > maxRetained {
			return ErrTooMuch
		}
	}
	if err := b.grown(&b.large, b.Large, manyChanges, muchMemory); err != nil {
		return err
	}
	return b.grown(&b.huge, b.Huge, mostChanges, mostMemory)
}

// refuse notes a change that can't be read. Of one among many it keeps the text,
// for as many as a store keeps of them.
func (b *deliveryReader) refuse(s *jsonscan.Scanner, bad *BadDelivery) {
	bad.Index = b.index
	if b.bad == nil {
		b.bad = bad
	}
	r := Refused{Index: max(b.index, 0), Reason: bad.reason(), Public: bad.publicReason()}
	if b.index >= 0 {
		r.Body, r.Bytes = b.alone(s.Recorded())
	}
	b.refused += len(r.Body)
	b.retained += refusedSize + len(r.Reason) + len(r.Public)
	b.delivery.Refused = append(b.delivery.Refused, r)
}

// alone returns the beginning of a body with one change of an array, and the
// size of it, given the beginning of the change and its size.
func (b *deliveryReader) alone(text []byte, size int64) (body []byte, bytes int64) {
	open, end := "", ""
	if text[0] == '[' {
		open, end = "[", "]" // or it would be an array of changes
	}
	bytes = size + int64(len(open)+len(end))
	if len(b.delivery.Refused) >= store.MaxDeadLetters {
		return nil, bytes
	}
	text = text[:max(0, min(len(text), maxRefused-b.refused))]
	if int64(len(text)) < size {
		end = ""
	}
	return slices.Concat([]byte(open), text, []byte(end)), bytes
}

// grown asks, once, whether there is room for a delivery beyond a size.
func (b *deliveryReader) grown(asked *bool, ask func() error, changes, bytes int) error {
	if ask == nil || *asked || len(b.delivery.Changes)+len(b.delivery.Refused) <= changes && b.retained+b.refused <= bytes {
		return nil
	}
	*asked = true
	return ask()
}
