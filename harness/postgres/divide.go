package postgres

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A query of several statements is one transaction, and one message. To hold the
// server between two of them without changing either, a COPY from the client is
// put there, into an empty temporary table without columns: the server waits for
// its data, and goes on when it hears that there are none. What it says of that
// COPY the client does not hear.

const (
	makeDivider = "create temporary table if not exists harness_divider ()"
	divider     = "copy pg_temp.harness_divider from stdin;"
)

var noMoreData = message{'c', []byte{'c', 0, 0, 0, 4}}

// divided is a query with dividers.
type divided struct {
	text     string
	steps    []sqlStatement
	dividers []int // where they stand, in characters
}

// divide puts dividers into a text, before each statement that is a step but for
// those that follow the beginning of a transaction at once: its snapshot is not
// taken yet, and a divider would take it.
func divide(text string, backslash bool) (divided, bool) {
	var d divided
	var b strings.Builder
	list := statements(text, backslash)
	from, fresh := 0, true // the statements since from are one step; nothing of them has looked at anything
	group := func(to int) {
		s := list[to-1]
		end := len(text)
		if to < len(list) {
			end = list[to].start
		}
		s.text = strings.TrimRight(text[list[from].start:end], "; \t\r\n")
		s.count, s.partial = to-from, to < len(list)
		d.steps = append(d.steps, s)
		from = to
	}
	written := 0
	for i, s := range list {
		if s.word(0) == "copy" || s.word(0) == "prepare" {
			return d, false
		}
		if aside := s.aside(false); i > 0 && !fresh && !aside {
			group(i)
			b.WriteString(text[written:s.start])
			written = s.start
			d.dividers = append(d.dividers, utf8.RuneCountInString(b.String()))
			b.WriteString(divider)
		} else if aside {
			continue
		}
		fresh = s.begins()
	}
	group(len(list))
	b.WriteString(text[written:])
	d.text = b.String()
	return d, len(d.steps) > 1
}

// divides runs a query statement by statement, where that can be had.
func (w *wire) divides(a engine.Actor, text string) (ran bool, err error) {
	w.mu.Lock()
	d, ok := divide(text, w.backslash())
	status, ready := w.status, w.divider
	w.mu.Unlock()
	switch {
	case !ok || status == 'E':
		return false, nil
	case ready:
	case status != 'I' || !w.makesDivider(a):
		return false, nil
	}
	raw, err := (&pgproto3.Query{String: d.text}).Encode(nil)
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	w.dividers, w.due = slices.Clone(d.dividers), len(d.dividers)
	w.mu.Unlock()
	m := message{'Q', raw}
	for i, what := range d.steps {
		if err := w.run(a, what, []message{m}, false); err != nil {
			if i > 0 {
				w.lose(err) // it stands within a query
			}
			return true, err
		}
		w.mu.Lock()
		goesOn := w.dividing && w.lost == nil
		w.mu.Unlock()
		if !goesOn {
			return true, nil
		}
		m = noMoreData
	}
	return true, nil
}

// makesDivider makes the table, once for a session.
func (w *wire) makesDivider(a engine.Actor) bool {
	made := w.asks(a, makeDivider)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.divider = made
	return made
}

// asks has the server do something of which the client does not hear.
func (w *wire) asks(a engine.Actor, text string) bool {
	raw, err := (&pgproto3.Query{String: text}).Encode(nil)
	if err != nil {
		return false
	}
	w.mu.Lock()
	w.own, w.code = true, ""
	w.mu.Unlock()
	if err := w.exchange(a, []message{{'Q', raw}}); err != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost == nil && w.code == ""
}

// settlesAgain makes our settings once more where the client has reset them.
func (w *wire) settlesAgain(a engine.Actor) {
	w.mu.Lock()
	list := w.ours
	if again := w.reset && w.status == 'I'; !again {
		w.mu.Unlock()
		return
	}
	w.reset = false
	w.mu.Unlock()
	for _, text := range list {
		w.asks(a, text)
	}
}

// saysOfDividers takes what the server says of them, and reports whether it was
// that.
func (b *serverSide) saysOfDividers(kind byte, body []byte) bool {
	switch {
	case kind == 'G' && b.due > 0:
		b.due--
		b.copying, b.dividing = true, true
		return true
	case kind == 'C' && b.dividing:
		b.dividing = false
		return true
	case kind == 'E' && len(b.dividers) > 0:
		return b.failsBetween(body)
	case kind == 'Z':
		b.dividers, b.due, b.dividing = nil, 0, false
	}
	return false
}

// failsBetween tells the client where in its own text an error is.
func (b *serverSide) failsBetween(body []byte) bool {
	var e pgproto3.ErrorResponse
	if err := e.Decode(body); err != nil || e.Position == 0 {
		return false
	}
	inserted := 0
	for _, at := range b.dividers {
		if int(e.Position) > at+1 {
			inserted++
		}
	}
	e.Position -= int32(inserted * len(divider))
	raw, err := e.Encode(nil)
	if err != nil {
		panic(fmt.Sprintf("harness: encode an error: %v", err))
	}
	b.fails(body)
	b.out = append(b.out, raw...)
	return true
}
