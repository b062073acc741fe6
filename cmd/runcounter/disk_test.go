package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
)

// asRoot skips what only root can set up; in CI root runs it.
func asRoot(t *testing.T) {
	t.Helper()
	need.Root(t, "mount a small disk and make files immutable")
}

// mustRun runs a command of the system.
func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// smallDisk mounts a disk of 8 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	asRoot(t)
	dir := t.TempDir()
	mustRun(t, "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", dir)
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// databaseFiles are those of SQLite's that are there.
func databaseFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "runcounter.db*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("got %v, %v; want the file, its log and its index", files, err)
	}
	return files
}

// answered is what a sender got.
type answered struct {
	status int
	retry  string
	text   string
}

func ask(t *testing.T, method, url, body string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{res.StatusCode, res.Header.Get("Retry-After"), string(text)}
}

// onADisk is a folder that is not in memory, where a file that has become
// immutable can still be written by those who had opened it.
func onADisk(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "runcounter") //nolint:usetesting // t.TempDir may be in memory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// awaitReady waits until /readyz answers so; it looks at the database once a
// second.
func awaitReady(t *testing.T, base string, status int) answered {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for patience := time.Now().Add(20 * time.Second); ; <-look.C {
		a := ask(t, http.MethodGet, base+"/readyz", "")
		if a.status == status {
			return a
		}
		if time.Now().After(patience) {
			t.Fatalf("/readyz still answers %d, want %d: %s", a.status, status, a.text)
		}
	}
}

// TestADiskThatFailsAndHeals: while the database can't be written, senders are
// answered 503 with a sentence, /readyz says the same, and once it can be
// written again the same process takes deliveries. What was acked is there.
func TestADiskThatFailsAndHeals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		dir    func(t *testing.T) string
		spoil  func(t *testing.T, dir string)
		repair func(t *testing.T, dir string)
		want   string
	}{
		{
			"the disk is full", smallDisk,
			func(t *testing.T, dir string) { fill(t, filepath.Join(dir, "filler")) },
			func(t *testing.T, dir string) {
				if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
					t.Fatal(err)
				}
			},
			"The disk of the database is full: free space",
		},
		{
			"the files become read-only while they are open",
			func(t *testing.T) string { asRoot(t); return onADisk(t) },
			func(t *testing.T, dir string) {
				files := databaseFiles(t, dir)
				t.Cleanup(func() { // what is immutable can't be removed either
					for _, file := range files {
						_ = exec.Command("chattr", "-i", file).Run() // it may have been repaired, or be gone
					}
				})
				mustRun(t, "chattr", append([]string{"+i"}, files...)...)
			},
			func(t *testing.T, dir string) {
				mustRun(t, "chattr", append([]string{"-i"}, databaseFiles(t, dir)...)...)
			},
			"mounted read-only",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := tt.dir(t)
			p := listens(t, dir, nil, "--sweep-every", "50ms") // the sweep meets it as well
			n, acked := 0, []store.ID{}
			post := func() answered {
				n++
				a := ask(t, http.MethodPost, p.url+hookPath, completion(n))
				if a.status == http.StatusOK {
					id, err := store.ParseID(runID(n))
					if err != nil {
						t.Fatal(err)
					}
					acked = append(acked, id)
				}
				return a
			}
			for range 20 {
				if a := post(); a.status != http.StatusOK {
					t.Fatalf("a healthy disk: got %+v", a)
				}
			}
			awaitReady(t, p.url, http.StatusOK)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the log:\n%s", p.said())
				}
			})
			tt.spoil(t, dir)
			refusal := post()
			// What the log still has room for is written.
			for range 5000 {
				if refusal.status != http.StatusOK {
					break
				}
				refusal = post()
			}
			mustBeRefusal(t, refusal, tt.want)
			if ready := awaitReady(t, p.url, http.StatusServiceUnavailable); !strings.Contains(ready.text, tt.want) {
				t.Errorf("/readyz says %s, want it to hold %q", ready.text, tt.want)
			}
			tt.repair(t, dir)
			awaitReady(t, p.url, http.StatusOK)
			for range 20 {
				if a := post(); a.status != http.StatusOK {
					t.Errorf("a repaired disk: got %+v", a)
				}
			}
			found := check(t, dir, acked)
			for _, id := range acked {
				if !found[id.String()] {
					t.Errorf("run %s was acked and is gone", id)
				}
			}
			p.Process.Signal(os.Interrupt)
			if code := p.end(); code != exitFine {
				t.Errorf("exit code %d, want 0\n%s", code, p.said())
			}
			if !strings.Contains(p.said(), tt.want) {
				t.Errorf("the log does not say %q:\n%s", tt.want, p.said())
			}
		})
	}
}

// mustBeRefusal checks that a sender was told what is wrong and when to come
// again.
func mustBeRefusal(t *testing.T, a answered, want string) {
	t.Helper()
	var problem struct{ Detail string }
	if err := json.Unmarshal([]byte(a.text), &problem); err != nil {
		t.Fatalf("%v: %s", err, a.text)
	}
	if a.status != http.StatusServiceUnavailable || a.retry == "" || !strings.Contains(problem.Detail, want) {
		t.Errorf("got %+v, want 503 with Retry-After and %q", a, want)
	}
}

// A file without the right to be written is opened read-only, and so a
// connection stays: serve must open another. Root may write any file, unless
// this right is taken from it.
func TestAFileThatMayNotBeWrittenWhenServeStarts(t *testing.T) {
	t.Parallel()
	asRoot(t)
	dir := t.TempDir()
	p := listens(t, dir, nil)
	if a := ask(t, http.MethodPost, p.url+hookPath, completion(1)); a.status != http.StatusOK {
		t.Fatalf("got %+v", a)
	}
	p.kill() // the log stays behind: without it nobody can read a file that can't be written
	mode := func(mode os.FileMode) {
		for _, file := range databaseFiles(t, dir) {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	mode(0o400)
	p = startAs(t, command(t, dir, nil), []string{"setpriv", "--bounding-set=-dac_override,-dac_read_search"})
	line, ok := p.await("listening")
	if !ok {
		t.Fatalf("serve ended before it listened\n%s", p.said())
	}
	p.url = line.URL
	if ready := ask(t, http.MethodGet, p.url+"/readyz", ""); ready.status != http.StatusServiceUnavailable || !strings.Contains(ready.text, "can't be written") {
		t.Errorf("/readyz: got %+v, want 503 before the first delivery", ready)
	}
	mustBeRefusal(t, ask(t, http.MethodPost, p.url+hookPath, completion(2)), "The database file can't be written")
	if got := mustGet[countShape](t, fmt.Sprintf("%s/v1/counts?user_id=%s&workflow_id=aaaaaaaa-aaaa-4aaa-8aaa-%012d", p.url, sampleUser, 1)); got.Count != 1 {
		t.Errorf("the count is %d, want 1: what can be read is answered", got.Count)
	}
	mode(0o600)
	awaitReady(t, p.url, http.StatusOK)
	if a := ask(t, http.MethodPost, p.url+hookPath, completion(2)); a.status != http.StatusOK {
		t.Errorf("a repaired file: got %+v", a)
	}
}
