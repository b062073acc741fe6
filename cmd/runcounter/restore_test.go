package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// removeDatabase is the disk that is gone.
func removeDatabase(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"runcounter.db", "runcounter.db-wal", "runcounter.db-shm"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// TestABackupThatIsRestored takes a copy under load, goes on, loses the file
// and puts the copy back: nothing drifts, what was acked before the copy is
// there, and what came after it is there once the senders send it again.
func TestABackupThatIsRestored(t *testing.T) {
	t.Parallel()
	need.Program(t, "sqlite3", "sqlite3") // one of the two ways to take a copy
	for name, statement := range map[string]string{
		"with .backup":     ".backup copy.db",
		"with vacuum into": "vacuum into 'copy.db'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := listens(t, dir, nil, "--sweep-every", "50ms")
			b := newBurst(p.url, 1)
			b.await(t, 200)
			b.mu.Lock()
			before := make([]string, 0, len(b.acked))
			for id := range b.acked {
				before = append(before, id)
			}
			b.mu.Unlock()
			backup := exec.CommandContext(t.Context(), "sqlite3", "runcounter.db", ".timeout 5000", statement)
			backup.Dir = dir
			if out, err := backup.CombinedOutput(); err != nil {
				t.Fatalf("sqlite3: %v\n%s", err, out)
			}
			b.await(t, len(before)+200)
			p.kill()
			b.posts.Wait()
			removeDatabase(t, dir)
			if err := os.Rename(filepath.Join(dir, "copy.db"), filepath.Join(dir, "runcounter.db")); err != nil {
				t.Fatal(err)
			}
			if swept := mustJSON[api.Sweep](t, dir, "", "sweep", "--full"); swept.Drifting != 0 || swept.Audited == 0 {
				t.Errorf("the restored copy: got %+v, want keys and no drift", swept)
			}
			restored := check(t, dir, b.sent)
			for _, id := range before {
				if !restored[id] {
					t.Errorf("run %s was acked before the copy and is not in it", id)
				}
			}
			if len(restored) == len(b.acked) {
				t.Errorf("all %d acked runs are in the copy: this shows nothing of what came after it", len(restored))
			}
			p = listens(t, dir, nil)
			for n := 1; n < b.next; n++ { // again, in full: repeating is safe
				if a := ask(t, http.MethodPost, p.url+hookPath, completion(n)); a.status != http.StatusOK {
					t.Fatalf("a replay: got %+v", a)
				}
			}
			if found := check(t, dir, b.sent); len(found) != len(b.sent) {
				t.Errorf("%d of %d runs are there after the replay", len(found), len(b.sent))
			}
			if swept := mustJSON[api.Sweep](t, dir, "", "sweep", "--full"); swept.Drifting != 0 {
				t.Errorf("after the replay: got %+v, want no drift", swept)
			}
		})
	}
}
