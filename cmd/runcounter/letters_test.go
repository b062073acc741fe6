package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

// withLetters returns a folder with a database of four dead letters: two that
// can be read by now, one that can't, and the beginning of a long one.
func withLetters(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "runcounter.db"), sqlite.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	readable := func(n int) string {
		return `{"type":"INSERT","schema":"public","table":"workflow_runs","old_record":null,"record":` +
			strings.TrimSpace(row(n, sampleWorkflow, "completed", "2026-01-31T12:00:00+00:00")) + `}`
	}
	for i, l := range []struct {
		reason, body string
		more         int64
	}{
		{"record.status is no text", readable(1), 0},
		{"record.status is no text", readable(2), 0},
		{"the JSON ends too early", `{"type":` + "\x1b[2J", 0},
		{"the JSON ends too early", `[{"type":`, 5_000_000},
	} {
		err := db.KeepDeadLetter(t.Context(), store.DeadLetter{
			ReceivedAt: time.Date(2026, 1, 31, 12, i, 0, 0, time.UTC), Reason: l.reason, Bytes: int64(len(l.body)) + l.more, Body: []byte(l.body),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

type letterShape struct {
	Seq        int64  `json:"seq"`
	ReceivedAt string `json:"received_at"`
	Reason     string `json:"reason"`
	Bytes      int64  `json:"bytes"`
	Kept       int64  `json:"kept"`
	Whole      bool   `json:"whole"`
	Encoding   string `json:"encoding"`
	Body       string `json:"body"`
}

type lettersShape struct {
	Letters []letterShape `json:"dead_letters"`
	Next    *int64        `json:"next"`
}

func TestDeadLettersCommand(t *testing.T) {
	t.Parallel()
	dir := withLetters(t)
	golden(t, "dead-letters-list", must(t, dir, "", "dead-letters", "list"))
	golden(t, "dead-letters-show", must(t, dir, "", "dead-letters", "show", "1"))
	if text := must(t, dir, "", "dead-letters", "show", "3"); strings.Contains(text, "\x1b") || !strings.Contains(text, "as base64") {
		t.Errorf("show prints what controls a terminal:\n%q", text)
	}
	if got := mustJSON[letterShape](t, dir, "", "dead-letters", "show", "3"); got.Encoding != "text" || got.Body != `{"type":`+"\x1b[2J" {
		t.Errorf("show --json: got %+v, want the body as it is", got)
	}
	page := mustJSON[lettersShape](t, dir, "", "dead-letters", "list", "--reason", "STATUS", "--max", "1")
	if len(page.Letters) != 1 || page.Letters[0].Seq != 2 || !page.Letters[0].Whole {
		t.Errorf("list: got %+v, want the second", page)
	}
	if page := mustJSON[lettersShape](t, dir, "", "dead-letters", "list", "--max", "1"); len(page.Letters) != 1 || page.Next == nil || *page.Next != page.Letters[0].Seq {
		t.Errorf("list of one of several: got %+v, want its number as next", page)
	}
	if text := must(t, dir, "", "dead-letters", "list", "--max", "1"); !strings.Contains(text, "There are more: --before ") {
		t.Errorf("list of one of several: got %s, want how to go on", text)
	}
	if page := mustJSON[lettersShape](t, dir, "", "dead-letters", "list", "--max", "4"); len(page.Letters) != 4 || page.Next != nil {
		t.Errorf("list of all: got %+v, want no next", page)
	}
	if text := must(t, dir, "", "dead-letters", "list", "--until", "2026-01-01T00:00:00Z"); !strings.Contains(text, "no such dead letters") {
		t.Errorf("list of none: got %q", text)
	}

	r := exec1(t, command(t, dir, nil, "dead-letters", "replay", "--all"), "")
	if r.code != exitNo {
		t.Errorf("replay: exit code %d, want %d since two stay\n%s", r.code, exitNo, r.errs)
	}
	golden(t, "dead-letters-replay", r.out)
	if got := mustJSON[countShape](t, dir, "", "count", "--user", sampleUser, "--workflow", sampleWorkflow); got.Count != 2 {
		t.Errorf("the count: got %d, want the two that were replayed", got.Count)
	}
	for _, args := range [][]string{{"replay", "1"}, {"show", "1"}, {"drop", "1"}} {
		if r := exec1(t, command(t, dir, nil, append([]string{"dead-letters"}, args...)...), ""); r.code != exitNo || !strings.Contains(r.errs, "no such dead letter") {
			t.Errorf("%v, which was replayed: exit code %d, %s", args, r.code, r.errs)
		}
	}
	type shape struct {
		Dropped int `json:"dropped"`
	}
	if got := mustJSON[shape](t, dir, "", "dead-letters", "drop", "4"); got.Dropped != 1 {
		t.Errorf("drop of one: got %+v", got)
	}
	if text := must(t, dir, "", "dead-letters", "drop", "--all"); text != "Dropped 1 dead letter.\n" {
		t.Errorf("drop of all: got %q", text)
	}
}

func TestDeadLettersMeansWhatWasSaid(t *testing.T) {
	t.Parallel()
	dir := withLetters(t)
	for _, tt := range []struct{ args, want string }{
		{"", "list, show, replay or drop"},
		{"burn", "list, show, replay or drop"},
		{"show", "show NUMBER"},
		{"show x", "no number"},
		{"show 0", "no number"},
		{"show 1 2", "--help"},
		{"list 1", "neither a number"},
		{"list --max 0", "1 or more"},
		{"list --max 1000001", "at most 1000000"},
		{"list --until soon", "2026-01-31T12:00:00Z"},
		{"replay", "replay NUMBER"},
		{"drop", "NUMBER, or --reason"},
		{"drop 1 --all", "not both"},
		{"drop --all --reason x", "leave out"},
		{"drop --before -1", "no number"},
	} {
		r := exec1(t, command(t, dir, nil, append([]string{"dead-letters"}, strings.Fields(tt.args)...)...), "")
		if r.code != exitUsage || !strings.Contains(r.errs, tt.want) {
			t.Errorf("dead-letters %s: exit code %d, want %d and %q\n%s%s", tt.args, r.code, exitUsage, tt.want, r.out, r.errs)
		}
	}
	if got := mustJSON[lettersShape](t, dir, "", "dead-letters", "list"); len(got.Letters) != 4 {
		t.Errorf("wrong usage left %d letters, want all four", len(got.Letters))
	}
}
