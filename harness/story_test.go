package harness_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
)

// lostUpdates has two actors, of whom an oracle expects that both are done, and
// one who has nothing to do with it. None is said to be needed.
func lostUpdates(s *harness.Sim) {
	db := sqlite.Open(s, `create table counter (n integer not null)`, `insert into counter values (0)`, `create table noise (n integer)`)
	for _, name := range []string{"bystander", "first", "second"} {
		s.Go(name, func(ctx context.Context) error {
			return errors.Join(
				s.Op(func() error {
					_, err := db.ExecContext(ctx, `insert into noise values (1)`)
					return err
				}),
				s.Op(func() error {
					var n int
					if name == "bystander" {
						return nil
					}
					if err := db.QueryRowContext(ctx, `select n from counter`).Scan(&n); err != nil {
						return err
					}
					_, err := db.ExecContext(ctx, `update counter set n = ?`, n+1)
					return err
				}))
		})
	}
	s.Eventually("both are counted", func() error {
		if n, err := harnesstest.Read(db); err != nil || n != 2 {
			return errors.Join(err, fmt.Errorf("the counter is %d", n))
		}
		return nil
	})
}

// TestTheStoryIsOfTheOrder and not of an actor that was left out, without whom
// the oracle fails in any order.
func TestTheStoryIsOfTheOrder(t *testing.T) {
	r := harnesstest.MustFail(t, harness.Explore(t, lostUpdates), "eventually", "both are counted")
	if len(r.Steps) != 4 || r.Switches != 2 || r.Left != "bystander, 2 operations" {
		t.Errorf("not the lost update:\n%s", r)
	}
}

// TestAReplayLeavesOutWhatTheStoryDoes, from the command line and from a file.
func TestAReplayLeavesOutWhatTheStoryDoes(t *testing.T) {
	t.Chdir(t.TempDir())
	harnesstest.Of("TestIt", lostUpdates)
	files, err := filepath.Glob("testdata/schedules/TestIt-*.schedule")
	if err != nil || len(files) != 1 {
		t.Fatalf("kept %q, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if want := "f1s2f1!b!f.1!s.1"; line != want {
		t.Errorf("kept %s, want %s", line, want)
	}
	again := harnesstest.Of("TestIt", lostUpdates)
	if got := again.Errors.String(); !strings.Contains(got, "the schedule of "+files[0]+" alone") {
		t.Errorf("the file was not run first:\n%s%s", again.Logs.String(), got)
	}
	setFlag(t, "harness.replay", line)
	if got := harnesstest.Of("TestIt", lostUpdates).Errors.String(); !strings.Contains(got, "the counter is 1") {
		t.Errorf("the replay says %s", got)
	}
	setFlag(t, "harness.replay", "f9")
	if got := harnesstest.Of("TestIt", lostUpdates).Errors.String(); !strings.Contains(got, "doesn't fit") {
		t.Errorf("a schedule that does not fit passes: %s", got)
	}
}

// TestHabitsAreFaults in what a report says.
func TestHabitsAreFaults(t *testing.T) {
	r := harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
		n := 0
		s.Deliver([]harness.Request{{Name: "it", Receive: func(context.Context) error { n++; return s.Step("is received") }}}, harness.Twice)
		s.Eventually("it came once", func() error {
			if n > 1 {
				return fmt.Errorf("it came %d times", n)
			}
			return nil
		})
	}), "eventually", "it came once")
	if r.Faults != 1 {
		t.Errorf("%d faults, want 1:\n%s", r.Faults, r)
	}
}

// TestIdsBeginAnewInEverySchedule, those of AUTOINCREMENT too, which SQLite
// keeps in a table of its own.
func TestIdsBeginAnewInEverySchedule(t *testing.T) {
	r := harness.Explore(t, func(s *harness.Sim) {
		db := sqlite.Open(s, `create table items (id integer primary key autoincrement, who text)`,
			`insert into items (who) values ('x'), ('y')`, `delete from items where who = 'y'`)
		for _, name := range []string{"a", "b"} {
			s.Go(name, func(ctx context.Context) error {
				_, err := db.ExecContext(ctx, `insert into items (who) values (?)`, name)
				return err
			})
		}
		s.Eventually("the ids are 1, 3 and 4", func() error {
			var ids string
			err := db.QueryRow(`select group_concat(id, ' ') from items`).Scan(&ids)
			if err == nil && ids != "1 3 4" {
				err = errors.New(ids)
			}
			return err
		})
	})
	if r.Failure != nil {
		t.Error(r.Report)
	}
}

// TestTheSchemaBelongsToTheSetup and not to an actor, who would make it anew in
// every schedule.
func TestTheSchemaBelongsToTheSetup(t *testing.T) {
	for text, want := range map[string]string{
		`create table more (n integer)`: "has changed the schema (CREATE TABLE more (n integer))",
		`drop table counter`:            "has dropped a table (CREATE TABLE counter",
	} {
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.Contains(v, want) {
					t.Errorf("%s: it says %s", text, v)
				}
			}()
			harness.Explore(t, func(s *harness.Sim) {
				db := counter(s, true).Open()
				for _, name := range []string{"a", "b"} {
					s.Go(name, func(ctx context.Context) error {
						_, _ = db.ExecContext(ctx, text)
						return nil
					})
				}
			})
		}()
	}
}

// TestAnAdvisoryLockNeedsATable, or the orders of those who take it would not
// all be tried.
func TestAnAdvisoryLockNeedsATable(t *testing.T) {
	harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
		session := postgres.NewReadCommitted(s, nil).Session()
		s.Go("worker", func(ctx context.Context) error {
			_, err := session.Exec(ctx, &postgres.Statement{SQL: `select pg_advisory_xact_lock(1)`, Do: func(q *postgres.Query) error { return q.Advisory(1) }})
			return err
		})
	}), "panic", "must name a table")
}

// TestAStoryHasTheClock where time goes by in it: in its timeline, in its
// schedule, in a replay, and beside an operation that was left out.
func TestAStoryHasTheClock(t *testing.T) {
	t.Chdir(t.TempDir())
	lease := func(s *harness.Sim) {
		holder, reaped := true, false
		s.Go("holder", func(context.Context) error {
			if err := s.Op(func() error { return s.Step("looks around") }); err != nil {
				return err
			}
			if err := s.Step("works"); err != nil {
				return err
			}
			if reaped {
				return errors.New("the lease had run out")
			}
			holder = false
			return nil
		})
		s.Go("reaper", func(context.Context) error {
			if err := s.Sleep(5 * time.Minute); err != nil {
				return err
			}
			reaped = holder
			return nil
		})
	}
	r := harnesstest.MustFail(t, harness.Explore(t, lease), "error", "the lease had run out")
	if got, want := r.Word(), "c1r1h1!h.1"; got != want {
		t.Errorf("the schedule is %s, want %s", got, want)
	}
	if len(r.Steps) != 3 || r.Steps[0].Text != "the clock moves to 5m0s" || r.Steps[0].Actor != -1 {
		t.Errorf("the clock is not in\n%s", r)
	}
	first := harnesstest.Of("TestIt", lease)
	if !strings.Contains(first.Errors.String(), "reproduced 3 of 3") || !strings.Contains(first.Errors.String(), "saved ") {
		t.Errorf("it says\n%s", first.Errors.String())
	}
	if again := harnesstest.Of("TestIt", lease); !strings.Contains(again.Errors.String(), "alone") {
		t.Errorf("the file was not run first:\n%s%s", again.Logs.String(), again.Errors.String())
	}
	setFlag(t, "harness.replay", "c1r1h1!h.1")
	if s := harnesstest.Of("TestIt", lease); !strings.Contains(s.Errors.String(), "the lease had run out") {
		t.Errorf("the replay says %s", s.Errors.String())
	}
}
