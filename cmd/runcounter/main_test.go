package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// asCommand makes the test binary be runcounter, so that real processes are
// tested: started, killed, signalled.
const asCommand = "RUNCOUNTER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	pgtest.Main(m)
}

// command is runcounter in a folder, with nothing in its environment but what
// is given.
func command(t testing.TB, dir string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir = dir
	// Without the last one, each process that the race detector watches sleeps a second before it exits.
	cmd.Env = append([]string{asCommand + "=1", "HOME=" + dir, "TMPDIR=" + dir, "GOCOVERDIR=" + os.Getenv("GOCOVERDIR"), "GORACE=atexit_sleep_ms=0"}, env...)
	return cmd
}

// result is what a command said, and its exit code.
type result struct {
	out, errs string
	code      int
}

func exec1(t *testing.T, cmd *exec.Cmd, in string) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed, and returns what it printed.
func must(t *testing.T, dir, in string, args ...string) string {
	t.Helper()
	r := exec1(t, command(t, dir, nil, args...), in)
	if r.code != exitFine {
		t.Fatalf("runcounter %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.errs)
	}
	return r.out
}

// mustJSON runs a command with --json, and reads what it printed.
func mustJSON[T any](t *testing.T, dir, in string, args ...string) (v T) {
	t.Helper()
	text := must(t, dir, in, append(args, "--json")...)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("runcounter %s --json: %v\n%s", strings.Join(args, " "), err, text)
	}
	return v
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); go test ./cmd/runcounter -update accepts it:\n%s", path, diff)
	}
}

// process is a serve that runs.
type process struct {
	*exec.Cmd
	url string // where it listens

	mu    sync.Mutex
	grown *sync.Cond
	log   []logLine
	text  strings.Builder
	ended bool // the log, and so the process
}

// logLine is what the tests read of a line of the log.
type logLine struct{ Level, Msg, URL string }

// listens starts serve on a free port, and waits until it says where it listens.
func listens(t testing.TB, dir string, env []string, args ...string) *process {
	t.Helper()
	p := start(t, dir, env, args...)
	line, ok := p.await("listening")
	if !ok {
		t.Fatalf("serve ended before it listened: %v\n%s", p.Wait(), p.said())
	}
	p.url = line.URL
	return p
}

func start(t testing.TB, dir string, env []string, args ...string) *process {
	t.Helper()
	return startAs(t, command(t, dir, env), nil, args...)
}

// startAs starts serve by a command that runs what follows it; with none, as
// it is.
func startAs(t testing.TB, serve *exec.Cmd, by []string, args ...string) *process {
	t.Helper()
	line := append(by, serve.Path, "serve", "--listen", "127.0.0.1:0", "--log-format", "json")
	cmd := exec.CommandContext(t.Context(), line[0], append(line[1:], args...)...)
	cmd.Dir, cmd.Env = serve.Dir, serve.Env
	return follow(t, cmd)
}

// follow starts a command and reads its log.
func follow(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{Cmd: cmd}
	p.grown = sync.NewCond(&p.mu)
	pipe, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			p.kill()
		}
	})
	go p.read(pipe)
	return p
}

func (p *process) read(pipe io.Reader) {
	lines := bufio.NewScanner(pipe)
	for more := true; more; {
		more = lines.Scan()
		var line logLine
		known := json.Unmarshal(lines.Bytes(), &line) == nil // what is not JSON is a panic's trace
		p.mu.Lock()
		p.text.WriteString(lines.Text() + "\n")
		if known {
			p.log = append(p.log, line)
		}
		p.ended = !more
		p.mu.Unlock()
		p.grown.Broadcast()
	}
}

// await waits until the log has a message that begins so, and returns the
// line; false means that the process ended without it.
func (p *process) await(message string) (logLine, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for next := 0; ; {
		for ; next < len(p.log); next++ {
			if strings.HasPrefix(p.log[next].Msg, message) {
				return p.log[next], true
			}
		}
		if p.ended {
			return logLine{}, false
		}
		p.grown.Wait()
	}
}

// end waits for the process, and returns its exit code: -1 for a signal.
func (p *process) end() int {
	p.mu.Lock()
	for !p.ended {
		p.grown.Wait()
	}
	p.mu.Unlock()
	p.Wait() // its error is the exit code, or the signal
	return p.ProcessState.ExitCode()
}

// kill is kill -9.
func (p *process) kill() {
	p.Process.Kill() // an error means that it has ended
	p.end()
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// mustGet reads JSON from the API.
func mustGet[T any](t *testing.T, url string) (v T) {
	t.Helper()
	text := mustText(t, url)
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("GET %s: %v\n%s", url, err, text)
	}
	return v
}

// mustText reads a page that has to be there, with the key that tests set
// where they set one: a server without one does not look at it.
func mustText(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+doctorSecret)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v\n%s", url, res.Status, err, text)
	}
	return string(text)
}

func TestHelp(t *testing.T) {
	t.Parallel()
	commands := []string{""}
	for _, cmd := range rootCommand().Commands {
		commands = append(commands, cmd.Name)
	}
	for _, name := range commands {
		args, file := []string{"--help"}, "runcounter"
		if name != "" {
			args, file = []string{name, "--help"}, name
		}
		golden(t, file, must(t, t.TempDir(), "", args...))
	}
}

// The words behind a command have their help in the command's.
func TestHelpOfAnActionIsThatOfItsCommand(t *testing.T) {
	t.Parallel()
	for _, words := range [][]string{{"webhook", "status"}, {"migrate", "up"}, {"dead-letters", "show", "7"}, {"explain", sampleRun}} {
		want := must(t, t.TempDir(), "", words[0], "--help")
		for _, help := range []string{"--help", "-h"} {
			if d := cmp.Diff(want, must(t, t.TempDir(), "", append(words, help)...)); d != "" {
				t.Errorf("%v %s differs from %s --help (-want +got):\n%s", words, help, words[0], d)
			}
		}
	}
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		want string // what the message tells to do
	}{
		{"an unknown command", nil, []string{"frobnicate"}, "runcounter --help"},
		{"an unknown flag", nil, []string{"count", "--nope"}, "runcounter count --help"},
		{"a flag without its value", nil, []string{"count", "--user"}, "runcounter count --help"},
		{"an argument too many", nil, []string{"audit", "all"}, "runcounter audit --help"},
		{"no user", nil, []string{"count"}, "--user ID"},
		{"case T4: a user that is longer than any", nil, []string{"count", "--user", strings.Repeat("x", 256)}, "longer than 255 bytes"},
		{"case T4: a run that is not UTF-8", nil, []string{"complete", "\xff", "--status", "failed"}, "not valid UTF-8"},
		{"a workflow and a draft", nil, []string{"count", "--user", sampleUser, "--workflow", sampleWorkflow, "--draft", sampleRun}, "leave out"},
		{"no run", nil, []string{"complete", "--status", "failed"}, "RUN-ID"},
		{"an outcome that is none", nil, []string{"complete", sampleRun, "--status", "running"}, "completed, failed, cancelled, timeout"},
		{"details that are not JSON", nil, []string{"complete", sampleRun, "--status", "failed", "--error-details", "{oops"}, "quote it for the shell"},
		{"a recount of nothing", nil, []string{"recount", "--user", sampleUser}, "--all-drifting"},
		{"a recount of one and all", nil, []string{"recount", "--user", sampleUser, "--all-drifting"}, "leave out --user"},
		{"a limit that is no time", nil, []string{"sweep", "--stuck-after", "soon"}, "write 5m"},
		{"no direction to migrate", nil, []string{"migrate"}, "up, down, status or print"},
		{"deleting everything by accident", nil, []string{"migrate", "down"}, "--yes"},
		{"a file that isn't there", nil, []string{"import", "nothing.jsonl"}, "name a file"},
		{"a receiver that is no address", nil, []string{"send", "--url", "runs", "--user", sampleUser, "--workflow", sampleWorkflow}, defaultURL},
		{"a secret that can't sign", nil, []string{"send", "--secret", "whsec_eA==", "--user", sampleUser, "--workflow", sampleWorkflow}, "openssl rand"},
		{"an address of PostgreSQL that is none", []string{"DATABASE_URL=postgres://u:hunter2@db:port/x"}, []string{"audit"}, "special characters of the password"},
		{"an import into the source itself", []string{"DATABASE_URL=postgres://u:hunter2@db/x"}, []string{"import", "-"}, "runcounter migrate up"},
		{"an unknown database", nil, []string{"audit", "--database-url", "mysql://u:hunter2@db/x"}, "sqlite:PATH"},
		{"a database in memory", nil, []string{"audit", "--database-url", "sqlite::memory:"}, "name a file"},
		{"a policy that is none", nil, []string{"serve", "--count-policy", "all"}, `"terminal"`},
		{"a bad duration in the environment", []string{"RUNCOUNTER_SWEEP_EVERY=often"}, []string{"serve"}, "RUNCOUNTER_SWEEP_EVERY"},
		{"no sweeps", nil, []string{"serve", "--sweep-every", "0s"}, "such as 30s"},
		{"a log format that is none", nil, []string{"serve", "--log-format", "xml"}, "text, json"},
		{"a log level that is none", nil, []string{"serve", "--log-level", "loud"}, "debug, info, warn, error"},
		{"an address that is none", nil, []string{"serve", "--listen", "8080"}, "HOST:PORT"},
		{"a table that is none", nil, []string{"serve", "--table", "a.b.c"}, "public.workflow_runs"},
		{"case D18: a secret in quotes", []string{`RUNCOUNTER_WEBHOOK_SECRET="0123456789abcdef-hunter2"`}, []string{"serve"}, "RUNCOUNTER_WEBHOOK_SECRET: secret 1 of the list has a quotation mark around it"},
		{"case D18: a secret with a comma, and two letters behind it", []string{"RUNCOUNTER_WEBHOOK_SECRET=0123456789abcdef-hunter2,ab"}, []string{"serve"}, "RUNCOUNTER_WEBHOOK_SECRET: secret 2 of the list has 2 characters"},
		{"case D18: a key with Bearer before it", []string{"RUNCOUNTER_API_KEY=Bearer 0123456789abcdef-hunter2"}, []string{"serve"}, "RUNCOUNTER_API_KEY: key 1 of the list begins with Bearer"},
		{"case D18: a short key", []string{"RUNCOUNTER_API_KEY=hunter2"}, []string{"serve"}, "RUNCOUNTER_API_KEY: key 1 of the list has 7 characters"},
		{"case D18: a JWT secret in quotes", []string{`SUPABASE_JWT_SECRET='0123456789abcdef0123456789abcdef-hunter2'`}, []string{"serve"}, "SUPABASE_JWT_SECRET: the JWT secret has quotation marks around it"},
		{"case D15: a drain longer than a stop", nil, []string{"serve", "--drain", "1m"}, "between 0s and 20s"},
		{"case D16: an address for the metrics that is none", nil, []string{"serve", "--metrics-listen", "9091"}, "such as :9091"},
		{"strangers without secrets", nil, []string{"serve", "--listen", "0.0.0.0:0"}, "RUNCOUNTER_WEBHOOK_SECRET=$(openssl rand -base64 32)"},
		{"strangers by PORT", []string{"PORT=0"}, []string{"serve"}, "RUNCOUNTER_API_KEY=$(openssl rand -base64 32)"},
		{"strangers without an API key", []string{"RUNCOUNTER_WEBHOOK_SECRET=0123456789abcdef"}, []string{"serve", "--listen", ":0"}, "RUNCOUNTER_API_KEY=$(openssl rand -base64 32)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := exec1(t, command(t, dir, tt.env, tt.args...), "")
			if r.code != exitUsage || !strings.Contains(r.errs, tt.want) {
				t.Errorf("exit code %d, want %d and a message with %q\n%s%s", r.code, exitUsage, tt.want, r.out, r.errs)
			}
			if strings.Contains(r.errs, "hunter2") {
				t.Errorf("the message repeats the password:\n%s", r.errs)
			}
			if made, err := os.ReadDir(dir); err != nil || len(made) != 0 {
				t.Errorf("wrong usage left files behind: %v, %v", made, err)
			}
		})
	}
}

func TestOutOfReach(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"a database that isn't there is not made by asking": {"count", "--user", sampleUser},
		"a folder that isn't there":                         {"serve", "--database-url", "sqlite:no/such/folder/x.db"},
		"a server that isn't there":                         {"send", "--url", "http://127.0.0.1:1/", "--user", sampleUser, "--workflow", sampleWorkflow},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if r := exec1(t, command(t, dir, nil, args...), ""); r.code != exitUnreachable || r.errs == "" {
				t.Errorf("exit code %d, want %d and a message\n%s%s", r.code, exitUnreachable, r.out, r.errs)
			}
			if made, err := os.ReadDir(dir); err != nil || len(made) != 0 {
				t.Errorf("it left files behind: %v, %v", made, err)
			}
		})
	}
}
