package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// The commands take an id as it is written, and say it as it is.
func TestCaseT4_CommandsTakeAnyID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := []string{"7", "-7", "9007199254740993", "user_2ab", "auth0|5f7c", "a b/c", "it's 100%", "Ünï\x1b[31m", "00000000-0000-0000-0000-000000000000"}
	var lines strings.Builder
	for i, id := range ids {
		user, flow := ids[(i+1)%len(ids)], ids[(i+2)%len(ids)]
		text := func(id string) string {
			if _, err := strconv.ParseInt(id, 10, 64); err == nil {
				return id // as a table with bigint ids has it
			}
			out, err := json.Marshal(id)
			if err != nil {
				t.Fatal(err)
			}
			return string(out)
		}
		fmt.Fprintf(&lines, `{"id":%s,"user_id":%s,"workflow_id":%s,"status":"completed","completed_at":"2026-01-31T12:00:00Z","updated_at":"2026-01-31T12:00:00Z"}`+"\n", text(id), text(user), text(flow))
	}
	if got := must(t, dir, lines.String(), "import"); !strings.Contains(got, fmt.Sprintf("Imported %d runs", len(ids))) {
		t.Fatal(got)
	}
	for i, id := range ids {
		user, flow := ids[(i+1)%len(ids)], ids[(i+2)%len(ids)]
		got := mustJSON[countShape](t, dir, "", "count", "--user="+user, "--workflow="+flow)
		if got.Count != 1 || got.User != user || got.Workflow != flow {
			t.Errorf("count of %q and %q: got %+v", user, flow, got)
		}
		said := must(t, dir, "", "explain", "--", id)
		if strings.Contains(said, "\x1b") {
			t.Errorf("explain of %q moves the terminal:\n%q", id, said)
		}
		_, line, _ := strings.Cut(said, "How that comes about:\n  runcounter explain ")
		args := wordsOf(t, strings.TrimSpace(line))
		if want := []string{"--user", user, "--workflow", flow}; strings.Join(args, "\n") != strings.Join(want, "\n") {
			t.Errorf("explain of %q says %q, want %q", id, args, want)
		} else if got := must(t, dir, "", append([]string{"explain"}, args...)...); !strings.Contains(got, " is 1, under the policy") {
			t.Errorf("what explain of %q says, says %s", id, got)
		}
	}
}

// wordsOf returns the words that bash makes of a line.
func wordsOf(t *testing.T, line string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), need.Program(t, "bash", "bash"), "-c", `printf '%s\0' `+line).Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}
