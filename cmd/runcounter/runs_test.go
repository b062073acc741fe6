package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// odd returns a folder with a database of runs among which some are odd.
func odd(t *testing.T) (dir string) {
	t.Helper()
	dir = filled(t)
	var lines strings.Builder
	for n, members := range []string{
		`"user_id":null,"workflow_id":"` + sampleWorkflow + `","status":"completed","completed_at":"2026-01-31T12:00:00Z"`,
		`"user_id":"` + sampleUser + `","workflow_id":null,"status":"running"`,
		`"user_id":"` + sampleUser + `","workflow_id":"` + sampleWorkflow + `","status":"on hold"`,
		`"user_id":"` + sampleUser + `","workflow_id":"` + sampleWorkflow + `","status":"failed","started_at":"2026-01-31T12:05:00Z","completed_at":"2026-01-31T12:00:00Z"`,
	} {
		fmt.Fprintf(&lines, `{"id":"%s",%s,"created_at":"2026-01-31T11:5%d:00Z","updated_at":"2026-01-31T12:00:00Z"}`+"\n", runID(20+n), members, n)
	}
	must(t, dir, lines.String(), "import")
	return dir
}

func TestRuns(t *testing.T) {
	t.Parallel()
	dir := odd(t)
	golden(t, "runs-odd", must(t, dir, "", "runs", "--odd"))
	golden(t, "runs-active", must(t, dir, "", "runs", "--oldest", "--max", "2"))
	golden(t, "runs-stuck", must(t, dir, "", "runs", "--state", "stuck", "--stuck-after", "running=10m"))
	golden(t, "audit-odd", must(t, dir, "", "audit"))

	got := mustJSON[api.RunPage](t, dir, "", "runs", "--odd", "--max", "3")
	if len(got.Runs) != 3 || got.Next == nil || got.State != store.OddRuns {
		t.Fatalf("the first page: %+v, want 3 runs and a next", got)
	}
	rest := mustJSON[api.RunPage](t, dir, "", "runs", "--odd", "--max", "3", "--after", *got.Next)
	if len(rest.Runs) != 1 || rest.Next != nil {
		t.Errorf("the second page: %+v, want 1 run and no next", rest)
	}
	kinds := map[store.Oddity]store.ID{}
	for _, r := range append(got.Runs, rest.Runs...) {
		if len(r.Odd) != 1 || len(r.Needs) != 1 {
			t.Errorf("run %s is odd for %v and needs %q", r.ID, r.Odd, r.Needs)
			continue
		}
		kinds[r.Odd[0]] = r.ID
	}
	if len(kinds) != 4 {
		t.Errorf("got the oddities %v, want 4", kinds)
	}
	if all := mustJSON[api.Audit](t, dir, "", "audit"); len(all.Odd) != 4 {
		t.Errorf("the audit names %d odd runs, want 4", len(all.Odd))
	}

	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--state", "ended", "--user", sampleUser}, 5},
		{[]string{"--state", "ended", "--user", sampleUser, "--status", "failed"}, 2},
		{[]string{"--state", "ended", "--from", "2026-01-31T12:00:01Z"}, 1},
		{[]string{"--state", "ended", "--to", "2026-01-31T12:00:01Z"}, 5},
		{[]string{"--status", "running"}, 2},
		{[]string{"--user", otherWorkflow}, 0},
	} {
		if got := mustJSON[api.RunPage](t, dir, "", append([]string{"runs"}, c.args...)...); len(got.Runs) != c.want {
			t.Errorf("runs %v: got %d, want %d", c.args, len(got.Runs), c.want)
		}
	}
	if got := must(t, dir, "", "runs", "--state", "presumed"); got != "There are no such runs.\n" {
		t.Errorf("presumed: %q", got)
	}
	for _, args := range [][]string{
		{"--state", "lost"}, {"--odd", "--state", "active"}, {"--max", "0"}, {"--after", "x"}, {"--after", "x,y"}, {"--after", "2026-01-31T12:00:00Z,"},
		{"--from", "yesterday"}, {"--to", "1"}, {"--user", ""}, {"--state", "stuck", "--user", sampleUser}, {"--from", "2026-01-31T12:00:00Z", "--to", "2026-01-30T12:00:00Z"},
	} {
		if r := exec1(t, command(t, dir, nil, append([]string{"runs"}, args...)...), ""); r.code != exitUsage {
			t.Errorf("runs %v: exit code %d, want %d\n%s", args, r.code, exitUsage, r.errs)
		}
	}
}

// A page goes on where the one before ended, whatever the id is.
func TestThePlaceInAListOfRunsIsOneWord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, dir, `{"id":"it's, $HOME","user_id":"ada","workflow_id":"w","status":"running","created_at":null}
{"id":"b","user_id":"ada","workflow_id":"w","status":"running","created_at":null}
`, "import")
	got := mustJSON[api.RunPage](t, dir, "", "runs", "--max", "1")
	if got.Next == nil || len(got.Runs) != 1 || !strings.HasSuffix(*got.Next, ",it's, $HOME") {
		t.Fatalf("got %+v", got)
	}
	if got.Runs[0].At != (api.Instant{}) {
		t.Errorf("a run without a time of creation has one: %v", got.Runs[0].At)
	}
	if text := must(t, dir, "", "runs", "--max", "1"); !strings.Contains(text, `'0001-01-02T00:00:00Z,it'\''s, $HOME'`) {
		t.Errorf("the place is no word of a shell:\n%s", text)
	}
	if rest := mustJSON[api.RunPage](t, dir, "", "runs", "--max", "1", "--after", *got.Next); len(rest.Runs) != 1 || rest.Runs[0].ID.String() != "b" || rest.Next != nil {
		t.Errorf("behind it: %+v", rest)
	}
}
