package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// litestreamImage is a folder with what the image has on its path: the program,
// the start script and Litestream.
func litestreamImage(t *testing.T) string {
	t.Helper()
	litestream := os.Getenv("RUNCOUNTER_TEST_LITESTREAM")
	if litestream == "" {
		need.Missing(t, "RUNCOUNTER_TEST_LITESTREAM names no program of Litestream; .ci/run builds one")
	}
	asRoot(t)
	dir := mustImage(t)
	for _, from := range []string{litestream, top + "/deploy/start-with-litestream", top + "/deploy/litestream.yml"} {
		mustRun(t, "cp", from, filepath.Join(dir, filepath.Base(from)))
	}
	return dir
}

// startLitestream starts the image's entrypoint, in a group of its own, since
// what ends a machine ends all that runs in it.
func startLitestream(t *testing.T, image string, replica string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(image, "start-with-litestream"))
	cmd.Dir = image
	cmd.Env = []string{
		"PATH=" + image + ":/usr/bin:/bin", "DATABASE_FILE=" + filepath.Join(image, "data", "runcounter.db"), "LITESTREAM_CONFIG=" + filepath.Join(image, "litestream.yml"),
		"LITESTREAM_REPLICA_URL=file://" + replica, "RUNCOUNTER_LISTEN=127.0.0.1:0", "RUNCOUNTER_LOG_FORMAT=json", "RUNCOUNTER_SWEEP_EVERY=50ms",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := follow(t, cmd)
	t.Cleanup(func() {
		if p.ProcessState == nil {
			p.killAll(t)
		}
	})
	line, ok := p.await("listening")
	if !ok {
		t.Fatalf("it ended before it listened\n%s", p.said())
	}
	p.url = line.URL
	return p
}

func (p *process) killAll(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(-p.Process.Pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	p.end()
}

// TestALostVolumeIsRestored is the drill of docs/deploy-on-fly.md with the real
// Litestream and the image's own entrypoint: it replicates under load, the
// machine and its volume are lost, and a new machine fills its volume from the
// backup. What was acked until the last sync is there, and nothing drifts.
func TestALostVolumeIsRestored(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	image := litestreamImage(t)
	data, replica := filepath.Join(image, "data"), filepath.Join(image, "replica")
	for _, dir := range []string{data, replica} {
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, imageUser, imageUser)); err != nil {
			t.Fatal(err)
		}
	}
	p := startLitestream(t, image, replica)
	b := newBurst(p.url, 1)
	b.await(t, 200)
	synced := ackedSoFar(t, b)
	awaitBackup(t, image, replica, synced)
	p.killAll(t) // kill -9, in the middle of the burst
	b.posts.Wait()
	if len(b.odd) > 0 {
		t.Errorf("odd answers: %v", b.odd)
	}
	if err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o755)); err != nil { // a new volume, of root's
		t.Fatal(err)
	}
	p = startLitestream(t, image, replica)
	found := check(t, data, b.sent)
	for _, id := range synced {
		if !found[id.String()] {
			t.Errorf("run %s was acked before the last sync and is gone", id)
		}
	}
	if swept := mustJSON[api.Sweep](t, data, "", "sweep", "--full"); swept.Drifting != 0 || swept.Audited == 0 {
		t.Errorf("sweep --full: got %+v, want keys and no drift", swept)
	}
	t.Logf("%d acked when the machine was lost, %d of them in the backup, of which %d had to be", len(b.acked), len(found), len(synced))
	// The platform's signal finishes the server and sends what is left. (One that
	// comes before Litestream has looked at the file for the first time does not.)
	b = newBurst(p.url, b.next)
	b.await(t, 50)
	awaitBackup(t, image, replica, ackedSoFar(t, b))
	p.Process.Signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d, want 0\n%s", code, p.said())
	}
	b.posts.Wait()
	acked := ackedSoFar(t, b)
	if missing := missingIn(t, image, replica, acked); missing > 0 {
		t.Errorf("%d of %d acked runs are not in the backup after an orderly end\n%s", missing, len(acked), p.said())
	}
}

func ackedSoFar(t *testing.T, b *burst) (ids []store.ID) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.acked {
		parsed, err := store.ParseID(id)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, parsed)
	}
	return ids
}

// awaitBackup waits until the backup has all of these runs.
func awaitBackup(t *testing.T, image, replica string, ids []store.ID) {
	t.Helper()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for patience := time.Now().Add(time.Minute); missingIn(t, image, replica, ids) > 0; <-look.C {
		if time.Now().After(patience) {
			t.Fatal("the backup does not get there")
		}
	}
}

// missingIn restores the backup to another file, and returns how many of these
// runs it lacks.
func missingIn(t *testing.T, image, replica string, ids []store.ID) (missing int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	restore := exec.CommandContext(t.Context(), filepath.Join(image, "litestream"), "restore", "-if-replica-exists", "-o", path, "file://"+replica)
	if out, err := restore.CombinedOutput(); err != nil {
		t.Logf("restore: %v\n%s", err, out) // in the middle of a change of the backup
		return len(ids)
	}
	if _, err := os.Stat(path); err != nil {
		return len(ids) // there is no backup yet
	}
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, id := range ids {
		if _, err := db.Run(t.Context(), id); errors.Is(err, store.ErrNotFound) {
			missing++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return missing
}
