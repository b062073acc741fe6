package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// mustFill makes a mirror with so many runs in it.
func mustFill(t *testing.T, dir string, runs int) {
	t.Helper()
	must(t, dir, "", "migrate", "up")
	db, err := sql.Open("sqlite", filepath.Join(dir, "runcounter.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `
with recursive n (n) as (select 1 union all select n + 1 from n where n < ?)
insert into workflow_runs (id, user_id, workflow_id, status, updated_at, as_of)
select printf('00000000-0000-4000-8000-%012d', n), '11111111-1111-4111-8111-111111111111', 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'running', n, n
  from n`, runs)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A migrate down that is killed has taken back nothing; each is given twice as
// long as the one before, until one is done before its time is up.
func TestCaseD22_AMigrateDownThatIsKilledHasTakenBackNothing(t *testing.T) {
	need.NoRaceDetector(t)
	t.Parallel()
	dir := t.TempDir()
	mustFill(t, dir, 100_000)
	type status struct {
		Version, Latest uint
		Dirty           bool
	}
	kills := 0
	for life := 4 * time.Millisecond; life < time.Minute; life = life * 3 / 2 {
		ctx, cancel := context.WithTimeout(t.Context(), life)
		down := command(t, dir, nil, "migrate", "down", "--yes")
		if err := down.Start(); err != nil {
			t.Fatal(err)
		}
		stop := context.AfterFunc(ctx, func() { _ = down.Process.Kill() }) // which may have ended
		err := down.Wait()
		stop()
		cancel()
		got := mustJSON[status](t, dir, "", "migrate", "status")
		if err == nil {
			if got.Version != 0 || got.Dirty {
				t.Errorf("done, the schema is %+v: want nothing applied", got)
			}
			t.Logf("%d were killed, the last of them within %s", kills, life*2/3)
			if kills == 0 {
				t.Error("none was killed")
			}
			return
		}
		kills++
		if got.Dirty || got.Version != got.Latest && got.Version != 0 {
			t.Fatalf("killed after %s the schema is %+v: want all of it, or nothing", life, got)
		}
	}
	t.Error("no migrate down came to its end")
}
