package harness_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

const pagePath = "../docs/harness.md"

// TestPage follows docs/harness.md in a module of its own, as its reader does:
// the Go that stands there is put into files, and the commands print what the
// page says. -update writes it into the page.
func TestPage(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	b, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	m := newPageModule(t, pgtest.Database(t))
	got := regexp.MustCompile("(?ms)^```(go|js|console)\n(.*?)^```$").ReplaceAllStringFunc(page, func(block string) string {
		kind, text, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(block, "```"), "```"), "\n")
		first, _, _ := strings.Cut(text, "\n")
		switch kind {
		case "js":
			m.write(strings.TrimPrefix(first, "// "), text)
			return block
		case "go":
			m.take(text)
			return block
		}
		command := first
		if strings.HasSuffix(command, "TestVisit") && !m.hasNode() {
			return block
		}
		return "```console\n" + command + "\n" + m.run(strings.TrimPrefix(command, "$ ")) + "```"
	})
	for _, name := range []string{"TestStrategies", "TestGated"} {
		if out := m.run("go test . -run " + name + " -v"); !strings.Contains(out, "--- PASS: "+name) {
			t.Error(out)
		}
	}
	if *update {
		if err := os.WriteFile(pagePath, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(page, got); diff != "" {
		t.Errorf("%s (-want +got); go test ./harness -run '^TestPage$' -update accepts it:\n%s", pagePath, diff)
	}
}

// pageModule is the module in which the reader of the page tries it.
type pageModule struct {
	t       *testing.T
	dir     string
	address string
}

func newPageModule(t *testing.T, address string) *pageModule {
	t.Helper()
	m := &pageModule{t: t, dir: t.TempDir(), address: address}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	m.write("go.mod", strings.Replace(string(mod), "module github.com/edgaze-ai/runcounter", "module example.com/bank", 1)+
		"\nrequire github.com/edgaze-ai/runcounter v0.0.0\n\nreplace github.com/edgaze-ai/runcounter => "+top+"\n")
	m.write("go.sum", string(sum))
	return m
}

// hasNode gives the module npm's packages, where there are any.
func (m *pageModule) hasNode() bool {
	m.t.Helper()
	modules := os.Getenv("RUNCOUNTER_TEST_NODE_MODULES")
	if modules == "" {
		need.InPart(m.t, "RUNCOUNTER_TEST_NODE_MODULES names no node_modules with npm's pg; .ci/run installs them")
		return false
	}
	if err := os.Symlink(modules, filepath.Join(m.dir, "node_modules")); err != nil {
		m.t.Fatal(err)
	}
	return true
}

// take puts a block of Go where it belongs. The shorter ones have a place in
// one of the files of testdata/page, marked by how they begin.
func (m *pageModule) take(block string) {
	m.t.Helper()
	first, _, _ := strings.Cut(block, "\n")
	switch {
	case strings.HasPrefix(first, "package "):
		m.write("bank_test.go", block)
		return
	case strings.HasPrefix(first, "// ") && strings.HasSuffix(first, "_test.go"):
		m.write(strings.TrimPrefix(first, "// "), block)
		return
	case strings.HasPrefix(first, "func Transfer("):
		m.write("bank.go", "package bank\n\nimport (\n\t\"context\"\n\t\"database/sql\"\n)\n\n"+block)
		return
	}
	files, err := filepath.Glob("testdata/page/*.txt")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		place := regexp.MustCompile(`// page: (.*)`).FindStringSubmatch(string(text))
		if strings.HasPrefix(first, place[1]) {
			m.write(strings.TrimSuffix(filepath.Base(file), ".txt"), strings.Replace(string(text), place[0], block, 1))
			return
		}
	}
	m.t.Errorf("no file of testdata/page has a place for\n%s", block)
}

func (m *pageModule) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// run returns what a command of the page printed, but for what differs from
// run to run.
func (m *pageModule) run(command string) string {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "/bin/sh", "-c", command)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "ADDRESS="+m.address, "HARNESS_POSTGRES="+os.Getenv("RUNCOUNTER_TEST_DATABASE_URL"), "GOFLAGS=-mod=mod "+os.Getenv("GOFLAGS"))
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	text := string(out)
	for pattern, steady := range map[string]string{
		`\(\d+\.\d\ds\)`:                        "(0.01s)",
		`(ok  \texample.com/bank\t).*`:          "${1}0.011s",
		`(?m)^(FAIL|FAIL\texample.*|exit .*)\n`: "",
		`postgres 1\d `:                         "postgres 15 ",
		`(?m)[ \t]+$`:                           "",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, steady)
	}
	return text
}
