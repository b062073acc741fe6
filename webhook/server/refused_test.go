package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

// saysAsMuch reports whether the sender is told what a letter says, but for the
// value.
func saysAsMuch(told, letter string) bool {
	path, detail, _ := strings.Cut(told, " is ")
	return letter == told || strings.HasPrefix(letter, path+" is ") && strings.HasSuffix(letter, ", "+detail)
}

// pg_net keeps what the sender is told where every SQL role reads it.
func TestCaseD2_TheSenderIsToldWhatIsWrongWithoutTheValue(t *testing.T) {
	const secret = "hunter2"
	insert := func(more string) string { return changeOf("INSERT", columns(more), "null") }
	update := changeOf("UPDATE", columns(""), columns(""))
	other := strings.Replace(completed(1), "workflow_runs", "profiles", 1) // of which no count is told
	for _, c := range []struct{ bad, told string }{
		{`"` + secret + `"`, `the change is not an object; send {`},
		{changeOf("INSERT", `"`+secret+`"`, "null"), "record is not an object; send"},
		{changeOf("INSERT", strings.Replace(columns(""), anID, strings.Repeat(secret, 40), 1), "null"), "record.id is longer than 255 bytes; send"},
		{insert(`,"draft_id":{"` + secret + `":1}`), "record.draft_id is neither a string nor"},
		{insert(`,"updated_at":"` + secret + `"`), "record.updated_at is not a time such as"},
		{insert(`,"completed_at":"` + secret + ` BC"`), "record.completed_at is not a time such as"},
		{insert(`,"duration_ms":"` + secret + `"`), "record.duration_ms is not a number; send"},
		{changeOf("INSERT", strings.Replace(columns(""), `"running"`, `"`+secret+`\u0000"`, 1), "null"), "record.status is text with a NUL in it"},
		{changeOf("UPDATE", columns(""), strings.Replace(columns(""), anID, aUser, 1)), "old_record.id is another than record.id; a run"},
		{strings.Replace(update, "{", `{"version":"`+secret+`",`, 1), "version is not a whole number"},
		{strings.Replace(update, "{", `{"evidence":{"`+secret+`":1},`, 1), "evidence is not a string; send"},
		{strings.Replace(update, `"workflow_runs"`, `["`+secret+`"]`, 1), "table is not a string"},
	} {
		for body, status := range map[string]int{"[" + other + "," + c.bad + "]": 200, "[" + c.bad + "]": 400, c.bad: 400} {
			r := serve(t, nil)
			got := r.deliver(body)
			var answer refusedReply
			mustUnmarshal(t, got.body, &answer)
			letters := r.store.kept()
			if got.status != status || len(answer.Refused) != 1 || !strings.HasPrefix(answer.Refused[0].Reason, c.told) || len(letters) != 1 || !saysAsMuch(answer.Refused[0].Reason, letters[0].Reason) {
				t.Errorf("%s: got %d %s and the letters %+v; want it refused, since %s", body, got.status, got.body, letters, c.told)
			}
			if said := string(got.body); strings.Contains(said, secret) || strings.Contains(said, aUser) {
				t.Errorf("%s: the answer repeats a value: %s", body, said)
			}
		}
	}
}

type refusedReply struct {
	Received int
	Changed  int
	Ignored  int
	Refused  []struct {
		Change int
		Reason string
	}
}

// The item 4, and the cases D2 and D4: a statement of 500 rows, of
// which 7 can't be read.
func TestCaseItem4_SevenOfFiveHundredChangesCostThemselvesAlone(t *testing.T) {
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) { cfg.Decoder.LeaseColumn = "lease_until" })
	bad, reasons := webhooktest.Unreadable()
	changes := make([]string, 500)
	for i := range changes {
		changes[i] = completed(i)
	}
	changes[1] = inserted(row(1, "completed", map[string]any{"user_id": nil})) // a guest's
	var at []int
	for i, change := range bad {
		at = append(at, 49+60*i)
		changes[49+60*i] = change
	}
	got := r.deliver("[" + strings.Join(changes, ",") + "]")
	if got.status != http.StatusOK {
		t.Fatalf("got %d %.300s, want 200", got.status, got.body)
	}
	var answer refusedReply
	mustUnmarshal(t, got.body, &answer)
	if answer.Received != 500 || answer.Changed != 493 || answer.Ignored != 0 || len(answer.Refused) != 7 || r.counted() != 492 {
		t.Fatalf("got %+v and the count %d, want 493 changed, 492 of them counted, and 7 refused", answer, r.counted())
	}
	letters := r.letters("").Letters // latest first
	if len(letters) != 7 {
		t.Fatalf("%d dead letters, want 7", len(letters))
	}
	slices.Reverse(letters)
	for i, letter := range letters {
		refused := answer.Refused[i]
		if refused.Change != at[i] || !strings.Contains(letter.Reason, reasons[i]) || !saysAsMuch(refused.Reason, letter.Reason) {
			t.Errorf("got %+v and the letter's reason %q; want change %d, for %q", refused, letter.Reason, at[i], reasons[i])
		}
		whole := decodeJSON[letterReply](t, r.api("GET", letterAt(letter.Seq), "").body)
		if whole.Body != bad[i] || !whole.Whole || whole.Bytes != int64(len(bad[i])) {
			t.Errorf("letter %d holds %q, want that change alone: %q", i, whole.Body, bad[i])
		}
		replayed := decodeJSON[api.LetterResult](t, r.api("POST", letterAt(letter.Seq)+"/replay", "").body)
		if replayed.Applied || replayed.Reason != letter.Reason {
			t.Errorf("replayed by itself: got %+v, want it to stay for the same reason", replayed)
		}
	}
	later := r.second(func(c *Config) { c.Decoder.LeaseColumn = "" })
	if got := decodeJSON[api.LetterResult](t, later.api("POST", letterAt(letters[6].Seq)+"/replay", "").body); !got.Applied || got.Changed != 1 || r.counted() != 493 {
		t.Errorf("the last, by a decoder that can read it: got %+v and the count %d; want it applied, and 493", got, r.counted())
	}
	if left := r.letters("").Letters; len(left) != 6 {
		t.Errorf("%d dead letters are left, want 6", len(left))
	}
	for _, line := range []string{
		`runcounter_deliveries_total{result="applied"} 1`, `runcounter_changes_total{result="changed"} 493`, `runcounter_changes_total{result="unchanged"} 0`,
		`runcounter_changes_total{result="refused"} 7`, `runcounter_dead_letters_total{result="kept"} 7`,
	} {
		if metrics := string(r.api("GET", "/metrics", "").body); !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	if log := r.log.String(); strings.Count(log, "could not be read") != 1 || !strings.Contains(log, "refused=7") {
		t.Errorf("the log does not say once that 7 were refused:\n%s", log)
	}
}

func TestCasesD2D4_WhatCannotBeReadIsJudgedByChange(t *testing.T) {
	bad, _ := webhooktest.Unreadable()
	good := completed(1)
	other := strings.Replace(good, "workflow_runs", "profiles", 1)
	for _, c := range []struct {
		name, body string
		status     int
		refused    []int
		letters    []string // in order
	}{
		{"one bad change among good ones", "[" + good + "," + bad[1] + "," + completed(2) + "]", 200, []int{1}, []string{bad[1]}},
		{"a bad change behind one of another table", "[" + other + "," + bad[1] + "]", 200, []int{1}, []string{bad[1]}},
		{"two records", `[` + good + `,` + strings.Replace(good, "{", `{"record":null,`, 1) + `]`, 200, []int{1}, []string{strings.Replace(good, "{", `{"record":null,`, 1)}},
		{"a table that is an object", `[{"table":{"a":[1]},"type":"INSERT"},` + good + `]`, 200, []int{0}, []string{`{"table":{"a":[1]},"type":"INSERT"}`}},
		{"what is no object", `[` + good + `, 7 , null,[` + good + `],"x"]`, 200, []int{1, 2, 3, 4}, []string{"7", "null", "[[" + good + "]]", `"x"`}},
		{"a change of 20 KB", "[" + good + "," + inserted(row(2, "", map[string]any{"metadata": strings.Repeat("m", 20_000)})) + "]", 200, []int{1},
			[]string{inserted(row(2, "", map[string]any{"metadata": strings.Repeat("m", 20_000)}))}},
		{"a change with blanks around", "[\n " + bad[1] + " \n,\t" + good + "]", 200, []int{0}, []string{bad[1]}},
		{"none that can be read", "[" + bad[1] + "," + bad[2] + "]", 400, nil, []string{bad[1], bad[2]}},
		{"a single one, as Supabase sends it", bad[1], 400, nil, []string{bad[1]}},
		{"a single one in an array", "[" + bad[1] + "]", 400, nil, []string{bad[1]}},
		{"JSON that breaks behind a bad change", "[" + good + "," + bad[1] + ",}", 400, nil, []string{"[" + good + "," + bad[1] + ",}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := serve(t, nil)
			got := r.deliver(c.body)
			if got.status != c.status {
				t.Fatalf("got %d %.300s, want %d", got.status, got.body, c.status)
			}
			if c.status == http.StatusOK {
				var answer refusedReply
				mustUnmarshal(t, got.body, &answer)
				var at []int
				for _, refused := range answer.Refused {
					at = append(at, refused.Change)
				}
				if diff := cmp.Diff(c.refused, at); diff != "" {
					t.Errorf("refused (-want +got)\n%s", diff)
				}
			} else {
				got.problem(t)
			}
			var letters []string
			for _, letter := range r.store.kept() {
				letters = append(letters, string(letter.Body))
				if !letter.Whole() || letter.Reason == "" {
					t.Errorf("the letter %q is not whole, or gives no reason", letter.Body)
				}
			}
			if diff := cmp.Diff(c.letters, letters); diff != "" {
				t.Errorf("dead letters (-want +got)\n%s", diff)
			}
			if c.status != http.StatusOK && r.store.applies.Load() != 0 {
				t.Error("something of it reached the store")
			}
		})
	}
}

// A sender may name none of its changes well, and what is kept stays within the
// bounds.
func TestCaseD2_TheBoundsOfDeadLettersHoldForOneRequestOfManyBadChanges(t *testing.T) {
	t.Run("500 bad changes are 500 letters", func(t *testing.T) {
		r := serve(t, nil)
		one := strings.Repeat(inserted(row(1, "", nil))+",", 500)
		if got := r.deliver("[" + one + completed(1) + "]"); got.status != 200 {
			t.Fatalf("got %d %.300s", got.status, got.body)
		}
		if n := len(r.store.kept()); n != 500 {
			t.Errorf("%d letters, want 500", n)
		}
	})
	t.Run("2,000 are a thousand", func(t *testing.T) {
		r := serve(t, nil)
		got := r.deliver("[" + strings.Repeat("7,", 2000) + completed(1) + "]")
		var answer refusedReply
		mustUnmarshal(t, got.body, &answer)
		if len(answer.Refused) != 2000 || len(r.letters("?max=1000").Letters) != store.MaxDeadLetters || r.letters("?max=1000").Next != nil {
			t.Errorf("%d refused, and %d letters; want 2,000 and %d", len(answer.Refused), len(r.letters("?max=1000").Letters), store.MaxDeadLetters)
		}
		if metrics := string(r.api("GET", "/metrics", "").body); !strings.Contains(metrics, `runcounter_dead_letters_total{result="lost"} 1000`) {
			t.Error("/metrics does not say that 1,000 were lost")
		}
	})
	t.Run("what one request may have remembered of its bad changes is bounded", func(t *testing.T) {
		r := serve(t, nil)
		long := inserted(row(1, "", map[string]any{"metadata": strings.Repeat("m", 900_000)}))
		if got := r.deliver("[" + strings.Repeat(long+",", 12) + completed(1) + "]"); got.status != 200 {
			t.Fatalf("got %d %.300s", got.status, got.body)
		}
		kept, whole := 0, 0
		for _, letter := range r.store.kept() {
			kept += len(letter.Body)
			if letter.Whole() {
				whole++
			}
			if letter.Bytes != int64(len(long)) || !strings.HasPrefix(long, string(letter.Body)) {
				t.Errorf("a letter of %d bytes, want the beginning of %d", letter.Bytes, len(long))
			}
		}
		if kept > 8<<20 || whole < 8 || whole == 12 {
			t.Errorf("%d bytes were kept, and %d letters whole; want at most %d, and some whole", kept, whole, 8<<20)
		}
	})
}

func TestCaseD2_RefusedChangesThatCannotBeKeptAreStillAnswered(t *testing.T) {
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.refuse = errors.New("the disk is full") })
	bad, _ := webhooktest.Unreadable()
	if a := r.deliver("[" + completed(1) + "," + bad[1] + "]").answer(t); a.Changed != 1 {
		t.Errorf("got %+v, want one change", a)
	}
	if log := r.log.String(); !strings.Contains(log, "the disk is full") {
		t.Errorf("the loss is not in the log:\n%s", log)
	}
}

// What failed for the store's sake can be sent again: nothing of it is a letter.
func TestCaseD2_NothingIsKeptOfADeliveryThatTheStoreRefused(t *testing.T) {
	r := serve(t, func(_ *Config, _ *limits, g *gated) {
		g.before = func(context.Context, []store.Change) error { return fmt.Errorf("%w: locked", store.ErrUnavailable) }
	})
	bad, _ := webhooktest.Unreadable()
	if got := r.deliver("[" + completed(1) + "," + bad[1] + "]"); got.status != http.StatusServiceUnavailable || len(r.store.kept()) != 0 {
		t.Errorf("got %d %s and %d letters, want 503 and none", got.status, got.body, len(r.store.kept()))
	}
}

func mustUnmarshal(t *testing.T, body []byte, to *refusedReply) {
	t.Helper()
	if err := json.Unmarshal(body, to); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
}
