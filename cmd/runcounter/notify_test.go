package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/internal/wait"
)

const notifySecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// nearALimit begins a run under a limit of one, with a server that ends then.
func nearALimit(t *testing.T, dir string) {
	t.Helper()
	p := listens(t, dir, nil)
	a := ask(t, http.MethodPost, p.url+"/v1/runs", `{"user_id": "ada", "workflow_id": "resize", "limit": 1}`)
	if a.status != http.StatusCreated {
		t.Fatalf("begin: got %+v", a)
	}
	p.Process.Signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Fatalf("exit code %d\n%s", code, p.said())
	}
}

func TestServeNotifiesOfALimit(t *testing.T) {
	t.Parallel()
	dir, bodies := t.TempDir(), make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies <- string(body)
	}))
	defer receiver.Close()
	nearALimit(t, dir)
	p := listens(t, dir, []string{"RUNCOUNTER_NOTIFY_URL=" + receiver.URL, "RUNCOUNTER_NOTIFY_SECRET=" + notifySecret})
	if body := wait.For(t, "a notice", bodies); !strings.Contains(body, `"type":"limit.near"`) || !strings.Contains(body, `"user_id":"ada"`) {
		t.Errorf("got %s", body)
	}
	p.Process.Signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d\n%s", code, p.said())
	}
}

func TestServeRefusesANotificationThatCanNotBeSigned(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir(), nil, "--notify-url", "https://hooks.example.com/x")
	if code := p.end(); code != exitUsage || !strings.Contains(p.said(), "whsec_") {
		t.Errorf("got exit code %d and %s", code, p.said())
	}
}

// The adapter for Slack runs as it is printed: it takes what serve signs, and refuses
// what another has signed.
func TestTheAdapterOfThePageRuns(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	deno := filepath.Join(os.Getenv("RUNCOUNTER_TEST_NODE_MODULES"), ".bin", "deno")
	if _, err := os.Stat(deno); err != nil {
		need.Missing(t, "RUNCOUNTER_TEST_NODE_MODULES names no node_modules with npm's deno; .ci/run installs them")
	}
	blocks := regexp.MustCompile("(?ms)^```js\n(.*?)^```").FindAllStringSubmatch(mustReadFile(t, "../../docs/operations.md"), -1)
	if len(blocks) != 1 {
		t.Fatalf("docs/operations.md has %d blocks of JavaScript, want 1", len(blocks))
	}
	texts := make(chan string, 10)
	slack := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		texts <- m.Text
	}))
	defer slack.Close()
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "adapter.js"), blocks[0][1])
	mustWrite(t, filepath.Join(dir, "main.js"), `import { adapt } from "./adapter.js";
Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: (at) => console.error(JSON.stringify({ msg: "listening", url: "http://127.0.0.1:" + at.port })) },
  (request) => adapt(request, Deno.env.get("SLACK_URL"), Deno.env.get("SECRET")));
`)
	cmd := exec.CommandContext(t.Context(), deno, "run", "--quiet", "--no-prompt", "--no-check", "--allow-env", "--allow-net", "--allow-read", filepath.Join(dir, "main.js"))
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "DENO_NO_UPDATE_CHECK=1", "DENO_DIR="+filepath.Join(dir, "deno"), "SLACK_URL="+slack.URL, "SECRET="+notifySecret)
	adapter := follow(t, cmd)
	line, ok := adapter.await("listening")
	if !ok {
		t.Fatalf("the adapter ended: %s", adapter.said())
	}
	nearALimit(t, dir)
	strange := listens(t, dir, []string{"RUNCOUNTER_NOTIFY_URL=" + line.URL, "RUNCOUNTER_NOTIFY_SECRET=whsec_" + strings.Repeat("A", 32)})
	if _, ok := strange.await("operators could not be notified"); !ok || !strings.Contains(strange.said(), "401") {
		t.Errorf("signed by another: got %s, want 401", strange.said())
	}
	strange.kill()
	if err := os.Remove(filepath.Join(dir, "runcounter.db")); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"-wal", "-shm"} {
		os.Remove(filepath.Join(dir, "runcounter.db"+left)) // as far as it is there
	}
	nearALimit(t, dir)
	both := listens(t, dir, []string{"RUNCOUNTER_NOTIFY_URL=" + line.URL, "RUNCOUNTER_NOTIFY_SECRET=whsec_" + strings.Repeat("A", 32) + "," + notifySecret})
	if text := wait.For(t, "a message to Slack", texts); text != "ada: 0 of 1 runs left (key)" {
		t.Errorf("Slack was told %q", text)
	}
	if _, ok := both.await("operators were notified"); !ok {
		t.Errorf("serve ended: %s", both.said())
	}
}
