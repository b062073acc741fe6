package jsonscan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// scalar takes a string, number or literal that begins with c, which is next.
func (s *Scanner) scalar(c byte) error {
	switch {
	case c == '"':
		return s.str()
	case c == '-' || isDigit(c):
		return s.number(c)
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.fail(wantValue)
}

func (s *Scanner) literal(word string) error {
	for i := range len(word) {
		if c, err := s.peek(); err != nil || c != word[i] {
			return s.orSyntaxError(err, wantValue)
		}
		s.pos++
	}
	return nil
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// number takes a number that begins with c, which is next.
func (s *Scanner) number(c byte) (err error) {
	if c == '-' {
		s.pos++
		if c, err = s.peek(); err != nil {
			return err
		}
	}
	if c == '0' {
		s.pos++ // and no digit after it
	} else if err := s.digits(); err != nil {
		return err
	}
	if c, err = s.peek(); err == nil && c == '.' {
		s.pos++
		if err := s.digits(); err != nil {
			return err
		}
		c, err = s.peek()
	}
	if err == nil && c|0x20 == 'e' {
		s.pos++
		if c, err = s.peek(); err == nil && (c == '+' || c == '-') {
			s.pos++
		}
		if err == nil {
			err = s.digits()
		}
	}
	return err
}

// digits takes one digit or more.
func (s *Scanner) digits() error {
	if c, err := s.peek(); err != nil || !isDigit(c) {
		return s.orSyntaxError(err, "a digit must stand here")
	}
	for {
		for s.pos < s.end {
			if !isDigit(s.buf[s.pos]) {
				return nil
			}
			s.pos++
		}
		if c, err := s.peek(); err != nil || c == 0 {
			return err
		}
	}
}

// str takes a string, whose opening quote is next.
func (s *Scanner) str() error {
	s.pos++
	for {
		s.pos += plain(s.buf[s.pos:s.end])
		c, err := s.peek()
		switch {
		case err != nil:
			return err
		case s.pos == s.end:
			return s.fail("")
		case c == '"':
			s.pos++
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < ' ':
			return s.fail(fmt.Sprintf(`a control character in a string must be written \u%04x`, c))
		}
	}
}

// plain returns how many bytes at the beginning of text stand for themselves in
// a string: none is a quote, a backslash or a control character. It looks at
// eight at once, for most of a delivery is strings that are skipped. The tests
// for single bytes in a word are those of "Bit Twiddling Hacks", Determine if a
// word has a byte less than n; what they report beyond the first hit may be
// wrong, hence TrailingZeros.
func plain(text []byte) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(text)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(text[i:])
		quote, slash := w^ones*'"', w^ones*'\\'
		hit := ((w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash) & high
		if hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for ; i < len(text); i++ {
		if c := text[i]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return i
}

// escape takes a backslash, which is next, and what it escapes.
func (s *Scanner) escape() error {
	s.pos++
	c, err := s.take()
	if err != nil {
		return err
	}
	if c == 'u' {
		for range 4 {
			if c, err := s.peek(); err != nil || unhex(c) < 0 {
				return s.orSyntaxError(err, `four hexadecimal digits must follow \u`)
			}
			s.pos++
		}
		return nil
	}
	if unescaped[c] == 0 {
		s.pos-- // the byte at fault
		return s.fail(`this can't follow a backslash; a backslash itself is written \\`)
	}
	return nil
}

// unhex returns the value of a hexadecimal digit, and -1 for anything else.
func unhex(c byte) rune {
	switch {
	case isDigit(c):
		return rune(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}

// Unquote returns what the text of a string stands for, and false where that is
// not UTF-8. The text must be whole and has been found valid.
func (s *Scanner) Unquote(text []byte) ([]byte, bool) {
	text = text[1 : len(text)-1]
	if !utf8.Valid(text) {
		return nil, false
	}
	i := plain(text)
	if i == len(text) {
		return text, true
	}
	out := append(s.text[:0], text[:i]...)
	for text = text[i:]; len(text) > 0; {
		r, size := unescape(text)
		if r < 0 {
			return nil, false
		}
		out, text = utf8.AppendRune(out, r), text[size:]
		i = plain(text)
		out, text = append(out, text[:i]...), text[i:]
	}
	s.text = out
	return out, true
}

// unescape reads the escape at the beginning of text: what it stands for, and
// its length. Half a surrogate pair stands for nothing, which is -1.
func unescape(text []byte) (rune, int) {
	if text[1] != 'u' {
		return rune(unescaped[text[1]]), 2
	}
	r := hex4(text[2:])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(text) >= 12 && text[6] == '\\' && text[7] == 'u' {
		if r = utf16.DecodeRune(r, hex4(text[8:])); r != utf8.RuneError {
			return r, 12
		}
	}
	return -1, 6
}

// unescaped holds what may follow a backslash, and what it stands for.
var unescaped = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

func hex4(digits []byte) (r rune) {
	for _, c := range digits[:4] {
		r = r<<4 | unhex(c)
	}
	return r
}
