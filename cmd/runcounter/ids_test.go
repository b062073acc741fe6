package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/backfill"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
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

// A table of bigint ids is read in its own order, in which 10 comes after 9, and
// is in the mirror what it is in the table.
func TestCaseT4_ImportOfATableWithIDsOfAnyType(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	const rows = 2*backfill.PageSize + 500
	pgtest.Exec(t, address, `create table public.workflow_runs (id bigint primary key, user_id text, workflow_id integer, status text, completed_at timestamptz, updated_at timestamptz)`,
		fmt.Sprintf(`insert into public.workflow_runs
select case when n <= 5 then 9223372036854775807 - n else n end, case when n %% 10 = 0 then repeat('u', 256) when n %% 2 = 0 then 'auth0|even' else 'ODD' end, -7, 'completed', now(), now()
  from generate_series(1, %d) as n`, rows))
	dir := t.TempDir()
	if got := mustJSON[fromShape](t, dir, "", "import", "--from", address); !got.Done || got.Runs != rows || got.Bad != 0 {
		t.Errorf("got %+v, want %d runs", got, rows)
	}
	for user, want := range map[string]int64{"auth0|even": rows/2 - rows/10, "ODD": rows / 2, "odd": 0} {
		if got := mustJSON[countShape](t, dir, "", "count", "--user", user, "--workflow=-7"); got.Count != want {
			t.Errorf("count of %s: got %d, want %d", user, got.Count, want)
		}
	}
	for id, want := range map[string]string{"9223372036854775802": "user ODD, workflow -7", "10": "no key"} { // the user of 10 can't be one
		if got := must(t, dir, "", "explain", id); !strings.HasPrefix(got, "Run "+id+" of "+want+"\n") {
			t.Errorf("explain %s: %s", id, got)
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
