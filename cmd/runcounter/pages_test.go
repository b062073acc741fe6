package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// top is the repository, in which a stranger reads the pages.
const top = "../.."

// TestPages follows each page as a stranger does, from the top of the
// repository: what stands in `console` prints what the page says, what stands
// in `sh` works. Commands that start `go test` are not run once more here;
// they must name tests or benchmarks that there are.
func TestPages(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	for _, page := range []string{
		"README.md", "CONTRIBUTING.md",
		"docs/api.md", "docs/benchmarks.md", "docs/console.md", "docs/deploy-on-fly.md", "docs/how-it-counts.md", "docs/limits.md", "docs/live-counts.md", "docs/operations.md", "docs/partitions.md", "docs/reference.md", "docs/security.md", "docs/sql.md", "docs/tables.md", "docs/webhooks.md",
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			r := newReader(t, top)
			if page != "README.md" { // which begins with nothing
				r.do(`echo '{"id":"` + sampleRun + `","user_id":"` + sampleUser + `","workflow_id":"` + sampleWorkflow +
					`","status":"completed","created_at":"2026-01-31T13:00:00Z","completed_at":"2026-01-31T13:01:00Z"}' | runcounter import`)
			}
			r.follow(filepath.Join(top, page))
		})
	}
}

// The pages' commands for a database of Supabase, on one.
func TestPagesOnAProject(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, installed)
	pgtest.StartNet(t, address)
	pgtest.InstallVault(t, address)
	for _, page := range []string{"docs/webhooks.md", "README.md"} {
		r := newReader(t, top, projectURL+"="+address)
		r.project = true
		r.follow(filepath.Join(top, page))
	}
}

// localStack is where supabase start has its database. The tests have another.
const localStack = "127.0.0.1:54322"

// projectURL stands in commands that need a database of Supabase.
const projectURL = "SUPABASE_DB_URL"

// No page is forgotten: it is followed here, or by the test that is named.
func TestEachPageIsFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := map[string]string{
		"client.md":              "typescript_test.go",
		"install-on-supabase.md": "install_page_test.go",
		"supabase-start.md":      "supabase_start_test.go",
		"harness.md":             "../../harness/page_test.go",
	}
	files, err := filepath.Glob(top + "/docs/*.md")
	if err != nil || len(files) < 6 {
		t.Fatalf("got the pages %v, %v", files, err)
	}
	here := mustReadFile(t, "pages_test.go")
	for _, file := range files {
		name := filepath.Base(file)
		if other := elsewhere[name]; other != "" {
			if !strings.Contains(mustReadFile(t, other), name) {
				t.Errorf("%s does not follow %s", other, name)
			}
		} else if !strings.Contains(here, `"docs/`+name+`"`) {
			t.Errorf("nobody follows docs/%s", name)
		}
	}
}

// reader is somebody who follows a page, with a shell of their own.
type reader struct {
	*shell
	url     string // of the server that the page has started; empty before it
	project bool   // read what needs a database of Supabase, and nothing else
}

func newReader(t *testing.T, dir string, env ...string) *reader {
	t.Helper()
	home := t.TempDir()
	env = append([]string{
		"DATABASE_URL=sqlite:" + filepath.Join(home, "runcounter.db"), // where env has no other
		"RUNCOUNTER_SWEEP_EVERY=24h",                                  // none in the middle of the page but the first
	}, env...)
	return &reader{shell: startShell(t, dir, home, env...)}
}

var fenced = regexp.MustCompile("(?ms)^```(console|sh)\n(.*?)^```$")

// readersPrograms are what the pages' commands call beside runcounter and what
// every system has.
var readersPrograms = regexp.MustCompile(`\b(curl|openssl|psql|sqlite3)\b`)

// follow runs the commands of a page, one after the other, and compares what
// they print; without a program that they call the test is skipped. -update writes it into the page.
func (r *reader) follow(path string) {
	t := r.t
	t.Helper()
	page := mustReadFile(t, path)
	for _, block := range fenced.FindAllString(page, -1) {
		for _, program := range readersPrograms.FindAllString(block, -1) {
			need.Program(t, program, program)
		}
	}
	got := fenced.ReplaceAllStringFunc(page, func(block string) string {
		parts := fenced.FindStringSubmatch(block)
		if parts[1] == "sh" {
			for _, command := range scriptOf(parts[2]) {
				r.do(command)
			}
			return block
		}
		var b strings.Builder
		b.WriteString("```console\n")
		for _, command := range commandsOf(parts[2]) {
			if r.project {
				return block
			}
			out, _ := r.run(r.here(command))
			b.WriteString("$ " + command + "\n" + settled(r.there(out)))
		}
		return b.String() + "```"
	})
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(page, got); diff != "" {
		t.Errorf("%s (-want +got); go test ./cmd/runcounter -run %s -update accepts it:\n%s", path, t.Name(), diff)
	}
}

// placeholders are what the reader of a page has to replace.
var placeholders = strings.NewReplacer("RUN-ID", sampleRun, "--user ID", "--user "+sampleUser, "--workflow ID", "--workflow "+sampleWorkflow)

// pageURL is where the pages say that the server is.
const pageURL = "127.0.0.1:8080"

func (r *reader) here(command string) string {
	command = placeholders.Replace(strings.Replace(command, "go run ./cmd/runcounter", "runcounter", 1))
	if r.url == "" {
		return command
	}
	return strings.ReplaceAll(command, pageURL, r.url)
}

func (r *reader) there(out string) string {
	if r.url == "" {
		return out
	}
	return strings.ReplaceAll(out, r.url, pageURL)
}

var (
	goTest    = regexp.MustCompile(`^go test (\S+)(.*)$`)
	serves    = regexp.MustCompile(`^(go run ./cmd/runcounter|runcounter) serve\b[^#]*`)
	ciCommand = regexp.MustCompile(`^(bash \.ci/run|go get|go install|fly|docker|git|supabase) `)
)

// do carries out a command that has to succeed.
func (r *reader) do(command string) {
	r.t.Helper()
	if strings.Contains(command, projectURL) != r.project {
		return
	}
	if found := goTest.FindStringSubmatch(command); found != nil {
		r.names(found[1], found[2])
		return
	}
	if serves.MatchString(command) {
		r.serve(serves.FindString(command))
		return
	}
	if ciCommand.MatchString(command+" ") || strings.Contains(command, "PASSWORD@") || strings.Contains(command, localStack) {
		return // needs an account, a network or half an hour, or is the reader's own
	}
	if out, code := r.run(r.here(command)); code != 0 {
		r.t.Errorf("exit code %d of\n%s\n%s", code, command, out)
	}
}

// serve starts the server as the page says, but on a free port, and leaves the
// first one there for the commands that follow.
func (r *reader) serve(command string) {
	t := r.t
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	command = strings.Replace(command, "go run ./cmd/runcounter", "runcounter", 1)
	if before, _, has := strings.Cut(command, "--listen"); has {
		command = before + "--listen :0"
	} else {
		command += " --listen 127.0.0.1:0"
	}
	out, code := r.run(": >" + log + "; " + command + " --log-format json --log-level debug 2>" + log + ` & echo $!`)
	if code != 0 {
		t.Fatalf("%s: exit code %d\n%s", command, code, out)
	}
	pid := strings.TrimSpace(out)
	found := regexp.MustCompile(`"url":"http://([^"]+)"`)
	said := ""
	await(t, command+" to listen and to have swept", func() bool {
		said = mustReadFile(t, log)
		if _, code := r.run("kill -0 " + pid); code != 0 {
			t.Fatalf("%s ended:\n%s", command, said)
		}
		return found.MatchString(said) && strings.Contains(said, `"msg":"sweep"`)
	})
	if r.url == "" {
		r.url = found.FindStringSubmatch(said)[1]
		r.run("export RUNCOUNTER_URL=http://" + r.url + hookPath)
		return
	}
	if out, code := r.run("kill " + pid + " && wait " + pid); code != 0 {
		t.Errorf("%s: exit code %d after SIGTERM\n%s%s", command, code, out, mustReadFile(t, log))
	}
}

// names checks that a go test on the page names what there is.
func (r *reader) names(where, flags string) {
	r.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(r.dir, strings.TrimSuffix(where, "/...")))
	if err != nil || len(dirs) != 1 {
		r.t.Errorf("go test %s: there is no such package: %v", where, err)
		return
	}
	for _, kind := range []struct{ flag, function string }{{"run", "Test"}, {"bench", "Benchmark"}, {"fuzz", "Fuzz"}} {
		found := regexp.MustCompile(`-` + kind.flag + ` (?:'([^']*)'|(\S+))`).FindStringSubmatch(flags)
		if found == nil || found[1] == "^$" {
			continue
		}
		wanted, _, _ := strings.Cut(found[1]+found[2], "/") // the part behind it names a subtest
		pattern, err := regexp.Compile(wanted)
		if err != nil {
			r.t.Errorf("go test %s -%s: %v", where, kind.flag, err)
			continue
		}
		there := false
		for _, file := range testFiles(r.t, dirs[0], strings.HasSuffix(where, "/...")) {
			for _, function := range regexp.MustCompile(`(?m)^func (`+kind.function+`\w*)\(`).FindAllStringSubmatch(mustReadFile(r.t, file), -1) {
				there = there || pattern.MatchString(function[1])
			}
		}
		if !there {
			r.t.Errorf("go test %s -%s %s: no %s is called so", where, kind.flag, wanted, strings.ToLower(kind.function))
		}
	}
}

// testFiles lists the tests of a package, and of those below it if it is said.
func testFiles(t *testing.T, dir string, below bool) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != dir && (!below || strings.HasPrefix(entry.Name(), ".")):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// await looks until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.After(time.Minute); !so(); {
		select {
		case <-deadline:
			t.Fatalf("a minute passed waiting for %s", what)
		case <-look.C:
		}
	}
}

// scriptOf returns the commands of a block: a line each, unless it goes on.
func scriptOf(block string) (commands []string) {
	var b strings.Builder
	open := 0
	for line := range strings.Lines(block) {
		b.WriteString(line)
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "for ") {
			open++
		}
		if strings.HasPrefix(trimmed, "done") {
			open--
		}
		if open > 0 || strings.HasSuffix(trimmed, `\`) || b.Len() == 0 {
			continue
		}
		if command := strings.TrimSpace(b.String()); command != "" {
			commands = append(commands, command)
		}
		b.Reset()
	}
	return commands
}

// commandsOf returns the commands of a console block, each with its
// here-document or the lines on which it goes on.
func commandsOf(block string) (commands []string) {
	more := func(string) bool { return false }
	for line := range strings.Lines(block) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case more(line):
			commands[len(commands)-1] += "\n" + line
			if line == "SQL" || !strings.HasSuffix(line, `\`) && !strings.Contains(commands[len(commands)-1], "<<'SQL'") {
				more = func(string) bool { return false }
			}
		case strings.HasPrefix(line, "$ "):
			commands = append(commands, strings.TrimPrefix(line, "$ "))
			if strings.HasSuffix(line, "<<'SQL'") || strings.HasSuffix(line, `\`) {
				more = func(string) bool { return true }
			}
		}
	}
	return commands
}

// shell is one sh for all commands of a page, so that what one sets, the next
// one has; runcounter is on its path.
type shell struct {
	t   *testing.T
	dir string
	in  io.Writer
	out *bufio.Reader
}

func startShell(t *testing.T, dir, home string, env ...string) *shell {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := "#!/bin/sh\nGORACE=atexit_sleep_ms=0 " + asCommand + "=1 exec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "runcounter"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "TZ=UTC", "PSQLRC=/dev/null", "PAGER=cat"}, env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, dir: dir, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with the servers it has started; an error means that all ended
		cmd.Wait()                                      // its exit code is that signal
	})
	return s
}

// endMark stands behind a command's output, with its exit code.
const endMark = "\x1eended"

// run returns what a command printed, and its exit code.
func (s *shell) run(command string) (string, int) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null\nprintf '%s %%d\\n' \"$?\"\n", command, `\036ended`); err != nil {
		s.t.Fatal(err)
	}
	var b bytes.Buffer
	for {
		line, err := s.out.ReadString('\n')
		if before, code, ended := strings.Cut(line, endMark+" "); ended {
			b.WriteString(before)
			exit := -1
			if _, err := fmt.Sscan(code, &exit); err != nil {
				s.t.Fatal(err)
			}
			return b.String(), exit
		}
		if !strings.HasPrefix(line, "database: ") { // where the test's is would be of no use on a page
			b.WriteString(line)
		}
		if err != nil {
			s.t.Fatalf("the shell ended in\n%s\n%s", command, b.String())
		}
	}
}
