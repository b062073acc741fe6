package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
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

// readMillis reads a number of any precision: an integer of 400 digits and 1e999
// are the longest duration there is, a fraction is cut off, what is negative is
// null, and what a float64 takes for 0 is 0. The text is a valid JSON value.
func readMillis(text []byte) (ms store.Millis, detail string) {
	near, err := strconv.ParseFloat(string(text), 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return ms, "not a number; send the duration in milliseconds"
	case near < 0:
		return store.MillisOf(-1), ""
	case near == 0:
		return store.MillisOf(0), ""
	case near > store.MaxMillis:
		return store.MillisOf(store.MaxMillis), ""
	}
	exact, _ := new(big.Rat).SetString(string(text)) // is no longer than this one's digits: near bounds it
	return store.MillisOf(new(big.Int).Quo(exact.Num(), exact.Denom()).Int64()), ""
}

const notTime = "not a time such as 2026-11-22T20:10:37.200738+00:00; send it as PostgreSQL's to_jsonb prints it"

// layouts are the times that PostgreSQL prints, by the length of their offset.
var layouts = [...]string{
	0: "2006-01-02T15:04:05", 1: time.RFC3339, 3: "2006-01-02T15:04:05Z07", 5: "2006-01-02T15:04:05Z0700",
	6: time.RFC3339, 7: "2006-01-02T15:04:05Z070000", 9: "2006-01-02T15:04:05Z07:00:00",
}

// readTime reads a time as PostgreSQL prints it: T or a space between date and time,
// a fraction of which microseconds are kept, and an offset, without which it is the
// time of a zone, or UTC. A time that Go can't hold (BC, a year of five digits,
// infinity) is as if it were not there.
func readTime(text []byte, zone *time.Location) (t time.Time, detail string) {
	value := string(text)
	if value == "infinity" || value == "-infinity" {
		return t, ""
	}
	value, far := strings.CutSuffix(value, " BC")
	year, _, _ := strings.Cut(value, "-")
	if strings.Trim(year, "0123456789") != "" {
		return t, notTime
	}
	if n := len(year); n > 4 {
		value, far = value[n-4:], true
	}
	const shortest = len("2006-01-02T15:04:05")
	if len(value) < shortest || value[10] != 'T' && value[10] != ' ' {
		return t, notTime
	}
	if far { // of its day nothing is wanted but that it is one, in a leap year too
		value = "2000" + value[4:]
	}
	offset := 0
	if sign := strings.IndexAny(value[shortest:], "+-Z"); sign >= 0 {
		offset = len(value) - shortest - sign
	}
	if offset >= len(layouts) || layouts[offset] == "" {
		return t, notTime
	}
	if value[10] == ' ' {
		value = value[:10] + "T" + value[11:]
	}
	t, err := time.Parse(layouts[offset], value)
	if err != nil {
		return time.Time{}, notTime
	}
	t = store.Instant(t)
	if far || t.Before(store.FirstTime) || t.After(store.LastTime) {
		return time.Time{}, ""
	}
	if offset == 0 && zone != nil { // of a column without zone
		t = store.WallClock(t, zone)
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
