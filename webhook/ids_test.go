package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
)

func TestCaseT4_WhatTheDecoderMakesOfAnID(t *testing.T) {
	long := strings.Repeat("x", 256)
	for text, want := range map[string]string{
		`7`: "7", `"7"`: "7", `-12`: "-12", `9007199254740993`: "9007199254740993", `9223372036854775807`: "9223372036854775807",
		strings.Repeat("9", 255): strings.Repeat("9", 255), `"` + long[:255] + `"`: long[:255],
		`"auth0|x"`: "auth0|x", `"a\u002fb\u00fc\ud83d\ude00"`: "a/bü😀", `"` + strings.ToUpper(aDraft) + `"`: aDraft,
		`"00000000-0000-0000-0000-000000000000"`: "00000000-0000-0000-0000-000000000000",
	} {
		row := fmt.Sprintf(`{"id":%s,"user_id":%[1]s,"workflow_id":%[1]s,"draft_id":%[1]s,"status":"running"}`, text)
		got, err := runs.Row(strings.NewReader(row))
		if id := parsedID(t, want); err != nil || got.ID != id || got.User != id || got.Workflow != id || got.Draft != id {
			t.Errorf("%.80s: got %q, %q, %q, %q and %v; want %q", text, got.ID, got.User, got.Workflow, got.Draft, err, want)
		}
	}
	for _, text := range []string{`null`, `""`, `"` + long + `"`, `"` + strings.Repeat(long, 40) + `"`, strings.Repeat("9", 256), strings.Repeat("9", 9000), `"a\u0000"`, `"\ud800"`, "\"\xff\""} {
		row := fmt.Sprintf(`{"id":"1","user_id":%s,"workflow_id":%[1]s,"draft_id":%[1]s,"status":"completed","completed_at":%q}`, text, aTime)
		got, err := runs.Row(strings.NewReader(row))
		if err != nil || got.ID.String() != "1" || !got.User.IsZero() || !got.Workflow.IsZero() || !got.Draft.IsZero() || !got.Ended() {
			t.Errorf("%.80s: got %+v and %v; want the run without a key", text, got, err)
		}
	}
}

// Nearly all rows have the ids of the row before, and most rows come twice.
func TestAnIDThatStoodInTheRowBeforeTakesNoMemory(t *testing.T) {
	var s lastIDs
	texts := [...][]byte{[]byte(anID), []byte(aUser), []byte(aFlow), []byte(aDraft)}
	if n := testing.AllocsPerRun(100, func() {
		for col, text := range texts {
			if _, _, err := s.id(col, text); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
	if id, held, err := s.id(colUser, []byte(aFlow)); id != parsedID(t, aFlow) || held != len(aFlow) || err != nil {
		t.Errorf("another user: got %s, %d bytes, %v", id, held, err)
	}
}

func TestCaseT4_ManyLongIDsAreALargeDelivery(t *testing.T) {
	for width, want := range map[int]int{36: 0, 255: 1} {
		asked, n := 0, 0
		ids := func(run int) string {
			n += 3
			return fmt.Sprintf(`{"id":"%0*d","user_id":"%0[1]*[3]d","workflow_id":"%0[1]*[4]d","draft_id":"%0[1]*[5]d","status":"running"}`, width, run, n, n+1, n+2)
		}
		var many []string
		for run := range manyChanges {
			many = append(many, changeOf("UPDATE", ids(run), ids(run)))
		}
		d := runs
		d.Large = func() error { asked++; return nil }
		if got, err := d.Decode(strings.NewReader("[" + strings.Join(many, ",") + "]")); err != nil || len(got.Changes) != manyChanges || asked != want {
			t.Errorf("ids of %d bytes: asked for room %d times, %v; want %d", width, asked, err, want)
		}
	}
}

// FuzzIDs holds the decoder to encoding/json.
func FuzzIDs(f *testing.F) {
	for _, seed := range []string{`7`, `"auth0|x"`, `9007199254740993`, `"\ud800"`, `""`, `-0`, `1e3`, `"a\u0000"`, `null`, `[7]`, `"` + strings.Repeat("x", 256) + `"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body := fmt.Sprintf(`{"id":%s,"user_id":%[1]s,"status":"running"}`, text)
		got, err := runs.Row(strings.NewReader(body))
		var want struct {
			ID     json.RawMessage `json:"id"`
			UserID json.RawMessage `json:"user_id"`
		}
		if json.Unmarshal([]byte(body), &want) != nil || string(want.ID) != string(want.UserID) {
			return // broken, or more columns than these
		}
		var id store.ID
		if wrong := id.UnmarshalJSON(want.ID); wrong != nil || id.IsZero() {
			if err == nil {
				t.Errorf("%q became a run of the id %q, want it refused", text, got.ID)
			}
			return
		}
		if strings.Contains(id.String(), "\ufffd") {
			return // in place of what encoding/json can't read
		}
		if err == nil && (got.ID != id || got.User != id) || err != nil && !strings.Contains(body, `"status"`) {
			t.Errorf("%q became %q and %q, %v; want %q", text, got.ID, got.User, err, id)
		}
	})
}
