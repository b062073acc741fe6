package sqlmodel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// castable reports whether a value of one type is cast to another: explicitly,
// or where it is assigned to a column.
func castable(from, to typ, explicit bool) bool {
	switch {
	case from.k == to.k, from.k == kUnknown, from.isText() && to.isText():
		return true
	case from.isNum() && to.isNum():
		return true
	case from.k == kTimestamptz && to.isTime(), from.k == kTimestamp && to.isTime(), from.k == kDate && to.isTime():
		return true
	case from.k == kBool && to.k == kInt4, from.k == kInt4 && to.k == kBool:
		return explicit
	case from.k == kJSON && to.k == kJSONB, from.k == kJSONB && to.k == kJSON:
		return true
	case to.isText():
		return from.k != kVoid
	case from.isText():
		return explicit
	}
	return false
}

// cast makes a value one of another type. An assignment fails where a text is
// too long, which an explicit cast cuts.
func cast(v any, from, to typ, explicit bool) (any, error) {
	if v == nil {
		return nil, nil
	}
	var err error
	if from.k != to.k {
		if v, err = convert(v, from, to); err != nil {
			return nil, err
		}
	}
	switch {
	case to.k == kVarchar && to.mod > 0:
		s := v.(string)
		if utf8.RuneCountInString(s) <= to.mod {
			return s, nil
		}
		cut := string([]rune(s)[:to.mod])
		if !explicit && strings.TrimRight(s[len(cut):], " ") != "" {
			return nil, stateError("22001", fmt.Sprintf("value too long for type character varying(%d)", to.mod))
		}
		return cut, nil
	case to.k == kNumeric:
		return v.(decimal).limit(to)
	}
	return v, nil
}

func convert(v any, from, to typ) (any, error) {
	switch {
	case from.isText() && to.isText():
		return v, nil
	case from.k == kUnknown, from.isText():
		return fromText(to, v.(string))
	case to.isText():
		return text(from, v)
	case from.isInt() && to.isInt():
		return inRange(to, v.(int64))
	case from.isInt() && to.k == kNumeric:
		return decimalOf(v.(int64)), nil
	case from.k == kNumeric && to.isInt():
		return v.(decimal).integer(to)
	case from.k == kBool && to.k == kInt4:
		if v.(bool) {
			return int64(1), nil
		}
		return int64(0), nil
	case from.k == kInt4 && to.k == kBool:
		return v.(int64) != 0, nil
	case to.k == kDate:
		m := v.(time.Time)
		return time.Date(m.Year(), m.Month(), m.Day(), 0, 0, 0, 0, time.UTC), nil
	case from.isTime() && to.isTime():
		return v, nil // the zone of the session is UTC
	case from.k == kJSONB && to.k == kJSON:
		return v, nil
	case from.k == kJSON && to.k == kJSONB:
		return jsonFrom(to, v.(string))
	}
	return nil, refuse("the cast of %s to %s", from, to)
}

// jsonFrom checks a JSON text; that of jsonb is written anew, as PostgreSQL
// stores it.
func jsonFrom(t typ, text string) (any, error) {
	if !json.Valid([]byte(text)) {
		return nil, stateError("22P02", "invalid input syntax for type "+t.String())
	}
	if t.k == kJSON {
		return text, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, stateError("22P02", "invalid input syntax for type jsonb")
	}
	var b strings.Builder
	if err := writeJSONB(&b, v); err != nil {
		return nil, err
	}
	return b.String(), nil
}

func writeJSONB(b *strings.Builder, v any) error {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(x, y string) int { // shorter keys first
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			return strings.Compare(x, y)
		})
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := writeJSONB(b, k); err != nil {
				return err
			}
			b.WriteString(": ")
			if err := writeJSONB(b, v[k]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, x := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := writeJSONB(b, x); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case json.Number:
		if !numberPattern.MatchString(v.String()) {
			return refuse("the number %s in a jsonb", v)
		}
		d, err := decimalFrom(v.String())
		if err != nil {
			return err
		}
		b.WriteString(d.(decimal).String())
	case string:
		if strings.ContainsRune(v, 0) {
			return stateError("22P05", "unsupported Unicode escape sequence")
		}
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return err
		}
		if strings.ContainsAny(out.String(), "\u2028\u2029") || strings.Contains(out.String(), `\u202`) || strings.Contains(out.String(), `\u00`) {
			return refuse("control characters in a jsonb")
		}
		b.WriteString(strings.TrimSuffix(out.String(), "\n"))
	case nil:
		b.WriteString("null")
	case bool:
		fmt.Fprint(b, v)
	}
	return nil
}

// argument makes a value that database/sql hands over one of a parameter's
// type, as pgx encodes it.
func argument(v any, t typ) (any, error) {
	wrong := func() (any, error) {
		return nil, fmt.Errorf("unable to encode %#v into the type %s of the parameter", v, t)
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool:
		if t.k == kBool {
			return v, nil
		}
		if t.isText() {
			return text(typ{k: kBool}, v)
		}
	case int64:
		switch {
		case t.isInt():
			if !fits(t, v) {
				return nil, fmt.Errorf("%d is out of the range of the parameter's type %s", v, t)
			}
			return v, nil
		case t.k == kNumeric:
			return decimalOf(v), nil
		case t.k == kText || t.k == kVarchar:
			return nil, fmt.Errorf("unable to encode %#v into text: pass a string, or write the parameter's type behind it, such as $1::int", v)
		}
	case float64:
		if t.isInt() && v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return argument(int64(v), t)
		}
		return nil, refuse("floating-point numbers, such as the argument %v", v)
	case time.Time:
		if t.isTime() {
			m := v.UTC()
			if t.k == kTimestamp { // pgx leaves the zone out
				m = time.Date(v.Year(), v.Month(), v.Day(), v.Hour(), v.Minute(), v.Second(), v.Nanosecond(), time.UTC)
			}
			if t.k == kDate {
				m = time.Date(v.Year(), v.Month(), v.Day(), 0, 0, 0, 0, time.UTC)
			}
			return m.Truncate(time.Microsecond), nil
		}
	case []byte:
		if t.k == kJSON || t.k == kJSONB || t.isText() {
			return fromText(t, string(v))
		}
	case string:
		return fromText(t, v)
	}
	return wrong()
}
