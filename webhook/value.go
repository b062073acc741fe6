package webhook

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgaze-ai/runcounter/store"
)

// show returns a value for a sentence to the operator.
func show(text []byte) string {
	switch {
	case text[0] == '{':
		return "an object"
	case text[0] == '[':
		return "an array"
	case len(text) >= maxShown:
		return strings.ToValidUTF8(string(text[:maxShown]), "") + "…"
	}
	return strings.ToValidUTF8(string(text), "\uFFFD")
}

// readDetails keeps error_details as they came. Details beyond maxValue or
// maxLevels give way to a note that is the same whenever they come, since copies
// of one outcome must stay equal.
func readDetails(text []byte, size int64) (details store.JSON, detail string) {
	switch {
	case size > maxValue:
		return store.JSON(fmt.Sprintf(`{"code":"too_large","message":"error_details of %d bytes is not kept here."}`, size)), ""
	case !utf8.Valid(text):
		return "", "is not UTF-8; send the text in UTF-8"
	}
	if n := levels(text); n > maxLevels {
		return store.JSON(fmt.Sprintf(`{"code":"too_deep","message":"error_details of %d levels is not kept here."}`, n)), ""
	}
	return store.JSON(text), ""
}

// levels returns how many arrays and objects stand in one another in a JSON
// value.
func levels(text []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// readStatus lets unknown statuses through; the known ones cost no memory.
// Blanks at the end are the padding of a char.
func readStatus(value []byte) (status store.Status, detail string) {
	value = bytes.TrimRight(value, " ")
	switch {
	case len(value) == 0:
		return "", "an empty string; send the row's status"
	case len(value) > maxStatus:
		return "", fmt.Sprintf("longer than %d bytes; send the row's status", maxStatus)
	case bytes.IndexByte(value, 0) >= 0:
		return "", "text with a NUL in it, which no database keeps; send the row's status"
	}
	for _, known := range [...]store.Status{store.Pending, store.Running, store.Cancelling, store.Completed, store.Failed, store.Cancelled, store.Timeout} {
		if string(value) == string(known) {
			return known, ""
		}
	}
	return store.Status(value), ""
}

// readMillis reads a number of any precision: an integer of 400 digits and
// 1e999 are the longest duration there is, a fraction is cut off, and what is
// negative is null. The text is a valid JSON value.
func readMillis(text []byte) (ms store.Millis, detail string) {
	if text[0] != '-' && !isDigit(text[0]) {
		return ms, "not a number; send the duration in milliseconds"
	}
	number, negative := bytes.CutPrefix(text, []byte("-"))
	exponent := 0
	if e := bytes.IndexAny(number, "eE"); e >= 0 {
		var err error
		exponent, err = strconv.Atoi(string(number[e+1:]))
		if err != nil { // valid, so only too large: far beyond all digits there are
			exponent = 2 * maxValue
			if number[e+1] == '-' {
				exponent = -exponent
			}
		}
		number = number[:e]
	}
	whole, fraction, _ := bytes.Cut(number, []byte("."))
	digits := bytes.TrimLeft(slices.Concat(whole, fraction), "0")
	// places is how many digits stand before the point. The exponent is bounded
	// first, lest the sum overflow.
	places := len(digits) - len(fraction) + min(max(exponent, -2*maxValue), 2*maxValue)
	switch {
	case len(digits) == 0:
		return store.MillisOf(0), ""
	case negative:
		return store.MillisOf(-1), ""
	case places <= 0:
		return store.MillisOf(0), ""
	case places > len("2147483647"):
		return store.MillisOf(store.MaxMillis), ""
	}
	n := int64(0)
	for i := range places {
		n *= 10
		if i < len(digits) {
			n += int64(digits[i] - '0')
		}
	}
	return store.MillisOf(n), ""
}

func isDigit(c byte) bool { return c-'0' <= 9 }

const notTime = "not a time such as 2026-11-22T20:10:37.200738+00:00; send it as PostgreSQL's to_jsonb prints it"

// readTime reads a time as PostgreSQL's to_jsonb prints it: T or a space
// between date and time, up to nine digits of a second, of which microseconds
// are kept, and an offset, without which it is the time of a zone, or UTC. What
// can't be a time is as if it were not there. It is written by hand because
// time.Parse takes a layout for each of these, and reads others too.
func readTime(text []byte, zone *time.Location) (t time.Time, detail string) {
	if string(text) == "infinity" || string(text) == "-infinity" {
		return t, ""
	}
	text, far := bytes.CutSuffix(text, []byte(" BC"))
	if year := leadingDigits(text); year > 4 {
		text, far = text[year-4:], true
	}
	const form = "0000-00-00?00:00:00"
	if len(text) < len(form) || text[10] != 'T' && text[10] != ' ' {
		return t, notTime
	}
	for i := range len(form) {
		if c := form[i]; c == '0' && !isDigit(text[i]) || c != '0' && c != '?' && c != text[i] {
			return t, notTime
		}
	}
	y, month, day := number(text[:4]), number(text[5:7]), number(text[8:10])
	h, m, sec := number(text[11:13]), number(text[14:16]), number(text[17:19])
	nanos, rest, ok := readFraction(text[len(form):])
	offset, valid := readOffset(rest)
	if !ok || !valid || h > 23 || m > 59 || sec > 59 {
		return t, notTime
	}
	if far {
		return t, ""
	}
	t = time.Date(y, time.Month(month), day, h, m, sec, nanos, time.UTC)
	if t.Month() != time.Month(month) { // the day was carried over
		return time.Time{}, "not a day of the calendar; send a time such as 2026-11-22T20:10:37.200738+00:00"
	}
	t = store.Instant(t.Add(-offset))
	if t.Before(store.FirstTime) || t.After(store.LastTime) {
		return time.Time{}, ""
	}
	if len(rest) == 0 && zone != nil { // of a column without zone
		t = store.At(t, zone)
	}
	return t, ""
}

// readCount reads an integer that counts since 1970, as the table's description
// says. One that is too far away to be a time is as if it were not there.
func readCount(text []byte, unit time.Duration) (t time.Time, detail string) {
	if unit == 0 {
		return t, "a number, and nothing says what it counts since 1970; say it with --times milliseconds or --times seconds"
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if first, last := store.FirstTime.UnixMilli(), store.LastTime.UnixMilli(); err == nil && unit == time.Millisecond && n >= first && n <= last {
		return time.UnixMilli(n).UTC(), ""
	}
	if first, last := store.FirstTime.Unix(), store.LastTime.Unix(); err == nil && unit == time.Second && n >= first && n <= last {
		return time.Unix(n, 0).UTC(), ""
	}
	return t, ""
}

// number reads a few digits.
func number(digits []byte) (n int) {
	for _, c := range digits {
		n = n*10 + int(c-'0')
	}
	return n
}

// leadingDigits returns how many digits text begins with.
func leadingDigits(text []byte) (n int) {
	for n < len(text) && isDigit(text[n]) {
		n++
	}
	return n
}

// readFraction reads the fraction of a second, where there is one.
func readFraction(text []byte) (nanos int, rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '.' {
		return 0, text, true
	}
	n := leadingDigits(text[1:])
	if n == 0 || n > 9 {
		return 0, nil, false
	}
	nanos = number(text[1 : n+1])
	for range 9 - n {
		nanos *= 10
	}
	return nanos, text[n+1:], true
}

// readOffset reads nothing, Z, or a sign and hours, which minutes and seconds
// may follow, with colons or without.
func readOffset(text []byte) (offset time.Duration, ok bool) {
	if len(text) == 0 || string(text) == "Z" {
		return 0, true
	}
	sign := text[0]
	if sign != '+' && sign != '-' {
		return 0, false
	}
	rest := text[1:]
	limit, unit := 23, time.Hour
	for parts := 0; ; parts++ {
		if leadingDigits(rest) < 2 || number(rest[:2]) > limit {
			return 0, false
		}
		offset += time.Duration(number(rest[:2])) * unit
		if rest = rest[2:]; len(rest) == 0 {
			break
		}
		if parts == 2 {
			return 0, false
		}
		rest = bytes.TrimPrefix(rest, []byte(":"))
		limit, unit = 59, unit/60
	}
	if sign == '-' {
		offset = -offset
	}
	return offset, true
}
