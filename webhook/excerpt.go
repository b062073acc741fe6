package webhook

import (
	"bytes"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// letterBytes bounds what is kept of an unreadable text: more than any
	// sender writes that leaves the large columns out.
	letterBytes = 1 << 20
	// prefixBytes bounds what is kept of it where too many long ones come at
	// once to remember them all.
	prefixBytes = 64 << 10
)

// The buffers of short and of long ones, apart: a long one would be held for
// short ones for ever.
var (
	prefixes = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	longOnes = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, letterBytes)) }}
)

// excerpt remembers the beginning of a text that may turn out to be unreadable:
// a short one in any case, and more where there is room for that. The zero
// value has no such room, and holds nothing until something is added.
type excerpt struct {
	room *semaphore.Weighted // for long ones
	text *bytes.Buffer
	long bool // there was room
	cut  bool // something is missing, and can't be had later
}

// Write implements io.Writer: it adds the next piece of the text, and never fails.
func (e *excerpt) Write(p []byte) (int, error) {
	if e.text == nil {
		e.text = prefixes.Get().(*bytes.Buffer)
		e.text.Reset()
	}
	if !e.long && !e.cut && e.text.Len()+len(p) > prefixBytes && e.room != nil && e.room.TryAcquire(letterBytes) {
		short := e.text
		e.text, e.long = longOnes.Get().(*bytes.Buffer), true
		e.text.Reset()
		e.text.Write(short.Bytes())
		prefixes.Put(short)
	}
	most := prefixBytes
	if e.long {
		most = letterBytes
	}
	fits := min(len(p), most-e.text.Len())
	e.cut = e.cut || fits < len(p)
	e.text.Write(p[:fits])
	return len(p), nil
}

// Bytes implements jsonscan.Recorder: it returns what is remembered, until something is added.
func (e *excerpt) Bytes() []byte {
	if e.text == nil {
		return nil
	}
	return e.text.Bytes()
}

// Clear begins another text.
func (e *excerpt) Clear() {
	if e.text != nil {
		e.text.Reset()
	}
	e.cut = false
}

// free gives the memory back.
func (e *excerpt) free() {
	switch {
	case e.long:
		longOnes.Put(e.text)
		e.room.Release(letterBytes)
	case e.text != nil:
		prefixes.Put(e.text)
	}
	*e = excerpt{room: e.room}
}
