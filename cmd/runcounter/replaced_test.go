package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCaseD24_AFileThatIsReplacedUnderServeIsNotAckedInto moves another
// database to the place of the one that serve has open.
func TestCaseD24_AFileThatIsReplacedUnderServeIsNotAckedInto(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	must(t, other, "", "migrate", "up")
	p := listens(t, dir, nil, "--sweep-every", "50ms")
	hook := func() answered {
		return ask(t, http.MethodPost, p.url+"/webhooks/workflow-runs", `{"type":"INSERT","schema":"public","table":"workflow_runs","old_record":null,
  "record":{"id":"`+runID(1)+`","user_id":"`+sampleUser+`","workflow_id":"`+sampleWorkflow+`","status":"running","updated_at":"2026-01-31T12:00:00Z"}}`)
	}
	if a := hook(); a.status != http.StatusOK {
		t.Fatalf("before: %d %s", a.status, a.text)
	}
	file := filepath.Join(dir, "runcounter.db")
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	rename(file, file+".old")
	rename(filepath.Join(other, "runcounter.db"), file)
	const sentence = "The database file was replaced or removed under the server"
	if a := hook(); a.status != http.StatusServiceUnavailable || a.retry == "" || !strings.Contains(a.text, sentence) {
		t.Errorf("a webhook: %d, Retry-After %q, %s; want 503 with the sentence", a.status, a.retry, a.text)
	}
	if a := awaitReady(t, p.url, http.StatusServiceUnavailable); !strings.Contains(a.text, sentence) {
		t.Errorf("/readyz: %s; want the sentence", a.text)
	}
	eventually(t, "a sweep says so in the log", func() bool {
		return strings.Contains(p.said(), "is not the file that was opened")
	})
	rename(file, filepath.Join(other, "runcounter.db"))
	rename(file+".old", file)
	awaitReady(t, p.url, http.StatusOK)
	if a := hook(); a.status != http.StatusOK {
		t.Errorf("with the file in its place again: %d %s", a.status, a.text)
	}
}
