package answer

import "time"

// Instant is a time as answers have it: RFC 3339 with microseconds in UTC, and
// null for the zero time.
type Instant time.Time

// MarshalJSON implements json.Marshaler.
func (t Instant) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.String() + `"`), nil
}

// String returns the time as answers have it, and - for the zero time.
func (t Instant) String() string {
	if time.Time(t).IsZero() {
		return "-"
	}
	return time.Time(t).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Instant) UnmarshalJSON(b []byte) error { return (*time.Time)(t).UnmarshalJSON(b) }
