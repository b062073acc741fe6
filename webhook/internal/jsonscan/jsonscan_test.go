package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

// valueOf builds what the next value stands for, as json.Unmarshal with
// UseNumber does.
func valueOf(s *Scanner) (any, error) {
	c, err := s.Next()
	if err != nil {
		return nil, err
	}
	switch c {
	case '{':
		members := map[string]any{}
		err := s.Object(func(key []byte) error {
			name := string(key)
			v, err := valueOf(s)
			members[name] = v
			return err
		})
		return members, err
	case '[':
		elements := []any{}
		err := s.Array(func() error {
			v, err := valueOf(s)
			elements = append(elements, v)
			return err
		})
		return elements, err
	}
	text, size, err := s.Capture(1 << 20)
	switch {
	case err != nil:
		return nil, err
	case size != int64(len(text)):
		return nil, errors.New("the size is not that of the text")
	case c == '"':
		value, ok := s.Unquote(text)
		if !ok {
			return nil, errNotUnicode
		}
		return string(value), nil
	case string(text) == "null":
		return nil, nil
	case string(text) == "true", string(text) == "false":
		return string(text) == "true", nil
	}
	return json.Number(text), nil
}

var errNotUnicode = errors.New("a captured string is not valid Unicode")

// whole runs walk over a text that must hold nothing else.
func whole(r io.Reader, walk func(*Scanner) error) error {
	s := New(r)
	defer s.Release()
	_, err := s.Start()
	if err == nil {
		err = walk(s)
	}
	if err == nil {
		err = s.Finish()
	}
	return err
}

// hasLongKey reports whether some key is beyond what the scanner looks at.
func hasLongKey(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if 6*len(key)+2 > maxKeyText || hasLongKey(value) {
				return true
			}
		}
	case []any:
		for _, value := range v {
			if hasLongKey(value) {
				return true
			}
		}
	}
	return false
}

func FuzzScanAgreesWithEncodingJSON(f *testing.F) {
	for _, c := range grammar {
		f.Add([]byte(c.text), 3)
	}
	for _, body := range webhooktest.Captures(f) {
		f.Add(body, 100)
	}
	f.Add([]byte("{\"a\":\"\xb1\",\"a\":null}"), 3)
	f.Add([]byte(`{"a":"\ud800","a":null}`), 3)
	f.Fuzz(func(t *testing.T, text []byte, chunk int) {
		if chunk < 1 {
			chunk = bufferSize
		}
		read := func() io.Reader { return &webhooktest.Chunked{Text: string(text), N: chunk} }
		err := whole(read(), (*Scanner).SkipValue)
		valid := json.Valid(text)
		if !valid && webhooktest.DepthOf(text) > 10_000 {
			return // encoding/json reads no deeper
		}
		if (err == nil) != valid {
			t.Fatalf("the scanner says %v, json.Valid %v", err, valid)
		}
		for _, limit := range []int{1, 5, len(text)} {
			captured := whole(read(), func(s *Scanner) error {
				got, size, err := s.Capture(limit)
				want := bytes.Trim(text, " \n\r\t")
				if err == nil && (size != int64(len(want)) || string(got) != string(want[:min(limit, len(want))])) && valid {
					t.Errorf("captured %q of %d bytes with the limit %d, want the beginning of %q", got, size, limit, want)
				}
				return err
			})
			if (captured == nil) != valid {
				t.Errorf("capture with the limit %d says %v, json.Valid %v", limit, captured, valid)
			}
		}
		var got, want any
		err = whole(read(), func(s *Scanner) (err error) { got, err = valueOf(s); return err })
		if !valid {
			if err == nil {
				t.Fatal("the walk let through what json.Valid refuses")
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		// U+FFFD is what encoding/json makes of what is not Unicode; keys of
		// that kind are empty here, and long ones too.
		if hasLongKey(want) || strings.Contains(mustMarshal(t, want), "\uFFFD") {
			return
		}
		// Nor does encoding/json keep it where its key comes again.
		if errors.Is(err, errNotUnicode) && (!utf8.Valid(text) || surrogate.Match(text)) {
			return
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("values: %v (-want +got)\n%s", err, cmp.Diff(want, got))
		}
	})
}

// surrogate is the escape of half a pair, or of a half that has the other beside it.
var surrogate = regexp.MustCompile(`(?i)\\ud[89a-f]`)

func mustMarshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// grammar holds one case for each rule of RFC 8259. Offset is where the fault
// is, or -1.
var grammar = []struct {
	name   string
	text   string
	offset int64
}{
	{"a literal", ` true `, -1},
	{"a number with all its parts", `-12.50E+07`, -1},
	{"a zero", `0`, -1},
	{"an integer of 400 digits", `1` + strings.Repeat("0", 400), -1},
	{"empty containers", `[{},[],{"a":{}}]`, -1},
	{"every escape", `"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude80\uFFFD"`, -1},
	{"raw UTF-8 and DEL", "\"Zoë 漢 🚀 \x7f\"", -1},
	{"a broken byte in a string that is skipped", "\"\xff\"", -1},
	{"half a surrogate pair that is skipped", `"\ud800 \ud800\ud800 \udc00"`, -1},
	{"a duplicate key", `{"a":1,"a":2}`, -1},
	{"an escaped key", `{"\u0069d":1,"":2}`, -1},
	{"nesting of 512 levels", strings.Repeat("[", 512) + strings.Repeat("]", 512), -1},
	{"nesting of 1,000 levels", strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000), -1},
	{"a long string", `["` + strings.Repeat(`0123456789abcde\n`, 3000) + `",1]`, -1},
	{"white space longer than the buffer", strings.Repeat(" ", 20_000) + "[" + strings.Repeat("\n", 20_000) + "]", -1},

	{"nothing", ``, 0},
	{"nothing but space", " \n", 2},
	{"a byte order mark", "\xef\xbb\xbf{}", 0},
	{"text after the value", `{} x`, 3},
	{"a second value", `1 2`, 2},
	{"a NUL after the value", "1\x00", 1},
	{"a NUL instead of a value", "[\x00]", 1},
	{"an array that ends in a comma", `[1,]`, 3},
	{"an object that ends in a comma", `{"a":1,}`, 7},
	{"a comma too early", `[,1]`, 1},
	{"no comma between elements", `[1 2]`, 3},
	{"no comma between members", `{"a":1 "b":2}`, 7},
	{"no colon", `{"a" 1}`, 5},
	{"no value", `{"a":}`, 5},
	{"a key without quotes", `{a:1}`, 1},
	{"a key that is a number", `{1:1}`, 1},
	{"brackets that don't match", `[1}`, 2},
	{"braces that don't match", `{"a":1]`, 6},
	{"an array cut off", `[1,2`, 4},
	{"an object cut off behind a key", `{"a"`, 4},
	{"a string cut off", `"abc`, 4},
	{"an escape cut off", `"abc\`, 5},
	{"an escape of a character that has none", `"\x"`, 2},
	{"an escape with a letter beyond f", `"\u12g4"`, 5},
	{"an escape in single quotes", `'a'`, 0},
	{"a line break in a string", "\"a\nb\"", 2},
	{"a NUL in a string", "\"12345678\x00\"", 9},
	{"a leading zero", `[01]`, 2},
	{"a leading plus", `+1`, 0},
	{"a minus alone", `-`, 1},
	{"a point without a digit", `[1.]`, 3},
	{"a number that begins with a point", `.5`, 0},
	{"an exponent without a digit", `[1e+]`, 4},
	{"a hexadecimal number", `0x10`, 1},
	{"NaN", `NaN`, 0},
	{"a literal cut off", `tru`, 3},
	{"a literal in capitals", `[True]`, 1},
	{"a literal too long", `nulls`, 4},
	{"a comment", `[1 /* one */]`, 3},
	{"braces that don't match 1,000 levels deep", strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("]", 1000), 5001},
}

func TestGrammar(t *testing.T) {
	for _, c := range grammar {
		t.Run(c.name, func(t *testing.T) {
			for _, chunk := range []int{1, 2, 7, bufferSize} {
				for how, walk := range map[string]func(*Scanner) error{
					"skipped":  (*Scanner).SkipValue,
					"captured": func(s *Scanner) error { _, _, err := s.Capture(10); return err },
					"walked": func(s *Scanner) error {
						_, err := valueOf(s)
						if errors.Is(err, errNotUnicode) {
							return nil
						}
						return err
					},
				} {
					got := int64(-1)
					err := whole(&webhooktest.Chunked{Text: c.text, N: chunk}, walk)
					var broken *SyntaxError
					if errors.As(err, &broken) {
						got = broken.Offset
					} else if err != nil {
						t.Fatalf("%s: %v", how, err)
					}
					if got != c.offset {
						t.Errorf("%s in chunks of %d: fault at %d, want %d (%v)", how, chunk, got, c.offset, err)
					}
				}
			}
		})
	}
}

func TestStringsAreCapturedOnlyAsUnicode(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		ok               bool
	}{
		{"plain", `"pending"`, "pending", true},
		{"escaped", `"\"\\\/\b\f\n\r\t\u00e9 \u6F22 \ud83d\ude80"`, "\"\\/\b\f\n\r\té 漢 🚀", true},
		{"the replacement character itself", `"\ufffd` + "\uFFFD\"", "\uFFFD\uFFFD", true},
		{"NUL", `"a\u0000"`, "a\x00", true},
		{"a broken byte", "\"a\xc3\"", "", false},
		{"a surrogate in UTF-8", "\"\xed\xa0\x80\"", "", false},
		{"a high surrogate alone", `"\ud83d"`, "", false},
		{"a high surrogate before a letter", `"\ud83dabcdef"`, "", false},
		{"a low surrogate first", `"\ude80\ud83d"`, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := whole(strings.NewReader(c.text), func(s *Scanner) error {
				text, _, err := s.Capture(100)
				if got, ok := s.Unquote(text); ok != c.ok || string(got) != c.want {
					t.Errorf("got %q, %v; want %q, %v", got, ok, c.want, c.ok)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPlainStopsAtTheFirstByteThatIsNot(t *testing.T) {
	for c := range 256 {
		special := c < ' ' || c == '"' || c == '\\'
		for at := range 20 {
			text := []byte(strings.Repeat("~ !#[]\x7f\x80\xff", 3)[:20])
			text[at] = byte(c)
			want := len(text)
			if special {
				want = at
			}
			if got := plain(text); got != want {
				t.Fatalf("%q: got %d, want %d", text, got, want)
			}
		}
	}
}

func TestCaptureSpansTheBuffer(t *testing.T) {
	long := `{"a": "` + strings.Repeat("x", 3*bufferSize) + `"}`
	for _, limit := range []int{10, bufferSize, len(long), 2 * len(long)} {
		err := whole(strings.NewReader("["+long+"]"), func(s *Scanner) error {
			return s.Array(func() error {
				got, size, err := s.Capture(limit)
				if want := long[:min(limit, len(long))]; string(got) != want || size != int64(len(long)) {
					t.Errorf("limit %d: got %d bytes of %d", limit, len(got), size)
				}
				return err
			})
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestReadErrorsComeThrough(t *testing.T) {
	broken := errors.New("connection reset")
	for _, text := range []string{``, `[`, `{"a`, `"a\`, `"a\u1`, `12`, `{"a":`, `{"a":tr`, `[1,`, `1 `} {
		err := whole(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), (*Scanner).SkipValue)
		if !errors.Is(err, broken) {
			t.Errorf("%q: got %v, want the reader's error", text, err)
		}
	}
	if err := whole(stalled{}, (*Scanner).SkipValue); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: got %v, want %v", err, io.ErrNoProgress)
	}
}

// stalled breaks the contract of io.Reader.
type stalled struct{}

func (stalled) Read([]byte) (int, error) { return 0, nil }

func TestSkippingNeedsNoMemory(t *testing.T) {
	text := `{"a": ["` + strings.Repeat(`x\u00e9`, 1<<18) + `", {"b": ` + strings.Repeat("9", 1<<20) + `}]}`
	r := strings.NewReader(text)
	allocs := testing.AllocsPerRun(5, func() {
		r.Reset(text)
		if err := whole(r, (*Scanner).SkipValue); err != nil {
			t.Error(err)
		}
	})
	if allocs > 2 {
		t.Errorf("skipping %d bytes took %v allocations", len(text), allocs)
	}
}

func BenchmarkSkip(b *testing.B) {
	var small []byte
	for _, body := range webhooktest.Captures(b) {
		small = append(append(small, body...), ',')
	}
	small = append(append([]byte("["), bytes.TrimSuffix(small, []byte(","))...), ']')
	for name, text := range map[string][]byte{
		"captured":         small,
		"plain strings":    []byte(`["` + strings.Repeat("All work and no play makes Jack a dull boy. ", 5000) + `"]`),
		"JSON in a string": []byte(mustQuote(b, string(bytes.Repeat(small, 10)))),
		"numbers":          []byte(`[0` + strings.Repeat(",1.25,-3e7,123456", 10_000) + `]`),
	} {
		b.Run(name, func(b *testing.B) {
			r := bytes.NewReader(text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(text)
				if err := whole(r, (*Scanner).SkipValue); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func mustQuote(tb testing.TB, s string) string {
	tb.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// What nobody reads has no depth, and costs neither a stack nor memory for it.
func TestCaseD3_WhatIsSkippedHasNoDepth(t *testing.T) {
	const million = 1_000_000
	nested := func(open, inner, end string) string {
		return strings.Repeat(open, million) + inner + strings.Repeat(end, million)
	}
	for _, c := range []struct {
		name, text string
		offset     int64
	}{
		{"arrays", nested("[", "", "]"), -1},
		{"objects", nested(`{"a":`, "1", "}"), -1},
		{"both, with other values between", nested(`[1.5e3,{"a\"]":[],"b":`, `"]}"`, `}, true]`), -1},
		{"a bracket too few", nested("[", "", "]")[:2*million-1], 2*million - 1},
		{"a bracket too many", nested("[", "", "]") + "]", 2 * million},
		{"a string that does not end", nested("[", `"`, "]"), 2*million + 1},
		{"a word that is no JSON", nested("[", "nil", "]"), million + 1},
		{"a brace for a bracket, where the kinds are remembered", nested("[", "", "]")[:2*million-maxNested] + "}", 2*million - maxNested},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := int64(-1)
			allocs := testing.AllocsPerRun(1, func() {
				err := whole(strings.NewReader(c.text), (*Scanner).SkipValue)
				var broken *SyntaxError
				if errors.As(err, &broken) {
					got = broken.Offset
				} else if err != nil {
					t.Fatal(err)
				}
			})
			if got != c.offset || allocs > 20 {
				t.Errorf("fault at %d after %v allocations, want %d after next to none", got, allocs, c.offset)
			}
		})
	}
}
