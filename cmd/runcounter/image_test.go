package main

import (
	"debug/elf"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// imageUser is who the program is in the image.
const imageUser = 65532

// imageBuild is the line of the Dockerfile that makes the program.
var imageBuild = regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .* )-o /out/runcounter ./cmd/runcounter$`)

// mustImage carries the Dockerfile's line out, and returns a folder with the
// program that anybody may read and run.
func mustImage(t *testing.T) string {
	t.Helper()
	line := imageBuild.FindStringSubmatch(mustReadFile(t, top+"/Dockerfile"))
	if line == nil {
		t.Fatal("the Dockerfile has no line that builds the program as this test knows it")
	}
	dir := mustFolder(t)
	build := exec.CommandContext(t.Context(), "sh", "-c", line[1]+"-o "+filepath.Join(dir, "runcounter")+" ./cmd/runcounter")
	build.Dir = top
	build.Env = append(os.Environ(), "VERSION=v1.2.3", "REVISION=0123abc") // which the Dockerfile takes as arguments
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program as the Dockerfile does: %v\n%s", err, out)
	}
	return dir
}

// mustFolder makes a folder that others can look into.
func mustFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, one := range []string{filepath.Dir(dir), dir} { // the first is the test's, and shut
		if err := os.Chmod(one, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCaseBaseImagesAreNamedByDigest, since the same tag is another image
// tomorrow.
func TestCaseBaseImagesAreNamedByDigest(t *testing.T) {
	t.Parallel()
	bases := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(mustReadFile(t, top+"/Dockerfile"), -1)
	if len(bases) < 4 {
		t.Fatalf("got %d bases: the file is not what this test reads", len(bases))
	}
	for _, base := range bases {
		if base[1] != "scratch" && !regexp.MustCompile(`^\w+:[\w.-]+@sha256:[0-9a-f]{64}$`).MatchString(base[1]) {
			t.Errorf("FROM %s is not a tag with its digest", base[1])
		}
	}
}

// TestImage shows of the image what can be shown without Docker: the program is
// static, small, and serves as nobody, with nothing but the environment that the
// page names, where it can write to its volume and nowhere else.
func TestImage(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	program := filepath.Join(mustImage(t), "runcounter")
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program has a segment %s: it is not static, and the image has no libc", p.Type)
		}
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 40<<20 {
		t.Errorf("the program has %d MiB, want at most 40", info.Size()>>20)
	}
	t.Logf("the image has a program of %.1f MiB and certificates", float64(info.Size())/(1<<20))
	if out, err := exec.CommandContext(t.Context(), program, "--version").Output(); err != nil || !strings.HasPrefix(string(out), "runcounter v1.2.3 (0123abc, go") {
		t.Errorf("built as v1.2.3 it says that it is %q, %v", out, err)
	}
	asRoot(t) // to become nobody
	root := mustFolder(t)
	data := filepath.Join(root, "data")
	for _, err := range []error{os.Mkdir(data, 0o700), os.Chown(data, imageUser, imageUser), os.Chmod(root, 0o555)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	serve := exec.CommandContext(t.Context(), program, "serve")
	serve.Dir = root
	serve.Env = []string{ // no HOME, no PATH, no TMPDIR
		"RUNCOUNTER_LISTEN=127.0.0.1:0", "RUNCOUNTER_LOG_FORMAT=json", "DATABASE_URL=sqlite:" + data + "/runcounter.db",
		"RUNCOUNTER_WEBHOOK_SECRET=0123456789abcdef0123456789abcdef", "RUNCOUNTER_API_KEY=0123456789abcdef0123456789abcdef",
	}
	serve.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser}}
	p := follow(t, serve)
	line, ok := p.await("listening")
	if !ok {
		t.Fatalf("serve ended before it listened\n%s", p.said())
	}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, line.URL+hookPath, strings.NewReader(completion(1)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer 0123456789abcdef0123456789abcdef")
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("a delivery: got %s", res.Status)
		}
	}
	if ready := awaitReady(t, line.URL, http.StatusOK); !strings.Contains(ready.text, `"ready":true`) {
		t.Errorf("/readyz says %s", ready.text)
	}
	p.Process.Signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d\n%s", code, p.said())
	}
	made, err := os.ReadDir(root)
	if err != nil || len(made) != 1 {
		t.Errorf("outside of the volume it wrote %v, %v", made, err)
	}
}

// The image of SQLite builds the Litestream that CI drills with.
func TestImageHasTheLitestreamOfCI(t *testing.T) {
	t.Parallel()
	version := regexp.MustCompile(`litestream/cmd/litestream@(v[\d.]+)`).FindStringSubmatch(mustReadFile(t, top+"/Dockerfile"))
	if version == nil || !strings.Contains(mustReadFile(t, top+"/.ci/run"), "litestream="+version[1]+"\n") {
		t.Errorf("the Dockerfile has %v, .ci/run another", version)
	}
}
