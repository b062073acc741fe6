package sqlmodel

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A kind is a type without its modifiers.
type kind uint8

const (
	kUnknown kind = iota // of a string constant or a parameter, until its place decides
	kBool
	kInt2
	kInt4
	kInt8
	kNumeric
	kFloat8 // no type of a column: what a parameter may come as
	kText
	kVarchar
	kUUID
	kTimestamptz
	kTimestamp
	kDate
	kInterval
	kJSON
	kJSONB
	kVoid
)

// A typ is a type: mod is a varchar's length or a numeric's precision, 0 where
// there is none.
type typ struct {
	k          kind
	mod, scale int
}

func (t typ) String() string {
	return [...]string{"unknown", "boolean", "smallint", "integer", "bigint", "numeric", "double precision", "text", "character varying", "uuid",
		"timestamp with time zone", "timestamp without time zone", "date", "interval", "json", "jsonb", "void"}[t.k]
}

func (t typ) isInt() bool  { return t.k >= kInt2 && t.k <= kInt8 }
func (t typ) isNum() bool  { return t.k >= kInt2 && t.k <= kNumeric }
func (t typ) isText() bool { return t.k == kText || t.k == kVarchar }
func (t typ) isTime() bool { return t.k == kTimestamptz || t.k == kTimestamp || t.k == kDate }

// bare is the type without modifiers.
func (t typ) bare() typ { return typ{k: t.k} }

// stateError is an error as PostgreSQL gives it, of the type that pgx returns.
func stateError(code, message string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message}
}

// The values of a type in Go are bool, int64 of all integers, string of text,
// uuid and json, decimal, time.Time in UTC, and interval; NULL is nil.

// interval is PostgreSQL's, in its three parts.
type interval struct {
	months, days int32
	micros       int64
}

func invalid(t typ, text string) error {
	return stateError("22P02", fmt.Sprintf("invalid input syntax for type %s: %q", t, text))
}

// fromText reads a constant of a type.
func fromText(t typ, text string) (any, error) {
	switch t.k {
	case kUnknown, kText, kVarchar:
		if strings.IndexByte(text, 0) >= 0 {
			return nil, stateError("22021", `invalid byte sequence for encoding "UTF8": 0x00`)
		}
		return text, nil
	case kBool:
		return boolFrom(text)
	case kInt2, kInt4, kInt8:
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			if numberPattern.MatchString(strings.TrimSpace(text)) && !strings.Contains(text, ".") {
				return nil, stateError("22003", fmt.Sprintf("value %q is out of range for type %s", text, t))
			}
			return nil, invalid(t, text)
		}
		if !fits(t, n) {
			return nil, stateError("22003", fmt.Sprintf("value %q is out of range for type %s", text, t))
		}
		return n, nil
	case kNumeric:
		return decimalFrom(strings.TrimSpace(text))
	case kUUID:
		return uuidFrom(text)
	case kTimestamptz, kTimestamp, kDate:
		return timeFrom(t, text)
	case kInterval:
		return intervalFrom(text)
	case kJSON, kJSONB:
		return jsonFrom(t, text)
	}
	return nil, refuse("constants of the type %s", t)
}

var numberPattern = regexp.MustCompile(`^[-+]?[0-9]+(\.[0-9]*)?$`)

func boolFrom(text string) (any, error) {
	switch s := strings.ToLower(strings.TrimSpace(text)); s {
	case "t", "tr", "tru", "true", "y", "ye", "yes", "on", "1":
		return true, nil
	case "f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0":
		return false, nil
	}
	return nil, invalid(typ{k: kBool}, text)
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func uuidFrom(text string) (any, error) {
	s := strings.ToLower(text)
	if !uuidPattern.MatchString(s) {
		if hex := strings.Trim(s, "{}"); len(strings.ReplaceAll(hex, "-", "")) == 32 {
			return nil, refuse("the uuid %s, in a form without its four hyphens", text)
		}
		return nil, invalid(typ{k: kUUID}, text)
	}
	return s, nil
}

// timeLayouts are the ways to write a moment that the model reads.
var timeLayouts = []string{
	"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999",
	"2006-01-02T15:04:05.999999999", "2006-01-02 15:04Z07:00", "2006-01-02 15:04", "2006-01-02",
}

func timeFrom(t typ, text string) (any, error) {
	s := strings.TrimSpace(text)
	for _, layout := range timeLayouts {
		m, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		switch t.k {
		case kTimestamptz:
			m = m.UTC()
		case kDate:
			m = time.Date(m.Year(), m.Month(), m.Day(), 0, 0, 0, 0, time.UTC)
		default: // a zone is left out, as PostgreSQL does
			m = time.Date(m.Year(), m.Month(), m.Day(), m.Hour(), m.Minute(), m.Second(), m.Nanosecond(), time.UTC)
		}
		return m.Round(time.Microsecond), nil
	}
	return nil, refuse("%q as a constant of the type %s", text, t)
}

var intervalPattern = regexp.MustCompile(`^\s*([-+]?[0-9]+)\s*([a-z]+)\s*`)

func intervalFrom(text string) (any, error) {
	var v interval
	rest := strings.ToLower(text)
	for found := false; ; found = true {
		m := intervalPattern.FindStringSubmatch(rest)
		if m == nil {
			if !found || strings.TrimSpace(rest) != "" {
				return nil, refuse("the interval %q: write whole numbers of units, such as '5 minutes'", text)
			}
			return v, nil
		}
		n, err := strconv.ParseInt(m[1], 10, 32)
		if err != nil {
			return nil, stateError("22015", fmt.Sprintf("interval field value out of range: %q", text))
		}
		unit := strings.TrimSuffix(m[2], "s")
		switch unit {
		case "microsecond", "u":
			v.micros += n
		case "millisecond", "m":
			v.micros += n * 1000
		case "second", "sec", "":
			v.micros += n * 1e6
		case "minute", "min":
			v.micros += n * 60e6
		case "hour", "h", "hr":
			v.micros += n * 3600e6
		case "day", "d":
			v.days += int32(n)
		case "week", "w":
			v.days += int32(n) * 7
		case "month", "mon":
			v.months += int32(n)
		case "year", "y", "yr":
			v.months += int32(n) * 12
		default:
			return nil, refuse("the interval %q: write whole numbers of units, such as '5 minutes'", text)
		}
		if m[2] == "m" { // which is minutes, where ms is milliseconds
			v.micros += n*60e6 - n*1000
		}
		rest = rest[len(m[0]):]
	}
}

// fits reports whether a number is in the range of an integer type.
func fits(t typ, n int64) bool {
	switch t.k {
	case kInt2:
		return n >= math.MinInt16 && n <= math.MaxInt16
	case kInt4:
		return n >= math.MinInt32 && n <= math.MaxInt32
	}
	return true
}

func inRange(t typ, n int64) (any, error) {
	if !fits(t, n) {
		return nil, stateError("22003", t.String()+" out of range")
	}
	return n, nil
}

// text writes a value as PostgreSQL's output functions do.
func text(t typ, v any) (string, error) {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case string:
		return v, nil
	case decimal:
		return v.String(), nil
	case time.Time:
		switch t.k {
		case kDate:
			return v.Format("2006-01-02"), nil
		case kTimestamp:
			return v.Format("2006-01-02 15:04:05.999999"), nil
		}
		return v.Format("2006-01-02 15:04:05.999999") + "+00", nil
	case interval:
		return v.String(), nil
	}
	return "", refuse("the text of a value of the type %s", t)
}

// String writes an interval in the style postgres.
func (v interval) String() string {
	var parts []string
	plus := "" // a sign that stands behind what is negative
	add := func(n int64, one string) {
		if n == 0 {
			return
		}
		if n < 0 {
			parts, plus = append(parts, fmt.Sprintf("%d %ss", n, one)), "+"
			return
		}
		s := fmt.Sprintf("%s%d %s", plus, n, one)
		if n != 1 {
			s += "s"
		}
		parts, plus = append(parts, s), ""
	}
	add(int64(v.months/12), "year")
	add(int64(v.months%12), "mon")
	add(int64(v.days), "day")
	if v.micros != 0 || len(parts) == 0 {
		sign, m := plus, v.micros
		if m < 0 {
			sign, m = "-", -m
		}
		s := fmt.Sprintf("%s%02d:%02d:%02d", sign, m/3600e6, m/60e6%60, m/1e6%60)
		if f := m % 1e6; f != 0 {
			s += strings.TrimRight(fmt.Sprintf(".%06d", f), "0")
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

// total is the length by which PostgreSQL compares intervals.
func (v interval) total() int64 {
	return v.micros + (int64(v.days)+int64(v.months)*30)*86400e6
}

// shift moves a moment by an interval.
func shift(m time.Time, v interval, sign int) time.Time {
	if v.months != 0 {
		day := m.Day()
		first := time.Date(m.Year(), m.Month(), 1, m.Hour(), m.Minute(), m.Second(), m.Nanosecond(), time.UTC).AddDate(0, sign*int(v.months), 0)
		last := first.AddDate(0, 1, -1).Day()
		m = first.AddDate(0, 0, min(day, last)-1)
	}
	m = m.AddDate(0, 0, sign*int(v.days))
	return time.UnixMicro(m.UnixMicro() + int64(sign)*v.micros).UTC()
}

// compare orders two values of one type that are not null.
func compare(a, b any) int {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
		return decimalOf(a).cmp(b.(decimal))
	case decimal:
		if b, ok := b.(int64); ok {
			return a.cmp(decimalOf(b))
		}
		return a.cmp(b.(decimal))
	case string:
		return cmp.Compare(a, b.(string))
	case bool:
		b := b.(bool)
		switch {
		case a == b:
			return 0
		case b:
			return -1
		}
		return 1
	case time.Time:
		return a.Compare(b.(time.Time))
	case interval:
		return cmp.Compare(a.total(), b.(interval).total())
	case []byte:
		return bytes.Compare(a, b.([]byte))
	}
	panic(fmt.Sprintf("harness: values of the type %T are not compared", a))
}

// same reports whether two values are not distinct.
func same(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return compare(a, b) == 0
}

// key is a text that two values of one type share where they are equal.
func key(v any) string {
	switch v := v.(type) {
	case nil:
		return "\x00"
	case decimal:
		return v.canonical()
	case interval:
		return strconv.FormatInt(v.total(), 10)
	case time.Time:
		return strconv.FormatInt(v.UnixMicro(), 10)
	case string:
		return "s" + v
	}
	return fmt.Sprint(v)
}
