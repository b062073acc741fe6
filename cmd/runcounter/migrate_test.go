package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// mustFill makes a mirror with so many runs in it.
func mustFill(t *testing.T, dir string, runs int) {
	t.Helper()
	must(t, dir, "", "migrate", "up")
	mustDo(t, filepath.Join(dir, "runcounter.db"), `
with recursive n (n) as (select 1 union all select n + 1 from n where n < ?)
insert into workflow_runs (id, user_id, workflow_id, status, updated_at, as_of)
select printf('00000000-0000-4000-8000-%012d', n), '11111111-1111-4111-8111-111111111111', 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'running', n, n
  from n`, runs)
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

// What nothing brings back is dropped by migrate down only where that is said: runs are
// counted again, but grants, decisions and marks stand in our tables alone.
func TestMigrateDownAsksBeforeItDropsWhatNothingBringsBack(t *testing.T) {
	t.Parallel()
	source := pgtest.Database(t)
	dir := t.TempDir()
	for name, address := range map[string][]string{"a mirror": nil, "a source": {"--database-url", source}} {
		try := func(args ...string) result {
			return exec1(t, command(t, dir, nil, append(args, address...)...), "")
		}
		do := func(args ...string) {
			t.Helper()
			if r := try(args...); r.code != 0 {
				t.Fatalf("%s: %v: got %+v", name, args, r)
			}
		}
		do("migrate", "up")
		do("migrate", "down", "--yes")
		do("migrate", "up")
		number := "2" // of the second grant
		want := "3 grants, 1 of which stands"
		if address == nil {
			must(t, dir, row(1, sampleWorkflow, "completed", "2026-01-31T12:00:00+00:00"), "import")
		} else {
			pgtest.Exec(t, source, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ('`+runID(1)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'completed', now());
insert into run_counter.amendments (run_id, at, who, why, status) values ('`+runID(1)+`', now(), 'ada', 'a refund', 'failed');
insert into run_counter.grants (user_id, runs, who, why, granted_at, expires_at) values ('`+sampleUser+`', 1, 'ada', 'for a while', '2026-01-01', '2026-01-02');
insert into run_counter.presumed (run_id, ended_at, status) values ('`+runID(1)+`', now(), 'completed')`)
			number = "3"
			want += ", 1 decision about an outcome, 1 presumed outcome"
		}
		do("grant", "give", "--user", sampleUser, "--runs", "1", "--who", "ada", "--why", "a present", "--expires", "9000-01-01T00:00:00Z")
		do("grant", "give", "--user", sampleUser, "--runs", "1", "--who", "ada", "--why", "a mistake")
		do("grant", "revoke", number, "--who", "ada", "--why", "a mistake")
		if address == nil {
			mustDo(t, filepath.Join(dir, "runcounter.db"), `insert into grants (user_id, runs, who, why, granted_at, expires_at) values ('x', 1, 'ada', 'for a while', 1, 2)`)
		}
		for _, args := range [][]string{{"migrate", "down", "--yes"}, {"migrate", "down", "--drop-records"}} {
			r := try(args...)
			if r.code != exitUsage || args[2] == "--yes" && (!strings.Contains(r.errs, want) || !strings.Contains(r.errs, "--drop-records")) {
				t.Errorf("%s: %v: got %+v, want it refused, with %q and the flag", name, args, r, want)
			}
		}
		if r := try("grant", "list", "--json"); !strings.Contains(r.out, "a present") {
			t.Errorf("%s: refused, it has dropped the grants all the same: %+v", name, r)
		}
		do("migrate", "down", "--yes", "--drop-records")
		do("migrate", "up")
		if r := try("grant", "list"); !strings.Contains(r.out, "Nothing was granted") {
			t.Errorf("%s: after down and up: got %+v, want no grants", name, r)
		}
	}
}

// mustDo runs a statement on the file of a mirror.
func mustDo(t *testing.T, file, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), statement, args...)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
