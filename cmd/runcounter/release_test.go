package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// What a release's program is built with makes it say its tag and commit. The linker says
// nothing of a symbol that there is none of.
func TestAReleaseSaysItsTag(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	file := mustReadFile(t, filepath.Join(top, ".goreleaser.yaml"))
	flags := strings.NewReplacer("{{ .Tag }}", "v1.2.3", "{{ .FullCommit }}", "0123456789abcdef0123456789abcdef01234567")
	var ldflags []string
	for _, found := range regexp.MustCompile(`(?m)^      - (-(?:s|X) .*)$`).FindAllStringSubmatch(file, -1) {
		ldflags = append(ldflags, flags.Replace(found[1]))
	}
	if len(ldflags) != 3 {
		t.Fatalf("got the flags %q: the file is not what this test reads", ldflags)
	}
	program := filepath.Join(t.TempDir(), "runcounter")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", strings.Join(ldflags, " "), "-o", program, "./cmd/runcounter")
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "runcounter v1.2.3 (0123456789ab, go") {
		t.Errorf("got %q, %v", out, err)
	}
	for _, found := range regexp.MustCompile(`(?m)^      - ([A-Za-z][\w./*]+)$`).FindAllStringSubmatch(file, -1) {
		if files, err := filepath.Glob(filepath.Join(top, found[1])); err != nil || len(files) == 0 {
			t.Errorf("an archive has %s, which is not there: %v", found[1], err)
		}
	}
}

// The workflow builds images that the Dockerfile has, tells them their version, and names
// the exact release of each action: a tag such as v4 is moved.
func TestTheReleasesWorkflow(t *testing.T) {
	t.Parallel()
	text := mustReadFile(t, filepath.Join(top, ".github/workflows/release.yml"))
	dockerfile := mustReadFile(t, filepath.Join(top, "Dockerfile"))
	uses := regexp.MustCompile(`uses: (\S+)`).FindAllStringSubmatch(text, -1)
	if len(uses) < 8 {
		t.Fatalf("got %d actions: the file is not what this test reads", len(uses))
	}
	for _, action := range uses {
		if !regexp.MustCompile(`^[\w-]+/[\w-]+@v\d+\.\d+\.\d+$`).MatchString(action[1]) {
			t.Errorf("%s is not named by its exact version", action[1])
		}
	}
	for _, target := range regexp.MustCompile(`- target: (\w+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(dockerfile, " AS "+target[1]+"\n") {
			t.Errorf("the Dockerfile has no stage %s", target[1])
		}
	}
	for _, arg := range []string{"VERSION", "REVISION"} {
		if !strings.Contains(text, arg+"=${{ github.") || !regexp.MustCompile(`(?m)^ARG .*\b`+arg+`=`).MatchString(dockerfile) {
			t.Errorf("the image is not told its %s", arg)
		}
	}
	if !strings.Contains(text, "run: bash .ci/run\n") || strings.Count(text, "needs: check\n") != 2 {
		t.Error("something is published before everything is checked")
	}
}
