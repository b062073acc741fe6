package store

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhatIsOddAboutARunAndWhatItNeeds(t *testing.T) {
	t.Parallel()
	user, _ := ParseID("ada")
	flow, _ := ParseID("resize")
	start := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		row    Row
		want   []Oddity
		source string // a part of what it needs in a source
		mirror string
	}{
		"a guest's run":           {Row{Workflow: flow, Status: Running}, []Oddity{OddNoUser}, "set its user", "set its user"},
		"of no workflow":          {Row{User: user, Status: Running}, []Oddity{OddNoWorkflow}, "neither a workflow nor a draft", "neither"},
		"an unknown status":       {Row{User: user, Workflow: flow, Status: "on hold"}, []Oddity{OddStatus}, `"on hold" has no meaning here`, "runcounter serve --status THEIRS=OURS"},
		"one that moves the line": {Row{User: user, Workflow: flow, Status: "\x1b[2J"}, []Oddity{OddStatus}, "runcounter migrate up --status THEIRS=OURS", `"\x1b[2J"`},
		"no status":               {Row{User: user, Workflow: flow}, []Oddity{OddStatus}, "write one", "write one"},
		"ended before it started": {Row{User: user, Workflow: flow, Status: Completed, StartedAt: start, CompletedAt: start.Add(-time.Minute)}, []Oddity{OddEnd}, "ended 1m0s before it started", "which clock"},
		"two of them":             {Row{Status: "on hold"}, []Oddity{OddNoUser, OddStatus}, "set its user", "no meaning"},
	} {
		r := ListedRun{Run: Run{Row: c.row}}
		if got := r.Oddities(); !slices.Equal(got, c.want) || !r.Odd() {
			t.Errorf("%s: got %v, odd %v; want %v", name, got, r.Odd(), c.want)
		}
		if got := r.Needs(true); len(got) != len(c.want) || !strings.Contains(strings.Join(got, "\n"), c.source) {
			t.Errorf("%s in a source needs %q, want %q", name, got, c.source)
		}
		if got := r.Needs(false); len(got) != len(c.want) || !strings.Contains(strings.Join(got, "\n"), c.mirror) {
			t.Errorf("%s in a mirror needs %q, want %q", name, got, c.mirror)
		}
	}
	right := ListedRun{Run: Run{Row: Row{User: user, Workflow: flow, Status: Completed, StartedAt: start, CompletedAt: start}}}
	if got := right.Oddities(); right.Odd() || !slices.Equal(got, []Oddity{OddTime}) || !strings.Contains(right.Needs(true)[0], "infinity") {
		t.Errorf("one that looks right is listed for %v, odd %v, %q", got, right.Odd(), right.Needs(true))
	}
}
