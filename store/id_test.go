package store_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/edgaze-ai/runcounter/store"
)

func mustParse(t testing.TB, text string) store.ID {
	t.Helper()
	id, err := store.ParseID(text)
	if err != nil {
		t.Fatalf("ParseID(%.80q): %v", text, err)
	}
	return id
}

func TestCaseT4_AnIDIsWhatTheTableHas(t *testing.T) {
	for _, text := range []string{
		"0", "7", "-7", "9007199254740993", "99999999999999999999", "user_2ab", "auth0|5f7c8ec7", "a/b?c#d%2e e", "007", "Ünïcode", "\n", "\ufffd",
		"00000000-0000-0000-0000-000000000000", "00000000-0000-4000-8000-000000000001",
		"ABCDEFAB-ABCD-4ABC-8ABC-ABCDEFABCDEG", "ABCDEFABxABCD-4ABC-8ABC-ABCDEFABCDEF", "{ABCDEFAB-ABCD-4ABC-8ABC-ABCDEFABCDEF}", "ABCDEFABABCD4ABC8ABCABCDEFABCDEF",
		strings.Repeat("x", store.MaxID), strings.Repeat("ß", store.MaxID/2),
	} {
		id := mustParse(t, text)
		if id.String() != text || id.IsZero() {
			t.Errorf("%.80q became %.80q, want it as it stands", text, id)
		}
	}
	for _, text := range []string{"", strings.Repeat("x", store.MaxID+1), strings.Repeat("ß", store.MaxID/2+1), "a\x00", "\xff", "a\xed\xa0\x80"} {
		if id, err := store.ParseID(text); err == nil || !id.IsZero() {
			t.Errorf("%.80q became the id %.80q, want an error and none", text, id)
		}
	}
}

func TestCaseT4_AUUIDIsTheSameInEitherCase(t *testing.T) {
	lower := mustParse(t, "abcdefab-abcd-4abc-8abc-abcdefabcdef")
	for _, text := range []string{"ABCDEFAB-ABCD-4ABC-8ABC-ABCDEFABCDEF", "AbCdEfAb-abcd-4ABC-8abc-abcdefABCDEF"} {
		if id := mustParse(t, text); id != lower || id.String() != lower.String() {
			t.Errorf("%s is %s, want %s", text, id, lower)
		}
	}
	if got := store.UUID([16]byte{0xab, 0xcd, 0xef, 0xab, 0xab, 0xcd, 0x4a, 0xbc, 0x8a, 0xbc, 0xab, 0xcd, 0xef, 0xab, 0xcd, 0xef}); got != lower {
		t.Errorf("UUID made %s, want %s", got, lower)
	}
}

func TestCaseT4_AnIDInJSON(t *testing.T) {
	for text, want := range map[string]string{
		`7`: "7", `"7"`: "7", `-7`: "-7", `9007199254740993`: "9007199254740993", `123456789012345678901234567890`: "123456789012345678901234567890",
		`"auth0|\u00fc\n"`: "auth0|ü\n", `null`: "", `"ABCDEFAB-ABCD-4ABC-8ABC-ABCDEFABCDEF"`: "abcdefab-abcd-4abc-8abc-abcdefabcdef",
	} {
		var id store.ID
		if err := json.Unmarshal([]byte(text), &id); err != nil || id.String() != want {
			t.Errorf("%s became %q, %v; want %q", text, id, err, want)
		}
		out, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		var back *string
		if err := json.Unmarshal(out, &back); err != nil || (back == nil) != id.IsZero() || back != nil && *back != want {
			t.Errorf("%s is written as %s, want %q as a string, or null", text, out, want)
		}
	}
	for _, text := range []string{`7.0`, `7e0`, `1.5`, `true`, `[]`, `{}`, `""`, `"a\u0000"`, `"` + strings.Repeat("x", 256) + `"`, strings.Repeat("7", 256)} {
		var id store.ID
		if err := json.Unmarshal([]byte(text), &id); err == nil {
			t.Errorf("%.80s became %q, want an error", text, id)
		}
	}
}

func TestIDsAreOrderedByTheirBytes(t *testing.T) {
	sorted := []string{"", "-1", "10", "9", "A", "a", "a\x01", "aa", "z", "é", "ﬁ", "😀"} // UTF-16 has the last two the other way
	var ids []store.ID
	for _, text := range sorted[1:] {
		ids = append(ids, mustParse(t, text))
	}
	ids = append(ids, store.ID{})
	slices.SortFunc(ids, store.ID.Compare)
	for i, id := range ids {
		if id.String() != sorted[i] {
			t.Errorf("place %d has %q, want %q", i, id, sorted[i])
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, seed := range []string{"", "7", "auth0|x", "00000000-0000-4000-8000-00000000000A", "a\x00", "\xff", strings.Repeat("ß", 128)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := store.ParseID(text)
		can := text != "" && len(text) <= store.MaxID && utf8.ValidString(text) && !strings.Contains(text, "\x00")
		if (err == nil) != can || id.IsZero() == can {
			t.Fatalf("ParseID(%q): %q, %v", text, id, err)
		}
		if !can {
			return
		}
		if id.String() != text && (len(text) != 36 || !strings.EqualFold(id.String(), text)) {
			t.Errorf("%q became %q", text, id)
		}
		again, err := store.ParseID(id.String())
		if err != nil || again != id || id.Compare(again) != 0 {
			t.Errorf("%q is not canonical: %q, %v", id, again, err)
		}
		out, err := json.Marshal(id)
		var back store.ID
		if err != nil || json.Unmarshal(out, &back) != nil || back != id {
			t.Errorf("%q is written as %s, %v, and read as %q", id, out, err, back)
		}
	})
}

func TestAColumnThatIsNoTextIsNoID(t *testing.T) {
	t.Parallel()
	var id store.ID
	if err := id.Scan(int64(7)); err == nil {
		t.Errorf("got %q of a number, want an error", id)
	}
}
