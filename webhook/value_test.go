package webhook

import (
	"encoding/json"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

func TestDurations(t *testing.T) {
	for text, want := range map[string]store.Millis{
		"0": store.MillisOf(0), "4210": store.MillisOf(4210), "1.999999": store.MillisOf(1), "0.9": store.MillisOf(0),
		"12.5e1": store.MillisOf(125), "12.5E+2": store.MillisOf(1250), "1500e-3": store.MillisOf(1), "0.00015e4": store.MillisOf(1),
		"2147483647": store.MillisOf(store.MaxMillis), "2147483648": store.MillisOf(store.MaxMillis), "1e10": store.MillisOf(store.MaxMillis),
		"1" + strings.Repeat("0", 400): store.MillisOf(store.MaxMillis), "1e999": store.MillisOf(store.MaxMillis), "1e99999999999999999999": store.MillisOf(store.MaxMillis),
		"1e9223372036854775807": store.MillisOf(store.MaxMillis), "1e-9223372036854775808": store.MillisOf(0),
		"1e-999": store.MillisOf(0), "1e-99999999999999999999": store.MillisOf(0), "0e99999999999999999999": store.MillisOf(0),
		"0." + strings.Repeat("0", 400) + "7e402": store.MillisOf(70), strings.Repeat("7", 400) + "e-399": store.MillisOf(7),
		"-1": {}, "-0.5": {}, "-1e999": {}, "-0": store.MillisOf(0), "-0.00": store.MillisOf(0), "null": {},
	} {
		got, err := runs.Row(strings.NewReader(columns(`,"duration_ms":` + text)))
		if err != nil || got.DurationMS != want {
			t.Errorf("%.30s: got %v, %v; want %v", text, got.DurationMS, err, want)
		}
	}
}

func FuzzDurationsAgreeWithBigNumbers(f *testing.F) {
	for _, text := range []string{"0", "-0.0", "12.5e1", "2147483647.9", "9e9", "1e-3", "100e-2", "-7", "0.00012e5"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		exact, ok := new(big.Rat).SetString(text)
		if near, err := strconv.ParseFloat(text, 64); err == nil && near == 0 {
			exact = new(big.Rat) // below what a float64 holds
		}
		if !ok || !json.Valid([]byte(text)) || len(text) > 400 || text != strings.TrimSpace(text) {
			return
		}
		whole := new(big.Int).Quo(exact.Num(), exact.Denom())
		want := store.MillisOf(store.MaxMillis)
		switch {
		case exact.Sign() < 0:
			want = store.MillisOf(-1)
		case whole.IsInt64():
			want = store.MillisOf(whole.Int64())
		}
		if got, detail := readMillis([]byte(text)); detail != "" || got != want {
			t.Errorf("%s: got %v %s, want %v", text, got, detail, want)
		}
	})
}

func TestTimes(t *testing.T) {
	const none = "none"
	for _, c := range []struct{ name, text, want string }{
		{"microseconds, as captured", "2026-11-22T20:10:37.200738+00:00", "2026-11-22T20:10:37.200738Z"},
		{"no fraction", "2026-11-22T20:10:37+00:00", "2026-11-22T20:10:37Z"},
		{"one digit", "2026-11-22T20:10:37.2Z", "2026-11-22T20:10:37.2Z"},
		{"nanoseconds, cut off", "2026-11-22T20:10:37.999999999Z", "2026-11-22T20:10:37.999999Z"},
		{"a space", "2026-11-22 20:10:37+00", "2026-11-22T20:10:37Z"},
		{"no offset", "2026-11-22T20:10:37", "2026-11-22T20:10:37Z"},
		{"an offset without a colon", "2026-11-22T20:10:37+0530", "2026-11-22T14:40:37Z"},
		{"an offset with seconds", "1900-01-01T00:00:00-03:30:15", "1900-01-01T03:30:15Z"},
		{"a leap day", "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"},
		{"the first", "0002-01-01T00:00:00Z", "0002-01-01T00:00:00Z"},
		{"the last", "9998-12-31T23:59:59.999999Z", "9998-12-31T23:59:59.999999Z"},
		{"case T11: what Go takes for no time at all", "0001-01-01T00:00:00Z", none},
		{"case T11: a year that the offset moves out", "0002-01-01T00:00:00+01:00", none},
		{"case T11: the other end", "9998-12-31T23:59:59-01:00", none},
		{"case T11: the year 0", "0000-06-01T00:00:00Z", none},
		{"case T11: five digits of a year", "12026-01-01T00:00:00Z", none},
		{"case T11: the last year of all", "294276-12-31T23:59:59+00:00", none},
		{"case T11: before Christ", "0044-03-15T12:00:00+00:00 BC", none},
		{"case T11: for ever", "infinity", none},
		{"case T11: since ever", "-infinity", none},
		{"words before Christ", "hunter2 BC", ""},
		{"words behind five digits", "12026-soon", ""},
		{"nothing", "", ""},
		{"a date", "2026-11-22", ""},
		{"a leap day too many", "2026-02-29T00:00:00Z", ""},
		{"a 13th month", "2026-13-01T00:00:00Z", ""},
		{"a month 0", "2026-00-01T00:00:00Z", ""},
		{"the hour 24", "2026-11-22T24:00:00Z", ""},
		{"a leap second", "2026-12-31T23:59:60Z", ""},
		{"a day before the date", "Sun 2026-11-22 20:10:37", ""},
		{"words where a year should stand", "garbage-01-02T03:04:05", ""},
		{"words for a year before Christ", "abcd-01-02T03:04:05 BC", ""},
		{"a point without digits", "2026-11-22T20:10:37.Z", ""},
		{"an offset of one digit", "2026-11-22T20:10:37+1", ""},
		{"an offset that ends in a colon", "2026-11-22T20:10:37+01:", ""},
		{"an offset with four parts", "2026-11-22T20:10:37+01:02:03:04", ""},
		{"a zone's name", "2026-11-22T20:10:37 UTC", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, detail := readTime([]byte(c.text), nil)
			if c.want == none {
				if detail != "" || !got.IsZero() {
					t.Errorf("got %v %s, want it as if it were not there", got, detail)
				}
				return
			}
			if c.want == "" {
				if detail == "" || !got.IsZero() {
					t.Errorf("got %v, want it refused", got)
				}
				return
			}
			if want := at(t, c.want); detail != "" || got != want {
				t.Errorf("got %v %s, want %v", got, detail, want)
			}
		})
	}
}

// timeForm is what PostgreSQL prints. time.Parse reads more, such as a comma before
// the fraction, and what becomes of that is no matter: no database sends it.
var timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d)?|[0-5]\d([0-5]\d)?)?)?$`)

func FuzzTimesAgreeWithTimeParse(f *testing.F) {
	for _, text := range []string{
		aTime, "2026-11-22 20:10:37+00", "1900-01-01T00:00:00.123456789-03:30:15", "2026-11-22T20:10:37+0530",
		"2024-02-29T00:00:00", "0001-01-01T00:00:00Z", "infinity", "0044-03-15T12:00:00+00:00 BC", "2026-11-22T20:10:37+053015",
		"0001-01-01 00:00:00", "9999-12-31 23:59:59.9",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, detail := readTime([]byte(text), nil)
		far := strings.HasSuffix(text, "infinity") || strings.HasSuffix(text, " BC") || len(text) > 4 && text[4] >= '0' && text[4] <= '9'
		var want time.Time
		var err error
		if !far && !timeForm.MatchString(text) {
			return
		}
		if !far {
			// time.Parse wants all colons or none.
			reference := strings.Replace(text, " ", "T", 1)
			if zone := strings.LastIndexAny(reference, "+-"); zone > 18 {
				reference = reference[:zone] + strings.ReplaceAll(reference[zone:], ":", "")
			}
			for _, zone := range []string{"", "Z07", "Z0700", "Z070000"} {
				if want, err = time.Parse("2006-01-02T15:04:05"+zone, reference); err == nil {
					break
				}
			}
		}
		if want = store.Instant(want); want.Before(store.FirstTime) || want.After(store.LastTime) {
			want = time.Time{} // as if it were not there
		}
		if far {
			if !got.IsZero() {
				t.Errorf("%q: got %v, want none", text, got)
			}
			return
		}
		if (detail == "") != (err == nil) || got != want {
			t.Errorf("%q: got %v %s, want %v %v", text, got, detail, want, err)
		}
	})
}
