// Package jsonscan walks over one JSON text as it arrives, within a fixed buffer.
//
// A [Scanner] skips what its caller does not need, however long it is and however
// deep it nests, and captures what the caller asks for, up to a length. It holds
// both to RFC 8259. Package webhook reads deliveries with it. It imports the
// standard library alone; begin reading at [Scanner.Object] and [Scanner.SkipValue].
package jsonscan

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// bufferSize is all that a scanner holds of a body.
	bufferSize = 8 << 10
	// maxNested is the number of arrays and objects that stand in one another and are
	// held to the whole grammar: more than a database writes. What is deeper is
	// held to less of it (see skipDeep), since the memory for more would be a
	// matter of the sender's choice.
	maxNested = 64 << 10
	// maxKeyText bounds the text of a key that is looked at: 63 bytes are the
	// longest name of a column, 6 characters the longest escape of one byte.
	maxKeyText = 63*6 + 2
)

// Scanner walks over one JSON text as it arrives.
//
// It exists because of what has to be skipped. A delivery holds two copies of a
// snapshot of up to 100 MB, 200 deliveries come at once, and the signature of a
// stranger's is known to be wrong only at its end. encoding/json buffers any
// value that it passes over, go-faster/jx any string that it reads; none of
// the libraries that we found both skips within a fixed buffer and bounds what
// it captures. This one does, and holds what it skips to RFC 8259 all the same,
// so that a broken delivery isn't half read.
//
// It differs from encoding/json in two points: what it skips may nest to any
// depth, and strings that are captured must be UTF-8 without lone surrogates,
// where encoding/json puts U+FFFD in their place and so makes different values
// equal.
type Scanner struct {
	r     io.Reader
	buf   [bufferSize]byte
	pos   int   // the next byte to look at
	end   int   // where what was read into buf ends
	base  int64 // the offset of buf in the text
	err   error // what r said last; it is sticky
	depth int
	// objects has a bit for each array or object that is open: whether it is an
	// object.
	objects [maxNested / 64]uint64

	// While a value is captured, mark is where it goes on in buf, and kept
	// holds what of it has left buf, up to limit bytes. Otherwise mark is -1.
	mark  int
	kept  []byte
	limit int

	// While a text is recorded, from is where it goes on in buf, and record
	// remembers what of it has left buf. Otherwise from is -1.
	from   int
	began  int64 // its offset
	record Recorder

	text []byte // the last string that had to be unescaped
}

// Recorder remembers the beginning of a text.
type Recorder interface {
	io.Writer      // takes the next piece, and never fails
	Clear()        // begins another text
	Bytes() []byte // returns what is remembered, until something is written
}

// SyntaxError is the error for a text that breaks the grammar.
type SyntaxError struct {
	Offset int64 // bytes from the beginning of the text
	Detail string
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("the JSON is broken at byte %d: %s", e.Offset, e.Detail)
}

var scanners = sync.Pool{New: func() any { return new(Scanner) }}

// New returns a scanner of r, which must be released after use.
func New(r io.Reader) *Scanner {
	s := scanners.Get().(*Scanner)
	s.r, s.pos, s.end, s.base, s.err, s.depth, s.mark, s.from = r, 0, 0, 0, nil, 0, -1, -1
	return s
}

// Release gives the buffers back. Nothing that the scanner returned may be
// used after it.
func (s *Scanner) Release() {
	s.r, s.err, s.record = nil, nil, nil
	scanners.Put(s)
}

// offset returns how far the scanner has come.
func (s *Scanner) offset() int64 { return s.base + int64(s.pos) }

// fail returns the error for the byte at pos.
func (s *Scanner) fail(detail string) error {
	if s.pos == s.end {
		detail = "the text ends before it is complete; was it cut off on the way?"
	}
	return &SyntaxError{s.offset(), detail}
}

// fill replaces buf, which has been looked at to its end, by what follows. At
// the end of the text it leaves pos == end and returns nil.
func (s *Scanner) fill() error {
	if s.mark >= 0 {
		s.keep(s.buf[s.mark:s.end])
		s.mark = 0
	}
	if s.from >= 0 {
		_, _ = s.record.Write(s.buf[s.from:s.end])
		s.from = 0
	}
	s.base += int64(s.end)
	s.pos, s.end = 0, 0
	for tries := 0; s.end == 0 && s.err == nil; tries++ {
		s.end, s.err = s.r.Read(s.buf[:])
		if s.end == 0 && s.err == nil && tries == 100 {
			s.err = io.ErrNoProgress
		}
	}
	if s.end == 0 && !errors.Is(s.err, io.EOF) {
		return fmt.Errorf("read the body: %w", s.err)
	}
	return nil
}

// keep adds to what is captured as long as there is room.
func (s *Scanner) keep(text []byte) {
	s.kept = append(s.kept, text[:min(len(text), s.limit-len(s.kept))]...)
}

// peek returns the next byte without taking it, and 0 at the end of the text,
// which no rule of the grammar takes for anything else. Like next, it keeps
// what happens nearly always short.
func (s *Scanner) peek() (byte, error) {
	if s.pos < s.end {
		return s.buf[s.pos], nil
	}
	return s.peekOn()
}

func (s *Scanner) peekOn() (byte, error) {
	if err := s.fill(); err != nil || s.end == 0 {
		return 0, err
	}
	return s.buf[0], nil
}

// take returns the next byte, and fails at the end of the text.
func (s *Scanner) take() (byte, error) {
	c, err := s.peek()
	if err == nil && s.pos == s.end {
		err = s.fail("")
	}
	if err == nil {
		s.pos++
	}
	return c, err
}

// Next returns the next byte that is not white space, without taking it, and 0
// at the end of the text.
func (s *Scanner) Next() (byte, error) {
	if s.pos < s.end && s.buf[s.pos] > ' ' {
		return s.buf[s.pos], nil
	}
	return s.nextOn()
}

func (s *Scanner) nextOn() (byte, error) {
	for {
		for _, c := range s.buf[s.pos:s.end] {
			if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
				return c, nil
			}
			s.pos++
		}
		if c, err := s.peekOn(); c == 0 {
			return 0, err
		}
	}
}

// Start begins a text: it says what is wrong where no JSON begins at all.
func (s *Scanner) Start() (byte, error) {
	c, err := s.Next()
	switch {
	case err != nil:
		return 0, err
	case s.pos == s.end:
		return 0, &SyntaxError{s.offset(), "the text is empty"}
	case c == 0xEF || c == 0xFE || c == 0xFF:
		return 0, s.fail("the text begins with a byte order mark; send UTF-8 without one")
	}
	return c, nil
}

// Finish holds that nothing but white space is left.
func (s *Scanner) Finish() error {
	if _, err := s.Next(); err != nil {
		return err
	}
	if s.pos != s.end {
		return s.fail("the value is complete, yet the text goes on")
	}
	return nil
}

const (
	wantMember  = `a comma or "}" must follow here`
	wantElement = `a comma or "]" must follow here`
	wantKey     = `a key in double quotes must stand here`
	wantColon   = `a colon must follow the key`
	wantValue   = `a value must stand here`
)

// Object walks over an object, whose brace is next. member must take the value
// of each key; the key is valid until it does, and empty where it is too long
// or too broken to be a column's name.
func (s *Scanner) Object(member func(key []byte) error) error {
	more, err := s.enter('}')
	for more && err == nil {
		var key []byte
		if key, err = s.key(); err == nil {
			err = member(key)
		}
		if err == nil {
			more, err = s.after()
		}
	}
	return err
}

// Array walks over an array, whose bracket is next. element must take each
// value.
func (s *Scanner) Array(element func() error) error {
	more, err := s.enter(']')
	for more && err == nil {
		if err = element(); err == nil {
			more, err = s.after()
		}
	}
	return err
}

// enter takes the bracket that opens an array or object, and the closing one
// where nothing stands between. It reports whether something does.
func (s *Scanner) enter(closing byte) (more bool, err error) {
	if s.depth == maxNested {
		return false, s.fail("arrays and objects stand in one another too deep to be read")
	}
	word, bit := &s.objects[s.depth/64], uint64(1)<<(s.depth%64)
	if *word &^= bit; closing == '}' {
		*word |= bit
	}
	s.depth++
	s.pos++
	c, err := s.Next()
	if err != nil || c != closing {
		return true, err
	}
	s.pos++
	s.depth--
	return false, nil
}

// inObject reports whether the innermost that is open is an object.
func (s *Scanner) inObject() bool {
	d := s.depth - 1
	return s.objects[d/64]>>(d%64)&1 == 1
}

// after takes what follows a value in an array or object: a comma, or its end.
// It reports whether there is more.
func (s *Scanner) after() (more bool, err error) {
	c, err := s.Next()
	closing, want := byte(']'), wantElement
	if s.inObject() {
		closing, want = '}', wantMember
	}
	switch {
	case err != nil:
		return false, err
	case c == ',':
		s.pos++
		return true, nil
	case c == closing:
		s.pos++
		s.depth--
		return false, nil
	}
	return false, s.fail(want)
}

// key takes a key and its colon.
func (s *Scanner) key() ([]byte, error) {
	if c, err := s.Next(); err != nil || c != '"' {
		return nil, s.orSyntaxError(err, wantKey)
	}
	text, size, err := s.captured(maxKeyText, s.str)
	if err != nil {
		return nil, err
	}
	var key []byte
	if size <= maxKeyText {
		// Looking for the colon may replace buf, and the key with it.
		key, _ = s.Unquote(text)
		s.text = append(s.text[:0], key...)
		key = s.text
	}
	return key, s.colon()
}

func (s *Scanner) colon() error {
	if c, err := s.Next(); err != nil || c != ':' {
		return s.orSyntaxError(err, wantColon)
	}
	s.pos++
	return nil
}

// orSyntaxError returns err, or where there is none a failure at pos.
func (s *Scanner) orSyntaxError(err error, detail string) error {
	if err != nil {
		return err
	}
	return s.fail(detail)
}

// Capture takes the next value and returns its text, cut off after limit bytes,
// and its whole size. The text is valid until the scanner goes on.
func (s *Scanner) Capture(limit int) (text []byte, size int64, err error) {
	if _, err := s.Next(); err != nil {
		return nil, 0, err
	}
	return s.captured(limit, s.SkipValue)
}

func (s *Scanner) captured(limit int, walk func() error) (text []byte, size int64, err error) {
	base, begin := s.base, s.offset()
	s.mark, s.limit, s.kept = s.pos, limit, s.kept[:0]
	err = walk()
	mark := s.mark
	s.mark = -1
	if err != nil {
		return nil, 0, err
	}
	size = s.offset() - begin
	if s.base == base { // the usual case: all of it is still in buf
		return s.buf[mark:s.pos][:min(size, int64(limit))], size, nil
	}
	s.keep(s.buf[mark:s.pos])
	return s.kept, size, nil
}

// SkipValue takes the next value without keeping it, however deep it nests. It
// remembers the brackets that are open instead of calling itself: a goroutine's
// stack doesn't shrink while it waits for the rest of a body.
func (s *Scanner) SkipValue() error {
	outside := s.depth
	for {
		c, err := s.Next()
		if err != nil {
			return err
		}
		more := false
		switch {
		case c != '{' && c != '[':
			err = s.scalar(c)
		case s.depth == maxNested:
			err = s.skipDeep()
		default:
			more, err = s.enter(c + 2) // ] and } stand two behind [ and {
		}
		for err == nil && !more && s.depth > outside {
			more, err = s.after()
		}
		if err != nil || !more {
			return err
		}
		if s.inObject() {
			if err := s.skipKey(); err != nil {
				return err
			}
		}
	}
}

// skipDeep takes an array or object that is next, deeper than the kinds of
// brackets are remembered. It holds it to less than the grammar: what it holds
// are tokens of JSON, and as many brackets close as open.
func (s *Scanner) skipDeep() error {
	for open := 0; ; {
		c, err := s.Next()
		switch {
		case err != nil:
		case c == '{' || c == '[':
			open++
			s.pos++
		case c == '}' || c == ']':
			open--
			s.pos++
		case c == ',' || c == ':':
			s.pos++
		default:
			err = s.scalar(c)
		}
		if err != nil || open == 0 {
			return err
		}
	}
}

// RecordTo remembers what follows, from the next byte on.
func (s *Scanner) RecordTo(record Recorder) {
	record.Clear()
	s.record, s.from, s.began = record, s.pos, s.offset()
}

// Recorded ends a record. It returns the beginning of the text, valid until the
// scanner goes on, and its whole size. A text that never left buf, which nearly
// all are, is not copied.
func (s *Scanner) Recorded() (text []byte, size int64) {
	text, size = s.buf[s.from:s.pos], s.offset()-s.began
	if int64(len(text)) < size {
		_, _ = s.record.Write(text)
		text = s.record.Bytes()
	}
	s.from = -1
	return text, size
}

func (s *Scanner) skipKey() error {
	if c, err := s.Next(); err != nil || c != '"' {
		return s.orSyntaxError(err, wantKey)
	}
	if err := s.str(); err != nil {
		return err
	}
	return s.colon()
}
