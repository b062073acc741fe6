package main

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/demo"
)

var deliveredIn = regexp.MustCompile(`Delivered in \S+, \d+ webhooks`)

// The same seed makes the same counts, and ours are the truth.
func TestDemo(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	dir := t.TempDir()
	r := exec1(t, command(t, dir, []string{"RUNCOUNTER_API_KEY=of the person's own", "DATABASE_URL=postgres://nowhere/", "RUNCOUNTER_COUNT_POLICY=terminal"},
		"demo", "--once", "--seed", "7", "--runs", "400"), "")
	if r.code != exitFine || r.errs != "" {
		t.Fatalf("exit code %d\n%s%s", r.code, r.out, r.errs)
	}
	golden(t, "demo-result", deliveredIn.ReplaceAllString(r.out, "Delivered in 0.5s, 3000 webhooks"))
	mustBeEmpty(t, dir)
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemoStaysUntilItIsEnded(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	dir := t.TempDir()
	cmd := command(t, dir, nil, "demo", "--runs", "50")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	lines := bufio.NewScanner(out)
	for url == "" && lines.Scan() {
		_, url, _ = strings.Cut(lines.Text(), "goes on with these runs at ")
	}
	if url == "" {
		t.Fatalf("it ended: %v", cmd.Wait())
	}
	if ready := mustText(t, url+"readyz"); !strings.Contains(ready, `"ready":true`) {
		t.Errorf("/readyz says %s", ready)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "runcounter-demo-*", "runcounter.db")); err != nil || len(files) != 1 {
		t.Errorf("got the files %v, %v; want one", files, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // a process whose output nobody reads may never end
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v, want exit code 0", err)
	}
	mustBeEmpty(t, dir)
}

// What the demo says of each counter depends on this.
func TestAWrongCountOfTheDemoIsSeen(t *testing.T) {
	t.Parallel()
	w, err := demo.NewWorld(3, 100, time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[store.Key]int64{}
	for key, n := range w.Truth {
		counts[key] = n
	}
	total, wrong := w.Compare(counts)
	if wrong != 0 || total == 0 {
		t.Errorf("the truth: got %d, %d wrong; want runs, and none wrong", total, wrong)
	}
	counts[w.Keys[5]] += 2
	counts[w.Keys[6]]--
	if more, wrong := w.Compare(counts); more != total+1 || wrong != 2 || w.Example(counts) != w.Keys[5] {
		t.Errorf("got %d, %d wrong, example %v; want %d, 2 wrong, the worst", more, wrong, w.Example(counts), total+1)
	}
	for name, n := range map[string]int{"twice": w.Twice, "out of order": w.Disordered, "lost": w.Lost, "overwritten": w.Overwritten, "racing recounts": len(w.Recounts)} {
		if n == 0 {
			t.Errorf("no webhooks %s: the demo shows less than it says", name)
		}
	}
}
